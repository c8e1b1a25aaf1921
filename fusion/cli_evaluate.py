"""The command that scores a trained model: `medgraft evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fusion.cli_options import Device, Json


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    documents: Annotated[
        Path,
        typer.Argument(
            help="Annotated documents, a file or a folder (PubTator, BioC, brat, JSON lines, CoNLL, GSC+, PGR); "
            "for qa questions (PubMedQA, SQuAD, JSON lines); "
            "for classification labelled texts (CSV, JSON lines)."
        ),
    ],
    against: Annotated[
        Path | None, typer.Option(help="Folder of another model, to be compared by a paired test.", show_default=False)
    ] = None,
    without_graph: Annotated[bool, typer.Option("--without-graph", help="Turn the knowledge off.")] = False,
    draws: Annotated[int, typer.Option(min=100, help="Of the bootstrap and of the paired test.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a model on annotated documents, questions or labelled texts, with 95 % bootstrap intervals.

    Precision, recall and F1 (micro, macro, by type) of mentions (strict) or of relations; accuracy and macro F1 of
    labels; accuracy, or exact match and token F1, of answers; and how well the confidence is calibrated.

    Example: medgraft evaluate models/ner test.PubTator.txt

    Example: medgraft evaluate models/ner test.PubTator.txt --against models/plain
    """
    import fusion
    from fusion.evaluation import compare_models, measure
    from fusion.tasks import read_items

    loaded = fusion.load(model, device=device)
    gold = read_items(loaded.settings.task, documents)
    report: Any
    if against is not None:
        report = compare_models(
            loaded, fusion.load(against, device=device), gold, with_graph=not without_graph, draws=draws, seed=seed
        )
    else:
        report = measure(loaded, gold, with_graph=not without_graph, draws=draws, seed=seed)
    stated = {}
    if isinstance(loaded, fusion.RelationModel):
        stated = {"pairs with a fact": loaded.stated(gold)}
    if as_json:
        typer.echo(json.dumps({**report.as_dict(), **stated}, indent=2, ensure_ascii=False))
        return
    typer.echo(report)
    for name, value in stated.items():
        typer.echo(f"{name}: {value}")
