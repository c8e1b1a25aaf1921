"""Sentences said in another way: the expected words, and mentions that never lose theirs, over parses made by hand."""

from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc

from fusion.augmentation import augmented
from fusion.syntax import Part, rearranged
from kg.linking_pipe import load_parser
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Relation
from tests.fusion.test_cli import PUBTATOR, run

VOCAB = spacy.blank("en").vocab
Tokens = list[tuple[str, str, str, int]]  # word, tag, label, head
TREATED: Tokens = [
    ("The", "DT", "det", 1), ("doctor", "NN", "nsubj", 2), ("treated", "VBD", "ROOT", 2), ("severe", "JJ", "amod", 4),
    ("seizures", "NNS", "dobj", 2), ("with", "IN", "prep", 2), ("phenytoin", "NN", "pobj", 5), (".", ".", "punct", 2),
]  # fmt: skip
CAUSED: Tokens = [
    ("Ataxia", "NN", "nsubjpass", 2), ("was", "VBD", "auxpass", 2), ("induced", "VBN", "ROOT", 2),
    ("by", "IN", "agent", 2), ("Phenytoin", "NNP", "pobj", 3), ("in", "IN", "prep", 2), ("one", "CD", "pobj", 5),
    (".", ".", "punct", 2),
]  # fmt: skip
AFTER: Tokens = [
    ("After", "IN", "prep", 4), ("surgery", "NN", "pobj", 0), (",", ",", "punct", 4), ("HbA1c", "NN", "nsubj", 4),
    ("fell", "VBD", "ROOT", 4), (".", ".", "punct", 4),
]  # fmt: skip


def parsed(*sentences: Tokens) -> Doc:
    rows = []
    for sentence in sentences:
        rows += [(word, tag, label, head + len(rows)) for word, tag, label, head in [*sentence]]
        at = len(rows) - len(sentence)
        rows[at:] = [(w, t, d, sentence[n][3] + at) for n, (w, t, d, _) in enumerate(rows[at:])]
    words = [row[0] for row in rows]
    spaces = [n + 1 < len(words) and words[n + 1] not in ".," for n in range(len(words))]
    return Doc(VOCAB, words, spaces, tags=[r[1] for r in rows], deps=[r[2] for r in rows], heads=[r[3] for r in rows])


def ways(document: Document, doc: Doc) -> set[str]:
    made = [augmented([document], "syntax", parse=lambda _text: doc, seed=seed) for seed in range(30)]
    return {d.text for some in made for d in some}


def mention(text: str, word: str, id: str = "X:1") -> Mention:
    start = text.index(word)
    return Mention(start, start + len(word), "T", id)


def test_active_passive_and_phrases() -> None:
    for tokens, expected in (
        (TREATED, {"Severe seizures were treated by the doctor with phenytoin.",
                   "With phenytoin, the doctor treated severe seizures."}),
        (CAUSED, {"Phenytoin induced Ataxia in one.", "In one, Ataxia was induced by Phenytoin."}),
        (AFTER, {"HbA1c fell after surgery."}),
    ):  # fmt: skip
        doc = parsed(tokens)
        assert ways(Document("d", doc.text), doc) == expected


def test_mentions_and_relations_stay_true() -> None:
    doc = parsed(TREATED, CAUSED, AFTER)
    words = {"severe seizures": "X:1", "phenytoin": "X:2", "Ataxia": "X:3", "Phenytoin": "X:2", "HbA1c": "X:4"}
    text = doc.text
    document = Document("d", text, tuple(mention(text, w, i) for w, i in words.items()), (Relation("X:2", "r", "X:3"),))
    for seed in range(20):
        (made,) = augmented([document], "syntax", parse=lambda _text: doc, seed=seed)
        said = {(made.text[m.start : m.end].lower(), m.concept_id) for m in made.mentions}
        assert said == {(word.lower(), id) for word, id in words.items()}
        assert made.text != text and made.relations == document.relations
        assert [m.start for m in made.mentions] == sorted(m.start for m in made.mentions)
    # A mention that a rewriting would tear apart keeps its sentence as it is.
    torn = Document("d", doc.text, (mention(doc.text, "seizures with phenytoin"),))
    assert all("seizures with phenytoin" in said for said in ways(torn, doc))


@st.composite
def parses(draw: st.DrawFn) -> tuple[Document, Doc]:
    """Sentences that can be said again, some with a head, tag or label wrong; mentions of one to three words."""
    sentences = draw(st.lists(st.sampled_from([TREATED, CAUSED, AFTER]), min_size=1, max_size=3))
    doc = parsed(*sentences)
    words, tags, labels = [t.text for t in doc], [t.tag_ for t in doc], [t.dep_ for t in doc]
    heads = [t.head.i for t in doc]
    words = [draw(st.sampled_from([w, w, "ßé"])) if w.isalpha() and not w.endswith("ed") else w for w in words]
    for n in draw(st.sets(st.integers(0, len(words) - 1), max_size=2)):
        if labels[n] != "ROOT":
            labels[n], tags[n] = draw(st.sampled_from(labels[:n] + ["dobj"])), draw(st.sampled_from(tags))
            labels[n] = "dep" if labels[n] == "ROOT" else labels[n]
            heads[n] = doc[n].sent.root.i
    wrong = Doc(VOCAB, words, [bool(t.whitespace_) for t in doc], tags=tags, deps=labels, heads=heads)
    mentions = []
    for n in draw(st.sets(st.integers(0, len(words) - 1), max_size=4)):
        last = wrong[min(n + draw(st.integers(0, 2)), len(words) - 1)]
        mentions.append(Mention(wrong[n].idx, last.idx + len(last), "T", f"X:{n}"))
    return Document("d", wrong.text, tuple(mentions)), wrong


REWRITTEN: list[bool] = []


@settings(max_examples=300, deadline=None)
@given(parses(), st.integers(0, 5))
def test_no_parse_however_wrong_moves_a_mention_off_its_words(given_: tuple[Document, Doc], seed: int) -> None:
    document, doc = given_
    made = augmented([document], "syntax", parse=lambda _text: doc, seed=seed)
    REWRITTEN.append(bool(made))
    for found in made:
        before = {m.concept_id: document.text[m.start : m.end].lower() for m in document.mentions}
        after = {m.concept_id: found.text[m.start : m.end].lower() for m in found.mentions}
        assert before == after and len(found.mentions) == len(document.mentions)


def test_many_of_them_were_said_again() -> None:
    assert not REWRITTEN or sum(REWRITTEN) > len(REWRITTEN) / 3


@given(st.text("abß. ", max_size=12), st.data())
def test_parts_are_put_together(text: str, data: st.DataObject) -> None:
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=3))})
    pieces = [Part(a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
    order = data.draw(st.permutations(pieces))
    mentions = tuple(Mention(p.start, p.end, "T", f"X:{n}") for n, p in enumerate(pieces))
    made = rearranged(Document("d", text, mentions), list(order))
    assert made is not None and made.text == "".join(text[p.start : p.end] for p in order)
    for m in made.mentions:
        piece = pieces[int(str(m.concept_id)[2:])]
        assert made.text[m.start : m.end] == text[piece.start : piece.end]


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MedgraftError, match="wants a parse"):
        augmented([Document("d", "a b")], "syntax")
    spacy.blank("en").to_disk(tmp_path / "blank")
    for name, needle in (("no_such_model", "no spaCy model"), (str(tmp_path / "blank"), "has no parser")):
        with pytest.raises(MedgraftError, match=needle):
            load_parser(name)
    (tmp_path / "train.txt").write_text(PUBTATOR)
    command: list[Any] = ["augment", tmp_path / "train.txt", "--method", "syntax", "--out", tmp_path / "out.txt"]
    code, _, err = run(capsys, *command)
    assert code == 1 and "--parser" in err
    code, _, err = run(capsys, *command, "--parser", "no_such_model")
    assert code == 1 and "no spaCy model" in err and not (tmp_path / "out.txt").exists()
