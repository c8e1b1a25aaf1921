"""The rows of several readers become one consistent set of snapshot tables.

One row a concept, one a fact: what several sources or several lines state is gathered in `sources` and `evidence`,
never overwritten. Every row that does not survive is counted by its reason.

Ids and words that recur are numbered while the rows come in, so that tens of millions of facts are sorted as integers;
the tables are then made and written one range of concepts after the other. All work is done on whole columns.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from kg.joining import EXACT, SAME, SAME_AS, join_concepts, same_as
from kg.snapshot import SCHEMAS, TableWriter, combined_fingerprint
from loaders.tables import NAME_KINDS, Batch
from loaders.tables import SCHEMAS as READER_SCHEMAS

FACT = ["head", "relation", "tail"]
_SUCCESSION_DOUBLINGS = 32  # follows 2 ** 32 successors, more than there are ids
_PART = 1_000_000  # rows that are sorted and turned into text at once
_UNKNOWN, _GONE = -1, -2  # in the place of an id: it is no concept; it is retired without successor

# Columns that are numbered: those with ids of concepts, and those whose words recur. The others stay text.
_IDS = {"concepts": ["id"], "names": ["concept_id"], "mappings": ["concept_id"], "attributes": ["concept_id"]}
_IDS |= {table: ["head", "tail"] for table in ("triples", "exclusions")}
_WORDS = {"concepts": ["source"], "names": ["kind", "language", "source"], "attributes": ["attribute", "source"]}
_WORDS |= {table: ["relation", "source", "evidence"] for table in ("triples", "exclusions")}
_WORDS |= {"mappings": ["predicate", "source", "evidence"]}

Places = NDArray[np.int32]


@dataclass
class Merged:
    """What became of the rows of one table: `read == kept + merged + sum(dropped.values())`.

    `merged` counts rows that repeat or add to one that was kept; `folded` those of an inverse relation that were turned
    round, wherever they ended.
    """

    read: int = 0
    kept: int = 0
    merged: int = 0
    folded: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Content:
    """What was written: the account of each table, and what the manifest tells of the whole.

    `counts` has the rows of each table, concepts by type and triples by relation; `inverses` the inverse of each
    relation that has one; `sources` what is known of each source (`release`, `restriction`, `licence`); `joined` how
    many mappings made two concepts one, and how many were not let.
    """

    accounts: dict[str, Merged]
    counts: dict[str, Any]
    fingerprint: str
    inverses: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, str | int | None]] = field(default_factory=dict)
    joined: dict[str, int] = field(default_factory=dict)


def merge(batches: Iterable[Batch], folder: Path, mappings: str = "keep") -> Content:
    """Merge the batches of all readers, in the order of the inputs, and write the tables of a snapshot.

    - A concept takes its name and its definition from the first input that gives one, and all types and sources.
    - Facts and names that use a retired id are moved to its successor; a chain of successors is followed to its end.
    - Facts with an end that is no concept, or with the same concept at both ends, are dropped and counted.
    - An id that one input retires and another one uses is in use.
    - Of two relations that are each other's inverse one is kept, facts of the other are turned round; the ends of a
      symmetric relation are put in order. So a fact is there once, from whichever end it was stated.
    - `mappings="same_as"`: a mapping that says two concepts of the graph are the same is also a triple `same_as`;
      `mappings="merge"`: such concepts become one, see `kg.joining`.
    """
    rows = _Rows()
    for batch in batches:
        rows.add(batch.table, batch.rows)
    accounts = {table: Merged(read=rows.height(table)) for table in SCHEMAS}
    inverses = _inverses(rows.plain("inverses"))
    rows.words.of(pl.Series([*inverses, SAME_AS]))  # the name that is kept may occur in no row
    joined = _join(rows) if mappings == "merge" else {}

    concepts = _concept_rows(rows, accounts["concepts"])
    ids = rows.ids.texts().gather(concepts["id"].unique()).sort()
    retired = _retired(rows.plain("retired"), ids, accounts["retired"])
    if mappings == "same_as":
        same = same_as(rows.mappings(SAME), ids.alias("id").to_frame(), retired)
        rows.add("triples", _to_arrow(same, READER_SCHEMAS["triples"]).combine_chunks().to_batches())
        accounts["triples"].read += same.height
        inverses = dict(sorted({**inverses, SAME_AS: SAME_AS}.items()))

    index = _Index(rows, ids, retired)
    with _Tables(folder) as tables:
        _write_concepts(concepts, rows, index, tables, accounts["names"])
        for name in ("triples", "exclusions"):
            _write_facts(name, rows, inverses, index, tables, accounts[name])
        for name in ("mappings", "attributes"):
            _write_statements(name, rows, index, tables, accounts[name])
        tables.write("retired", _to_arrow(retired, SCHEMAS["retired"]))
    for name, account in accounts.items():
        account.kept = tables.writers[name].rows
        account.merged = account.read - account.kept - sum(account.dropped.values())
    return Content(accounts, tables.counts(), tables.fingerprint(), inverses, _sources(rows.plain("sources")), joined)


class _Codes:
    """Texts, numbered from 0 as they come."""

    def __init__(self) -> None:
        self._type = pl.Categorical(pl.Categories.random())
        self._alive = pl.Series([], dtype=self._type)  # polars forgets the texts with the last column that has them
        self._count = 0

    def of(self, column: pl.Series) -> pl.Series:
        """The number of each text, null for null."""
        codes = column.cast(self._type).to_physical().cast(pl.Int32)
        self._count = max(self._count, cast(int, codes.max() if codes.null_count() < len(codes) else -1) + 1)
        return codes

    def texts(self) -> pl.Series:
        """All texts, by their numbers."""
        return pl.Series(np.arange(self._count, dtype=np.uint32)).cat.to(self._type).cast(pl.String)


class _Rows:
    """The rows of all tables, their ids and words numbered; the types of the concepts are a table of their own."""

    def __init__(self) -> None:
        self.ids, self.words = _Codes(), _Codes()
        self._frames: dict[str, list[pl.DataFrame]] = {table: [] for table in (*READER_SCHEMAS, "types")}

    def add(self, table: str, rows: pa.RecordBatch | list[pa.RecordBatch]) -> None:
        batches = rows if isinstance(rows, list) else [rows]
        frame = cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches(batches, schema=READER_SCHEMAS[table])))
        coded = [self.ids.of(frame[column]) for column in _IDS.get(table, ())]
        coded += [self.words.of(frame[column]) for column in _WORDS.get(table, ())]
        frame = frame.with_columns(coded)
        if table == "concepts":
            types = frame.select("id", type="types").explode("type", keep_nulls=False, empty_as_null=False)
            self._frames["types"].append(types.with_columns(self.words.of(types["type"])))
            frame = frame.drop("types")
        self._frames[table].append(frame)

    def height(self, table: str) -> int:
        return sum(frame.height for frame in self._frames[table])

    def take(self, table: str) -> pl.DataFrame:
        """All rows of a table, which are then forgotten here."""
        frames, self._frames[table] = self._frames[table], []
        return pl.concat(frames) if frames else self._empty(table)

    def plain(self, table: str) -> pl.DataFrame:
        """The rows of a table without numbered columns."""
        frames = self._frames[table]
        return pl.concat(frames) if frames else self._empty(table)

    def mappings(self, predicates: Iterable[str]) -> pl.DataFrame:
        """The mappings with one of the predicates, as text again."""
        words, texts = self.words.texts(), self.ids.texts()
        chosen = pl.Series([i for i, word in enumerate(words) if word in set(predicates)], dtype=pl.Int32)
        frames = [frame.filter(pl.col("predicate").is_in(chosen.implode())) for frame in self._frames["mappings"]]
        found = pl.concat([self._empty("mappings"), *frames])
        return found.with_columns(
            texts.gather(found["concept_id"]).alias("concept_id"),
            *(words.gather(found[column]).alias(column) for column in ("predicate", "source", "evidence")),
        )

    def replace(self, table: str, frame: pl.DataFrame) -> None:
        self._frames[table] = [frame]

    def _empty(self, table: str) -> pl.DataFrame:
        if table == "types":
            return pl.DataFrame(schema={"id": pl.Int32, "type": pl.Int32})
        empty = cast(pl.DataFrame, pl.from_arrow(READER_SCHEMAS[table].empty_table()))
        coded = {column: pl.Int32 for column in (*_IDS.get(table, ()), *_WORDS.get(table, ()))}
        return empty.drop("types", strict=False).cast(coded)


class _Index:
    """Where each id and each word stands in the alphabet: numbers that sort like the texts."""

    def __init__(self, rows: _Rows, ids: pl.Series, retired: pl.DataFrame) -> None:
        words = rows.words.texts()
        order = words.arg_sort()
        sorted_words = words.gather(order)
        self.ids = ids
        self.id_texts = ids.to_arrow()
        self.words = sorted_words.to_arrow()
        self.blank = (sorted_words.str.strip_chars() == "").to_numpy()
        ranks = np.empty(len(words), np.int32)
        ranks[order.to_numpy()] = np.arange(len(words), dtype=np.int32)
        self._word_rank = pl.Series(ranks)
        self._sorted_words = sorted_words
        self._place = self._places(rows.ids.texts(), retired)

    def _places(self, texts: pl.Series, retired: pl.DataFrame) -> pl.Series:
        place = pl.DataFrame({"id": self.ids}).with_row_index("place")
        onward = retired.select("id", "successor", gone=pl.lit(True))
        found = (
            pl.DataFrame({"id": texts})
            .join(onward, on="id", how="left", maintain_order="left")
            .with_columns(pl.coalesce("successor", "id").alias("id"))
            .join(place, on="id", how="left", maintain_order="left")
        )
        missing = pl.when(pl.col("gone")).then(_GONE).otherwise(_UNKNOWN)
        return found.select(pl.coalesce(pl.col("place").cast(pl.Int32), missing).cast(pl.Int32)).to_series()

    def places(self, codes: pl.Series) -> pl.Series:
        """The rank of the concept that each id stands for, or why there is none."""
        return self._place.gather(codes).fill_null(_UNKNOWN)

    def ranks(self, codes: pl.Series) -> pl.Series:
        """The rank of each word, null for null."""
        return self._word_rank.gather(codes)

    def rank(self, word: str) -> int:
        """The rank of one word; -1 if it is not there."""
        at = self._sorted_words.search_sorted(word)
        return at if at < len(self._sorted_words) and self._sorted_words[at] == word else -1

    def is_blank(self, ranks: pl.Series) -> NDArray[np.bool_]:
        """Whether a word is null, empty or white space."""
        numbers = ranks.fill_null(-1).to_numpy()
        return np.append(self.blank, True)[numbers]


class _Tables:
    """The tables of a snapshot while they are written."""

    def __init__(self, folder: Path) -> None:
        self.writers = {name: TableWriter(folder, name) for name in SCHEMAS}
        self._counted: dict[str, Counter[str]] = {"types": Counter(), "relations": Counter()}

    def __enter__(self) -> "_Tables":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.close()

    def write(self, name: str, table: pa.Table) -> None:
        self.writers[name].write(table)

    def count(self, what: str, words: pa.Array, ranks: Places) -> None:
        """Add to the counts of concepts by type, or of triples by relation."""
        numbers, counts = np.unique(ranks, return_counts=True)
        self._counted[what].update(dict(zip(words.take(pa.array(numbers)).to_pylist(), counts.tolist(), strict=True)))

    def counts(self) -> dict[str, Any]:
        rows: dict[str, Any] = {name: writer.rows for name, writer in self.writers.items()}
        return {**rows, **{what: dict(sorted(counts.items())) for what, counts in self._counted.items()}}

    def fingerprint(self) -> str:
        return combined_fingerprint({name: writer.content for name, writer in self.writers.items()})


def _concept_rows(rows: _Rows, account: Merged) -> pl.DataFrame:
    frame = rows.take("concepts")
    texts = rows.ids.texts()
    blank = pl.Series((texts.str.strip_chars() == "").to_numpy()).gather(frame["id"]).fill_null(True)
    if blank.any():
        account.dropped["concept without id"] += int(blank.sum())
        frame = frame.filter(~blank)
    return frame


def _join(rows: _Rows) -> dict[str, int]:
    """Let exact mappings make concepts one: their rows get the id that stays, the other ids are retired."""
    frame, texts, words = rows.take("concepts"), rows.ids.texts(), rows.words.texts()
    named = pl.DataFrame({"id": texts.gather(frame["id"]), "source": words.gather(frame["source"])})
    retired = rows.plain("retired")
    successors, joined = join_concepts(named.drop_nulls("id"), rows.mappings(EXACT), retired)
    rows.replace("retired", pl.concat([retired, successors]))
    kept = _successors(successors, "id", named)
    rows.replace("concepts", frame.with_columns(rows.ids.of(kept).alias("id")))
    types = rows.take("types")
    kept = _successors(successors, "id", pl.DataFrame({"id": texts.gather(types["id"])}))
    rows.replace("types", types.with_columns(rows.ids.of(kept).alias("id")))
    return joined


def _retired(rows: pl.DataFrame, ids: pl.Series, account: Merged) -> pl.DataFrame:
    """One row a retired id, its successor a concept of the graph or null."""
    in_use = pl.col("id").is_in(ids.implode()).fill_null(False)
    height = rows.height
    rows = rows.filter(~in_use)
    if rows.height < height:
        account.dropped["retired id is in use"] += height - rows.height
    rows = (
        rows.sort("id", "successor", "reason", nulls_last=True)
        .group_by("id", maintain_order=True)
        .agg(pl.col("successor").drop_nulls().unique().sort(), pl.col("reason").drop_nulls().first())
    )
    several = pl.col("successor").list.len() > 1
    all_of_them = pl.concat_str(
        pl.col("reason").fill_null(""), pl.lit("; several successors: "), pl.col("successor").list.join(", ")
    )
    rows = rows.with_columns(
        pl.when(several).then(all_of_them).otherwise("reason").alias("reason"),
        pl.when(~several).then(pl.col("successor").list.first()).alias("successor"),
    )
    for _ in range(_SUCCESSION_DOUBLINGS):
        onward = _successors(rows, "successor")
        if onward.equals(rows["successor"]):
            break
        rows = rows.with_columns(onward)
    is_concept = pl.col("successor").is_in(ids.implode())
    return rows.with_columns(pl.when(is_concept).then("successor").alias("successor")).sort("id")


def _successors(retired: pl.DataFrame, column: str, rows: pl.DataFrame | None = None) -> pl.Series:
    """The ids of a column, those that are retired replaced by their successors where there is one."""
    ids = (retired if rows is None else rows).select(pl.col(column).alias("id"))
    onward = retired.select("id", onward="successor")
    joined = ids.join(onward, on="id", how="left", maintain_order="left")
    return joined.select(pl.coalesce("onward", "id").alias(column)).to_series()


def _inverses(rows: pl.DataFrame) -> dict[str, str]:
    """Kept relation -> its inverse (itself where it is symmetric), by the first pair that names either of the two."""
    inverses: dict[str, str] = {}
    settled: set[str] = set()
    for relation, inverse in rows.drop_nulls().unique(maintain_order=True).iter_rows():
        if relation not in settled and inverse not in settled:
            inverses[relation] = inverse
            settled |= {relation, inverse}
    return dict(sorted(inverses.items()))


def _sources(rows: pl.DataFrame) -> dict[str, dict[str, str | int | None]]:
    """What is known of each source, by the first input that says it."""
    known = rows.group_by("source", maintain_order=True).agg(pl.all().drop_nulls().first()).drop_nulls("source")
    return {row.pop("source"): row for row in known.sort("source").to_dicts()}


def _write_concepts(rows: pl.DataFrame, all_rows: _Rows, index: _Index, tables: _Tables, account: Merged) -> None:
    """Concepts and names, one range of concepts after the other."""
    concepts = rows.select(
        index.places(rows["id"]).alias("place"), "name", "definition", _ranked(rows, "source", index)
    )
    types = all_rows.take("types")
    types = types.select(index.places(types["id"]).alias("place"), _ranked(types, "type", index))
    names = all_rows.take("names")
    columns = [_ranked(names, column, index) for column in ("kind", "language", "source")]
    names = names.with_columns(index.places(names["concept_id"]).alias("place"), *columns).drop("concept_id")
    names = _dropped(names, account, "empty name", pl.col("name").is_null() | (pl.col("name").str.strip_chars() == ""))
    names = _dropped(names, account, "name of an unknown concept", pl.col("place") < 0)
    merits = [index.rank(kind) for kind in NAME_KINDS]
    for low, high in _ranges(len(index.ids), concepts["place"], names["place"]):
        here = pl.col("place").is_between(low, high, closed="left")
        own_names = names.filter(here).sort("place", "name", "kind", "language", "source", "suppressed")
        own_names = own_names.filter(_changes(own_names, own_names.columns))
        tables.write("names", _name_table(own_names, index))
        own = concepts.filter(here).sort("place", maintain_order=True)
        named = _firsts(own, pl.col("name").is_null() | (pl.col("name").str.strip_chars() == ""), "name")
        defined = _firsts(own, pl.col("definition").is_null(), "definition")
        own_ids = index.ids.slice(low, high - low)
        texts = (
            pl.DataFrame({"place": np.arange(low, high, dtype=np.int32), "id": own_ids})
            .join(named, on="place", how="left", maintain_order="left")
            .join(defined, on="place", how="left", maintain_order="left")
            .with_columns(pl.coalesce("name", "id").alias("name"))
        )
        own_types = types.filter(here)
        type_lists, ranks = _lists(own_types["place"].to_numpy() - low, own_types["type"], high - low, index)
        tables.count("types", index.words, ranks)
        source_lists, _ = _lists(own["place"].to_numpy() - low, own["source"], high - low, index)
        columns_ = {
            "id": texts["id"].to_arrow(),
            "name": texts["name"].to_arrow(),
            "aliases": _aliases(own_names, texts.select("place", preferred="name"), merits, low, high),
            "types": type_lists,
            "definition": texts["definition"].to_arrow(),
            "sources": source_lists,
        }
        tables.write("concepts", _table("concepts", columns_))


def _name_table(names: pl.DataFrame, index: _Index) -> pa.Table:
    columns = {"concept_id": _taken(index.id_texts, names["place"]), "name": names["name"].to_arrow()}
    columns |= {column: _taken(index.words, names[column]) for column in ("kind", "language", "source")}
    return _table("names", {**columns, "suppressed": names["suppressed"].to_arrow()})


def _aliases(names: pl.DataFrame, preferred: pl.DataFrame, merits: list[int], low: int, high: int) -> pa.Array:
    """The other names that are not suppressed, preferred and exact ones first, then by alphabet, as a list column."""
    merit = pl.lit(len(NAME_KINDS), pl.Int32)
    for place, rank in reversed(list(enumerate(merits))):
        merit = pl.when(pl.col("kind") == rank).then(pl.lit(place, pl.Int32)).otherwise(merit)
    names = (
        names.filter(~pl.col("suppressed"))
        .join(preferred, on="place", how="left", maintain_order="left")
        .filter(pl.col("name") != pl.col("preferred"))
        .select("place", "name", merit.alias("merit"))
    )
    # Sorted by place and name already: the best kind of each, then by kind, the alphabet within.
    again = pl.struct("place", "name").rle_id()
    names = names.with_columns(pl.col("merit").min().over(again)) if names.height else names
    names = names.filter(_changes(names, ["place", "name"]))
    names = names.sort("place", "merit", maintain_order=True)
    counts = np.bincount(names["place"].to_numpy() - low, minlength=high - low)
    return _list_array(counts, names["name"].to_arrow())


def _write_facts(
    name: str, rows: _Rows, inverses: dict[str, str], index: _Index, tables: _Tables, account: Merged
) -> None:
    facts = rows.take(name)
    frame = facts.select(
        index.places(facts["head"]).alias("head"),
        _ranked(facts, "relation", index),
        index.places(facts["tail"]).alias("tail"),
        _ranked(facts, "source", index),
        _ranked(facts, "evidence", index),
    )
    del facts
    for end in ("head", "tail"):
        frame = _dropped(frame, account, f"{end} is retired without successor", pl.col(end) == _GONE)
        frame = _dropped(frame, account, f"{end} is not a concept", pl.col(end) == _UNKNOWN)
    frame = _dropped(frame, account, "no relation", pl.Series(index.is_blank(frame["relation"])))
    frame = _dropped(frame, account, "head and tail are the same concept", pl.col("head") == pl.col("tail"))
    if inverses:
        frame = _folded(frame, inverses, index, account)
    _write_gathered(name, frame, index, tables)


def _folded(rows: pl.DataFrame, inverses: dict[str, str], index: _Index, account: Merged) -> pl.DataFrame:
    """Facts in the direction that is kept: those of an inverse relation, or of a symmetric one, may change ends."""
    kept = {index.rank(inverse): index.rank(name) for name, inverse in inverses.items() if name != inverse}
    kept.pop(-1, None)  # an inverse that no row uses
    symmetric = [index.rank(name) for name, inverse in inverses.items() if name == inverse]
    turned = pl.col("relation").is_in(list(kept)) | (
        pl.col("relation").is_in(symmetric) & (pl.col("head") > pl.col("tail"))
    )
    account.folded = int(rows.select(turned.sum()).item())
    return rows.with_columns(
        pl.when(turned).then("tail").otherwise("head").alias("head"),
        pl.col("relation").replace(list(kept), list(kept.values())),
        pl.when(turned).then("head").otherwise("tail").alias("tail"),
    )


def _write_statements(name: str, rows: _Rows, index: _Index, tables: _Tables, account: Merged) -> None:
    """Mappings or attributes: what a source says of one concept."""
    frame = rows.take(name)
    columns = [_ranked(frame, column, index) for column in _WORDS[name]]
    frame = frame.with_columns(index.places(frame["concept_id"]).alias("concept_id"), *columns)
    frame = _dropped(frame, account, "of an unknown concept", pl.col("concept_id") < 0)
    said = frame.columns[2]
    frame = _dropped(frame, account, f"no {said}", pl.col(said).is_null() | (pl.col(said).str.strip_chars() == ""))
    _write_gathered(name, frame, index, tables)


def _write_gathered(name: str, rows: pl.DataFrame, index: _Index, tables: _Tables) -> None:
    """One row for each value of the first three columns, with the sources and the evidence of all that state it."""
    first, second, third = key = rows.columns[:3]
    for low, high in _ranges(len(index.ids), rows[first]):
        own = rows.filter(pl.col(first).is_between(low, high, closed="left")).sort(rows.columns)
        new = _changes(own, key).to_numpy()
        groups = np.cumsum(new) - 1
        heads = own.filter(pl.Series(new))
        columns = {first: _taken(index.id_texts, heads[first]), second: _taken(index.words, heads[second])}
        is_text = heads.schema[third] == pl.String
        columns[third] = heads[third].to_arrow() if is_text else _taken(index.id_texts, heads[third])
        columns["sources"], _ = _lists(groups, own["source"], heads.height, index)
        if "evidence" in own.columns:
            said = ~index.is_blank(own["evidence"])
            evidence = own["evidence"].filter(pl.Series(said))
            columns["evidence"], _ = _lists(groups[said], evidence, heads.height, index)
        if name == "triples":
            tables.count("relations", index.words, heads[second].to_numpy())
        tables.write(name, _table(name, columns))


def _ranked(frame: pl.DataFrame, column: str, index: _Index) -> pl.Series:
    return index.ranks(frame[column]).alias(column)


def _dropped(rows: pl.DataFrame, account: Merged, reason: str, which: pl.Expr | pl.Series) -> pl.DataFrame:
    """The rows for which `which` is not true; the others are counted under the reason."""
    kept = rows.filter(~which)
    if kept.height < rows.height:
        account.dropped[reason] += rows.height - kept.height
    return kept


def _ranges(concepts: int, *places: pl.Series) -> Iterator[tuple[int, int]]:
    """Ranges of concepts with about `_PART` rows each."""
    rows = np.zeros(concepts, np.int64)
    for column in places:
        rows += np.bincount(column.to_numpy(), minlength=concepts)
    ends = np.cumsum(rows)
    low = 0
    while low < concepts:
        before = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + _PART, side="right")))
        yield low, high
        low = high


def _changes(rows: pl.DataFrame, columns: list[str]) -> pl.Series:
    """Whether a row of a sorted table differs from the one before it in one of the columns."""
    if not rows.height:
        return pl.Series([], dtype=pl.Boolean)
    different = [pl.col(column).ne_missing(pl.col(column).shift()) for column in columns]
    return rows.select((pl.int_range(pl.len()) == 0) | pl.any_horizontal(different)).to_series()


def _firsts(rows: pl.DataFrame, blank: pl.Expr, column: str) -> pl.DataFrame:
    """For each place the first value that is not blank; rows are sorted by place."""
    given = rows.filter(~blank)
    return given.filter(_changes(given, ["place"])).select("place", column)


def _lists(groups: NDArray[Any], ranks: pl.Series, count: int, index: _Index) -> tuple[pa.Array, Places]:
    """For each of `count` groups its distinct words in the order of the alphabet; and all of them, as ranks."""
    if ranks.null_count():
        there = ranks.is_not_null().to_numpy()
        groups, ranks = groups[there], ranks.drop_nulls()
    pairs = (groups.astype(np.int64) << 32) | ranks.to_numpy().astype(np.int64)
    if len(pairs) > 1 and not (pairs[1:] > pairs[:-1]).all():
        pairs = np.unique(pairs)
    values = (pairs & 0xFFFFFFFF).astype(np.int32)
    return _list_array(np.bincount(pairs >> 32, minlength=count), index.words.take(pa.array(values))), values


def _list_array(counts: NDArray[np.int64], values: pa.Array) -> pa.Array:
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values.cast(pa.string()))


def _taken(texts: pa.Array, places: pl.Series) -> pa.Array:
    return texts.take(places.to_arrow())


def _table(name: str, columns: dict[str, pa.Array]) -> pa.Table:
    schema = SCHEMAS[name]
    return pa.table([columns[column].cast(schema.field(column).type) for column in schema.names], schema=schema)


def _to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    slices = [frame.slice(start, _PART).to_arrow().cast(schema) for start in range(0, max(frame.height, 1), _PART)]
    return pa.concat_tables(slices)
