"""Linking text to the graph's concepts: mentions by dictionary, candidates by spelling, sure of what it does not know.

A candidate's score says how well one of its names fits the text: 1.0 if it equals the text after normalisation
(`kg.matching`), 0.05 less for each word exchanged for another that the graph's synonyms license (`kg.variants`), 0.15
less for a word left out, else the cosine of their character 3-grams (`kg.alias_index`), or of their vectors if the
name has one (`kg.alias_vectors`). Order: names that match, the
nearest first; then what a corpus means by them (`Linker.build(corpus=...)`); then score; then whether the name is the
preferred one, then the concept's id; nothing is left to chance.
Where a text's context or its other concepts decide between candidates, `signals` says so (`kg.disambiguation`).

A mention's score is the probability that its concept is right, once the linker was calibrated (`Linker.calibrate`);
before, it is the score of its first candidate. Below the threshold a mention is NIL: its `concept_id` is None. spaCy's
and scispaCy's seams are in `kg.linking_pipe`.
"""

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.abbreviations import abbreviations
from kg.alias_index import AliasIndex, Found, read_only
from kg.alias_table import (
    alias_keys,
    alias_table,
    count_mentions,
    distinct_spellings,
    select_concepts,
    spellings_of,
    spellings_of_types,
)
from kg.alias_vectors import AliasVectors, Meant, NameEncoder, Signals, VectorIndex, encode_spellings, merged
from kg.assertion import mark_assertions
from kg.dictionary import GAP, Dictionary, Hit
from kg.disambiguation import MARGIN, ContextScorer, Hierarchy, collapse, weigh
from kg.linker_files import LinkerFiles, read_linker, write_linker
from kg.linking_confidence import Confidence, fit
from kg.mentions import Place, Settings, find_mentions
from kg.snapshot import HIERARCHY
from loaders.errors import MedgraftError, MedgraftWarning
from loaders.records import Candidate, Document, Mention

if TYPE_CHECKING:
    from kg.linking_pipe import LinkerComponent

_REMEMBERED = 100_000  # a bound for endless streams of text
_WEIGHED = 5  # candidates that match of which context and coherence choose, however few are asked for
_SPELLED = 2  # names by spelling that are sought for each candidate asked for
_MEANT = 4  # names of either side that are sought for it where there are vectors
_EXCHANGED, _LEFT_OUT = 0.05, 0.15  # what a hit loses


class Ranked(NamedTuple):
    """What spelling says of a mention.

    Attributes:
        candidates: The best first.
        rows: Their concepts.
        certain: The one concept that the names which match mean; None if there are several, or none.
    """

    candidates: tuple[Candidate, ...]
    rows: tuple[int, ...]
    certain: int | None


class Linker:
    """Finds mentions of a graph's concepts in text. Made by `build` or `load`.

    Attributes:
        fingerprint: Of the graph it was built from.
        counts: Names in the dictionary, and names left out by reason.
        settings: What counts as a mention. Assign another `Settings` to change it.
        confidence: How sure it is, and the NIL threshold. Assign another to change it.
    """

    def __init__(self, files: LinkerFiles, vectors: NameEncoder | None = None) -> None:
        self.fingerprint = files.fingerprint
        self.counts = files.counts
        self.settings = files.settings
        self.confidence = files.confidence
        self._files = files
        self._index = AliasIndex(files.index)
        self._dictionary = Dictionary(files.keys.keys, files.keys.rows, files.keys.costs, files.keys.codes)
        self._hierarchy = Hierarchy(files.parents, files.parent_starts)
        self._concept: NDArray[np.int32] = files.aliases["concept"].to_numpy()
        self._kind: NDArray[np.int8] = files.aliases["kind"].to_numpy()
        self._seen: NDArray[np.int32] = files.aliases["seen"].to_numpy()
        self._rows, self._row_starts = read_only(files.spelling_rows), read_only(files.spelling_starts)
        self._alias = files.aliases["alias"].chunk(0)
        self._id, self._types = (files.concepts[c].chunk(0) for c in ("id", "types"))
        self._remembered: dict[tuple[str, tuple[Hit, ...], int], Ranked] = {}
        self._type: dict[int, str] = {}  # the first type of concepts, as far as it was asked for
        self.vectors = vectors

    @classmethod
    def build(
        cls,
        graph: Any,
        *,
        types: Collection[str] | None = None,
        languages: Collection[str] | None = ("en",),
        keep: Collection[str] | None = None,
        nested: bool | Literal["kinds"] = False,
        variants: bool = True,
        gaps: bool = True,
        coordination: bool = True,
        abbreviations: bool = True,
        corpus: Iterable[Document] = (),
        vectors: NameEncoder | None = None,
        vector_types: Collection[str] | None = None,
        out: str | Path | None = None,
    ) -> "Linker":
        """Index the names of a graph; suppressed names stay out.

        Args:
            graph: Anything with `table("names")`, `table("concepts")` (Arrow) and `fingerprint`; `table("triples")`
                for its hierarchy.
            types: Only concepts with one of these semantic types; None for all.
            languages: Only names in these languages; None for all.
            keep: Only concepts with these ids; None for all.
            nested: Report mentions inside longer mentions too: all, or those of which the longer one is a "kind".
            variants: Words may be exchanged; this and the following as in `kg.mentions.Settings`.
            gaps: A modifier inside a mention may be left out.
            coordination: Words that conjuncts share are given to each.
            abbreviations: Short forms mean what the text defines.
            corpus: Documents whose mentions have concepts: what they call a concept is a name of it, and of several
                concepts that match a text the one it most often means there comes first.
            vectors: Makes vectors of names, as `fusion.NameVectors` does: names that mean much the same as a text are
                candidates beside those that are spelled much the same. They are kept with the linker.
            vector_types: Only names of concepts of these types get vectors; None for all.
            out: Folder to save the linker to.

        Raises:
            MedgraftError: nothing is left to link to, or no concept of the graph has one of the types.
        """
        concepts = select_concepts(graph.table("concepts"), types, keep)
        seen = count_mentions(corpus)
        aliases, counts = alias_table(graph.table("names"), concepts, languages, seen)
        if not len(aliases):
            raise MedgraftError(
                "no name is left to link to; check types, languages and keep against the types of the graph's concepts"
            )
        keys, _ = alias_keys(aliases, variants=variants)
        names, spelling = distinct_spellings(aliases)
        hierarchy = Hierarchy.of(_triples(graph), concepts["id"], HIERARCHY)
        index = AliasIndex.build(names)
        by_spelling = np.argsort(spelling, kind="stable").astype(np.int32)
        linker = cls(
            LinkerFiles(
                fingerprint=graph.fingerprint,
                counts=counts,
                settings=Settings(nested, variants, gaps, coordination, abbreviations),
                confidence=Confidence(),
                chosen={
                    "types": None if types is None else sorted(types),
                    "languages": None if languages is None else sorted(languages),
                    "keep": keep is not None,
                    "corpus": bool(seen),
                },
                aliases=aliases,
                concepts=concepts,
                keys=keys,
                index=index.arrays,
                spelling_rows=by_spelling,
                spelling_starts=np.searchsorted(spelling[by_spelling], np.arange(len(names) + 1)).astype(np.int64),
                parents=hierarchy.parents,
                parent_starts=hierarchy.starts,
            )
        )
        if vectors is not None:
            linker = linker._encoded(vectors, None if vector_types is None else sorted(vector_types))
        if out is not None:
            linker.save(out)
        return linker

    def update(
        self, graph: Any, *, keep: Collection[str] | None = None, corpus: Iterable[Document] | None = None
    ) -> "Linker":
        """A linker of the graph as it is now, with this one's choices, settings and confidence.

        The same as `build` makes, in the same time (seconds for HPO, a minute for MeSH); this one if the graph did not
        change. Only spellings that are new get new vectors; the others keep theirs bit for bit.

        Raises:
            MedgraftError: this linker was built with `keep` or a `corpus`, which is not given again, or with vectors,
                whose encoder it was not given.
        """
        chosen = self._files.chosen
        if graph.fingerprint == self.fingerprint and keep is None and corpus is None:
            return self
        for name, again in (("keep", keep), ("corpus", corpus)):
            if chosen[name] and again is None:
                raise MedgraftError(f"this linker was built with {name}=...; give it again to update")
        made = self._files.vectors
        if made is not None and self.vectors is None:
            raise MedgraftError("this linker has vectors of names; set its `vectors` to their encoder to update")
        linker = Linker.build(
            graph,
            types=chosen["types"],
            languages=chosen["languages"],
            keep=keep,
            corpus=corpus or (),
            **asdict(self.settings),
        )
        if made is not None and self.vectors is not None:
            linker = linker._encoded(self.vectors, made.types, (self._spellings().take(pa.array(made.spellings)), made))
        linker.confidence = self.confidence
        return linker

    def __call__(self, text: str, *, id: str = "", k: int = 5) -> Document:
        """The mentions of a text, in their order, each with its best `k` candidates."""
        return next(self.pipe([text], ids=[id], k=k))

    def pipe(
        self,
        texts: Iterable[str],
        *,
        ids: Iterable[str] | None = None,
        k: int = 5,
        batch_size: int = 64,
        context: ContextScorer | None = None,
        coherence: bool = True,
        collapsed: bool = False,
    ) -> Iterator[Document]:
        """Link many texts, `batch_size` at a time; what is found in a text does not depend on the others.

        Args:
            texts: The texts.
            ids: Of the documents; empty strings if not given.
            k: Candidates of each mention.
            batch_size: Texts whose candidates are sought together.
            context: Scores candidates against the text where spelling leaves a choice; `fusion.EncoderContext` does.
            coherence: Prefer candidates that are near to the document's other concepts in the graph.
            collapsed: Leave out candidates that are above a better one in the hierarchy.
        """
        pairs = ((t, "") for t in texts) if ids is None else zip(texts, ids, strict=True)
        while batch := list(islice(pairs, batch_size)):
            found = [self._kinds(find_mentions(text, self._dictionary, self.settings)) for text, _ in batch]
            wanted = dict.fromkeys((place.name, place.hits) for places in found for place in places)
            candidates = dict(zip(wanted, self._candidates(list(wanted), max(k, 1)), strict=True))
            for (text, id), places in zip(batch, found, strict=True):
                by_spelling = [candidates[place.name, place.hits] for place in places]
                ranked = self._weighed(text, places, by_spelling, context, coherence)
                linked = (self._mention(*of, k, collapsed) for of in zip(places, by_spelling, ranked, strict=True))
                yield Document(id, text, mark_assertions(text, linked))

    def link_mentions(self, document: Document, *, k: int = 5, threshold: float | None = None) -> Document:
        """Link the mentions of one document; see `link_mentions_batch`."""
        return self.link_mentions_batch([document], k=k, threshold=threshold)[0]

    def link_mentions_batch(
        self, documents: Sequence[Document], *, k: int = 5, threshold: float | None = None
    ) -> list[Document]:
        """Link the mentions that documents have, as found by a tagger or a spaCy model; their places and types stay.

        The best candidate of each becomes its concept if its probability is `threshold` or more, else the mention is
        NIL. The threshold is the calibrated one, or 0.7 before calibration. What a text defines as an abbreviation is
        looked for by its long form.
        """
        if threshold is None:
            threshold = self.confidence.threshold if self.confidence.weights else 0.7
        names = [self._names_of_mentions(document) for document in documents]
        found = iter(self.candidates_batch([name for of in names for name in of], k=max(k, 2)))
        return [
            self._linked(document, of, [next(found) for _ in of], k, threshold)
            for document, of in zip(documents, names, strict=True)
        ]

    def _names_of_mentions(self, document: Document) -> list[str]:
        """The texts of the mentions, abbreviations spelled out."""
        long_forms = abbreviations(document.text)
        names = []
        for mention in document:
            long = long_forms.get((mention.start, mention.end))
            names.append(document.text[slice(*long)] if long else mention.text_in(document.text))
        return names

    def _linked(
        self, document: Document, names: list[str], candidates: list[tuple[Candidate, ...]], k: int, threshold: float
    ) -> Document:
        linked = []
        for mention, name, found in zip(document, names, candidates, strict=True):
            p = self.confidence.probability(name, found)
            if found and p >= threshold:
                linked.append(replace(mention, concept_id=found[0].concept_id, score=p, candidates=found[:k]))
            else:
                linked.append(replace(mention, concept_id=None, candidates=found[:k]))
        return replace(document, mentions=mark_assertions(document.text, linked))

    def candidates(self, text: str, k: int = 5) -> tuple[Candidate, ...]:
        """The best `k` concepts for the text of a mention, best first; fewer if no more share a 3-gram."""
        return self.candidates_batch([text], k=k)[0]

    def candidates_batch(self, texts: Sequence[str], k: int = 5) -> list[tuple[Candidate, ...]]:
        """`candidates` of many texts at once."""
        if k < 1:
            return [() for _ in texts]
        found = self._candidates([(text, tuple(self._dictionary.lookup(text))) for text in texts], k)
        return [ranked.candidates[:k] for ranked in found]

    def resolve(self, texts: Sequence[str], k: int = 5) -> list[tuple[str | None, float, tuple[Candidate, ...]]]:
        """For the texts of mentions found elsewhere: concept (None for NIL), probability, and candidates."""
        found = self.candidates_batch(texts, k=max(k, 2))
        answers: list[tuple[str | None, float, tuple[Candidate, ...]]] = []
        for text, candidates in zip(texts, found, strict=True):
            p = self.confidence.probability(text, candidates)
            nil = not candidates or p < self.confidence.threshold
            answers.append((None if nil else candidates[0].concept_id, p, candidates[:k]))
        return answers

    def calibrate(self, texts: Sequence[str], concept_ids: Sequence[str | None]) -> Confidence:
        """Learn how sure to be, and from where on to give no link, from mentions of a development set.

        Args:
            texts: The texts of the mentions.
            concept_ids: Their concepts; None where the graph does not have it, `A|B` where a mention names both.

        Raises:
            MedgraftError: none of them is linked rightly, or all are.
        """
        self.confidence = fit(texts, self.candidates_batch(texts, k=2), concept_ids)
        return self.confidence

    def component(self, *, mentions: bool = True, k: int = 30, threshold: float = 0.7) -> "LinkerComponent":
        """A spaCy pipeline component with this linker inside; see `kg.linking_pipe`."""
        from kg.linking_pipe import LinkerComponent

        return LinkerComponent(self, mentions=mentions, k=k, threshold=threshold)

    @property
    def nested(self) -> bool | Literal["kinds"]:
        """Whether mentions inside longer mentions are reported."""
        return self.settings.nested

    @property
    def vectors(self) -> NameEncoder | None:
        """The encoder of the names' vectors. Without it candidates are by spelling alone, and every other thing works.

        Assign the encoder to a loaded linker, in a spaCy pipeline for instance, or None to do without.

        Raises:
            MedgraftError: when assigned, if the linker has no vectors, or those of another encoder.
        """
        return None if self._meanings is None else self._meanings.encode

    @vectors.setter
    def vectors(self, encode: NameEncoder | None) -> None:
        if encode is not None and self._files.vectors is None:
            raise MedgraftError("this linker has no vectors of names; build it with Linker.build(graph, vectors=...)")
        made = self._files.vectors
        self._meanings = None if encode is None or made is None else VectorIndex(made, encode)
        self._remembered.clear()

    @property
    def concepts(self) -> pa.Table:
        """The concepts that are linked to: id, name, types, definition; ascending by id."""
        return self._files.concepts

    def names(self) -> dict[str, list[str]]:
        """The names by which each concept is found, sorted."""
        ids: list[str] = self._id.to_pylist()
        names: dict[str, set[str]] = {}
        for concept, alias in zip(self._concept.tolist(), self._alias.to_pylist(), strict=True):
            names.setdefault(ids[concept], set()).add(alias)
        return {concept_id: sorted(aliases) for concept_id, aliases in names.items()}

    def save(self, folder: str | Path) -> None:
        """Write the linker as a folder of Arrow, NumPy and JSON files; it loads without the graph."""
        write_linker(replace(self._files, settings=self.settings, confidence=self.confidence), folder)

    @classmethod
    def load(cls, folder: str | Path, graph: Any = None, *, vectors: NameEncoder | None = None) -> "Linker":
        """Read a saved linker; with `graph`, make sure that it was built from that graph.

        Its tables stay on disk and are mapped into memory, shared by all processes that load it. If it has vectors of
        names but their encoder is not given here or to `vectors` later, candidates are by spelling alone; a warning
        says so.

        Raises:
            InputError: a file is missing or is not what it should be.
            MedgraftError: the linker was built from another graph, or its vectors by another encoder, or it has none.
        """
        linker = cls(read_linker(Path(folder), None if graph is None else graph.fingerprint), vectors)
        if linker._files.vectors is not None and vectors is None:
            warnings.warn(
                f"the linker {folder} has vectors of names, but not their encoder: candidates are by spelling alone "
                "until it is given to Linker.load(vectors=...) or assigned to linker.vectors",
                MedgraftWarning,
                stacklevel=2,
            )
        return linker

    def _spellings(self) -> pa.Array:
        files = self._files
        return spellings_of(files.aliases, files.spelling_rows, files.spelling_starts)

    def _encoded(
        self, encode: NameEncoder, types: list[str] | None, known: tuple[pa.Array, AliasVectors] | None = None
    ) -> "Linker":
        """This linker with vectors of the names of some types, which are not made anew where they are known."""
        files, names = self._files, self._spellings()
        wanted = np.arange(len(names), dtype=np.int32)
        if types is not None:
            by_type = (files.concepts, files.aliases, files.spelling_rows, files.spelling_starts)
            wanted = spellings_of_types(types, *by_type)
        if not len(wanted):
            there = sorted({name for of in files.concepts["types"].to_pylist() for name in of or ()})
            raise MedgraftError(f"no name is to have a vector; vector_types are among {', '.join(there[:10])}")
        return Linker(replace(files, vectors=encode_spellings(names, wanted, encode, types, known)), encode)

    def _kinds(self, places: list[Place]) -> list[Place]:
        """With `nested="kinds"`: without the mentions inside a longer one that is not a kind of them."""
        if self.settings.nested != "kinds":
            return places
        kept = [place for place in places if place.parts]
        stretches = [(*span, place) for place in places for span in place.parts or [(place.start, place.end)]]
        outer: list[tuple[int, int, Place]] = []  # that the next place may lie in
        for start, end, place in sorted(stretches, key=lambda s: (s[0], -s[1], not s[2].parts)):
            outer = [stretch for stretch in outer if end <= stretch[1]]
            if not place.parts and (not outer or self._is_above(place, [other for _, _, other in outer])):
                kept.append(place)
            outer.append((start, end, place))
        return sorted(kept, key=lambda p: (p.start, p.end, p.name))

    def _is_above(self, place: Place, others: list[Place]) -> bool:
        """Whether one of the others may be a kind of what a mention may mean."""
        concepts = {int(self._concept[hit.row]) for hit in place.hits}
        kinds = (int(self._concept[hit.row]) for other in others for hit in other.hits)
        return any(concepts & self._hierarchy.above(kind) for kind in kinds)

    def _candidates(self, wanted: Sequence[tuple[str, tuple[Hit, ...]]], k: int) -> list[Ranked]:
        """Candidates for texts and the names that match them."""
        if len(self._remembered) > _REMEMBERED:
            self._remembered.clear()
        new = list(dict.fromkeys(pair for pair in wanted if (*pair, k) not in self._remembered))
        matching = [self._matching(text, hits) for text, hits in new]
        # What is only spelled alike comes after what matches, and is not sought where that is enough.
        few = [n for n, found in enumerate(matching) if len(found) < k]
        alike = dict(zip(few, self._alike([new[n][0] for n in few], [matching[n] for n in few], k), strict=True))
        for n, (text, hits) in enumerate(new):
            candidates = matching[n]
            certain = next(iter(candidates)) if len(candidates) == 1 else None
            for concept, candidate in alike.get(n, {}).items():
                candidates.setdefault(concept, candidate)
            best = dict(islice(candidates.items(), k if n in alike else max(k, _WEIGHED)))
            self._remembered[text, hits, k] = Ranked(tuple(best.values()), tuple(best), certain)
        return [self._remembered[text, hits, k] for text, hits in wanted]

    def _weighed(
        self, text: str, places: list[Place], ranked: list[Ranked], context: ContextScorer | None, coherence: bool
    ) -> list[tuple[Candidate, ...]]:
        plain = [found.candidates for found in ranked]
        if all(len(candidates) < 2 for candidates in plain) or (context is None and not coherence):
            return plain
        certain = {found.certain for found in ranked if found.certain is not None}
        spans = [(place.start, place.end) for place in places]
        # The context is asked only where it can decide.
        asked = [n for n, found in enumerate(plain) if any(found[0].score - c.score <= MARGIN for c in found[1:])]
        scores: dict[int, Sequence[float]] = {}
        if context is not None and asked:
            ids = [[c.concept_id for c in plain[n]] for n in asked]
            scores = dict(zip(asked, context(text, [spans[n] for n in asked], ids), strict=True))
        return [
            weigh(
                places[n].name,
                found.candidates,
                found.rows,
                scores.get(n),
                certain,
                self._hierarchy if coherence and found.certain is None else None,
            )
            for n, found in enumerate(ranked)
        ]

    def _mention(
        self, place: Place, ranked: Ranked, candidates: tuple[Candidate, ...], k: int, collapsed: bool
    ) -> Mention:
        row = dict(zip((c.concept_id for c in ranked.candidates), ranked.rows, strict=True))
        if collapsed:
            candidates = collapse(candidates, [row[c.concept_id] for c in candidates], self._hierarchy)
        best = candidates[0]
        p = self.confidence.probability(place.name, candidates)
        concept_id = best.concept_id if p >= self.confidence.threshold else None
        type_ = self._type_of(row[best.concept_id])
        return Mention(place.start, place.end, type_, concept_id, p, candidates[:k], place.parts)

    def _type_of(self, row: int) -> str:
        type_ = self._type.get(row)
        if type_ is None:
            type_ = self._type[row] = next(iter(self._types[row].as_py() or ()), "")
        return type_

    def _matching(self, text: str, hits: tuple[Hit, ...]) -> dict[int, Candidate]:
        """The concepts whose names match, the best first."""
        matching: dict[int, Candidate] = {}
        seen = self._seen_in_corpus(hits)
        for hit, alias in self._by_merit(hits, text, seen):
            concept = int(self._concept[hit.row])
            if concept not in matching:
                matching[concept] = self._matched(concept, hit, alias, seen)
        return matching

    def _alike(
        self, texts: Sequence[str], matching: Sequence[dict[int, Candidate]], k: int
    ) -> list[dict[int, Candidate]]:
        """For each text concepts by its spelling or meaning, the best first: enough for `k` with those that match."""
        alike: list[dict[int, Candidate]] = [{} for _ in texts]
        meant = None if self._meanings is None else self._meanings.nearest(texts, _MEANT * k)
        asked, wanted = list(range(len(texts))), (_SPELLED if meant is None else _MEANT) * k
        while asked:
            found = self._index.nearest([texts[n] for n in asked], wanted)
            best = self._best(found, k, None if meant is None else [meant[n] for n in asked])
            again = []
            for n, candidates, size in zip(asked, best, np.diff(found.starts).tolist(), strict=True):
                alike[n] = candidates
                if size >= wanted and len(candidates.keys() | matching[n].keys()) < k:  # many names of few concepts
                    again.append(n)
            asked, wanted = again, 8 * wanted
        return alike

    def _best(self, found: Found, k: int, meant: Sequence[Meant] | None) -> Iterator[dict[int, Candidate]]:
        """The best `k` concepts that have the names found for each text, each with the best of its own, in order."""
        from kg.alias_search import rank

        of_names: list[Signals] = []
        if meant is not None:
            found, of_names = merged(found, meant)
        rows, sources, starts = rank(found, self._rows, self._row_starts, self._concept, self._kind, k)
        concepts = self._concept[rows]
        scores = np.round(found.scores[sources].astype(np.float64), 5).tolist()
        signals = [of_names[place] for place in sources.tolist()] if of_names else [(("spelling", s),) for s in scores]
        aliases = _strings(self._alias, rows)
        candidates = list(map(Candidate, _strings(self._id, concepts), scores, aliases, signals))
        by_concept = list(zip(concepts.tolist(), candidates, strict=True))
        for first, last in pairwise(starts.tolist()):
            yield dict(by_concept[first:last])

    def _seen_in_corpus(self, hits: Iterable[Hit]) -> Counter[int]:
        """How often the corpus means each concept by a name that matches."""
        seen: Counter[int] = Counter()
        for hit in hits:
            if self._seen[hit.row] and hit.cost == 0:
                seen[int(self._concept[hit.row])] += int(self._seen[hit.row])
        return seen

    def _by_merit(self, hits: Iterable[Hit], text: str, seen: Counter[int]) -> list[tuple[Hit, str]]:
        """Names that match: in fewer other words, meant most often, alike in case, preferred first, then by id."""
        folded = text.casefold()

        def merit(named: tuple[Hit, str]) -> tuple[int, int, bool, int, int, str]:
            hit, alias = named
            concept = int(self._concept[hit.row])
            return hit.cost, -seen[concept], alias.casefold() != folded, int(self._kind[hit.row]), concept, alias

        return sorted(((hit, self._alias[hit.row].as_py()) for hit in hits), key=merit)

    def _matched(self, concept: int, hit: Hit, alias: str, seen: Counter[int]) -> Candidate:
        left_out, exchanged = divmod(hit.cost, GAP)
        signals: tuple[tuple[str, float], ...] = (("equal", 1.0),)
        if hit.cost:
            signals = (("exchanged", float(exchanged)), ("left out", float(left_out)))
        if seen[concept]:
            signals = (*signals, ("corpus", round(seen[concept] / seen.total(), 5)))
        score = round(1 - _EXCHANGED * exchanged - _LEFT_OUT * left_out, 5)
        return Candidate(self._id[concept].as_py(), score, alias, signals)


def _strings(array: pa.Array, rows: NDArray[Any]) -> list[str]:
    """Some of an array, at a tenth of the price of `to_pylist`."""
    taken: list[str] = array.take(pa.array(rows)).to_numpy(zero_copy_only=False).tolist()
    return taken


def _triples(graph: Any) -> pa.Table | None:
    try:
        table: pa.Table = graph.table("triples")
    except KeyError:
        return None
    return table
