"""Terms of an ontology, whichever of OBO's three syntaxes they were read from, and the tables that they become.

Every term in use is a concept. HPO terms have the type `Phenotype`, others their namespace, or the prefix of their id.
A relation is called by the name that its definition gives it, spaces as underscores; where a pair of relations are each
other's inverse, the one that the file uses more often is kept.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from loaders.identifiers import normal_id
from loaders.tables import Rows

OBSOLETE = "obsolete term"
ALTERNATIVE = "alternative id"
OBSOLETE_SYNONYM = "obsolete_synonym"  # a type of synonyms
LANGUAGE = "en"  # of text that does not say: ontologies of the OBO Foundry are written in English
# SKOS matches and their like: statements that a term is something in another vocabulary.
MATCHES = frozenset(
    {"skos:exactMatch", "skos:closeMatch", "skos:broadMatch", "skos:narrowMatch", "skos:relatedMatch", "owl:sameAs"}
)
_LICENCES = frozenset({"dcterms:license", "terms:license", "dc:license", "dce:license", "license"})
_OBO = "http://purl.obolibrary.org/obo/"
_FRAGMENT = re.compile(re.escape(_OBO) + r"[^#]*#(\S+)")
_ENDING = r"(?:\.(?:obo|owl|ofn|json))+"


@dataclass(slots=True)
class Term:
    """What a file says of one term; `names` are text, kind, language and suppression, the preferred one first."""

    id: str
    names: list[tuple[str, str, str, bool]]
    definitions: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    relationships: list[tuple[str, str]] = field(default_factory=list)
    mappings: list[tuple[str, str]] = field(default_factory=list)
    former: list[str] = field(default_factory=list)
    successors: list[str] = field(default_factory=list)
    namespace: str = ""
    obsolete: bool = False


@dataclass
class Ontology:
    """The rows of an ontology; relationships and retired ids wait for the end, when all that bears on them is known."""

    source: str
    namespace: str = ""
    licence: str = ""
    rows: Rows = field(default_factory=Rows)
    relation_names: dict[str, str] = field(default_factory=dict)
    inverses: list[tuple[str, str]] = field(default_factory=list)
    _relationships: list[tuple[str, str, str]] = field(default_factory=list)
    _retired: dict[str, tuple[str | None, str]] = field(default_factory=dict)

    def name_relation(self, id: str, name: str) -> None:
        """What to call a relation; its id if it has no name."""
        self.relation_names[id] = "_".join(name.split()) or id

    def add(self, term: Term) -> str:
        """Take in a term; returns why it is not kept as a concept, or the empty string."""
        if term.obsolete:
            self._retire(term)
            return OBSOLETE
        for id in term.former:
            self._rename(id, term.id)
        add, source = self.rows.add, self.source
        definition = term.definitions[0] if term.definitions else None
        add("concepts", term.id, term.names[0][0], self._types(term), definition, source)
        if len(term.definitions) > 1:
            for text in dict.fromkeys(term.definitions):
                add("attributes", term.id, "definition", text, source)
        found: dict[tuple[str, str, str], bool] = {}
        for name, kind, language, suppressed in term.names:
            found.setdefault((name, kind, language), suppressed)
        for (name, kind, language), suppressed in found.items():
            add("names", term.id, name, kind, language, source, suppressed)
        for predicate, other in dict.fromkeys(term.mappings):
            add("mappings", term.id, predicate, normal_id(other), source, "")
        for parent in dict.fromkeys(term.parents):
            add("triples", term.id, "is_a", parent, source, "")
        self._relationships += [(term.id, relation, tail) for relation, tail in dict.fromkeys(term.relationships)]
        return ""

    def relate(self, head: str, relation: str, tail: str) -> None:
        """A fact of a format that keeps facts apart from terms."""
        if relation == "is_a":
            self.rows.add("triples", head, relation, tail, self.source, "")
        else:
            self._relationships.append((head, relation, tail))

    def finish(self, release: str) -> None:
        """Add what had to wait: facts, inverse relations, retired ids, what is known of the source."""
        uses: Counter[str] = Counter()
        for head, relation, tail in self._relationships:
            relation = self.relation_names.get(relation, relation)
            uses[relation] += 1
            self.rows.add("triples", head, relation, tail, self.source, "")
        pairs = set()
        for one, other in self.inverses:
            one, other = self.relation_names.get(one, one), self.relation_names.get(other, other)
            kept, inverse = (one, other) if uses[one] >= uses[other] else (other, one)
            if frozenset((one, other)) not in pairs:
                pairs.add(frozenset((one, other)))
                self.rows.add("inverses", kept, inverse)
        for id, (successor, reason) in self._retired.items():
            self.rows.add("retired", id, successor, reason)
        self.rows.add("sources", self.source, release or None, None, self.licence or None)

    def _retire(self, term: Term) -> None:
        # Several successors mean that each use has to be judged anew: there is no one successor to map it to.
        successors = list(dict.fromkeys(term.successors))
        successor = successors[0] if len(successors) == 1 else None
        reason = "obsolete term, several replacements" if len(successors) > 1 else OBSOLETE
        for id in (term.id, *term.former):
            # An id that a living term calls its former one is just that, though the file has a stanza for it too.
            self._retired.setdefault(id, (successor, reason))

    def _rename(self, id: str, successor: str) -> None:
        other, reason = self._retired.get(id, (successor, ""))
        if reason.startswith(ALTERNATIVE) and other != successor:
            self._retired[id] = (None, f"{ALTERNATIVE} of several terms")
        else:
            self._retired[id] = (successor, ALTERNATIVE)

    def _types(self, term: Term) -> list[str]:
        prefix, colon, _ = term.id.partition(":")
        if prefix == "HP" and colon:
            return ["Phenotype"]
        own = term.namespace or self.namespace
        return [own or prefix] if own or colon else []


def term_id(iri: str) -> str:
    """The id of a term or relation from its IRI: a CURIE, the last part for those local to an ontology."""
    local = _FRAGMENT.fullmatch(iri)
    return local[1] if local else normal_id(iri)


def source_name(ontology: str) -> str:
    """The name of an ontology from its IRI or from the header of an OBO file: `hp`, without the ending of a file."""
    return re.sub(f"{_ENDING}$", "", ontology.removeprefix(_OBO))


def release_name(version: str, source: str) -> str:
    """The release from a version IRI, spelled as OBO files spell it: `hp/releases/2025-01-16`."""
    file = f"{re.escape(source)}{_ENDING}"
    return re.sub(f"^{file}/|/{file}$", "", version.removeprefix(_OBO))


def is_licence(predicate: str) -> bool:
    """Whether a property of an ontology, as CURIE or IRI, states its licence."""
    iri = re.fullmatch(r"https?://purl\.org/dc/(?:terms|elements/1\.1)/(\w+)", predicate)
    return predicate in _LICENCES or (iri is not None and iri[1] == "license")


def match_predicate(predicate: str) -> str:
    """The SKOS or OWL predicate of a mapping, from a CURIE, IRI or bare name; empty if it is none."""
    found = normal_id(predicate)
    found = f"skos:{found}" if found.endswith("Match") and ":" not in found else found
    return found if found in MATCHES else ""
