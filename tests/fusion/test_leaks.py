"""Graphs that state what a corpus was labelled from are refused; others are not."""

import pyarrow as pa
import pytest

from fusion.corpora import Corpus
from fusion.leaks import check_leaks
from loaders.errors import MedgraftError
from loaders.records import Document, Relation
from tests.fusion.invented import InventedGraph


def graph(relation: str, source: str) -> InventedGraph:
    triples = {"head": ["a", "b"], "relation": ["is_a", relation], "tail": ["b", "c"], "sources": [["MSH"], [source]]}
    return InventedGraph({"triples": pa.table(triples)})


def corpus(label: str) -> Corpus:
    return Corpus("x", (), (), (Document("1", "text", (), (Relation("a", label, "b"),)),))


@pytest.mark.parametrize(
    ("label", "relation", "source"),
    [
        ("CID", "marker_mechanism", "CTD"),
        ("CID", "causes", "infores:ctd"),
        ("CID", "causes", "CTD_chemicals_diseases.csv.gz"),
        ("associated_with_phenotype", "associated_with_phenotype", "anything"),
        ("associated_with_phenotype", "causes", "genes_to_phenotype.txt"),
    ],
)
def test_the_source_of_the_labels_is_refused(label, relation, source):
    with pytest.raises(MedgraftError, match=f"1 facts .{relation}. that x was labelled from"):
        check_leaks(corpus(label), graph(relation, source))
    check_leaks(corpus("another"), graph(relation, source))


@pytest.mark.parametrize(
    ("label", "relation", "source"),
    [
        ("CID", "treats", "infores:sider"),
        ("CID", "is_a", "actdb"),
        ("associated_with_phenotype", "has_phenotype", "hpoa"),
    ],
)
def test_other_sources_pass(label, relation, source):
    (line,) = check_leaks(corpus(label), graph(relation, source))
    assert line.startswith(f"{label}: ") and line.endswith("the graph holds no such fact")
    assert check_leaks(corpus("another"), graph(relation, source)) == []


def test_the_hpo_graph_is_refused_for_gene_phenotype_relations(tiny_graph):
    import kg

    with kg.connect(tiny_graph) as opened:
        check_leaks(corpus("CID"), opened)
        with pytest.raises(MedgraftError, match="gene annotations"):
            check_leaks(corpus("associated_with_phenotype"), opened)
