"""From dumps to a graph folder: what is merged, dropped, counted, and written whole or not at all."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import kg
from kg.cli import build
from kg.snapshot import StateWriter
from loaders import InputError, MedgraftError
from loaders.folders import only_writer
from loaders.options import Options
from loaders.tables import Rows
from tests.conftest import TINY_SOURCES
from tests.kg.slow_graph import merged


def _merge(mappings_="keep", /, **tables):
    rows = Rows()
    for table, values in tables.items():
        for row in values:
            rows.add(table, *row)
    tables, content = merged(rows.rest(), mappings_)
    return {name: table.to_pylist() for name, table in tables.items()}, content.accounts


CONCEPTS = [("A:1", "one", ["T"], None, "x"), ("A:2", "two", [], None, "x"), ("A:3", "three", [], None, "x")]


def test_a_concept_in_two_sources():
    tables, accounts = _merge(
        concepts=[
            ("A:1", " ", ["T"], None, "x"),
            ("A:1", "uno", ["U", "T"], "def", "y"),
            ("A:1", "eins", [], "other", "a"),
        ],
        names=[("A:1", "eins", "exact", "de", "a", False), ("A:1", "old", "exact", "en", "a", True)],
    )
    assert tables["concepts"] == [
        {
            "id": "A:1",
            "name": "uno",
            "aliases": ["eins"],
            "types": ["T", "U"],
            "definition": "def",
            "sources": ["a", "x", "y"],
        }
    ]
    assert (accounts["concepts"].kept, accounts["concepts"].merged) == (1, 2)


def test_aliases_are_the_other_names_the_best_first():
    kinds = ["related", "broad", "narrow", "exact", "exact", "preferred"]
    names = [("A:1", f"{'zyxwvu'[i]} name", kind, "en", "x", False) for i, kind in enumerate(kinds)]
    tables, _ = _merge(concepts=CONCEPTS, names=[*names, ("A:1", "one", "exact", "en", "x", False)])
    assert tables["concepts"][0]["aliases"] == ["u name", "v name", "w name", "x name", "y name", "z name"]


def test_a_fact_stated_twice_keeps_all_sources_and_evidence():
    tables, accounts = _merge(
        concepts=CONCEPTS,
        triples=[
            ("A:1", "is_a", "A:2", "y", '{"b": 1}'),
            ("A:1", "is_a", "A:2", "x", '{"a": 1}'),
            ("A:1", "is_a", "A:2", "x", '{"a": 1}'),
            ("A:1", "is_a", "A:2", "z", ""),
        ],
    )
    assert tables["triples"] == [
        {
            "head": "A:1",
            "relation": "is_a",
            "tail": "A:2",
            "sources": ["x", "y", "z"],
            "evidence": ['{"a": 1}', '{"b": 1}'],
        }
    ]
    assert accounts["triples"].merged == 3


def test_retired_ids_lead_to_their_last_successor():
    tables, accounts = _merge(
        concepts=CONCEPTS,
        retired=[
            ("A:00", "A:0", "merged"), ("A:0", "A:1", "merged"), ("A:9", None, "obsolete"), ("A:2", "A:1", "wrong"),
            ("A:7", "A:1", "split"), ("A:7", "A:2", "split"), ("A:5", "A:6", "circle"), ("A:6", "A:5", "circle"),
            ("A:8", "A:404", "merged"),
        ],
        triples=[("A:00", "is_a", "A:2", "x", ""), ("A:00", "is_a", "A:1", "x", ""), ("A:3", "is_a", "A:7", "x", "")],
        names=[("A:0", "old name", "exact", "en", "x", False)],
    )  # fmt: skip
    assert {row["id"]: row["successor"] for row in tables["retired"]} == {
        "A:0": "A:1", "A:00": "A:1", "A:5": None, "A:6": None, "A:7": None, "A:8": None, "A:9": None
    }  # fmt: skip
    assert tables["retired"][4]["reason"] == "split; several successors: A:1, A:2"
    assert [(row["head"], row["tail"]) for row in tables["triples"]] == [("A:1", "A:2")]
    assert accounts["triples"].dropped == {
        "head and tail are the same concept": 1,
        "tail is retired without successor": 1,
    }
    assert accounts["retired"].dropped == {"retired id is in use": 1}
    assert tables["concepts"][0]["aliases"] == ["old name"]


def test_what_cannot_stay_is_counted_by_its_reason():
    tables, accounts = _merge(
        concepts=[*CONCEPTS, (None, "nobody", [], None, "x"), ("", "nobody", [], None, "x")],
        triples=[
            ("A:1", "is_a", "A:404", "x", ""), ("A:404", "is_a", "A:1", "x", ""), ("A:1", "", "A:2", "x", ""),
            (None, "is_a", "A:1", "x", ""),
        ],
        exclusions=[("A:1", "is_a", "A:404", "x", "")],
        names=[("A:404", "lost", "exact", "en", "x", False), ("A:1", " ", "exact", "en", "x", False)],
    )  # fmt: skip
    assert not (tables["triples"] or tables["exclusions"] or tables["names"])
    assert accounts["concepts"].dropped == {"concept without id": 2}
    assert accounts["triples"].dropped == {"head is not a concept": 2, "tail is not a concept": 1, "no relation": 1}
    assert accounts["exclusions"].dropped == {"tail is not a concept": 1}
    assert accounts["names"].dropped == {"empty name": 1, "name of an unknown concept": 1}


_ID = st.sampled_from(["A:1", "A:2", "A:3", "A:4", "B:1"])
_FACT = st.tuples(
    _ID, st.sampled_from(["is_a", "r"]), _ID, st.sampled_from("xyz"), st.sampled_from(["", "{}", '{"a":1}'])
)


@settings(deadline=None)
@given(st.lists(_ID, max_size=6), st.lists(_FACT, max_size=25), st.randoms(use_true_random=False))
def test_facts_against_a_slow_loop(ids, facts, random):
    concepts = [(id, id, [], None, "x") for id in ids]
    tables, accounts = _merge(concepts=concepts, triples=facts)
    expected = defaultdict(lambda: (set(), set()))
    dropped = Counter()
    for head, relation, tail, source, evidence in facts:
        if head not in ids:
            dropped["head is not a concept"] += 1
        elif tail not in ids:
            dropped["tail is not a concept"] += 1
        elif head == tail:
            dropped["head and tail are the same concept"] += 1
        else:
            expected[head, relation, tail][0].add(source)
            expected[head, relation, tail][1].update({evidence} - {""})
    found = {
        (row["head"], row["relation"], row["tail"]): (row["sources"], row["evidence"]) for row in tables["triples"]
    }
    assert found == {fact: (sorted(sources), sorted(evidence)) for fact, (sources, evidence) in expected.items()}
    assert list(found) == sorted(found)
    assert accounts["triples"].dropped == dropped
    assert accounts["triples"].read == len(facts) == len(found) + accounts["triples"].merged + dropped.total()
    random.shuffle(facts)
    assert _merge(concepts=concepts, triples=facts)[0] == tables


def test_the_same_inputs_give_the_same_bytes(tiny_graph, tmp_path):
    report = kg.build(TINY_SOURCES, tmp_path / "again")
    for path in [*tiny_graph.glob("*.parquet"), tiny_graph / "manifest.json"]:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert report.fingerprint == json.loads((tiny_graph / "manifest.json").read_text())["fingerprint"]


def test_manifest_and_report_account_for_every_row(tiny_graph, tmp_path):
    report = kg.build(TINY_SOURCES, tmp_path / "graph")
    manifest = json.loads((tiny_graph / "manifest.json").read_text())
    obo, hpoa, genes = manifest["inputs"]
    assert (obo["name"], obo["format"], obo["release"]) == ("tiny.obo", "obo", "tiny/releases/2024-01-01")
    assert "human-phenotype-ontology" in hpoa["licence"] and len(genes["sha256"]) == 64
    for account in (*manifest["inputs"], *manifest["merging"].values()):
        assert account["read"] == account["kept"] + account.get("merged", 0) + sum(account["dropped"].values())
    assert str(tiny_graph.parent) not in json.dumps(manifest)
    assert manifest["merging"]["triples"]["dropped"] == {
        "tail is not a concept": 1,
        "tail is retired without successor": 1,
    }
    assert report.counts == manifest["counts"] and report.counts["relations"]["is_a"] == 7
    assert "tail is retired without successor" in str(report) and "obsolete term" in str(report)


def test_negation_never_becomes_a_triple(tiny_graph):
    with kg.connect(tiny_graph) as graph:
        excluded = {tuple(row[part] for part in ("head", "tail")) for row in graph.table("exclusions").to_pylist()}
        assert excluded == {
            ("OMIM:900001", "TINY:0000004"),
            ("OMIM:900001", "TINY:0000005"),
            ("NCBIGene:901", "TINY:0000004"),
        }
        assert not excluded & {(triple.head, triple.tail) for triple in graph.triples()}


def test_bad_input_leaves_nothing_and_keeps_the_earlier_graph(tmp_path, tiny_graph):
    shutil.copytree(tiny_graph, tmp_path / "graph")
    (tmp_path / "empty.obo").write_text("")
    (tmp_path / "noise.obo").write_bytes(b"\x00\xff" * 100)
    (tmp_path / "header.obo").write_text("format-version: 1.4\n")
    before = sorted({*tmp_path.rglob("*"), tmp_path / ".graph.lock"})
    for name in ("absent.obo", "empty.obo", "noise.obo", "header.obo"):
        with pytest.raises(InputError, match=name):
            kg.build([TINY_SOURCES[0], tmp_path / name], tmp_path / "graph")
    for sources, message in (([], "no sources"), (TINY_SOURCES[1:2], None)):
        if message:
            with pytest.raises(MedgraftError, match=message):
                kg.build(sources, tmp_path / "graph")
    with pytest.raises(MedgraftError, match="no format 'ttl'"):
        kg.build(TINY_SOURCES, tmp_path / "graph", format="ttl")
    assert sorted(tmp_path.rglob("*")) == before
    assert kg.connect(tmp_path / "graph").stats()["triples"] == 14


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(MedgraftError, match="is a folder with other things in it"):
        kg.build(TINY_SOURCES, tmp_path)
    with pytest.raises(MedgraftError, match="is a file"):
        kg.build(TINY_SOURCES, tmp_path / "thesis.txt")
    kg.build(TINY_SOURCES, tmp_path / "graph")
    shutil.copy(TINY_SOURCES[0], tmp_path / "graph")
    with pytest.raises(MedgraftError, match="which the graph would replace"):
        kg.build(tmp_path / "graph" / "tiny.obo", tmp_path / "graph")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".graph.lock", "graph", "thesis.txt"]


@pytest.mark.slow
def test_the_human_phenotype_ontology(hpo_files, tmp_path):
    report = kg.build(hpo_files, tmp_path / "hpo")
    assert report.counts["types"]["Phenotype"] >= 19_000
    assert report.counts["triples"] >= 500_000
    assert report.counts["exclusions"] > 2_700
    with kg.connect(tmp_path / "hpo") as graph:
        assert graph.search("seizure", 1).ids == ["HP:0001250"]
        assert "HP:0000118" in graph.ancestors("HP:0001250")
        assert len(graph.relations("HP:0001250", "has_phenotype")) > 1_000
        assert len(graph.path("NCBIGene:2200", "HP:0000545")) <= 2


def test_one_writer_at_a_time_and_leftovers_of_dead_ones_go(tmp_path):
    (tmp_path / ".graph.building-dead").mkdir()
    with only_writer(tmp_path / "graph"):
        assert not (tmp_path / ".graph.building-dead").exists()
        with pytest.raises(MedgraftError, match="another process is writing .*graph; wait"):
            kg.build(TINY_SOURCES, tmp_path / "graph")
    kg.build(TINY_SOURCES, tmp_path / "graph")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".graph.lock", "graph"]


ENDS = [("A:1", "one", [], None, "x"), ("B:1", "eins", ["T"], "def", "y"), ("C:1", "uno", [], None, "z")]
MAPPINGS = [
    ("A:1", "skos:exactMatch", "B:1", "x", ""),
    ("C:1", "xref", "B:0", "z", ""),
    ("A:1", "skos:broadMatch", "C:1", "x", ""),
    ("A:1", "xref", "D:1", "x", ""),
]


def test_mappings_as_triples():
    tables, accounts = _merge(
        "same_as", concepts=ENDS, mappings=[*MAPPINGS, ("B:1", "xref", "A:1", "y", "")], retired=[("B:0", "B:1", "")]
    )
    found = [tuple(row.values()) for row in tables["triples"]]
    assert found == [
        ("A:1", "same_as", "B:1", ["x", "y"], ['{"predicate": "skos:exactMatch"}', '{"predicate": "xref"}']),
        ("B:1", "same_as", "C:1", ["z"], ['{"predicate": "xref"}']),
    ]
    assert len(tables["mappings"]) == 5 and accounts["triples"].merged == 1


def test_mappings_join_concepts_but_never_two_of_one_source():
    tables, _ = _merge(
        "merge",
        concepts=[*ENDS, ("A:2", "two", [], None, "x")],
        mappings=[*MAPPINGS, ("A:2", "xref", "B:1", "x", "")],
        retired=[("B:0", "B:1", "merged")],
        triples=[("B:1", "r", "A:2", "y", "")],
    )
    assert [(row["id"], row["name"], row["definition"], row["sources"]) for row in tables["concepts"]] == [
        ("A:1", "one", "def", ["x", "y", "z"]),
        ("A:2", "two", None, ["x"]),
    ]
    assert {row["id"]: (row["successor"], row["reason"]) for row in tables["retired"]} == {
        "B:0": ("A:1", "merged"), "B:1": ("A:1", "merged by mapping"), "C:1": ("A:1", "merged by mapping")
    }  # fmt: skip
    assert [(row["head"], row["tail"]) for row in tables["triples"]] == [("A:1", "A:2")]


def test_options_that_no_format_heeds_are_refused(tmp_path):
    with pytest.raises(MedgraftError, match="the option max_restriction means nothing to .*obo"):
        kg.build(TINY_SOURCES, tmp_path / "graph", max_restriction=0)
    with pytest.raises(MedgraftError, match="no option 'colour'; there are .*languages"):
        kg.build(TINY_SOURCES, tmp_path / "graph", colour=1)
    with pytest.raises(MedgraftError, match="no way 'lose' to treat mappings; choose one of keep, same_as, merge"):
        kg.build(TINY_SOURCES, tmp_path / "graph", mappings="lose")


def test_a_folder_of_an_earlier_format_says_what_to_do(tiny_graph, tmp_path):
    folder = shutil.copytree(tiny_graph, tmp_path / "graph")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    with pytest.raises(MedgraftError, match="run `medgraft build` again"):
        kg.connect(folder)


def test_a_folder_with_an_odd_name(tmp_path):
    folder = tmp_path / "it's a *graph*"
    kg.build(TINY_SOURCES, folder)
    with kg.connect(folder) as graph:
        assert graph.stats()["triples"] == 14 and graph.concept("TINY:0000092").name == "Fever"
        assert graph.search("fever", 1).ids == ["TINY:0000002"] and graph.exclusions("OMIM:900001")


def test_inverse_relations_are_folded_and_reported(tmp_path):
    report = kg.build(TINY_SOURCES, tmp_path / "graph")
    assert report.merging["triples"]["folded"] == 0 and "turned round" not in str(report)
    triples = {"read": 2, "kept": 1, "merged": 1, "folded": 1, "dropped": {}}
    sources = {"MSH": {"release": "2026", "restriction": 0, "licence": None}}
    text = str(replace(report, merging={"triples": triples}, sources=sources, joined={"made one": 3}))
    assert "turned round" in text and "MSH, 2026, restriction level 0" in text and "made one" in text


def test_state_of_a_reader_is_kept_as_it_is(tmp_path):
    state = StateWriter(tmp_path)
    for start in (0, 3):
        state.write("seen", pa.RecordBatch.from_pydict({"id": list(range(start, start + 3))}))
    state.close()
    assert pq.read_table(tmp_path / "state" / "seen.parquet")["id"].to_pylist() == list(range(6))


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_a_build_that_is_killed_leaves_the_earlier_graph(tiny_graph, tmp_path, delay):
    shutil.copytree(tiny_graph, tmp_path / "graph")
    code = "import sys, kg; print('begun', flush=True); kg.build(sys.argv[2:], sys.argv[1])"
    arguments = [sys.executable, "-c", code, str(tmp_path / "graph"), *map(str, TINY_SOURCES)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
    with kg.connect(tmp_path / "graph") as graph:
        assert graph.stats()["triples"] == 14
    report = kg.build(TINY_SOURCES, tmp_path / "graph")
    assert report.fingerprint == json.loads((tiny_graph / "manifest.json").read_text())["fingerprint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".graph.lock", "graph"]


def test_every_reader_option_has_a_flag(tmp_path):
    source = str(TINY_SOURCES[0])
    app = typer.Typer()
    app.command()(build)
    flags = {
        "languages": ["--language", "en"],
        "sources": ["--source-vocabulary", "MSH"],
        "types": ["--type", "T047"],
        "suppressed": ["--no-suppressed"],
        "max_restriction": ["--max-restriction", "0"],
        "attributes": ["--attribute", "*"],
        "hierarchy": ["--hierarchy"],
        "release_type": ["--release-type", "full"],
        "stated": ["--stated"],
        "columns": ["--column", "head=x"],
    }
    assert {"skip_bad", *flags} == {entry.name for entry in fields(Options)}
    asked = {}
    for option, arguments in flags.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kg, "build", lambda *_, **options: asked.update(options))
            CliRunner().invoke(app, [source, "--to", str(tmp_path / "graph"), *arguments])
        assert option in asked
    assert asked["columns"] == {"head": "x"} and asked["suppressed"] is False and asked["attributes"] == ["*"]
