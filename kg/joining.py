"""Mappings between the vocabularies of one graph: as `same_as` triples, or to make two concepts one."""

from collections import Counter

import polars as pl

SAME_AS = "same_as"
EXACT = ("skos:exactMatch", "owl:sameAs", "owl:equivalentClass", "xref")  # may join concepts, the surest first
SAME = (*EXACT, "code")  # say that both are the same; broader, narrower, close and related ones do not
MERGED = "merged by mapping"


def same_as(mappings: pl.DataFrame, concepts: pl.DataFrame, retired: pl.DataFrame) -> pl.DataFrame:
    """The mappings whose object is a concept of the graph, as triples; `evidence` tells the predicate.

    `concepts` has the `id`s of the graph, `retired` the `id`s with a `successor` or null.
    """
    onward = retired.select("id", "successor").drop_nulls()
    return (
        mappings.filter(pl.col("predicate").is_in(SAME))
        .join(onward, left_on="object", right_on="id", how="left", maintain_order="left")
        .with_columns(pl.coalesce("successor", "object").alias("object"))
        .join(concepts.select("id"), left_on="object", right_on="id", how="semi", maintain_order="left")
        .select(
            head="concept_id",
            relation=pl.lit(SAME_AS),
            tail="object",
            source="source",
            evidence=pl.concat_str(pl.lit('{"predicate": "'), "predicate", pl.lit('"}')),
        )
    )


def join_concepts(
    concepts: pl.DataFrame, mappings: pl.DataFrame, retired: pl.DataFrame
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The ids that exact mappings merge into others, as rows of `retired`; how many did so or were refused.

    `concepts` has `id` and `source` in the order of the inputs: of two concepts the one named first stays. Two concepts
    of one source are two concepts to that source, so no mapping ever makes them one, not by way of a third either.
    Surer predicates go first, then the alphabet, so that the order of the rows does not matter.
    """
    pairs = _pairs(concepts, mappings, retired)
    ends = pl.concat([pairs["concept_id"], pairs["object"]]).unique()
    mapped = concepts.with_row_index("order").filter(pl.col("id").is_in(ends.implode()))
    grouped = mapped.group_by("id").agg(pl.col("order").min(), pl.col("source").drop_nulls().unique())
    first = dict(grouped.select("id", "order").iter_rows())
    sources = {id: set(names) for id, names in grouped.select("id", "source").iter_rows()}
    stays = {id: id for id in first}
    counts: Counter[str] = Counter()
    for a, b in pairs.iter_rows():
        a, b = sorted((_root(stays, a), _root(stays, b)), key=first.__getitem__)
        if a == b:
            continue
        if sources[a] & sources[b]:
            counts["refused: both are concepts of one source"] += 1
            continue
        stays[b] = a
        sources[a] |= sources.pop(b)
        counts["made one"] += 1
    merged = [(id, _root(stays, id), MERGED) for id in sorted(stays) if stays[id] != id]
    schema = {"id": pl.String, "successor": pl.String, "reason": pl.String}
    return pl.DataFrame(merged, schema=schema, orient="row"), dict(sorted(counts.items()))


def _pairs(concepts: pl.DataFrame, mappings: pl.DataFrame, retired: pl.DataFrame) -> pl.DataFrame:
    """Both ends of each exact mapping between two concepts, each pair once, the surest first."""
    known = concepts.select(pl.col("id").unique())
    onward = retired.filter(~pl.col("id").is_in(known["id"].implode())).select("id", "successor").drop_nulls()
    onward = onward.group_by("id").agg(pl.col("successor").unique()).filter(pl.col("successor").list.len() == 1)
    onward = onward.select("id", pl.col("successor").list.first())
    pairs = mappings.filter(pl.col("predicate").is_in(EXACT)).select("concept_id", "object", "predicate")
    for end in ("concept_id", "object"):
        pairs = pairs.join(onward, left_on=end, right_on="id", how="left")
        pairs = pairs.with_columns(pl.coalesce("successor", end).alias(end)).drop("successor")
        pairs = pairs.join(known, left_on=end, right_on="id", how="semi")
    rank = pl.col("predicate").replace_strict({name: i for i, name in enumerate(EXACT)}, return_dtype=pl.Int8)
    pairs = pairs.select(
        rank.alias("rank"),
        pl.min_horizontal("concept_id", "object").alias("concept_id"),
        pl.max_horizontal("concept_id", "object").alias("object"),
    )
    pairs = pairs.group_by("concept_id", "object").agg(pl.col("rank").min())
    return pairs.sort("rank", "concept_id", "object").select("concept_id", "object")


def _root(stays: dict[str, str], id: str) -> str:
    while stays[id] != id:
        stays[id] = stays[stays[id]]
        id = stays[id]
    return id
