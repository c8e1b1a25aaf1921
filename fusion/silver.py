"""Stand-ins for annotated corpora where there are none: labels made from the graph itself, and marked as silver."""

import hashlib
from dataclasses import replace
from typing import Any

import pyarrow as pa

from fusion.corpora import Corpus
from loaders.records import Document

HELD_OUT = 1000


def silver_corpus(graph: Any, *, train: int = 1500, dev: int = 200, test: int = 400) -> Corpus:
    """Names and definitions of concepts, with the mentions that the dictionary finds in them (distant labels).

    The labels are the linker's own matches, so a score on them says that the machinery runs, not that it is right; a
    fused model, which is given these matches, has the answers before its eyes.
    """
    import kg

    concepts = graph.table("concepts").select(["id", "name", "definition"]).to_pylist()
    concepts.sort(key=lambda c: (not c["definition"], hashlib.sha256(c["id"].encode()).digest()))
    chosen = [(c["id"], f"{c['name']}. {c['definition'] or ''}".strip()) for c in concepts[: train + dev + test]]
    linker = kg.Linker.build(graph)
    found = linker.pipe((text for _, text in chosen), ids=[concept_id for concept_id, _ in chosen], k=1)
    documents = tuple(_flat(document) for document in found)
    # Shares, so that a small graph gives every part something.
    first, second = (len(documents) * n // (train + dev + test) for n in (train, train + dev))
    return Corpus(
        "definitions of the graph", documents[:first], documents[first:second], documents[second:], silver=True
    )


def hold_out_aliases(graph: Any, *, count: int = HELD_OUT) -> dict[str, Any]:
    """Take some exact synonyms out of the dictionary, and ask the linker for the concepts they name.

    Every 20th synonym at most, chosen by a hash of its text; a synonym that the concept keeps in another spelling of
    the same letters is not asked for.
    """
    import kg

    names = graph.table("names")
    keys = [
        f"{c}\t{n.lower()}" for c, n in zip(names["concept_id"].to_pylist(), names["name"].to_pylist(), strict=True)
    ]
    kind, suppressed = names["kind"].to_pylist(), names["suppressed"].to_pylist()
    able = [row for row, key in enumerate(keys) if kind[row] == "exact" and not suppressed[row]]
    able.sort(key=lambda row: hashlib.sha256(keys[row].encode()).digest())
    held = {keys[row] for row in able[: min(count, max(len(able) // 20, 1))]}
    held -= {key for row, key in enumerate(keys) if kind[row] != "exact"}
    rest = names.filter(pa.array([key not in held for key in keys], pa.bool_()))
    linker = kg.Linker.build(_WithNames(graph, rest))
    wanted = [key.split("\t", 1) for key in sorted(held)]
    candidates = linker.candidates_batch([text for _, text in wanted], k=5)
    ranks = [
        next((rank for rank, c in enumerate(found) if c.concept_id == concept_id), None)
        for (concept_id, _), found in zip(wanted, candidates, strict=True)
    ]
    total = max(len(ranks), 1)
    return {
        "held_out_aliases": len(ranks),
        "recall_at_1": sum(rank == 0 for rank in ranks) / total,
        "recall_at_5": sum(rank is not None for rank in ranks) / total,
    }


class _WithNames:
    """A graph with another table of names."""

    def __init__(self, graph: Any, names: pa.Table) -> None:
        self.graph, self.names = graph, names
        self.fingerprint = graph.fingerprint

    def table(self, name: str) -> pa.Table:
        return self.names if name == "names" else self.graph.table(name)


def _flat(document: Document) -> Document:
    """Without candidates and scores, as gold documents are."""
    bare = (replace(m, score=None, candidates=()) for m in document.mentions)
    return replace(document, mentions=tuple(bare))
