"""Augmented documents: every mention still covers its words, ids follow the words, relations follow the ids."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kg
from fusion.augmentation import METHODS, WORD_METHODS, Aliases, augment, augmented, generated, mixed
from fusion.corpora import Corpus
from fusion.edits import Edit, edited, free_words
from loaders import read_corpus
from loaders.errors import MedgraftError
from loaders.records import Document, Label, Mention, Relation
from tests.fusion.test_cli import run


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Words and mentions of one or two words, some of them beside each other."""
    text, mentions = "", []
    for _ in range(draw(st.integers(2, 12))):
        word = draw(st.text("abcdeß-,.é", min_size=1, max_size=6))
        if draw(st.booleans()):
            word += draw(st.sampled_from(["", " x"]))
            mentions.append(Mention(len(text), len(text) + len(word), "T", f"X:{len(mentions)}"))
        text += word + draw(st.sampled_from([" ", " ", "", "\n"]))
    return Document("d", text, tuple(mentions))


@settings(max_examples=150, deadline=None)
@given(documents(), st.sampled_from(WORD_METHODS), st.floats(0.05, 1), st.integers(0, 99))
def test_words_outside_change_and_mentions_do_not(document: Document, method: str, rate: float, seed: int) -> None:
    for found in augmented([document], method, rate=rate, seed=seed, copies=2):
        assert len(found.mentions) == len(document.mentions)
        for before, after in zip(document.mentions, found.mentions, strict=True):
            assert document.text[before.start : before.end] == found.text[after.start : after.end]
            assert (before.type, before.concept_id) == (after.type, after.concept_id)
        # What stands between the mentions is all that may differ, and no two mentions swap sides.
        assert [m.start for m in found.mentions] == sorted(m.start for m in found.mentions)
        if method == "swap":
            assert sorted(found.text) == sorted(document.text)


@given(documents(), st.data())
def test_edits_agree_with_a_text_of_marked_characters(document: Document, data: st.DataObject) -> None:
    """The slow version: each character knows its mention; edits rewrite the list of characters."""
    words = free_words(document)
    chosen = data.draw(st.lists(st.sampled_from(words), unique=True)) if words else []
    edits = [Edit(a, b, data.draw(st.text("xyz", max_size=5))) for a, b in chosen]
    marked = [(c, next((n for n, m in enumerate(document.mentions) if m.start <= i < m.end), -1))
              for i, c in enumerate(document.text)]  # fmt: skip
    for edit in sorted(edits, key=lambda e: -e.start):
        marked[edit.start : edit.end] = [(c, -1) for c in edit.text]
    found = edited(document, edits)
    assert found.text == "".join(c for c, _ in marked)
    for number, mention in enumerate(found.mentions):
        places = [i for i, (_, m) in enumerate(marked) if m == number]
        assert (mention.start, mention.end) == (places[0], places[-1] + 1)


def test_an_edit_that_cuts_a_mention_or_another_edit_is_refused() -> None:
    document = Document("d", "high fever", (Mention(0, 10),))
    with pytest.raises(ValueError, match="cuts the mention"):
        edited(document, [Edit(0, 4, "low")])
    with pytest.raises(ValueError, match="overlap"):
        edited(document, [Edit(0, 10, "a"), Edit(5, 10, "b")])


@pytest.fixture(scope="module")
def graph(tiny_graph: Path) -> kg.Graph:
    return kg.connect(tiny_graph)


def test_aliases_and_siblings_carry_the_right_id(graph: kg.Graph) -> None:
    known = Aliases(graph)
    some = [c for c in known.names if known.siblings(c) and len(known.names[c]) > 1]
    assert some, "the tiny graph has a concept with an alias and a sibling"
    name = known.names[some[0]][0]
    text = f"{name} after treatment, then {name} again."
    places = [0, text.rindex(name)]
    document = Document(
        "d", text, tuple(Mention(p, p + len(name), "Disease", some[0]) for p in places),
        (Relation("C:1", "induces", some[0]),),
    )  # fmt: skip
    for method in ("alias", "sibling"):
        made = augmented([document], method, graph=graph, copies=20)
        assert made
        for found in made:
            for m in found.mentions:
                words = found.text[m.start : m.end].lower()
                assert words in {n.lower() for n in known.names[m.concept_id or ""]}
            ids = {m.concept_id for m in found.mentions}
            assert len(ids) == 1 and found.relations[0].tail in ids
            assert (ids == {some[0]}) == (method == "alias")
            assert found.text.endswith(" again.") and found.text != text


def test_facts_become_labelled_sentences(graph: kg.Graph) -> None:
    known = Aliases(graph)
    types = {type: "Disease" for type in known.types.values()}
    relations = sorted({relation for _, relation, _ in known.triples})
    for document in generated(graph, types, 50, relations={name: name for name in relations}):
        (relation,) = document.relations
        assert (relation.head, relation.relation, relation.tail) in known.triples
        assert {m.concept_id for m in document.mentions} == {relation.head, relation.tail}
        for m in document.mentions:
            assert document.text[m.start : m.end] in known.names[m.concept_id or ""]
    assert not generated(graph, types, 1)[0].relations


def test_the_ratio_is_exact_and_seeded() -> None:
    real, made = [[Document(f"{kind}{n}", "x") for n in range(20)] for kind in "ab"]
    together = mixed(real, made, 0.5, seed=3)
    assert len(together) == 30 and {d.id for d in real} <= {d.id for d in together}
    assert together == mixed(real, made, 0.5, seed=3) != mixed(real, made, 0.5, seed=4)
    with pytest.raises(MedgraftError, match="make more copies"):
        mixed(real, made, 2)


def test_a_corpus_gets_more_to_train_on_and_the_same_to_be_tested_on(graph: kg.Graph) -> None:
    known = Aliases(graph)
    concept = next(id for id in known.names if len(known.names[id]) > 1 and known.siblings(id))
    name = known.names[concept][0]
    document = Document("d", f"He had {name} .", (Mention(7, 7 + len(name), "T", concept),))
    corpus = Corpus("few", (document,) * 20, (document,), (document,) * 2)
    more = augment(corpus, ["alias", "sibling"], graph, ratio=0.5)
    assert (more.dev, more.test) == (corpus.dev, corpus.test)
    assert len(more.train) == 30 and more.train.count(document) == 20
    assert "10 more by alias, sibling" in more.name
    # A method that changes a document in one of two times still gives one for each.
    assert len(augment(corpus, "sibling", graph).train) == 40
    fact = augment(corpus, "facts", graph, types={type: "T" for type in known.types.values()})
    assert len(fact.train) == 40
    unchangeable = replace(corpus, train=(document, *[replace(document, mentions=())] * 9))
    assert 10 < len(augment(unchangeable, "alias", graph).train) < 20


def test_bad_input_is_named(graph: kg.Graph) -> None:
    document = Document("d", "a b c", (Mention(0, 1, "T", "Z:1"),))
    for call, needle in (
        (lambda: augmented([document], "magic"), METHODS[0]),
        (lambda: augmented([], "swap"), "nothing to augment"),
        (lambda: augmented([document], "swap", rate=2), "between 0 and 1"),
        (lambda: augmented([document], "alias"), "give one"),
        (lambda: augmented([document], "alias", graph=graph), "no mention carries the id"),
        (lambda: augmented([Document("d", "a", labels=(Label("x"),))], "sibling", graph=graph), "may not deserve"),
        (lambda: generated(graph, {"nothing": "T"}, 1), "no fact between"),
        (lambda: augment(Corpus("none", (), (), ()), "facts", graph), "none has no document"),
    ):
        with pytest.raises(MedgraftError, match=needle):
            call()


def test_the_command(tiny_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, out = tmp_path / "c.txt", tmp_path / "out.txt"
    corpus.write_text("1|t|High fever in a child.\n1|a|No cough.\n1\t0\t10\tHigh fever\tDisease\tTINY:0000002\n\n")
    code, said, _ = run(capsys, "augment", corpus, "--out", out, "--method", "swap,deletion", "--ratio", "2")
    assert code == 0 and "3 documents" in said
    assert len(list(read_corpus(out))) == 3
    code, _, err = run(capsys, "augment", corpus, "--out", out, "--method", "alias")
    assert code == 1 and "--graph" in err
    code, _, err = run(
        capsys, "augment", corpus, "--out", out, "--method", "facts", "--graph", tiny_graph, "--type", "X"
    )
    assert code == 1 and "GRAPH_TYPE=CORPUS_TYPE" in err
    command = ["augment", corpus, "--out", out, "--graph", tiny_graph]
    code, said, _ = run(capsys, *command, "--ratio", "3")
    assert code == 0 and "of them real" in said and "no more" not in said
    assert len(list(read_corpus(out))) == 4
    # Of a text without mentions the method makes nothing: what there is is written, and said.
    corpus.write_text(corpus.read_text() + "".join(f"{n}|t|No finding.\n{n}|a|None.\n\n" for n in range(2, 9)))
    code, said, _ = run(capsys, *command, "--ratio", "2", "--json")
    made = json.loads(said)
    assert code == 0 and made["real"] == 8 and 0 < made["made"] < 16
    assert len(list(read_corpus(out))) == made["documents"] == made["real"] + made["made"]
    code, said, _ = run(capsys, *command, "--ratio", "2")
    assert code == 0 and "no more of them could be changed" in said
