"""PubTator files (BC5CDR, MedMentions, BioRED and others): abstracts with mentions and document-level relations.

    8701013|t|Famotidine-associated delirium.          title
    8701013|a|Famotidine is a ...                      abstract
    8701013 0 10 Famotidine Chemical D015738           mention, tab-separated: start, end, text, type, concept id
    8701013 CID D015738 D003693                        relation

Offsets count Unicode characters of title + " " + abstract. Format: https://www.ncbi.nlm.nih.gov/research/pubtator3/
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from loaders.errors import InputError, MedgraftError
from loaders.lines import text_lines
from loaders.records import Document, Mention, Relation

_TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_OFFSET = re.compile(r"[0-9]{1,9}")
_BARE_MESH = re.compile(r"[CD](?:[0-9]{6}|[0-9]{9})")
_NO_CONCEPT = ("", "-", "-1")
_UNWRITABLE = re.compile(r"[\t\r\n\0\ud800-\udfff]")
_SENTENCE_END = re.compile(r"(?<=[.?!]) ")


def read_pubtator(path: str | Path) -> Iterator[Document]:
    """The documents of a PubTator file, mentions in the order of the text.

    Bare MeSH ids get their prefix (`MESH:D015738`), ids of other vocabularies stay as they are. A composite mention
    joins its ids with `|`; one without a concept (`-1`) has None.

    Raises:
        InputError: a malformed line, a mention that differs from the text at its offsets, an annotation outside its
            document, a file without documents.
    """
    path = Path(path)
    current: _Draft | None = None
    after_blank = False
    for number, line in text_lines(path):
        if not line.strip():
            after_blank = True
            continue
        if match := _TEXT.fullmatch(line):
            identifier, part, text = match.groups()
            if current is None or current.id != identifier or (part == "t" and after_blank):
                if current:
                    yield current.document()
                current = _Draft(identifier)
            current.add_text(path, number, part, text)
        else:
            fields = line.split("\t")
            if len(fields) < 4:
                message = "neither a title (id|t|...), an abstract (id|a|...), a mention nor a relation"
                raise InputError(path, number, message)
            if current is None or fields[0] != current.id:
                raise InputError(path, number, "an annotation of another document than the one above it")
            current.add_annotation(path, number, fields)
        after_blank = False
    if current is None:
        raise InputError(path, None, "holds no document; a PubTator file is expected")
    yield current.document()


def write_pubtator(documents: Iterable[Document], to: str | Path | IO[str]) -> None:
    """Write documents so that `read_pubtator` gives the same ones back, without scores and candidates.

    PubTator knows a title and an abstract only: the first sentence becomes the title. A path appears when all is
    written, never in part.

    Raises:
        MedgraftError: a document that the format cannot hold, such as a text with line breaks; no way to write there.
    """
    if not isinstance(to, str | Path):
        _write(documents, to)
        return
    target = Path(to)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=target.parent, delete=False) as file:
            aside = Path(file.name)
            try:
                _write(documents, file)
                file.close()
                aside.chmod(0o644)
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
    except OSError as error:
        raise MedgraftError(f"cannot write {target}: {error.strerror}; choose another output") from error


def _write(documents: Iterable[Document], file: IO[str]) -> None:
    for document in documents:
        file.write("".join(line + "\n" for line in _lines(document)) + "\n")


@dataclass
class _Draft:
    id: str
    parts: dict[str, str] = field(default_factory=dict)
    mentions: list[Mention] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.parts[part] for part in "ta" if part in self.parts)

    def add_text(self, path: Path, number: int, part: str, text: str) -> None:
        if part in self.parts:
            raise InputError(path, number, f"a second {'title' if part == 't' else 'abstract'} of {self.id!r}")
        if self.mentions or self.relations:
            raise InputError(path, number, f"the abstract of {self.id!r} comes after its annotations")
        self.parts[part] = text

    def add_annotation(self, path: Path, number: int, fields: list[str]) -> None:
        if _OFFSET.fullmatch(fields[1]):
            self.mentions.append(self._mention(path, number, fields))
        elif len(fields) in (4, 5) and all(fields[1:4]):
            self.relations.append(
                Relation(concept_ids(fields[2]) or fields[2], fields[1], concept_ids(fields[3]) or fields[3])
            )
        else:
            raise InputError(
                path, number, "neither a mention (start, end, text, type, id) nor a relation (name, id, id)"
            )

    def _mention(self, path: Path, number: int, fields: list[str]) -> Mention:
        if not 5 <= len(fields) <= 7 or not _OFFSET.fullmatch(fields[2]):
            raise InputError(
                path, number, "a mention needs 5 to 7 fields: document, start, end, text, type, id, ids of parts"
            )
        start, end = int(fields[1]), int(fields[2])
        if start >= end or self.text[start:end] != fields[3]:
            raise InputError(
                path, number, f"the text at [{start}, {end}) differs from the mention; the offsets are wrong"
            )
        return Mention(start, end, fields[4], concept_ids(fields[5]) if len(fields) > 5 else None)

    def document(self) -> Document:
        mentions = sorted(self.mentions, key=lambda mention: (mention.start, mention.end))
        return Document(self.id, self.text, tuple(mentions), tuple(self.relations))


def concept_ids(value: str) -> str | None:
    """The ids of a field, `|` between them. `,` and `+` join ids too, where all parts are MeSH ids."""
    parts = value.split("|")
    if len(parts) == 1 and len(mesh := re.split("[,+]", value)) > 1 and all(map(_BARE_MESH.fullmatch, mesh)):
        parts = mesh
    ids = [f"MESH:{part}" if _BARE_MESH.fullmatch(part) else part for part in parts if part not in _NO_CONCEPT]
    return "|".join(ids) or None


def _lines(document: Document) -> Iterator[str]:
    if not re.fullmatch(r"[^|\s\ufeff][^|\t\r\n\0\ud800-\udfff]*", document.id):
        raise MedgraftError(
            f"PubTator cannot hold the document id {document.id!r}; give it one without | and white space"
        )
    if _UNWRITABLE.search(document.text.replace("\t", " ")):
        message = (
            "PubTator cannot hold line breaks and broken characters; put a space for each, which keeps the offsets"
        )
        raise MedgraftError(f"document {document.id!r}: {message}")
    cut = _SENTENCE_END.search(document.text) if not document.text.startswith(" ") else re.match(" ", document.text)
    yield f"{document.id}|t|{document.text[: cut.start()] if cut else document.text}"
    if cut:
        yield f"{document.id}|a|{document.text[cut.end() :]}"
    for mention in document.mentions:
        mentioned = document.text[mention.start : mention.end]
        yield _row(
            document.id, str(mention.start), str(mention.end), mentioned, mention.type, mention.concept_id or "-1"
        )
    for relation in document.relations:
        if _OFFSET.fullmatch(relation.relation) or not all((relation.relation, relation.head, relation.tail)):
            raise MedgraftError(f"document {document.id!r}: PubTator cannot hold a relation without a name and two ids")
        yield _row(document.id, relation.relation, relation.head, relation.tail)


def _row(*fields: str) -> str:
    if any(map(_UNWRITABLE.search, fields)):
        raise MedgraftError(f"document {fields[0]!r}: PubTator cannot hold tabs and line breaks inside an annotation")
    return "\t".join(fields)
