"""Corpora are found in the stated order, fetched only where allowed, and every file is checked."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fusion import corpora
from fusion.label_corpora import load_labelled
from fusion.question_corpora import load_questions
from loaders.errors import MedgraftError

Load = Callable[[str], object]
TEXT = b"1|t|Ataxia on phenytoin.\n1|a|It went away.\n1\t0\t6\tAtaxia\tDisease\tD001259\n\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A corpus of one small file on a real server on the loopback interface, and empty data and cache folders."""
    served = tmp_path / "served"
    served.mkdir()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("deep/inside/tiny.txt", TEXT)
        file.writestr("deep/other.txt", b"not asked for")
    (served / "tiny.zip").write_bytes(archive.getvalue())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = hashlib.sha256(TEXT).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/tiny.zip"
    tiny = corpora.Home("text/tiny", url, {"tiny.txt": ("deep/inside/tiny.txt", digest)})
    monkeypatch.setitem(corpora.HOMES, "tiny", tiny)
    monkeypatch.setenv(corpora.DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setenv("MEDGRAFT_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_nothing_is_fetched_unless_allowed(home: Path) -> None:
    assert corpora.find_corpus("tiny") is None
    assert not (home / "cache").exists()
    assert corpora.DATA_VARIABLE in corpora.where_to_put("tiny")


def test_a_download_is_unpacked_checked_and_kept(home: Path) -> None:
    folder = corpora.find_corpus("tiny", download=True)
    assert folder is not None and (folder / "tiny.txt").read_bytes() == TEXT
    assert not list(home.rglob("other.txt"))
    (home / "served" / "tiny.zip").unlink()
    assert corpora.find_corpus("tiny") == folder


def test_the_named_folder_comes_first(home: Path) -> None:
    folder = home / "data" / "text" / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny.txt").write_bytes(TEXT)
    assert corpora.find_corpus("tiny", download=True) == folder


def test_a_changed_file_is_refused(home: Path) -> None:
    folder = home / "data" / "text" / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny.txt").write_bytes(TEXT + b"\n")
    with pytest.raises(MedgraftError, match="SHA-256"):
        corpora.find_corpus("tiny")


def test_a_failed_download_says_what_to_do_and_leaves_no_corpus(home: Path) -> None:
    (home / "served" / "tiny.zip").unlink()
    with pytest.raises(MedgraftError, match=corpora.DATA_VARIABLE):
        corpora.find_corpus("tiny", download=True)
    assert corpora.find_corpus("tiny") is None


@pytest.mark.parametrize("name", ["gsc+", "pgr"])
@pytest.mark.parametrize("load", [corpora.load_corpus, load_questions, load_labelled])
def test_a_corpus_that_nobody_knows_is_refused_with_the_names_of_those_that_are(load: Load, name: str) -> None:
    with pytest.raises(MedgraftError, match=r"unknown corpus .*choose "):
        load(name)
