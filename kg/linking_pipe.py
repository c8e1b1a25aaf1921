"""The linker where spaCy and scispaCy users expect it: a `CandidateGenerator`, a `KnowledgeBase`, a pipe.

nlp = spacy.blank("en")
nlp.add_pipe("abbreviation_detector")
nlp.add_pipe("medgraft_linker", config={"folder": "linkers/hpo"})
nlp("The boy had absence seizures.").ents[0]._.kb_ents    # [("HP:0002121", 1.0), ...]
"""

import scispacy.abbreviation  # noqa: F401  (its factory, "abbreviation_detector", registers itself)
from scispacy.candidate_generation import CandidateGenerator, MentionCandidate
from scispacy.linking import EntityLinker
from scispacy.linking_utils import Entity, KnowledgeBase
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import filter_spans

from kg.linking import Linker


def knowledge_base(linker: Linker) -> KnowledgeBase:
    """The linker's concepts as a scispaCy `KnowledgeBase`."""
    aliases = linker.names()
    return KnowledgeBase(
        Entity(c["id"], c["name"], aliases.get(c["id"], []), c["types"], c["definition"])
        for c in linker.concepts.to_pylist()
    )


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
    their place. Unlike scispaCy's default, concepts without a definition are linked too.
    """

    def __init__(self, linker: Linker, *, mentions: bool, k: int, threshold: float) -> None:
        self.linker = linker
        self.mentions = mentions
        self.entity_linker = EntityLinker(
            candidate_generator=GraphCandidateGenerator(linker), k=k, threshold=threshold, filter_for_definitions=False
        )

    def __call__(self, doc: Doc) -> Doc:
        """Link one document in place."""
        if self.mentions:
            spans = [
                doc.char_span(m.start, m.end, label=m.type or "CONCEPT", alignment_mode="expand")
                for m in self.linker(doc.text, k=1)
            ]
            taken = {token.i for ent in doc.ents for token in ent}
            free = [s for s in spans if s is not None and not taken.intersection(range(s.start, s.end))]
            doc.ents = (*doc.ents, *filter_spans(free))
        return self.entity_linker(doc)


@Language.factory("medgraft_linker", default_config={"mentions": True, "k": 30, "threshold": 0.7})
def _make_component(nlp: Language, name: str, folder: str, mentions: bool, k: int, threshold: float) -> LinkerComponent:
    return Linker.load(folder).component(mentions=mentions, k=k, threshold=threshold)
