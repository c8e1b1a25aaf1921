"""CSV with quotes: Python's own reader is the judge; faults have exact lines."""

import csv
import io

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loaders.delimited import LINE
from loaders.errors import InputError
from loaders.quoted import header_columns, read_quoted_frames
from loaders.tables import Account

FIELD = st.text(st.sampled_from('a",\n \u2028\x0bé#'), max_size=5) | st.sampled_from(["NA", "null", '""'])
SLOW = [HealthCheck.function_scoped_fixture]


def read(path, columns, skip_bad=False, block_size=1 << 24, account=None):
    account = account or Account(path)
    found, numbers = [], []
    for frame in read_quoted_frames(path, columns, account, skip_bad=skip_bad, block_size=block_size):
        numbers += frame[LINE].to_list()
        found += frame.drop(LINE).rows()
    return found, numbers


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=8), st.integers(1, 30), st.booleans())
@example([('a"', "\n\n", ""), ("NA", "", "")], 1, True)
def test_what_python_writes_is_read_back(write, rows, block_size, all_quoted):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL).writerows(rows)
    lines, number = [], 1
    for row in rows:
        lines.append(number)
        number += 1 + sum(field.count("\n") for field in row)
    # A row may not be longer than a block; the blocks here still end within most rows.
    block_size = max([block_size, *(2 * len("".join(row).encode()) + 20 for row in rows)])
    assert read(write(text.getvalue()), ("a", "b", "c"), block_size=block_size) == (rows, lines)


BAD = 'a,b\n\n1,"x\ny"\n2,5" tall\n3,"q"r\n4,d,e\n5,"ok ""yes"""\n6,f\n7,"never\n8,closed\n'


@pytest.mark.parametrize("block_size", [1, 7, 40, 1000])
def test_one_stray_quote_spoils_one_line(write, block_size):
    account = Account(write(BAD))
    found, numbers = read(account.path, ("a", "b"), skip_bad=True, block_size=block_size, account=account)
    if block_size > 1:
        assert found == [("a", "b"), ("1", "x\ny"), ("5", 'ok "yes"'), ("6", "f"), ("8", "closed")]
        assert numbers == [1, 3, 8, 9, 11]
        assert account.dropped == {"malformed: stray quote": 3, "malformed: wrong number of fields": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n1,"x\ny"\n2,5" tall\n', "line 4: a quote"),
        ('a,b\n1,"x\ny\n', "line 2: a quote"),
        ('a,b\n1,"x\ny",z\n', "line 2: 3 fields where the header has 2"),
        (b'a,b\n1,"x\n"\n1,\xff\n', "line 4: not UTF-8"),
        (b"a,b\n1,\0\n", "line 2: .*NUL"),
    ],
)
def test_faults_name_the_line(write, content, message):
    with pytest.raises(InputError, match=message):
        read(write(content), ("a", "b"))


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(st.binary(max_size=60) | st.text(st.sampled_from('a",\n'), max_size=60).map(str.encode), st.integers(1, 20))
def test_any_bytes_are_read_or_refused(write, raw, block_size):
    account = Account(write(raw))
    try:
        found, numbers = read(account.path, ("a", "b"), skip_bad=True, block_size=block_size, account=account)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) == len(numbers) and numbers == sorted(set(numbers))


@pytest.mark.parametrize("line", ["a,b", "a\rb,c", '"a', 'a"b,c', "a\0b", "", "x" * 200_000])
def test_any_header_has_columns(line):
    assert isinstance(header_columns(line), list)


def test_a_header_in_quotes():
    assert header_columns('"a, b",c') == ["a, b", "c"]
