import pytest

from kg.linking import Linker
from kg.linking_confidence import Confidence, calibration_error, fit
from loaders.errors import MedgraftError
from loaders.records import Candidate
from tests.kg.test_linking import GRAPH


def test_the_probability_learns_from_mentions_and_the_threshold_parts_them():
    texts = ["a"] * 40
    found = [(Candidate("C:1", 1.0),)] * 20 + [(Candidate("C:1", 0.4),)] * 20
    gold = ["C:1"] * 19 + [None] + [None] * 18 + ["C:1"] * 2
    confidence = fit(texts, found, gold)
    sure, unsure = (confidence.probability("a", c) for c in (found[0], found[-1]))
    assert sure == pytest.approx(0.95, abs=0.03) and unsure == pytest.approx(0.1, abs=0.03)
    assert unsure < confidence.threshold <= sure
    assert fit(texts, found, gold) == confidence
    assert confidence.probability("a", ()) == 0 and Confidence().probability("a", found[0]) == 1.0
    for hopeless in ([None] * 40, ["C:1"] * 40):
        with pytest.raises(MedgraftError, match="calibration needs"):
            fit(texts, found, hopeless)


def test_calibration_error_by_hand():
    assert calibration_error([0.95, 0.95, 0.05], [True, False, False]) == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.05)
    assert calibration_error([1.0, 0.0], [True, False]) == 0


def test_a_calibrated_linker_gives_no_link_below_its_threshold_and_keeps_that_when_saved(tmp_path):
    linker = Linker.build(GRAPH)
    texts = ["seizure", "absence seizure", "acoustic neuroma", "seiz of some kind", "zur", "marfan"]
    linker.calibrate(texts, ["DIS:1", "HP:2", "HP:3", None, None, None])
    assert [concept for concept, _, _ in linker.resolve(texts)][:4] == ["DIS:1", "HP:2", "HP:3", None]
    linker.save(tmp_path / "linker")
    again = Linker.load(tmp_path / "linker")
    assert again.confidence == linker.confidence and again.resolve(texts) == linker.resolve(texts)
    again.confidence = Confidence(threshold=2.0)
    (mention,) = again("a seizure").mentions
    assert mention.concept_id is None and mention.candidates[0].concept_id == "DIS:1"


def test_update_keeps_choices_and_equals_a_new_build():
    from types import SimpleNamespace

    linker = Linker.build(GRAPH, types=["Disease"], nested=True)
    changed = SimpleNamespace(table=GRAPH.table, fingerprint="b" * 64)
    assert linker.update(GRAPH) is linker
    new = linker.update(changed)
    assert new.fingerprint == "b" * 64 and new.concepts.equals(linker.concepts) and new.nested is True
    text = "A seizure in Marfan syndrome"
    assert new(text) == Linker.build(changed, types=["Disease"], nested=True)(text)
    with pytest.raises(MedgraftError, match="built with keep"):
        Linker.build(GRAPH, keep={"HP:1"}).update(changed)
