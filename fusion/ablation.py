"""Control arms: what the knowledge was worth, and not the extra parameters, the linker or the types.

Each arm changes the knowledge table and nothing else; encoder, data, order, seeds and steps are the same. One line a
finished run goes to a results file, so that a battery can be stopped and picked up again.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.corpora import Corpus
from fusion.knowledge import KnowledgeTable
from fusion.leaks import check_leaks
from fusion.model import ModelSettings
from fusion.relations import concept_rows
from kg import Linker
from lm.relations import RelationScheme, pairs_of
from loaders.errors import MedgraftError
from loaders.records import Candidate, Document

Change = Callable[[KnowledgeTable, int], KnowledgeTable | None]


def _plain(_table: KnowledgeTable, _seed: int) -> None:
    return None


def _nil(table: KnowledgeTable, _seed: int) -> KnowledgeTable:
    """No concept can be looked up, so every mention is NIL, in training and in the test."""
    return replace(table, ids=["" for _ in table.ids])


def _same(table: KnowledgeTable, _seed: int) -> KnowledgeTable:
    """One vector and one type for every concept, no facts: the same parameters and span marks, no knowledge."""
    return replace(
        table,
        vectors=torch.full_like(table.vectors, table.dim**-0.5),
        types=torch.zeros_like(table.types),
        neighbours=torch.full_like(table.neighbours, -1),
        facts=None if table.facts is None else table.facts.empty(),
    )


def _types(table: KnowledgeTable, _seed: int) -> KnowledgeTable:
    """Semantic types alone."""
    return replace(_same(table, 0), types=table.types)


def _random(table: KnowledgeTable, seed: int) -> KnowledgeTable:
    """Random vectors of the same lengths, no types, no facts: identity without meaning."""
    drawn = torch.randn(table.vectors.shape, generator=torch.Generator().manual_seed(seed))
    lengths = table.vectors.norm(dim=1, keepdim=True)
    return replace(_same(table, 0), vectors=drawn / drawn.norm(dim=1, keepdim=True) * lengths)


def _permuted_within_type(table: KnowledgeTable, seed: int) -> KnowledgeTable:
    """Every concept gets the vector and the facts of another one of its type."""
    generator = np.random.default_rng(seed)
    order = np.arange(len(table.ids))
    types = table.types.numpy()
    for type_row in np.unique(types):
        rows = np.flatnonzero(types == type_row)
        order[rows] = generator.permutation(rows)
    return _renamed(table, order)


def _permuted(table: KnowledgeTable, seed: int) -> KnowledgeTable:
    """Every concept gets the vector, the type and the facts of another one."""
    return _renamed(table, np.random.default_rng(seed).permutation(len(table.ids)))


def _renamed(table: KnowledgeTable, order: NDArray[np.int64]) -> KnowledgeTable:
    return replace(table, ids=[table.ids[row] for row in order], names=[table.names[row] for row in order])


def _rewired(table: KnowledgeTable, seed: int) -> KnowledgeTable:
    """Every concept has as many facts of each relation as before, to other concepts; vectors and types stay."""
    generator = np.random.default_rng(seed)
    neighbours = table.neighbours.clone()
    there = neighbours >= 0
    for relation in table.relations[there].unique():
        places = there & (table.relations == relation)
        others = neighbours[places]
        neighbours[places] = others[torch.from_numpy(generator.permutation(len(others)))]
    return replace(table, neighbours=neighbours, facts=None if table.facts is None else table.facts.rewired(seed))


def _without_pair_facts(table: KnowledgeTable, _seed: int) -> KnowledgeTable:
    """Concepts with their neighbours, but no fact between the two concepts of a pair."""
    return replace(table, facts=None if table.facts is None else table.facts.empty())


def _true(table: KnowledgeTable, _seed: int) -> KnowledgeTable:
    return table


ARMS: dict[str, Change] = {
    "plain": _plain,
    "nil": _nil,
    "same-parameters": _same,
    "types": _types,
    "random": _random,
    "permuted-within-type": _permuted_within_type,
    "permuted": _permuted,
    "rewired": _rewired,
    "without-pair-facts": _without_pair_facts,
    "true": _true,
}


@dataclass(frozen=True)
class Comparison:
    """An arm against `plain`: mean F1 over the seeds, its spread, and a paired test over documents."""

    arm: str
    seeds: int
    f1: float
    deviation: float
    difference: float
    p: float


def ablate(
    corpus: Corpus,
    graph: Any,
    embeddings: Any,
    linker: Linker,
    *,
    out: str | Path,
    task: str = "ner",
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    progress: bool = True,
    **settings: Any,
) -> list[Comparison]:
    """Train every arm with every seed that `out/results.jsonl` does not hold yet, and compare the arms on the test.

    Args:
        corpus: with a test part; nothing is chosen on it.
        graph: what `kg.connect` gives.
        embeddings: trained on this graph.
        linker: built from this graph.
        out: folder of the results; runs with other settings are kept apart in it by their settings.
        task: "ner" or "relations".
        arms: names in `ARMS`, all that mean something to the task by default; `true` reports the fused model with its
            graph removed at test as `removed` too. For relations there is `unstated` besides: no fact between the
            concepts of any pair of the development and test documents, related or not.
        seeds: at least five for a claim.
        progress: show bars on stderr if it is a terminal.
        settings: handed to `fusion.train`.

    Raises:
        MedgraftError: an unknown arm, no test documents.
    """
    from fusion.training import train

    changes = _changes(task, corpus, linker)
    arms = tuple(changes) if arms is None else arms
    unknown = [arm for arm in arms if arm not in changes]
    if unknown or not corpus.test:
        raise MedgraftError(
            f"unknown arm {unknown[0]!r}; choose from {', '.join(changes)}"
            if unknown
            else "the corpus has no test part"
        )
    if task == "relations":
        check_leaks(corpus, graph)
    file = Path(out) / "results.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    table = KnowledgeTable.build(graph, embeddings, pairs=task == "relations")
    key = {"task": task, "corpus": corpus.name, "documents": corpus.digest(), "knowledge": table.digest()}
    key |= {name: str(value) for name, value in settings.items()}
    done = [line for line in _lines(file) if line["key"] == key]
    for seed in seeds:
        for arm in arms:
            if any(line["arm"] == arm and line["seed"] == seed for line in done):
                continue
            knowledge = changes[arm](table, seed)
            model = train(
                task,
                corpus,
                linker=None if knowledge is None else linker,
                knowledge=knowledge,
                seed=seed,
                progress=progress,
                **settings,
            )
            runs = {arm: True} | ({"removed": False} if arm == "true" else {})
            for name, with_graph in runs.items():
                found = list(model.pipe(corpus.test, with_graph=with_graph, progress=progress))
                line = {"key": key, "arm": name, "seed": seed, "counts": _counts(task, corpus.test, found)}
                with file.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(line) + "\n")
                done.append(line)
    return compare(done)


def _changes(task: str, corpus: Corpus, linker: Linker) -> dict[str, Change]:
    """The arms that mean something to the task."""
    if task != "relations":
        return {name: change for name, change in ARMS.items() if name != "without-pair-facts"}
    return {**ARMS, "unstated": lambda table, _seed: without_stated(table, corpus, linker)}


def without_stated(table: KnowledgeTable, corpus: Corpus, linker: Linker) -> KnowledgeTable:
    """Without any fact between the concepts of any pair of the development and test documents, related or not.

    To drop the facts of the related pairs alone would tell them apart by their absence.
    """
    assert table.facts is not None
    scheme = RelationScheme.of(corpus.train)
    documents = (*corpus.dev, *corpus.test)
    looked_up: dict[str, tuple[Candidate, ...]] = {}
    gone: set[tuple[int, int]] = set()
    for document, linked in zip(documents, linker.pipe(document.text for document in documents), strict=True):
        rows = concept_rows(document, linked, table, linker, ModelSettings.link_threshold, looked_up)
        for pair in pairs_of(document, scheme):
            gone |= {
                (a, b) for head in rows[pair.head] for tail in rows[pair.tail] for a, b in ((head, tail), (tail, head))
            }
    size = len(table.ids)
    keys = torch.arange(size)[:, None] * size + table.neighbours.long()
    hidden = torch.isin(keys, torch.tensor([a * size + b for a, b in gone], dtype=torch.long))
    neighbours = table.neighbours.masked_fill(hidden & (table.neighbours >= 0), -1)
    return replace(table, neighbours=neighbours, facts=table.facts.without(sorted(gone)))


def compare(lines: Iterable[dict[str, Any]], *, draws: int = 10_000) -> list[Comparison]:
    """Every arm against `plain`, over the seeds that both have.

    The test is approximate randomisation paired by document: the two arms' counts of a document change sides with
    probability one half, for all seeds together (Noreen, 1989). Two-sided.
    """
    counts: dict[str, dict[int, NDArray[np.int64]]] = {}
    for line in lines:
        counts.setdefault(line["arm"], {})[line["seed"]] = np.array(line["counts"], dtype=np.int64)
    compared = []
    for arm, by_seed in counts.items():
        seeds = sorted(by_seed.keys() & counts.get("plain", by_seed).keys())
        if not seeds:
            continue
        ours = np.stack([by_seed[seed] for seed in seeds])
        theirs = np.stack([counts.get("plain", by_seed)[seed] for seed in seeds])
        scores = _f1(ours.sum(axis=1))
        difference = float((scores - _f1(theirs.sum(axis=1))).mean())
        spread = float(scores.std(ddof=1)) if len(seeds) > 1 else 0.0
        p = _randomisation(ours, theirs, draws)
        compared.append(Comparison(arm, len(seeds), float(scores.mean()), spread, difference, p))
    return compared


def table_of(compared: Iterable[Comparison]) -> str:
    """The comparison as lines of text."""
    lines = [f"{'arm':<22}seeds  F1 (sd)           against plain   p"]
    for c in compared:
        lines.append(f"{c.arm:<22}{c.seeds:>5}  {c.f1:.4f} ({c.deviation:.4f})  {c.difference:+.4f}         {c.p:.4f}")
    return "\n".join(lines)


def _randomisation(ours: NDArray[np.int64], theirs: NDArray[np.int64], draws: int) -> float:
    """The p of the mean difference of F1 for counts (seeds, documents, 3) of two arms."""
    observed = abs((_f1(ours.sum(axis=1)) - _f1(theirs.sum(axis=1))).mean())
    generator = np.random.default_rng(0)
    gap, base = ours - theirs, theirs.sum(axis=1)
    extreme = 0
    for _ in range(draws):
        swap = generator.integers(0, 2, ours.shape[1])
        moved = np.einsum("d,sdc->sc", swap, gap)
        left, right = base + gap.sum(axis=1) - moved, base + moved
        extreme += abs((_f1(left) - _f1(right)).mean()) >= observed - 1e-12
    return (extreme + 1) / (draws + 1)


def _f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 from counts (..., 3) of gold, predicted and correct mentions."""
    gold, predicted, correct = np.moveaxis(counts, -1, 0)
    scores: NDArray[np.float64] = 2 * correct / np.maximum(gold + predicted, 1)
    return scores


def _counts(task: str, gold: Sequence[Document], found: Sequence[Document]) -> list[tuple[int, int, int]]:
    """Gold, predicted and correct mentions or relations of each document."""
    rows = []
    for g, f in zip(gold, found, strict=True):
        wanted, had = _answers(task, g), _answers(task, f)
        rows.append((len(wanted), len(had), len(wanted & had)))
    return rows


def _answers(task: str, document: Document) -> set[tuple[Any, ...]]:
    if task == "relations":
        return {(r.head, r.relation, r.tail) for r in document.relations}
    return {(m.start, m.end, m.type) for m in document.mentions}


def _lines(file: Path) -> list[dict[str, Any]]:
    """Finished runs. A last line that was cut off is not one, and is removed."""
    if not file.is_file():
        return []
    whole = file.read_text(encoding="utf-8").rpartition("\n")[0]
    file.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.split("\n") if line]
