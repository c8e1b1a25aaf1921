"""Linking text to the graph's concepts: mentions by dictionary, candidates by spelling.

A candidate's score is 1.0 if one of the concept's names equals the text after normalisation (`kg.matching`), else the
cosine of their character 3-grams (`kg.alias_index`). Order: names that match, then score, then whether the name is the
preferred one, then the concept's id; nothing is left to chance. spaCy's and scispaCy's seams are in `kg.linking_pipe`.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from kg.abbreviations import abbreviations
from kg.alias_index import AliasIndex, alias_table, distinct_spellings, select_concepts
from kg.assertion import mark_assertions
from kg.matching import Dictionary, Span
from loaders.errors import InputError, MedgraftError
from loaders.folders import new_folder
from loaders.records import Candidate, Document, Mention

if TYPE_CHECKING:
    from kg.linking_pipe import LinkerComponent

FORMAT = 1
_FILES = ("linker.json", "aliases.parquet", "concepts.parquet", "index.safetensors")


class Linker:
    """Finds mentions of a graph's concepts in text. Made by `build` or `load`.

    Attributes:
        fingerprint: Of the graph it was built from.
        counts: Names in the dictionary, and names left out by reason.
        nested: Whether mentions inside longer mentions are reported.
    """

    def __init__(
        self,
        aliases: pa.Table,
        concepts: pa.Table,
        index: AliasIndex,
        codes: NDArray[np.int64],
        *,
        fingerprint: str,
        counts: dict[str, int],
        nested: bool,
    ) -> None:
        self.fingerprint = fingerprint
        self.counts = counts
        self.nested = nested
        self._aliases, self._concepts, self._index, self._codes = aliases, concepts, index, codes
        self._alias: list[str] = aliases["alias"].to_pylist()
        self._concept_id: list[str] = aliases["concept_id"].to_pylist()
        self._kind: list[int] = aliases["kind"].to_pylist()
        ids, types = concepts["id"].to_pylist(), concepts["types"].to_pylist()
        self._type: dict[str, str] = {i: t[0] if t else "" for i, t in zip(ids, types, strict=True)}
        self._dictionary = Dictionary(aliases["key"].to_pylist(), codes.tolist())
        text = aliases["text"].to_numpy()
        self._rows_by_text = np.argsort(text, kind="stable")
        self._text_starts = np.searchsorted(text[self._rows_by_text], np.arange(index.postings.shape[1] + 1))
        self._remembered: dict[tuple[str, int], tuple[Candidate, ...]] = {}

    @classmethod
    def build(
        cls,
        graph: Any,
        *,
        types: Collection[str] | None = None,
        languages: Collection[str] | None = ("en",),
        keep: Collection[str] | None = None,
        nested: bool = False,
        out: str | Path | None = None,
    ) -> "Linker":
        """Index the names of a graph; suppressed names stay out.

        Args:
            graph: Anything with `table("names")`, `table("concepts")` (Arrow) and `fingerprint`.
            types: Only concepts with one of these semantic types; None for all.
            languages: Only names in these languages; None for all.
            keep: Only concepts with these ids; None for all.
            nested: Report mentions inside longer mentions too.
            out: Folder to save the linker to.

        Raises:
            MedgraftError: nothing is left to link to.
        """
        concepts = select_concepts(graph.table("concepts"), types, keep)
        aliases, codes, counts = alias_table(graph.table("names"), concepts, languages)
        if not len(aliases):
            raise MedgraftError(
                "no name is left to link to; check types, languages and keep against the types of the graph's concepts"
            )
        names, text = distinct_spellings(aliases)
        linker = cls(
            aliases.append_column("text", pa.array(text, pa.int32())),
            concepts,
            AliasIndex.build(names),
            codes,
            fingerprint=graph.fingerprint,
            counts=counts,
            nested=nested,
        )
        if out is not None:
            linker.save(out)
        return linker

    def __call__(self, text: str, *, id: str = "", k: int = 5) -> Document:
        """The mentions of a text, in their order, each with its best `k` candidates."""
        return next(self.pipe([text], ids=[id], k=k))

    def pipe(
        self, texts: Iterable[str], *, ids: Iterable[str] | None = None, k: int = 5, batch_size: int = 64
    ) -> Iterator[Document]:
        """Link many texts, `batch_size` at a time; what is found in a text does not depend on the others."""
        pairs = ((t, "") for t in texts) if ids is None else zip(texts, ids, strict=True)
        while batch := list(islice(pairs, batch_size)):
            found = [self._mentions(text) for text, _ in batch]
            names = list(dict.fromkeys(name for mentions in found for _, name in mentions))
            candidates = dict(zip(names, self.candidates_batch(names, k=max(k, 1)), strict=True))
            for (text, id), mentions in zip(batch, found, strict=True):
                linked = (self._mention(text, span, candidates[name][:k]) for span, name in mentions)
                yield Document(id, text, mark_assertions(text, linked))

    def link_mentions(self, document: Document, *, k: int = 5, threshold: float = 0.7) -> Document:
        """Link the mentions that a document has, as found by a tagger or a spaCy model; their places and types stay.

        The best candidate of each becomes its concept if it scores `threshold` or more, else the mention is NIL. What a
        text defines as an abbreviation is looked for by its long form.
        """
        long_forms = abbreviations(document.text)
        names = []
        for mention in document:
            long = long_forms.get((mention.start, mention.end))
            names.append(document.text[slice(*long)] if long else mention.text_in(document.text))
        linked = []
        for mention, candidates in zip(document, self.candidates_batch(names, k=max(k, 1)), strict=True):
            best = next((c for c in candidates if c.score >= threshold), None)
            concept_id, score = (best.concept_id, best.score) if best else (None, mention.score)
            linked.append(replace(mention, concept_id=concept_id, score=score, candidates=candidates[:k]))
        return replace(document, mentions=mark_assertions(document.text, linked))

    def candidates(self, text: str, k: int = 5) -> tuple[Candidate, ...]:
        """The best `k` concepts for the text of a mention, best first; fewer if no more share a 3-gram."""
        return self.candidates_batch([text], k=k)[0]

    def candidates_batch(self, texts: Sequence[str], k: int = 5) -> list[tuple[Candidate, ...]]:
        """`candidates` of many texts at once."""
        if len(self._remembered) > 100_000:  # a bound for endless streams of text
            self._remembered.clear()
        new = [text for text in dict.fromkeys(texts) if (text, k) not in self._remembered]
        for text, candidates in zip(new, self._rank(new, k), strict=True):
            self._remembered[text, k] = candidates
        return [self._remembered[text, k] for text in texts]

    def component(self, *, mentions: bool = True, k: int = 30, threshold: float = 0.7) -> "LinkerComponent":
        """A spaCy pipeline component with this linker inside; see `kg.linking_pipe`."""
        from kg.linking_pipe import LinkerComponent

        return LinkerComponent(self, mentions=mentions, k=k, threshold=threshold)

    @property
    def concepts(self) -> pa.Table:
        """The concepts that are linked to: id, name, types, definition; ascending by id."""
        return self._concepts

    def names(self) -> dict[str, list[str]]:
        """The names by which each concept is found, sorted."""
        names: dict[str, set[str]] = {}
        for concept_id, alias in zip(self._concept_id, self._alias, strict=True):
            names.setdefault(concept_id, set()).add(alias)
        return {concept_id: sorted(aliases) for concept_id, aliases in names.items()}

    def save(self, folder: str | Path) -> None:
        """Write the linker as a folder of Parquet, safetensors and JSON; it loads without the graph."""
        settings = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "nested": self.nested,
            "counts": self.counts,
            "ngrams": list(self._index.ngrams),
        }
        postings = self._index.postings
        tensors: dict[str, NDArray[Any]] = {
            "codes": self._codes,
            "idf": self._index.idf,
            "data": postings.data,
            "indices": postings.indices.astype(np.int32),
            "indptr": postings.indptr.astype(np.int64),
        }
        with new_folder(folder) as aside:
            (aside / "linker.json").write_text(json.dumps(settings, ensure_ascii=True), encoding="utf-8")
            pq.write_table(self._aliases, aside / "aliases.parquet")
            pq.write_table(self._concepts, aside / "concepts.parquet")
            save_file(tensors, aside / "index.safetensors")

    @classmethod
    def load(cls, folder: str | Path, graph: Any = None) -> "Linker":
        """Read a saved linker; with `graph`, make sure that it was built from that graph.

        Raises:
            InputError: a file is missing or is not what it should be.
            MedgraftError: the linker was built from another graph.
        """
        folder = Path(folder)
        for name in _FILES:
            if not (folder / name).is_file():
                raise InputError(
                    folder / name, None, "no such file; a linker folder is written by Linker.build(out=...)"
                )
        settings = _read(folder / "linker.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise InputError(folder / "linker.json", None, f"not a linker of format {FORMAT}; build it again")
        if graph is not None and graph.fingerprint != settings["fingerprint"]:
            raise MedgraftError(
                f"the linker {folder} was built from graph {settings['fingerprint'][:12]}, this is graph "
                f"{graph.fingerprint[:12]}; build it again with Linker.build(graph)"
            )
        aliases = _read(folder / "aliases.parquet", pq.read_table)
        concepts = _read(folder / "concepts.parquet", pq.read_table)
        tensors = _read(folder / "index.safetensors", load_file)
        try:
            postings = csr_matrix(
                (tensors["data"], tensors["indices"], tensors["indptr"]),
                shape=(len(settings["ngrams"]), int(aliases["text"].to_numpy().max(initial=-1)) + 1),
            )
            return cls(
                aliases,
                concepts,
                AliasIndex(settings["ngrams"], tensors["idf"], postings),
                tensors["codes"],
                fingerprint=settings["fingerprint"],
                counts=settings["counts"],
                nested=settings["nested"],
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                folder, None, f"its files do not fit together ({error}); build the linker again"
            ) from error

    def _mentions(self, text: str) -> list[tuple[Span, str]]:
        """Spans with the text to find candidates for: their own, or the long form that the text gives for them."""
        long_forms = {short: text[slice(*long)] for short, long in abbreviations(text).items()}
        defined = {text[start:end] for start, end in long_forms}
        found = []
        for span in self._dictionary.find(text, nested=self.nested):
            name = text[span.start : span.end]
            # An abbreviation means what the text says, not what the graph happens to have under the same letters.
            if name not in defined and not any(s <= span.start and span.end <= e for s, e in long_forms):
                found.append((span, name))
        for (start, end), long_form in long_forms.items():
            rows = self._dictionary.lookup(long_form)
            inside = any(span.start <= start and end <= span.end for span, _ in found)
            if rows and (self.nested or not inside):
                found.append((Span(start, end, rows), long_form))
        return sorted(found)

    def _mention(self, text: str, span: Span, candidates: tuple[Candidate, ...]) -> Mention:
        best = self._by_merit(span.rows, text[span.start : span.end])[0]
        concept_id = candidates[0].concept_id if candidates else self._concept_id[best]
        return Mention(span.start, span.end, self._type.get(concept_id, ""), concept_id, 1.0, candidates)

    def _by_merit(self, rows: Iterable[int], text: str) -> list[int]:
        """Names that match, the better first: spelled alike, then preferred and exact names, then by id."""
        folded = text.casefold()
        return sorted(
            rows,
            key=lambda r: (self._alias[r].casefold() != folded, self._kind[r], self._concept_id[r], self._alias[r]),
        )

    def _rank(self, texts: list[str], k: int) -> Iterator[tuple[Candidate, ...]]:
        if k < 1:
            yield from (() for _ in texts)
            return
        for text, nearest in zip(texts, self._index.nearest(texts, 4 * k), strict=True):
            ranked: dict[str, Candidate] = {}
            for row in self._by_merit(self._dictionary.lookup(text), text):
                concept_id = self._concept_id[row]
                ranked.setdefault(concept_id, Candidate(concept_id, 1.0, self._alias[row]))
            wanted = 4 * k
            names, scores = nearest
            alike = self._alike(names, scores)
            while len(ranked.keys() | alike.keys()) < k and len(names) >= wanted:  # many names of few concepts
                wanted *= 8
                names, scores = next(self._index.nearest([text], wanted))
                alike = self._alike(names, scores)
            for concept_id, candidate in alike.items():
                ranked.setdefault(concept_id, candidate)
            yield tuple(islice(ranked.values(), k))

    def _alike(self, names: NDArray[np.int32], scores: NDArray[np.float32]) -> dict[str, Candidate]:
        """Concepts that have these names, each with the best of its own; in the order of candidates."""
        found = []
        for name, score in zip(names.tolist(), scores.tolist(), strict=True):
            for row in self._rows_by_text[self._text_starts[name] : self._text_starts[name + 1]].tolist():
                found.append((-score, self._kind[row] != 0, self._concept_id[row], self._alias[row]))
        candidates: dict[str, Candidate] = {}
        for negative, _, concept_id, alias in sorted(found):
            candidates.setdefault(concept_id, Candidate(concept_id, round(-negative, 5), alias))
        return candidates


def _read(path: Path, reader: Any) -> Any:
    try:
        return reader(path)
    except (OSError, ValueError, pa.ArrowException, SafetensorError) as error:
        raise InputError(
            path, None, f"cannot be read ({str(error).splitlines()[0]}); build the linker again"
        ) from error


def __getattr__(name: str) -> Any:
    if name == "_make_component":  # where installations of before know spaCy's factory to be
        from kg.linking_pipe import _make_component

        return _make_component
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
