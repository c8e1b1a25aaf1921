"""The folder: same content, same bytes, same fingerprint."""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import snapshot, store_embedded
from kg.snapshot import (
    SCHEMAS,
    fingerprint,
    is_graph,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from kg.store_embedded import EmbeddedStore
from loaders import MedgraftError
from tests.kg.slow_graph import tables_of, write_folder

TEXT = st.none() | st.text(max_size=4)
ROWS = st.lists(st.tuples(TEXT, TEXT, st.none() | st.lists(TEXT, max_size=3)), max_size=6)


def _tables(rows, chunks=1):
    """Tables whose concepts are these (id, definition, types)."""
    columns = [(id, None, [], types, definition, ["s"]) for id, definition, types in rows]
    table = pa.Table.from_pylist(
        [dict(zip(SCHEMAS["concepts"].names, row, strict=True)) for row in columns], SCHEMAS["concepts"]
    )
    pieces = [table.slice(start, chunks) for start in range(0, len(rows), chunks)] or [table]
    others = {name: schema.empty_table() for name, schema in SCHEMAS.items()}
    return {**others, "concepts": pa.concat_tables(pieces)}


@settings(deadline=None)
@given(ROWS, ROWS, st.integers(1, 3))
def test_the_fingerprint_is_that_of_the_content(one, other, chunks):
    assert fingerprint(_tables(one)) == fingerprint(_tables(one, chunks))
    assert (fingerprint(_tables(one)) == fingerprint(_tables(other))) == (one == other)


def test_bytes_do_not_depend_on_chunks(tmp_path):
    tables, _ = tables_of([f"A:{i}" for i in range(50)])
    table = tables["concepts"]
    pieces = pa.concat_tables([table.slice(i, 7) for i in range(0, 50, 7)])
    for folder, rows in (("one", table), ("two", pieces)):
        (tmp_path / folder).mkdir()
        write_table(tmp_path / folder, "concepts", rows)
        assert read_table(tmp_path / folder, "concepts").equals(table)
    assert (tmp_path / "one/concepts.parquet").read_bytes() == (tmp_path / "two/concepts.parquet").read_bytes()


def test_a_manifest_comes_back(tmp_path):
    _, manifest = tables_of(["A:1"])
    assert not is_graph(tmp_path)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == json.loads(json.dumps(manifest))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a graph folder .* `medgraft build`"),
        ("{", "is not a graph folder"),
        ('{"format": 99, "fingerprint": "", "counts": {}}', "written by a newer medgraft"),
    ],
)
def test_other_folders_are_refused(tmp_path, content, message):
    if content:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(MedgraftError, match=message):
        read_manifest(tmp_path)


def test_no_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(MedgraftError, match="does not exist, not a graph folder; make one with `medgraft build"):
        read_manifest(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(
        MedgraftError, match="is a file, not a graph folder; make one with `medgraft build .*file --to GRAPH`"
    ):
        read_manifest(tmp_path / "file")


def test_missing_damaged_and_foreign_tables_are_refused(tmp_path):
    with pytest.raises(MedgraftError, match=r"names.parquet cannot be read .* run `medgraft build` again"):
        read_table(tmp_path, "names")
    (tmp_path / "names.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(MedgraftError, match=r"names.parquet cannot be read"):
        read_table(tmp_path, "names")
    tables, _ = tables_of(["A:1"])
    write_table(tmp_path, "concepts", tables["concepts"])
    (tmp_path / "concepts.parquet").rename(tmp_path / "names.parquet")
    with pytest.raises(MedgraftError, match="has other columns than expected"):
        read_table(tmp_path, "names")


def test_rows_are_looked_up_by_any_column(tmp_path, monkeypatch):
    """With groups of three rows, a look-up reads few of them; with a limit of none it scans: both as a plain filter."""
    monkeypatch.setitem(snapshot._ROW_GROUP, "names", 3)
    ids = [f"A:{i:02}" for i in range(20)] + ["Ä:1", "~", "a"]
    names = [(id, f"alias {i % 4}", "exact") for id in ids for i in range(ord(id[-1]) % 5)]
    tables, manifest = tables_of(ids, [(ids[0], "is_a", ids[1])], [(ids[2], "r", ids[3])], [("X", "A:01", "")], names)
    store = EmbeddedStore(write_folder(tmp_path / "graph", tables, manifest))
    asked = [(name, column) for name, table in tables.items() for column in table.column_names[:3]]
    for limit in (24, -1):
        monkeypatch.setattr(store_embedded, "_FEW_GROUPS", limit)
        for name, column in asked:
            if SCHEMAS[name].field(column).type == pa.string():
                for values in ([], ["A:01"], ["nothing"], ["~", "A:00", "Ä:1", "A:03", "A:03"], ["alias 1"], ids):
                    wanted = pc.is_in(tables[name].column(column), pa.array(values, pa.string()))
                    assert store.rows(name, column, values).equals(tables[name].filter(wanted)), (name, column, values)
    store.close()
