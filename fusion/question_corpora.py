"""Corpora of questions: found like those of documents, and split so that no article is torn apart.

PubMedQA: the 500 published test questions; of the other 500 a fifth of each label, chosen by a hash, is the development
part, the rest is for training. COVID-QA has no published split: of its 98 articles, in the order of a hash, the first
fifth is the test part, the second the development part.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fusion.corpora import find_corpus, packed_or_not
from loaders import Document, MedgraftError, Question, read_questions

SEED = 0
NAMES = ("pubmedqa", "covid_qa")

Item = TypeVar("Item", Document, Question)


@dataclass(frozen=True)
class QuestionCorpus:
    """Questions by split."""

    name: str
    train: tuple[Question, ...]
    dev: tuple[Question, ...]
    test: tuple[Question, ...]
    silver: bool = False

    def digest(self) -> str:
        """SHA-256 of all questions with their answers, so that two corpora of one name can be told apart."""
        return hashlib.sha256(repr((self.train, self.dev, self.test)).encode()).hexdigest()


def load_questions(name: str, *, download: bool = False) -> QuestionCorpus | None:
    """PubMedQA (`pubmedqa`) or COVID-QA (`covid_qa`) in the splits that this module documents.

    None where the files are not at hand and may not be downloaded.

    Raises:
        MedgraftError: another name, a file that differs from the published one, or a download that fails.
    """
    if name not in NAMES:
        raise MedgraftError(f"unknown corpus of questions {name!r}; choose {', '.join(NAMES)}")
    folder = find_corpus(name, download=download)
    if folder is None:
        return None
    if name == "pubmedqa":
        truth = json.loads((folder / "test_ground_truth.json").read_text())
        questions = list(read_questions(packed_or_not(folder / "ori_pqal.json")))
        test = tuple(q for q in questions if q.id in truth)
        dev, train = split([q for q in questions if q.id not in truth], [0.2, 0.8], strata=lambda q: q.answer or "")
        return QuestionCorpus(name, train, dev, test)
    questions = list(read_questions(packed_or_not(folder / "200423_covidQA.json")))
    test, dev, train = split(questions, [0.2, 0.2, 0.6])
    return QuestionCorpus(name, train, dev, test)


def split(
    items: Sequence[Item],
    shares: Sequence[float],
    *,
    strata: Callable[[Item], str] = lambda _item: "",
    group: Callable[[Item], str] | None = None,
    seed: int = SEED,
) -> list[tuple[Item, ...]]:
    """Parts with these shares of the groups, in each stratum; the order of the items is kept within a part.

    Groups are taken in the order of a hash of the seed and their names, so a split depends on nothing else. An item
    without a group is one by itself.
    """
    name_of = group or (lambda item: str(getattr(item, "group", "") or item.id))
    groups: dict[str, set[str]] = {}
    for item in items:
        groups.setdefault(strata(item), set()).add(name_of(item))
    part_of: dict[str, int] = {}
    for names in groups.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        borders = [round(sum(shares[: n + 1]) * len(ordered)) for n in range(len(shares))]
        for place, name in enumerate(ordered):
            part_of.setdefault(name, next(n for n, border in enumerate(borders) if place < border))
    parts: list[list[Item]] = [[] for _ in shares]
    for item in items:
        parts[part_of[name_of(item)]].append(item)
    return [tuple(part) for part in parts]
