"""The names of a graph that a linker knows, and which of them are spelled most like a text.

By character 3-grams, TF-IDF, and the exact best of them all.

The vectors are scispaCy's (`char_wb` 3-grams), with every 3-gram kept: a small vocabulary has no rare ones to spare.
One sparse product compares a batch of texts with all names; nothing is approximate, so the same text always finds the
same names, alone or in a batch.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from kg.matching import alias_codes, is_symbol
from loaders.tables import NAME_KINDS

CASE_SENSITIVE_TYPES = ("Gene", "biolink:Gene")

MAX_LETTERS = 500  # letters of a text that are compared; a name has fewer
BATCH = 128


class AliasIndex:
    """TF-IDF vectors of names, as postings: one row a 3-gram, one column a name.

    Args:
        ngrams: The 3-grams, in the order of the rows.
        idf: Inverse document frequency of each, float32 (n_ngrams,).
        postings: float32 (n_ngrams, n_names), columns of length one.
    """

    def __init__(self, ngrams: Sequence[str], idf: NDArray[np.float32], postings: csr_matrix) -> None:
        self.ngrams = ngrams
        self.idf = idf
        self.postings = postings
        self._vectorizer = _vectorizer({ngram: i for i, ngram in enumerate(ngrams)})
        if len(ngrams):
            self._vectorizer.idf_ = idf

    @classmethod
    def build(cls, names: Sequence[str]) -> "AliasIndex":
        """Index names; the position of a name is its row in what `nearest` finds."""
        if not any(name.strip() for name in names):
            return cls([], np.zeros(0, np.float32), csr_matrix(np.zeros((0, len(names)), np.float32)))
        vectorizer = _vectorizer(None)
        postings = csr_matrix(vectorizer.fit_transform(names).T)
        postings.sort_indices()
        return cls(list(vectorizer.get_feature_names_out()), vectorizer.idf_.astype(np.float32), postings)

    def nearest(self, texts: Sequence[str], k: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """For each text its best `k` rows and their cosines in (0, 1], unordered, with all that tie with the last."""
        for first in range(0, len(texts), BATCH):
            batch = [text[:MAX_LETTERS] for text in texts[first : first + BATCH]]
            if not len(self.ngrams):
                yield from ((np.zeros(0, np.int32), np.zeros(0, np.float32)) for _ in batch)
                continue
            cosines = self._vectorizer.transform(batch) @ self.postings
            for i in range(len(batch)):
                row = slice(cosines.indptr[i], cosines.indptr[i + 1])
                names, scores = cosines.indices[row], np.minimum(np.round(cosines.data[row], 5), 1.0)
                if len(scores) > k:
                    best = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
                    names, scores = names[best], scores[best]
                yield names, scores


def _vectorizer(vocabulary: dict[str, int] | None) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), min_df=1, dtype=np.float32, vocabulary=vocabulary)


def select_concepts(concepts: pa.Table, types: Collection[str] | None, keep: Collection[str] | None) -> pa.Table:
    """The concepts with one of the types, and with one of the ids; None for all. Sorted by id."""
    table = concepts.select(["id", "name", "types", "definition"]).sort_by("id")
    wanted = None if types is None else frozenset(types)
    kept = None if keep is None else frozenset(keep)
    if wanted is None and kept is None:
        return table
    ids, types_of = table["id"].to_pylist(), table["types"].to_pylist()
    mask = [
        (wanted is None or not wanted.isdisjoint(t or ())) and (kept is None or i in kept)
        for i, t in zip(ids, types_of, strict=True)
    ]
    return table.filter(pa.array(mask, pa.bool_()))


def alias_table(
    names: pa.Table, concepts: pa.Table, languages: Collection[str] | None
) -> tuple[pa.Table, NDArray[np.int64], dict[str, int]]:
    """Names that are looked for, sorted by key and merit; all their word codes; and the names left out, by reason."""
    ids, types = concepts["id"].to_pylist(), concepts["types"].to_pylist()
    case_sensitive = {i: not set(CASE_SENSITIVE_TYPES).isdisjoint(t or ()) for i, t in zip(ids, types, strict=True)}
    spoken = None if languages is None else frozenset(languages)
    counts: Counter[str] = Counter()
    codes: set[int] = set()
    rows = set()
    columns = ("concept_id", "name", "kind", "language", "suppressed")
    for concept_id, name, kind, language, suppressed in zip(*(names[c].to_pylist() for c in columns), strict=True):
        name_codes = alias_codes(name, case_sensitive.get(concept_id, False))
        if concept_id not in case_sensitive:
            counts["concept not wanted"] += 1
        elif suppressed:
            counts["suppressed"] += 1
        elif spoken is not None and language not in spoken:
            counts["other language"] += 1
        elif not name_codes:
            counts["too short, too long or only function words"] += 1
        else:
            counts["kept"] += 1
            codes.update(name_codes)
            rows.add((sum(name_codes), NAME_KINDS.index(kind), concept_id, name, case_sensitive[concept_id]))
    ordered = sorted(rows)
    table = pa.table(
        {
            "key": pa.array([r[0] for r in ordered], pa.int64()),
            "kind": pa.array([r[1] for r in ordered], pa.int8()),
            "concept_id": pa.array([r[2] for r in ordered], pa.string()),
            "alias": pa.array([r[3] for r in ordered], pa.string()),
            "case_sensitive": pa.array([r[4] or is_symbol(r[3]) for r in ordered], pa.bool_()),
        }
    )
    return table, np.array(sorted(codes), np.int64), dict(sorted(counts.items()))


def distinct_spellings(aliases: pa.Table) -> tuple[list[str], list[int]]:
    """The spellings to compare by 3-grams, and for each alias its place among them.

    Names that match case-sensitively only have none (-1): a gene symbol is spelled right or it is another word.
    """
    folded = [
        None if exact else alias.casefold()
        for alias, exact in zip(aliases["alias"].to_pylist(), aliases["case_sensitive"].to_pylist(), strict=True)
    ]
    names = sorted({name for name in folded if name is not None})
    place = {name: i for i, name in enumerate(names)}
    return names, [-1 if name is None else place[name] for name in folded]
