"""Fused relation models: what only a fact between two concepts can decide, equality without facts, explaining."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fusion
from fusion.ablation import ablate
from fusion.arms import ARMS, Material, _OtherTriples, without_stated
from fusion.attention import Knowledge
from fusion.card import model_card
from fusion.explanation import each_taken_away
from fusion.facts import fact_places, places_of, without_facts
from fusion.relations import Prepared, RelationModel
from fusion.robustness import without_knowledge
from kg import Linker
from lm.alignment import collate
from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Triple
from tests.fusion.invented import invented_names, invented_vectors
from tests.fusion.invented_relations import invented_pairs, invented_relation_corpus

NAMES = invented_names(320)
GRAPH = invented_pairs(NAMES)
VECTORS = invented_vectors(GRAPH)
CORPUS = invented_relation_corpus(NAMES, (160, 40, 80))
SETTINGS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "new_learning_rate": 2e-3,
    "knowledge_learning_rate": 1e-2,
    "attention_dropout": 0.1,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


@pytest.fixture(scope="module")
def fused(folder: Path, linker: Linker, tmp_path_factory: pytest.TempPathFactory) -> RelationModel:
    out = tmp_path_factory.mktemp("models") / "fused"
    model = fusion.train("relations", CORPUS, GRAPH, VECTORS, linker, encoder=folder, out=out, **SETTINGS)
    assert isinstance(model, RelationModel)
    loaded = fusion.load(out)
    assert list(loaded.pipe(CORPUS.test)) == list(model.pipe(CORPUS.test))
    assert loaded.settings == model.settings and loaded.leaks == model.leaks
    return model


def test_the_card_says_what_the_graph_states_of_the_labels(fused: RelationModel, tmp_path: Path) -> None:
    shares = fused.leaks["stated"]
    assert shares == fused.stated(CORPUS.dev) and shares["related"] > 0.9
    card = model_card(fused)
    assert "CID: the curators of CTD made these labels" in card and "the graph holds no such fact" in card
    assert f"{shares['unrelated']:.1%} of the unrelated development pairs" in card
    assert "none is known" in model_card(replace(fused, leaks={**fused.leaks, "searched for": []}))
    assert "What the graph states" not in model_card(replace(fused, leaks={}))


def test_only_the_fact_between_two_unseen_names_decides(fused: RelationModel, folder: Path, linker: Linker) -> None:
    plain = fusion.train("relations", CORPUS, encoder=folder, **SETTINGS)
    material = Material(GRAPH, VECTORS, linker, CORPUS, folder, pairs=True)
    permuted = fusion.train(
        "relations", CORPUS, linker=linker, knowledge=ARMS["permuted"](material, 0), encoder=folder, **SETTINGS
    )
    accuracies = {name: accuracy(model) for name, model in (("f", fused), ("p", plain), ("m", permuted))}
    assert accuracies["f"] >= 0.95
    assert accuracies["p"] <= 0.7 and accuracies["m"] <= 0.7


def accuracy(model: fusion.FusedModel) -> float:
    """Share of test documents whose one pair is judged rightly."""
    found = model.pipe(CORPUS.test)
    return sum(bool(f.relations) == bool(g.relations) for f, g in zip(found, CORPUS.test, strict=True)) / len(
        CORPUS.test
    )


def test_trained_with_every_mention_nil_it_equals_plain_training_bit_for_bit(folder: Path, linker: Linker) -> None:
    few = replace(CORPUS, train=CORPUS.train[:24], dev=())
    settings = {**SETTINGS, "epochs": 1}
    table = ARMS["nil"](Material(GRAPH, VECTORS, linker, CORPUS, folder, pairs=True), 0)
    nil = fusion.train("relations", few, linker=linker, knowledge=table, encoder=folder, **settings)
    plain = fusion.train("relations", few, encoder=folder, **settings)
    for name, weight in plain.encoder.state_dict().items():
        assert torch.equal(nil.encoder.state_dict()[name], weight), name
    for name, weight in plain.network.output.state_dict().items():
        assert torch.equal(nil.network.output.state_dict()[name], weight), name


def test_relations_come_with_evidence_and_probability(fused: RelationModel) -> None:
    for document in fused.pipe(CORPUS.test[:20]):
        for relation in document.relations:
            assert relation.score is not None and fused.settings.threshold <= relation.score <= 1
            spans = relation.evidence
            assert spans and all(0 <= start < end <= len(document.text) for start, end in spans)
            assert any(start <= m.start < end for start, end in spans for m in document.mentions)


def test_a_document_alone_and_among_others_gives_the_same(fused: RelationModel) -> None:
    together = list(fused.pipe(CORPUS.test[:12]))
    for document, among in zip(CORPUS.test, together, strict=False):
        alone = fused(document)
        assert alone.relations == among.relations
        for a, b in zip(alone.relations, among.relations, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)


def test_an_explanation_names_the_fact_that_decided(fused: RelationModel) -> None:
    related = (d for d in fused.pipe(CORPUS.test) if d.relations)
    document = min(related, key=lambda d: d.relations[0].score or 0)  # the least sure: others round to 1 either way
    (explanation,) = fused.explain(document)
    assert "causes" in explanation.effects[0].what
    assert explanation.effects[0].probability < explanation.probability - 0.01
    assert explanation.effects[0].what in explanation.describe()
    # Either end takes the fact along.
    ends = (explanation.relation.head, explanation.relation.tail)
    taken = {e.taken.id: e.probability for e in explanation.effects if isinstance(e.taken, Concept)}
    assert [taken[end] for end in ends] == [explanation.effects[0].probability] * 2
    # By hand: the same model with that one fact gone from its graph.
    head, tail = (fused.table.id_to_row[end] for end in (explanation.relation.head, explanation.relation.tail))
    facts = fused.table.facts.without([(head, tail)])
    neighbours = fused.table.neighbours.clone()
    for a, b in ((head, tail), (tail, head)):
        neighbours[a] = torch.where(neighbours[a] == b, -1, neighbours[a])
    bare = replace(fused, table=replace(fused.table, facts=facts, neighbours=neighbours))
    prepared = bare.prepare([document], bare.link([document]))
    score = bare._scores(prepared, False)[0][0, 0]
    assert explanation.effects[0].probability == pytest.approx(float(score), abs=1e-5)


@pytest.mark.parametrize("silent", [True, False])
def test_an_explanation_is_what_the_whole_model_says_without_the_thing(fused: RelationModel, silent: bool) -> None:
    attention = fused.fused_encoder.knowledge
    assert attention.silent  # as relations are trained
    weights = attention.output.weight.detach().clone()
    if not silent:
        torch.nn.init.normal_(attention.output.weight, std=0.3, generator=torch.Generator().manual_seed(0))
        assert not attention.silent
    cut = replace(fused, settings=replace(fused.settings, max_pieces=12, stride=4, threshold=0.0))
    pair = max(CORPUS.test, key=lambda d: len(d.relations))
    # Between two pieces of text in which nothing is linked, so that most windows stay as they are.
    text = "nothing at all was said here . " * 3
    document = replace(
        pair,
        text=text + pair.text + " " + text,
        mentions=tuple(replace(m, start=m.start + len(text), end=m.end + len(text)) for m in pair.mentions),
        relations=(),
    )
    try:
        predicted = cut(document)
        prepared = cut.prepare([predicted], cut.link([predicted]))
        assert len(prepared.passages[0].windows) > 3
        (explanation,) = cut.explain(document)
        for effect in (explanation.without_graph, *explanation.effects):
            assert effect.probability == pytest.approx(without(cut, prepared, effect.taken), abs=1e-5), effect.what
        things = {effect.what for effect in explanation.effects}
        assert len(things) == len(explanation.effects) and any("fact" in what for what in things)
        assert {m.concept_id for m in pair.mentions} <= {getattr(e.taken, "id", None) for e in explanation.effects}
    finally:
        attention.output.weight.data = weights


def without(model: RelationModel, prepared: Prepared, thing: Concept | Triple | None) -> float:
    """The probability of the one pair when the whole network reads a batch that lacks the thing."""
    table = model.table
    assert table is not None
    batch = collate(prepared.passages[0].windows, model.encoder, *prepared.extras)
    places = fact_places(batch, prepared.facts[0], table.ids, table.names, table.relation_names)
    knowledge = Knowledge.of(batch)
    assert knowledge is not None
    if thing is None:
        batch = without_knowledge(batch)
    else:
        rest = dict(each_taken_away(knowledge, table)).get(thing, knowledge)
        batch = without_facts(batch | rest.tensors(), places_of(thing, places))
    with torch.inference_mode():
        return float((model.network(batch).logits / model.settings.temperature).sigmoid()[0, 0])


def test_without_linked_mentions_nothing_can_be_found(fused: RelationModel) -> None:
    with pytest.raises(MedgraftError, match="no mention with a concept"):
        fused(Document("1", "A text."))
    assert list(fused.pipe([])) == []


def test_a_corpus_without_relations_is_refused(folder: Path) -> None:
    bare = replace(CORPUS, train=tuple(replace(d, relations=()) for d in CORPUS.train))
    with pytest.raises(MedgraftError, match="no relation"):
        fusion.train("relations", bare, encoder=folder, **SETTINGS)


def test_without_what_is_stated_no_pair_of_the_test_has_a_fact(fused: RelationModel, linker: Linker) -> None:
    assert fused.stated(CORPUS.test) == {"related": 1.0, "unrelated": 1.0}
    bare = replace(fused, table=without_stated(fused.table, CORPUS, linker))
    assert bare.stated(CORPUS.test) == bare.stated(CORPUS.dev) == {"related": 0.0, "unrelated": 0.0}
    assert bare.stated(CORPUS.train) == fused.stated(CORPUS.train)
    last = fused.table.id_to_row[CORPUS.test[0].mentions[0].concept_id]
    assert (bare.table.neighbours[last] == -1).all() and (fused.table.neighbours[last] >= 0).any()


def test_a_battery_for_relations(folder: Path, linker: Linker, tmp_path: Path) -> None:
    few = replace(CORPUS, train=CORPUS.train[:8], dev=CORPUS.dev[:4], test=CORPUS.test[:8])
    arms = ["plain", "rewired", "without-pair-facts", "unstated", "true"]
    settings = {**SETTINGS, "epochs": 1}
    compared = ablate(
        few, GRAPH, VECTORS, linker, out=tmp_path, task="relations", arms=arms, seeds=[0], encoder=folder, **settings
    )
    assert [line.arm for line in compared] == [*arms, "10 % wrong links", "30 % wrong links", "graph removed"]


def test_rewired_facts_are_others(fused: RelationModel, folder: Path, linker: Linker) -> None:
    rewired = ARMS["rewired"](Material(GRAPH, VECTORS, linker, CORPUS, folder, pairs=True), 0)
    assert rewired is not None and rewired.facts is not None
    assert len(rewired.facts.keys) == len(fused.table.facts.keys)
    assert not torch.equal(rewired.facts.keys, fused.table.facts.keys)
    assert not torch.equal(rewired.neighbours, fused.table.neighbours)


def test_relations_hear_of_the_facts_alone_unless_the_attention_is_asked_for(
    fused: RelationModel, folder: Path, linker: Linker
) -> None:
    assert fused.attention is not None and not fused.attention.output.weight.any()
    assert fused.network.facts is not None and fused.network.facts.weights.weight.any()
    few = replace(CORPUS, train=CORPUS.train[:16])
    given: dict[str, Any] = {**SETTINGS, "epochs": 1, "encoder": folder}
    both = fusion.train("relations", few, GRAPH, VECTORS, linker, sentence_dropout=0.1, **given)
    assert both.attention is not None and both.attention.output.weight.any()
    with pytest.raises(MedgraftError, match="linking loss teaches the knowledge attention"):
        fusion.train("relations", few, GRAPH, VECTORS, linker, link_loss=0.1, **given)


def test_a_graph_that_has_nothing_to_say_of_pairs_is_warned_of(folder: Path, linker: Linker) -> None:
    few = replace(CORPUS, train=CORPUS.train[:8], dev=())
    mute = _OtherTriples(GRAPH, GRAPH.table("triples").slice(0, 0))
    given: dict[str, Any] = {**SETTINGS, "epochs": 1, "encoder": folder}
    with pytest.warns(UserWarning, match="no fact between the concepts of any training pair"):
        fusion.train("relations", few, mute, VECTORS, linker, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fusion.train("relations", few, mute, VECTORS, linker, sentence_dropout=0.1, **given)
        fusion.train("relations", few, GRAPH, VECTORS, linker, **given)
