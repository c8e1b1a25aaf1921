"""Commands that change what a trained model knows, without training: `medgraft swap` and `medgraft remember`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusion.cli_options import Json, open_linker


def swap(
    model: Annotated[Path, typer.Argument(help="Folder of a fused model.")],
    graph: Annotated[str, typer.Option(help="The new graph: folder, or neo4j://...")],
    out: Annotated[Path, typer.Option(help="Folder for the model with the new graph.")],
    linker: Annotated[
        Path | None, typer.Option(help="Linker of the new graph; built if absent.", show_default=False)
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Those that the model was trained with: they place new concepts better.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Annotated documents or questions to compare predictions on.")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="How many of them may be predicted otherwise.")] = 0,
    as_json: Json = False,
) -> None:
    """Give a trained model another graph, such as a new release, without training.

    With --gate the model is written only if at most --most of the documents are predicted otherwise than before.

    Example: medgraft swap models/ner --graph graphs/hpo-2026 --out models/ner-2026 --gate test.txt --most 5
    """
    import fusion
    import kg

    loaded = fusion.load(model)
    with kg.connect(graph) as connected:
        index = open_linker(connected, linker)
        vectors = None if embeddings is None else kg.Embeddings.load(embeddings)
        swapped, report = fusion.swap_graph(loaded, connected, index, vectors)
    compared = None
    if gate is not None:
        compared = fusion.gate(loaded, swapped, fusion.read_items(loaded.settings.task, gate))
        compared.check(most)
    swapped.save(out)
    if as_json:
        summary = {"out": str(out), **asdict(report), "gate": None if compared is None else asdict(compared)}
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    typer.echo(report)
    if compared is not None:
        typer.echo(compared)


def remember(
    model: Annotated[Path, typer.Argument(help="Folder of a model that was trained with --memory.")],
    out: Annotated[Path, typer.Option(help="Folder for the model with the new memory.")],
    examples: Annotated[
        Path | None, typer.Option(help="Annotated documents or questions to remember, word for word.")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="Id of a document, question or concept to forget; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add examples to a model's memory, or take entries away, without training.

    Example: medgraft remember models/ner --examples corrected.txt --forget 8701013 --out models/ner-2
    """
    import fusion

    loaded = fusion.load(model)
    before = {} if loaded.memory is None else loaded.memory.counts
    if forget:
        loaded = fusion.forget(loaded, forget)
    if examples is not None:
        loaded = fusion.remember(loaded, fusion.read_items(loaded.settings.task, examples))
    after = {} if loaded.memory is None else loaded.memory.counts
    loaded.save(out)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "before": before, "after": after}, indent=2))
        return
    for kind in sorted(before | after):
        typer.echo(f"{kind}: {before.get(kind, 0):,} before, {after.get(kind, 0):,} now")
