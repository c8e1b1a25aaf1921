"""OBO graphs: ontologies of the OBO Foundry as JSON (hp.json, mondo.json), read as a stream.

Nodes and edges are read one by one, so memory does not grow with the file. Facts point from `sub` to `obj`. Logical
definitions, domain and range axioms and property chains state no facts between concepts and are not read.
Format: https://github.com/geneontology/obographs
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ijson

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

_GRAPH = "graphs.item"
_PARTS = {f"{_GRAPH}.nodes.item": "node", f"{_GRAPH}.edges.item": "edge", f"{_GRAPH}.equivalentNodesSets.item": "set"}
_SCOPES = {
    "hasExactSynonym": "exact",
    "hasNarrowSynonym": "narrow",
    "hasBroadSynonym": "broad",
    "hasRelatedSynonym": "related",
}
_ALTERNATIVE = "hasAlternativeId"
_REPLACED_BY = "IAO_0100001"
_NAMESPACE = "hasOBONamespace"
_NO_FACTS = {"subPropertyOf": "relation between relations", "type": "type of an instance"}


def read_obographs(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts, names, triples and retired ids of an OBO graph; the account counts nodes, edges and sets of equals.

    What becomes of the terms is told in `loaders.terms`. Nodes without a label are terms of other ontologies that are
    only referred to, and are dropped; so are properties and individuals.

    Raises:
        InputError: no well-formed JSON, a node or an edge without what it needs; with `options.skip_bad` such a part is
            counted and left out. Always: no node at all.
    """
    version, source, licence, typed = _header(path)
    reading = _Reading(Ontology(source or source_name(path.name.removesuffix(".gz")), licence=licence), typed)
    account.release = release_name(version, reading.ontology.source)
    for number, (part, value) in enumerate(_parts(path), start=1):
        try:
            dropped = reading.read(part, value)
        except _Fault as fault:
            if not options.skip_bad:
                raise InputError(path, None, f"part {number}: {fault}; mend the file, or skip bad parts") from None
            dropped = f"malformed: {fault.reason}"
        if dropped:
            account.drop(dropped)
        else:
            account.keep()
        yield from reading.ontology.rows.full()
    if not reading.nodes:
        raise InputError(path, None, "holds no node; an ontology as OBO graph is expected")
    reading.ontology.finish(account.release)
    yield from reading.ontology.rows.rest()


def is_obographs(head: list[str]) -> bool:
    """Whether the first lines of a file are those of an OBO graph."""
    text = "\n".join(head).lstrip()
    return text.startswith("{") and '"graphs"' in text and any(f'"{key}"' in text for key in ("nodes", "edges", "meta"))


class _Fault(Exception):
    """What is wrong with a part; `reason` without the particulars."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(f"{reason} ({str(detail)[:80]!r})" if detail else reason)
        self.reason = reason


@dataclass
class _Reading:
    """What has been read so far; `nodes` are the ids of the nodes, `typed` whether the file says which are classes."""

    ontology: Ontology
    typed: bool
    nodes: set[str] = field(default_factory=set)

    def read(self, part: str, value: Any) -> str:
        """Take in a part; returns why it is not kept, or the empty string."""
        if not isinstance(value, dict):
            raise _Fault(f"a {part} that is no object", value)
        return {"node": self._node, "edge": self._edge, "set": self._equals}[part](value)

    def _node(self, node: dict[str, Any]) -> str:
        id, kind = _id(node, "id"), node.get("type") or ("" if self.typed else "CLASS")
        meta = _objects([node.get("meta") or {}])[0]
        properties = [(_text(p, "pred"), _text(p, "val")) for p in _objects(meta.get("basicPropertyValues"))]
        if id in self.nodes:
            raise _Fault("a node that is there twice", id)
        self.nodes.add(id)
        label = node.get("lbl")
        if kind == "PROPERTY":
            self.ontology.name_relation(id, label if isinstance(label, str) else "")
            return "relation definition, not a concept"
        if not kind:  # kinds of synonyms and subsets
            return "node without a type, where others have one"
        if kind != "CLASS":
            return "instance, not a concept"
        obsolete = meta.get("deprecated") is True
        if not isinstance(label, str) or not label.strip():
            if not obsolete:
                return "node without a label, only referred to"
            label = id
        definition = meta.get("definition")
        term = Term(
            id,
            names=[(label, "preferred", LANGUAGE, False), *map(_synonym, _objects(meta.get("synonyms")))],
            definitions=[_text(text, "val") for text in _objects([definition] if definition else [])],
            mappings=[("xref", _text(xref, "val")) for xref in _objects(meta.get("xrefs"))],
            former=[term_id(value) for predicate, value in properties if _local(predicate) == _ALTERNATIVE],
            successors=[term_id(value) for predicate, value in properties if _local(predicate) == _REPLACED_BY],
            namespace=next((value for predicate, value in properties if _local(predicate) == _NAMESPACE), ""),
            obsolete=obsolete,
        )
        term.mappings += [(match_predicate(p), value) for p, value in properties if match_predicate(p)]
        return self.ontology.add(term)

    def _edge(self, edge: dict[str, Any]) -> str:
        head, relation, tail = (_id(edge, key) for key in ("sub", "pred", "obj"))
        if relation == "inverseOf":
            self.ontology.inverses.append((head, tail))
            return "inverse of a relation, read as such"
        if relation in _NO_FACTS:
            return _NO_FACTS[relation]
        self.ontology.relate(head, relation, tail)
        return ""

    def _equals(self, equals: dict[str, Any]) -> str:
        ids = equals.get("nodeIds")
        if not isinstance(ids, list) or not all(isinstance(id, str) and id for id in ids):
            raise _Fault("a set of equals without its ids", equals)
        first, *others = map(term_id, ids or [""])
        for other in others:
            self.ontology.rows.add("mappings", first, "owl:equivalentClass", other, self.ontology.source, "")
        return ""


def _synonym(synonym: dict[str, Any]) -> tuple[str, str, str, bool]:
    kind = _SCOPES.get(_local(_text(synonym, "pred")), "related")
    obsolete = term_id(str(synonym.get("synonymType") or "")) == OBSOLETE_SYNONYM
    return _text(synonym, "val"), kind, LANGUAGE, obsolete


def _local(iri: str) -> str:
    """The last part of an IRI or CURIE, or a bare word."""
    return re.split(r"[#/:]", iri)[-1]


def _id(part: dict[str, Any], key: str) -> str:
    value = part.get(key)
    if not isinstance(value, str) or not value.strip() or any(map(str.isspace, value)):
        raise _Fault(f"no id under {key!r}", value)
    return term_id(value)


def _text(part: dict[str, Any], key: str) -> str:
    value = part.get(key)
    if not isinstance(value, str):
        raise _Fault(f"no text under {key!r}", value)
    return value.strip().encode("utf-8", "replace").decode()


def _objects(values: Any) -> list[dict[str, Any]]:
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise _Fault("something else where objects are expected", values)
    return values


def _header(path: Path) -> tuple[str, str, str, bool]:
    """Version, source and licence by the first graph of the file, and whether it says which nodes are classes."""
    found = {"id": "", "version": "", "licence": ""}
    predicate, typed = "", False
    for prefix, event, value in _events(path):
        if prefix == _GRAPH and event == "end_map":
            break
        if event != "string":
            continue
        if prefix == f"{_GRAPH}.id":
            found["id"] = value
        elif prefix == f"{_GRAPH}.meta.version":
            found["version"] = value
        elif prefix == f"{_GRAPH}.meta.basicPropertyValues.item.pred":
            predicate = value
        elif prefix == f"{_GRAPH}.meta.basicPropertyValues.item.val" and is_licence(predicate):
            found["licence"] = value
        typed = typed or (prefix == f"{_GRAPH}.nodes.item.type" and value == "CLASS")
        if found["id"] and found["version"] and (typed or prefix.startswith(f"{_GRAPH}.edges")):
            break
    return found["version"], source_name(found["id"]), found["licence"], typed


def _parts(path: Path) -> Iterator[tuple[str, Any]]:
    """The nodes, edges and sets of equals of a file, in its order."""
    builder, within = None, ""
    for prefix, event, value in _events(path):
        if builder is None:
            if prefix not in _PARTS:
                continue
            if event not in ("start_map", "start_array"):
                yield _PARTS[prefix], value
                continue
            builder, within = ijson.ObjectBuilder(), prefix
        builder.event(event, value)
        if prefix == within and event in ("end_map", "end_array"):
            yield _PARTS[within], builder.value
            builder = None


def _events(path: Path) -> Iterator[tuple[str, str, Any]]:
    with open_bytes(path) as file, reading(path), _as_input_error(path):
        yield from ijson.parse(file, use_float=True)


@contextmanager
def _as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, None, f"no well-formed JSON ({str(error).splitlines()[0]}); fetch it anew") from error
