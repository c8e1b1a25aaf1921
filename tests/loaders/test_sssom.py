"""SSSOM: both ends, prefixes, what is left out, faults; and what a graph makes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kg
from loaders import InputError
from loaders.ontology import detect_format
from loaders.options import Options
from loaders.sssom import read_sssom


def test_mappings_from_both_ends(tables: Callable[..., Any], mini: Path) -> None:
    rows, account = tables(read_sssom, mini / "mini.sssom.tsv")
    assert detect_format(mini / "mini.sssom.tsv") == "sssom"
    assert (account.read, account.kept, account.release) == (6, 3, "2031-01-01")
    assert account.dropped == {"negated mapping": 1, "no term found": 1, "predicate that is no match": 1}
    found = [(row["concept_id"], row["predicate"], row["object"]) for row in rows["mappings"]]
    assert found == [
        ("HP:9000002", "skos:exactMatch", "MESH:D000001"),
        ("HP:9000003", "skos:broadMatch", "MESH:D000002"),
        ("HP:9000004", "xref", "ICD10CM:A00.0"),
        ("MESH:D000001", "skos:exactMatch", "HP:9000002"),
        ("MESH:D000002", "skos:narrowMatch", "HP:9000003"),
        ("ICD10CM:A00.0", "xref", "HP:9000004"),
    ]
    evidence = '{"confidence": "0.9", "mapping_justification": "semapv:ManualMappingCuration"}'
    assert rows["mappings"][0]["evidence"] == evidence
    licence = "https://example.org/licence"
    assert rows["sources"] == [{"source": "invented", "release": "2031-01-01", "restriction": None, "licence": licence}]


HEADER = "subject_id\tpredicate_id\tobject_id\n"


@pytest.mark.parametrize(
    "content, message",
    [
        ("# only: comments\n", "holds no table"),
        ("subject_id\tobject_id\n", r"line 1: no SSSOM header \(missing: predicate_id\)"),
        ("#a: [\n" + HEADER, "no YAML"),
        (HEADER.strip() + "\tobject_id\n", "is there twice"),
        (HEADER + "A:1\tskos:exactMatch\n", "line 2"),
        (HEADER + "A:1\t\tB:1\n", "line 2: a mapping without a predicate_id; mend the line"),
    ],
)
def test_faults_name_file_line_and_cause(
    content: str, message: str, write: Callable[..., Path], tables: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=message):
        tables(read_sssom, write(content))


def test_bad_rows_are_counted(write: Callable[..., Path], tables: Callable[..., Any]) -> None:
    content = HEADER + "A:1\t\tB:1\nA:1\tskos:exactMatch\nA:1\tskos:closeMatch\tB:1\n"
    rows, account = tables(read_sssom, write(content), Options(skip_bad=True))
    assert (account.read, account.kept, len(rows["mappings"])) == (3, 1, 2)


@pytest.mark.parametrize("mappings, concepts", [("keep", 4), ("same_as", 4), ("merge", 3)])
def test_mappings_join_two_vocabularies(mappings: str, concepts: int, tmp_path: Path) -> None:
    for name in "AB":
        (tmp_path / f"{name}.obo").write_text(f"[Term]\nid: {name}:1\nname: one\n\n[Term]\nid: {name}:2\nname: two\n")
    (tmp_path / "a.sssom.tsv").write_text(HEADER + "B:1\tskos:exactMatch\tA:1\nB:2\tskos:narrowMatch\tA:2\n")
    sources = [tmp_path / name for name in ("A.obo", "B.obo", "a.sssom.tsv")]
    kg.build(sources, tmp_path / "graph", mappings=mappings)
    with kg.connect(tmp_path / "graph") as graph:
        assert len(graph.concepts()) == concepts
        facts = [tuple(triple) for triple in graph.triples()]
        assert facts == ([("A:1", "same_as", "B:1")] if mappings == "same_as" else [])
        assert graph.concept("B:1").name == "one"
        assert graph.concept("B:1").id == ("A:1" if mappings == "merge" else "B:1")
