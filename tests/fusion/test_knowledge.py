"""The knowledge table: facts chosen by the stated rule, and batches that hold what a plain look-up would give."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.knowledge import KnowledgeTable, LinkedMention
from loaders.errors import MedgraftError
from tests.fusion.invented import InventedGraph, InventedVectors

IDS = [f"X:{n}" for n in range(8)]
TRIPLES = [
    ("X:1", "is_a", "X:0"),
    ("X:2", "is_a", "X:0"),
    ("X:3", "is_a", "X:0"),
    ("X:3", "is_a", "X:1"),
    ("X:3", "is_a", "X:2"),
    ("X:4", "treats", "X:3"),
    ("X:5", "treats", "X:3"),
    ("X:6", "causes", "X:3"),
]


def graph() -> InventedGraph:
    types = [["Disease"]] * 4 + [["Drug", "Thing"]] * 2 + [["Drug"], []]
    heads, relations, tails = (list(column) for column in zip(*TRIPLES, strict=True))
    return InventedGraph(
        {
            "concepts": pa.table({"id": IDS, "name": [f"name {n}" for n in range(8)], "types": types}),
            "triples": pa.table({"head": heads, "relation": relations, "tail": tails}),
        }
    )


def table(**settings: int) -> KnowledgeTable:
    vectors = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    vectors[7] = 0
    return KnowledgeTable.build(graph(), InventedVectors(IDS, vectors), **settings)


def facts(made: KnowledgeTable, row: int) -> list[tuple[str, str, str]]:
    there = [n for n in range(made.neighbours.shape[1]) if made.neighbours[row, n] >= 0]
    return [(*made.fact(row, n),) for n in there]  # type: ignore[misc]


def test_facts_are_those_with_the_least_connected_neighbours_two_a_relation_and_direction() -> None:
    made = table()
    assert facts(made, 3) == [
        ("X:4", "treats", "X:3"),
        ("X:5", "treats", "X:3"),
        ("X:6", "causes", "X:3"),
        ("X:3", "is_a", "X:1"),
        ("X:3", "is_a", "X:2"),
    ]
    assert all(fact in TRIPLES for row in range(8) for fact in facts(made, row))
    assert facts(made, 7) == []


def test_hubs_are_left_out_and_the_number_of_facts_is_bounded() -> None:
    assert ("X:6", "causes", "X:3") not in facts(table(max_degree=5), 6)
    assert facts(table(num_facts=2), 3) == [("X:4", "treats", "X:3"), ("X:5", "treats", "X:3")]


def test_vectors_have_length_one_and_missing_ones_stay_zero() -> None:
    made = table()
    assert torch.allclose(made.vectors.norm(dim=1), torch.tensor([1.0] * 7 + [0.0]))
    assert [made.type_names[t] for t in made.types.tolist()][:7] == ["Disease"] * 4 + ["Drug"] * 3


def test_embeddings_of_another_graph_are_refused() -> None:
    with pytest.raises(MedgraftError, match="medgraft embed"):
        KnowledgeTable.build(graph(), InventedVectors(IDS[::-1], np.ones((8, 5), dtype=np.float32)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 7), min_size=1, max_size=4)), max_size=6))
def test_a_batch_holds_what_a_plain_look_up_gives(mentions: list[tuple[int, list[int]]]) -> None:
    made = table(num_facts=3)
    linked = [LinkedMention(s, 0, 1, tuple(rows), tuple(0.5 for _ in rows)) for s, rows in mentions]
    batch = made.gather(linked)
    seen: dict[int, int] = {}
    for m, mention in enumerate(linked):
        assert batch.slot[m] == seen.get(mention.sentence, 0)
        seen[mention.sentence] = int(batch.slot[m]) + 1
        assert batch.candidate_mask[m].tolist() == [k < len(mention.rows) for k in range(batch.candidates.shape[1])]
        for k, row in enumerate(mention.rows):
            at = int(batch.candidates[m, k])
            assert torch.equal(batch.vectors[at], made.vectors[row])
            assert batch.types[at] == made.types[row] and batch.rows[at] == row
            for n in range(3):
                there = bool(made.neighbours[row, n] >= 0)
                assert bool(batch.fact_mask[m, k, n]) == there
                if there:
                    assert torch.equal(batch.vectors[batch.neighbours[at, n]], made.vectors[made.neighbours[row, n]])
                    assert batch.relations[at, n] == made.relations[row, n]


def test_it_comes_back_from_its_folder(tmp_path: Path) -> None:
    made = table()
    made.save(tmp_path / "knowledge")
    again = KnowledgeTable.load(tmp_path / "knowledge")
    for name in ("ids", "names", "type_names", "relation_names", "fingerprint"):
        assert getattr(again, name) == getattr(made, name)
    for name in ("vectors", "types", "neighbours", "relations"):
        assert torch.equal(getattr(again, name), getattr(made, name))
    (tmp_path / "knowledge" / "concepts.parquet").unlink()
    with pytest.raises(MedgraftError, match=r"concepts\.parquet is missing"):
        KnowledgeTable.load(tmp_path / "knowledge")
