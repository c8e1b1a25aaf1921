import pytest
import spacy
from scispacy.linking import EntityLinker

from kg.linking import Linker
from kg.linking_pipe import GraphCandidateGenerator
from tests.kg.test_linking import GRAPH


@pytest.fixture(scope="module")
def linker():
    return Linker.build(GRAPH)


def test_scispacy_users_find_links_where_they_expect_them(linker, tmp_path):
    linker.save(tmp_path / "linker")
    nlp = spacy.blank("en")
    nlp.add_pipe("abbreviation_detector")
    nlp.add_pipe("medgraft_linker", config={"folder": str(tmp_path / "linker"), "k": 5})
    doc = nlp("A vestibular schwannoma (VS) and 🫀 seizures.")
    assert [(e.text, e.label_, e._.kb_ents[0]) for e in doc.ents] == [
        ("vestibular schwannoma", "Phenotype", ("HP:3", 1.0)),
        ("VS", "Phenotype", ("HP:3", 1.0)),
        ("seizures", "Disease", ("DIS:1", 1.0)),
    ]
    plain = EntityLinker(candidate_generator=GraphCandidateGenerator(linker), filter_for_definitions=False)
    assert plain.kb.cui_to_entity["HP:3"].aliases == ["Acoustic neuroma", "Vestibular schwannoma"]
    doc = spacy.blank("en")("seizures")
    doc.ents = [doc.char_span(0, 8, label="X")]
    assert plain(doc).ents[0]._.kb_ents[:2] == [("DIS:1", 1.0), ("HP:1", 1.0)]
    assert GraphCandidateGenerator(linker)([], 5) == []


def test_entities_of_the_pipeline_keep_their_place(linker):
    doc = spacy.blank("en")("absence seizures, heart anomaly")
    doc.ents = [doc.char_span(8, 16, label="MINE")]
    assert [(e.text, e.label_) for e in linker.component()(doc).ents] == [("seizures", "MINE")], (
        "heart anomaly has no name"
    )
    assert linker.component(mentions=False)(spacy.blank("en")("seizures")).ents == ()
