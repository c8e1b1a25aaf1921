"""HTML of documents and answers: well nested whatever the spans, nothing unescaped, the text unchanged."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion.explanation import Effect, Explanation
from fusion.knowledge import KnowledgeTable
from fusion.rendering import COLOURS, draw_explanations, page
from loaders import Concept, Document, MedgraftError, Mention, Question, Relation, Triple
from tests.fusion.invented import invented_graph, invented_vectors

ALLOWED = {"div", "p", "mark", "a", "span", "table", "tr", "td", "small", "b", "i", "ul", "li", "hr"}


class Checker(HTMLParser):
    """Raises where tags do not nest; gathers the text of the first paragraph, the marked texts, tags and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.tags, self.ids, self.links = "", set[str](), list[str](), list[str]()
        self.marks: list[str] = []
        self.paragraphs = 0
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.paragraphs += tag == "p"
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]
        assert {name for name, _ in attrs} <= {"style", "title", "href", "id", "target", "rel"}
        if tag != "hr":
            self.open.append(tag)
        if tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.paragraphs == 1 and "p" in self.open and self.open[-1] not in ("a", "span"):
            self.text += data
            if self.marks:
                self.marks[-1] += data


class Known:
    def concept(self, id: str) -> Concept:
        if id != "X:1":
            raise MedgraftError("no")
        return Concept(id, "<fever>", definition='so "hot" & ' + "long " * 60)


TEXT = "a <b>fever</b> & \"chills\" ß\n'x'"
nasty = st.sampled_from(["X:1", "X:2|X:1", None, "<script>", '" onclick="x', "C0000001", "javascript:alert(1)"])
mentions = st.builds(
    lambda start, length, type, id, score, cut: Mention(
        start,
        start + length,
        type,
        id,
        score=score,
        parts=((start, start + 1), (start + length - 1, start + length)) if cut and length > 2 else (),
        assertion=("negated",) if cut else (),
    ),
    st.integers(0, len(TEXT) - 2),
    st.integers(1, 9),
    st.sampled_from(["Disease", "<i>", "", "Drug"]),
    nasty,
    st.one_of(st.none(), st.floats(0, 1)),
    st.booleans(),
).filter(lambda m: m.end <= len(TEXT))


@given(st.lists(mentions, max_size=6), st.booleans())
def test_any_spans_nest_and_the_text_stays_as_it_was(found: list[Mention], named: bool) -> None:
    relations = (Relation("X:1", "<r>", "X:2", score=0.5, evidence=((0, 9),)),)
    document = Document("1", TEXT, tuple(found), relations)
    html = fusion.display(document, Known() if named else None)._repr_html_()
    checked = Checker(html)
    assert checked.text == TEXT
    assert checked.tags <= ALLOWED and not [link for link in checked.links if link.startswith("javascript")]
    covered = {c for m in found for start, end in m.parts or ((m.start, m.end),) for c in range(start, end)}
    assert len("".join(checked.marks)) >= len(covered) or not covered
    for link in checked.links:
        assert link.startswith(("#", "https://bioregistry.io/", "https://uts.nlm.nih.gov/"))


def test_a_mention_is_linked_to_the_row_of_its_concept() -> None:
    document = Document("1", "High fever.", (Mention(5, 10, "Disease", "X:1", score=0.91),))
    html = fusion.display(document, Known()).html
    checked = Checker(html)
    assert checked.links[0] == f"#{checked.ids[0]}" and checked.links[1] == "https://bioregistry.io/X:1"
    assert "&lt;fever&gt;" in html and "0.91" in html and "so &quot;hot&quot; &amp; long" in html


def test_types_have_different_colours() -> None:
    types = "Chemical Disease Gene Species Anatomy Phenotype".split()
    document = Document("1", "abcdef", tuple(Mention(n, n + 1, type) for n, type in enumerate(types)))
    html = fusion.display(document).html
    assert sum(colour in html for colour in COLOURS) == len(types)


def test_answers_are_marked_in_their_context() -> None:
    context = "x <i> " * 500 + "because of <fever>" + " y" * 900
    start = context.index("<fever>")
    question = Question("1", "Why <so>?", context, answer="<fever>", spans=((start, start + 7),), score=0.5)
    html = fusion.display(question).html
    assert "Why &lt;so&gt;?" in html and html.count("&lt;fever&gt;</mark>") == 2 and "0.50" in html
    assert len(html) < 4000 and "… " in html and " …" in html
    assert "no answer" in fusion.display(Question("1", "?", "text", answer="")).html
    listed = fusion.display(Question("1", "?", "", options=("<a>", "b"), answer="b")).html
    assert "<li>&lt;a&gt;</li>" in listed
    whole = page([question, Document("2", "text")])
    assert whole.count("<hr>") == 1 and 'charset="utf-8"' in whole


def test_the_table_of_a_model_knows_names() -> None:
    graph = invented_graph(["fever", "chills"])
    table = KnowledgeTable.build(graph, invented_vectors(graph))
    assert table.concept("X:0000") == Concept("X:0000", "fever", types=("Thing",))
    with pytest.raises(MedgraftError, match="'X:9'"):
        table.concept("X:9")
    document = Document("1", "High fever.", (Mention(5, 10, "Disease", "X:0000"),))
    assert "fever" in fusion.display(document, table).html and "Thing" in fusion.display(document, table).html


def explanations() -> list[Explanation]:
    """One with effects of both signs and a prediction that turns, one that rests on nothing."""
    fact = Triple("X:1", "treats <b>", "X:2", head_name="ataxia & more", tail_name="hub")
    effects = (Effect(fact, 0.2, "Chemical"), Effect(Concept("X:1", "a " * 60), 0.95, "Disease"))
    one = Explanation("<ataxia>", Mention(0, 8, "Disease", "X:1"), 0.9, Effect(None, 0.4, ""), effects)
    return [one, Explanation("b", Mention(0, 1, "Chemical"), 0.3, Effect(None, 0.3, "Chemical"), ())]


def test_explanations_are_shown_as_html() -> None:
    html = fusion.display(explanations()).html
    checker = Checker(html)
    assert checker.tags <= ALLOWED and checker.paragraphs == 2
    assert "no longer Disease but Chemical" in html and "no longer Disease but no mention" in html
    assert "0.200 (-0.700)" in html and "0.950 (+0.050)" in html
    assert explanations()[0]._repr_html_() == fusion.display(explanations()[:1]).html
    assert "<ataxia>" not in html and "treats <b>" not in html


def test_explanations_are_drawn(tmp_path: Path) -> None:
    for count in (1, 2, 25):
        file = draw_explanations((explanations() * 13)[:count], tmp_path / f"{count}.png")
        assert file.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(MedgraftError, match="no prediction to draw"):
        draw_explanations([], tmp_path / "none.png")
    with pytest.raises(MedgraftError, match="cannot write"):
        draw_explanations(explanations(), tmp_path / "1.png" / "x.png")
