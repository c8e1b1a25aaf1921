"""The encoder's view of what a mention means: its sentence against the names and definitions of the candidates."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from kg.nearest import unit
from lm.encoder import Array, Encoder
from lm.sentences import sentence_of, sentence_starts
from lm.vectors import text_vectors

_REMEMBERED = 200_000  # vectors of concepts; a bound for endless streams of text


class EncoderContext:
    """Scores candidates by their context, for `Linker.pipe(..., context=...)`.

    A concept is read as its name and definition, a mention as the sentence that it stands in; the score is the cosine
    of the two vectors, 0 where it is negative. It wants an encoder whose vectors of texts can be compared, such as a
    sentence encoder; a BERT as it was pretrained tells little.

    Args:
        encoder: Hugging Face model folder or name in the local cache, or a loaded encoder.
        concepts: id, name and definition of the concepts that are linked to, as in `Linker.concepts`.
    """

    def __init__(self, encoder: str | Path | Encoder, concepts: pa.Table) -> None:
        self.encoder = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
        self._concepts = concepts
        self._row = {id: row for row, id in enumerate(concepts["id"].to_pylist())}
        self._vectors: dict[str, Array] = {}

    def __call__(
        self, text: str, spans: Sequence[tuple[int, int]], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Scores in [0, 1] of the candidates of each span, given by their ids."""
        self._read({id for ids in candidates for id in ids})
        starts = [*sentence_starts(text), len(text)]
        numbers = [sentence_of(starts[:-1], start) for start, _ in spans]
        sentences = sorted(set(numbers))
        read = text_vectors(self.encoder, [text[starts[n] : starts[n + 1]] for n in sentences])
        of_sentence = dict(zip(sentences, unit(read), strict=True))
        return [
            [max(float(of_sentence[number] @ self._vectors[id]), 0.0) for id in ids]
            for number, ids in zip(numbers, candidates, strict=True)
        ]

    def _read(self, ids: set[str]) -> None:
        if len(self._vectors) > _REMEMBERED:
            self._vectors.clear()
        new = sorted(ids - self._vectors.keys())
        rows = self._concepts.take(pa.array([self._row[id] for id in new], pa.int64())).to_pylist()
        texts = [f"{row['name']}. {row['definition'] or ''}".strip() for row in rows]
        self._vectors.update(zip(new, unit(text_vectors(self.encoder, texts)), strict=True))
