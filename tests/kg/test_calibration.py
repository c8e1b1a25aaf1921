"""Probabilities judged by how often such answers are right; reasons and relations of predictions."""

import numpy as np
import pyarrow as pa
import pytest

from kg.calibration import answers, calibrate
from kg.embeddings import Embeddings, train_embeddings
from kg.splits import split_triples
from loaders.errors import MedgraftError
from loaders.records import Triple
from tests.kg.test_aligning import SMALL, TableGraph, facts


def test_probabilities_are_calibrated_on_triples_not_fitted_on_and_survive_the_disk(tmp_path):
    graph = TableGraph(facts(range(120)), "f1")
    split = split_triples(graph.triples, dev=80, test=80, seed=0)
    embeddings = train_embeddings(graph, triples=split.train, **SMALL)
    with pytest.raises(MedgraftError, match="not calibrated; run kg.calibrate"):
        embeddings.probability("D:00", "has_symptom", "S:01")
    with pytest.raises(MedgraftError, match="no development triples"):
        calibrate(embeddings, split.dev.slice(0, 0))
    fitted = calibrate(embeddings, split.dev, [split.train])
    for side in ("head", "tail"):
        scores, right, weights = answers(fitted, side, split.test, [split.train, split.dev], limit=1000, seed=1)
        probabilities = fitted.calibration.probabilities(side, scores)
        assert np.average(probabilities, weights=weights) == pytest.approx(
            np.average(right, weights=weights), rel=0.5
        )  # held-out facts count as wrong
        constant = np.average(right, weights=weights)
        brier = np.average((probabilities - right) ** 2, weights=weights)
        assert brier < np.average((constant - right) ** 2, weights=weights)
        assert fitted.calibration.slope[side] > 0
    fitted.save(tmp_path / "e")
    loaded = Embeddings.load(tmp_path / "e", graph)
    assert loaded.calibration == fitted.calibration and loaded.model == "TransE"
    best = loaded.predict_tails("D:00", "has_symptom", k=3, known=split.train)
    assert all(0 < p.probability < 1 for p in best)
    assert best[0].probability >= best[-1].probability


def test_reasons_are_the_nearest_facts_and_relations_are_ranked():
    vectors = np.array([[0, 1], [0.1, 1], [-1, 0.2], [1, 1], [1.1, 1]], dtype=np.float32)
    embeddings = Embeddings(
        ["A", "B", "C", "D", "E"], vectors, ["far", "right"], np.array([[9, 9], [1, 0]], np.float32)
    )
    known = pa.table({"head": ["B", "C", "A"], "relation": ["right"] * 3, "tail": ["D", "D", "E"]})
    first = embeddings.predict_tails("A", "right", k=1, known=known)[0]
    assert first.concept_id == "D"
    assert set(first.because) == {Triple("B", "right", "D"), Triple("A", "right", "E")}
    assert embeddings.predict_relations("A", "D")[0].concept_id == "right"
    assert [c.concept_id for c in embeddings.predict_relations("B", "D", known=known)] == ["far"]
    one = Embeddings(["A", "B"], vectors[:2], ["r"], vectors[:1])
    with pytest.raises(MedgraftError, match="one relation only, 'r'"):
        one.predict_relations("A", "B")
