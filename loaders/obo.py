"""OBO ontologies (format 1.2 and 1.4, as written by real projects): terms, names, hierarchy, relationships, retirement.

A line parser of our own: a fault is named with file and line and counted, which the libraries for the format do not
offer. Facts point from the child to the parent, from the subject of a `relationship` to its object. Logical
definitions (`intersection_of` and the like) state no facts between concepts and are not read.
Format: https://owlcollab.github.io/oboformat/doc/obo-syntax.html
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loaders.errors import InputError
from loaders.lines import decode, raw_lines
from loaders.options import DEFAULTS, Options
from loaders.tables import Account, Batch
from loaders.terms import LANGUAGE, OBSOLETE_SYNONYM, Ontology, Term, is_licence, match_predicate, source_name

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)', re.DOTALL)
# What may follow a text in quotes: scope and type of a synonym, then references, modifiers or a comment.
_BEHIND = re.compile(r"(?:[^\s\[\]{}\"!]+(?:\s+|$)){0,3}(?:$|[\[{!])")
# A text that holds quotes that nobody escaped.
_LOOSE = re.compile(r'"(.*)"\s*((?:[^\s\[\]{}"!]+\s+){0,3}\[[^\]]*\].*)', re.DOTALL)
# Behind a value: {key="value"} and ! comment, each set off by a space.
_MODIFIER = r'\{(?:[^{}"\\]|\\.|"(?:[^"\\]|\\.)*")*\}'
_TRAILING = re.compile(rf"(?:\s+{_MODIFIER})?(?:\s+!.*)?\s*$", re.DOTALL)
_TRAILING_START = re.compile(r"(?<!\s)\s+(?=[{!])")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "W": " ", "t": "\t"}
_PLAIN_ID = re.compile(r"([\w.:-]+)(?:[ \t]+!.*)?", re.DOTALL)  # an id and perhaps a comment, which is what most are
_STANZA = re.compile(r"\[(\w+)\]\s*(?:!.*)?$")
# Behind a cross-reference.
_DESCRIPTION = re.compile(r'\s+"(?:[^"\\]|\\.)*"\s*$', re.DOTALL)
_CONTINUED = re.compile(r"(?<!\\)(?:\\\\)*\\$")
# Synonym tags of OBO 1.0, still met, and the scopes of today's.
_SYNONYM_TAGS = {
    "synonym": "related",
    "exact_synonym": "exact",
    "narrow_synonym": "narrow",
    "broad_synonym": "broad",
    "related_synonym": "related",
}
_SCOPES = {"EXACT": "exact", "NARROW": "narrow", "BROAD": "broad", "RELATED": "related"}


def read_obo(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts, names, triples and retired ids of an OBO file; the account counts stanzas.

    What becomes of the terms is told in `loaders.terms`. Every `xref` is a mapping, those too that are no CURIE: such
    text stays as it is.

    Raises:
        InputError: a malformed line, a term without id or defined twice; with `skip_bad` the stanza is counted in
            `account` and left out instead. Always: the file cannot be read or holds no term.
    """
    reading = _Reading(Ontology(source_name(path.name.removesuffix(".gz"))))
    ontology = reading.ontology
    for stanza in _stanzas(path):
        try:
            if stanza.kind == "":
                account.release = reading.read_header(stanza)
            if stanza.fault:
                raise stanza.fault
            if stanza.kind == "":
                continue
            dropped = reading.read_stanza(stanza)
        except _Malformed as fault:
            if not options.skip_bad:
                raise InputError(path, fault.line, f"{fault}; mend the file, or skip malformed stanzas") from None
            account.drop(f"malformed: {fault.reason}")
            continue
        if dropped:
            account.drop(dropped)
        else:
            account.keep()
        yield from ontology.rows.full()
    if not reading.lines:
        raise InputError(path, None, "holds no [Term] stanza; an ontology in OBO format is expected")
    ontology.finish(account.release)
    yield from ontology.rows.rest()


def is_obo(head: list[str]) -> bool:
    """Whether the first lines of a file are those of an OBO file."""
    return any(line.startswith("format-version:") or line.rstrip() in ("[Term]", "[Typedef]") for line in head)


class _Malformed(Exception):
    """`reason` names the fault, the same words for all faults of a kind; `value` is what the file has there."""

    def __init__(self, line: int, reason: str, value: str = "") -> None:
        super().__init__(f"{reason}: {value[:80]!r}" if value else reason)
        self.line = line
        self.reason = reason


@dataclass
class _Stanza:
    """The lines between two stanza headings; those before the first have the kind "". `fault`: its first bad line."""

    kind: str
    line: int
    clauses: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    fault: _Malformed | None = None

    def clauses_of(self, tag: str) -> Sequence[tuple[str, int]]:
        """The values of a tag as they stand in the file, each with its line."""
        return self.clauses.get(tag, ())

    def values(self, tag: str) -> list[str]:
        return [_plain(value) for value, _ in self.clauses_of(tag)]

    def ids(self, tag: str) -> list[str]:
        return [_identifier(value, line) for value, line in self.clauses_of(tag)]

    def is_true(self, tag: str) -> bool:
        return any(value.lower() == "true" for value in self.values(tag))

    def id(self) -> str:
        ids = self.ids("id")
        if not ids:
            raise _Malformed(self.line, f"a [{self.kind}] stanza without an id")
        if len(ids) > 1:
            raise _Malformed(self.clauses["id"][1][1], "a second id in one stanza", ids[1])
        return ids[0]


@dataclass
class _Reading:
    """What has been read so far: the ontology, and the line of each term in it."""

    ontology: Ontology
    lines: dict[str, int] = field(default_factory=dict)

    def read_header(self, header: _Stanza) -> str:
        """Take in the header; returns the release that it states."""

        def first(*tags: str) -> str:
            return next((value for tag in tags for value in header.values(tag)), "")

        self.ontology.source = source_name(first("ontology")) or self.ontology.source
        self.ontology.namespace = first("default-namespace")
        for value, _ in header.clauses_of("property_value"):
            words = value.split()
            if len(words) > 1 and is_licence(words[0]):
                self.ontology.licence = _unescape(words[1].strip('"'))
        return first("data-version", "version", "date")

    def read_stanza(self, stanza: _Stanza) -> str:
        """Take in a stanza; returns why it is not kept as a concept, or the empty string."""
        if stanza.kind == "Term":
            term = _term(stanza)
            if term.id in self.lines:
                raise _Malformed(stanza.line, f"a term already defined at line {self.lines[term.id]}", term.id)
            self.lines[term.id] = stanza.line
            return "anonymous term" if stanza.is_true("is_anonymous") else self.ontology.add(term)
        if stanza.kind == "Typedef":
            id = stanza.id()
            self.ontology.name_relation(id, (stanza.values("name") or [""])[0])
            self.ontology.inverses += [(id, other) for other in stanza.ids("inverse_of")]
            if stanza.is_true("is_symmetric"):
                self.ontology.inverses.append((id, id))
            return "relation definition, not a concept"
        return "instance, not a concept" if stanza.kind == "Instance" else "stanza of an unknown kind"


def _term(stanza: _Stanza) -> Term:
    id = stanza.id()
    namespace = stanza.values("namespace")
    return Term(
        id,
        names=_names(id, stanza),
        definitions=[text for value, line in stanza.clauses_of("def") if (text := _quoted(value, line)[0])],
        parents=stanza.ids("is_a"),
        relationships=[_relationship(value, line) for value, line in stanza.clauses_of("relationship")],
        mappings=_mappings(stanza),
        former=stanza.ids("alt_id"),
        successors=stanza.ids("replaced_by"),
        namespace=namespace[0] if namespace else "",
        obsolete=stanza.is_true("is_obsolete"),
    )


def _names(id: str, stanza: _Stanza) -> list[tuple[str, str, str, bool]]:
    """The names as `Term` has them; a nameless term goes by its id."""
    own = [name for name in stanza.values("name") if name] or [id]
    names = [(name, "exact" if rank else "preferred", LANGUAGE, False) for rank, name in enumerate(own)]
    for tag, scope in _SYNONYM_TAGS.items():
        for value, line in stanza.clauses_of(tag):
            name, rest = _quoted(value, line)
            words = rest.partition("[")[0].split()
            if name:
                kind = _SCOPES.get(words[0].upper(), scope) if words else scope
                names.append((name, kind, LANGUAGE, OBSOLETE_SYNONYM in words))
    return names


def _mappings(stanza: _Stanza) -> list[tuple[str, str]]:
    """Cross-references without their descriptions, SKOS matches among the properties, equivalent terms."""
    found = []
    for value, _ in stanza.clauses_of("xref"):
        if " " in value:
            value = _DESCRIPTION.sub("", _before_trailing(value))
        if value := _unescape(value.strip(" \t")):
            found.append(("xref", value))
    for value, _ in stanza.clauses_of("property_value"):
        if "Match" in value or "sameAs" in value:
            words = value.split()
            predicate = match_predicate(words[0])
            if predicate and len(words) > 1:
                found.append((predicate, _unescape(words[1].strip('"'))))
    return found + [("owl:equivalentClass", other) for other in stanza.ids("equivalent_to")]


def _stanzas(path: Path) -> Iterator[_Stanza]:
    """The header and the stanzas of a file; a bad line is noted in its stanza, for the caller to judge."""
    stanza = _Stanza("", 1)
    begun = ""
    begun_at = 0
    for number, raw in raw_lines(path):
        try:
            line = decode(path, number, raw)
        except InputError:
            stanza.fault = stanza.fault or _Malformed(number, "a line that is not UTF-8 text")
            continue
        line, start = begun + line.strip(" \t\r"), begun_at or number
        begun, begun_at = "", 0
        if line.endswith("\\") and _CONTINUED.search(line):
            begun, begun_at = line[:-1], start
        elif heading := line.startswith("[") and _STANZA.match(line):
            yield stanza
            stanza = _Stanza(heading[1], start)
        elif line and not line.startswith("!"):
            tag, colon, value = line.partition(":")
            if colon:
                stanza.clauses.setdefault(tag, []).append((value.lstrip(" \t"), start))
            else:
                stanza.fault = stanza.fault or _Malformed(start, "a line without a tag and a colon", line)
    if begun:
        stanza.fault = stanza.fault or _Malformed(begun_at, "a continued line that the end of the file cuts off")
    yield stanza


def _plain(value: str) -> str:
    """An unquoted value without trailing modifiers and comment, escapes resolved."""
    if "!" in value or "{" in value:
        value = _before_trailing(value)
    return _unescape(value.strip(" \t"))


def _before_trailing(value: str) -> str:
    r"""A value up to its trailing `{...}` and `! ...`; an escaped `\!` or `\{` is part of the value."""
    for start in _TRAILING_START.finditer(value):
        if _TRAILING.match(value, start.start()):
            return value[: start.start()]
    return value


def _quoted(value: str, line: int) -> tuple[str, str]:
    """The text in quotes that a value begins with, and what follows it."""
    match = _QUOTED.match(value)
    if match and not _BEHIND.match(match[2]):
        match = _LOOSE.match(value)
    if not match:
        raise _Malformed(line, "a text that is not in quotes", value)
    return _unescape(match[1]).strip(), match[2]


def _relationship(value: str, line: int) -> tuple[str, str]:
    words = _plain(value).split()
    if len(words) != 2:
        raise _Malformed(line, "a relationship without its one target", value)
    return words[0], words[1]


def _identifier(value: str, line: int) -> str:
    if plain := _PLAIN_ID.fullmatch(value):
        return plain[1]
    identifier = _plain(value)
    if not identifier or any(character.isspace() for character in identifier):
        raise _Malformed(line, "not an id", value)
    return identifier


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), value) if "\\" in value else value
