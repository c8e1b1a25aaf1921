"""What several commands ask for, and what they open with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loaders.errors import MedgraftError

if TYPE_CHECKING:
    import kg
    from fusion.corpora import Corpus
    from fusion.question_corpora import QuestionCorpus

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Precision = Annotated[str, typer.Option(help="no, bf16 or fp16 (which needs a GPU).")]
AnyEncoder = Annotated[str, typer.Option(help="Hugging Face model folder or name of a BERT-type encoder.")]
GraphToFuse = Annotated[
    str | None, typer.Option(help="Graph to fuse, or an ontology dump to build it of; without it the model is plain.")
]
ItsEmbeddings = Annotated[Path | None, typer.Option(help="Embeddings of that graph; TransE, trained once, if absent.")]
ItsLinker = Annotated[Path | None, typer.Option(help="Saved linker of that graph; built once if absent.")]
FrozenBlocks = Annotated[int, typer.Option(min=0, help="Lowest blocks that are not trained, and computed only once.")]
LearningRates = Annotated[
    tuple[float, float, float], typer.Option(help="Of the encoder, the output layer and the knowledge attention.")
]


def corpus_of(task: str, train: Path, dev: Path | None, test: Path | None = None) -> "Corpus | QuestionCorpus":
    """Documents or questions, named after the training file; without `dev` a fifth of the training part is that.

    Raises:
        MedgraftError: a file cannot be read, or is too small for a fifth of it to be anything.
    """
    import fusion
    from fusion.question_corpora import split
    from fusion.tasks import read_items

    kind = fusion.QuestionCorpus if task == "qa" else fusion.Corpus
    parts: list[Any] = [() if path is None else tuple(read_items(task, path)) for path in (train, dev, test)]
    if dev is None:
        everything = parts[0]
        parts[1], parts[0] = split(everything, [0.2, 0.8])
        if not parts[1]:
            raise MedgraftError(f"{train} is too small to hold a fifth of it out; give --dev")
        typer.echo(
            f"medgraft: no --dev: {len(parts[1])} of {len(everything)} are held out to choose the epoch on", err=True
        )
    return kind(train.stem, parts[0], parts[1], parts[2])


def open_knowledge(
    graph: str | None, embeddings: Path | None, linker: Path | None
) -> "tuple[kg.Graph | None, kg.Embeddings | None, kg.Linker | None]":
    """What is given of a graph; `fusion.train` makes the rest once the corpus may be trained with that graph.

    Raises:
        MedgraftError: embeddings or a linker without a graph, or of another one.
    """
    import kg

    if graph is None:
        if embeddings is not None or linker is not None:
            raise MedgraftError("--embeddings and --linker are those of a graph; name it with --graph")
        return None, None, None
    known = kg.connect(graph)
    vectors = None if embeddings is None else kg.Embeddings.load(embeddings, known)
    return known, vectors, None if linker is None else kg.Linker.load(linker, known)


def open_embeddings(graph: "kg.Graph", embeddings: Path | None, device: str) -> "kg.Embeddings":
    """The embeddings in a folder, or those that are kept for the graph."""
    import kg
    from kg.kept import kept_embeddings

    return kept_embeddings(graph, device=device) if embeddings is None else kg.Embeddings.load(embeddings, graph)


def open_linker(graph: "kg.Graph", linker: Path | None) -> "kg.Linker":
    """The saved linker, or the one that is kept for the graph."""
    import kg
    from kg.kept import kept_linker

    return kept_linker(graph) if linker is None else kg.Linker.load(linker, graph)
