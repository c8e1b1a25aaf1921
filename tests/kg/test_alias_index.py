import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

import kg.alias_index
from kg.alias_index import AliasIndex


def slow_cosines(names, texts):
    """Cosines of all names with each text, by scikit-learn, of five digits."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), binary=True, norm="l2", dtype=np.float64)
    matrix = vectorizer.fit_transform(names)
    return np.round((vectorizer.transform(texts) @ matrix.T).toarray(), 5)


def check(index, names, texts, k):
    """What was found is the best k, by scores right to five digits, and all that tie with the last of them."""
    found = index.nearest(texts, k)
    assert len(found.starts) == len(texts) + 1 and found.starts[-1] == len(found.names) == len(found.scores)
    for cosines, (first, last) in zip(slow_cosines(names, texts), pairwise(found.starts), strict=True):
        rows, scores = found.names[first:last], found.scores[first:last]
        assert len(set(rows.tolist())) == len(rows) >= min(k, np.count_nonzero(cosines))
        assert np.allclose(cosines[rows], scores, atol=2e-5)
        if len(rows):
            least = np.sort(cosines)[::-1][min(k, np.count_nonzero(cosines)) - 1]
            assert scores.min() >= least - 2e-5
            assert set(np.flatnonzero(cosines > least + 2e-5)) <= set(rows.tolist())


def test_nearest_names_are_those_of_a_product_with_all_names(monkeypatch):
    monkeypatch.setattr(kg.alias_index, "CHUNK", 97)
    monkeypatch.setattr(kg.alias_index, "BATCH", 7)
    draw = random.Random(0)
    parts = "renal cyst of the left kidney hepatic carcinoma a ataxia ébène 1 2 cell loss".split()
    names = sorted({" ".join(draw.choices(parts, k=draw.randint(1, 5))) for _ in range(800)})
    texts = [" ".join(draw.choices(parts, k=3)) + draw.choice(["", "s", " zz"]) for _ in range(60)]
    for k in (1, 7, 10_000):
        check(AliasIndex.build(names), names, texts, k)


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(st.text("ab ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=300),
    st.lists(st.text("abc ", max_size=12), min_size=1, max_size=5),
    st.integers(1, 20),
)
def test_any_names_and_texts(names, texts, k):
    check(AliasIndex.build(names), names, texts, k)


def test_names_with_the_same_3_grams_are_found_together_and_nothing_depends_on_the_batch():
    draw = random.Random(1)
    names = [" ".join(draw.choices("abc def ghi jkl".split(), k=3)) for _ in range(2_000)]
    index, texts = AliasIndex.build(names), names[:100]
    found = index.nearest(texts, 5)
    same = {frozenset(name.split()): set() for name in names}
    for row, name in enumerate(names):
        same[frozenset(name.split())].add(row)
    for n, text in enumerate(texts):
        rows, scores = (of[found.starts[n] : found.starts[n + 1]].tolist() for of in (found.names, found.scores))
        assert {row for row, score in zip(rows, scores, strict=True) if score == 1} == same[frozenset(text.split())]
        assert all(same[frozenset(names[row].split())] <= set(rows) for row in rows)
        alone = index.nearest([text], 5)
        assert alone.names.tolist() == rows and alone.scores.tolist() == scores


def test_more_names_than_are_searched_together():
    from kg.alias_search import WINDOW

    draw = random.Random(2)
    names = ["".join(draw.choices("abcdefgh", k=6)) for _ in range(2 * WINDOW + 100)]
    check(AliasIndex.build(names), names, [names[0], names[WINDOW], names[-1], "abcabc", "zzz"], 20)


def test_long_texts_and_no_candidates():
    index = AliasIndex.build(["a long name of a finding", "another"])
    found = index.nearest(["\u0390" * 1_000, "long " * 10_000, "", "zzz"], 3)
    assert np.diff(found.starts).tolist() == [0, 1, 0, 0]
    assert np.diff(index.nearest(["long"], 0).starts).tolist() == [0] and len(index.nearest([], 3).names) == 0
