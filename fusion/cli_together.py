"""The command for several tasks at once: `medgraft train-together`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fusion.cli_options import (
    AnyEncoder,
    Device,
    FrozenBlocks,
    GraphToFuse,
    ItsEmbeddings,
    ItsLinker,
    Json,
    LearningRates,
    Precision,
    Seed,
    corpus_of,
    open_knowledge,
)
from loaders.errors import MedgraftError


def train_together(
    corpora: Annotated[
        list[str], typer.Option("--train", help="TASK=FILE for each task: ner, relations, qa, classification.")
    ],
    dev: Annotated[list[str], typer.Option(help="TASK=FILE for each task, to choose the best epoch on.")],
    encoder: AnyEncoder,
    out: Annotated[Path, typer.Option(help="Folder for the models, each in a folder named after its task.")],
    graph: GraphToFuse = None,
    embeddings: ItsEmbeddings = None,
    linker: ItsLinker = None,
    sharing: Annotated[
        str | None, typer.Option(help="private-fusion (with a graph the default), hard, soft or experts.")
    ] = None,
    sampling_temperature: Annotated[
        float, typer.Option(help="1 draws tasks by their size; higher ones read small tasks more often.")
    ] = 1.0,
    loss_weights: Annotated[str, typer.Option(help="equal, uncertainty or gradient.")] = "equal",
    pull: Annotated[float, typer.Option(min=0, help="For soft: of the encoders to one another.")] = 0.1,
    experts: Annotated[int, typer.Option(help="For experts: how many.")] = 4,
    epochs: Annotated[int, typer.Option(help="As many steps each as a pass over all tasks has.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="As for train.")] = 16,
    learning_rates: LearningRates = (5e-5, 1e-3, 1e-3),
    frozen_blocks: FrozenBlocks = 0,
    precision: Precision = "no",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train models of several tasks together, on one encoder; each is evaluated and used like any other.

    The epoch with the best mean of the tasks' main scores is kept.

    Example: medgraft train-together --train ner=ner.txt --dev ner=dev.txt --train qa=qa.json --dev qa=qa-dev.json
    --graph graphs/hpo --embeddings embeddings/hpo --encoder bert-base-uncased --out models/both
    """
    import fusion

    files, held_out = _by_task("--train", corpora), _by_task("--dev", dev)
    if files.keys() != held_out.keys():
        alone = sorted(files.keys() ^ held_out.keys())[0]
        raise MedgraftError(f"{alone} has only one of --train and --dev; give both for each task")
    given = {task: corpus_of(task, path, held_out[task]) for task, path in files.items()}
    known, vectors, index = open_knowledge(graph, embeddings, linker)
    models = fusion.train_together(
        given,
        known,
        vectors,
        index,
        encoder=encoder,
        out=out,
        sharing=sharing,
        sampling_temperature=sampling_temperature,
        loss_weights=loss_weights,
        pull=pull,
        experts=experts,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rates[0],
        new_learning_rate=learning_rates[1],
        knowledge_learning_rate=learning_rates[2],
        frozen_blocks=frozen_blocks,
        cache_frozen=frozen_blocks > 0,
        precision=precision,
        seed=seed,
        device=device,
    )
    if as_json:
        typer.echo(json.dumps({"out": str(out), "scores": {task: m.scores for task, m in models.items()}}, indent=2))
        return
    for task, model in models.items():
        typer.echo(f"{out / task}: dev f1 {model.scores['dev f1']:.4f}")


def _by_task(option: str, lines: Sequence[str]) -> dict[str, Path]:
    """From TASK=FILE, each task once."""
    found: dict[str, Path] = {}
    for line in lines:
        task, _, path = line.partition("=")
        if not path:
            raise MedgraftError(f"{option} {line}: write TASK=FILE, as in ner=train.txt")
        if task in found:
            raise MedgraftError(f"{option} names {task} twice; give each task one file")
        found[task] = Path(path)
    return found
