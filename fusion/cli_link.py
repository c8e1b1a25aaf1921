"""`medgraft link`: the graph's concepts in a text, or in files and folders of any format."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusion.cli_annotate import given_documents, show_documents
from fusion.cli_options import Json
from loaders.errors import MedgraftError, MedgraftWarning

if TYPE_CHECKING:
    from kg.disambiguation import ContextScorer
    from kg.linking import Linker
    from loaders.batches import Work
    from loaders.records import Document

FORMATS = "jsonl, bioc-xml, bioc-json, brat, pubtator"


def link(
    graph: Annotated[str, typer.Argument(help="Graph folder, ontology dump, neo4j://..., or a saved linker.")],
    texts: Annotated[
        list[str], typer.Argument(help="Texts, or files and folders: plain text, JSON lines, BioC, brat, PubTator, ...")
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Candidates a mention.")] = 5,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only concepts of this semantic type.", show_default="all")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", help="Only names in this language.", show_default="en")
    ] = None,
    nested: Annotated[bool, typer.Option("--nested", help="Report mentions inside longer ones too.")] = False,
    given: Annotated[bool, typer.Option("--given", help="Link the mentions that the documents have.")] = False,
    corpus: Annotated[
        Path | None, typer.Option(help="Documents with linked mentions: what they call a concept is a name of it.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Sentence encoder (folder or cached name) that reads the text where names tie.")
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(help="Encoder of names (folder or cached name; see train-names): names that mean the same, too."),
    ] = None,
    vector_type: Annotated[
        list[str] | None,
        typer.Option("--vector-type", help="With --vectors: only names of concepts of this type.", show_default="all"),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the linker in this folder.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the documents (.gz packs it); for brat a folder.", show_default=False)
    ] = None,
    format: Annotated[str | None, typer.Option(help=f"Of --out: {FORMATS}.", show_default="by the ending")] = None,
    read_as: Annotated[
        str | None, typer.Option("--input-format", help="Of the files.", show_default="by their content")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes, with --out.")] = 1,
    as_json: Json = False,
) -> None:
    """Find the graph's concepts in text.

    With --out, files of any number are linked in bounded memory; a run that was cut off goes on where it was when the
    same command is given again.

    Example: medgraft link graphs/hpo "The boy had absence seizures."

    Example: medgraft link graphs/hpo notes/ corpus.xml.gz --out linked.jsonl --jobs 4

    Example: medgraft link graphs/mesh notes/ --type Disease --save linkers/diseases

    Example: medgraft link graphs/mesh found.jsonl --given --vectors encoders/names --save linkers/mesh
    """
    if vector_type is not None and vectors is None:
        raise MedgraftError("--vector-type says whose names get vectors; give their encoder by --vectors")
    if given and context is not None:
        raise MedgraftError("--given takes the mentions as they are, and no --context")
    from loaders import read_documents

    with _linker_folder(graph, types, languages, nested, corpus, vectors, vector_type, save) as folder:
        from kg.linker_files import has_vectors

        if vectors is None and has_vectors(folder):
            typer.echo(f"{graph} has vectors of names; without --vectors ENCODER they are not used", err=True)
        if out is not None:
            _link_files(folder, texts, out, format, read_as, k, given, context, vectors, jobs, as_json)
            return
        documents = list(given_documents(texts, lambda file: read_documents(file, read_as)))
        show_documents(list(linking_work(str(folder), k, given, context, vectors)(documents)), as_json)


def linking_work(folder: str, k: int, given: bool, context: str | None = None, vectors: str | None = None) -> "Work":
    """What links a batch of documents with a saved linker; for `loaders.batches.process_documents`."""
    linker = load_linker(folder, vectors)
    scorer: ContextScorer | None = None
    if context is not None:
        from fusion.context import EncoderContext

        scorer = EncoderContext(context, linker.concepts)

    def work(documents: "list[Document]") -> "Iterable[Document]":
        if given:
            return linker.link_mentions_batch(documents, k=k)
        found = linker.pipe((document.text for document in documents), k=k, context=scorer)
        return [replace(d, mentions=f.mentions, relations=()) for d, f in zip(documents, found, strict=True)]

    return work


def _link_files(
    folder: Path,
    files: Sequence[str],
    out: Path,
    format: str | None,
    read_as: str | None,
    k: int,
    given: bool,
    context: str | None,
    vectors: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    import json

    from tqdm import tqdm

    from loaders.batches import process_documents
    from loaders.folders import sha256

    absent = next((file for file in files if not Path(file).exists()), None)
    if absent is not None:
        raise MedgraftError(f"{absent[:80]!r} is no file or folder; with --out give files or folders")
    key = json.dumps([{p.name: sha256(p) for p in sorted(folder.iterdir()) if p.is_file()}, k, given, context, vectors])
    with tqdm(unit=" documents", disable=None) as bar:
        number = process_documents(
            linking_work,
            (str(folder), k, given, context, vectors),
            files,
            out,
            key=key,
            format=format,
            read_as=read_as,
            jobs=jobs,
            advance=bar.update,
        )
    typer.echo(json.dumps({"out": str(out), "documents": number}) if as_json else f"{out}: {number:,} documents")


def load_linker(folder: "str | Path", vectors: str | None) -> "Linker":
    """A saved linker, with the encoder of its names' vectors if one is given."""
    import warnings

    import kg

    if vectors is not None:
        from fusion.name_vectors import NameVectors

        return kg.Linker.load(folder, vectors=NameVectors(vectors))
    with warnings.catch_warnings():  # whoever wants to know was told
        warnings.simplefilter("ignore", MedgraftWarning)
        return kg.Linker.load(folder)


@contextmanager
def _linker_folder(
    graph: str,
    types: list[str] | None,
    languages: list[str] | None,
    nested: bool,
    corpus: Path | None,
    vectors: str | None,
    vector_type: list[str] | None,
    save: Path | None,
) -> Iterator[Path]:
    """The folder of the linker: the one given, or that of the graph, built with these options; kept with `save`."""
    import kg
    from kg.kept import kept_linker_folder
    from loaders import read_documents

    if (Path(graph) / "linker.json").is_file():
        settled = {"--type": types, "--language": languages, "--nested": nested, "--corpus": corpus}
        settled["--vector-type"] = vector_type
        if option := next((name for name, given in settled.items() if given), None):
            raise MedgraftError(f"{option} is settled when a linker is built; name the graph, with --save to keep it")
        yield Path(graph)
        return
    if save is None and not any((types, languages, nested, corpus, vectors)):
        with kg.connect(graph) as connected:
            yield kept_linker_folder(connected)
        return
    with tempfile.TemporaryDirectory() as aside, kg.connect(graph) as connected:
        folder = Path(aside) / "linker" if save is None else save
        seen = () if corpus is None else read_documents(corpus)
        encoder = None
        if vectors is not None:
            from fusion.name_vectors import NameVectors

            encoder = NameVectors(vectors)
        kg.Linker.build(
            connected,
            types=types,
            languages=languages or ("en",),
            nested=nested,
            corpus=seen,
            vectors=encoder,
            vector_types=vector_type,
            out=folder,
        )
        yield folder
