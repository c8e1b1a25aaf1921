"""A task that only the graph can decide: invented names whose type is stated by a fact and by nothing else.

Every concept has the same semantic type and a random vector; it is a Chemical if the graph says that it `treats` the
hub and a Disease if it `causes` it. Names in the test documents never occur in the training documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fusion.corpora import Corpus
from loaders.records import Document, Mention
from loaders.tables import SCHEMAS

TEMPLATES = ("the {} came after {} .", "{} and {} of the patients", "no {} , but {} was there", "for {} the {}")


@dataclass
class InventedGraph:
    """As much of a graph as linker, embeddings and knowledge table need."""

    tables: dict[str, pa.Table]
    fingerprint: str = "a" * 64

    def table(self, name: str) -> pa.Table:
        return self.tables[name]

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return iter(self.tables[name].select(columns).to_batches())


@dataclass
class InventedVectors:
    ids: list[str]
    vectors: np.ndarray
    fingerprint: str = "a" * 64


def invented_graph(names: list[str]) -> InventedGraph:
    ids = [*(f"X:{n:04}" for n in range(len(names))), "X:hub"]
    rows = zip(ids, [*names, "hub"], strict=True)
    nothing = pa.nulls(len(ids), pa.string())
    concepts = pa.table({"id": ids, "name": [*names, "hub"], "types": [["Thing"]] * len(ids), "definition": nothing})
    listed = [(i, name, "preferred", "en", "invented", False) for i, name in rows]
    columns = [pa.array(column, t) for column, t in zip(zip(*listed, strict=True), SCHEMAS["names"].types, strict=True)]
    triples = pa.table(
        {
            "head": ids[:-1],
            "relation": ["treats" if n % 2 == 0 else "causes" for n in range(len(names))],
            "tail": ["X:hub"] * len(names),
        }
    )
    made = pa.Table.from_arrays(columns, schema=SCHEMAS["names"])
    return InventedGraph({"concepts": concepts, "names": made, "triples": triples})


def invented_vectors(graph: InventedGraph) -> InventedVectors:
    ids = graph.table("concepts")["id"].to_pylist()
    return InventedVectors(ids, np.random.default_rng(1).normal(size=(len(ids), 16)).astype(np.float32))


def invented_names(count: int) -> list[str]:
    generator = np.random.default_rng(7)
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(generator.choice(list("bdfgklmnprtvz"), 6)).replace("g", "a")] = None
    return list(names)


def invented_corpus(names: list[str], sizes: tuple[int, int, int]) -> Corpus:
    """Half of the names occur in training, a quarter each in development and test only."""
    generator = np.random.default_rng(3)
    half, quarter = len(names) // 2, len(names) * 3 // 4
    pools = (range(half), range(half, quarter), range(quarter, len(names)))
    parts = []
    for part, (size, pool) in enumerate(zip(sizes, pools, strict=True)):
        documents = []
        for number in range(size):
            first, second = (int(n) for n in generator.choice(list(pool), 2, replace=False))
            template = TEMPLATES[int(generator.integers(len(TEMPLATES)))]
            text = template.format(names[first], names[second])
            mentions = []
            for n in (first, second):
                start = text.index(names[n])
                kind = "Chemical" if n % 2 == 0 else "Disease"
                mentions.append(Mention(start, start + len(names[n]), kind, f"X:{n:04}"))
            documents.append(Document(f"{part}-{number}", text, tuple(mentions)))
        parts.append(tuple(documents))
    return Corpus("invented", *parts)
