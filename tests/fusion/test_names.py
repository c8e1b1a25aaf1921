"""Vectors of names by an encoder, and an encoder trained on a graph's synonyms; by the library and by the commands."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import fusion
import kg
from fusion.name_training import synonyms
from fusion.name_vectors import NameVectors
from lm.encoder import Encoder
from lm.names import NameNetwork, NamePairs, collate_names, name_pieces
from lm.vectors import text_vectors
from loaders import read_corpus
from loaders.errors import MedgraftError
from loaders.tables import SCHEMAS
from tests.fusion.test_cli import PUBTATOR, run

WORDS = ["aspirin", "seizure", "nausea", "patients", "war", "dro", "farin", "ness"]


class Graph:
    """Forty concepts of two types, each with a name, its inversion, a synonym, and a synonym that all share."""

    fingerprint = "b" * 64
    ids = [f"X:{n:02}" for n in range(40)]

    def table(self, name: str) -> pa.Table:
        if name == "concepts":
            types = [["Disease"] if n % 2 else ["Drug"] for n in range(40)]
            columns: dict[str, list[object]] = {"id": [*self.ids], "name": [self.names(n)[0] for n in range(40)]}
            return pa.table(columns | {"types": types, "definition": pa.array([None] * 40, pa.string())})
        if name == "names":
            rows = [(id, name, k) for n, id in enumerate(self.ids) for k, name in enumerate(self.names(n))]
            made = [(id, name, "exact" if k else "preferred", "en", "test", False) for id, name, k in rows]
            return pa.table(dict(zip(SCHEMAS["names"].names, map(list, zip(*made, strict=True)), strict=True)))
        return pa.table({column: pa.array([], pa.string()) for column in ("head", "relation", "tail")})

    def names(self, n: int) -> list[str]:
        first, second = WORDS[n % 8], f"q{n}"
        return [f"{second} {first}", f"{first}, {second}", f"{n} of the {second}s z{n}", "the same for all"]


@pytest.fixture
def vectors(folder: Path) -> NameVectors:
    return NameVectors(folder, device="cpu")


def test_vectors_of_names_have_length_one_and_do_not_depend_on_company(vectors: NameVectors) -> None:
    names = ["aspirin", "war of the patients", "", "nausea " * 60, "5-HT"]
    found = vectors(names)
    assert found.dtype == np.float32 and found.shape == (5, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 1, 1], atol=1e-5)
    for row, name in enumerate(names):
        np.testing.assert_allclose(vectors([name])[0], found[row], atol=1e-5)
    np.testing.assert_allclose(vectors(["nausea " * 90])[0], found[3], atol=1e-5)  # read to the 32nd piece
    fast = NameVectors(vectors.encoder, precision="bf16", device="cpu")
    assert 0 < np.abs(fast(names, bulk=True) - found).max() < 0.05
    np.testing.assert_array_equal(fast(names), found)


def test_a_fingerprint_tells_encoders_apart(vectors: NameVectors, tmp_path: Path) -> None:
    vectors.encoder.save(tmp_path / "same")
    assert NameVectors(tmp_path / "same").fingerprint == vectors.fingerprint
    other = Encoder.load(tmp_path / "same")
    with torch.no_grad():
        next(iter(other.parameters()))[0, 0] += 1
    assert NameVectors(other).fingerprint != vectors.fingerprint


def test_the_loss_by_a_slow_loop_and_its_pull(encoder: Encoder) -> None:
    network = NameNetwork(encoder)
    cosines = torch.tensor([[1, 0.2, 0.9, -0.5], [0.2, 1, 0.1, 0.3], [0.9, 0.1, 1, 0.0], [-0.5, 0.3, 0.0, 1]])
    things = torch.tensor([0, 0, 1, 2])
    expected = 0.0
    for i in range(4):
        same = [j for j in range(4) if j != i and things[j] == things[i]]
        other = [j for j in range(4) if things[j] != things[i]]
        hard = [j for j in same if cosines[i, j] < max(cosines[i, n] for n in other) + network.margin]
        near = [j for j in other if cosines[i, j] > min([cosines[i, n] for n in same], default=2) - network.margin]
        pull = sum(np.exp(-network.pull * (cosines[i, j] - 0.5)) for j in hard)
        push = sum(np.exp(network.push * (cosines[i, j] - 0.5)) for j in near)
        expected += float(np.log1p(pull) / network.pull + np.log1p(push) / network.push) / 4
    assert network.loss(cosines, things).item() == pytest.approx(expected, rel=1e-5)
    nearer = cosines.clone()
    nearer[0, 1] = nearer[1, 0] = 0.6
    assert network.loss(nearer, things) < network.loss(cosines, things)


def test_training_reads_names_as_the_index_does(encoder: Encoder) -> None:
    texts = ["aspirin war", "nausea of the patients and more and more and more", "seizure"]
    pieces = name_pieces(texts, encoder, 9)
    pairs = NamePairs(pieces, np.array([[0, 1], [2, 1]]), np.array([5, 7]))
    assert [len(pair) for pair in pairs] == [9, 9]
    batch = collate_names(list(pairs), encoder)
    assert batch["names.things"].tolist() == [5, 7, 5, 7] and batch["input_ids"].shape == (4, 9)
    seen: list[torch.Tensor] = []
    network = NameNetwork(encoder)
    network.loss = lambda cosines, things: seen.append(cosines) or cosines.sum()  # type: ignore[method-assign,func-returns-value]
    with torch.no_grad():
        network(batch)
    made = text_vectors(encoder, [texts[0], texts[2]])
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    assert float(seen[0][0, 1]) == pytest.approx(float(made[0] @ made[1]), abs=1e-5)


def test_pairs_are_of_one_concept_and_of_different_wordings() -> None:
    known = synonyms(Graph(), types=["Disease"], languages=("en",), keep=None, holdout=0.2)
    assert len(known.texts) == 40 and known.held_out.any() and not known.held_out.all()
    assert known.texts[:2] == ["q1 seizure", "1 of the q1s z1"], "neither the inversion nor what all share"
    for row in np.flatnonzero(known.held_out):
        others = (known.concepts == known.concepts[row]) & ~known.held_out
        assert others.any()
    with pytest.raises(MedgraftError, match="no concept is of the type Planet"):
        synonyms(Graph(), types=["Planet"], languages=None, keep=None, holdout=0.2)


def test_trained_encoder_links_what_it_did_not(folder: Path, tmp_path: Path) -> None:
    options = {"encoder": folder, "holdout": 0.1, "batch_size": 16, "learning_rate": 3e-3, "device": "cpu"}
    report = fusion.train_names(Graph(), tmp_path / "names", epochs=12, precision="no", progress=False, **options)
    assert report.after["@5"] > report.before["@5"] and "held-out names among" in str(report)
    assert json.loads((tmp_path / "names" / "names.json").read_text())["report"]["pairs"] == report.pairs
    assert sorted(p.name for p in tmp_path.iterdir()) == ["names"]
    again = fusion.train_names(Graph(), tmp_path / "again", epochs=12, precision="no", progress=False, **options)
    assert again == report
    trained, before = NameVectors(tmp_path / "names"), NameVectors(folder)
    assert trained.fingerprint == NameVectors(tmp_path / "again").fingerprint != before.fingerprint
    with pytest.raises(MedgraftError, match="between 0 and 1"):
        fusion.train_names(Graph(), tmp_path / "no", encoder=folder, holdout=1.0)


def test_a_run_that_was_killed_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"encoder": folder, "holdout": 0.1, "batch_size": 16, "epochs": 2, "device": "cpu", "progress": False}
    whole = fusion.train_names(Graph(), tmp_path / "whole", **options)
    calls = 0

    def interrupted(self: NameNetwork, cosines: torch.Tensor, things: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise KeyboardInterrupt
        return loss(self, cosines, things)

    loss = NameNetwork.loss
    monkeypatch.setattr(NameNetwork, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fusion.train_names(Graph(), tmp_path / "cut", **options)
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(NameNetwork, "loss", loss)
    assert fusion.train_names(Graph(), tmp_path / "cut", **options) == whole
    assert NameVectors(tmp_path / "cut").fingerprint == NameVectors(tmp_path / "whole").fingerprint


def test_the_commands(tiny_graph: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "names"
    code, said, _ = run(
        capsys, "train-names", tiny_graph, "--encoder", folder, "--out", names, "--holdout", "0.3", "--device", "cpu",
        "--json",
    )  # fmt: skip
    assert code == 0 and json.loads(said)["held_out"] > 0
    linker = tmp_path / "linker"
    code, _, err = run(
        capsys, "link", tiny_graph, "fits", "--vectors", names, "--vector-type", "TINY", "--save", linker
    )
    assert code == 0, err
    (tmp_path / "given.txt").write_text(PUBTATOR)
    code, said, err = run(capsys, "link", linker, tmp_path / "given.txt", "--given", "--vectors", names, "--json")
    assert code == 0 and '"vectors"' in said and "not used" not in err
    code, said, err = run(capsys, "link", linker, tmp_path / "given.txt", "--given", "--json")
    assert code == 0 and '"vectors"' not in said and "without --vectors ENCODER they are not used" in err
    code, _, err = run(capsys, "link", linker, "fits", "--vectors", folder)
    assert code == 1 and "the linker's vectors are of encoder" in err
    code, _, err = run(capsys, "link", tiny_graph, "fits", "--vector-type", "TINY")
    assert code == 1 and "--vectors" in err


def test_a_fused_model_takes_the_encoder_of_its_linker_along(tiny_graph: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(PUBTATOR)
    documents = tuple(read_corpus(tmp_path / "train.txt"))
    corpus = fusion.Corpus("tiny", documents, documents, ())
    with kg.connect(tiny_graph) as graph:
        embeddings = kg.train_embeddings(graph, dim=8, epochs=1, out=tmp_path / "embeddings", progress=False)
        linker = kg.Linker.build(graph, vectors=NameVectors(folder, device="cpu"))
        model = fusion.train(
            "ner", corpus, graph=graph, embeddings=embeddings, linker=linker, encoder=folder, out=tmp_path / "model",
            epochs=1, device="cpu", progress=False,
        )  # fmt: skip
    loaded = fusion.load(tmp_path / "model", device="cpu")
    assert loaded.linker is not None and loaded.linker.vectors is not None
    assert loaded.linker.candidates("a fit of sorts") == linker.candidates("a fit of sorts")
    assert loaded(PUBTATOR) == model(PUBTATOR)
