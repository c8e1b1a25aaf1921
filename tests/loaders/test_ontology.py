"""Detection by content, one-line refusals, and what any reader does with damaged files."""

import gzip
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import (
    Account,
    InputError,
    MedgraftError,
    detect_format,
    read_conll,
    read_gsc,
    read_ontology,
    read_pubtator,
)
from loaders.ontology import FORMATS
from loaders.options import Options

MINIS = {
    "obo": "mini.obo",
    "hpoa": "mini.hpoa",
    "genes_to_phenotype": "mini_genes_to_phenotype.txt",
    "kgx": "mini_kgx.tsv",
}
CORPORA = {"mini.PubTator.txt": read_pubtator, "mini_gsc.tsv": read_gsc, "mini_conll.tsv": read_conll}


@pytest.mark.parametrize("format", MINIS)
@pytest.mark.parametrize("change", [bytes, gzip.compress, lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n")])
def test_a_format_is_known_by_its_content(
    format: str, change: Callable[[bytes], bytes], mini: Path, write: Callable[..., Path]
) -> None:
    path = write(change((mini / MINIS[format]).read_bytes()))
    account = Account(path)
    assert detect_format(path) == format
    assert list(read_ontology(path, account)) and account.format == format and account.kept


RRF = "C0000001|ENG|P|L0000001|PF|S0000001|Y|A0000001||M1|D1|MSH|MH|D1|Fever|0|N||\n"


@pytest.mark.parametrize("packed", [False, True])
def test_every_dump_of_a_folder_is_read_whatever_lies_beside_it(tmp_path: Path, mini: Path, packed: bool) -> None:
    """A release that is a folder hid all that lay beside it, uncounted."""
    shelf = tmp_path / "shelf"
    for name in ("umls/META", "umls/doc", "obo", ".hidden"):
        (shelf / name).mkdir(parents=True)
    (shelf / "umls" / "META" / "MRCONSO.RRF").write_text(RRF)
    (shelf / "umls" / "doc" / "read.me").write_text("what this is\n")
    shutil.copy(mini / "mini.obo", shelf / "obo")
    shutil.copy(mini / "mini.hpoa", shelf)
    shutil.copy(mini / "mini.json", shelf / ".hidden")
    place = Path(shutil.make_archive(str(tmp_path / "shelf"), "zip", shelf)) if packed else shelf
    account = Account(place)
    assert list(read_ontology(place, account))
    kept = {file.path.name: (file.kept > 0, sum(file.dropped.values())) for file in account.files()}
    assert kept["MRCONSO.RRF"][0] and kept["mini.obo"][0] and kept["mini.hpoa"][0] and "mini.json" not in kept
    shutil.copy(mini / "mini.hpoa", shelf / "umls" / "META")  # beside the files of the release itself
    account = Account(shelf / "umls")
    assert list(read_ontology(shelf / "umls", account))
    assert {file.path.name for file in account.files() if file.kept} == {"MRCONSO.RRF", "mini.hpoa"}


def test_files_in_a_zip_archive_are_read_like_those_of_a_folder(tmp_path: Path, mini: Path) -> None:
    """Each format, in folders of the archive and beside a file of none, and a fault named with archive, file, line."""
    with zipfile.ZipFile(tmp_path / "release.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README", "what this is\n")
        for name in MINIS.values():
            archive.write(mini / name, f"release/{name}")
    account = Account(tmp_path / "release.zip")
    batches = list(read_ontology(tmp_path / "release.zip", account))
    parts = {Path(str(part.path)).name: part for part in account.parts}
    assert batches and parts["README"].dropped and not parts["README"].kept
    for format, name in MINIS.items():
        alone = Account(mini / name)
        list(read_ontology(mini / name, alone))
        assert (parts[name].format, parts[name].read, parts[name].kept) == (format, alone.read, alone.kept)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("bad.obo", "format-version: 1.2\n\n[Term]\nid: A:1\nname: one\nis_a\n")
    with pytest.raises(InputError, match=r"bad\.zip/bad\.obo, line 6: "):
        list(read_ontology(tmp_path / "bad.zip", Account(Path())))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \r\n", "is empty"),
        (b"some,other\ntable,file\n", r"known formats \(obo, obographs, "),
        (b"PK\x03\x04\0\0", "broken zip archive"),
        (gzip.compress(b"hp.obo".ljust(257, b"\0") + b"ustar\x00"), "a tar archive; unpack it"),
        ("[Term]\nid: A:1\n".encode("utf-16"), "none of the known formats"),
        (b"\xff\xfe\n", "none of the known formats"),
        (gzip.compress(b"[Term]\nid: A:1\n")[:-9], "broken gzip"),
        (b"\x1f\x8bnot gzip", "broken gzip"),
    ],
)
def test_what_is_no_ontology_is_refused_in_one_line(content: bytes, message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(read_ontology(write(content), Account(Path())))
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_formats_are_refused_at_once(tmp_path: Path, mini: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_ontology(tmp_path / "missing.obo", Account(Path()))
    with pytest.raises(InputError, match="holds no file of a known format"):
        read_ontology(tmp_path, Account(Path()))
    with pytest.raises(MedgraftError, match="no format 'ttl'; choose one of obo"):
        read_ontology(mini / "mini.obo", Account(Path()), format="ttl")


def mutated(raw: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in edits:
        at %= len(raw) + 1
        raw = raw[:at] + new + raw[at + length :]
    return raw


EDITS = st.lists(
    st.tuples(
        st.integers(0, 5_000),
        st.integers(0, 30),
        st.sampled_from([b"", b"\t", b"\n", b"\r", b'"', b"\\", b"[Term]\n", b"id: ", b"|", b"0", b"-", b"{", b"!"])
        | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(edits=EDITS, format=st.sampled_from(sorted(MINIS)), skip_bad=st.booleans())
def test_damaged_dumps_raise_nothing_but_our_errors(
    edits: list[tuple[int, int, bytes]],
    format: str,
    skip_bad: bool,
    mini: Path,
    tables: Any,
    write: Callable[..., Path],
) -> None:
    path = write(mutated((mini / MINIS[format]).read_bytes(), edits))
    try:
        tables(FORMATS[format].read, path, Options(skip_bad=skip_bad))
    except MedgraftError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(edits=EDITS, name=st.sampled_from(sorted(CORPORA)))
def test_damaged_corpora_raise_nothing_but_our_errors(
    edits: list[tuple[int, int, bytes]], name: str, mini: Path, write: Callable[..., Path]
) -> None:
    path = write(mutated((mini / name).read_bytes(), edits))
    try:
        documents = list(CORPORA[name](path))
    except MedgraftError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert all(0 <= m.start < m.end <= len(document.text) for document in documents for m in document)


def test_importing_loaders_costs_nothing_heavy() -> None:
    heavy = (
        "import sys, loaders; loaders.Document; print([m for m in ('polars', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"
