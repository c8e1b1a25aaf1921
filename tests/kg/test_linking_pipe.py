import shutil

import pytest
import spacy
from scispacy.linking import EntityLinker

from kg.linking import Linker
from kg.linking_pipe import GraphCandidateGenerator
from loaders.errors import MedgraftError
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
    doc = spacy.blank("en")("absence seizures, heart trouble")
    doc.ents = [doc.char_span(8, 16, label="MINE")]
    assert [(e.text, e.label_) for e in linker.component()(doc).ents] == [("seizures", "MINE")], (
        "heart trouble has no name"
    )
    assert linker.component(mentions=False)(spacy.blank("en")("seizures")).ents == ()


def pipeline(folder):
    nlp = spacy.blank("en")
    nlp.add_pipe("medgraft_linker", config={"folder": str(folder), "k": 5})
    return nlp


def found(doc):
    return [(e.text, e._.kb_ents[0][0], e._.negated, e._.family) for e in doc.ents]


def test_what_the_text_denies_is_marked(linker, tmp_path):
    linker.save(tmp_path / "linker")
    doc = pipeline(tmp_path / "linker")("No seizures. Her mother had an acoustic neuroma.")
    assert found(doc) == [("seizures", "DIS:1", True, False), ("acoustic neuroma", "HP:3", False, True)]


def test_several_processes_and_a_saved_pipeline_find_the_same(linker, tmp_path):
    linker.save(tmp_path / "linker")
    nlp = pipeline(tmp_path / "linker")
    texts = [f"{n} No seizures, absence seizures 🫀." for n in range(6)]
    alone = [found(nlp(text)) for text in texts]
    assert [found(doc) for doc in nlp.pipe(texts, n_process=2, batch_size=2)] == alone
    nlp.to_disk(tmp_path / "pipeline")
    shutil.rmtree(tmp_path / "linker")
    assert [found(doc) for doc in spacy.load(tmp_path / "pipeline").pipe(texts)] == alone


def test_without_a_linker_it_says_so():
    with pytest.raises(MedgraftError, match="from_disk"):
        pipeline("nowhere")("seizures")
