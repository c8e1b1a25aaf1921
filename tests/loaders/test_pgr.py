"""PGR tables: labels, verdicts, offsets, and the published counts of the real files."""

import pytest

from loaders.corpus import read_corpus
from loaders.errors import InputError
from loaders.pgr import HEADER, RELATION, read_pgr
from loaders.records import Mention, Relation

COLUMNS = HEADER + "GENE_START_POSITION\tGENE_END_POSITION\tPHENOTYPE_START_POSITION\tPHENOTYPE_END_POSITION\tRELATION"
ROW = "12\tAA and BRCA1 in cancer &lt; AA\t{}\tcancer\t7\tHP_0002664\t{}\t{}\t16\t22\t{}"


def write(tmp_path, *rows, header=COLUMNS):
    path = tmp_path / "pgr.tsv"
    path.write_text("\r\n".join([header, *rows]) + "\r\n")
    return path


def test_a_row_is_a_document(tmp_path):
    (document,) = read_corpus(write(tmp_path, ROW.format("BRCA1", 7, 12, "True")))
    assert document.id == "12-2"
    assert document.mentions == (
        Mention(7, 12, "Gene", "NCBIGene:7"),
        Mention(16, 22, "Phenotype", "HP:0002664"),
    )
    assert document.relations == (Relation("NCBIGene:7", RELATION, "HP:0002664"),)


@pytest.mark.parametrize(("stated", "start"), [(0, 0), (3, 0), (20, 28), (99, 28)])
def test_offsets_are_moved_to_the_nearest_place(stated, start, tmp_path):
    (document,) = read_pgr(write(tmp_path, ROW.format("AA", stated, stated + 2, "FALSE")))
    gene = next(m for m in document.mentions if m.type == "Gene")
    assert document.text[gene.start : gene.end] == "AA" and gene.start == start
    assert not document.relations


@pytest.mark.parametrize(
    ("label", "verdict", "related"),
    [("True", "C", 1), ("True", "I", 0), ("FALSE", "C", 0), ("False", "I", 1), ("True", "U", None)],
)
def test_a_verdict_puts_the_label_right(label, verdict, related, tmp_path):
    row = ROW.format("BRCA1", 7, 12, label) + f"\t{verdict}"
    found = [len(d.relations) for d in read_pgr(write(tmp_path, row, header=COLUMNS + "\tCONFIRMATION"))]
    assert found == ([] if related is None else [related])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\ttext", "2 fields"),
        (ROW.format("BRCA1", 7, 12, "perhaps"), "neither True nor False"),
    ],
)
def test_bad_rows_name_their_line(row, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        list(read_pgr(write(tmp_path, row)))
    assert "line 2" in str(error.value)


def test_a_name_that_is_not_there_gets_no_mention(tmp_path):
    (document,) = read_pgr(write(tmp_path, ROW.format("BRCA2", 7, 12, "True")))
    assert [m.type for m in document.mentions] == ["Phenotype"]
    assert len(document.relations) == 1


def test_the_published_counts(data):
    folder = data("text/pgr")
    counts, missing = {}, 0
    for name in ("10_12_2018_corpus/train.tsv.gz", "10_12_2018_corpus/test.tsv", "11_03_2019_corpus/train.tsv.gz"):
        documents = list(read_pgr(folder / name))
        missing += sum(len(d.mentions) < 2 for d in documents)
        counts[name.split("_corpus/")[0] + name[-8:]] = (len(documents), sum(len(d.relations) for d in documents))
    assert counts == {
        "10_12_2018n.tsv.gz": (4083, 1443),
        "10_12_2018test.tsv": (219, 152),
        "11_03_2019n.tsv.gz": (7963, 2480),
    }
    assert missing == 5
