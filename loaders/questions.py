"""Questions with their contexts: PubMedQA, SQuAD 1.1 and 2.0, and JSON lines.

JSON lines: one object a line with `question`, and as far as there are any `id`, `context`, `options` (a list of texts),
`answer` (an option or its number counted from 0, a label, or "" where the context has no answer), `spans` (a list of
[start, end), characters of the context) and `group` (the article). `write_questions` writes the same.

Of PubMedQA (Jin et al., EMNLP 2019) the abstract without its conclusion is read: `LONG_ANSWER` is the conclusion and
gives the answer away, and `MESHES` are not text. SQuAD is the form of Rajpurkar et al. (2016, 2018).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.records import Question
from loaders.tables import Account

Json = dict[str, Any]


@dataclass
class QuestionAccount(Account):
    """What became of the questions of a file; `answers` counts how the offsets of SQuAD answers were resolved."""

    answers: Counter[str] = field(default_factory=Counter)


def read_questions(
    path: str | Path, account: QuestionAccount | None = None, *, skip_bad: bool = False
) -> Iterator[Question]:
    """The questions of a PubMedQA, SQuAD or JSON-lines file, plain or gzip; the format is told by its content.

    Offsets of SQuAD answers that do not fit their text are put right where they are off by white space before the
    answer, or by 3 characters (both occur in COVID-QA).

    Args:
        path: the file.
        account: where to count what became of the questions.
        skip_bad: drop and count malformed questions instead of raising.

    Raises:
        InputError: no such file, another format, or (with the question's id) something malformed.
    """
    path = Path(path)
    account = QuestionAccount(path) if account is None else account
    whole = "\n".join(line for _, line in text_lines(path))
    if not whole.strip():
        raise InputError(path, None, "holds no question; it is empty")
    account.format, records, read = _format(path, whole)
    seen: set[str] = set()
    for where, record in records:
        try:
            question = read(path, where, record, account)
            if question.id in seen:
                raise InputError(path, where.line, f"question id {question.id!r} occurs twice; make the ids distinct")
        except InputError:
            if not skip_bad:
                raise
            account.drop("malformed")
            continue
        seen.add(question.id)
        account.keep()
        yield question


def write_questions(questions: Iterable[Question], file: TextIO) -> None:
    """JSON lines that `read_questions` reads; `score` is written too where there is one."""
    for q in questions:
        record: Json = {"id": q.id, "question": q.text, "context": q.context, "options": list(q.options)}
        record |= {"answer": q.answer, "spans": [list(span) for span in q.spans], "group": q.group, "score": q.score}
        kept = {
            name: value for name, value in record.items() if value not in ([], None) and (name, value) != ("group", "")
        }
        file.write(json.dumps(kept, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class _Where:
    """Line of a JSON-lines file, or the record's id in a file that is one JSON value."""

    line: int | None
    id: str


Records = Iterable[tuple[_Where, Any]]
Reader = Callable[[Path, _Where, Any, QuestionAccount], Question]


def _format(path: Path, whole: str) -> tuple[str, Records, Reader]:
    first = whole.lstrip().split("\n", 1)[0]
    try:
        value = json.loads(first)
        lines = isinstance(value, dict) and "question" in value
    except (json.JSONDecodeError, RecursionError):
        lines = False
    if lines:
        return "jsonl", _json_lines(path, whole), _from_line
    try:
        value = json.loads(whole)
    except json.JSONDecodeError as error:
        raise InputError(
            path, error.lineno, f"neither JSON nor JSON lines with a 'question' in each ({error.msg}); check the format"
        ) from error
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        return "squad", _squad(path, value["data"]), _from_squad
    if isinstance(value, dict) and value and all(isinstance(v, dict) and "QUESTION" in v for v in value.values()):
        return "pubmedqa", ((_Where(None, id), record) for id, record in value.items()), _from_pubmedqa
    raise InputError(
        path, None, "is neither PubMedQA (QUESTION by id), nor SQuAD (data), nor JSON lines with a 'question' in each"
    )


def _json_lines(path: Path, whole: str) -> Records:
    for number, line in enumerate(whole.split("\n"), 1):
        if line.strip():
            try:
                yield _Where(number, str(number)), json.loads(line)
            except json.JSONDecodeError as error:
                yield _Where(number, str(number)), InputError(path, number, f"no JSON object ({error.msg})")


def _squad(path: Path, articles: list[Any]) -> Records:
    for number, article in enumerate(articles):
        for paragraph in _list(path, article, "paragraphs", f"article {number} of 'data'"):
            for qa in _list(path, paragraph, "qas", f"a paragraph of article {number}"):
                group = str(paragraph.get("document_id", article.get("title", number)))
                yield _Where(None, str(qa.get("id", ""))), (group, paragraph.get("context"), qa)


def _list(path: Path, value: Any, name: str, what: str) -> list[Json]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError(path, None, f"{what} has no list of objects under {name!r}; check the format")
    return found


def _from_pubmedqa(path: Path, where: _Where, record: Any, _account: QuestionAccount) -> Question:
    contexts = record.get("CONTEXTS")
    if not isinstance(contexts, list):
        raise _fault(path, where, "has no list CONTEXTS; give the whole PQA file")
    label = record.get("final_decision")
    if label not in ("yes", "no", "maybe", None):
        raise _fault(path, where, f"has final_decision {label!r}, none of yes, no, maybe; correct it")
    text, context = _text(path, where, record, "QUESTION"), "\n".join(map(str, contexts))
    return Question(where.id, text, context, answer=label, group=where.id)


def _from_squad(path: Path, where: _Where, record: Any, account: QuestionAccount) -> Question:
    group, context, qa = record
    if not isinstance(context, str) or not context.strip():
        raise _fault(path, where, "has no context; give the paragraph's text")
    text = _text(path, where, qa, "question")
    if qa.get("is_impossible"):
        account.answers["none"] += 1
        return Question(where.id, text, context, answer="", group=group)
    answers = _list(path, qa, "answers", f"question {where.id!r}") if "answers" in qa else []
    spans = tuple(dict.fromkeys(_resolved(path, where, context, answer, account) for answer in answers))
    answer = context[slice(*spans[0])] if spans else None
    return Question(where.id, text, context, answer=answer, spans=spans, group=group)


def _resolved(path: Path, where: _Where, context: str, answer: Json, account: QuestionAccount) -> tuple[int, int]:
    """The span of an answer without surrounding space, at its offset or at one of the known shifts."""
    given, start = answer.get("text"), answer.get("answer_start")
    if not isinstance(given, str) or not given.strip() or not isinstance(start, int):
        raise _fault(path, where, "has an answer without text or answer_start; correct or remove it")
    text, before = given.strip(), len(given) - len(given.lstrip())
    places = {"exact": start + before, "space before not counted": start, "shifted by 3": start + 3}
    for name, place in places.items():
        if 0 <= place and context.startswith(text, place):
            account.answers[name] += 1
            return place, place + len(text)
    raise _fault(path, where, f"has an answer that its context does not hold at {start}; correct answer_start")


def _from_line(path: Path, where: _Where, record: Any, _account: QuestionAccount) -> Question:
    if isinstance(record, InputError):
        raise record
    if not isinstance(record, dict):
        raise _fault(path, where, "is no JSON object; write one a line")
    where = _Where(where.line, str(record.get("id", where.id)))
    text, context = _text(path, where, record, "question"), record.get("context", "")
    options, spans = record.get("options", []), record.get("spans", [])
    if not isinstance(context, str) or not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise _fault(path, where, "has a context that is no text, or options that are no list of texts; correct them")
    if len(set(options)) != len(options) or len(options) == 1:
        raise _fault(path, where, "has one option only, or one twice; give two or more distinct ones")
    spans = tuple(_span(path, where, context, span) for span in spans)
    answer = _answer(path, where, record.get("answer"), options)
    if spans:
        answer = context[slice(*spans[0])]
    return Question(where.id, text, context, tuple(options), answer, spans, str(record.get("group", "")))


def _span(path: Path, where: _Where, context: str, span: Any) -> tuple[int, int]:
    good = isinstance(span, list) and len(span) == 2 and all(isinstance(n, int) for n in span)
    if not good or not 0 <= span[0] < span[1] <= len(context):
        raise _fault(path, where, f"has the span {span!r}, which is outside its context of {len(context)} characters")
    return span[0], span[1]


def _answer(path: Path, where: _Where, answer: Any, options: list[str]) -> str | None:
    if options and isinstance(answer, int) and 0 <= answer < len(options):
        return options[answer]
    if answer is None or (isinstance(answer, str) and (not options or answer in options)):
        return answer
    raise _fault(path, where, f"has the answer {answer!r}, which is neither one of its options nor the number of one")


def _text(path: Path, where: _Where, record: Json, name: str) -> str:
    text = record.get(name)
    if not isinstance(text, str) or not text.strip():
        raise _fault(path, where, f"has no text under {name!r}; give the question")
    return text


def _fault(path: Path, where: _Where, message: str) -> InputError:
    return InputError(path, where.line, f"question {where.id!r} {message}")
