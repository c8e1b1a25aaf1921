"""Candidates by vectors of names: which side found them, kept on disk, tied to the encoder, only new names encoded."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.linking import Linker
from kg.nearest import MappedIndex
from loaders.errors import InputError, MedgraftError
from loaders.records import Document, Mention
from tests.kg.test_linking import CONCEPTS, GRAPH, SYNONYMS, graph_of


class Meanings:
    """An encoder that knows what some words mean, and has a direction of its own for any other."""

    WORDS = {
        "heart": 0,
        "pump": 0,
        "cardiac": 0,
        "malformation": 1,
        "anomaly": 1,
        "abnormality": 1,
        "fit": 2,
        "seizure": 2,
    }

    def __init__(self, fingerprint="e" * 64):
        self.fingerprint = fingerprint
        self.asked = []

    def __call__(self, names, *, bulk=False):
        self.asked.append((list(names), bulk))
        vectors = np.zeros((len(names), 64), np.float32)
        for row, name in enumerate(names):
            for word in name.split():
                vectors[row, self.WORDS.get(word, 3 + sum(word.encode()) % 61)] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@pytest.fixture(scope="module")
def linker():
    return Linker.build(GRAPH, vectors=Meanings())


def test_a_paraphrase_is_a_candidate_and_says_which_side_found_it(linker):
    (best, *others) = linker.candidates("Pump malformation", k=3)
    assert (best.concept_id, best.alias) == ("HP:4", "Cardiac anomaly")
    assert best.score == pytest.approx(1, abs=1e-3) and dict(best.signals)["vectors"] == best.score
    assert all(c.score < best.score for c in others)
    linker.vectors, encoder = None, linker.vectors
    assert dict(linker.candidates("Pump malformation", k=1)[0].signals).keys() == {"spelling"}
    linker.vectors = encoder
    (seizure, *_) = linker.candidates("epileptic seizures of him", k=1)
    assert dict(seizure.signals).keys() == {"spelling", "vectors"}
    assert seizure.score == dict(seizure.signals)["vectors"] < dict(seizure.signals)["spelling"]
    diseases = Linker.build(GRAPH, vectors=Meanings(), vector_types=["Disease"])
    by_side = {c.concept_id: c for c in diseases.candidates("abnormal hearts of marfan", k=9)}
    assert by_side["HP:2"].signals == (("spelling", by_side["HP:2"].score),), "no vector, so the 3-grams count"
    assert dict(by_side["DIS:2"].signals)["vectors"] == by_side["DIS:2"].score


def test_what_matches_by_name_comes_first_and_needs_no_encoder(linker):
    by_spelling = Linker.build(GRAPH)
    linker.vectors.asked.clear()
    text = "The boy had absence seizures and abnormal hearts."
    assert linker(text, k=1) == by_spelling(text, k=1) and not linker.vectors.asked
    assert linker.candidates("seizures", k=9)[:2] == by_spelling.candidates("seizures", k=2)


def test_texts_are_encoded_together_and_only_once(linker):
    linker.vectors.asked.clear()
    documents = [Document(str(n), "pump malformation, one fit", (Mention(0, 17), Mention(19, 26))) for n in range(5)]
    linked = linker.link_mentions_batch(documents, k=2)
    assert [names for names, _ in linker.vectors.asked] == [["pump malformation", "one fit"]]
    assert linked == [linker.link_mentions(document, k=2) for document in documents]
    assert [m.concept_id for m in linked[0]][0] == "HP:4"
    assert linker.candidates_batch([]) == [] and linker.candidates("", k=3) == ()


def test_chosen_types_only():
    linker = Linker.build(graph_of(CONCEPTS, SYNONYMS), vectors=Meanings(), vector_types=["Disease"])
    (names, bulk) = linker.vectors.asked[0]
    assert names == ["acoustic neuroma", "marfan syndrome", "seizure"] and bulk
    with pytest.raises(MedgraftError, match="vector_types are among Disease, Gene, Phenotype"):
        Linker.build(GRAPH, vectors=Meanings(), vector_types=["Planet"])


def test_saved_vectors_are_mapped_and_want_their_encoder(linker, tmp_path):
    linker.save(tmp_path / "linker")
    loaded = Linker.load(tmp_path / "linker", GRAPH, vectors=Meanings())
    kept = loaded._files.vectors.vectors
    assert isinstance(kept.base, np.memmap) and kept.dtype == np.float16
    for text in ("pump malformation", "fit", "nothing like it"):
        assert loaded.candidates(text, k=4) == linker.candidates(text, k=4)
    with pytest.warns(UserWarning, match="by spelling alone"):
        without = Linker.load(tmp_path / "linker")
    assert without.vectors is None
    assert without.candidates("pump malformation") == Linker.build(GRAPH).candidates("pump malformation")
    without.vectors = Meanings()
    assert without.candidates("pump malformation") == linker.candidates("pump malformation")
    with pytest.raises(MedgraftError, match="aaaaaaaaaaaa"):
        Linker.load(tmp_path / "linker", vectors=Meanings("a" * 64))
    Linker.build(GRAPH, out=tmp_path / "plain")
    with pytest.raises(MedgraftError, match="has no vectors"):
        Linker.load(tmp_path / "plain", vectors=Meanings())


@pytest.mark.parametrize("damage", ["absent", "short", "type", "place"])
def test_damaged_vectors_are_a_clear_error(linker, tmp_path, damage):
    linker.save(tmp_path / "linker")
    vectors, spellings = (tmp_path / "linker" / f"vectors_{name}.npy" for name in ("vectors", "spellings"))
    if damage == "absent":
        vectors.unlink()
    elif damage == "short":
        np.save(vectors, np.load(vectors)[1:])
    elif damage == "type":
        np.save(vectors, np.load(vectors).astype(np.float32))
    else:
        np.save(spellings, np.load(spellings) + 1)
    with pytest.raises(InputError, match="build the linker again"):
        Linker.load(tmp_path / "linker", vectors=Meanings())


def test_an_update_encodes_only_new_spellings(linker):
    more = [*SYNONYMS, ("HP:1", "Epileptic attack", "exact", "en", False)]
    fewer = [c for c in CONCEPTS if c[0] != "DIS:2"]
    graph = graph_of(fewer, [s for s in more if s[0] != "DIS:2"], "d" * 64)
    linker.vectors.asked.clear()
    updated = linker.update(graph)
    assert linker.vectors.asked == [(["epileptic attack"], True)]
    anew = Linker.build(graph, vectors=Meanings())
    np.testing.assert_array_equal(updated._files.vectors.vectors, anew._files.vectors.vectors)
    np.testing.assert_array_equal(updated._files.vectors.spellings, anew._files.vectors.spellings)
    assert updated.candidates("pump malformation", k=4) == anew.candidates("pump malformation", k=4)
    blind = Linker(linker._files)
    with pytest.raises(MedgraftError, match="encoder to update"):
        blind.update(graph)


def test_calibration_and_spacy_take_them_too(linker, tmp_path):
    calibrated = Linker(linker._files, Meanings())
    calibrated.calibrate(["pump malformation", "marfan", "gout", "fit"], ["HP:4", "DIS:2", None, None])
    assert calibrated.resolve(["pump malformation"])[0][0] == "HP:4"
    linker.save(tmp_path / "linker")
    nlp = spacy.blank("en")
    with pytest.warns(UserWarning, match="by spelling alone"):
        component = nlp.add_pipe("medgraft_linker", config={"folder": str(tmp_path / "linker"), "mentions": False})
    component.linker.vectors = Meanings()

    def entities():
        for _ in range(3):
            doc = nlp.make_doc("pump malformation")
            doc.ents = [doc.char_span(0, 17, label="X")]
            yield doc

    docs = list(component.pipe(entities()))
    assert [doc.ents[0]._.kb_ents[0][0] for doc in docs] == ["HP:4"] * 3
    assert [names for names, _ in component.linker.vectors.asked] == [["pump malformation"]]


def test_the_file_says_whose_vectors_they_are(linker, tmp_path):
    linker.save(tmp_path / "linker")
    said = json.loads((tmp_path / "linker" / "linker.json").read_text())
    assert said["vectors"] == {"encoder": "e" * 64, "types": None}
    assert replace(linker._files, vectors=None).vectors is None
    shutil.rmtree(tmp_path / "linker")
    Linker.build(GRAPH, out=tmp_path / "linker")
    assert not list((tmp_path / "linker").glob("vectors*"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 300), k=st.integers(1, 20))
def test_mapped_search_equals_the_slow_one_and_ties_go_to_the_lower_row(seed, rows, k):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(rows, 3)).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
    half, queries = vectors.astype(np.float16), vectors[rng.integers(0, rows, 4)]
    found, scores = MappedIndex(half).search(queries, k)
    for query, of, scored in zip(queries, found, scores, strict=True):
        expected = (half.astype(np.float64) * query.astype(np.float64)).sum(axis=1).astype(np.float32)
        order = np.lexsort((np.arange(rows), -expected))[:k]
        assert of.tolist() == order.tolist()
        assert scored.tolist() == expected[order].tolist()


def test_mapped_search_over_several_blocks_and_alone(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 16)).astype(np.float32)
    vectors = np.repeat(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 2, axis=0).astype(np.float16)
    whole, scores = MappedIndex(vectors).search(vectors[:9].astype(np.float32), 7)
    monkeypatch.setattr("kg.nearest._BLOCK", 64)
    rows, same = MappedIndex(vectors).search(vectors[:9].astype(np.float32), 7)
    assert rows.tolist() == whole.tolist() and same.tolist() == scores.tolist()
    alone, _ = MappedIndex(vectors).search(vectors[4:5].astype(np.float32), 7)
    assert alone[0].tolist() == whole[4].tolist()
