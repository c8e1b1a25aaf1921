import random

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import kg.alias_index
from kg.alias_index import AliasIndex


def test_nearest_names_are_those_of_a_product_with_all_names(monkeypatch):
    monkeypatch.setattr(kg.alias_index, "FIRST", 50)  # so that the bounds have something to decide
    monkeypatch.setattr(kg.alias_index, "CHUNK", 97)
    draw = random.Random(0)
    parts = "renal cyst of the left kidney hepatic carcinoma a ataxia ébène 1 2 cell loss".split()
    names = sorted({" ".join(draw.choices(parts, k=draw.randint(1, 5))) for _ in range(800)})
    index = AliasIndex.build(names)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), binary=True)
    matrix = vectorizer.fit_transform(names)
    for text in [" ".join(draw.choices(parts, k=3)) + draw.choice(["", "s", " zz"]) for _ in range(60)]:
        cosines = np.round((matrix @ vectorizer.transform([text]).T).toarray().ravel(), 5)
        for k in (1, 7, 10_000):
            ((rows, scores),) = index.nearest([text], k)
            wanted = min(k, int((cosines > 0).sum()))
            least = np.sort(cosines)[::-1][wanted - 1]
            assert len(rows) >= wanted and len(set(rows.tolist())) == len(rows)
            assert np.allclose(cosines[rows], scores, atol=2e-5) and scores.min() >= least - 2e-5
    assert not index._sums.any() and not index._weights.any()
