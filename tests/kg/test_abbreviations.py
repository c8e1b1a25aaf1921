import spacy
from scispacy.abbreviation import AbbreviationDetector

from kg.abbreviations import abbreviations


def read(text):
    return [(text[slice(*short)], text[slice(*long)]) for short, long in abbreviations(text).items()]


def test_they_are_scispacys():
    nlp = spacy.blank("en")
    detector = AbbreviationDetector(nlp)
    for text in (
        "Neurofibromatosis type 2 (NF-2) and absent radius (AR); (see (a)) AR with NF-2 (the NF-2 gene) in AR.",
        "A vestibular schwannoma (VS) was seen. The VS grew.",
        "Patients with CAIS (complete androgen insensitivity syndrome) and no CAIS.",
        "Nevoid basal cell carcinoma syndrome (NBCCS) is a genodermatosis.",
    ):
        theirs = [(s.text, s._.long_form.text) for s in sorted(detector(nlp(text))._.abbreviations)]
        assert theirs and read(text) == theirs


def test_beyond_scispacy():
    assert read("absence seizures (ASs): an AS, two ASs, AS-3, LAS") == [("ASs", "absence seizures")] + [
        ("AS", "absence seizures"), ("ASs", "absence seizures"),
    ]  # fmt: skip
    assert read("mental retardation (MR, 7 of 9)")[0] == ("MR", "mental retardation")
    assert read("found in organs (in) nothing (see below) a b (1)") == []


def test_odd_texts():
    for text in (
        "",
        "(",
        "()",
        "(AB)",
        " (AB)",
        "(" * 10_000,
        "() " * 10_000,
        "(ab) " * 5_000,
        "a" * 100_000 + " (AB)",
    ):
        assert abbreviations(text) == {}
