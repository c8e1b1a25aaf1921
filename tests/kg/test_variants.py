from kg.dictionary import Dictionary
from kg.linking import Linker
from kg.variants import NONE, Variants, learn_variants
from tests.kg.test_linking import graph_of, read

ORGANS = ("artery", "cyst", "stone", "failure", "tumor")


def test_a_pair_of_words_is_learnt_from_several_concepts():
    names = [[["renal", organ], ["kidney", organ]] for organ in ORGANS]
    learnt = learn_variants(names)
    assert learnt.instead == {"renal": ("kidney",), "kidney": ("renal",)}
    assert dict(learnt.of(["kidney", "transplant"])) == {("renal", "transplant"): 1}
    assert learn_variants(names[:2]).instead == {}, "two concepts show nothing"
    unrelated = [[["renal", str(n)]] for n in range(40)] + [[["kidney", str(n)]] for n in range(40)]
    assert learn_variants([*names[:3], *unrelated]).instead == {}, "three of 43"


def test_what_is_left_says_enough_for_a_name():
    learnt = learn_variants([[["vs", organ], ["vasectrin", organ]] for organ in ORGANS])
    assert dict(learnt.of(["vasectrin", "peptide"])) == {("vs", "peptide"): 1}
    assert not dict(learnt.of(["vasectrin", "1"])), "vs 1 is no name in a table"


def test_words_that_synonyms_leave_out_may_be_missing():
    names = [[["abnorm", str(n), "morpholog"], ["abnorm", str(n)]] for n in range(12)]
    learnt = learn_variants(names)
    assert dict(learnt.of(["abnorm", "rib", "morpholog"]))["abnorm", "rib"] == 1
    assert not dict(NONE.of(["abnorm", "rib"]))


def test_a_text_may_say_it_in_the_other_word():
    concepts = [(f"C:{organ}", f"renal {organ}", ["T"], None) for organ in ORGANS]
    concepts += [("C:hair", "kidney hair", ["T"], None)]
    graph = graph_of(concepts, [(f"C:{organ}", f"kidney {organ}", "exact", "en", False) for organ in ORGANS])
    text = "Renal hair was seen."
    mention = Linker.build(graph)(text).mentions[0]
    assert (mention.concept_id, mention.score) == ("C:hair", 0.95)
    assert mention.candidates[0].signals == (("exchanged", 1.0), ("left out", 0.0))
    assert read(Linker.build(graph, variants=False)(text)) == []
    assert isinstance(Linker.build(graph)._dictionary, Dictionary)


def test_of_common_words_a_smaller_share_will_do():
    named = [[[other, str(n)] for other in ("neoplasm", "cancer")] for n in range(5)]
    alone = [[[word, f"{word} {n}"], [word]] for n in range(100) for word in ("neoplasm", "cancer")]
    assert learn_variants([*named, *alone]).instead["cancer"] == ("neoplasm",)
    assert learn_variants([*named[:4], *alone]).instead == {}, "four concepts are too few"
    assert learn_variants([*named, *alone, *alone[:200]]).instead == {}, "five of 205 are too few"
    symbols = [[[{"cancer": "ca", "neoplasm": "neo"}.get(w, w) for w in name] for name in some] for some in named]
    rest = [[[word, f"{word} {n}"], [word]] for n in range(100) for word in ("ca", "neo")]
    assert learn_variants([*symbols, *rest]).instead == {}, "short ones may be symbols"
    assert learn_variants([[["k", organ], ["4", organ]] for organ in ORGANS]).instead == {}, "letters stand for nothing"


def test_a_word_that_says_less_does_not_stand_for_one_that_says_more():
    named = [[["purinoceptor", str(n)], ["receptor", str(n)]] for n in range(6)]
    others = [[["receptor", f"x{n}"], [f"x{n}"]] for n in range(700)]
    assert learn_variants(named).instead == {"purinoceptor": ("receptor",), "receptor": ("purinoceptor",)}
    learnt = learn_variants([*named, *others])
    assert learnt.instead == {"receptor": ("purinoceptor",)}, "a purinoceptor is a receptor, not the other way round"


def test_a_lesion_is_an_abnormality_where_the_graph_speaks_so():
    head = Variants.head
    said = [[[head, organ], ["anomal", organ]] for organ in ORGANS]
    assert "lesion" in learn_variants(said).instead[head]
    assert learn_variants([[[head, organ], ["deform", organ]] for organ in ORGANS]).instead[head] == ("deform",)
