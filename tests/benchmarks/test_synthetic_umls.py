"""A graph of the synthetic release holds what its generator says."""

import kg
from tests.benchmarks.synthetic_umls import generate

KEPT = ("causative_agent_of", "has_finding_site", "isa", "may_treat", "part_of")


def test_the_graph_of_a_synthetic_release(tmp_path):
    truth = generate(tmp_path / "release", 2_000, seed=1)
    report = kg.build(tmp_path / "release", tmp_path / "graph", attributes="MN RX".split(), hierarchy=True)
    found = {name: report.counts[name] for name in ("concepts", "triples", "retired")}
    assert found == {name: truth[name] for name in found}
    assert report.counts["relations"].keys() == set(KEPT)
    inputs = {entry["name"]: entry for entry in report.inputs}
    assert inputs["MRCONSO.RRF"]["kept"] == truth["atoms"] and inputs["MRSAT.RRF"]["kept"] == truth["attributes"]
    assert inputs["MRHIER.RRF"]["kept"] == truth["places"]
    assert inputs["MRREL.RRF"]["dropped"]["obsolete (SUPPRESS=O)"] == truth["obsolete_relations"]
    with kg.connect(tmp_path / "graph") as graph:
        assert graph.concept("C0000007").name.startswith("7 name 0")
        names = " ".join(graph.table("names").column("name").to_pylist())
        assert "two\u2028lines" in names and 'a "quoted" word' in names and "next\u0085line" in names
        assert graph.concept("C0002000").id == "C0000000"
