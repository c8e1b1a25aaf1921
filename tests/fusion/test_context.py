"""Which concept a sentence is about, by an encoder; asked only where spelling leaves a choice."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from fusion.context import EncoderContext
from kg import Linker
from loaders.tables import SCHEMAS

CONCEPTS = pa.table(
    {
        "id": ["X:1", "X:2", "X:3"],
        "name": ["Cold", "Cold", "Fever"],
        "types": [["Disease"], ["Sensation"], ["Disease"]],
        "definition": ["A viral infection of the nose.", None, "High temperature."],
    }
)


class Graph:
    fingerprint = "c" * 64

    def table(self, name: str) -> pa.Table:
        if name == "concepts":
            return CONCEPTS
        if name == "names":
            rows = zip(CONCEPTS["id"].to_pylist(), CONCEPTS["name"].to_pylist(), strict=True)
            columns = zip(*((id, name, "preferred", "en", "test", False) for id, name in rows), strict=True)
            return pa.table(dict(zip(SCHEMAS["names"].names, map(list, columns), strict=True)))
        return pa.table({column: pa.array([], pa.string()) for column in ("head", "relation", "tail")})


@pytest.fixture(scope="module")
def context(encoder_folder: Callable[[str], Path]) -> EncoderContext:
    return EncoderContext(encoder_folder("bert"), CONCEPTS)


def test_a_sentence_fits_best_what_says_the_same(context: EncoderContext) -> None:
    text = "He ran. Cold. A viral infection of the nose."
    (first, second) = context("Cold. A viral infection of the nose.", [(0, 4), (6, 7)], [["X:1", "X:2"], ["X:3"]])
    assert [len(first), len(second)] == [2, 1] and all(0 <= score <= 1 for score in (*first, *second))
    (scores,) = context(text.replace("Cold. A", "Cold; a"), [(8, 12)], [["X:1", "X:2"]])
    (alone,) = context("Cold; a viral infection of the nose.", [(0, 4)], [["X:1", "X:2"]])
    assert scores == pytest.approx(alone, abs=1e-5)  # the sentence before does not count
    (same,) = context("Cold.", [(0, 4)], [["X:2"]])
    assert same == pytest.approx([1.0], abs=1e-5)


def test_it_is_asked_only_where_spelling_leaves_a_choice(context: EncoderContext) -> None:
    asked: list[list[list[str]]] = []

    def watched(text: str, spans: object, candidates: list[list[str]]) -> object:
        asked.append(candidates)
        return context(text, spans, candidates)

    linker = Linker.build(Graph())
    (document,) = linker.pipe(["A cold and fever."], context=watched)
    assert asked == [[["X:1", "X:2"]]]
    cold, fever = document.mentions
    assert {name for name, _ in cold.candidates[0].signals} >= {"equal", "context"}
    assert fever.candidates[0].signals == (("equal", 1.0),)
    assert list(linker.pipe(["No finding."], context=watched))[0].mentions == () and len(asked) == 1
