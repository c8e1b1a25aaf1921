"""Commands around training: `medgraft augment`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from loaders.errors import MedgraftError

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def augment(
    corpus: Annotated[Path, typer.Argument(help="Annotated documents: PubTator, GSC+, CoNLL, PGR.")],
    out: Annotated[Path, typer.Option(help="PubTator file for the real and the made documents, mixed.")],
    method: Annotated[
        str, typer.Option(help="Comma-separated: insertion, deletion, swap, replacement, alias, sibling, facts.")
    ] = "alias",
    ratio: Annotated[float, typer.Option(min=0.0, help="Made documents for each real one.")] = 1.0,
    rate: Annotated[float, typer.Option(help="Share of the words that a word method changes.")] = 0.1,
    graph: Annotated[str | None, typer.Option(help="For alias, sibling and facts: the graph.")] = None,
    type: Annotated[
        list[str] | None,
        typer.Option("--type", help="For facts: GRAPH_TYPE=CORPUS_TYPE, which concepts to write about."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make more training documents: words changed, mentions replaced by the graph, facts put into sentences.

    Example: medgraft augment train.txt --graph graphs/mesh --method alias,sibling --ratio 1 --out more.txt
    """
    import kg
    from fusion.augmentation import METHODS, augmented, generated, mixed
    from loaders import read_corpus, write_pubtator

    methods = [name.strip() for name in method.split(",") if name.strip()]
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise MedgraftError(f"unknown method {(unknown or [''])[0]!r}; choose {', '.join(METHODS)}")
    if graph is None and set(methods) & {"alias", "sibling", "facts"}:
        raise MedgraftError("the methods alias, sibling and facts take their words from a graph; give --graph")
    real = list(read_corpus(corpus))
    known = None if graph is None else kg.connect(graph)
    copies = max(1, -(-round(ratio * len(real)) // max(len(real), 1)))
    made, counts = [], {}
    for name in methods:
        if name == "facts" and known is not None:
            types = dict(pair.split("=", 1) for pair in type or () if "=" in pair)
            found = generated(known, types, round(ratio * len(real)), seed=seed)
        else:
            found = augmented(real, name, copies=copies, rate=rate, graph=known, seed=seed)
        made += found
        counts[name] = len(found)
    together = mixed(real, made, ratio, seed=seed)
    aside = out.with_name(f".{out.name}.part")
    with aside.open("w", encoding="utf-8") as file:
        write_pubtator(together, file)
    aside.replace(out)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "documents": len(together), "real": len(real), "made": counts}))
    else:
        typer.echo(f"{out}: {len(together)} documents, {len(real)} of them real")
