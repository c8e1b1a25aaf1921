"""Commands for models that are cheap to run: `medgraft distill`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

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
