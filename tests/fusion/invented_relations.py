"""A relation that only the graph can decide: invented drugs and diseases, with a fact `causes` between half of them."""

import numpy as np
import pyarrow as pa

from fusion.corpora import Corpus
from loaders.records import Document, Mention, Relation
from tests.fusion.invented import InventedGraph, invented_graph

TEMPLATES = ("{} was given , then {} was seen .", "{} came up under {} .", "no word on {} and {} here .")


def invented_pairs(names: list[str]) -> InventedGraph:
    """Even concepts are drugs, odd ones diseases; of two neighbours the first causes the second, every other time."""
    graph = invented_graph(names)
    pairs = [(2 * n, 2 * n + 1) for n in range(len(names) // 2)]
    rows = [(f"X:{a:04}", "causes" if n % 2 == 0 else "treats", f"X:{b:04}") for n, (a, b) in enumerate(pairs)]
    columns = list(zip(*rows, strict=True))
    triples = pa.table({name: list(column) for name, column in zip(("head", "relation", "tail"), columns, strict=True)})
    triples = triples.append_column("sources", pa.array([["invented"]] * len(rows)))
    return InventedGraph({**graph.tables, "triples": triples})


def invented_relation_corpus(names: list[str], sizes: tuple[int, int, int]) -> Corpus:
    """Each document has one drug and the disease beside it; the parts share no names."""
    generator = np.random.default_rng(5)
    pairs = len(names) // 2
    pools = (range(pairs // 2), range(pairs // 2, pairs * 3 // 4), range(pairs * 3 // 4, pairs))
    parts = []
    for part, (size, pool) in enumerate(zip(sizes, pools, strict=True)):
        documents = []
        for number in range(size):
            n = int(generator.choice(list(pool)))
            turned = bool(generator.integers(2))
            words = [names[2 * n], names[2 * n + 1]]
            text = TEMPLATES[int(generator.integers(len(TEMPLATES)))].format(*(words[::-1] if turned else words))
            mentions = []
            for kind, index in (("Chemical", 2 * n), ("Disease", 2 * n + 1)):
                start = text.index(names[index])
                mentions.append(Mention(start, start + len(names[index]), kind, f"X:{index:04}"))
            relations = (Relation(f"X:{2 * n:04}", "CID", f"X:{2 * n + 1:04}"),) if n % 2 == 0 else ()
            documents.append(Document(f"{part}-{number}", text, tuple(mentions), relations))
        parts.append(tuple(documents))
    return Corpus("invented relations", *parts)
