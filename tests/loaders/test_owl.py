"""OWL in RDF/XML: what differs from OBO, faults, other syntaxes. That it gives the rows of OBO: test_obographs.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loaders import InputError
from loaders.ontology import detect_format
from loaders.options import Options
from loaders.owl import read_owl

HEAD = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#" '
    'xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:skos="http://www.w3.org/2004/02/skos/core#">'
)


def owl(body: str) -> str:
    return f"{HEAD}{body}</rdf:RDF>"


def named(iri: str, label: str, body: str = "") -> str:
    return f'<owl:Class rdf:about="{iri}"><rdfs:label>{label}</rdfs:label>{body}</owl:Class>'


def test_every_element_is_accounted_for(tables: Callable[..., Any], mini: Path) -> None:
    _, account = tables(read_owl, mini / "mini.owl")
    assert (account.read, account.kept, account.release) == (14, 5, "hp/releases/2031-01-01")
    assert account.dropped == {
        "obsolete term": 3,
        "class without a label, only referred to": 1,
        "relation definition, not a concept": 2,
        "instance, not a concept": 1,
        "annotation of an axiom": 1,
        "ontology header, read as such": 1,
    }


def test_languages_skos_and_what_is_said_elsewhere(write: Callable[..., Path], tables: Callable[..., Any]) -> None:
    body = (
        '<owl:Class rdf:about="http://x.org/A"><skos:prefLabel xml:lang="fr">genou</skos:prefLabel>'
        '<skos:prefLabel xml:lang="en">knee</skos:prefLabel><skos:altLabel>joint of the leg</skos:altLabel>'
        '<skos:exactMatch rdf:resource="http://id.nlm.nih.gov/mesh/D007717"/></owl:Class>'
        '<rdf:Description rdf:about="http://x.org/A"><rdf:type rdf:resource="http://www.w3.org/2002/07/owl#Class"/>'
        '<rdfs:subClassOf rdf:resource="http://x.org/B"/></rdf:Description>' + named("http://x.org/B", "leg")
    )
    rows, account = tables(read_owl, write(owl(body)))
    assert account.kept == 3
    assert [
        (row["name"], row["kind"], row["language"]) for row in rows["names"] if row["name"] != "http://x.org/A"
    ] == [
        ("knee", "preferred", "en"),
        ("genou", "exact", "fr"),
        ("joint of the leg", "exact", "en"),
        ("leg", "preferred", "en"),
    ]
    assert [(row["predicate"], row["object"]) for row in rows["mappings"]] == [("skos:exactMatch", "MESH:D007717")]
    assert [(row["head"], row["tail"]) for row in rows["triples"]] == [("http://x.org/A", "http://x.org/B")]


@pytest.mark.parametrize(
    "content, message",
    [
        (owl(""), "holds no class"),
        (owl(named("http://x.org/A", "a"))[:-5], "line 1: no well-formed XML"),
        (owl(named("http://x.org/A b", "a")), "not an id"),
        ("Prefix(owl:=<http://www.w3.org/2002/07/owl#>)\nOntology(<http://x.org>)", "functional syntax; convert it"),
        ("@prefix owl: <http://www.w3.org/2002/07/owl#> .", "Turtle; convert it"),
        ('<Ontology xmlns="http://www.w3.org/2002/07/owl#"></Ontology>', "root is <Ontology>, not RDF; convert it"),
        (
            '<!DOCTYPE r [<!ENTITY a "'
            + "x" * 100
            + '">'
            + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
            + "]>"
            + owl(named("http://x.org/A", "&i;")),
            "no well-formed XML",
        ),
    ],
)
def test_faults_name_the_file_and_the_cause(
    content: str, message: str, write: Callable[..., Path], tables: Callable[..., Any]
) -> None:
    path = write(content)
    with pytest.raises(InputError, match=message):
        tables(read_owl, path)
    if "DOCTYPE" not in content:
        assert detect_format(path) == "owl"


def test_bad_classes_are_counted_and_left_out(write: Callable[..., Path], tables: Callable[..., Any]) -> None:
    content = owl(named("http://x.org/A b", "a") + named("http://x.org/B", "b"))
    rows, account = tables(read_owl, write(content), Options(skip_bad=True))
    assert [row["id"] for row in rows["concepts"]] == ["http://x.org/B"] and account.dropped == {
        "malformed: not an id": 1
    }


def test_symmetric_and_inverse_properties(write: Callable[..., Path], tables: Callable[..., Any]) -> None:
    body = (
        '<owl:ObjectProperty rdf:about="http://x.org/r"><rdfs:label>near to</rdfs:label>'
        '<rdf:type rdf:resource="http://www.w3.org/2002/07/owl#SymmetricProperty"/></owl:ObjectProperty>'
        '<owl:ObjectProperty rdf:about="http://x.org/s"><owl:inverseOf rdf:resource="http://x.org/t"/>'
        "</owl:ObjectProperty>" + named("http://x.org/A", "a")
    )
    rows, _ = tables(read_owl, write(owl(body)))
    pairs = [(row["relation"], row["inverse"]) for row in rows["inverses"]]
    assert pairs == [("near_to", "near_to"), ("http://x.org/s", "http://x.org/t")]
