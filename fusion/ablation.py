"""The ablation battery: what the knowledge was worth, and not the extra parameters, the linker or the types.

Every arm (`fusion.arms`) is trained with every seed on every share of the labels. One line a finished run goes to a
results file, so that a battery can be stopped and picked up again; tables are made from that file alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from fusion.arms import ARMS, PAIRS_ONLY, Material, with_wrong_links
from fusion.corpora import Corpus
from fusion.course import dropout_of
from fusion.leaks import check_leaks
from fusion.model import FusedModel
from fusion.question_corpora import QuestionCorpus
from fusion.significance import Counts, Difference, difference, f1, holm
from kg import Linker
from lm.answer_scores import answer_keys
from lm.relations import concepts_of
from loaders.errors import MedgraftError
from loaders.records import Document, Question

AnyCorpus = Corpus | QuestionCorpus

SUBSETS = ("memorised", "synonym", "unseen")
"""Gold answers by what training showed of them: concept and wording, concept only, neither (Kim and Kang, 2022)."""

Rows = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Comparison:
    """An arm at one share of the labels: mean F1 over the seeds with its spread, against `plain` and against `true`.

    `true` means the arm of that name minus this arm; both differences have p corrected by Holm over the arms of the
    share. `subsets` are mean scores on gold answers by what training showed of them (recall, for mentions).
    """

    arm: str
    share: float
    seeds: int
    f1: float
    deviation: float
    plain: Difference | None
    true: Difference | None
    subsets: dict[str, float]


def ablate(
    corpus: Corpus | QuestionCorpus,
    graph: Any,
    embeddings: Any,
    linker: Linker,
    *,
    encoder: str | Path,
    out: str | Path,
    task: str = "ner",
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    shares: Sequence[float] = (1.0,),
    frozen_blocks: int = 0,
    progress: bool = True,
    announce: Callable[[str], None] = lambda _line: None,
    **settings: Any,
) -> list[Comparison]:
    """Train every arm with every seed that `out/results.jsonl` does not hold yet, and compare the arms on the test.

    Args:
        corpus: with a test part; nothing is chosen on it.
        graph: what `kg.connect` gives.
        embeddings: trained on this graph.
        linker: built from this graph.
        encoder: Hugging Face model folder or name of a BERT-type encoder.
        out: folder of the results; runs with other settings are kept apart in it by their settings.
        task: "ner", "relations" or "qa".
        arms: names in `ARMS`, all that mean something to the task by default. `true` is tested three times more: with
            its graph removed, and with 10 % and 30 % wrong links.
        seeds: at least five for a claim.
        shares: of the training and development documents that are used, the first ones.
        frozen_blocks: lowest blocks that are not trained, and computed once for the whole battery.
        progress: show bars on stderr if it is a terminal.
        announce: told of every finished run.
        settings: handed to `fusion.train`.

    Raises:
        MedgraftError: an unknown arm or a share that leaves nothing, no test documents, a graph that holds the labels.
    """
    arms = _checked(task, corpus, arms, shares)
    if task == "relations" and isinstance(corpus, Corpus):
        check_leaks(corpus, graph)
    file = Path(out) / "results.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = cast(Linker, _KnownLinks(linker))
    pairs = task != "ner"
    material = Material(graph, embeddings, known, corpus, encoder, Path(out), pairs=pairs, progress=progress)
    states: dict[bytes, Any] | None = {} if frozen_blocks else None
    given = {**settings, "encoder": encoder, "frozen_blocks": frozen_blocks, "frozen_states": states}
    key = {"task": task, "corpus": corpus.name, "documents": corpus.digest(), "knowledge": material.table.digest()}
    key |= {"encoder": Path(encoder).name, "frozen blocks": str(frozen_blocks)}
    dropped = dropout_of(task, settings.get("sentence_dropout"), settings.get("vector_dropout"))
    key |= {name: str(value) for name, value in (settings | dropped).items()}
    done = [line for line in read_results(file) if line["key"] == key]
    for share, seed, arm in [(share, seed, arm) for share in shares for seed in seeds for arm in arms]:
        if any((line["arm"], line["seed"], line["share"]) == (arm, seed, share) for line in done):
            continue
        tested = list(_run(task, _part(corpus, share), material, arm, seed, given, progress))
        lines = [{"key": key, "share": share, "seed": seed, **line} for line in tested]
        with file.open("a", encoding="utf-8") as results:  # all of an arm at once: one that is there is not run again
            results.write("".join(json.dumps(line) + "\n" for line in lines))
        done += lines
        for line in lines:
            announce(f"{share:.0%} of the labels, seed {seed}, {line['arm']}: F1 {_score(line):.4f}")
    return compare(done)


def _checked(task: str, corpus: AnyCorpus, arms: Sequence[str] | None, shares: Sequence[float]) -> tuple[str, ...]:
    possible = tuple(arm for arm in ARMS if task in PAIRS_ONLY.get(arm, (task,)))
    arms = possible if arms is None else tuple(arms)
    unknown = [arm for arm in arms if arm not in possible]
    if unknown:
        raise MedgraftError(f"unknown arm {unknown[0]!r}; choose from {', '.join(possible)}")
    if not corpus.test:
        raise MedgraftError("the corpus has no test part; give annotated documents to compare the arms on")
    for share in shares:
        if not 0 < share <= 1 or not _part(corpus, share).train:
            raise MedgraftError(f"{share:g} of {len(corpus.train)} documents are none; give shares above 0 and up to 1")
    return arms


def _part(corpus: AnyCorpus, share: float) -> AnyCorpus:
    parts: dict[str, Any] = {name: getattr(corpus, name) for name in ("train", "dev")}
    return replace(corpus, **{name: part[: round(share * len(part))] for name, part in parts.items()})


def _run(
    task: str, corpus: AnyCorpus, material: Material, arm: str, seed: int, settings: Mapping[str, Any], progress: bool
) -> Iterator[dict[str, Any]]:
    """Train one arm and test it; the true arm with its graph removed and with wrong links too."""
    from fusion.training import train

    table = ARMS[arm](material, seed)
    linker = None if table is None else material.linker
    model = train(task, corpus, linker=linker, knowledge=table, seed=seed, progress=progress, **settings)
    groups = _groups(task, corpus)
    linked = model.link(corpus.test)
    variants = {arm: linked}
    if arm == "true" and table is not None:
        for percent in (10, 30):
            variants[f"{percent} % wrong links"] = with_wrong_links(linked, percent / 100, table.ids, seed)
    for name, links in variants.items():
        yield {"arm": name, **_tested(task, model, corpus.test, links, groups, True)}
    if arm == "true":
        yield {"arm": "graph removed", **_tested(task, model, corpus.test, linked, groups, False)}


def _tested(
    task: str,
    model: FusedModel[Any],
    gold: Sequence[Any],
    linked: Sequence[Document],
    groups: Sequence[dict[Any, str]],
    with_graph: bool,
) -> dict[str, Any]:
    """Counts of each document: gold, predicted and correct; and the same of each subset.

    What is predicted has no subset where it is no gold mention, so for mentions a subset's "predicted" is its gold,
    and its F1 is recall.
    """
    if task == "ner":  # mentions are scored without their concepts, which need not be looked up
        model = replace(model, linker=None)
    found = list(model.annotate(gold, linked, with_graph=with_graph, progress=False))
    counts: Rows = []
    subsets: dict[str, Rows] = {name: [] for name in SUBSETS}
    for g, f, group in zip(gold, found, groups, strict=True):
        wanted, had = _answers(task, g), _answers(task, f)
        counts.append((len(wanted), len(had), len(wanted & had)))
        for name in SUBSETS:
            ours = {answer for answer in wanted if group.get(answer) == name}
            subsets[name].append((len(ours), len(ours), len(ours & had)))
    return {"counts": counts, "subsets": subsets}


def _answers(task: str, document: Any) -> set[tuple[Any, ...]]:
    """Of a question its label or option, and of an answer in the context its words, so that F1 is over words."""
    if isinstance(document, Question):
        return set(answer_keys(document))
    if task == "relations":
        return {(r.head, r.relation, r.tail) for r in document.relations}
    return {(m.start, m.end, m.type) for m in document.mentions}


def _groups(task: str, corpus: AnyCorpus) -> list[dict[Any, str]]:
    """For each test document the subset of each gold answer.

    A relation is memorised if training states it, unseen if training never shows one of its concepts, else a synonym
    (both concepts seen, the relation not). Answers to questions are in no subset.
    """
    if isinstance(corpus, QuestionCorpus):
        return [{} for _ in corpus.test]
    concepts = {concept for document in corpus.train for concept in concepts_of(document)}
    words = {(d.text[m.start : m.end].lower(), m.type) for d in corpus.train for m in d.mentions}
    stated = {(r.head, r.relation, r.tail) for d in corpus.train for r in d.relations}
    made: list[dict[Any, str]] = []
    for document in corpus.test:
        if task == "relations":
            group: dict[Any, str] = {
                (r.head, r.relation, r.tail): "memorised"
                if (r.head, r.relation, r.tail) in stated
                else ("synonym" if {r.head, r.tail} <= concepts else "unseen")
                for r in document.relations
            }
        else:
            group = {
                (m.start, m.end, m.type): "memorised"
                if (document.text[m.start : m.end].lower(), m.type) in words
                else ("synonym" if set((m.concept_id or "").split("|")) & concepts else "unseen")
                for m in document.mentions
            }
        made.append(group)
    return made


def compare(lines: Iterable[Mapping[str, Any]], *, draws: int = 10_000) -> list[Comparison]:
    """Every arm against `plain`, and `true` against every arm, at each share, over the seeds that both have."""
    shares: dict[float, dict[str, dict[int, Mapping[str, Any]]]] = {}
    for line in lines:
        shares.setdefault(line.get("share", 1.0), {}).setdefault(line["arm"], {})[line["seed"]] = line
    return [row for share in sorted(shares) for row in _compare_share(share, shares[share], draws)]


def _compare_share(share: float, arms: dict[str, dict[int, Mapping[str, Any]]], draws: int) -> list[Comparison]:
    made = []
    for arm, by_seed in arms.items():
        scores = f1(_stack(by_seed, sorted(by_seed)).sum(axis=1))
        subsets = {}
        for name in SUBSETS:
            if all("subsets" in line for line in by_seed.values()):
                subsets[name] = float(f1(_stack(by_seed, sorted(by_seed), name).sum(axis=1)).mean())
        against_plain = None if arm == "plain" else _between(by_seed, arms.get("plain", {}), draws)
        against_true = None if arm == "true" else _between(arms.get("true", {}), by_seed, draws)
        spread = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
        made.append(
            Comparison(arm, share, len(by_seed), float(scores.mean()), spread, against_plain, against_true, subsets)
        )
    plain, true = (_corrected([getattr(row, side) for row in made]) for side in ("plain", "true"))
    return [replace(row, plain=p, true=t) for row, p, t in zip(made, plain, true, strict=True)]


def _between(
    ours: Mapping[int, Mapping[str, Any]], theirs: Mapping[int, Mapping[str, Any]], draws: int
) -> Difference | None:
    seeds = sorted(ours.keys() & theirs.keys())
    return difference(_stack(ours, seeds), _stack(theirs, seeds), draws=draws) if seeds else None


def _corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    there = [d for d in differences if d is not None]
    ps = iter(holm([d.p for d in there]))
    return [None if d is None else replace(d, p=next(ps)) for d in differences]


def _stack(by_seed: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], subset: str | None = None) -> Counts:
    rows = [by_seed[seed]["counts"] if subset is None else by_seed[seed]["subsets"][subset] for seed in seeds]
    return np.array(rows, dtype=np.int64).reshape(len(seeds), -1, 3)


def _score(line: Mapping[str, Any]) -> float:
    return float(f1(np.array(line["counts"]).sum(axis=0)))


class _KnownLinks:
    """A linker that links each text once in the whole battery."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self.fingerprint = linker.fingerprint
        self._found: dict[str, Document] = {}

    def pipe(self, texts: Iterable[str]) -> Iterator[Document]:
        asked = list(texts)
        new = [text for text in dict.fromkeys(asked) if text not in self._found]
        self._found.update(zip(new, self.linker.pipe(new), strict=True))
        return (self._found[text] for text in asked)

    def candidates(self, text: str, k: int = 5) -> Any:
        return self.linker.candidates(text, k=k)


def read_results(file: str | Path) -> list[dict[str, Any]]:
    """Finished runs. A last line that was cut off is not one, and is removed."""
    file = Path(file)
    if not file.is_file():
        return []
    whole = file.read_text(encoding="utf-8").rpartition("\n")[0]
    file.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.split("\n") if line]
