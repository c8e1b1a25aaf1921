"""BioC as XML and as JSON, both ways, by the package `bioc`, one document in memory at a time.

A document's text is its passages (or their sentences) laid at their offsets, spaces between them, so that every offset
of the file is one of the text. Offsets count Unicode characters; where a document's mentions fit only if they count
bytes of UTF-8, as in some releases, they are taken as such.

Of an annotation's infons, `type` is the mention's type and `identifier` (or `concept_id`, or `MESH` as in BC5CDR) its
concept; `assertion` and `score` are ours. Several locations are the parts of one mention. Annotations without a
location speak of the whole document and are not mentions. Format: Comeau et al., 2013, https://bioc.sourceforge.net
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson
from bioc import (
    BioCAnnotation,
    BioCCollection,
    BioCDocument,
    BioCLocation,
    BioCNode,
    BioCPassage,
    BioCRelation,
    biocjson,
    biocxml,
)
from bioc.biocxml.encoder import BioCXMLDocumentWriter
from lxml import etree

from loaders.errors import InputError, MedgraftError
from loaders.jsonl import checked_spans
from loaders.lines import open_bytes, reading
from loaders.pubtator import concept_ids
from loaders.records import ASSERTIONS, Document, Mention, Relation

_CONCEPT = ("identifier", "concept_id", "MESH")
_LISTS = {"passages", "sentences", "annotations", "relations", "locations", "nodes"}


def read_bioc_xml(path: str | Path) -> Iterator[Document]:
    """The documents of a BioC XML file.

    Raises:
        InputError: broken XML, a mention that differs from the text at its offsets, a file without documents.
    """
    path = Path(path)
    empty = True
    with open_bytes(path) as file, reading(path):
        events = etree.iterparse(
            file, events=("end",), tag="document", resolve_entities=False, no_network=True, huge_tree=True
        )
        try:
            for _, element in events:
                line = element.sourceline
                content = etree.tostring(element, encoding="unicode", with_tail=False)
                element.clear()
                while element.getprevious() is not None:  # what has been read stays no longer in memory
                    del element.getparent()[0]
                try:
                    (document,) = biocxml.loads(f"<collection>{content}</collection>").documents
                except (TypeError, ValueError, KeyError) as error:
                    raise InputError(path, line, f"no BioC document ({error}); mend the file") from error
                empty = False
                yield _document(path, line, document)
        except etree.XMLSyntaxError as error:
            raise InputError(path, error.lineno, f"broken XML ({error.msg}); mend or fetch the file anew") from error
    if empty:
        raise InputError(path, None, "holds no document; a BioC collection is expected")


def read_bioc_json(path: str | Path) -> Iterator[Document]:
    """The documents of a BioC JSON file: a collection, that of PubTator 3 too, or one document a line.

    Raises:
        InputError: broken JSON, a mention that differs from the text at its offsets, a file without documents.
    """
    path = Path(path)
    number = 0
    for number, value in enumerate(_objects(path), 1):
        try:
            document = biocjson.fromJSON(_complete(value), "BioCDocument")
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(path, None, f"document {number} is no BioC document ({error!r}); mend the file") from error
        yield _document(path, None, document)
    if not number:
        raise InputError(path, None, "holds no document; a BioC collection is expected")


class BioCXMLWriter:
    """Writes documents as one BioC XML collection to a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._writer = BioCXMLDocumentWriter(file, encoding="UTF-8")
        about = BioCCollection()
        about.source, about.date, about.key = "medgraft", "", ""
        self._writer.write_collection_info(about)

    def write(self, document: Document) -> None:
        try:
            self._writer.write_document(_to_bioc(document))
        except ValueError as error:
            raise MedgraftError(
                f"document {document.id!r}: XML cannot hold its control characters; take json lines, or clean the text"
            ) from error

    def close(self) -> None:
        self._writer.close()


class BioCJSONWriter:
    """Writes documents as one BioC JSON collection to a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._before = b'{"source": "medgraft", "date": "", "key": "", "infons": {}, "documents": ['

    def write(self, document: Document) -> None:
        value = json.dumps(biocjson.toJSON(_to_bioc(document)))
        self._file.write(self._before + b"\n" + value.encode("ascii"))
        self._before = b","

    def close(self) -> None:
        self._file.write((self._before if self._before != b"," else b"") + b"\n]}\n")


def _objects(path: Path) -> Iterator[Any]:
    with open_bytes(path) as file, reading(path):
        try:
            for prefix in ("documents.item", "PubTator3.item", ""):
                file.seek(0)
                found = False
                for value in ijson.items(file, prefix, multiple_values=True):
                    if prefix or (isinstance(value, dict) and "passages" in value):
                        found = True
                        yield value
                if found:
                    return
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise InputError(path, None, f"broken JSON ({error}); mend or fetch the file anew") from error


def _complete(value: Any) -> Any:
    """Empty lists and infons where a file leaves them out, which the decoder does not forgive."""
    if isinstance(value, list):
        return [_complete(part) for part in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _complete(part) if key in _LISTS else part for key, part in value.items()}
    return {"infons": {}, "id": "", "text": "", "role": "", **dict.fromkeys(_LISTS, []), **inner}


def _document(path: Path, line: int | None, document: BioCDocument) -> Document:
    try:
        return _Laid(document, in_bytes=False).document()
    except (ValueError, TypeError) as error:
        try:
            return _Laid(document, in_bytes=True).document()
        except (ValueError, TypeError):
            raise InputError(path, line, f"document {document.id!r}: {error}; mend its offsets") from error


class _Laid:
    """A BioC document laid out as one text. `units` has one character for each unit of its offsets."""

    def __init__(self, document: BioCDocument, in_bytes: bool) -> None:
        self.id = document.id or ""
        self.in_bytes = in_bytes
        levels: list[Any] = [document]
        units: list[str] = []
        length = 0
        for passage in document.passages:
            levels += [passage, *passage.sentences]
            for stretch in [passage] if passage.text else passage.sentences:
                if not stretch.text:
                    continue
                if int(stretch.offset) < length:
                    raise ValueError(f"the passage at {stretch.offset} begins before the one above it ends")
                content = stretch.text.encode("utf-8", "surrogatepass").decode("latin-1") if in_bytes else stretch.text
                units += " " * (int(stretch.offset) - length), content
                length = int(stretch.offset) + len(content)
        self.units = "".join(units)
        self.text = self._characters(self.units)
        self.annotations: list[BioCAnnotation] = [a for level in levels for a in level.annotations]
        self.relations: list[BioCRelation] = [r for level in levels for r in level.relations]

    def document(self) -> Document:
        placed = {a.id: self._mention(a) for a in self.annotations if a.locations}
        mentions = [self._mention(a) for a in self.annotations if a.locations]
        relations = tuple(relation for r in self.relations if (relation := _relation(r, placed)))
        return Document(self.id, self.text, tuple(sorted(mentions, key=lambda m: (m.start, m.end))), relations)

    def _mention(self, annotation: BioCAnnotation) -> Mention:
        spans = sorted((self._place(at.offset), self._place(at.offset + at.length)) for at in annotation.locations)
        parts = checked_spans(spans, self.text)
        mention = Mention(
            parts[0][0],
            parts[-1][1],
            annotation.infons.get("type") or "",
            _concept(annotation.infons),
            _score(annotation.infons),
            parts=parts if len(parts) > 1 else (),
            assertion=_assertion(annotation.infons),
        )
        stated = annotation.text or ""
        if stated and _letters(stated) not in (
            _letters(mention.text_in(self.text)),
            _letters(self.text[mention.start : mention.end]),
        ):
            raise ValueError(f"the text at [{mention.start}, {mention.end}) differs from its mention {annotation.id!r}")
        return mention

    def _place(self, offset: int) -> int:
        return len(self._characters(self.units[:offset])) if 0 <= offset <= len(self.units) else -1

    def _characters(self, units: str) -> str:
        return units.encode("latin-1").decode("utf-8", "surrogatepass") if self.in_bytes else units


def _letters(text: str) -> str:
    return "".join(text.replace("...", " ").split())


def _concept(infons: dict[str, Any]) -> str | None:
    value = next((str(infons[key]) for key in _CONCEPT if infons.get(key)), "")
    return concept_ids(value)


def _assertion(infons: dict[str, Any]) -> tuple[str, ...]:
    words = str(infons.get("assertion") or "").split(",")
    return tuple(word for word in ASSERTIONS if word in words)


def _score(infons: dict[str, Any]) -> float | None:
    score = infons.get("score")
    try:
        return None if score is None or isinstance(score, bool) else float(score)
    except (TypeError, ValueError):
        return None


def _relation(relation: BioCRelation, placed: dict[str, Mention]) -> Relation | None:
    """A relation of two ends: ours, that of BC5CDR (infons of ids), of PubTator 3 (roles), or between annotations."""
    infons = relation.infons
    name = str(infons.get("type") or infons.get("relation") or "")
    if "head" in infons and "tail" in infons:
        ends = [str(infons["head"]), str(infons["tail"])]
    elif isinstance(infons.get("role1"), dict) and isinstance(infons.get("role2"), dict):
        ends = [str(infons[role].get("identifier") or "") for role in ("role1", "role2")]
    elif len(relation.nodes) >= 2:
        ends = [_end(node, placed) for node in relation.nodes[:2]]
    else:
        values = [str(v) for key, v in infons.items() if key not in ("relation", "type", "score")]
        ends = [concept_ids(value) or value for value in values[:2]]
    return Relation(ends[0], name, ends[1], _score(infons)) if len(ends) == 2 and all(ends) else None


def _end(node: BioCNode, placed: dict[str, Mention]) -> str:
    mention = placed.get(node.refid)
    if mention is None:
        return str(node.refid)
    return mention.concept_id or f"@{mention.start}:{mention.end}"


def _to_bioc(document: Document) -> BioCDocument:
    passage = BioCPassage()
    passage.text = document.text
    for number, mention in enumerate(document.mentions, 1):
        annotation = BioCAnnotation()
        annotation.id = str(number)
        annotation.text = mention.text_in(document.text)
        annotation.infons = {"type": mention.type, "identifier": mention.concept_id or "-"}
        if mention.score is not None:
            annotation.infons["score"] = str(mention.score)
        if mention.assertion:
            annotation.infons["assertion"] = ",".join(mention.assertion)
        for start, end in mention.parts or ((mention.start, mention.end),):
            annotation.add_location(BioCLocation(start, end - start))
        passage.add_annotation(annotation)
    written = BioCDocument()
    written.id = document.id
    written.add_passage(passage)
    for number, relation in enumerate(document.relations, 1):
        related = BioCRelation()
        related.id = f"R{number}"
        related.infons = {"type": relation.relation, "head": relation.head, "tail": relation.tail}
        if relation.score is not None:
            related.infons["score"] = str(relation.score)
        written.add_relation(related)
    return written
