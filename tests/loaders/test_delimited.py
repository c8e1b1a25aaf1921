"""Blocks and frames of delimited tables against a reading line by line."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders.delimited import LINE, read_frames
from loaders.tables import Account

FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\t\r\ufeff"), max_size=4)
RECORD = st.lists(FIELD, min_size=1, max_size=4).filter(lambda fields: "".join(fields).strip() or len(fields) > 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    records=st.lists(RECORD, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    size=st.integers(1, 40),
    after=st.integers(0, 2),
    bom=st.booleans(),
)
def test_frames_hold_what_a_split_gives(
    records: list[list[str]], end: str, size: int, after: int, bom: bool, write: Callable[..., Path]
) -> None:
    path = write(("\ufeff" if bom else "") + end.join("\t".join(fields) for fields in records))
    account = Account(path)
    frames = list(read_frames(path, ["a", "b"], account, after_line=after, skip_bad=True, block_size=size))
    below = list(enumerate(records, start=1))[after:]
    assert [row for frame in frames for row in frame.select(LINE, "a", "b").rows()] == [
        (number, *fields) for number, fields in below if len(fields) == 2
    ]
    assert account.read == account.dropped.total() == sum(len(fields) != 2 for _, fields in below)
