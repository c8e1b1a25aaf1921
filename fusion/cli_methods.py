"""Commands around training: `medgraft pretrain`, `medgraft train-names` and `medgraft augment`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fusion.cli_options import Device, Json, Seed
from loaders.errors import MedgraftError


def pretrain(
    corpus: Annotated[
        list[Path], typer.Argument(help="Files of text: plain, JSON lines, CSV, NOTEEVENTS.csv, PubTator; also .gz.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the encoder.")],
    encoder: Annotated[
        str | None, typer.Option(help="Encoder to adapt; without it one is trained from scratch.", show_default=False)
    ] = None,
    masking: Annotated[str, typer.Option(help="piece, word or concept (needs --linker).")] = "word",
    next_segments: Annotated[bool, typer.Option("--next-segments", help="Predict the next segment, too.")] = False,
    linker: Annotated[Path | None, typer.Option(help="Saved linker index.", show_default=False)] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Also predict the linked concepts; embeddings of --graph.", show_default=False)
    ] = None,
    graph: Annotated[str | None, typer.Option(help="Graph of the embeddings.", show_default=False)] = None,
    vocabulary: Annotated[int, typer.Option(help="From scratch: word pieces.")] = 8000,
    hidden_size: Annotated[int, typer.Option(help="From scratch: width.")] = 256,
    blocks: Annotated[int, typer.Option(help="From scratch: transformer blocks.")] = 4,
    epochs: Annotated[int, typer.Option(help="Passes over the texts.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Sequences a step.")] = 16,
    max_pieces: Annotated[int, typer.Option(help="Length of a sequence.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-4,
    holdout: Annotated[float, typer.Option(help="Share of the texts that perplexity is measured on.")] = 0.1,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Pretrain an encoder on raw text by masked words or concepts; says the held-out perplexity before and after.

    Example: medgraft pretrain notes/*.txt NOTEEVENTS.csv.gz --encoder bert-base-uncased --out encoders/notes
    """
    import kg
    from fusion.pretraining import pretrain as run

    if (embeddings is None) != (graph is None):
        raise MedgraftError("to predict concepts give both --embeddings and --graph")
    known = None if graph is None else kg.connect(graph)
    report = run(
        corpus,
        out,
        encoder=encoder,
        masking=masking,
        next_segments=next_segments,
        linker=None if linker is None else kg.Linker.load(linker),
        embeddings=None if embeddings is None else kg.Embeddings.load(embeddings, known),
        vocabulary=vocabulary,
        hidden_size=hidden_size,
        num_blocks=blocks,
        epochs=epochs,
        batch_size=batch_size,
        max_pieces=max_pieces,
        learning_rate=learning_rate,
        holdout=holdout,
        seed=seed,
        device=device,
    )
    typer.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if as_json else str(report))


def train_names(
    graph: Annotated[str, typer.Argument(help="Graph folder, ontology dump, or neo4j://...")],
    encoder: Annotated[str, typer.Option(help="Encoder to begin with; a sentence encoder is a good start.")],
    out: Annotated[Path, typer.Option(help="Folder for the encoder.")],
    type: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only names of concepts of this type.", show_default="all"),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Of names of a concept, at most.")] = 10,
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.")] = 1,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs a step, all compared with one another.")] = 128,
    max_pieces: Annotated[int, typer.Option(help="Of a name that are read.")] = 25,
    frozen_blocks: Annotated[int, typer.Option(min=0, help="Lowest blocks that are not trained.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-4,
    holdout: Annotated[float, typer.Option(help="Share of the names that recall is measured on.")] = 0.02,
    precision: Annotated[
        str, typer.Option(help="no, bf16, fp16, or auto: bf16 where the device is fast at it.")
    ] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train an encoder on the graph's synonyms, for --vectors of medgraft link; says how many held-out names it finds.

    Example: medgraft train-names graphs/mesh --type Disease --encoder all-MiniLM-L6-v2 --out encoders/names
    """
    import kg
    from fusion.name_training import train_names as run

    with kg.connect(graph) as connected:
        report = run(
            connected,
            out,
            encoder=encoder,
            types=type,
            pairs=pairs,
            epochs=epochs,
            batch_size=batch_size,
            max_pieces=max_pieces,
            frozen_blocks=frozen_blocks,
            learning_rate=learning_rate,
            holdout=holdout,
            precision=precision,
            seed=seed,
            device=device,
        )
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else str(report))


def augment(
    corpus: Annotated[Path, typer.Argument(help="Annotated documents, a file or a folder.")],
    out: Annotated[Path, typer.Option(help="PubTator file for the real and the made documents, mixed.")],
    method: Annotated[
        str,
        typer.Option(help="Comma-separated: insertion, deletion, swap, replacement, alias, sibling, syntax, facts."),
    ] = "alias",
    ratio: Annotated[float, typer.Option(min=0.0, help="Made documents for each real one.")] = 1.0,
    rate: Annotated[float, typer.Option(help="Share of the words that a word method changes.")] = 0.1,
    graph: Annotated[str | None, typer.Option(help="For alias, sibling and facts: the graph.")] = None,
    parser: Annotated[
        str | None, typer.Option(help="For syntax: an installed spaCy model with a parser, such as en_core_web_sm.")
    ] = None,
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
    from fusion.augmentation import METHODS
    from fusion.augmentation import augment as augment_corpus
    from fusion.corpora import Corpus
    from kg.linking_pipe import load_parser
    from loaders import read_corpus, write_pubtator

    methods = [name.strip() for name in method.split(",") if name.strip()]
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise MedgraftError(f"unknown method {(unknown or [''])[0]!r}; choose {', '.join(METHODS)}")
    if graph is None and set(methods) & {"alias", "sibling", "facts"}:
        raise MedgraftError("the methods alias, sibling and facts take their words from a graph; give --graph")
    if parser is None and "syntax" in methods:
        raise MedgraftError("the method syntax needs a spaCy model with a parser; give --parser, e.g. en_core_web_sm")
    if wrong := [pair for pair in type or () if "=" not in pair]:
        raise MedgraftError(f"--type {wrong[0]} names one type only; give GRAPH_TYPE=CORPUS_TYPE")
    real = tuple(read_corpus(corpus))
    together = augment_corpus(
        Corpus(corpus.name, real, (), ()),
        methods,
        None if graph is None else kg.connect(graph),
        ratio=ratio,
        rate=rate,
        types=dict(pair.split("=", 1) for pair in type or ()),
        parse=None if parser is None else load_parser(parser),
        seed=seed,
    ).train
    aside = out.with_name(f".{out.name}.part")
    with aside.open("w", encoding="utf-8") as file:
        write_pubtator(together, file)
    aside.replace(out)
    if as_json:
        made = len(together) - len(real)
        typer.echo(json.dumps({"out": str(out), "documents": len(together), "real": len(real), "made": made}))
    else:
        short = "" if len(together) >= round((1 + ratio) * len(real)) else "; no more of them could be changed"
        typer.echo(f"{out}: {len(together)} documents, {len(real)} of them real{short}")
