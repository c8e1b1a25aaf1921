"""Another graph under a trained model: the same where nothing changed, the new fact where one did, a gate between."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import fusion
from fusion.knowledge import KnowledgeTable
from fusion.model import ModelSettings
from fusion.swapping import Gate, gate, swap_graph
from fusion.tasks import make_model
from kg import Embeddings, Linker
from lm.encoder import Encoder
from loaders.errors import MedgraftError
from tests.fusion.invented import InventedGraph, invented_corpus, invented_graph, invented_names, invented_vectors

NAMES = invented_names(40)
GRAPH = invented_graph(NAMES[:36])
CORPUS = invented_corpus(NAMES, (4, 4, 12))


@pytest.fixture(scope="module")
def model(encoder_folder: Callable[[str], Path]) -> fusion.FusedModel:
    """Untrained, with every weight of the knowledge attention at random, so that knowledge changes what is found."""
    table = KnowledgeTable.build(GRAPH, invented_vectors(GRAPH))
    settings = ModelSettings("ner", ("Chemical", "Disease"), after_block=1, max_pieces=64)
    made = make_model(Encoder.load(encoder_folder("bert")), settings, table, Linker.build(GRAPH))
    torch.manual_seed(0)
    for parameter in made.network.encoder.knowledge.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return replace(made, network=made.network.eval())


def larger() -> InventedGraph:
    made = invented_graph(NAMES)
    return InventedGraph(made.tables, fingerprint="b" * 64)


def test_an_equal_graph_changes_nothing(model: fusion.FusedModel) -> None:
    same, report = swap_graph(model, GRAPH, Linker.build(GRAPH))
    assert (report.new, report.gone, report.unknown_relations, report.unknown_types) == (0, 0, {}, {})
    assert list(same.pipe(CORPUS.test)) == list(model.pipe(CORPUS.test))
    assert gate(model, same, CORPUS.test) == Gate(12, ())


def test_new_concepts_are_placed_by_their_facts_and_old_ones_stay(model: fusion.FusedModel) -> None:
    graph = larger()
    ids, vectors = GRAPH.table("concepts")["id"].to_pylist(), invented_vectors(GRAPH).vectors
    relation_vectors = np.random.default_rng(2).normal(size=(2, 16)).astype(np.float32)
    embeddings = Embeddings(ids, vectors, ["causes", "treats"], relation_vectors)
    swapped, report = swap_graph(model, graph, Linker.build(graph), embeddings)
    assert (report.kept, report.new, report.placed, report.gone) == (37, 4, 4, 0)
    table = swapped.table
    for id, row in model.table.id_to_row.items():
        assert torch.equal(table.vectors[table.id_to_row[id]], model.table.vectors[row])
    hub, treats = vectors[ids.index("X:hub")], relation_vectors[1]
    expected = torch.nn.functional.normalize(torch.from_numpy(hub - treats), dim=0)
    torch.testing.assert_close(table.vectors[table.id_to_row["X:0036"]], expected)
    changed = set(gate(model, swapped, CORPUS.test).changed)
    touched = {d.id for d in CORPUS.test if any(int(m.concept_id[2:]) >= 36 for m in d.mentions)}
    assert touched and changed and changed <= touched
    with pytest.raises(MedgraftError, match="may change"):
        gate(model, swapped, CORPUS.test).check()
    gate(model, swapped, CORPUS.test).check(len(touched))


def test_a_removed_fact_and_unknown_words(model: fusion.FusedModel) -> None:
    triples = GRAPH.table("triples")
    relation = pa.array(["magic"] + triples["relation"].to_pylist()[1:])
    other = triples.set_column(1, "relation", relation)
    graph = InventedGraph({**GRAPH.tables, "triples": other}, fingerprint="c" * 64)
    swapped, report = swap_graph(model, graph, Linker.build(graph))
    assert report.unknown_relations == {"magic": 1}
    assert (swapped.table.neighbours[0] == -1).all() and (model.table.neighbours[0] >= 0).any()
    assert swapped.table.relation_names == model.table.relation_names


def test_what_cannot_be_swapped_is_refused(model: fusion.FusedModel) -> None:
    with pytest.raises(MedgraftError, match="plain model"):
        swap_graph(replace(model, table=None), GRAPH, Linker.build(GRAPH))
    with pytest.raises(MedgraftError, match="another graph"):
        swap_graph(model, larger(), Linker.build(GRAPH))
