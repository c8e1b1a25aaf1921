"""OBO graphs: the same rows as from OBO, faults, streaming."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loaders import InputError
from loaders.obo import read_obo
from loaders.obographs import is_obographs, read_obographs
from loaders.ontology import detect_format
from loaders.options import Options
from loaders.owl import read_owl


def without(rows: list[dict[str, Any]], *columns: str) -> list[tuple[str, ...]]:
    return sorted(tuple(f"{row[column]}" for column in row if column not in columns) for row in rows)


@pytest.mark.parametrize("reader, name", [(read_obographs, "mini.json"), (read_owl, "mini.owl")])
def test_three_syntaxes_give_the_same_rows(reader: Any, name: str, tables: Callable[..., Any], mini: Path) -> None:
    theirs, _ = tables(reader, mini / name)
    ours, _ = tables(read_obo, mini / "mini.obo")
    theirs["concepts"] = [{**row, "types": row["types"]} for row in theirs["concepts"]]
    for table in ("names", "triples", "retired", "mappings"):
        assert without(theirs[table]) == without(ours[table]), table
    # OBO states a namespace for the whole file, which types of terms outside of HP go by.
    assert without(theirs["concepts"], "types") == without(ours["concepts"], "types")
    assert {row["id"]: row["types"] for row in theirs["concepts"]}["HP:9000002"] == ["Phenotype"]
    assert {row["id"]: row["types"] for row in theirs["concepts"]}["ZZ:1"] == ["elsewhere"]
    assert theirs["sources"] == [
        {
            "source": "hp",
            "release": "hp/releases/2031-01-01",
            "restriction": None,
            "licence": "https://example.org/licence",
        }
    ]


def test_every_part_is_accounted_for(tables: Callable[..., Any], mini: Path) -> None:
    _, account = tables(read_obographs, mini / "mini.json")
    assert (account.read, account.kept, account.release) == (17, 10, "hp/releases/2031-01-01")
    assert account.dropped == {
        "obsolete term": 3,
        "node without a label, only referred to": 1,
        "relation definition, not a concept": 1,
        "instance, not a concept": 1,
        "relation between relations": 1,
    }


def graph(*nodes: Any, **more: Any) -> str:
    return json.dumps({"graphs": [{"nodes": list(nodes), **more}]})


def test_nodes_without_a_type_are_no_concepts_where_others_have_one(
    write: Callable[..., Path], tables: Callable[..., Any]
) -> None:
    kind_of_synonym = {"id": f"{OBO}hp#layperson", "lbl": "layperson term"}
    rows, account = tables(read_obographs, write(graph({**A, "type": "CLASS"}, kind_of_synonym)))
    assert [row["id"] for row in rows["concepts"]] == ["A:1"]
    assert account.dropped == {"node without a type, where others have one": 1}


def test_names_as_robot_writes_them_for_an_ontology_called_hp_obo(
    write: Callable[..., Path], tables: Callable[..., Any]
) -> None:
    about = {"id": f"{OBO}hp.obo.owl", "meta": {"version": f"{OBO}hp.obo/hp/releases/2025-01-16/hp.obo.owl"}}
    rows, account = tables(read_obographs, write(graph(A, **about)))
    assert rows["sources"][0]["source"] == "hp" and account.release == "hp/releases/2025-01-16"


OBO = "http://purl.obolibrary.org/obo/"
A, B = (
    {"id": f"{OBO}A_1", "lbl": "a"},
    {"id": f"{OBO}B_1", "lbl": "b"},
)


@pytest.mark.parametrize(
    "content, message",
    [
        (graph(), "holds no node"),
        (graph(A)[:-3], "no well-formed JSON"),
        (graph(A, A), r"part 2: a node that is there twice \('A:1'\); mend the file"),
        (graph({"lbl": "a"}), r"no id under 'id'"),
        (graph(A, 3), "a node that is no object"),
        (graph(A, edges=[{"sub": "A:1", "pred": "is_a"}]), "no id under 'obj'"),
        (graph({**A, "meta": {"synonyms": [{"pred": "x"}]}}), "no text under 'val'"),
        (graph({**A, "meta": {"xrefs": "x"}}), "something else where objects are expected"),
        (graph(A, equivalentNodesSets=[{"nodeIds": "x"}]), "set of equals without its ids"),
    ],
)
def test_faults_name_the_file_and_the_cause(
    content: str, message: str, write: Callable[..., Path], tables: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=message):
        tables(read_obographs, write(content))


def test_bad_parts_are_counted_and_left_out(write: Callable[..., Path], tables: Callable[..., Any]) -> None:
    content = graph(A, {"lbl": "x"}, A, B, edges=[{"sub": "A:1"}, {"sub": A["id"], "pred": "is_a", "obj": B["id"]}])
    rows, account = tables(read_obographs, write(content), Options(skip_bad=True))
    assert account.kept == 3 and sum(account.dropped.values()) == 3
    assert [(row["head"], row["tail"]) for row in rows["triples"]] == [("A:1", "B:1")]


def test_inverses_equals_and_matches(write: Callable[..., Path], tables: Callable[..., Any]) -> None:
    relations = [{"id": "http://x.org/r", "lbl": "causes", "type": "PROPERTY"}]
    relations += [{"id": "http://x.org/s", "lbl": "caused by", "type": "PROPERTY"}]
    match = {"pred": "http://www.w3.org/2004/02/skos/core#exactMatch", "val": "MESH:D1"}
    edges = [{"sub": "http://x.org/r", "pred": "inverseOf", "obj": "http://x.org/s"}]
    edges += [{"sub": A["id"], "pred": "http://x.org/r", "obj": B["id"]}]
    nodes = [{**A, "meta": {"basicPropertyValues": [match]}}, B, *relations]
    sets = [{"representativeNodeId": A["id"], "nodeIds": [A["id"], B["id"]]}]
    rows, _ = tables(read_obographs, write(graph(*nodes, edges=edges, equivalentNodesSets=sets)))
    assert rows["inverses"] == [{"relation": "causes", "inverse": "caused_by"}]
    assert [(row["head"], row["relation"], row["tail"]) for row in rows["triples"]] == [("A:1", "causes", "B:1")]
    found = [(row["concept_id"], row["predicate"], row["object"]) for row in rows["mappings"]]
    assert found == [("A:1", "skos:exactMatch", "MESH:D1"), ("A:1", "owl:equivalentClass", "B:1")]


def test_the_format_is_told_by_the_content(mini: Path) -> None:
    assert detect_format(mini / "mini.json") == "obographs" and detect_format(mini / "mini.owl") == "owl"
    assert not is_obographs(['{"subject": "a", "predicate": "b", "object": "graphs"}'])
