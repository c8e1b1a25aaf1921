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
GraphToFuse = Annotated[str | None, typer.Option(help="Graph to fuse; without it the model is plain.")]
ItsEmbeddings = Annotated[Path | None, typer.Option(help="Embeddings of that graph.")]
ItsLinker = Annotated[Path | None, typer.Option(help="Saved linker index; built from the graph if absent.")]
FrozenBlocks = Annotated[int, typer.Option(min=0, help="Lowest blocks that are not trained, and computed only once.")]
LearningRates = Annotated[
    tuple[float, float, float], typer.Option(help="Of the encoder, the output layer and the knowledge attention.")
]


def corpus_of(task: str, train: Path, dev: Path, test: Path | None = None) -> "Corpus | QuestionCorpus":
    """Documents or questions, named after the training file."""
    import fusion
    from fusion.tasks import read_items

    kind = fusion.QuestionCorpus if task == "qa" else fusion.Corpus
    parts: list[Any] = [() if path is None else tuple(read_items(task, path)) for path in (train, dev, test)]
    return kind(train.stem, parts[0], parts[1], parts[2])


def open_knowledge(
    graph: str | None, embeddings: Path | None, linker: Path | None
) -> "tuple[kg.Graph | None, kg.Embeddings | None, kg.Linker | None]":
    """What `fusion.train` wants for a fused model; nothing for a plain one.

    Raises:
        MedgraftError: a graph without embeddings, or the other way round.
    """
    import kg

    if (graph is None) != (embeddings is None):
        raise MedgraftError("a fused model needs both --graph and --embeddings; a plain one neither")
    if graph is None or embeddings is None:
        return None, None, None
    known = kg.connect(graph)
    vectors = kg.Embeddings.load(embeddings, known)
    return known, vectors, open_linker(known, linker)


def open_linker(graph: "kg.Graph", linker: Path | None) -> "kg.Linker":
    """The saved linker of the graph, or a new one."""
    import kg

    return kg.Linker.build(graph) if linker is None else kg.Linker.load(linker, graph)
