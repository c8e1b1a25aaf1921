"""The span head in fused and plain models: nested mentions whose types only the graph can decide."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import fusion
from fusion.ablation import ablate
from fusion.explanation import _effect
from fusion.model import FusedModel
from fusion.tagging import best_threshold
from kg import Linker
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Triple
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors

NAMES = invented_names(240)
GRAPH = invented_graph(NAMES)
VECTORS = invented_vectors(GRAPH)
FLAT = invented_corpus(NAMES, (240, 40, 60))
SETTINGS: dict[str, Any] = {
    "head": "span",
    "epochs": 12,
    "learning_rate": 2e-3,
    "new_learning_rate": 4e-3,
    "knowledge_learning_rate": 4e-3,
    "max_pieces": 64,
    "device": "cpu",
    "progress": False,
}


def with_outer(document: Document) -> Document:
    """From the first name to the second it is a Pair, with both mentions inside."""
    whole = Mention(document.mentions[0].start, document.mentions[-1].end, "Pair")
    return replace(document, mentions=(*document.mentions, whole))


NESTED = replace(FLAT, **{part: tuple(map(with_outer, getattr(FLAT, part))) for part in ("train", "dev", "test")})


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


@pytest.fixture(scope="module")
def fused(folder: Path, linker: Linker) -> FusedModel:
    return fusion.train("ner", NESTED, GRAPH, VECTORS, linker, encoder=folder, **SETTINGS)


def test_nested_mentions_are_found_with_their_concepts(fused: FusedModel) -> None:
    assert fused.settings.overlapping and fused.training["mentions"]["dropped_overlapping"] == 0
    assert fused.evaluate(NESTED.test).f1 >= 0.95
    right = [m.concept_id for document in FLAT.test for m in document]
    found = [{(m.start, m.end): m.concept_id for m in fused(document.text)} for document in FLAT.test]
    told = [places.get((m.start, m.end)) for places, d in zip(found, FLAT.test, strict=True) for m in d]
    assert sum(a == b for a, b in zip(right, told, strict=True)) >= 0.95 * len(right)
    assert all(0.5 < (m.score or 0) <= 1 for m in fused(NESTED.test[0].text))


def test_the_threshold_is_the_best_for_both_readings_and_keeps_its_mentions_at_any_temperature(
    fused: FusedModel,
) -> None:
    mention = [replace(m, score=None) for m in NESTED.dev[0]]

    def reading(best: float) -> Callable[[float, float], list[Document]]:
        """All the gold mentions up to a threshold, and one of them above it."""
        return lambda _, threshold: [
            replace(NESTED.dev[0], mentions=tuple(mention if threshold <= best else mention[:1]))
        ]

    gold = NESTED.dev[:1]
    assert best_threshold(gold, [reading(0.32)]) == 0.3
    assert best_threshold(gold, [reading(0.42), reading(0.27)]) == 0.25
    assert best_threshold(gold, [reading(1.0)]) == 0.5
    lower = replace(fused, settings=replace(fused.settings, threshold=0.2))
    warmer = replace(lower, settings=lower.at_temperature(2.0))
    assert 0.2 < warmer.settings.threshold < 0.5
    texts = [d.text for d in NESTED.test[:8]]
    for one, other in zip(lower.pipe(texts), warmer.pipe(texts), strict=True):
        assert [(m.start, m.end, m.type) for m in one] == [(m.start, m.end, m.type) for m in other]


def test_an_explanation_calls_a_mention_from_the_threshold_on(fused: FusedModel) -> None:
    """What falls from 0.99 to 0.4 without a fact is still a mention for a model that calls from 0.2 on."""
    before, after = torch.tensor([0.01, 0.99, 0.0, 0.0]), torch.tensor([0.6, 0.4, 0.0, 0.0])
    mention = Mention(0, 4, fused.settings.types[0])
    for threshold, type in ((0.5, ""), (0.2, mention.type)):
        model: Any = replace(fused, settings=replace(fused.settings, threshold=threshold))
        effect = _effect(model, mention, None, before, after)
        assert effect.type == type and effect.probability == pytest.approx(0.4)


def test_a_saved_model_predicts_the_same(fused: FusedModel, tmp_path: Path) -> None:
    fused.save(tmp_path / "model")
    again = fusion.load(tmp_path / "model", device="cpu")
    texts = [d.text for d in NESTED.test[:8]]
    assert list(again.pipe(texts)) == list(fused.pipe(texts))
    assert again.settings == fused.settings


def test_weights_of_another_shape_are_refused(fused: FusedModel, tmp_path: Path) -> None:
    fused.save(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "medgraft.safetensors")
    name = next(name for name in weights if name.endswith("knowledge.marks.weight"))
    weights[name] = weights[name][:, : 2 * weights[name].shape[1] // 3].contiguous()
    save_file(weights, tmp_path / "model" / "medgraft.safetensors")
    with pytest.raises(MedgraftError, match="other shapes than its settings say"):
        fusion.load(tmp_path / "model")


def test_without_the_deciding_fact_the_type_changes_and_the_pair_stays(fused: FusedModel) -> None:
    pair, inner = None, []
    for document in NESTED.test[:6]:
        for explanation in fused.explain(document.text):
            if explanation.mention.type == "Pair":
                pair = explanation
                continue
            fact = next(e for e in explanation.effects if isinstance(e.taken, Triple))
            inner.append(explanation.probability - fact.probability)
    assert pair is not None and pair.probability > 0.5 and len(inner) >= 10
    assert sum(change > 0.3 for change in inner) >= 0.7 * len(inner)


def test_an_explanation_has_the_probability_of_its_prediction(fused: FusedModel) -> None:
    document = fused(" ".join(d.text for d in NESTED.test[:12]))  # several windows
    told = fused.explain(document.text)
    assert [e.probability for e in told] == pytest.approx([m.score for m in document], abs=1e-4)


def test_where_training_shows_no_overlap_none_is_found(folder: Path) -> None:
    few = replace(FLAT, train=FLAT.train[:60], dev=())
    model = fusion.train("ner", few, encoder=folder, **{**SETTINGS, "epochs": 2})
    assert not model.settings.overlapping and not model.fused
    for document in model.pipe([d.text for d in FLAT.test]):
        ends = [m.end for m in document]
        assert all(end <= m.start for end, m in zip(ends, document.mentions[1:], strict=False))


def test_the_battery_takes_the_head(folder: Path, linker: Linker, tmp_path: Path) -> None:
    few = replace(NESTED, train=NESTED.train[:40], dev=NESTED.dev[:10], test=NESTED.test[:10])
    settings = {k: v for k, v in SETTINGS.items() if k != "progress"} | {"epochs": 1}
    rows = ablate(
        few, GRAPH, VECTORS, linker, encoder=folder, out=tmp_path, arms=["plain", "true"], seeds=[0], progress=False,
        **settings,
    )  # fmt: skip
    assert {"plain", "true", "graph removed"} <= {row.arm for row in rows}


def test_a_head_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(MedgraftError, match="no head 'crf' for ner; choose span or bio"):
        fusion.train("ner", FLAT, encoder=folder, head="crf")
    with pytest.raises(MedgraftError, match="no head 'bio' for relations"):
        fusion.train("relations", FLAT, encoder=folder, head="bio")
