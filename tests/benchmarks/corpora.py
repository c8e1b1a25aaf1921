"""Documents of the benchmarks of fusion that no command makes by itself, as train.jsonl, dev.jsonl and test.jsonl.

python -m tests.benchmarks.corpora domain FOLDER   diseases of BC5CDR to train on, phenotypes of GSC+ to test on
python -m tests.benchmarks.corpora pgr FOLDER      PGR without the articles of its test part in training
medgraft ablate --train FOLDER/train.jsonl --dev FOLDER/dev.jsonl --test FOLDER/test.jsonl ...
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import fusion
from loaders import open_writer, read_documents
from loaders.records import Document, Mention
from tests.benchmarks.report import DATA

PGR_DEV = 10  # every so manieth article of the training part chooses the epoch


def domain() -> dict[str, Iterable[Document]]:
    """Mentions of one type: learnt as diseases of BC5CDR, sought as phenotypes of GSC+."""
    bc5cdr, gsc = fusion.load_corpus("bc5cdr"), fusion.load_corpus("gsc_plus")
    assert bc5cdr is not None and gsc is not None, "set MEDGRAFT_DATA"
    return {"train": diseases(bc5cdr.train), "dev": diseases(bc5cdr.dev), "test": outermost(gsc.test)}


def diseases(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents with their mentions of diseases alone."""
    for document in documents:
        kept = tuple(m for m in document.mentions if m.type == "Disease")
        yield replace(document, mentions=kept, relations=())


def outermost(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents with flat mentions as diseases: of those that overlap the first; with one start, the longest."""
    for document in documents:
        kept: list[Mention] = []
        for mention in sorted(document.mentions, key=lambda m: (m.start, -m.end)):
            if not kept or mention.start >= kept[-1].end:
                kept.append(replace(mention, type="Disease"))
        yield replace(document, mentions=tuple(kept), relations=())


def pgr() -> dict[str, Iterable[Document]]:
    """The larger training file, whose labels are silver, and the test file, whose labels a curator has checked."""
    folder = DATA / "text" / "pgr"
    test = list(read_documents(folder / "10_12_2018_corpus" / "test.tsv"))
    tested = {article(document) for document in test}
    rest = [d for d in read_documents(folder / "11_03_2019_corpus" / "train.tsv.gz") if article(d) not in tested]
    held = set(sorted({article(document) for document in rest})[::PGR_DEV])
    return {
        "train": [d for d in rest if article(d) not in held],
        "dev": [d for d in rest if article(d) in held],
        "test": test,
    }


def article(document: Document) -> str:
    """The article that a row of PGR was taken from."""
    return document.id.rpartition("-")[0]


def main(arguments: Sequence[str]) -> None:
    what, folder = arguments
    for part, documents in {"domain": domain, "pgr": pgr}[what]().items():
        with open_writer(Path(folder) / f"{part}.jsonl") as write:
            for document in documents:
                write(document)


if __name__ == "__main__":
    main(sys.argv[1:])
