"""PubMedQA, SQuAD and JSON-lines questions: published counts, repaired offsets, faults named by question."""

import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import InputError, Question, read_questions, write_questions
from loaders.questions import QuestionAccount

LINE = {"question": "Is it?", "context": "It is a test."}


def test_pubmedqa_has_its_published_counts(data: Callable[[str], Path]) -> None:
    file = data("text/pubmedqa/ori_pqal.json.gz")
    account = QuestionAccount(file)
    questions = list(read_questions(file, account))
    assert (account.read, account.kept, account.dropped) == (1000, 1000, Counter())
    assert Counter(q.answer for q in questions) == {"yes": 552, "no": 338, "maybe": 110}
    truth = json.loads(data("text/pubmedqa/test_ground_truth.json").read_text())
    assert {q.id: q.answer for q in questions if q.id in truth} == truth
    raw = json.loads(gzip.decompress(file.read_bytes()))
    for q in questions:
        assert raw[q.id]["LONG_ANSWER"] not in q.context + q.text
        assert q.context == "\n".join(raw[q.id]["CONTEXTS"])


def test_covid_qa_answers_are_all_resolved(data: Callable[[str], Path]) -> None:
    file = data("text/covid_qa/200423_covidQA.json.gz")
    account = QuestionAccount(file)
    questions = list(read_questions(file, account))
    assert account.read == account.kept == len(questions) == 1380
    assert account.answers == {"exact": 1146, "space before not counted": 196, "shifted by 3": 38}
    assert len({q.group for q in questions}) == 98
    raw = json.loads(gzip.decompress(file.read_bytes()))
    answers = [a["answers"][0]["text"] for d in raw["data"] for p in d["paragraphs"] for a in p["qas"]]
    for question, answer in zip(questions, answers, strict=True):
        ((start, end),) = question.spans
        assert question.context[start:end] == question.answer == answer.strip()


def write(folder: Path, content: Any, name: str = "questions.json") -> Path:
    file = folder / name
    lines = content if isinstance(content, list) else [content]
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def squad(**qa: Any) -> dict[str, Any]:
    return {"data": [{"title": "A", "paragraphs": [{"context": "It is a test.", "qas": [{"id": 7, **qa}]}]}]}


def test_squad_2_says_that_there_is_no_answer(tmp_path: Path) -> None:
    file = write(tmp_path, squad(question="Who?", answers=[], is_impossible=True))
    assert list(read_questions(file)) == [Question("7", "Who?", "It is a test.", answer="", group="A")]


def test_several_gold_answers_are_kept_once(tmp_path: Path) -> None:
    answers = [{"text": "a test", "answer_start": 6}, {"text": "test", "answer_start": 8}] * 2
    (question,) = read_questions(write(tmp_path, squad(question="What?", answers=answers)))
    assert question.spans == ((6, 12), (8, 12)) and question.answer == "a test"


def test_json_lines_of_every_kind(tmp_path: Path) -> None:
    lines = [
        {**LINE, "answer": "yes"},
        {**LINE, "id": "b", "spans": [[8, 12]], "group": "g"},
        {"question": "Which?", "options": ["one", "two"], "answer": 1},
        {"question": "Which?", "options": ["one", "two"], "answer": "one"},
        LINE,
    ]
    first, second, third, fourth, last = read_questions(write(tmp_path, lines))
    assert (first.id, first.answer, last.answer) == ("1", "yes", None)
    assert (second.id, second.answer, second.group) == ("b", "test", "g")
    assert (third.answer, third.context, fourth.answer) == ("two", "", "one")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no question"),
        ("{}", "is neither PubMedQA"),
        ("not json", "neither JSON nor JSON lines"),
        ([LINE, "{"], "line 2: no JSON object"),
        ([LINE, "[]"], "line 2: question '2' is no JSON object"),
        ([LINE, {"question": " "}], "line 2: question '2' has no text under 'question'"),
        ([{**LINE, "id": "x"}, {**LINE, "id": "x"}], "line 2: question id 'x' occurs twice"),
        ({**LINE, "id": "x", "spans": [[8, 99]]}, "question 'x' has the span .* outside its context of 13"),
        ({**LINE, "options": ["a", "a"]}, "one twice"),
        ({**LINE, "options": ["a", "b"], "answer": "c"}, "neither one of its options"),
        ({**LINE, "options": ["a", "b"], "answer": 2}, "neither one of its options"),
        (squad(question="What?", answers=[{"text": "nothing", "answer_start": 3}]), "'7' has an answer .* at 3"),
        (squad(question="What?", answers=[{"text": "a test"}]), "'7' has an answer without"),
        (squad(question="What?", answers="a test"), "'7' has no list of objects under 'answers'"),
        ({"data": [{"paragraphs": [{"context": " ", "qas": [{"id": 7, "question": "?"}]}]}]}, "'7' has no context"),
        ({"data": [{}]}, "article 0 of 'data' has no list"),
        ({"12": {"QUESTION": "Is it?", "CONTEXTS": "text"}}, "'12' has no list CONTEXTS"),
        ({"12": {"QUESTION": "Is it?", "CONTEXTS": [], "final_decision": "Yes"}}, "'12' has final_decision 'Yes'"),
    ],
)
def test_faults_name_file_and_question(tmp_path: Path, content: Any, message: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(InputError, match=message) as raised:
        list(read_questions(file))
    assert str(raised.value).startswith(str(file)) and "\n" not in str(raised.value)


def test_malformed_questions_can_be_dropped_and_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path, [LINE, "{", {"question": ""}, {**LINE, "id": "1"}, {**LINE, "id": "z"}])
    account = QuestionAccount(file)
    kept = list(read_questions(file, account, skip_bad=True))
    assert [q.id for q in kept] == ["1", "z"]
    assert (account.read, account.kept, account.dropped) == (5, 2, {"malformed": 3})


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["yes", "", None]), st.booleans()), min_size=1, max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, parts: list[Any]) -> None:
    questions = []
    for number, (text, context, answer, spanned) in enumerate(parts):
        spans = ((0, len(context)),) if spanned else ()
        questions.append(Question(str(number), text, context, answer=context if spanned else answer, spans=spans))
    buffer = io.StringIO()
    write_questions(questions, buffer)
    file = tmp_path_factory.mktemp("written") / "questions.jsonl"
    file.write_text(buffer.getvalue(), newline="")
    assert list(read_questions(file)) == questions
