"""Fused and plain models: what only the graph can decide, equality where nothing is known, saving, explaining."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusion
from fusion.arms import ARMS, Material
from fusion.attention import Knowledge
from fusion.model import FusedModel
from kg import Linker
from kg.assertion import mark_assertions
from loaders.errors import MedgraftError
from loaders.records import Document, Triple
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors

NAMES = invented_names(240)
GRAPH = invented_graph(NAMES)
VECTORS = invented_vectors(GRAPH)
CORPUS = invented_corpus(NAMES, (240, 40, 80))
SETTINGS: dict[str, Any] = {
    "epochs": 12,
    "learning_rate": 2e-3,
    "new_learning_rate": 4e-3,
    "knowledge_learning_rate": 4e-3,
    "max_pieces": 64,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


@pytest.fixture(scope="module")
def fused(folder: Path, linker: Linker, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    out = tmp_path_factory.mktemp("models") / "fused"
    return fusion.train("ner", CORPUS, GRAPH, VECTORS, linker, encoder=folder, out=out, **SETTINGS)


@pytest.fixture(scope="module")
def plain(folder: Path) -> FusedModel:
    return fusion.train("ner", CORPUS, encoder=folder, **SETTINGS)


def test_only_a_model_with_the_true_graph_tells_unseen_names_apart(
    fused: FusedModel, plain: FusedModel, folder: Path, linker: Linker
) -> None:
    table = ARMS["permuted"](Material(GRAPH, VECTORS, linker, CORPUS, folder), 0)
    permuted = fusion.train("ner", CORPUS, linker=linker, knowledge=table, encoder=folder, **SETTINGS)
    assert fused.evaluate(CORPUS.test).f1 >= 0.95
    assert plain.evaluate(CORPUS.test).f1 <= 0.65
    assert permuted.evaluate(CORPUS.test).f1 <= 0.65


def test_the_epoch_is_chosen_with_the_graph_and_without_it(fused: FusedModel, plain: FusedModel) -> None:
    dev = CORPUS.dev
    scores = fused.scorer(dev)()
    without = fused.evaluate(dev, with_graph=False).f1
    assert scores["f1"] == fused.evaluate(dev).f1 > without == scores["f1 without the graph"]
    assert fused.chosen_by == ("f1", "f1 without the graph") and plain.chosen_by == ("f1",)


def test_without_a_linked_concept_it_is_the_plain_encoder_bit_for_bit(fused: FusedModel) -> None:
    batch = {"input_ids": torch.tensor([[2, 30, 31, 32, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    with torch.inference_mode():
        assert torch.equal(fused.network.encoder(batch), fused.encoder(batch))
    text = "nothing of this is in the graph ."
    removed = list(fused.pipe([text], with_graph=False))
    assert list(fused.pipe([text])) == removed


def test_trained_with_every_mention_nil_it_equals_plain_training_bit_for_bit(folder: Path, linker: Linker) -> None:
    few = replace(CORPUS, train=CORPUS.train[:40], dev=())
    settings = {**SETTINGS, "epochs": 2}
    table = ARMS["nil"](Material(GRAPH, VECTORS, linker, CORPUS, folder), 0)
    nil = fusion.train("ner", few, linker=linker, knowledge=table, encoder=folder, **settings)
    plain = fusion.train("ner", few, encoder=folder, **settings)
    for name, weight in plain.encoder.state_dict().items():
        assert torch.equal(nil.encoder.state_dict()[name], weight), name
    assert torch.equal(nil.network.output.linear.weight, plain.network.output.linear.weight)


def test_the_same_seed_gives_the_same_model(folder: Path, linker: Linker) -> None:
    few = replace(CORPUS, train=CORPUS.train[:30], dev=())
    first, second = (
        fusion.train("ner", few, GRAPH, VECTORS, linker, encoder=folder, **{**SETTINGS, "epochs": 1}) for _ in range(2)
    )
    for name, weight in first.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], weight), name


def test_a_document_alone_and_among_others_gives_the_same(fused: FusedModel) -> None:
    texts = [d.text for d in CORPUS.test[:12]]
    together = list(fused.pipe(texts))
    for text, document in zip(texts, together, strict=True):
        alone = fused(text)
        assert alone.mentions == document.mentions
        for a, b in zip(alone.mentions, document.mentions, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)


def test_predicted_mentions_come_with_their_concepts(fused: FusedModel) -> None:
    for gold in CORPUS.test:
        concepts = {(m.start, m.end): m.concept_id for m in gold}
        for mention in fused(gold.text):
            assert mention.concept_id == concepts[mention.start, mention.end]


def test_predicted_mentions_say_that_the_text_negates_them(fused: FusedModel, plain: FusedModel) -> None:
    for model in (fused, plain):
        found = [d for d in model.pipe([Document(d.id, f"no {d.text}") for d in CORPUS.test]) if d.mentions]
        assert found and [d.mentions for d in found] == [mark_assertions(d.text, d.mentions) for d in found]
        assert sum("negated" in d.mentions[0].assertion for d in found) > len(found) / 2


def test_a_saved_model_needs_nothing_else_and_predicts_the_same(fused: FusedModel, tmp_path: Path) -> None:
    fused.save(tmp_path / "model")
    again = fusion.load(tmp_path / "model", device="cpu")
    texts = [d.text for d in CORPUS.test[:8]]
    assert list(again.pipe(texts)) == list(fused.pipe(texts))
    assert again.scores == fused.scores and again.training == fused.training
    assert (tmp_path / "model" / "README.md").read_text().count("fingerprint") == 1
    assert not list((tmp_path / "model").rglob("*.bin")) and not list((tmp_path / "model").rglob("*.pkl"))


@pytest.mark.parametrize(
    "name", ["medgraft.json", "medgraft.safetensors", "model.safetensors", "knowledge/concepts.parquet"]
)
def test_a_missing_file_is_named(fused: FusedModel, tmp_path: Path, name: str) -> None:
    fused.save(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(MedgraftError, match=Path(name).name.replace(".", r"\.")):
        fusion.load(tmp_path / "model")


def test_parts_of_different_graphs_are_refused(fused: FusedModel, folder: Path, linker: Linker, tmp_path: Path) -> None:
    other = replace(VECTORS, fingerprint="b" * 64)
    with pytest.raises(MedgraftError, match="embeddings are of graph bbbb"):
        fusion.train("ner", CORPUS, GRAPH, other, linker, encoder=folder)
    with pytest.raises(MedgraftError, match="graph and linker not given"):
        fusion.train("ner", CORPUS, None, other, encoder=folder)
    assert fused.table is not None
    mixed = replace(fused, table=replace(fused.table, fingerprint="b" * 64))
    mixed.save(tmp_path / "mixed")
    with pytest.raises(MedgraftError, match="the linker of aaaa"):
        fusion.load(tmp_path / "mixed")


def test_bad_requests_are_refused_in_one_line(folder: Path) -> None:
    with pytest.raises(MedgraftError, match="unknown task 'poetry'"):
        fusion.train("poetry", CORPUS, encoder=folder)
    with pytest.raises(MedgraftError, match="no mention"):
        fusion.train("ner", replace(CORPUS, train=()), encoder=folder)
    if not torch.cuda.is_available():
        with pytest.raises(MedgraftError, match="no cuda device"):
            fusion.train("ner", CORPUS, encoder=folder, device="cuda")


def test_an_explanation_names_the_fact_that_decides(fused: FusedModel) -> None:
    explained = [e for d in CORPUS.test[:20] for e in fused.explain(d.text)]
    assert len(explained) >= 38
    losses: dict[str, list[float]] = {"own fact": [], "another's fact": []}
    for explanation in explained:
        for effect in explanation.effects:
            if isinstance(effect.taken, Triple):
                whose = "own fact" if effect.taken.head_name == explanation.text else "another's fact"
                losses[whose].append(explanation.probability - effect.probability)
    assert len(losses["own fact"]) == len(explained)
    assert np.mean(losses["own fact"]) > 0.2 > 10 * abs(np.mean(losses["another's fact"]))
    flipped = [e for e in explained if any(isinstance(x.taken, Triple) and x.type != e.mention.type for x in e.effects)]
    assert flipped and "no longer" in flipped[0].describe()


def test_effects_are_what_a_full_run_gives(fused: FusedModel) -> None:
    """The upper blocks alone, against the whole model without its graph."""
    text = CORPUS.test[0].text
    bare = next(fused.pipe([text], with_graph=False))
    for explanation in fused.explain(text):
        types = {(m.start, m.end): m.type for m in bare.mentions}
        m = explanation.mention
        if (m.start, m.end) in types:
            assert explanation.without_graph.type == types[m.start, m.end]
        assert "without the graph" in explanation.describe()
        assert np.isfinite([e.probability for e in explanation.effects]).all()


def test_a_plain_model_has_nothing_to_explain(plain: FusedModel) -> None:
    with pytest.raises(MedgraftError, match="plain model"):
        plain.explain("anything")


@pytest.mark.parametrize("text", ["", " \n\t", "🙂 " * 300, "x" * 3000, "\ud800 a", "a\r\nb"])
def test_odd_texts_are_no_trouble(fused: FusedModel, text: str) -> None:
    document = fused(text)
    assert document.text == text
    assert all(0 <= m.start < m.end <= len(text) for m in document)
    fused.explain(text)


@pytest.mark.gpu
def test_training_on_a_gpu_in_mixed_precision(folder: Path, linker: Linker) -> None:
    settings = {**SETTINGS, "device": "cuda", "precision": "bf16"}
    model = fusion.train("ner", CORPUS, GRAPH, VECTORS, linker, encoder=folder, **settings)
    assert model.encoder.device.type == "cuda"
    assert model.evaluate(CORPUS.test).f1 >= 0.9


def test_the_linking_loss_teaches_nil_where_no_candidate_is_right(folder: Path, linker: Linker) -> None:
    mentions = [tuple(replace(m, concept_id="X:none") for m in document.mentions) for document in CORPUS.train]
    documents = tuple(replace(d, mentions=some) for d, some in zip(CORPUS.train, mentions, strict=True))
    corpus = replace(CORPUS, train=documents)

    def trained(link_loss: float) -> FusedModel:
        given = {**SETTINGS, "epochs": 2}
        return fusion.train("ner", corpus, GRAPH, VECTORS, linker, encoder=folder, link_loss=link_loss, **given)

    def nil_weight(model: FusedModel) -> float:
        """Mean weight of NIL over the mentions without a right candidate."""
        data = model.training_data(corpus.train[:40])
        batch = data.collate(data.examples)
        knowledge = Knowledge.of(batch)
        assert knowledge is not None and (knowledge.target == 0).any()
        encoder = model.network.encoder
        with torch.inference_mode():
            hidden = encoder.encoder.lower(batch, encoder.after_block).hidden
            return float(encoder.knowledge.mentions(hidden, knowledge)[1][knowledge.target == 0, 0].mean())

    without, with_loss = trained(0.0), trained(1.0)
    assert nil_weight(with_loss) > 0.5 > nil_weight(without)
    assert not with_loss.network._forward_hooks
