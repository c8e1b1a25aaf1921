"""From windows to answers: the best span against brute force, each word's votes, thresholds, metrics and judges."""

import itertools
import re
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.alignment import words_of
from lm.answer_scores import correct, evaluate_answers, exact_match, token_f1
from lm.answers import ALWAYS, Votes, answer_of, best_answer_threshold, best_span, span_loss, votes_of
from lm.encoder import Encoder
from lm.questions import (
    QuestionNetwork,
    QuestionScheme,
    answers_extra,
    likeliest,
    question_windows,
    score_windows,
    training_passages,
)
from loaders import Question, read_questions
from loaders.errors import MedgraftError

SPAN = QuestionScheme("span")
scores = st.floats(-5, 5).map(lambda x: round(x, 2))
relaxed = settings(deadline=None, max_examples=60)


@relaxed
@given(
    begin=st.lists(scores, min_size=0, max_size=9),
    seed=st.integers(0, 99),
    gaps=st.sets(st.integers(0, 8)),
    longest=st.integers(1, 9),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_the_best_span_is_that_of_brute_force(
    begin: list[float], seed: int, gaps: set[int], longest: int, temperature: float
) -> None:
    count = len(begin)
    end = np.random.default_rng(seed).normal(size=count)
    words = np.arange(count) + np.array([sum(g < n for g in gaps) for n in range(count)], dtype=int)
    spans = np.stack([10 * words, 10 * words + 5], axis=1) if count else np.zeros((0, 2), int)
    votes = Votes(np.stack([np.array(begin), end], axis=1).reshape(-1, 2), words, spans)
    possible = {
        (i, j + 1): begin[i] + end[j]
        for i, j in itertools.product(range(count), repeat=2)
        if 0 <= j - i < longest and words[j] - words[i] == j - i
    }
    logit, found, total = best_span(votes, temperature, longest)
    assert total == pytest.approx(np.log(1 + sum(np.exp(v / temperature) for v in possible.values())))
    if possible:
        assert logit == pytest.approx(max(possible.values())) and possible[found] == pytest.approx(logit)
    else:
        assert found == (0, 0)


LONG = "nausea after aspirin . " * 9 + "then warfarin was given"
QUESTIONS = [
    Question("a", "which drug ?", LONG, answer="warfarin", spans=((212, 220),)),
    Question("b", "who ?", "the patients of the seizure ward", answer="x", spans=((0, 12),)),
    Question("c", "when ?", "no seizure here", answer=""),
]


def test_every_word_votes_once_wherever_the_windows_are_cut(encoder: Encoder) -> None:
    network = QuestionNetwork(encoder, SPAN, hidden_size=encoder.hidden_size)
    read = question_windows(QUESTIONS, SPAN, encoder, 40, 8)
    assert len(read.passages[0].windows) > 3
    made = [w for passage in read.passages for w in passage.windows]
    found = score_windows(network, made, encoder, answers_extra(QUESTIONS, read, SPAN))
    alone = [score_windows(network, [w], encoder, answers_extra(QUESTIONS, read, SPAN))[0] for w in made]
    for a, b in zip(found, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    start = 0
    for number, (question, passage) in enumerate(zip(QUESTIONS, read.passages, strict=True)):
        some = found[start : start + len(passage.windows)]
        votes = votes_of(SPAN, read, number, some)
        assert votes.words.tolist() == sorted(set(votes.words.tolist()))
        assert " ".join(question.context[i:j] for i, j in votes.spans) == question.context.strip()
        # By hand: of each word the scores in the window where it stands furthest from a cut, less those of no answer.
        for word, (i, j), logits in zip(votes.words, votes.spans, votes.logits, strict=True):
            moved = len(question.text) + 1
            (number_of,) = [n for n, w in enumerate(passage.windows) if w.owned[0] <= word < w.owned[1]]
            window, score = passage.windows[number_of], some[number_of]
            first = min(n for n, (a, b) in enumerate(window.offsets) if a >= 0 and i + moved <= a < b <= j + moved)
            np.testing.assert_allclose(logits, score[first] - score[0], atol=1e-6)
        start += len(passage.windows)


def test_the_real_articles_keep_every_answer_through_windows(data: Callable[[str], Path], encoder: Encoder) -> None:
    every = read_questions(data("text/covid_qa/200423_covidQA.json.gz"))
    questions = [q for q in every if len(q.text) < 60][::20]
    read = question_windows(questions, SPAN, encoder, 128, 16)
    exact = 0
    for number, question in enumerate(questions):
        windows = read.passages[number].windows
        votes = votes_of(SPAN, read, number, [np.zeros((len(w), 2)) for w in windows])
        i, j = words_of(votes.spans, *question.spans[0])
        assert votes.words.tolist() == list(range(votes.words[0], votes.words[0] + len(votes.words)))
        start, end = votes.spans[i, 0], votes.spans[j - 1, 1]
        found = Question("", "", question.context, answer=question.context[start:end])
        exact += (start, end) == question.spans[0]
        assert token_f1(question, found) >= 0.8
    assert exact >= 0.9 * len(questions)


def test_training_keeps_windows_with_the_answer_and_the_likeliest_others(encoder: Encoder) -> None:
    read = question_windows(QUESTIONS, SPAN, encoder, 40, 8)
    kept = [p.windows[0] for p in training_passages(QUESTIONS, read, SPAN)]
    batch = answers_extra(QUESTIONS, read, SPAN)(kept)
    of_first = [n for n, window in enumerate(kept) if window.document == 0]
    held = [n for n in of_first if batch["questions.start"][n] or batch["questions.end"][n]]
    assert held and len(of_first) - len(held) == 2
    for n in held:
        for name, word in (("start", "warfarin"), ("end", "warfarin")):
            place = int(batch[f"questions.{name}"][n])
            if place:
                start, end = kept[n].word_spans[kept[n].words[place]] - len(QUESTIONS[0].text) - 1
                assert QUESTIONS[0].context[start:end] == word
    assert not any(batch["questions.start"][n] for n, window in enumerate(kept) if window.document == 2)


def test_the_windows_that_share_rare_words_come_first(encoder: Encoder) -> None:
    context = "seizure of the ward . " * 6 + "aspirin . " + "seizure of the ward . " * 6
    question = Question("a", "the aspirin ?", context, answer="")
    read = question_windows([question], SPAN, encoder, 40, 0)
    windows = read.passages[0].windows
    order = likeliest(read.texts[0], windows)
    assert sorted(order) == list(range(len(windows)))
    moved = len(question.text) + 1
    held = [[context[i - moved : j - moved] for i, j in w.offsets if i >= moved] for w in windows]
    assert "aspirin" in held[order[0]] and "aspirin" not in held[order[-1]]
    few = question_windows([question], SPAN, encoder, 40, 0, max_windows=1)
    assert [w.span for w in few.passages[0].windows] == [windows[order[0]].span]


def test_labels_and_options_are_means_over_windows(encoder: Encoder) -> None:
    label = QuestionScheme("label", ("no", "yes"))
    question = Question("a", "does it ?", "nausea after aspirin . " * 9, answer="yes")
    read = question_windows([question], label, encoder, 40, 8)
    made = [np.array([n, 3.0]) for n in range(len(read.passages[0].windows))]
    votes = votes_of(label, read, 0, made)
    np.testing.assert_allclose(votes.logits, np.mean(made, axis=0))
    answered = answer_of(label, question, votes, temperature=2.0)
    powers = np.exp(votes.logits / 2)
    assert answered.answer == label.labels[int(powers.argmax())]
    assert answered.score == pytest.approx(float(powers.max() / powers.sum()))


@relaxed
@given(st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=8))
def test_the_threshold_is_the_best_of_all(cases: list[tuple[float, bool]]) -> None:
    gold, votes = [], []
    for number, (logit, answerable) in enumerate(cases):
        spans = ((0, 4),) if answerable else ()
        gold.append(Question(str(number), "?", "test it", answer="test" if answerable else "", spans=spans))
        votes.append(Votes(np.array([[logit, 0.0], [-9, -9]]), np.array([0, 1]), np.array([[0, 4], [5, 7]])))

    def value(threshold: float) -> float:
        return sum(token_f1(q, answer_of(SPAN, q, v, threshold=threshold)) for q, v in zip(gold, votes, strict=True))

    best = best_answer_threshold(gold, votes)
    possible = [ALWAYS, *(logit + step for logit, _ in cases for step in (-0.001, 0.001))]
    assert value(best) == pytest.approx(max(map(value, possible)))
    if all(answerable for _, answerable in cases):
        assert best == ALWAYS


def test_the_loss_of_spans_is_that_of_the_first_gold_answer() -> None:
    votes = Votes(np.array([[1.0, 0.5], [2.0, -1.0]]), np.array([0, 1]), np.array([[0, 4], [5, 7]]))
    gold = [Question("a", "?", "test it", spans=((0, 7),)), Question("b", "?", "test it", answer="")]
    everything = np.array([0.0, 1.5, 1.0, 0.0]) / 2  # none; the words alone; both
    total = np.log(np.exp(everything).sum())
    assert span_loss(gold, [votes, votes])(2.0) == pytest.approx(((total - 0.0) + (total - 0.0)) / 2)


def slow_normalise(text: str) -> str:
    """As in the evaluation script of SQuAD 1.1: lower case, punctuation, articles, white space."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def slow_f1(gold: str, found: str) -> float:
    wanted, had = slow_normalise(gold).split(), slow_normalise(found).split()
    if not wanted or not had:
        return float(wanted == had)
    left = list(had)
    shared = 0
    for word in wanted:
        if word in left:
            left.remove(word)
            shared += 1
    precision, recall = shared / len(had), shared / len(wanted)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


texts = st.lists(st.sampled_from(["the", "a", "An", "cat", "Cat,", "sat.", "", "β-1", "  "]), max_size=5).map(" ".join)


@given(context=texts, answers=st.lists(texts, min_size=1, max_size=3), found=texts)
def test_exact_match_and_f1_agree_with_a_slow_judge(context: str, answers: list[str], found: str) -> None:
    answers = [answer for answer in answers if answer] or ["cat"]
    whole = context + "|".join(answers)
    starts = [whole.index(answer) for answer in answers]
    gold = Question("1", "?", whole, spans=tuple((s, s + len(a)) for s, a in zip(starts, answers, strict=True)))
    predicted = Question("1", "?", whole, answer=found)
    assert exact_match(gold, predicted) == max(float(slow_normalise(a) == slow_normalise(found)) for a in answers)
    assert token_f1(gold, predicted) == pytest.approx(max(slow_f1(a, found) for a in answers))


LABELS = st.sampled_from(["yes", "no", "maybe"])


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=12))
def test_accuracy_and_macro_f1_agree_with_a_slow_judge(pairs: list[tuple[str, str]]) -> None:
    gold = [Question(str(n), "?", "it", answer=g) for n, (g, _) in enumerate(pairs)]
    found = [Question(str(n), "?", "it", answer=f) for n, (_, f) in enumerate(pairs)]
    result = evaluate_answers(gold, found[::-1])
    assert result.measures["accuracy"] == pytest.approx(sum(g == f for g, f in pairs) / len(pairs))
    each = []
    for label in {g for g, _ in pairs}:
        right = sum(g == f == label for g, f in pairs)
        each.append(2 * right / (sum(g == label for g, _ in pairs) + sum(f == label for _, f in pairs)))
    assert result.f1 == result.measures["macro_f1"] == pytest.approx(sum(each) / len(each))
    assert [correct(g, f) for g, f in zip(gold, found, strict=True)] == [g == f for g, f in pairs]


def test_choices_have_an_accuracy_and_unanswerable_questions_count() -> None:
    choice = Question("1", "?", "", options=("a", "b"), answer="a")
    assert evaluate_answers([choice], [choice]).as_dict() == {"questions": 1, "accuracy": 1.0}
    none, some = Question("1", "?", "it", answer=""), Question("1", "?", "it", answer="it")
    assert evaluate_answers([none], [none]).measures == {"exact_match": 1.0, "token_f1": 1.0}
    assert evaluate_answers([none], [some]).f1 == 0.0 and "token_f1" in str(evaluate_answers([none], [some]))


def test_scores_need_gold_answers_of_the_same_questions() -> None:
    known, unknown = Question("1", "?", "it", answer="yes"), Question("1", "?", "it")
    with pytest.raises(MedgraftError, match="'1' has no gold answer"):
        evaluate_answers([unknown], [known])
    with pytest.raises(MedgraftError, match="not the same"):
        evaluate_answers([known], [])
