import pytest

from kg.linking import Linker
from kg.mentions import Settings
from tests.kg.test_linking import graph_of

NAMES = {
    "C:1": "short thumb", "C:2": "broad thumb", "C:3": "type 1 diabetes", "C:4": "type 2 diabetes",
    "C:5": "cleft lip", "C:6": "cleft palate", "C:7": "renal anomaly", "C:8": "otic anomaly",
    "C:9": "branchial anomaly", "C:10": "hypoplasia of the thumb", "C:11": "gastric ulcer", "C:12": "hearing loss",
    "C:13": "colitis", "C:14": "ulcerative colitis", "C:15": "loss", "C:16": "kidney malformation",
    "C:17": "collecting system malformation", "C:18": "collecting", "C:19": "preauricular pit", "C:20": "auricular pit",
    "C:21": "non-compaction", "C:22": "submission loss",
    "C:23": "face anomaly", "C:24": "flat face", "C:25": "posterior subcapsular cataract", "C:26": "capsular cataract",
    "C:27": "cortical cataract", "C:28": "posterior cortical cataract",
}  # fmt: skip


@pytest.fixture(scope="module")
def linker():
    return Linker.build(graph_of([(i, n, ["T"], None) for i, n in NAMES.items()], []))


def found(linker, text, **settings):
    linker.settings = Settings(**settings)
    return [(m.text_in(text), m.concept_id) for m in linker(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("short and broad thumbs", [("short thumbs", "C:1"), ("broad thumbs", "C:2")]),
        ("type 1 and 2 diabetes", [("type 1 diabetes", "C:3"), ("type 2 diabetes", "C:4")]),
        ("cleft lip and palate", [("cleft lip", "C:5"), ("cleft palate", "C:6")]),
        ("cleft lip/palate", [("cleft lip", "C:5"), ("cleft palate", "C:6")]),
        (
            "branchial, otic and renal anomalies",
            [("branchial anomalies", "C:9"), ("otic anomalies", "C:8"), ("renal anomalies", "C:7")],
        ),
        ("short stature. And broad thumbs", [("broad thumbs", "C:2")]),
        ("hearing loss and renal anomaly", [("hearing loss", "C:12"), ("renal anomaly", "C:7")]),
        (
            "malformation of the kidney or collecting system",
            [
                ("malformation of the kidney", "C:16"),
                ("malformation collecting system", "C:17"),
                ("collecting", "C:18"),
            ],
        ),
    ],
)
def test_conjuncts_get_the_words_they_share(linker, text, wanted):
    assert sorted(found(linker, text)) == sorted(wanted)
    assert len(found(linker, text, coordination=False)) <= len(wanted)


def test_what_an_article_begins_is_a_phrase_of_its_own(linker):
    assert found(linker, "an anomaly and a flat face") == [("flat face", "C:24")]


@pytest.mark.parametrize("link", ["with", "of", "in"])
def test_no_end_is_borrowed_from_behind_a_function_word(linker, link):
    """Not "hearing loss": the words between are another phrase."""
    assert found(linker, f"his hearing and slow recovery {link} loss") == [("loss", "C:15")]


def test_a_conjunct_gets_its_end_from_the_nearest_that_gives_one(linker):
    text = "posterior subcapsular or capsular cataract and cortical cataract"
    wanted = [("posterior subcapsular cataract", "C:25"), ("capsular cataract", "C:26"), ("cortical cataract", "C:27")]
    assert found(linker, text) == wanted


def test_discontinuous_mentions_report_their_parts(linker):
    linker.settings = Settings()
    mention = linker("The short and broad thumbs.").mentions[0]
    assert (mention.start, mention.end, mention.parts) == (4, 26, ((4, 9), (20, 26)))


def test_a_modifier_may_stand_inside_a_mention(linker):
    text = "hypoplasia of the left thumb, gastric hemorrhagic ulcers"
    assert found(linker, text) == [("hypoplasia of the left thumb", "C:10"), ("gastric hemorrhagic ulcers", "C:11")]
    assert found(linker, text, gaps=False) == []
    assert found(linker, "gastric vomiting ulcer, gastric and duodenal ulcer", coordination=False) == []


def test_of_nested_mentions_those_that_the_longer_one_is_a_kind_of(linker):
    text = "ulcerative colitis, hearing loss"
    assert len(found(linker, text, nested=True)) == 4
    graph = graph_of([(i, n, ["T"], None) for i, n in NAMES.items()], [])
    tables = {"triples": {"head": ["C:14"], "relation": ["is_a"], "tail": ["C:13"]}}
    kinds = Linker.build(with_tables(graph, tables), nested="kinds")
    assert [m.concept_id for m in kinds(text)] == ["C:14", "C:13", "C:12"]
    assert found(linker, text, nested="kinds") == found(linker, text), "a graph without hierarchy has no kinds"
    shared = [id for _, id in found(linker, "malformation of the kidney or collecting system", nested="kinds")]
    assert shared == ["C:16", "C:17"], "what lies in a part of a mention lies in the mention"


def test_a_prefix_may_be_written_apart_or_as_one_with_its_word(linker):
    assert found(linker, "pre-auricular pits") == [("pre-auricular pits", "C:19")]
    assert found(linker, "noncompaction") == [("noncompaction", "C:21")]
    assert found(linker, "pre-auricular, loss of sub mission") == [("loss", "C:15")], "mission is no word of a name"


def test_coherence_with_the_rest_of_the_document_decides_between_equals():
    concepts = [("C:1", "cold", ["T"], None), ("C:2", "cold", ["T"], None), ("C:3", "fever", ["T"], None)]
    concepts += [("C:4", "infection", ["T"], None)]
    triples = {"head": ["C:2", "C:3"], "relation": ["is_a"] * 2, "tail": ["C:4"] * 2}
    linker = Linker.build(with_tables(graph_of(concepts, []), {"triples": triples}))
    assert [m.concept_id for m in linker("cold and fever")] == ["C:2", "C:3"]
    assert [m.concept_id for m in linker("cold")] == ["C:1"]
    (off,) = linker.pipe(["cold and fever"], coherence=False)
    assert [m.concept_id for m in off] == ["C:1", "C:3"]
    (context,) = linker.pipe(["cold"], context=lambda text, spans, ids: [[float(i == "C:2") for i in c] for c in ids])
    assert context.mentions[0].concept_id == "C:2" and ("context", 1.0) in context.mentions[0].candidates[0].signals
    (collapsed,) = linker.pipe(["cold and fever"], collapsed=True)
    assert [m.concept_id for m in collapsed] == ["C:2", "C:3"]


def with_tables(graph, tables):
    from types import SimpleNamespace

    import pyarrow as pa

    made = {name: pa.table(table) for name, table in tables.items()}
    return SimpleNamespace(table=lambda name: made[name] if name in made else graph.table(name), fingerprint="a" * 64)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("absence seizures", [("absence seizures", "A:1", ())]),
        ("no seizures", [("seizures", "A:2", ("negated",))]),
        ("absence of seizures", [("seizures", "A:2", ("negated",))]),
        ("ABSENCE OF SEIZURES", [("SEIZURES", "A:2", ("negated",))]),
        ("absence or atonic seizures", [("absence seizures", "A:1", ()), ("atonic seizures", "A:7", ())]),
        ("Absence of a tooth", [("Absence of a tooth", "A:3", ())]),
        ("absent teeth", [("absent teeth", "A:3", ())]),
        ("no teeth", [("no teeth", "A:3", ())]),
        ("tooth absence", [("tooth absence", "A:3", ())]),
    ],
)
def test_an_absence_seizure_is_no_absent_seizure(text: str, wanted: list[tuple[str, str, tuple[str, ...]]]) -> None:
    pairs = [("A:3", "Absent tooth", "No tooth"), ("A:4", "Absent speech", "No speech")]
    pairs += [("A:5", "Absent reflex", "No reflex"), ("A:6", "Absent pulse", "No pulse")]  # these license the exchange
    concepts = [("A:1", "Absence seizure", ["T"], None), ("A:2", "Seizure", ["T"], None)]
    concepts += [("A:7", "Atonic seizure", ["T"], None), *((id, name, ["T"], None) for id, name, _ in pairs)]
    synonyms = [(id, other, "exact", "en", False) for id, _, other in pairs]
    mentions = Linker.build(graph_of(concepts, [*synonyms, ("A:3", "Absence of a tooth", "exact", "en", False)]))(text)
    assert [(m.text_in(text), m.concept_id, m.assertion) for m in mentions] == wanted
