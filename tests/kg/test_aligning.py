"""New concepts in an old space: old rows bit for bit, new ones where their facts point; turned spaces score alike."""

import numpy as np
import pyarrow as pa
import pytest

from kg.aligning import align, extend_embeddings
from kg.embeddings import Embeddings, train_embeddings
from kg.pictures import draw_map, draw_training
from loaders.errors import MedgraftError

SMALL = {"dim": 16, "epochs": 25, "batch_size": 64, "num_negatives": 8, "progress": False, "device": "cpu"}


class TableGraph:
    def __init__(self, rows, fingerprint, extra=()):
        names = ("head", "relation", "tail")
        self.triples = pa.table({n: list(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)})
        ids = sorted({c for h, _, t in rows for c in (h, t)} | set(extra))
        self.concepts = pa.table({"id": ids, "types": [[i[0]] for i in ids]})
        self.fingerprint = fingerprint

    def table(self, name):
        return {"triples": self.triples, "concepts": self.concepts}[name]

    def batches(self, name, columns):
        return self.table(name).select(columns).to_batches(max_chunksize=7)


def facts(diseases):
    return [(f"D:{d:02}", "has_symptom", f"S:{d % 4}{s}") for d in diseases for s in range(9) if (d // 4 + s) % 3]


@pytest.mark.parametrize("model", ["TransE", "RotatE", "DistMult", "ComplEx"])
def test_new_concepts_lie_among_their_like_and_old_rows_stay(model):
    before = TableGraph(facts(range(36)), "f1", extra=["A:gone"])
    after = TableGraph(facts(range(40)), "f2", extra=["Z:lonely"])
    old = train_embeddings(before, model, **SMALL)
    new = extend_embeddings(old, after)
    assert new.fingerprint == "f2" and new.ids == after.concepts["id"].to_pylist() and "A:gone" not in new
    for concept_id in set(old.ids) & set(new.ids):
        assert np.array_equal(old.vector(concept_id), new.vector(concept_id))
    assert np.array_equal(old.relation_vectors, new.relation_vectors)
    assert new.settings["new_concepts"] == 5
    mrr = []
    for disease in range(36, 40):
        own = [c.concept_id for c in new.predict_tails(f"D:{disease}", "has_symptom", k=40)]
        mrr += [1 / (1 + own.index(f"S:{disease % 4}{s}")) for s in range(9) if (disease // 4 + s) % 3]
    assert np.mean(mrr) > 0.2  # 6 answers among 76 concepts; by chance 0.06
    again = extend_embeddings(old, after)
    assert np.array_equal(new.vectors, again.vectors)


def test_chain_of_new_concepts_is_placed_and_new_relations_are_refused():
    old = train_embeddings(TableGraph(facts(range(8)), "f1"), **{**SMALL, "epochs": 2})
    chain = [*facts(range(8)), ("X:1", "has_symptom", "S:01"), ("X:1", "has_symptom", "Y:2")]
    assert np.abs(extend_embeddings(old, TableGraph(chain, "f2")).vector("Y:2")).sum() > 0
    with pytest.raises(MedgraftError, match="relations.*causes; train them again"):
        extend_embeddings(old, TableGraph([*chain, ("X:1", "causes", "Y:2")], "f2"))


def test_alignment_undoes_a_turn_and_keeps_scores():
    rng = np.random.default_rng(0)
    ids, vectors = [f"C{i:02}" for i in range(30)], rng.normal(size=(30, 6)).astype(np.float32)
    shifts = rng.normal(size=(2, 6)).astype(np.float32)
    old = Embeddings(ids, vectors, ["r", "s"], shifts, fingerprint="f1")
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    turned = Embeddings(ids, vectors @ turn + 3, ["r", "s"], shifts @ turn, fingerprint="f2")
    back = align(turned, old)
    np.testing.assert_allclose(back.vectors, vectors, atol=1e-4)
    np.testing.assert_allclose(back.relation_vectors, shifts, atol=1e-4)
    assert back.score("C01", "r", "C02") == pytest.approx(turned.score("C01", "r", "C02"), abs=1e-4)
    with pytest.raises(MedgraftError, match="only TransE with the L2 norm"):
        align(Embeddings(ids, vectors, ["r", "s"], shifts, p=1), old)
    with pytest.raises(MedgraftError, match="cannot align 3 dimensions to 6"):
        align(Embeddings(ids, vectors[:, :3], ["r", "s"], shifts[:, :3]), old)


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    graph = TableGraph(facts(range(12)), "f1")
    embeddings = train_embeddings(graph, **{**SMALL, "epochs": 3}, dev=6, patience=2)
    for picture in (
        draw_training(embeddings, tmp_path / "a" / "loss.png"),
        draw_map(embeddings, graph, tmp_path / "map.png"),
    ):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    embeddings.metrics = {}
    with pytest.raises(MedgraftError, match="no losses"):
        draw_training(embeddings, tmp_path / "x.png")
