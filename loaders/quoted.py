"""Comma-separated tables with quotes (RFC 4180), read in blocks into Polars frames of strings.

A field in quotes may hold separators, line ends and doubled quotes. `NA` and `null` are text and so is the empty field.
Where records end is worked out here, from the number of quotes before each line end, so that an error can name the
line, and so that one stray quote spoils one line and not the rest of the file.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loaders.delimited import LINE
from loaders.errors import InputError
from loaders.lines import BLOCK_SIZE, decode, line_blocks
from loaders.tables import Account

_NEWLINE, _QUOTE = ord("\n"), ord('"')
_QUOTED = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"')
_Numbers = NDArray[np.int64]


def header_columns(line: str) -> list[str]:
    """The names in the header of a comma-separated table, of any text: what is no proper header is still no crash."""
    try:
        return next(csv.reader([line.replace("\r", " ")]), [])
    except csv.Error:  # a field longer than the csv module takes
        return line.split(",")


def read_quoted_frames(
    path: Path,
    columns: Sequence[str],
    account: Account,
    *,
    after_line: int = 0,
    separator: str = ",",
    skip_bad: bool = False,
    block_size: int = BLOCK_SIZE,
) -> Iterator[pl.DataFrame]:
    """The rows below line `after_line`, a frame at a time: `columns` as strings, and `LINE`, where each row begins.

    Blank lines are no rows. A row with another number of fields, with a quote inside an unquoted field or never
    closed, or that is not UTF-8, raises InputError; with `skip_bad` it is counted in `account` and left out. The rows
    in the frames are for the caller to count. CR LF within quotes becomes LF. A row is at most `block_size` bytes long.
    """
    rest, first = b"", 0
    for start, block in line_blocks(path, after_line, block_size):
        if not rest:
            first = start
        chunk = rest + block
        records = _split(chunk, separator.encode(), whole=len(rest) > block_size)
        yield from _frame(path, columns, account, separator, skip_bad, first, chunk, records)
        first += chunk.count(b"\n", 0, records.end)
        rest = chunk[records.end :]
    if rest:
        records = _split(rest, separator.encode(), whole=True)
        yield from _frame(path, columns, account, separator, skip_bad, first, rest, records)


class _Records(NamedTuple):
    """Records of a block: where each starts and ends (its line end excluded), and how many fields it has.

    A line that is no record has 0 fields. What follows `end` needs the next block.
    """

    starts: _Numbers
    ends: _Numbers
    widths: _Numbers
    end: int


def _split(chunk: bytes, separator: bytes, whole: bool) -> _Records:
    """The records of whole lines; `whole` if no more lines follow that could close a quote."""
    characters = np.frombuffer(chunk, np.uint8)
    quotes = np.flatnonzero(characters == _QUOTE)
    ends = np.flatnonzero(characters == _NEWLINE)
    separators = np.flatnonzero(characters == separator[0])
    if len(quotes):
        if not _in_place(characters, quotes, separator[0]) or (whole and len(quotes) % 2):
            return _split_slowly(chunk, separator, whole)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    widths = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    return _Records(starts, ends, widths, int(ends[-1]) + 1 if len(ends) else 0)


def _in_place(characters: NDArray[np.uint8], quotes: _Numbers, separator: int) -> bool:
    """Whether every quote opens a field, closes one, or is half of a doubled one."""
    opening, closing = quotes[0::2], quotes[1::2]
    before = characters[opening - 1]
    opens = (opening == 0) | (before == separator) | (before == _NEWLINE) | (before == _QUOTE)
    after = characters[closing + 1]  # a block ends with a line end
    closes = (after == separator) | (after == _NEWLINE) | (after == _QUOTE)
    return bool(opens.all() and closes.all())


def _split_slowly(chunk: bytes, separator: bytes, whole: bool) -> _Records:
    """The same, a record at a time; after a line with a stray quote it goes on with the next line."""
    rows: list[tuple[int, int, int]] = []
    at = 0
    while at < len(chunk):
        end, width = _record(chunk, at, separator)
        if end < 0 and not whole:
            break
        if not width:
            end = chunk.index(b"\n", at)
        rows.append((at, end, width))
        at = end + 1
    starts, ends, widths = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return _Records(starts, ends, widths, at)


def _record(chunk: bytes, at: int, separator: bytes) -> tuple[int, int]:
    """Where the record ends that starts here (-1 if a quote is never closed), and its fields (0 if it is none)."""
    plain = re.compile(rb'[^"\n' + re.escape(separator) + rb"]*+")
    width = 1
    while True:
        field = (_QUOTED if chunk[at] == _QUOTE else plain).match(chunk, at)
        if field is None:
            return -1, 0
        at = field.end() + 1
        following = chunk[at - 1 : at]
        if following == b"\n":
            return at - 1, width
        if following != separator:
            return at, 0
        width += 1


def _frame(
    path: Path,
    columns: Sequence[str],
    account: Account,
    separator: str,
    skip_bad: bool,
    first: int,
    chunk: bytes,
    records: _Records,
) -> Iterator[pl.DataFrame]:
    """The well-formed records of a block as one frame."""
    newlines = np.flatnonzero(np.frombuffer(chunk, np.uint8) == _NEWLINE)
    numbers = first + np.searchsorted(newlines, records.starts)
    lines = chunk[: records.end]
    if not (_is_text(lines) and (records.widths == len(columns)).all()):
        good = []
        for position, (start, end, width) in enumerate(zip(*map(np.ndarray.tolist, records[:3]), strict=True)):
            raw = chunk[start:end]
            if not raw.strip(b" \r\n"):
                continue
            fault = _fault(path, int(numbers[position]), raw, width, len(columns))
            if fault is None:
                good.append(position)
            elif skip_bad:
                account.drop(fault[1])
            else:
                raise fault[0]
        lines = b"".join(chunk[records.starts[row] : records.ends[row] + 1] for row in good)
        numbers = numbers[good]
    if len(numbers):
        yield _parse(lines, columns, separator).with_columns(pl.Series(LINE, numbers))


def _fault(path: Path, number: int, raw: bytes, width: int, wanted: int) -> tuple[InputError, str] | None:
    """What is wrong with a record, and under which reason to count it."""
    if not width:
        message = 'a quote (") inside an unquoted field or never closed; double it and put the field in quotes'
        return InputError(path, number, message), "malformed: stray quote"
    if width != wanted:
        message = f"{width} fields where the header has {wanted}; mend the line, or skip malformed lines"
        return InputError(path, number, message), "malformed: wrong number of fields"
    try:
        decode(path, number, raw)
    except InputError as error:
        return error, "malformed: not UTF-8"
    return None


def _parse(lines: bytes, columns: Sequence[str], separator: str) -> pl.DataFrame:
    characters = np.frombuffer(lines, np.uint8)
    quotes, newlines = np.flatnonzero(characters == _QUOTE), np.flatnonzero(characters == _NEWLINE)
    inside = newlines[np.searchsorted(quotes, newlines) % 2 == 1]
    if len(inside):  # a line end within quotes travels as NUL, which no line holds
        characters = characters.copy()
        characters[inside] = 0
        lines = characters.tobytes()
    frame = pl.read_csv(
        io.BytesIO(lines),
        has_header=False,
        separator=separator,
        quote_char='"' if len(quotes) else None,
        schema=dict.fromkeys(columns, pl.String),
        empty_string_is_null=False,
    )
    return frame.with_columns(pl.all().str.replace_all("\0", "\n", literal=True)) if len(inside) else frame


def _is_text(block: bytes) -> bool:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
