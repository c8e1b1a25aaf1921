"""Diseases of BC5CDR to train on and phenotypes of GSC+ to test on, as mentions of one type.

python -m tests.benchmarks.domain FOLDER
medgraft ablate --train FOLDER/train.jsonl --dev FOLDER/dev.jsonl --test FOLDER/test.jsonl ...
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import fusion
from loaders import open_writer
from loaders.records import Document, Mention


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


def main(arguments: Sequence[str]) -> None:
    (folder,) = arguments
    bc5cdr, gsc = fusion.load_corpus("bc5cdr"), fusion.load_corpus("gsc_plus")
    assert bc5cdr is not None and gsc is not None, "set MEDGRAFT_DATA"
    parts = {"train": diseases(bc5cdr.train), "dev": diseases(bc5cdr.dev), "test": outermost(gsc.test)}
    for part, documents in parts.items():
        with open_writer(Path(folder) / f"{part}.jsonl") as write:
            for document in documents:
                write(document)


if __name__ == "__main__":
    main(sys.argv[1:])
