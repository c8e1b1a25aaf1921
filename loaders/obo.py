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
from loaders.tables import Account, Batch, Rows

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)', re.DOTALL)
# Behind a value: {key="value"} and ! comment, each set off by a space.
_MODIFIER = r'\{(?:[^{}"\\]|\\.|"(?:[^"\\]|\\.)*")*\}'
_TRAILING = re.compile(rf"(?:\s+{_MODIFIER})?(?:\s+!.*)?\s*$", re.DOTALL)
_TRAILING_START = re.compile(r"(?<!\s)\s+(?=[{!])")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "W": " ", "t": "\t"}
_PLAIN_ID = re.compile(r"[\w.:-]+")
_STANZA = re.compile(r"\[(\w+)\]\s*(?:!.*)?$")
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


def read_obo(path: Path, account: Account, skip_bad: bool = False) -> Iterator[Batch]:
    """Concepts, names, triples and retired ids of an OBO file; the account counts stanzas.

    Every term that is not obsolete is a concept. HPO terms have the type `Phenotype`, others their namespace, or the
    prefix of their id. A relation is called by the name that its `[Typedef]` gives it, spaces as underscores.

    Raises:
        InputError: a malformed line, a term without id or defined twice; with `skip_bad` the stanza is counted in
            `account` and left out instead. Always: the file cannot be read or holds no term.
    """
    ontology = _Ontology(source=path.name.removesuffix(".gz").removesuffix(".obo"))
    for stanza in _stanzas(path):
        try:
            if stanza.kind == "":
                account.release = ontology.read_header(stanza)
            if stanza.fault:
                raise stanza.fault
            if stanza.kind == "":
                continue
            dropped = ontology.read_stanza(stanza)
        except _Malformed as fault:
            if not skip_bad:
                raise InputError(path, fault.line, f"{fault}; mend the file, or skip malformed stanzas") from None
            account.drop(f"malformed: {fault.reason}")
            continue
        if dropped:
            account.drop(dropped)
        else:
            account.keep()
        yield from ontology.rows.full()
    if not ontology.lines:
        raise InputError(path, None, "holds no [Term] stanza; an ontology in OBO format is expected")
    ontology.add_relationships()
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
class _Ontology:
    """What has been read so far; relationships wait for the end, where the file gives their relations names."""

    source: str
    namespace: str = ""
    rows: Rows = field(default_factory=Rows)
    lines: dict[str, int] = field(default_factory=dict)
    relation_names: dict[str, str] = field(default_factory=dict)
    relationships: list[tuple[str, str, str]] = field(default_factory=list)

    def read_header(self, header: _Stanza) -> str:
        """Take in the header; returns the release that it states."""

        def first(*tags: str) -> str:
            return next((value for tag in tags for value in header.values(tag)), "")

        self.source = first("ontology").removesuffix(".obo") or self.source
        self.namespace = first("default-namespace")
        return first("data-version", "version", "date")

    def read_stanza(self, stanza: _Stanza) -> str:
        """Take in a stanza; returns why it is not kept as a concept, or the empty string."""
        if stanza.kind == "Typedef":
            name = (stanza.values("name") or [""])[0]
            self.relation_names[stanza.id()] = "_".join(name.split()) or stanza.id()
            return "relation definition, not a concept"
        if stanza.kind == "Term":
            return self._read_term(stanza)
        return "instance, not a concept" if stanza.kind == "Instance" else "stanza of an unknown kind"

    def _read_term(self, term: _Stanza) -> str:
        identifier = term.id()
        if identifier in self.lines:
            raise _Malformed(term.line, f"a term already defined at line {self.lines[identifier]}", identifier)
        parents = term.ids("is_a")
        relationships = [_relationship(value, line) for value, line in term.clauses_of("relationship")]
        names = _names(identifier, term)
        definitions = [_quoted(value, line)[0] for value, line in term.clauses_of("def")]
        former = term.ids("alt_id")
        successors = list(dict.fromkeys(term.ids("replaced_by")))
        self.lines[identifier] = term.line
        if term.is_true("is_obsolete"):
            # Several successors mean that each use has to be judged anew: there is no one successor to map it to.
            successor = successors[0] if len(successors) == 1 else None
            reason = "obsolete term, several replacements" if len(successors) > 1 else "obsolete term"
            for retired in dict.fromkeys([identifier, *former]):
                self.rows.add("retired", retired, successor, reason)
            return "obsolete term"
        if term.is_true("is_anonymous"):
            return "anonymous term"
        for retired in dict.fromkeys(former):
            self.rows.add("retired", retired, identifier, "alternative id")
        self.rows.add(
            "concepts",
            identifier,
            names[0][0],
            self._types(identifier, term),
            " ".join(definitions) or None,
            self.source,
        )
        for name, kind, suppressed in names:
            self.rows.add("names", identifier, name, kind, "en", self.source, suppressed)
        for parent in parents:
            self.rows.add("triples", identifier, "is_a", parent, self.source, "")
        self.relationships += [(identifier, relation, tail) for relation, tail in relationships]
        return ""

    def _types(self, identifier: str, term: _Stanza) -> list[str]:
        prefix, colon, _ = identifier.partition(":")
        if prefix == "HP" and colon:
            return ["Phenotype"]
        own = next((value for value in term.values("namespace") if value), self.namespace)
        return [own or prefix] if own or colon else []

    def add_relationships(self) -> None:
        for head, relation, tail in self.relationships:
            self.rows.add("triples", head, self.relation_names.get(relation, relation), tail, self.source, "")


def _names(identifier: str, term: _Stanza) -> list[tuple[str, str, bool]]:
    """Name, kind and suppression, the preferred name first; a nameless term goes by its id."""
    names = [name for name in term.values("name") if name] or [identifier]
    found = {(name, "preferred" if rank == 0 else "exact"): False for rank, name in enumerate(names)}
    for tag, scope in _SYNONYM_TAGS.items():
        for value, line in term.clauses_of(tag):
            name, rest = _quoted(value, line)
            words = rest.partition("[")[0].split()
            kind = _SCOPES.get(words[0].upper(), scope) if words else scope
            if name:
                found.setdefault((name, kind), "obsolete_synonym" in words)
    return [(name, kind, suppressed) for (name, kind), suppressed in found.items()]


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
    if not match:
        raise _Malformed(line, "a text that is not in quotes", value)
    return _unescape(match[1]).strip(), match[2]


def _relationship(value: str, line: int) -> tuple[str, str]:
    words = _plain(value).split()
    if len(words) != 2:
        raise _Malformed(line, "a relationship without its one target", value)
    return words[0], words[1]


def _identifier(value: str, line: int) -> str:
    identifier = value if _PLAIN_ID.fullmatch(value) else _plain(value)
    if not identifier or any(character.isspace() for character in identifier):
        raise _Malformed(line, "not an id", value)
    return identifier


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), value) if "\\" in value else value
