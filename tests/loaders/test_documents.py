"""Documents in and out: each format gives back what was written; faults name file, line and remedy."""

import gzip
import json
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import InputError, MedgraftError, open_writer, read_documents
from loaders.records import ASSERTIONS, Candidate, Document, Label, Mention, Relation

ENDING = {"jsonl": "jsonl", "bioc-xml": "xml", "bioc-json": "json", "brat": ""}
WORDS = st.text(string.ascii_letters + string.digits + ":_", min_size=1, max_size=8)
XML = st.characters(exclude_categories=("Cs", "Cc", "Cn"), include_characters="\t\n\r")
ANY = st.characters()


@st.composite
def documents(draw: st.DrawFn, characters: st.SearchStrategy[str]) -> Document:
    text = draw(st.text(characters | st.sampled_from("a 🫀\u2028\u0301אé\r\n"), max_size=40))
    mentions = []
    for _ in range(draw(st.integers(0, 3)) if len(text) > 2 else 0):
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=4)))
        parts = tuple(zip(cuts[::2], cuts[1::2], strict=False))
        mentions.append(
            Mention(
                parts[0][0],
                parts[-1][1],
                draw(st.sampled_from(["", "Phenotype"])),
                draw(st.none() | WORDS.map("X:".__add__)),
                parts=parts if len(parts) > 1 else (),
                assertion=tuple(sorted(draw(st.sets(st.sampled_from(ASSERTIONS), max_size=2)))),
            )
        )
    mentions.sort(key=lambda m: (m.start, m.end))
    ends = [m.concept_id or f"@{m.start}:{m.end}" for m in mentions]
    related = [Relation(draw(st.sampled_from(ends)), draw(WORDS), draw(st.sampled_from(ends)))] if ends else []
    return Document(draw(WORDS), text, tuple(mentions), tuple(related))


def there_and_back(document: Document, folder: Path, format: str, packed: bool = False) -> Document:
    name = f"out.{ENDING[format]}".removesuffix(".") + (".gz" if packed and format != "brat" else "")
    with open_writer(folder / name, format) as write:
        write(document)
    assert [p.name for p in folder.iterdir()] == [name], "nothing else is left behind"
    (back,) = read_documents(folder / name)
    return back


@pytest.mark.parametrize("format", ENDING)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), packed=st.booleans())
def test_what_is_written_is_read_back(format, data, packed, tmp_path_factory) -> None:
    document = data.draw(documents(ANY if format == "jsonl" else XML))
    if format == "brat" and "\ufeff" in document.text[:1]:
        return  # a byte order mark, which belongs to the file
    folder = tmp_path_factory.mktemp("out")
    assert there_and_back(document, folder, format, packed) == document


def test_scores_and_candidates_of_json_lines_come_back_too(tmp_path: Path) -> None:
    mention = Mention(0, 4, "T", "X:1", 0.5, (Candidate("X:1", 0.5, "text"),))
    related = Relation("X:1", "r", "X:1", 0.25, ((0, 4),))
    document = Document("1", "text", (mention,), (related,), (Label("L", 0.5),))
    back = there_and_back(document, tmp_path, "jsonl")
    assert repr(back) == repr(document)


@pytest.mark.parametrize("format", [*ENDING, "pubtator"])
def test_two_documents_of_each_format(format: str, tmp_path: Path) -> None:
    given_ = [Document("a", "A seizure."), Document("b", "No. It was none.", (Mention(4, 6, "T", "X:1"),))]
    out = tmp_path / f"out.{ENDING.get(format, 'txt')}".rstrip(".")
    with open_writer(out, format) as write:
        for document in given_:
            write(document)
    assert list(read_documents(out)) == given_


def test_an_empty_output_is_an_empty_collection(tmp_path: Path) -> None:
    for name in ("x.xml", "x.json"):
        with open_writer(tmp_path / name):
            pass
        with pytest.raises(InputError, match="holds no document"):
            list(read_documents(tmp_path / name))


def test_plain_texts_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "note.txt").write_bytes(b"Fever.\r\nNo cough.\r\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("Übel".encode()))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "c.ann").write_text("T1\tSign 0 5\tFever\n")
    (tmp_path / "c.txt").write_text("Fever")
    found = list(read_documents(tmp_path))
    assert [(d.id, d.text) for d in found] == [
        ("a", "Übel"),
        ("b/note", "Fever.\r\nNo cough.\r\n"),
        ("c", "Fever"),
        ("empty", ""),
    ]
    assert found[2].mentions == (Mention(0, 5, "Sign"),)


BIOC = """<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><source>s</source><date/><key/><document><id>1</id>
<passage><offset>0</offset><text>Für 🫀 A.</text>
<annotation id="1"><infon key="type">Disease</infon><infon key="MESH">D015738</infon>
<location offset="{at}" length="1"/><text>A</text></annotation></passage>
<passage><offset>{second}</offset><sentence><offset>{second}</offset><text>Bad cold.</text>
<annotation id="2"><infon key="type">Disease</infon><location offset="{cold}" length="4"/><text>cold</text></annotation>
</sentence></passage>
<relation id="R"><infon key="relation">CID</infon><infon key="Chemical">D1</infon><infon key="Disease">D015738</infon>
</relation></document></collection>"""


def test_bioc_of_others_in_characters_and_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    text = "Für 🫀 A.  Bad cold."
    for at, second in ((6, 10), (10, 14)):
        path.write_text(BIOC.format(at=at, second=second, cold=second + 4))
        (document,) = read_documents(path)
        assert document.text == text
        assert [(text[m.start : m.end], m.concept_id) for m in document] == [("A", "MESH:D015738"), ("cold", None)]
        assert document.relations == (Relation("D1", "CID", "MESH:D015738"),)


def test_bioc_json_of_pubtator_3(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    annotation = {"id": "2", "infons": {"identifier": "MESH:D1|MESH:D2", "type": "Disease"}, "text": "flu"}
    annotation["locations"] = [{"offset": 2, "length": 3}]
    passages = [{"infons": {}, "offset": 0, "text": "A flu.", "sentences": [], "annotations": [annotation]}]
    role = {"identifier": "MESH:D1"}
    relation = {"id": "R1", "infons": {"type": "Association", "role1": role, "role2": {"identifier": "9"}}, "nodes": []}
    path.write_text(json.dumps({"PubTator3": [{"id": "1", "passages": passages, "relations": [relation]}]}))
    (document,) = read_documents(path)
    assert document.mentions == (Mention(2, 5, "Disease", "MESH:D1|MESH:D2"),)
    assert document.relations == (Relation("MESH:D1", "Association", "9"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", BIOC.format(at=7, second=10, cold=14), "a.xml, line 2: document '1'.* differs.*mend its offsets"),
        ("a.xml", BIOC.format(at=6, second=3, cold=7), "begins before the one above it"),
        ("a.xml", BIOC.format(at="x", second=3, cold=7), "line 2: no BioC document"),
        ("a.xml", BIOC[:300], "broken XML"),
        ("a.json", '{"documents": [{"id": "1", "passages": [', "broken JSON"),
        ("a.json", '{"documents": [{"passages": 3}]}', "document 1 is no BioC document"),
        ("a.jsonl", '{"text": "abc"}\n{"text": 3}', "line 2: no document"),
        ("a.jsonl", '{"text": "abc", "mentions": [{"start": 1, "end": 9}]}', r"line 1: .*\[1, 9\) is no stretch"),
        ("a.jsonl", '{"text": "abc", "mentions": [{"start": 1}]}', "'end' is missing"),
        ("a.jsonl", '{"text": "abc", "colour": 1}', "a document has no 'colour'"),
        ("a.ann", "T1\tX 0 5\tFevex\n", "a.ann, line 1: .* differs from the mention"),
        ("a.ann", "T1\tX 0 99\tFever\n", "a.ann, line 1: .*mend the offsets"),
        ("a.ann", "T1\tX 0\tFever\n", "a.ann, line 1: a mention needs"),
        ("a.ann", "T1\tX 0 5\tFever\nR1\tr Arg1:T1 Arg2:T9\n", "line 2: a relation needs"),
        ("a.ann", "Q1\tX\n", "line 1: a line begins with"),
        ("a.txt", "a\0b", "binary file"),
    ],
)
def test_faults_name_file_line_and_remedy(name: str, content: str, message: str, tmp_path: Path) -> None:
    if name.endswith(".ann"):
        (tmp_path / "a.txt").write_text("Fever")
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(tmp_path / name))


def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    for name, document in (
        ("a.xml", Document("1", "a\x01b")),
        ("a.txt", Document("1", "a\nb")),
        ("brat", Document("1", "a", (), (Relation("X", "r", "Y"),))),
        ("brat", Document("1", "\ud800")),
        ("a.rtf", Document("1", "a")),
    ):
        with pytest.raises(MedgraftError), open_writer(tmp_path / name) as write:
            write(document)
        assert list(tmp_path.iterdir()) == []
