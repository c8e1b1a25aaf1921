"""Delimited tables without quoting (TSV, RRF), read in blocks into Polars frames of strings.

Dumps of terminologies know no quotes and no missing values: `"` is a character like any other, `NA` and `null` are
names, an empty field is the empty string. The number of fields of each line is checked before Polars sees it.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.lines import BLOCK_SIZE, decode, line_blocks
from loaders.tables import Account

LINE = "line number"


def read_frames(
    path: Path,
    columns: Sequence[str],
    account: Account,
    *,
    after_line: int = 0,
    separator: str = "\t",
    skip_bad: bool = False,
    block_size: int = BLOCK_SIZE,
) -> Iterator[pl.DataFrame]:
    """The rows below line `after_line`, a frame at a time: `columns` as strings, and `LINE`, the number of each line.

    Blank lines are no rows. A row with another number of fields, or one that is not UTF-8, raises InputError; with
    `skip_bad` it is counted in `account` and left out. The rows in the frames are for the caller to count.
    """
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InputError(path, after_line or None, f"the column {twice!r} is there twice; rename one")
    for first, block in line_blocks(path, after_line, block_size):
        good, numbers, faults = _sift(path, first, block, len(columns), separator.encode())
        for error, reason in faults:
            if not skip_bad:
                raise error
            account.drop(reason)
        if len(numbers):
            yield _parse(good, columns, separator).with_columns(pl.Series(LINE, numbers))


def _sift(
    path: Path, first: int, block: bytes, width: int, separator: bytes
) -> tuple[bytes, NDArray[np.int64], list[tuple[InputError, str]]]:
    """The well-formed lines of a block, their numbers, and an error with a reason for each of the others."""
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    separators = np.flatnonzero(characters == separator[0])
    widths = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    numbers = np.arange(first, first + len(ends))
    if _is_text(block) and (widths == width).all():
        return block, numbers, []
    good, kept, faults = [], [], []
    for number, found, raw in zip(numbers.tolist(), widths.tolist(), block.split(b"\n"), strict=False):
        if not raw.strip(b" \r"):
            continue
        if found != width:
            message = f"{found} fields where the header has {width}; mend the line, or skip malformed lines"
            faults.append((InputError(path, number, message), "malformed: wrong number of fields"))
            continue
        try:
            decode(path, number, raw)
        except InputError as error:
            faults.append((error, "malformed: not UTF-8"))
            continue
        good.append(raw)
        kept.append(number)
    return b"".join(raw + b"\n" for raw in good), np.array(kept, dtype=numbers.dtype), faults


def _is_text(block: bytes) -> bool:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _parse(lines: bytes, columns: Sequence[str], separator: str) -> pl.DataFrame:
    return pl.read_csv(
        io.BytesIO(lines),
        has_header=False,
        separator=separator,
        quote_char=None,
        schema=dict.fromkeys(columns, pl.String),
        empty_string_is_null=False,
    )
