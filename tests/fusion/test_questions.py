"""Fused question answering: what only a fact between the two sides decides, equality without facts, explaining."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fusion
from fusion.ablation import ablate
from fusion.arms import ARMS, Material
from fusion.questions import QuestionModel
from kg import Linker
from loaders.errors import MedgraftError
from loaders.records import Question
from tests.fusion.invented import invented_names, invented_vectors
from tests.fusion.invented_questions import invented_questions
from tests.fusion.invented_relations import invented_pairs

NAMES = invented_names(320)
GRAPH = invented_pairs(NAMES)
VECTORS = invented_vectors(GRAPH)
CORPORA = {kind: invented_questions(NAMES, kind, (160, 40, 80)) for kind in ("label", "choice", "span")}
SETTINGS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "new_learning_rate": 2e-3,
    "knowledge_learning_rate": 1e-2,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


@pytest.fixture(scope="module")
def fused(folder: Path, linker: Linker, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], QuestionModel]:
    made: dict[str, QuestionModel] = {}

    def model(kind: str) -> QuestionModel:
        if kind not in made:
            out = tmp_path_factory.mktemp("models") / kind
            trained = fusion.train("qa", CORPORA[kind], GRAPH, VECTORS, linker, encoder=folder, out=out, **SETTINGS)
            assert isinstance(trained, QuestionModel)
            loaded = fusion.load(out)
            questions = CORPORA[kind].test
            assert [(q, q.score) for q in loaded.pipe(questions)] == [(q, q.score) for q in trained.pipe(questions)]
            assert loaded.settings == trained.settings and loaded.settings.kind == kind
            made[kind] = trained
        return made[kind]

    return model


def accuracy(model: QuestionModel, kind: str) -> float:
    scores = model.evaluate(CORPORA[kind].test).measures
    return scores["exact_match" if kind == "span" else "accuracy"]


@pytest.mark.parametrize(("kind", "chance"), [("label", 0.7), ("choice", 0.7), ("span", 0.55)])
def test_only_the_fact_between_the_two_sides_decides(
    fused: Callable[[str], QuestionModel], folder: Path, linker: Linker, kind: str, chance: float
) -> None:
    model = fused(kind)
    assert accuracy(model, kind) >= 0.95
    assert model.stated(CORPORA[kind].test) == 1.0
    bare = replace(model, table=replace(model.table, facts=model.table.facts.empty()))
    assert bare.stated(CORPORA[kind].test) == 0.0
    plain = fusion.train("qa", CORPORA[kind], encoder=folder, **{**SETTINGS, "epochs": 3})
    assert accuracy(plain, kind) <= chance
    if kind == "label":
        material = Material(GRAPH, VECTORS, linker, CORPORA[kind], folder, pairs=True)
        permuted = fusion.train(
            "qa", CORPORA[kind], linker=linker, knowledge=ARMS["permuted"](material, 0), encoder=folder, **SETTINGS
        )
        assert accuracy(permuted, kind) <= chance


@pytest.mark.parametrize("kind", CORPORA)
def test_trained_with_every_mention_nil_it_equals_plain_training_bit_for_bit(
    folder: Path, linker: Linker, kind: str
) -> None:
    few = replace(CORPORA[kind], train=CORPORA[kind].train[:16], dev=())
    settings = {**SETTINGS, "epochs": 1}
    table = ARMS["nil"](Material(GRAPH, VECTORS, linker, few, folder, pairs=True), 0)
    nil = fusion.train("qa", few, linker=linker, knowledge=table, encoder=folder, **settings)
    plain = fusion.train("qa", few, encoder=folder, **settings)
    for part in ("encoder", "output"):
        ours = (nil.encoder if part == "encoder" else nil.network.output).state_dict()
        theirs = (plain.encoder if part == "encoder" else plain.network.output).state_dict()
        assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


@pytest.mark.parametrize("kind", CORPORA)
def test_with_the_graph_off_it_answers_as_without_knowledge_bit_for_bit(
    fused: Callable[[str], QuestionModel], kind: str
) -> None:
    model = fused(kind)
    plain = QuestionModel.make(model.encoder, model.settings, None, None)
    plain.network.output.load_state_dict(model.network.output.state_dict())
    plain.network.eval()
    questions = CORPORA[kind].test[:20]
    off = list(model.pipe(questions, with_graph=False))
    assert [(q, q.score) for q in off] == [(q, q.score) for q in plain.pipe(questions)]


@pytest.mark.parametrize("kind", CORPORA)
def test_a_question_alone_and_among_others_gives_the_same(fused: Callable[[str], QuestionModel], kind: str) -> None:
    questions = CORPORA[kind].test[:12]
    for question, among in zip(questions, fused(kind).pipe(questions), strict=True):
        alone = fused(kind).answer(question.text, question.context, question.options)
        assert (alone.answer, alone.spans) == (among.answer, among.spans)
        assert alone.score == pytest.approx(among.score, abs=1e-5)


@pytest.mark.parametrize("kind", CORPORA)
def test_an_explanation_names_the_fact_that_decided(fused: Callable[[str], QuestionModel], kind: str) -> None:
    model = fused(kind)
    question = next(q for q in CORPORA[kind].test if q.answer != "no")  # "no" is what is left without a fact
    (explanation,) = model.explain(question)
    answered = model(question)
    assert explanation.question == answered
    assert explanation.probability == pytest.approx(answered.score, abs=1e-5)
    strongest = explanation.effects[0]
    assert "fact" in strongest.what or "concept" in strongest.what
    assert strongest.probability < explanation.probability - 0.05
    fact = next(e for e in explanation.effects if "fact" in e.what)
    assert fact.probability < explanation.probability - 0.05 and fact.what in explanation.describe()
    # By hand: the same model with that one fact gone from its graph.
    head, tail = (model.table.id_to_row[end] for end in (fact.taken.head, fact.taken.tail))
    neighbours = model.table.neighbours.clone()
    for a, b in ((head, tail), (tail, head)):
        neighbours[a] = torch.where(neighbours[a] == b, -1, neighbours[a])
    facts = model.table.facts.without([(head, tail)])
    bare = replace(model, table=replace(model.table, facts=facts, neighbours=neighbours))
    changed = bare(question)
    assert (changed.answer or "") == fact.type
    if changed.answer == answered.answer:
        assert changed.score == pytest.approx(fact.probability, abs=1e-5)
    off = next(model.pipe([question], with_graph=False))
    assert explanation.without_graph.type == (off.answer or "")


def test_long_contexts_are_read_in_windows_and_answers_found_in_the_original(
    fused: Callable[[str], QuestionModel],
) -> None:
    model = replace(fused("span"), settings=replace(fused("span").settings, max_pieces=64, stride=8))
    for question in CORPORA["span"].test[:6]:
        padding = "there was nothing . " * 12
        ((start, end),) = question.spans
        moved = ((start + len(padding), end + len(padding)),)
        long = replace(question, context=padding + question.context + " " + padding, spans=moved)
        found = model(long)
        assert found.spans and long.context[slice(*found.spans[0])] == found.answer
        few = replace(model, settings=replace(model.settings, max_windows=1))
        assert len(few.prepare([long], None).read.passages[0].windows) == 1
        assert len(model.prepare([long], None).read.passages[0].windows) > 4


def test_bad_questions_are_refused_in_one_line(
    fused: Callable[[str], QuestionModel], folder: Path, linker: Linker
) -> None:
    label, span, choice = fused("label"), fused("span"), fused("choice")
    good = CORPORA["label"].test[0]
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: label.answer("does it ?"), "has no context"),
        (lambda: label("does it ?"), "a question needs its context"),
        (lambda: label.answer("does it ?", "it does", ("a", "b")), "of another kind"),
        (lambda: choice.answer("which ?", "it does"), "of another kind"),
        (lambda: label.evaluate([replace(good, answer="perhaps")]), "'perhaps', which training did not know"),
        (lambda: span.evaluate([Question("7", "what ?", "it .", answer="x", spans=((2, 9),))]), "'7' .* outside"),
        (lambda: label.evaluate([replace(good, answer=None)]), "no gold answer"),
        (lambda: label.answer("long " * 200, "it does"), "leaves no room"),
    ]
    corpus = CORPORA["label"]
    for change, message in (
        ({"train": ()}, "no questions to train on"),
        ({"train": (replace(good, answer=None),)}, "has no answer to train on"),
        ({"train": (good, CORPORA["span"].test[0])}, "several kinds"),
        ({"train": (replace(good, context=" "),)}, "has no context"),
        ({"dev": (replace(good, answer="perhaps"),)}, "'perhaps', which training did not know"),
    ):
        bad = replace(corpus, **change)
        cases.append((lambda bad=bad: fusion.train("qa", bad, encoder=folder, **SETTINGS), message))
    cases.append((lambda: fusion.train("ner", corpus, encoder=folder, **SETTINGS), "not a corpus for ner"))
    for call, message in cases:
        with pytest.raises(MedgraftError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_a_plain_model_has_nothing_to_explain(folder: Path) -> None:
    few = replace(CORPORA["label"], train=CORPORA["label"].train[:8], dev=())
    plain = fusion.train("qa", few, encoder=folder, **{**SETTINGS, "epochs": 1})
    with pytest.raises(MedgraftError, match="no knowledge to explain"):
        plain.explain(few.test[0])


def test_calibration_changes_confidence_and_no_answer(fused: Callable[[str], QuestionModel]) -> None:
    model = fused("label")
    other = replace(model, settings=model.at_temperature(3 * model.settings.temperature))
    questions = CORPORA["label"].test[:20]
    for ours, theirs in zip(model.pipe(questions), other.pipe(questions), strict=True):
        assert ours.answer == theirs.answer
        assert theirs.score <= ours.score
    found = fusion.reliability(other, CORPORA["label"].test)
    assert found.predictions == 80 and found.after != found.before


@pytest.mark.parametrize("text", ["\u200b", "😀", "lone \ud800 surrogate", "nai\u0308ve " * 40, "[SEP] </s>", "\x00 a"])
def test_odd_texts_are_no_trouble(fused: Callable[[str], QuestionModel], text: str) -> None:
    for kind, model in ((kind, fused(kind)) for kind in CORPORA):
        found = model.answer(text[:20], text, (text[:20], "other") if kind == "choice" else ())
        assert found.answer is not None and 0 <= found.score <= 1
        assert all(text[i:j] == found.answer for i, j in found.spans)
        model.explain(replace(found, answer=None))
        fusion.display(found, model.table)


def test_parts_of_different_graphs_are_refused(fused: Callable[[str], QuestionModel], tmp_path: Path) -> None:
    fused("label").save(tmp_path / "model")
    words = tmp_path / "model" / "knowledge" / "knowledge.json"
    words.write_text(words.read_text().replace("a" * 64, "b" * 64))
    with pytest.raises(MedgraftError, match="knowledge is of graph bbbbbbbbbbbb, the linker of aaaaaaaaaaaa"):
        fusion.load(tmp_path / "model")


def test_unanswerable_questions_are_learnt(folder: Path) -> None:
    def first(question: Question) -> Question:
        """The answer is the first of the three names: no graph is needed for that."""
        start, end = 11, question.context.index(" ,")
        answer = question.context[start:end]
        return replace(question, text="which came first ?", answer=answer, spans=((start, end),))

    def without(question: Question) -> Question:
        return replace(question, id=f"{question.id} none", text="who was there ?", answer="", spans=())

    parts = [
        tuple(f(q) for q in part[:120] for f in (first, without))
        for part in vars(CORPORA["span"]).values()
        if isinstance(part, tuple)
    ]
    corpus = fusion.QuestionCorpus("first or none", *parts)
    model = fusion.train("qa", corpus, encoder=folder, **SETTINGS)
    found = list(model.pipe(corpus.test))
    right = sum((q.answer == "") == (p.answer == "") for q, p in zip(corpus.test, found, strict=True))
    assert right >= 0.95 * len(corpus.test)
    assert model.evaluate(corpus.test).measures["exact_match"] >= 0.9


@pytest.mark.parametrize("kind", ["label", "span"])
def test_a_battery_for_questions(folder: Path, linker: Linker, tmp_path: Path, kind: str) -> None:
    corpus = CORPORA[kind]
    few = replace(corpus, train=corpus.train[:8], dev=corpus.dev[:4], test=corpus.test[:8])
    settings = {**SETTINGS, "epochs": 1, "after_block": 1}
    arms = ["plain", "without-pair-facts", "true"]
    compared = ablate(
        few, GRAPH, VECTORS, linker, out=tmp_path, task="qa", arms=arms, seeds=[0], encoder=folder,
        frozen_blocks=1, **settings,
    )  # fmt: skip
    assert {line.arm for line in compared} >= {*arms, "graph removed"}
    with pytest.raises(MedgraftError, match="unknown arm 'unstated'"):
        ablate(few, GRAPH, VECTORS, linker, out=tmp_path, task="qa", arms=["unstated"], encoder=folder)
