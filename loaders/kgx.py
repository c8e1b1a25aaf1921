"""KGX property graphs: nodes and edges as tab- or comma-separated tables or as JSON lines, one file at a time.

Columns are found by their names. `|` parts the values of a list. An edge that is `negated` is an exclusion, never a
fact. The relation of an edge is its predicate without `biolink:`; what else an edge says is its evidence.
Format: https://github.com/biolink/kgx/blob/master/specification/kgx-format.md
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.json

from loaders.columns import batches, json_object, json_text, well_formed
from loaders.delimited import LINE, read_frames
from loaders.errors import InputError
from loaders.identifiers import normal_ids
from loaders.lines import decode, line_blocks, text_lines
from loaders.options import DEFAULTS, Options
from loaders.quoted import header_columns, read_quoted_frames
from loaders.tables import Account, Batch

_NODE = ("id", "category", "name", "description", "synonym", "xref", "same_as", "provided_by", "deprecated")
_EDGE = ("subject", "predicate", "object", "negated")
_SOURCES = ("primary_knowledge_source", "knowledge_source", "provided_by", "aggregator_knowledge_source")
_NAMES = {
    "synonym": "exact",
    "exact_synonym": "exact",
    "narrow_synonym": "narrow",
    "broad_synonym": "broad",
    "related_synonym": "related",
}
_MAPPINGS = {"xref": "xref", "same_as": "owl:sameAs", "equivalent_identifiers": "owl:sameAs"}
_UNSAID = ("id", "type")  # of an edge: neither belongs to the fact
_OURS = ("source", "old", "fault", LINE)  # columns of our own; those of a file that are called so get a space after it
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TWO_OBJECTS = re.compile(rb"\}[ \t\r]*\{")
_NULL_IN_LIST = re.compile(rb"[\[,]\s*null")  # Arrow loses count of them: the array is invalid
_ID = r"^\S(?:.*\S)?$"


def read_kgx(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """A file of nodes or of edges; the account counts its rows.

    A node's `category` gives its types; columns that are not KGX's own become attributes. The source of an edge is its
    `primary_knowledge_source`, else another column for it, else the name of the file; where several are named, each
    states the fact.

    Raises:
        InputError: columns missing, a row of another width or without an id, JSON that is none; with
            `options.skip_bad` such a row is counted and left out. Always: no row at all.
    """
    source = path.name.split(".")[0]
    for frame in _frames(path, account, options.skip_bad):
        frame = frame.with_columns(pl.col(pl.String).str.strip_chars(" \r"))
        if "subject" in frame.columns:
            yield from _edges(path, frame, account, options.skip_bad, source)
        else:
            yield from _nodes(path, frame, account, options.skip_bad, source)
    if not account.read:
        raise InputError(path, None, "holds a header and no rows; fetch the file anew")


def is_kgx(head: list[str]) -> bool:
    """Whether the first lines of a file are those of a KGX table or of KGX JSON lines."""
    first = next((line for line in head if line.strip()), "")
    if first.startswith("{"):
        try:
            columns = set(json.loads(first))
        except (ValueError, RecursionError):
            return False
    else:
        columns = set(_columns(first.rstrip("\r"))[0])
    return {"subject", "predicate", "object"} <= columns or {"id", "category"} <= columns


def _frames(path: Path, account: Account, skip_bad: bool) -> Iterator[pl.DataFrame]:
    number, header = next(text_lines(path), (0, ""))
    if header.lstrip().startswith("{"):
        yield from _json_frames(path, account, skip_bad)
        return
    columns, separator = _columns(header)
    _check_columns(path, columns)
    columns = list(map(_theirs, columns))
    frames = read_quoted_frames if separator == "," else read_frames
    yield from frames(path, columns, account, after_line=number, separator=separator, skip_bad=skip_bad)


def _columns(header: str) -> tuple[list[str], str]:
    """The columns of a table and what parts them."""
    if "\t" in header:
        return header.split("\t"), "\t"
    return header_columns(header), ","


def _theirs(column: str) -> str:
    return f"{column} " if column in _OURS else column


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    wanted = ("subject", "predicate", "object") if "subject" in columns else ("id",)
    missing = [column for column in wanted if column not in columns]
    if missing or not ({"subject", "category", "name"} & set(columns)):
        raise InputError(path, 1, f"no KGX header (missing: {', '.join(missing) or 'category'}); check the file")
    columns = list(map(_theirs, columns))
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise InputError(path, 1, f"the column {twice[0]!r} is there twice; rename one")


def _json_frames(path: Path, account: Account, skip_bad: bool) -> Iterator[pl.DataFrame]:
    """Blocks of JSON lines as frames of strings: lists joined by `|`, anything else as its JSON."""
    for first, block in line_blocks(path):
        frame = _json_frame(first, block)
        if frame is None:
            frame = _json_frame_slowly(path, first, block, account, skip_bad)
        if not frame.height:
            continue
        # A block where no edge has the one or the other is a block of faulty edges.
        wanted = ("subject", "predicate", "object") if {"subject", "predicate"} & set(frame.columns) else ("id",)
        missing = [pl.lit("").alias(column) for column in wanted if column not in frame.columns]
        yield frame.with_columns(pl.col(pl.String).fill_null(""), *missing)


def _json_frame(first: int, block: bytes) -> pl.DataFrame | None:
    """A block as Arrow reads it; None where that would differ from `_json_frame_slowly`, or fails."""
    if _SURROGATE.search(block) or _TWO_OBJECTS.search(block) or _NULL_IN_LIST.search(block):
        return None
    try:
        block.decode("utf-8")
        whole = pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        table = pyarrow.json.read_json(pa.BufferReader(block), read_options=whole)
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != block.count(b"\n") or not table.num_columns:
        return None
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_list(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_null(kind.value_type)):
            if pa.types.is_null(kind.value_type):
                return None
        elif not (
            pa.types.is_string(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_int64(kind)
        ):
            return None
        if name in _OURS:
            return None
    frame = pl.DataFrame(pl.from_arrow(table))
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    others = [name for name in frame.columns if name not in lists]
    frame = frame.with_columns(pl.col(lists).list.join("|"), pl.col(others).cast(pl.String))
    return frame.with_columns(pl.int_range(first, first + pl.len()).alias(LINE))


def _json_frame_slowly(path: Path, first: int, block: bytes, account: Account, skip_bad: bool) -> pl.DataFrame:
    """A block with values of any kind, or with faulty lines."""
    rows = []
    for number, raw in enumerate(io.BytesIO(block), start=first):
        if not raw.strip():
            continue
        try:
            row = json.loads(decode(path, number, raw))
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError, InputError) as error:
            if not skip_bad:
                raise InputError(path, number, "no JSON object; mend the line, or skip malformed lines") from error
            account.drop("malformed: no JSON object")
            continue
        rows.append({**{_theirs(_clean(key)): _text(value) for key, value in row.items()}, LINE: number})
    columns = dict.fromkeys(column for row in rows for column in row)
    kinds = {column: pl.Int64 if column == LINE else pl.String for column in columns}
    return pl.DataFrame({column: [row.get(column) for row in rows] for column in columns}, schema=kinds)


def _clean(text: str) -> str:
    """Half a character pair, which JSON can write and UTF-8 cannot, becomes `?`."""
    return text.encode("utf-8", "replace").decode()


def _text(value: object) -> str:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return _clean("|".join(value))
    return "" if value is None else json.dumps(value, sort_keys=True)


def _nodes(path: Path, frame: pl.DataFrame, account: Account, skip_bad: bool, source: str) -> Iterator[Batch]:
    fault = pl.when(~pl.col("id").str.contains(_ID)).then(pl.lit("a node without an id"))
    frame = well_formed(path, frame, fault, account, skip_bad)
    account.count(kept=frame.height)
    for column in ("name", "category", "description", "provided_by", "deprecated"):
        if column not in frame.columns:
            frame = frame.with_columns(pl.lit("").alias(column))
    frame = frame.with_columns(
        source=pl.when(pl.col("provided_by") == "").then(pl.lit(source)).otherwise("provided_by"),
        old=pl.col("deprecated").str.to_lowercase().is_in(["true", "1", "yes"]),
    )
    yield from batches(
        "retired",
        frame.filter("old").select("id", successor=pl.lit(None, pl.String), reason=pl.lit("deprecated")),
    )
    frame = _by_source(frame.filter(~pl.col("old")), source)
    yield from batches(
        "concepts",
        frame.select(
            "id",
            "source",
            name=pl.when(pl.col("name") == "").then("id").otherwise("name"),
            types=_parts("category").list.eval(pl.element().str.strip_prefix("biolink:")),
            definition=pl.when(pl.col("description") != "").then("description"),
        ),
    )
    kinds = {"name": "preferred", **{column: kind for column, kind in _NAMES.items() if column in frame.columns}}
    for column, kind in kinds.items():
        names = _each(frame, column) if column != "name" else frame.filter(pl.col("name") != "")
        yield from batches(
            "names",
            names.select(
                "source",
                concept_id="id",
                name=column,
                kind=pl.lit(kind),
                language=pl.lit("en"),
                suppressed=pl.lit(False),
            ),
        )
    for column, predicate in _MAPPINGS.items():
        if column in frame.columns:
            yield from batches(
                "mappings",
                _each(frame, column).select(
                    "source",
                    concept_id="id",
                    predicate=pl.lit(predicate),
                    object=normal_ids(pl.col(column)),
                    evidence=pl.lit(""),
                ),
            )
    known = {*_NODE, *_NAMES, *_MAPPINGS, *_SOURCES, LINE, "source", "old"}
    for column in frame.columns:
        if column not in known:
            yield from batches(
                "attributes",
                frame.filter(pl.col(column) != "").select(
                    "source", concept_id="id", attribute=pl.lit(column.strip()), value=column
                ),
            )


def _edges(path: Path, frame: pl.DataFrame, account: Account, skip_bad: bool, source: str) -> Iterator[Batch]:
    fault = pl.lit(None, pl.String)
    for column in ("object", "predicate", "subject"):
        faulty = pl.when(~pl.col(column).str.contains(_ID)).then(pl.lit(f"an edge without {column}"))
        fault = pl.coalesce(faulty, fault)
    frame = well_formed(path, frame, fault, account, skip_bad)
    account.count(kept=frame.height)
    stated = [column for column in _SOURCES if column in frame.columns]
    sources = [pl.when(pl.col(column) != "").then(column) for column in stated]
    said = [c for c in frame.columns if c not in (*_EDGE, *_SOURCES, *_UNSAID, LINE)]
    negated = pl.col("negated").str.to_lowercase().is_in(["true", "1", "yes"]) if "negated" in frame.columns else None
    facts = frame.select(
        head="subject",
        relation=pl.col("predicate").str.strip_prefix("biolink:"),
        tail="object",
        source=pl.coalesce(*sources, pl.lit(source)),
        evidence=json_object({_key(column): json_text(column) for column in said}),
        negated=pl.lit(False) if negated is None else negated,
    )
    facts = _by_source(facts, source)
    yield from batches("triples", facts.filter(~pl.col("negated")))
    yield from batches("exclusions", facts.filter("negated"))


def _key(column: str) -> str:
    """The name of a column as JSON writes it, without the quotes."""
    return json.dumps(column.strip(), ensure_ascii=False)[1:-1]


def _by_source(frame: pl.DataFrame, file: str) -> pl.DataFrame:
    """A row for each of the sources that `|` parts; that of the file where none is left."""
    named = pl.element().str.strip_chars(" ").str.strip_prefix("infores:")
    listed = pl.col("source").str.split("|").list.eval(named.filter(named != ""))
    listed = pl.when(listed.list.len() == 0).then(pl.lit([file])).otherwise(listed)
    return frame.with_columns(listed.alias("source")).explode("source")


def _parts(column: str) -> pl.Expr:
    return (
        pl.when(pl.col(column) == "")
        .then(pl.lit([], pl.List(pl.String)))
        .otherwise(pl.col(column).str.split("|").list.eval(pl.element().filter(pl.element() != "")))
    )


def _each(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """A row for each value of a list."""
    listed = frame.filter(pl.col(column) != "").with_columns(pl.col(column).str.split("|"))
    return listed.explode(column).filter(pl.col(column) != "")
