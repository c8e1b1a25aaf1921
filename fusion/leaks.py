"""Facts that are the labels: graphs that must not take part where a corpus was annotated from the same source.

With such facts in the graph a model reads the answers instead of the text, in training and in the test.
"""

from dataclasses import dataclass

import polars as pl

from fusion.corpora import Corpus
from fusion.knowledge import GraphTables
from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Leak:
    """Labels, and the facts that they were made from: by the relation's name, or by the name of the source."""

    label: str
    relation: str
    source: str
    why: str


# Extend it: a label is the name of a relation in a corpus; the other two are regular expressions, in any case.
LEAKS = (
    Leak("CID", "", r"\bctd\b|ctd_|toxicogenomic", "the curators of CTD made these labels, from the same articles"),
    Leak(
        "associated_with_phenotype",
        "^(gene_)?associated_with_phenotype$|^gene_to_phenotyp",
        "genes_to_phenotype|phenotype_to_genes",
        "these labels were looked up in the HPO gene annotations",
    ),
)


def check_leaks(corpus: Corpus, graph: GraphTables) -> list[str]:
    """Refuse a graph that states what the corpus's relations were labelled from; say what it was searched for.

    Raises:
        MedgraftError: it does; the message names the facts and the way out.
    """
    labels = {r.relation for part in (corpus.train, corpus.dev, corpus.test) for d in part for r in d.relations}
    leaks = [leak for leak in LEAKS if leak.label in labels]
    if not leaks:
        return []
    facts = pl.DataFrame(pl.from_arrow(graph.table("triples").select(["relation", "sources"])))
    for leak in leaks:
        found = facts.filter(_named(pl.col("relation"), leak.relation) | _any_named(pl.col("sources"), leak.source))
        if found.height:
            names = ", ".join(sorted(found["relation"].unique().to_list())[:3])
            raise MedgraftError(
                f"the graph holds {found.height:,} facts ({names}) that {corpus.name} was labelled from: {leak.why}; "
                "build a graph without that source, and its embeddings anew"
            )

    return [f"{leak.label}: {leak.why}; the graph holds no such fact" for leak in leaks]


def _named(column: pl.Expr, pattern: str) -> pl.Expr:
    return column.str.contains(f"(?i){pattern}") if pattern else pl.lit(False)


def _any_named(column: pl.Expr, pattern: str) -> pl.Expr:
    return column.list.eval(pl.element().str.contains(f"(?i){pattern}")).list.any()
