"""What readers of big tables do with a frame of columns: sift its rows, write JSON, hand it on as batches."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from loaders.delimited import LINE
from loaders.errors import InputError
from loaders.tables import SCHEMAS, Account, Batch

# What JSON wants escaped, as json.dumps does it.
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}
_ESCAPES |= {chr(code): f"\\u{code:04x}" for code in range(32) if chr(code) not in _ESCAPES}


def well_formed(path: Path, frame: pl.DataFrame, fault: pl.Expr, account: Account, skip_bad: bool) -> pl.DataFrame:
    """The rows for which `fault` is null; the others are counted by it as malformed.

    Raises:
        InputError: without `skip_bad`, for the first faulty row.
    """
    frame = frame.with_columns(fault=fault)
    bad = frame.filter(pl.col("fault").is_not_null())
    if bad.height and not skip_bad:
        raise InputError(path, bad[LINE][0], f"{bad['fault'][0]}; mend the line, or skip malformed lines")
    for reason, count in bad.group_by("fault", maintain_order=True).len().iter_rows():
        account.count(dropped={f"malformed: {reason}": count})
    return frame.filter(pl.col("fault").is_null()).drop("fault")


def without(frame: pl.DataFrame, account: Account, reason: str, which: pl.Expr) -> pl.DataFrame:
    """The rows for which `which` is not true; the others are counted as dropped for the reason."""
    kept = frame.filter(~which.fill_null(False))
    account.count(dropped={reason: frame.height - kept.height})
    return kept


def json_object(members: Mapping[str, pl.Expr]) -> pl.Expr:
    """A JSON object of texts, by sorted keys, without those that are empty; an empty text if there are none.

    The values are expressions of JSON values, such as `json_text` gives; `""` counts as empty.
    """
    parts = [
        pl.when(value.is_not_null() & (value != '""')).then(pl.lit(f'"{key}": ') + value)
        for key, value in sorted(members.items())
    ]
    if not parts:
        return pl.lit("")
    inner = pl.concat_str(parts, separator=", ", ignore_nulls=True)
    return pl.when(inner == "").then(pl.lit("")).otherwise("{" + inner + "}")


def json_text(column: str | pl.Expr) -> pl.Expr:
    """A column of text as JSON strings."""
    text = pl.col(column) if isinstance(column, str) else column
    return '"' + text.str.replace_many(list(_ESCAPES), list(_ESCAPES.values())) + '"'


def batches(table: str, frame: pl.DataFrame) -> Iterator[Batch]:
    """A frame with the columns of one of the reader's tables, in any order, as batches."""
    schema = SCHEMAS[table]
    rows = frame.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
    yield from (Batch(table, batch) for batch in rows.to_batches())
