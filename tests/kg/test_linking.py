import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from kg.alias_index import AliasIndex
from kg.linking import Linker
from loaders.errors import InputError, MedgraftError
from loaders.records import Candidate, Document, Mention

CONCEPTS = [
    ("HP:1", "Seizure", ["Phenotype"], "A fit."),
    ("HP:2", "Absence seizure", ["Phenotype"], None),
    ("HP:3", "Vestibular schwannoma", ["Phenotype"], None),
    ("HP:4", "Abnormality of the heart", ["Phenotype"], None),
    ("HP:5", "Ventricular septal defect", ["Phenotype"], None),
    ("DIS:1", "Seizure", ["Disease"], None),
    ("DIS:2", "Marfan syndrome", ["Disease"], None),
    ("NCBIGene:1", "REST", ["Gene"], None),
    ("NCBIGene:2", "Fits", ["Gene"], None),
]
SYNONYMS = [
    ("HP:1", "Epileptic seizure", "exact", "en", False),
    ("HP:1", "Fit of the brain", "related", "en", True),
    ("HP:1", "Krampfanfall", "exact", "de", False),
    ("HP:3", "Acoustic neuroma", "exact", "en", False),
    ("HP:4", "Cardiac anomaly", "exact", "en", False),
    ("HP:5", "VSD", "exact", "en", False),
    ("DIS:2", "Acoustic neuroma", "broad", "en", False),
]
TEXTS = [
    "The boy had absence seizures and abnormal hearts; REST was at rest.",
    "Acoustic neuromas of the REST gene.\r\n\tSeizure.",
    "A vestibular schwannoma (VS) was seen. The VS grew, vascular surface density (VSD) too. VSD!",
    "",
    "nothing",
]


def graph_of(concepts, synonyms, fingerprint="f" * 64):
    names = [(i, n, "preferred", "en", "test", False) for i, n, _, _ in concepts]
    names += [(i, n, kind, language, "test", suppressed) for i, n, kind, language, suppressed in synonyms]
    tables = {
        "concepts": pa.table(
            {
                c: list(v)
                for c, v in zip(("id", "name", "types", "definition"), zip(*concepts, strict=True), strict=True)
            }
        ),
        "names": pa.table(
            {
                c: list(v)
                for c, v in zip(
                    ("concept_id", "name", "kind", "language", "source", "suppressed"),
                    zip(*names, strict=True),
                    strict=True,
                )
            }
        ),
    }
    return SimpleNamespace(table=tables.__getitem__, fingerprint=fingerprint)


GRAPH = graph_of(CONCEPTS, SYNONYMS)


@pytest.fixture(scope="module")
def linker():
    return Linker.build(GRAPH)


def read(document):
    return [(document.text[m.start : m.end], m.concept_id) for m in document]


def test_mentions_carry_their_concept_type_and_candidates(linker):
    document = linker(TEXTS[0], id="7", k=2)
    assert document.id == "7" and document.text == TEXTS[0]
    assert read(document) == [("absence seizures", "HP:2"), ("abnormal hearts", "HP:4"), ("REST", "NCBIGene:1")]
    first = document.mentions[0]
    assert first == Mention(12, 28, "Phenotype", "HP:2") and first.score == 1.0
    assert first.candidates == linker.candidates("absence seizures", k=2) and len(first.candidates) == 2


def test_nested_mentions_are_a_setting():
    nested = Linker.build(GRAPH, nested=True)
    assert ("seizures", "DIS:1") in read(nested(TEXTS[0]))


def test_an_abbreviation_means_what_the_text_says(linker):
    assert read(linker(TEXTS[2])) == [("vestibular schwannoma", "HP:3"), ("VS", "HP:3"), ("VS", "HP:3")]
    assert read(linker("A VSD and vsd.")) == [("VSD", "HP:5")]


def test_candidates_are_exact_hits_first_then_by_score_preferred_name_and_id(linker):
    assert linker.candidates("seizures", k=3) == (
        Candidate("DIS:1", 1.0, "Seizure"),
        Candidate("HP:1", 1.0, "Seizure"),
        *linker.candidates("seizures", k=9)[2:3],
    )
    assert linker.candidates("cardiac anomalies", k=1) == (Candidate("HP:4", 1.0, "Cardiac anomaly"),)
    assert [c.concept_id for c in linker.candidates("acoustic neuroma", k=2)] == ["HP:3", "DIS:2"], "exact before broad"
    scores = [c.score for c in linker.candidates("absense seizzure", k=9)]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] and scores[0] < 1
    assert linker.candidates("zzz") == linker.candidates("") == linker.candidates("seizure", k=0) == ()


def test_gene_symbols_are_candidates_only_as_written(linker):
    assert linker.candidates("Fits", k=1)[0].concept_id == "NCBIGene:2"
    assert all(not c.concept_id.startswith("NCBIGene") for c in linker.candidates("fits resting", k=9))


def test_candidates_equal_a_slow_obvious_reference(linker):
    names = [
        (i, n, k)
        for i, n, k in [
            *((i, n, 0) for i, n, t, _ in CONCEPTS if t != ["Gene"]),
            *((i, n, 1) for i, n, _, language, s in SYNONYMS if language == "en" and not s and n != "VSD"),
        ]
    ]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), binary=True)
    vectorizer.fit(sorted({n.lower() for _, n, _ in names}))
    for query in ("schwanoma vestibulum", "septal syndrome", "heart of marfan", "seiz"):
        cosines = (vectorizer.transform([n for _, n, _ in names]) @ vectorizer.transform([query]).T).toarray().ravel()
        best = {}
        for cosine, (concept_id, _, kind) in zip(cosines, names, strict=True):
            key = (-round(float(cosine), 5), kind, concept_id)
            if cosine > 0 and key < best.get(concept_id, (1,)):
                best[concept_id] = key
        wanted = [(c, pytest.approx(-s, abs=2e-5)) for s, _, c in sorted(best.values())]
        assert [(c.concept_id, c.score) for c in linker.candidates(query, k=20)] == wanted


def test_many_names_of_one_concept_do_not_hide_the_others():
    many = [("C:1", f"eye pain number {n}", "exact", "en", False) for n in range(300)]
    linker = Linker.build(
        graph_of([("C:1", "eye pain", ["T"], None), ("C:2", "foot pain of the toes", ["T"], None)], many)
    )
    assert [c.concept_id for c in linker.candidates("eye pains", k=2)] == ["C:1", "C:2"]


def test_a_text_is_linked_the_same_alone_and_in_any_batch(linker):
    alone = [linker(text) for text in TEXTS]
    assert list(linker.pipe(TEXTS)) == alone
    for batch_size in (1, 2):
        fresh = Linker.build(GRAPH)
        for a, b in zip(fresh.pipe(TEXTS * 3, batch_size=batch_size), alone * 3, strict=True):
            assert a == b and [m.candidates for m in a] == [m.candidates for m in b]
    assert [d.id for d in linker.pipe(TEXTS, ids="abcde")] == list("abcde")


def test_fewer_candidates_change_no_link(linker):
    fresh = Linker.build(graph_of(CONCEPTS, SYNONYMS))
    for text in TEXTS:
        few, many = fresh(text, k=1), linker(text, k=5)
        assert [replace(m, candidates=()) for m in few] == [replace(m, candidates=()) for m in many]
        assert [m.candidates for m in few] == [m.candidates[:1] for m in many]
    assert [c.concept_id for c in fresh.candidates("seizure", k=1)] == ["DIS:1"]  # of two concepts of that name


def test_types_languages_and_keep_choose_what_is_linked_to():
    assert read(Linker.build(GRAPH, types=["Disease"])("A seizure in Marfan syndrome, REST")) == [
        ("seizure", "DIS:1"), ("Marfan syndrome", "DIS:2"),
    ]  # fmt: skip
    assert read(Linker.build(GRAPH, languages=("de",))("seizure Krampfanfall")) == [("Krampfanfall", "HP:1")]
    assert read(Linker.build(GRAPH, keep={"HP:1"})("absence seizures")) == [("seizures", "HP:1")]
    with pytest.raises(MedgraftError, match="of the type Drug; there are Disease, Gene, Phenotype"):
        Linker.build(GRAPH, types=["Disease", "Drug"])
    with pytest.raises(MedgraftError, match="no name is left to link to"):
        Linker.build(GRAPH, languages=("fr",))


def test_suppressed_names_stay_out_and_every_name_is_counted(linker):
    assert read(linker("fit of the brain")) == []
    assert linker.counts == {"kept": 14, "other language": 1, "suppressed": 1}
    assert sum(linker.counts.values()) == GRAPH.table("names").num_rows


def test_save_and_load_give_the_same_linker_and_the_same_bytes(linker, tmp_path):
    linker.save(tmp_path / "a")
    loaded = Linker.load(tmp_path / "a", GRAPH)
    assert list(loaded.pipe(TEXTS)) == list(linker.pipe(TEXTS))
    assert loaded.candidates("absense", k=9) == linker.candidates("absense", k=9)
    assert (loaded.fingerprint, loaded.counts, loaded.nested) == (linker.fingerprint, linker.counts, linker.nested)
    Linker.build(GRAPH, out=tmp_path / "b")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_linker_of_another_graph_is_refused(linker, tmp_path):
    linker.save(tmp_path / "linker")
    with pytest.raises(MedgraftError, match="built from graph ffffffffffff, this is graph eeeeeeeeeeee"):
        Linker.load(tmp_path / "linker", graph_of(CONCEPTS, SYNONYMS, "e" * 64))


@pytest.mark.parametrize(
    "name", ["linker.json", "aliases.arrow", "concepts.arrow", "dictionary_keys.npy", "index_idf.npy", "parents.npy"]
)
def test_missing_and_damaged_files_are_named(linker, tmp_path, name):
    linker.save(tmp_path / "linker")
    (tmp_path / "linker" / name).write_bytes(b"\x00 not that")
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        Linker.load(tmp_path / "linker")
    (tmp_path / "linker" / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        Linker.load(tmp_path / "linker")


def test_other_formats_and_files_that_do_not_fit_are_refused(linker, tmp_path):
    linker.save(tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "linker.json").read_text())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "linker.json").write_text(json.dumps({**settings, "format": 0}))
    with pytest.raises(InputError, match="not a linker of format 5"):
        Linker.load(tmp_path / "a")
    (tmp_path / "b" / "index_scale.npy").write_bytes((tmp_path / "b" / "dictionary_costs.npy").read_bytes())
    with pytest.raises(InputError, match="do not fit together"):
        Linker.load(tmp_path / "b")


def test_what_a_corpus_calls_a_concept_is_a_name_and_decides_between_concepts(linker, tmp_path):
    texts = [("Fallsucht", "HP:1")] * 2 + [("seizure", "HP:1"), ("seizures", "HP:1"), ("seizure", "DIS:1")]
    texts += [("both", "HP:1|HP:2"), ("unknown", None), ("elsewhere", "X:1")]
    corpus = [Document(str(n), text, (Mention(0, len(text), "", id),)) for n, (text, id) in enumerate(texts)]
    taught = Linker.build(GRAPH, corpus=corpus, out=tmp_path / "linker")
    text = "Fallsucht, seizures; both unknown elsewhere."
    assert read(linker(text)) == [("seizures", "DIS:1")]
    assert read(taught(text)) == [("Fallsucht", "HP:1"), ("seizures", "HP:1")]
    first, second = taught.candidates("SEIZURES")[:2]
    assert first.signals == (("equal", 1.0), ("corpus", 0.66667)) and first.score == second.score == 1.0
    assert Linker.load(tmp_path / "linker")(text) == taught(text)
    assert taught.update(GRAPH) is taught
    with pytest.raises(MedgraftError, match="built with corpus"):
        taught.update(graph_of(CONCEPTS, SYNONYMS, "e" * 64))
    assert taught.update(graph_of(CONCEPTS, SYNONYMS, "e" * 64), corpus=corpus)(text) == taught(text)


def test_an_index_of_nothing_finds_nothing():
    found = AliasIndex.build([]).nearest(["text"], 3)
    assert len(found.names) == len(found.scores) == 0 and found.starts.tolist() == [0, 0]
    only_symbols = Linker.build(graph_of([("G:1", "REST", ["Gene"], None)], []))
    assert only_symbols.candidates("resting") == () and read(only_symbols("REST")) == [("REST", "G:1")]


def test_nearest_keeps_ties_and_rounds_to_one(linker):
    index = AliasIndex.build(["abc def", "def abc", "xyz"])
    names, scores, _ = index.nearest(["abc def"], 1)
    assert sorted(names.tolist()) == [0, 1] and scores.tolist() == [1.0, 1.0] and scores.dtype == np.float32


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\r\n\t\x00\x1f", "the of and", "🫀🫀", "\ud800 seizure (\udfff)", "a" * 1_000_000, "(" * 1_000_000,
        "()" * 10_000, "(ab) " * 5_000, "seizure " * 20_000, "\n" * 1_000_000, "مرض (seizure) مرض", "e\u0301" * 1000,
        "-'" * 100_000,
    ],
    ids=lambda text: f"{text[:5].encode('unicode_escape').decode()}x{len(text)}",
)  # fmt: skip
def test_no_text_is_too_odd(linker, text):
    document = linker(text)
    assert document.text == text
    assert len(document.mentions) == text.count("seizure")


pieces = st.one_of(
    st.sampled_from(["seizures", "VS", "(VS)", "vestibular schwannoma", "\r\n", "\ud83e", "🫀", "("]), st.text()
)


@settings(deadline=None, max_examples=150)
@given(text=st.lists(pieces, max_size=10).map(" ".join))
def test_offsets_index_the_original_text(linker, text):
    document = linker(text)
    assert document.text == text
    last = 0
    for mention in document:
        if mention.parts:
            assert mention.start == mention.parts[0][0] and mention.end == mention.parts[-1][1]
            continue
        assert last <= mention.start < mention.end <= len(text)
        assert mention.candidates[0].concept_id == mention.concept_id and 0 <= mention.score <= 1
        last = mention.end


def test_in_a_vocabulary_in_capitals_a_short_word_is_no_symbol():
    names = ("FEVER", "CHEST PAIN", "HEPATITIS A", "MI", "PAIN IN THE NECK", "P53")
    linker = Linker.build(graph_of([(f"C:{name}", name, ["T"], None) for name in names], []))
    text = "Fever, chest pain, hepatitis A, pain in his neck; mi, MI, p53 and P53."
    assert read(linker(text)) == [
        ("Fever", "C:FEVER"), ("chest pain", "C:CHEST PAIN"), ("hepatitis A", "C:HEPATITIS A"),
        ("pain in his neck", "C:PAIN IN THE NECK"), ("P53", "C:P53"),
    ]  # fmt: skip
    mixed = Linker.build(graph_of([*CONCEPTS, ("C:1", "FEVER", ["T"], None)], SYNONYMS))
    assert read(mixed("A fever. FEVER")) == [("FEVER", "C:1")]


def test_the_mark_of_a_kind_or_of_a_rest_may_be_missing():
    names = (
        "Asthma (disorder)", "COPD (disorder)", "Gout", "Gout, unspecified", "Pneumonia NOS", "Melanoma (of the skin)",
        "Migraine, not otherwise specified", "(disorder)",
    )  # fmt: skip
    linker = Linker.build(graph_of([(f"C:{n}", name, ["T"], None) for n, name in enumerate(names)], []))
    document = linker("Asthma, COPD, copd, gout, pneumonia, melanoma, migraine; the disorder")
    found = {document.text[m.start : m.end]: [(c.concept_id, c.score) for c in m.candidates[:2]] for m in document}
    assert found["Asthma"][0] == ("C:0", 1.0) and found["COPD"][0] == ("C:1", 1.0)
    assert found["gout"] == [("C:2", 1.0), ("C:3", 0.95)]
    assert found["pneumonia"][0] == ("C:4", 0.95) and found["migraine"][0] == ("C:6", 0.95)
    assert found.keys().isdisjoint({"melanoma", "copd"})
