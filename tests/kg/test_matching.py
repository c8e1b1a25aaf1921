from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import matching
from kg.dictionary import Dictionary
from kg.matching import alias_codes, base, is_said, is_symbol, singular, spelling, stem, unmarked
from kg.mentions import Settings, find_mentions

NAMES = [
    "Abnormality of the heart",
    "Seizure",
    "Absence seizure",
    "Hypotonia",
    "Microcephaly",
    "Esophageal tumor",
    "Beta-thalassemia",
    "Diabetes mellitus type 2",
    "Down syndrome",
    "Gingivitis",
    "Ordering",
    "Short thumb",
    "ASD",
    "of the",
    "x",
    "ab",
    "PE",
    "Neutrophilia",
    "12",
]


def dictionary(names, case_sensitive=()):
    """Of plain names: rows are their places among those that may match."""
    coded = [(n, alias_codes(n, n in case_sensitive or is_symbol(n))) for n in names]
    kept = [(n, codes) for n, codes in coded if codes]
    keys = np.array([sum(codes) for _, codes in kept], np.int64)
    order = np.argsort(keys, kind="stable")
    codes = np.array(sorted({code for _, found in kept for code in found}), np.int64)
    zeros = np.zeros(len(keys), np.int8)
    return Dictionary(keys[order], order.astype(np.int32), zeros, codes), [n for n, _ in kept]


def spans(finder, text, nested=False):
    return find_mentions(text, finder, Settings(nested=nested))


def found(text, names=NAMES, nested=False, case_sensitive=()):
    finder, kept = dictionary(names, case_sensitive)
    return [(text[s.start : s.end], kept[s.hits[0].row]) for s in spans(finder, text, nested)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("heart abnormalities", "Abnormality of the heart"),
        ("ABNORMALITIES OF HEART", "Abnormality of the heart"),
        ("abnormal heart", "Abnormality of the heart"),
        ("seizures", "Seizure"),
        ("hypotonic", "Hypotonia"),
        ("microcephalic", "Microcephaly"),
        ("oesophageal tumours", "Esophageal tumor"),
        ("β thalassaemia", "Beta-thalassemia"),
        ("type II diabetes mellitus", "Diabetes mellitus type 2"),
        ("Down's syndrome", "Down syndrome"),
        ("Down\u2019s syndrome", "Down syndrome"),
        ("ASD", "ASD"),
    ],
)
def test_a_name_is_found_however_it_is_written(text, name):
    assert found(f"He had {text}, it seems.") == [(text, name)]


@pytest.mark.parametrize(
    "text",
    [
        "asd",
        "pe",
        "PE",
        "neutrophil",
        "gingival",
        "in order",
        "of the",
        "x",
        "ab",
        "12",
        "heart. Abnormal",
        "short. Thumb",
    ],
)
def test_what_only_looks_like_a_name_is_not_found(text):
    assert found(text) == []


def test_a_word_of_every_sentence_is_no_name_that_is_spelt_otherwise():
    assert found("She had pain in her toe, and shoes.", ["Shoes", "Toes"]) == [("toe", "Toes"), ("shoes", "Shoes")]
    assert found("It was for his own good.", ["Fors", "Its", "Wass"]) == []
    names = ["Fill-It", "Pulmonaria", "The fever", "Loss of", "News"]
    assert [name for _, name in found("Fill it. Fill-It, new pulmonary fever of loss.", names)] == [
        "Fill-It", "The fever", "Loss of",
    ]  # fmt: skip


def test_too_little_for_a_name_in_other_words_and_what_notes_say_of_themselves():
    names = ["UP II", "Systematic review", "Medical history", "Medical history taking", "History", "Traumatic cyst"]
    text = "UP II went up to 2. Review of systems, medical history; medical history taking. A trauma cyst."
    assert found(text, names) == [
        ("UP II", "UP II"),
        ("history", "History"),
        ("medical history taking", "Medical history taking"),
        ("trauma cyst", "Traumatic cyst"),
    ]


LETTERED = [
    "Hepatitis", "Hepatitis A", "Hepatitis A virus", "Vitamin A", "Vitamin deficiency", "Vitamin A deficiency",
    "Protein S deficiency", "ITS studies", "AT hook", "Oil A", "A kinase", "Fever", "Pain in the neck",
    "Down's syndrome",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Hepatitis A was excluded.", ["Hepatitis A"]),
        ("HEPATITIS A WAS EXCLUDED.", ["Hepatitis A"]),
        ("Vitamin deficiency, vitamin A deficiency", ["Vitamin deficiency", "Vitamin A deficiency"]),
        ("vitamin a deficiency", ["Vitamin A deficiency"]),
        ("a hepatitis a virus", ["Hepatitis A virus"]),
        ("protein S deficiency, a protein deficiency", ["Protein S deficiency"]),
        ("hepatitis a, fever; a hepatitis a", ["Hepatitis A", "Fever", "Hepatitis A"]),
        ("hepatitis a and a fever", ["Hepatitis A", "Fever"]),
        ("He studies oil at home with a hook.", []),
        ("He had hepatitis a week ago. A fever came.", ["Hepatitis", "Fever"]),
        ("A hepatitis. A-kinase; an A kinase", ["Hepatitis", "A kinase", "A kinase"]),
        ("ITS studies of the AT-hook", ["ITS studies", "AT hook"]),
        ("PAIN IN THE NECK, DOWN'S SYNDROME", ["Pain in the neck", "Down's syndrome"]),
    ],
)
def test_a_letter_is_no_function_word(text, names):
    assert [name for _, name in found(text, LETTERED)] == names


def test_a_letter_is_no_function_word_where_a_name_is_looked_up():
    finder, names = dictionary(LETTERED)
    looked_up = {text: [names[hit.row] for hit in finder.lookup(text)] for text in ("hepatitis A", "A fever", "oil")}
    assert looked_up == {"hepatitis A": ["Hepatitis A"], "A fever": ["Fever"], "oil": []}


def test_no_name_begins_with_the_participle_of_another_word():
    names = ["Induced hypotension", "Hypotension", "Age related deafness"]
    text = "Drug-induced hypotension and age-related deafness; induced hypotension in the hypotensive"
    assert [name for _, name in found(text, names)] == [
        "Hypotension", "Age related deafness", "Induced hypotension", "Hypotension",
    ]  # fmt: skip


def test_what_a_text_says_of_a_name_is_it_or_its_plural():
    for name, text, said in (
        ("Morphines", "morphine", False), ("Morphine", "morphine", True), ("Ear anomaly", "ear anomalies", True),
        ("Tumour", "TUMORS", True), ("Abnormality of the ear", "abnormal ear", False), ("", "", True),
    ):  # fmt: skip
        assert is_said(name, text) == said


def test_words_that_are_no_names_as_they_are_used():
    names = ["Will", "Living will", "Back", "Back pain", "Evaluation study", "Free will", "Sensitivity to light"]
    text = "This study was to evaluate the will. It will. Will it? Back to a living will, free will, my back to bed"
    assert found(text, names) == [
        ("will", "Will"), ("living will", "Living will"), ("free will", "Free will"), ("back", "Back"),
    ]  # fmt: skip
    assert found("back pain, sensitivity to light; the study will evaluate", names) == [
        ("back pain", "Back pain"), ("sensitivity to light", "Sensitivity to light"),
    ]  # fmt: skip
    verbs = ["Smoke", "Lead", "Affect", "Work"]
    assert found("Do you smoke? It may affect work and leads to more; it works.", verbs) == [("work", "Work")]
    assert [name for _, name in found("Can lead harm? We found that lead does.", verbs)] == ["Lead", "Lead"]
    nouns = "exposed to smoke and lead, a flat affect, the work"
    assert [name for _, name in found(nouns, verbs)] == ["Smoke", "Lead", "Affect", "Work"]
    finder, kept = dictionary(names)
    assert {kept[hit.row] for word in ("Will", "back") for hit in finder.lookup(word)} == {"Will", "Back"}


def test_what_or_parts_is_not_one_name():
    names = ["Chest pain", "Migraine headache", "Aplasia or hypoplasia of the thumb", "C.A.B.", "Breath"]
    assert found("pain or chest, headache or migraine; a b c", names) == []
    assert found("hypoplasia or aplasia of thumbs, C A B", names) == [
        ("hypoplasia or aplasia of thumbs", "Aplasia or hypoplasia of the thumb"), ("C A B", "C.A.B."),
    ]  # fmt: skip


def test_symbols_and_names_of_case_sensitive_types_match_as_written():
    names = ["Was", "REST", "HLA-DRB1", "rest pain"]
    assert found("was at rest", names, case_sensitive={"Was"}) == []
    assert found("Was REST HLA-DRB1 HLA DRB1 hla-drb1", names, case_sensitive={"Was"}) == [
        ("Was", "Was"), ("REST", "REST"), ("HLA-DRB1", "HLA-DRB1"), ("HLA DRB1", "HLA-DRB1"),
    ]  # fmt: skip
    assert [is_symbol(n) for n in ("BRCA1", "ASD", "Asd", "VON WILLEBRAND", "ACHONDROPLASIA")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_of_overlapping_names_the_longest_stays_then_the_leftmost():
    assert found("absence seizures") == [("absence seizures", "Absence seizure")]
    assert found("absence seizures", nested=True) == [("absence seizures", "Absence seizure"), ("seizures", "Seizure")]
    names = ["left eye", "eye pain"]
    assert found("left eye pain", names) == found("left eye pain", names, nested=True) == [("left eye", "left eye")]


def test_lookup_wants_the_whole_text():
    finder, names = dictionary(NAMES)
    assert [names[r.row] for r in finder.lookup("the abnormal heart")] == ["Abnormality of the heart"]
    assert [names[r.row] for r in finder.lookup("PE")] == ["PE"]
    for text in ("", " ", "the", "abnormal heart rate", "pe", "word " * 1000, "a" * 100_000):
        assert finder.lookup(text) == []


def test_words_become_comparable():
    assert spelling("Anaemia") == spelling("anemia") and spelling("Ödem") == "odem"
    assert spelling("paralysed") == spelling("paralyzed") and spelling("fibre") == spelling("fiber")
    assert [singular(w) for w in ("biopsies", "carcinomata", "gas", "pus", "stenoses", "toes")] == [
        "biopsy", "carcinoma", "gas", "pus", "stenosis", singular("toe"),
    ]  # fmt: skip
    assert stem("abnormality") == stem("abnormal") and stem("retinitis") != stem("retinal")
    for noun, adjective in (
        ("dysplasia", "dysplastic"), ("clavicle", "clavicular"), ("larynx", "laryngeal"), ("fibrosis", "fibrotic"),
        ("edema", "edematous"), ("epilepsy", "epileptic"), ("patella", "patellar"), ("teeth", "tooth"),
    ):  # fmt: skip
        assert stem(noun) == stem(adjective)
    assert base("hypotonia") == base("hypotonic") and base("toe") != base("toy")


texts = st.lists(
    st.one_of(st.sampled_from([*NAMES, "'s", "\r\n", "\t", "\u200f", "🫀", "\ud800", "."]), st.text()), max_size=12
)


@settings(deadline=None)
@given(texts.map(" ".join), st.booleans())
def test_spans_lie_in_the_text_in_order_and_do_not_cross(text, nested):
    places = [place for place in spans(dictionary(NAMES)[0], text, nested) if not place.parts]
    assert places == sorted(places, key=lambda p: (p.start, p.end))
    assert all(0 <= s.start < s.end <= len(text) and s.hits for s in places)
    for a, b in combinations(places, 2):
        assert a.end <= b.start or (nested and (b.end <= a.end or (a.start == b.start and a.end <= b.end)))


PIECES = "ae oe o a e our is ise tre bre sulph leuc ys yse grey ll ed ing ation plas otic tic ma tous cephal us ular "
PIECES += "geal ges ence absence feet teeth testes dib n r x th"


@given(st.lists(st.sampled_from(PIECES.split()), min_size=1, max_size=5).map("".join))
def test_a_word_that_skips_the_rules_would_have_been_left_as_it_is(word):
    for may, rules in (
        (matching._SPELT.search(word), matching._SPELLING),
        (word.endswith(matching._DERIVING), matching._DERIVED),
    ):
        assert may or all(pattern.sub(instead, word) == word for pattern, instead in rules)


@given(st.text(alphabet="ab .,;/&('s\n\u2019", max_size=40))
def test_words_lie_where_they_stand(text):
    words = Dictionary(*(np.zeros(0, t) for t in (np.int64, np.int32, np.int8, np.int64))).words(text)
    assert [text[a:b] for a, b in zip(words.starts, words.ends, strict=True)] == matching.WORD.findall(text)
    assert len(words.forms) == len(words.gaps) == len(words.starts)


@pytest.mark.parametrize(
    ("name", "plain", "cost"),
    [
        ("Asthma (disorder)", "Asthma", 0),
        ("Pneumonia NOS", "Pneumonia", 1),
        ("Gout, unspecified", "Gout", 1),
        ("Unspecified atrial fibrillation", "atrial fibrillation", 1),
        ("Pneumonia, unspecified organism", "Pneumonia", 1),
        ("Urinary tract infection, site not specified", "Urinary tract infection", 1),
        ("Apnea, not elsewhere classified", "Apnea", 1),
        ("Unspecified osteoarthritis, unspecified site", "osteoarthritis", 2),
        ("Unspecified fracture of femur, unspecified side, NOS", "fracture of femur", 3),
    ],
)
def test_marks_of_a_rest_are_taken_off(name, plain, cost):
    assert unmarked(name) == (plain, cost)


@pytest.mark.parametrize("name", ["Unspecified", "Other asthma", "Asthma, severe", "NOS"])
def test_what_names_no_rest_or_nothing_else_keeps_its_name(name):
    assert unmarked(name) is None
