"""Commands for good settings and cheap models: `medgraft search`, `medgraft distill`, `medgraft export-model`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from loaders.errors import MedgraftError

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]


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
    summary = {"out": str(out), "blocks": student.encoder.num_blocks, "dev": student.scores}
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
    encoder: Annotated[str, typer.Option(help="Hugging Face model folder or name of a BERT-type encoder.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; finished trials in it are not run again.")],
    graph: Annotated[str | None, typer.Option(help="Graph to fuse; without it the model is plain.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Embeddings of that graph.")] = None,
    linker: Annotated[Path | None, typer.Option(help="Saved linker index; built from the graph if absent.")] = None,
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
    import kg
    from fusion.searching import draw_search, read_space
    from fusion.tasks import read_items

    if (graph is None) != (embeddings is None):
        raise MedgraftError("a fused model needs both --graph and --embeddings; a plain one neither")
    kind: Any = fusion.QuestionCorpus if task == "qa" else fusion.Corpus
    given = kind(corpus.stem, tuple(read_items(task, corpus)), tuple(read_items(task, dev)), ())
    space = read_space(vary) if vary else None
    known = None if graph is None else kg.connect(graph)
    vectors = None if embeddings is None else kg.Embeddings.load(embeddings, known)
    index = None
    if known is not None:
        index = kg.Linker.build(known) if linker is None else kg.Linker.load(linker, known)
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
