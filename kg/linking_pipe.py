"""The linker where spaCy and scispaCy users expect it: a `CandidateGenerator`, a `KnowledgeBase`, a pipe.

nlp = spacy.blank("en")
nlp.add_pipe("abbreviation_detector")
nlp.add_pipe("medgraft_linker", config={"folder": "linkers/hpo"})
nlp("The boy had absence seizures.").ents[0]._.kb_ents    # [("HP:0002121", 1.0), ...]
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import scispacy.abbreviation  # noqa: F401  (its factory, "abbreviation_detector", registers itself)
import spacy
from scispacy.candidate_generation import CandidateGenerator, MentionCandidate
from scispacy.linking import EntityLinker
from scispacy.linking_utils import Entity, KnowledgeBase
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from kg.assertion import mark_assertions
from kg.linking import Linker
from loaders.errors import MedgraftError
from loaders.records import ASSERTIONS, Mention


def knowledge_base(linker: Linker) -> KnowledgeBase:
    """The linker's concepts as a scispaCy `KnowledgeBase`."""
    aliases = linker.names()
    return KnowledgeBase(
        Entity(c["id"], c["name"], aliases.get(c["id"], []), c["types"], c["definition"])
        for c in linker.concepts.to_pylist()
    )


def load_parser(name: str) -> Language:
    """An installed spaCy model, or a folder of one, that says what hangs on what in a sentence.

    Raises:
        MedgraftError: it is not installed, or has no parser.
    """
    try:
        nlp = spacy.load(name, exclude=["ner"])
    except OSError:
        raise MedgraftError(f"no spaCy model {name!r} is installed; install one, or give its folder") from None
    if "parser" not in nlp.pipe_names:
        raise MedgraftError(f"the spaCy model {name!r} has no parser; take one that has, such as en_core_web_sm")
    return nlp


class GraphCandidateGenerator(CandidateGenerator):  # type: ignore[misc]
    """scispaCy's seam: candidates from a `Linker`, for `EntityLinker(candidate_generator=...)`."""

    def __init__(self, linker: Linker) -> None:
        # Not super().__init__: it would load, and first download, scispaCy's own index.
        self.linker = linker
        self.kb = knowledge_base(linker)
        self.verbose = False

    def __call__(self, mention_texts: list[str], k: int) -> list[list[MentionCandidate]]:
        """For each text at most `k` candidates, best first."""
        return [
            [MentionCandidate(c.concept_id, [c.alias], [c.score]) for c in candidates]
            for candidates in self.linker.candidates_batch(mention_texts, k=k)
        ]


class LinkerComponent:
    """A spaCy component: mentions from the dictionary into `doc.ents`, links into `Span._.kb_ents` by scispaCy.

    With `mentions`, what the dictionary finds is added to the entities that the pipeline has found so far, which keep
    their place; without, only those are linked. Unlike scispaCy's default, concepts without a definition are linked
    too. What the text says of each entity is in `Span._.negated`, `possible`, `hypothetical`, `historical`, `family`.

    A linker with vectors of names wants their encoder: `nlp.get_pipe("medgraft_linker").linker.vectors = ...`.

    `linker` is None until `from_disk` where the folder of the pipeline's settings is not there.
    """

    def __init__(self, linker: Linker | None, *, mentions: bool, k: int, threshold: float) -> None:
        self.mentions, self.k, self.threshold = mentions, k, threshold
        self._set(linker)
        for assertion in ASSERTIONS:
            if not Span.has_extension(assertion):
                Span.set_extension(assertion, default=False)

    def _set(self, linker: Linker | None) -> None:
        self.linker = linker
        self.entity_linker = None
        if linker is not None:
            generator = GraphCandidateGenerator(linker)
            self.entity_linker = EntityLinker(
                candidate_generator=generator, k=self.k, threshold=self.threshold, filter_for_definitions=False
            )

    def __call__(self, doc: Doc) -> Doc:
        """Link one document in place.

        Raises:
            MedgraftError: there is no linker.
        """
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 64) -> Iterator[Doc]:
        """Link many documents in place, the candidates of `batch_size` of them sought together.

        Raises:
            MedgraftError: there is no linker.
        """
        if self.linker is None or self.entity_linker is None:
            raise MedgraftError(
                "medgraft_linker has no linker; give its folder in the config, or load one by from_disk"
            )
        docs = iter(stream)
        while batch := list(islice(docs, batch_size)):
            for doc in batch:
                self._find(doc, self.linker)
            self.linker.candidates_batch([ent.text for doc in batch for ent in doc.ents], k=self.k)  # it remembers them
            for doc in batch:
                yield self.entity_linker(doc)

    def _find(self, doc: Doc, linker: Linker) -> None:
        """The entities of a document, and what the text says of them."""
        if self.mentions:
            spans = [
                doc.char_span(m.start, m.end, label=m.type or "CONCEPT", alignment_mode="expand")
                for m in linker(doc.text, k=1)
            ]
            taken = {token.i for ent in doc.ents for token in ent}
            free = [s for s in spans if s is not None and not taken.intersection(range(s.start, s.end))]
            doc.ents = (*doc.ents, *filter_spans(free))
        marked = mark_assertions(doc.text, [Mention(ent.start_char, ent.end_char) for ent in doc.ents])
        for ent, mention in zip(doc.ents, marked, strict=True):
            for assertion in mention.assertion:
                ent._.set(assertion, True)

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save the linker with its pipeline."""
        if self.linker is not None:
            self.linker.save(path)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "LinkerComponent":
        """Take the linker that was saved with the pipeline."""
        self._set(Linker.load(path))
        return self


@Language.factory("medgraft_linker", default_config={"folder": "", "mentions": True, "k": 30, "threshold": 0.7})
def _make_component(nlp: Language, name: str, folder: str, mentions: bool, k: int, threshold: float) -> LinkerComponent:
    # A pipeline that is loaded elsewhere has its linker inside, and no folder of that name.
    linker = Linker.load(folder) if folder and Path(folder).exists() else None
    return LinkerComponent(linker, mentions=mentions, k=k, threshold=threshold)
