"""The OBO reader: escapes, modifiers, scopes, retirement, faults with their lines; obonet as judge on real files."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import InputError
from loaders.obo import _plain, _quoted, read_obo
from loaders.options import Options


@pytest.fixture
def obo(tables: Callable[..., Any], mini: Path) -> Any:
    return tables(read_obo, mini / "mini.obo")


def test_stanzas_are_all_accounted_for(obo: Any) -> None:
    _, account = obo
    assert (account.read, account.kept, account.release) == (10, 5, "hp/releases/2031-01-01")
    assert account.dropped == {
        "obsolete term": 3,
        "relation definition, not a concept": 1,
        "instance, not a concept": 1,
    }


def test_terms_become_concepts(obo: Any) -> None:
    concepts = {row["id"]: row for row in obo[0]["concepts"]}
    assert concepts["HP:9000002"] == {
        "id": "HP:9000002",
        "name": "Wobble of the {left} knee!",
        "types": ["Phenotype"],
        "definition": 'A "wobble" [sic]: back, and\\or forth ! always.',
        "source": "hp",
    }
    assert concepts["HP:9000003"]["name"] == "Knee with a break"
    assert concepts["HP:9000004"]["name"] == "HP:9000004"
    assert concepts["ZZ:1"]["types"] == ["elsewhere"]


def test_names_have_their_scope_and_obsolete_ones_are_suppressed(obo: Any) -> None:
    names = [
        (row["name"], row["kind"], row["suppressed"]) for row in obo[0]["names"] if row["concept_id"] == "HP:9000002"
    ]
    assert names == [
        ("Wobble of the {left} knee!", "preferred", False),
        ("Wobbly knee", "exact", False),
        ('Knee "wobble"', "narrow", False),
        ("Wobbleitis", "exact", True),
        ("Joint trouble", "broad", False),
        ("Bare", "related", False),
        ("Old style", "exact", False),
    ]


def test_facts_point_from_child_to_parent_and_carry_the_relations_name(obo: Any) -> None:
    assert [(row["head"], row["relation"], row["tail"]) for row in obo[0]["triples"]] == [
        ("HP:9000002", "is_a", "HP:9000001"),
        ("HP:9000003", "is_a", "HP:9000001"),
        ("HP:9000004", "is_a", "HP:9000002"),
        ("HP:9000002", "part_of", "HP:9000003"),
        ("HP:9000002", "precedes", "HP:9000004"),
    ]


def test_former_ids_are_retired_to_their_one_successor(obo: Any) -> None:
    assert [tuple(row.values()) for row in obo[0]["retired"]] == [
        ("HP:9000020", "HP:9000002", "alternative id"),
        ("HP:9000021", "HP:9000002", "alternative id"),
        ("HP:9000005", "HP:9000002", "obsolete term"),
        ("HP:9000025", "HP:9000002", "obsolete term"),
        ("HP:9000006", None, "obsolete term"),
        ("HP:9000007", None, "obsolete term, several replacements"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: gzip.compress(raw),
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.rstrip(b"\n"),
    ],
)
def test_packing_marks_and_line_ends_change_nothing(
    change: Callable[[bytes], bytes], obo: Any, tables: Callable[..., Any], mini: Path, write: Callable[..., Path]
) -> None:
    path = write(change((mini / "mini.obo").read_bytes()))
    assert tables(read_obo, path)[0] == obo[0]


BAD = {
    "[Term]\nid: A:1\nname: a\nno tag here\n": (4, "a line without a tag and a colon"),
    "[Term]\nname: a\n": (1, "a [Term] stanza without an id"),
    "[Term]\nid: A:1\nid: A:2\n": (3, "a second id"),
    "[Term]\nid: A:1\n\n[Term]\nid: A:1\n": (4, "already defined at line 1"),
    "[Term]\nid: A:1\ndef: no quotes []\n": (3, "not in quotes"),
    '[Term]\nid: A:1\ndef: "never closed []\n': (3, "not in quotes"),
    "[Term]\nid: A:1\nsynonym: bare EXACT []\n": (3, "not in quotes"),
    "[Term]\nid: A:1\nis_a: A:2 A:3\n": (3, "not an id"),
    "[Term]\nid: A:1\nis_a:\n": (3, "not an id"),
    "[Term]\nid: A:1\nrelationship: part_of\n": (3, "without its one target"),
    "[Term\nid: A:1\n": (1, "a line without a tag"),
    "[Term]\nid: A:1\nname: cut off\\": (3, "cuts off"),
    b"[Term]\nid: A:1\nname: caf\xe9\n": (3, "not UTF-8"),
}


@pytest.mark.parametrize("content", BAD)
def test_faults_name_file_and_line_and_can_be_skipped(
    content: str | bytes, tables: Callable[..., Any], write: Callable[..., Path]
) -> None:
    line, message = BAD[content]
    path = write(content)
    with pytest.raises(InputError, match=message.replace("[", r"\[")) as caught:
        tables(read_obo, path)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{path}, line {line}: ") and "\n" not in str(caught.value)
    good = b"\n\n[Term]\nid: A:9\nname: good\n"
    raw = content if isinstance(content, bytes) else content.encode()
    if b"already" in message.encode() or raw.endswith(b"\\"):
        return
    rows, account = tables(read_obo, write(raw + good), options=Options(skip_bad=True))
    assert [row["id"] for row in rows["concepts"]] == ["A:9"]
    assert sum(account.dropped.values()) == 1 and all(reason.startswith("malformed: ") for reason in account.dropped)


def test_a_file_without_terms_is_refused(tables: Callable[..., Any], write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no \[Term\]"):
        tables(read_obo, write("format-version: 1.2\n"))


def test_line_separators_inside_a_value_stay_there(tables: Callable[..., Any], write: Callable[..., Path]) -> None:
    rows, _ = tables(read_obo, write("[Term]\nid: A:1\nname: a\u2028b\u0085c\x0bd\re\n"))
    assert rows["concepts"][0]["name"] == "a\u2028b\u0085c\x0bd\re"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_an_escaped_text_comes_back(text: str) -> None:
    escaped = "".join({"\n": "\\n", "\t": "\\t", " ": "\\W"}.get(c, "\\" + c if not c.isalnum() else c) for c in text)
    assert _quoted(f'"{escaped}" EXACT []', 1)[0] == text.strip()
    assert _plain(escaped) == text


@pytest.mark.parametrize("name", ["hp", "symp", "DO_rare_slim", "DO_infectious_disease_slim", "DO_cancer_slim"])
def test_obonet_reads_the_same(name: str, request: pytest.FixtureRequest, tables: Callable[..., Any]) -> None:
    obonet = pytest.importorskip("obonet")
    path = (
        request.getfixturevalue("hpo") / "hp.obo"
        if name == "hp"
        else request.getfixturevalue("data")(f"graph/obo/{name}.obo")
    )
    graph = obonet.read_obo(path)
    rows, _ = tables(read_obo, path)
    assert {row["id"]: row["name"] for row in rows["concepts"]} == dict(graph.nodes(data="name"))
    assert {(row["head"], row["relation"], row["tail"]) for row in rows["triples"]} == {
        (head, relation, tail) for head, tail, relation in graph.edges(keys=True)
    }
    synonyms = sum(len(term.get("synonym", ())) for _, term in graph.nodes(data=True))
    repeated = synonyms - sum(row["kind"] != "preferred" for row in rows["names"])
    assert 0 <= repeated < 0.01 * synonyms
    defined = {identifier for identifier, term in graph.nodes(data=True) if "def" in term}
    assert {row["id"] for row in rows["concepts"] if row["definition"]} == defined


def test_cross_references_and_inverse_relations(tables: Callable[..., Any], write: Callable[..., Path]) -> None:
    text = (
        "format-version: 1.4\nontology: x\ndata-version: 7\n\n[Term]\nid: X:1\nname: one\n"
        'xref: SNOMEDCT_US_2025_09_01:12 "a description" {source="y"}\nxref: UMLS:C0000005\n'
        "property_value: skos:exactMatch MSH:D1\nproperty_value: comment skos:exactMatch\n\n"
        "[Typedef]\nid: part_of\nname: part of\ninverse_of: has_part\n\n"
        "[Typedef]\nid: has_part\nname: has part\n\n[Typedef]\nid: near\nis_symmetric: true\n"
    )
    rows, _ = tables(read_obo, write(text))
    assert [(row["predicate"], row["object"]) for row in rows["mappings"]] == [
        ("xref", "SNOMEDCT:12"),
        ("xref", "C0000005"),
        ("skos:exactMatch", "MESH:D1"),
    ]
    assert [tuple(row.values()) for row in rows["inverses"]] == [("part_of", "has_part"), ("near", "near")]
    assert rows["sources"] == [{"source": "x", "release": "7", "restriction": None, "licence": None}]


@pytest.mark.parametrize(
    ("name", "xrefs"),
    [
        ("symp.obo", 552),
        ("DO_rare_slim.obo", 16_802),
        ("DO_infectious_disease_slim.obo", 2_358),
        ("DO_cancer_slim.obo", 3_019),
    ],
)
def test_the_published_counts_of_cross_references(name: str, xrefs: int, data: Any, tables: Callable[..., Any]) -> None:
    path = data(f"graph/obo/{name}")
    rows, _ = tables(read_obo, path)
    stanzas = path.read_text().split("\n\n[")
    lines = [[line for line in stanza.split("\n") if line.startswith("xref: ")] for stanza in stanzas]
    assert sum(map(len, lines)) == xrefs
    live = [set(found) for found, stanza in zip(lines, stanzas, strict=True) if "is_obsolete: true" not in stanza]
    assert sum(row["predicate"] == "xref" for row in rows["mappings"]) == sum(map(len, live))


@pytest.mark.parametrize(
    ("name", "terms", "obsolete", "parents", "synonyms", "definitions"),
    [
        ("symp", 1_020, 125, 898, 274, 435),
        ("DO_rare_slim", 3_460, 2, 1_609, 8_661, 3_283),
        ("DO_infectious_disease_slim", 536, 0, 498, 999, 514),
        ("DO_cancer_slim", 730, 1, 657, 1_265, 582),
    ],
)
def test_the_published_counts_of_terms(
    name: str, terms: int, obsolete: int, parents: int, synonyms: int, definitions: int, data: Any, tables: Any
) -> None:
    """Published are lines, of obsolete terms too, and synonyms that are there twice, which the graph does not hold."""
    path = data(f"graph/obo/{name}.obo")
    stanzas = [stanza for stanza in path.read_text().split("\n\n[") if stanza.startswith("Term]")]
    live = [stanza for stanza in stanzas if "\nis_obsolete: true" not in stanza]
    rows, account = tables(read_obo, path)
    assert (len(stanzas), account.dropped["obsolete term"]) == (terms, obsolete)
    assert account.kept == terms - obsolete == len(rows["concepts"])
    for tag, published in (("is_a: ", parents), ("synonym: ", synonyms), ("def: ", definitions)):
        assert sum(stanza.count(f"\n{tag}") for stanza in stanzas) == published
    assert sum(row["relation"] == "is_a" for row in rows["triples"]) == parents
    assert sum(row["definition"] is not None for row in rows["concepts"]) == sum("\ndef: " in s for s in live)
    # The text and the scope of a synonym, without type, references and modifiers.
    stated = [set(re.findall(r'^synonym: "((?:[^"\\]|\\.)*)" ([A-Z]+)', stanza, re.MULTILINE)) for stanza in live]
    assert sum(row["kind"] != "preferred" for row in rows["names"]) == sum(map(len, stated))
