"""Commands for good settings and cheap models: `medgraft search`, `medgraft distill`, `medgraft export-model`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fusion.cli_options import (
    AnyEncoder,
    Device,
    GraphToFuse,
    ItsEmbeddings,
    ItsLinker,
    Json,
    Seed,
    corpus_of,
    open_knowledge,
)


def distill(
    teacher: Annotated[Path, typer.Argument(help="Model folder of the teacher, fused or plain.")],
    dev: Annotated[Path, typer.Option(help="Labelled documents or questions to choose the best epoch on.")],
    out: Annotated[Path, typer.Option(help="Folder for the student.")],
    corpus: Annotated[
        Path | None, typer.Option("--train", help="Labelled documents or questions; may be absent.", show_default=False)
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            help="Without labels: texts as for pretrain; for relations documents with mentions, for qa questions.",
            show_default=False,
        ),
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="Of the student's encoder, evenly spaced ones of the teacher's; all.")
    ] = None,
    label_weight: Annotated[float, typer.Option(help="Of the labels; the rest is the teacher's logits.")] = 0.5,
    temperature: Annotated[float, typer.Option(help="By which the logits are divided.")] = 2.0,
    hidden_weight: Annotated[float, typer.Option(help="Of the hidden states of linked mentions.")] = 1.0,
    link_weight: Annotated[float, typer.Option(help="Of the choice among NIL and candidates.")] = 0.0,
    epochs: Annotated[int, typer.Option(help="Passes over the documents.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="As for train.")] = 16,
    learning_rates: Annotated[tuple[float, float], typer.Option(help="Of the encoder and the output layer.")] = (
        5e-5,
        1e-3,
    ),
    frozen_blocks: Annotated[int, typer.Option(min=0, help="Lowest blocks that are not trained.")] = 0,
    lora_rank: Annotated[int | None, typer.Option(min=1, help="As for train.")] = None,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (which needs a GPU).")] = "no",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Distill a model into a student without a graph, on labelled documents and on texts without labels.

    The student is a plain model: load, evaluate and annotate with it as with any other.

    Example: medgraft distill models/ner --train train.txt --dev dev.txt --texts notes/a.txt --blocks 3
    --out models/student
    """
    import fusion
    from fusion.tasks import read_items
    from loaders.texts import read_texts

    loaded = fusion.load(teacher, device=device)
    task = loaded.settings.task
    kind: Any = fusion.QuestionCorpus if task == "qa" else fusion.Corpus
    labelled = () if corpus is None else tuple(read_items(task, corpus))
    given = kind((corpus or dev).stem, labelled, tuple(read_items(task, dev)), ())
    unlabelled: list[Any] = []
    if task in ("ner", "classification"):
        unlabelled = [document for _, document in read_texts(texts or [])]
    else:
        unlabelled = [item for path in texts or [] for item in read_items(task, path)]
    student = fusion.distill(
        loaded,
        given,
        unlabelled,
        out=out,
        blocks=blocks,
        label_weight=label_weight,
        temperature=temperature,
        hidden_weight=hidden_weight,
        link_weight=link_weight,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rates[0],
        new_learning_rate=learning_rates[1],
        frozen_blocks=frozen_blocks,
        cache_frozen=frozen_blocks > 0 and blocks in (None, loaded.encoder.num_blocks),
        lora_rank=lora_rank,
        precision=precision,
        seed=seed,
        device=device,
    )
    summary = {"out": str(out), "blocks": student.encoder.num_blocks, "scores": student.scores}
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in student.scores.items())
        typer.echo(f"{out}: {student.encoder.num_blocks} blocks, {scores or 'not measured'}")


def export_model(
    model: Annotated[Path, typer.Argument(help="Model folder, plain: a fused model is distilled first.")],
    out: Annotated[Path, typer.Option(help="Folder for the exported model.")],
    int8: Annotated[bool, typer.Option("--int8", help="Weights of int8, by dynamic quantisation.")] = False,
    test: Annotated[
        Path | None, typer.Option(help="Labelled documents or questions to measure speed and scores on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a model to ONNX, run by onnxruntime; evaluate, annotate and fusion.load take the folder as any other.

    Example: medgraft export-model models/student --int8 --out models/student-int8 --test dev.txt
    """
    import fusion
    from fusion.tasks import read_items

    loaded = fusion.load(model, device="cpu")
    gold = [] if test is None else read_items(loaded.settings.task, test)
    report = fusion.export_model(loaded, out, int8=int8, gold=gold)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))


def search(
    task: Annotated[str, typer.Argument(help="ner, relations, qa or classification.")],
    corpus: Annotated[Path, typer.Option("--train", help="Labelled documents or questions, as for train.")],
    dev: Annotated[Path, typer.Option(help="Those to choose the settings on; never a test part.")],
    encoder: AnyEncoder,
    out: Annotated[Path, typer.Option(help="Folder of the results; finished trials in it are not run again.")],
    graph: GraphToFuse = None,
    embeddings: ItsEmbeddings = None,
    linker: ItsLinker = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE: arguments of fusion.train."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="The budget, earlier trials included.")] = 20,
    minutes: Annotated[float | None, typer.Option(help="No trial begins after so many.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each trial.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes over the training documents.")] = 5,
    frozen_blocks: Annotated[int, typer.Option(min=0, help="Lowest blocks that are not trained.")] = 0,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Search good settings on the development part, within a stated budget; stopped, it goes on where it was.

    Every trial is a line of trials.jsonl, and search.png shows them all.

    Example: medgraft search ner --train train.txt --dev dev.txt --encoder bert-base-uncased --out runs/search
    --vary learning_rate=1e-5:1e-3:log --vary batch_size=4,8,16 --trials 12
    """
    import fusion
    from fusion.searching import draw_search, read_space

    space = read_space(vary) if vary else None
    given = corpus_of(task, corpus, dev)
    known, vectors, index = open_knowledge(graph, embeddings, linker)
    fixed = {"epochs": epochs, "frozen_blocks": frozen_blocks, "cache_frozen": frozen_blocks > 0}
    varied = {"frozen_blocks", "cache_frozen"} if space is not None and "frozen_blocks" in space else set()
    found = fusion.search(
        task,
        given,
        known,
        vectors,
        index,
        encoder=encoder,
        out=out,
        space=space,
        trials=trials,
        minutes=minutes,
        seeds=seeds,
        seed=seed,
        device=device,
        announce=lambda line: typer.echo(line, err=True),
        **{name: value for name, value in fixed.items() if name not in {*varied, *(space or ())}},
    )
    draw_search(found, out / "search.png")
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else str(found))
