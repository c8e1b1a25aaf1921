"""brat standoff: a text in NAME.txt and its annotation in NAME.ann beside it, both ways.

    T1  Phenotype 3 11;20 25    seizures ... thumb      mention: type, stretches, text
    N1  Reference T1 HP:0001250 name                    its concept
    A1  Negated T1                                      its assertion
    R1  CID Arg1:T1 Arg2:T2                             a relation between two mentions

Fields are parted by tabs. Offsets count Unicode characters of the text as it lies in the file, CR LF as two. Events,
equivalences and notes are not read. Format: https://brat.nlplab.org/standoff.html
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from loaders.errors import InputError, MedgraftError
from loaders.jsonl import checked_spans
from loaders.lines import decode, open_bytes, reading, text_lines
from loaders.records import ASSERTIONS, Document, Mention, Relation

NO_TYPE = "Concept"  # of a mention without a type, which brat does not have
_SAME = {"negation": "negated", "speculation": "possible", "uncertain": "possible", "uncertainty": "possible"}
_PASSED = ("E", "*", "#", "M")
_SAFE = " !$&'()+,;=@[]{}~"  # beside letters, digits and -_. in the name of a file
_TEXT_BOUND = re.compile(r"(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)")


def read_brat(path: str | Path) -> Iterator[Document]:
    """The document of a `.ann` or `.txt` file; the id is the file's name.

    Raises:
        InputError: no text beside the annotation, a malformed line, a mention that differs from the text there.
    """
    path = Path(path)
    stem = re.sub(r"\.(ann|txt)$", "", path.name)
    text = _text(path.with_name(f"{stem}.txt"))
    annotation = path.with_name(f"{stem}.ann")
    yield _Reading(annotation, text).document(unquote(stem))


def write_brat(document: Document, folder: Path) -> None:
    """Write NAME.txt and NAME.ann into a folder; the name is the document's id, `/` and the like as `%2F`.

    White space in a type becomes `_`; a mention without type becomes a `Concept`. Scores and candidates are left out.

    Raises:
        MedgraftError: an id that is no file name, a relation without mentions at its ends, a broken character.
    """
    name = quote(document.id, safe=_SAFE, errors="replace")
    if not document.id or document.id.startswith(".") or len(name) > 200:
        raise MedgraftError(
            f"brat cannot name a file after the document id {document.id!r}; give it a plain, short one"
        )
    if (folder / f"{name}.txt").exists():
        raise MedgraftError(f"two documents have the id {document.id!r}; brat needs one file for each")
    try:
        content = document.text.encode("utf-8")
        lines = "".join(line + "\n" for line in _lines(document)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise MedgraftError(
            f"document {document.id!r}: a broken character (lone surrogate) cannot be written as UTF-8; replace it"
        ) from error
    (folder / f"{name}.txt").write_bytes(content)
    (folder / f"{name}.ann").write_bytes(lines)


def _text(path: Path) -> str:
    with open_bytes(path) as file, reading(path):
        return decode(path, 1, file.read())


class _Reading:
    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self.mentions: dict[str, Mention] = {}

    def document(self, id: str) -> Document:
        later: list[tuple[int, str, list[str]]] = []
        for number, line in text_lines(self.path):
            kind = line[:1]
            if not line.strip() or kind in _PASSED:
                continue
            fields = line.split("\t")
            if kind == "T":
                self._mention(number, fields)
            elif kind in "NAR":
                later.append((number, kind, fields))
            else:
                raise InputError(self.path, number, "a line begins with T, N, A, R, E, M, * or #; mend it")
        relations = []
        for number, kind, fields in later:
            if kind == "R":
                relations.append(self._relation(number, fields))
            else:
                self._attribute(number, kind, fields)
        # Relations name the concepts of their mentions, which a later line may give.
        named = [Relation(self._name(head), name, self._name(tail)) for head, name, tail in relations]
        mentions = sorted(self.mentions.values(), key=lambda m: (m.start, m.end))
        return Document(id, self.text, tuple(mentions), tuple(named))

    def _mention(self, number: int, fields: list[str]) -> None:
        match = _TEXT_BOUND.fullmatch(fields[1]) if len(fields) >= 3 else None
        if match is None:
            raise InputError(self.path, number, "a mention needs an id, its type and offsets, and its text, by tabs")
        spans = [tuple(map(int, span.split())) for span in match[2].split(";")]
        try:
            parts = checked_spans(spans, self.text)
        except ValueError as error:
            raise InputError(self.path, number, f"{error}; mend the offsets") from error
        type_ = "" if match[1] == NO_TYPE else match[1]
        mention = Mention(parts[0][0], parts[-1][1], type_, parts=parts if len(parts) > 1 else ())
        if _flat(mention.text_in(self.text)) != _flat("\t".join(fields[2:])):
            message = f"the text at [{mention.start}, {mention.end}) differs from the mention; the offsets are wrong"
            raise InputError(self.path, number, message)
        if fields[0] in self.mentions:
            raise InputError(self.path, number, f"a second {fields[0]}; give each its own id")
        self.mentions[fields[0]] = mention

    def _attribute(self, number: int, kind: str, fields: list[str]) -> None:
        words = fields[1].split(" ", 2) if len(fields) > 1 else []
        if len(words) < 2 or (kind == "N" and len(words) < 3):
            raise InputError(self.path, number, "a name and the mention it is of are expected")
        mention = self.mentions.get(words[1])
        if mention is None:
            if words[1].startswith("T"):
                raise InputError(self.path, number, f"speaks of {words[1]}, which is not there; mend the id")
            return  # of an event
        if kind == "N":
            ids = [mention.concept_id, words[2]] if mention.concept_id else [words[2]]
            self.mentions[words[1]] = replace(mention, concept_id="|".join(map(str, ids)))
            return
        word = words[0].lower()
        assertion = _SAME.get(word, word)
        if assertion in ASSERTIONS and (len(words) < 3 or words[2].lower() != "false"):
            self.mentions[words[1]] = replace(mention, assertion=tuple(sorted({*mention.assertion, assertion})))

    def _relation(self, number: int, fields: list[str]) -> tuple[str, str, str]:
        words = fields[1].split() if len(fields) > 1 else []
        ends = [word.partition(":")[2] for word in words[1:3]]
        if len(ends) != 2 or not all(end in self.mentions or not end.startswith("T") for end in ends):
            raise InputError(self.path, number, "a relation needs a name and two mentions, as in CID Arg1:T1 Arg2:T2")
        return ends[0], words[0], ends[1]

    def _name(self, id: str) -> str:
        mention = self.mentions.get(id)
        return id if mention is None else mention.concept_id or f"@{mention.start}:{mention.end}"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _lines(document: Document) -> Iterator[str]:
    attributes = 0
    for number, mention in enumerate(document.mentions, 1):
        spans = ";".join(f"{start} {end}" for start, end in mention.parts or ((mention.start, mention.end),))
        type_ = re.sub(r"\s+", "_", mention.type) or NO_TYPE
        yield f"T{number}\t{type_} {spans}\t{_flat(mention.text_in(document.text))}"
        if mention.concept_id is not None:
            if re.search(r"\s", mention.concept_id):
                raise MedgraftError(f"document {document.id!r}: brat cannot hold the concept id {mention.concept_id!r}")
            yield f"N{number}\tReference T{number} {mention.concept_id}"
        for word in mention.assertion:
            attributes += 1
            yield f"A{attributes}\t{word.capitalize()} T{number}"
    for number, relation in enumerate(document.relations, 1):
        name = re.sub(r"\s+", "_", relation.relation)
        head, tail = _mention_of(document, relation.head), _mention_of(document, relation.tail)
        yield f"R{number}\t{name} Arg1:T{head} Arg2:T{tail}"


def _mention_of(document: Document, end: str) -> int:
    names = [mention.concept_id or f"@{mention.start}:{mention.end}" for mention in document.mentions]
    if end not in names:
        message = f"brat relates mentions, and none is of {end!r}; take json lines or BioC"
        raise MedgraftError(f"document {document.id!r}: {message}")
    return names.index(end) + 1
