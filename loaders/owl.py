"""OWL ontologies in RDF/XML (hp.owl, mondo.owl, efo.owl), read as a stream, one class in memory at a time.

A class with a label is a concept; `subClassOf` a named class is `is_a`, `subClassOf` a restriction (some, or a value)
is a fact of that property. Equivalences to expressions, unions and the like state no facts between concepts and are
not read. Names and definitions are taken from the properties that OBO ontologies, EFO, ORDO and SKOS use for them.

Format: https://www.w3.org/TR/owl2-mapping-to-rdf/ and https://www.w3.org/TR/rdf-syntax-grammar/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from loaders.errors import InputError
from loaders.lines import open_bytes, reading
from loaders.options import DEFAULTS, Options
from loaders.tables import Account, Batch
from loaders.terms import (
    LANGUAGE,
    OBSOLETE_SYNONYM,
    Ontology,
    Term,
    is_licence,
    match_predicate,
    release_name,
    source_name,
    term_id,
)

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_RDFS = "{http://www.w3.org/2000/01/rdf-schema#}"
_OWL = "{http://www.w3.org/2002/07/owl#}"
_OIO = "{http://www.geneontology.org/formats/oboInOwl#}"
_OBO = "{http://purl.obolibrary.org/obo/}"
_SKOS = "{http://www.w3.org/2004/02/skos/core#}"
_EFO = "{http://www.ebi.ac.uk/efo/}"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

_LABELS = (f"{_RDFS}label", f"{_SKOS}prefLabel")
_SYNONYMS = {
    f"{_OIO}hasExactSynonym": "exact",
    f"{_OIO}hasNarrowSynonym": "narrow",
    f"{_OIO}hasBroadSynonym": "broad",
    f"{_OIO}hasRelatedSynonym": "related",
    f"{_OBO}IAO_0000118": "exact",
    f"{_SKOS}altLabel": "exact",
    f"{_EFO}alternative_term": "exact",
}
_DEFINITIONS = (f"{_OBO}IAO_0000115", f"{_SKOS}definition", f"{_EFO}definition")
_PROPERTIES = (f"{_OWL}ObjectProperty", f"{_OWL}AnnotationProperty", f"{_OWL}DatatypeProperty")
_SYMMETRIC = "http://www.w3.org/2002/07/owl#SymmetricProperty"
_FILLERS = (f"{_OWL}someValuesFrom", f"{_OWL}hasValue")
# What a file can be instead, by how it begins, and what it is called.
_OTHERS = {
    "Prefix(": "functional syntax",
    "Ontology(": "functional syntax",
    "@prefix": "Turtle",
    "Prefix:": "Manchester",
}
_WRAPPED = re.compile(r"(?<!\s)\s*\n[ \t]+")  # a text that goes on in an indented line of the file
_CONVERT = "convert it to RDF/XML, OBO or OBO JSON first (`robot convert`)"


def read_owl(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts, names, triples and retired ids of an OWL file; the account counts the elements below the root.

    What becomes of the terms is told in `loaders.terms`. A class without a label is one of another ontology that is
    only referred to, and dropped; so are properties, individuals, and annotations of axioms, of which only the types of
    synonyms are heeded.

    Raises:
        InputError: no well-formed XML, or OWL in another syntax; a class whose id is none (with `options.skip_bad` it
            is counted and left out). Always: no class at all.
    """
    reading = _Reading(Ontology(source_name(path.name.removesuffix(".gz"))))
    for element in _elements(path):
        try:
            dropped = reading.read(element)
        except _Fault as fault:
            if not options.skip_bad:
                raise InputError(path, None, f"{fault}; mend the file, or skip bad classes") from None
            dropped = f"malformed: {fault.reason}"
        if dropped:
            account.drop(dropped)
        else:
            account.keep()
        yield from reading.ontology.rows.full()
    reading.settle()
    if not reading.classes:
        raise InputError(path, None, "holds no class; an ontology is expected")
    account.release = release_name(reading.version, reading.ontology.source)
    reading.ontology.finish(account.release)
    yield from reading.ontology.rows.rest()


def is_owl(head: list[str]) -> bool:
    """Whether the first lines of a file are those of an OWL ontology, in whatever syntax."""
    text = "\n".join(head)
    return "http://www.w3.org/2002/07/owl#" in text and (
        "<rdf:RDF" in text or "<Ontology" in text or _other(text) != ""
    )


def _other(text: str) -> str:
    """The name of another syntax that a text is in."""
    return next((name for start, name in _OTHERS.items() if text.lstrip("\ufeff \n\r\t").startswith(start)), "")


class _Fault(Exception):
    """What is wrong with a class; `reason` without the particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail[:80]!r})" if detail else reason)
        self.reason = reason


@dataclass
class _Reading:
    """What has been read so far. The last class waits for the annotations of its axioms, which follow it."""

    ontology: Ontology
    version: str = ""
    classes: set[str] = field(default_factory=set)
    waiting: Term | None = None

    def read(self, element: Element) -> str:
        """Take in an element below the root; returns why it is not kept as a concept, or the empty string."""
        kind = _kind(element)
        if kind == f"{_OWL}Axiom":
            return self._axiom(element)
        if kind == f"{_OWL}Class" or kind == f"{_RDFS}Class":
            return self._class(element)
        if kind == f"{_OWL}Ontology":
            return self._header(element)
        if kind in _PROPERTIES:
            return self._property(element)
        return "instance, not a concept" if kind == f"{_OWL}NamedIndividual" else "element of another kind"

    def settle(self) -> None:
        """Add the class that waits."""
        if self.waiting is not None:
            self.ontology.add(self.waiting)
        self.waiting = None

    def _header(self, element: Element) -> str:
        self.ontology.source = source_name(_about(element)) or self.ontology.source
        for child in element:
            value = _value(child)
            if child.tag == f"{_OWL}versionIRI" or (child.tag == f"{_OWL}versionInfo" and not self.version):
                self.version = value
            elif child.tag == f"{_OIO}default-namespace":
                self.ontology.namespace = value
            elif is_licence(child.tag.strip("{").replace("}", "")):
                self.ontology.licence = value
        return "ontology header, read as such"

    def _property(self, element: Element) -> str:
        if id := _about(element):
            label = next((_value(child) for child in element if child.tag == _LABELS[0]), "")
            self.ontology.name_relation(term_id(id), label)
            self.ontology.inverses += [
                (term_id(id), term_id(other)) for other in _resources(element, f"{_OWL}inverseOf")
            ]
            if _SYMMETRIC in _resources(element, f"{_RDF}type"):
                self.ontology.inverses.append((term_id(id), term_id(id)))
        return "relation definition, not a concept"

    def _class(self, element: Element) -> str:
        iri = _about(element)
        if not iri:
            return "anonymous term"
        self.settle()
        term = _term(_id(iri), element)
        if not term.names:
            if not term.obsolete and term.id not in self.classes:
                return "class without a label, only referred to"
            term.names = [(term.id, "preferred", LANGUAGE, False)]
        self.classes.add(term.id)
        if term.obsolete:
            return self.ontology.add(term)
        self.waiting = term
        return ""

    def _axiom(self, element: Element) -> str:
        """An annotation of a statement: whether a synonym of the class just read is obsolete."""
        about = {child.tag: _value(child) for child in element}
        types = [term_id(_value(child)) for child in element if child.tag == f"{_OIO}hasSynonymType"]
        source, term = term_id(about.get(f"{_OWL}annotatedSource", "")), self.waiting
        if term is not None and term.id == source and OBSOLETE_SYNONYM in types:
            text = about.get(f"{_OWL}annotatedTarget", "")
            term.names = [(*name[:3], name[3] or (name[0] == text and name[1] != "preferred")) for name in term.names]
        return "annotation of an axiom"


def _term(id: str, element: Element) -> Term:
    names, synonyms, alike = [], [], []
    term = Term(id, names=[])
    for child in element:
        value = _value(child)
        if child.tag in _LABELS and value:
            names.append((value, child.get(_LANG, LANGUAGE)[:2].lower()))
        elif child.tag in _SYNONYMS and value:
            synonyms.append((value, _SYNONYMS[child.tag], child.get(_LANG, LANGUAGE)[:2].lower(), False))
        elif child.tag in _DEFINITIONS and value:
            term.definitions.append(value)
        elif child.tag == f"{_RDFS}subClassOf":
            _add_super(term, child)
        elif child.tag == f"{_OIO}hasDbXref" and value:
            term.mappings.append(("xref", value))
        elif child.tag == f"{_OIO}hasAlternativeId" and value:
            term.former.append(term_id(value))
        elif child.tag == f"{_OBO}IAO_0100001" and value:
            term.successors.append(term_id(value))
        elif child.tag == f"{_OIO}hasOBONamespace":
            term.namespace = value
        elif child.tag == f"{_OWL}deprecated":
            term.obsolete = value.lower() in ("true", "1")
        elif child.tag == f"{_OWL}equivalentClass" and child.get(f"{_RDF}resource"):
            alike.append(("owl:equivalentClass", value))
        elif value and (predicate := match_predicate(child.tag.strip("{").replace("}", ""))):
            alike.append((predicate, value))
    term.mappings += alike
    # The preferred name is the first English label; further labels are names in their own right.
    names.sort(key=lambda name: name[1] != LANGUAGE)
    term.names = [(text, "exact" if rank else "preferred", lang, False) for rank, (text, lang) in enumerate(names)]
    term.names += synonyms if term.names else []
    return term


def _add_super(term: Term, child: Element) -> None:
    if parent := child.get(f"{_RDF}resource"):
        term.parents.append(_id(parent))
        return
    for restriction in child.findall(f"{_OWL}Restriction"):
        on = _resources(restriction, f"{_OWL}onProperty")
        for filler in _FILLERS:
            term.relationships += [
                (term_id(name), _id(tail)) for name in on for tail in _resources(restriction, filler)
            ]
    for named in child.findall(f"{_OWL}Class"):
        if parent := _about(named):
            term.parents.append(_id(parent))


def _kind(element: Element) -> str:
    """The type of what an element describes: its tag, or what `rdf:type` says of an `rdf:Description`."""
    if element.tag != f"{_RDF}Description":
        return element.tag
    types = _resources(element, f"{_RDF}type")
    return next((f"{_OWL}{t.rpartition('#')[2]}" for t in types if t.startswith(_OWL.strip("{}"))), element.tag)


def _about(element: Element) -> str:
    return element.get(f"{_RDF}about") or element.get(f"{_RDF}ID") or ""


def _id(iri: str) -> str:
    id = term_id(iri)
    if not id or any(map(str.isspace, id)):
        raise _Fault("not an id", iri)
    return id


def _value(element: Element) -> str:
    """What a property says: the IRI it points to, or its text, put together where it is wrapped."""
    return element.get(f"{_RDF}resource") or _WRAPPED.sub(" ", element.text or "").strip()


def _resources(element: Element, tag: str) -> list[str]:
    found = [child.get(f"{_RDF}resource") or "" for child in element.findall(tag)]
    return [iri for iri in found if iri]


def _elements(path: Path) -> Iterator[Element]:
    """The elements below the root, each emptied when the next is asked for.

    The parser fetches nothing from outside and stops at entities that blow up.
    """
    with open_bytes(path) as opened, reading(path):
        start = opened.read(4096).decode("utf-8", "replace")
        if other := _other(start):
            raise InputError(path, None, f"OWL in {other}; {_CONVERT}")
        opened.seek(0)
        try:
            events = ElementTree.iterparse(opened, events=("start", "end"))
            root = next(events)[1]
            if root.tag != f"{_RDF}RDF":
                raise InputError(path, None, f"the root is <{root.tag.rpartition('}')[2]}>, not RDF; {_CONVERT}")
            depth = 1
            for event, element in events:
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1:
                    yield element
                    root.clear()
        except ElementTree.ParseError as error:
            raise InputError(path, error.position[0], f"no well-formed XML ({error}); fetch the file anew") from error
        except (ValueError, LookupError) as error:  # an encoding that there is not
            raise InputError(path, None, f"cannot be read as XML ({error}); convert it to UTF-8") from error
