"""Documents, answers and explanations as HTML: spans in the colours of their types, linked to their concepts.

Explanations are drawn as pictures, too. Plain HTML with styles of its own, so that it looks the same in a notebook, in
a file and without the network. Every text and id is escaped.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Mention, Question, Relation

# Light enough for dark text on each.
COLOURS = ("#ffd8a8", "#a5d8ff", "#b2f2bb", "#ffc9c9", "#d0bfff", "#ffec99", "#99e9f2", "#fcc2d7", "#d8f5a2", "#ced4da")
_AROUND = 700  # characters of a long context that are shown on each side of the answer
_FALLS, _RISES = "#e8590c", "#1c7ed6"
_EFFECTS = 5  # of each prediction that are shown
_PANELS = 20  # of a picture
_CURIE = re.compile(r"[A-Za-z][\w.]*:[^\s|]+")
_CUI = re.compile(r"C\d{7}")
_CELL = "text-align:left;padding:1px 10px 1px 0;vertical-align:top;border:0"


class Effect(Protocol):
    """What a prediction is without one thing."""

    @property
    def what(self) -> str: ...
    @property
    def probability(self) -> float: ...


class Explained(Protocol):
    """A prediction with the effects of taking things away, see `fusion.explanation`."""

    @property
    def probability(self) -> float: ...
    @property
    def title(self) -> str: ...
    def turned(self, effect: Any, /) -> str: ...
    def felt(self, top: int, /) -> Sequence[Effect]: ...


class Concepts(Protocol):
    """What knows concepts by their ids: a graph, or the `table` of a fused model."""

    def concept(self, id: str) -> Concept: ...


@dataclass(frozen=True)
class Display:
    """HTML that notebooks show."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def display(item: Document | Question | Sequence[Explained], concepts: Concepts | None = None) -> Display:
    """A document with its mentions and relations, a question with its answer, or what `explain` says of them.

    Args:
        item: gold or predicted; or explanations of predictions.
        concepts: a graph (`kg.connect`) or a model's `table`, for names and definitions.
    """
    if isinstance(item, Document):
        body = _document(item, concepts)
    else:
        body = _question(item) if isinstance(item, Question) else "".join(map(_explained, item))
    return Display(f'<div style="font-family:sans-serif;line-height:1.9;max-width:60em">{body}</div>')


def draw_explanations(explanations: Sequence[Explained], file: str | Path, top: int = 5) -> Path:
    """A PNG with a panel for each prediction: from its probability to that without the graph, a concept or a fact.

    Raises:
        MedgraftError: nothing is explained, matplotlib is absent, or the file cannot be written.
    """
    from kg.pictures import new_figure, save_figure

    if not explanations:
        raise MedgraftError("there is no prediction to draw; give a text in which the model finds something")
    drawn = explanations[:_PANELS]
    felt = [explanation.felt(top) for explanation in drawn]
    heights = [len(some) + 1.6 for some in felt]
    figure, panels = new_figure(
        12, 0.3 * sum(heights) + 0.6, len(drawn), squeeze=False, sharex=True, height_ratios=heights
    )
    for axes, explanation, effects in zip(panels[:, 0], drawn, felt, strict=True):
        before = explanation.probability
        for row, effect in enumerate(effects):
            change = effect.probability - before
            turned = explanation.turned(effect)
            axes.barh(row, change, left=before, height=0.6, color=_FALLS if change < 0 else _RISES)
            said = f"{effect.probability:.3f} ({change:+.3f})" + (f"  {turned}" if turned else "")
            axes.text(1.02, row, said, va="center", fontsize=8, fontweight="bold" if turned else "normal")
        axes.axvline(before, color="#333", linewidth=1)
        axes.set_yticks(range(len(effects)), [_short(f"without {effect.what}", 64) for effect in effects], fontsize=8)
        axes.set(xlim=(0, 1), ylim=(len(effects) - 0.4, -0.6))
        axes.set_title(_short(f"{explanation.title} ({before:.3f})", 110), loc="left", fontsize=9, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
    left = len(explanations) - len(drawn)
    panels[-1, 0].set_xlabel("probability of the prediction" + (f"; {left} more predictions not shown" if left else ""))
    return save_figure(figure, file)


def page(items: Iterable[Document | Question | Sequence[Explained]], concepts: Concepts | None = None) -> str:
    """A whole HTML page of documents or questions."""
    shown = "<hr>".join(display(item, concepts).html for item in items)
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>medgraft</title></head><body>{shown}</body></html>\n'
    )


def _document(document: Document, concepts: Concepts | None) -> str:
    anchor = hashlib.sha256(document.text.encode("utf-8", "replace")).hexdigest()[:8]
    colours = _colours({mention.type for mention in document.mentions})
    text = "".join(_marked(document.text, document.mentions, colours, anchor))
    rows = [_row(id, document, anchor, concepts) for id in _ids(document.mentions)]
    known = f'<table style="font-size:85%;border-collapse:collapse">{"".join(rows)}</table>' if rows else ""
    return f'<p style="white-space:pre-wrap">{text}</p>{known}{_relations(document)}'


def _marked(text: str, mentions: Sequence[Mention], colours: dict[str, str], anchor: str) -> Iterator[str]:
    """The text with the mentions as nested marks. Of two that cross, the one that began first is split."""
    spans = sorted(
        ((start, end, n) for n, m in enumerate(mentions) for start, end in m.parts or ((m.start, m.end),)),
        key=lambda span: (span[0], -span[1], span[2]),
    )
    borders = sorted({0, len(text), *(place for span in spans for place in span[:2])})
    opened: list[tuple[int, int, int]] = []
    for here, there in zip(borders, [*borders[1:], len(text)], strict=True):
        again: list[tuple[int, int, int]] = []
        while any(span[1] <= here for span in opened):
            closing = opened.pop()
            if closing[1] > here:
                again.insert(0, closing)
                yield "</mark>"
            else:
                yield f"{_label(mentions[closing[2]], anchor)}</mark>"
        for span in (*again, *(span for span in spans if span[0] == here < span[1])):
            opened.append(span)
            yield _open(mentions[span[2]], colours)
        yield escape(text[here:there])


def _open(mention: Mention, colours: dict[str, str]) -> str:
    told = [mention.type, mention.concept_id or "NIL", *mention.assertion]
    if mention.score is not None:
        told.append(f"score {mention.score:.2f}")
    style = f"background:{colours[mention.type]};color:#111;padding:2px 4px;border-radius:4px;outline:1px solid #0003"
    if mention.assertion:
        style += ";border-bottom:2px dashed #555"
    return f'<mark style="{style}" title="{escape("; ".join(filter(None, told)))}">'


def _label(mention: Mention, anchor: str) -> str:
    """The type behind the span, as a link to what is known of its concept."""
    style = "font-size:65%;font-weight:bold;color:#333;text-decoration:none;margin-left:4px"
    shown = escape(mention.type or "mention")
    if mention.concept_id is None:
        return f'<span style="{style}">{shown}</span>'
    target = quote(f"{anchor}-{mention.concept_id.split('|')[0]}", safe=":", errors="replace")
    return f'<a style="{style}" href="#{target}">{shown}&nbsp;↗</a>'


def _row(id: str, document: Document, anchor: str, concepts: Concepts | None) -> str:
    mentions = [m for m in document.mentions if id in (m.concept_id or "").split("|")]
    said = ", ".join(dict.fromkeys(m.text_in(document.text) for m in mentions))
    name, definition = "", ""
    if concepts is not None:
        try:
            concept = concepts.concept(id)
            name, definition = concept.name, concept.definition or ", ".join(concept.types)
        except MedgraftError:
            name = "not in this graph"
    place = _address(id)
    shown = f'<a href="{escape(place)}" target="_blank" rel="noopener">{escape(id)}</a>' if place else escape(id)
    score = max((m.score for m in mentions if m.score is not None), default=None)
    cells = [shown, escape(name), escape(said), "" if score is None else f"{score:.2f}", escape(_short(definition))]
    inner = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f'<tr id="{escape(f"{anchor}-{id}")}">{inner}</tr>'


def _relations(document: Document) -> str:
    if not document.relations:
        return ""
    names: dict[str, str] = {}
    for m in document.mentions:
        for id in (m.concept_id or "").split("|"):
            names.setdefault(id, m.text_in(document.text))
    rows = "".join(_relation(document, names, relation) for relation in document.relations)
    return f'<table style="font-size:85%;border-collapse:collapse;margin-top:8px">{rows}</table>'


def _relation(document: Document, names: dict[str, str], r: Relation) -> str:
    ends = [f"{escape(names.get(end, end))} <small>{escape(end)}</small>" for end in (r.head, r.tail)]
    score = "" if r.score is None else f"{r.score:.2f}"
    evidence = escape(" … ".join(document.text[start:end] for start, end in r.evidence))
    cells = [ends[0], f"<b>{escape(r.relation)}</b> →", ends[1], score, f"<i>{evidence}</i>"]
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>"


def _question(q: Question) -> str:
    score = "" if q.score is None else f" <small>{q.score:.2f}</small>"
    mark = f'<mark style="background:{COLOURS[2]};color:#111;padding:2px 4px;border-radius:4px">'
    answer = "" if q.answer is None else f"{mark}{escape(q.answer or 'no answer in this context')}</mark>{score}"
    options = "".join(f"<li>{escape(option)}</li>" for option in q.options)
    start, end = q.spans[0] if q.spans else (0, 0)
    first, last = max(0, start - _AROUND), min(len(q.context), end + _AROUND)
    parts = escape(q.context[first:start]), escape(q.context[start:end]), escape(q.context[end:last])
    text = f"{parts[0]}{mark}{parts[1]}</mark>{parts[2]}" if end else parts[2]
    text = ("… " if first else "") + text + (" …" if last < len(q.context) else "")
    listed = f"<ul>{options}</ul>" if options else ""
    return f'<p><b>{escape(q.text)}</b> {answer}</p>{listed}<p style="white-space:pre-wrap">{text}</p>'


def _explained(explanation: Explained) -> str:
    """A prediction and a bar for each thing, from the probability with everything to that without the thing."""
    before = explanation.probability
    rows = []
    for effect in explanation.felt(_EFFECTS):
        low, high = sorted((before, effect.probability))
        colour = _FALLS if effect.probability < before else _RISES
        inner = f"margin-left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%;height:10px;background:{colour}"
        bar = f'<div style="width:200px;background:#8882;margin-top:6px"><div style="{inner}"></div></div>'
        turned = escape(explanation.turned(effect))
        change = f"{effect.probability:.3f} ({effect.probability - before:+.3f})"
        cells = [f"without {escape(effect.what)}", bar, change, f"<b>{turned}</b>"]
        rows.append("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>")
    table = f'<table style="font-size:85%;border-collapse:collapse">{"".join(rows)}</table>'
    return f"<p><b>{escape(explanation.title)}</b> <small>{before:.3f}</small></p>{table}"


def _colours(types: set[str]) -> dict[str, str]:
    """A colour for each type, mostly the same in every document; no two types share one while there are enough."""
    chosen: dict[str, str] = {}
    for type in sorted(types):
        n = int(hashlib.sha256(type.encode("utf-8", "replace")).hexdigest(), 16)
        order = [COLOURS[(n + step) % len(COLOURS)] for step in range(len(COLOURS))]
        chosen[type] = next((colour for colour in order if colour not in chosen.values()), order[0])
    return chosen


def _ids(mentions: Sequence[Mention]) -> list[str]:
    return list(dict.fromkeys(id for m in mentions for id in (m.concept_id or "").split("|") if id))


def _address(id: str) -> str:
    """Where people read about a concept: its page at UTS for a CUI, else what the Bioregistry sends a CURIE to."""
    if _CUI.fullmatch(id):
        return f"https://uts.nlm.nih.gov/uts/umls/concept/{id}"
    return f"https://bioregistry.io/{quote(id, safe=':', errors='replace')}" if _CURIE.fullmatch(id) else ""


def _short(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: length - 2].rsplit(" ", 1)[0] + " …"
