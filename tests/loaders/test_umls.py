"""UMLS and RxNorm: the worked rows of the direction rule, names, suppression, history, options."""

import gzip
import itertools
import json

import pytest

import kg
from loaders import InputError, MedgraftError
from loaders.options import Options
from loaders.semantic_groups import SEMANTIC_GROUPS
from loaders.umls import read_umls

# CUI1, REL, CUI2, RELA, SAB, DIR: public rows of sources without restrictions.
RELATIONS = [
    ("C0010692", "RO", "C0000294", "may_treat", "NDFRT", ""),  # mesna may treat cystitis
    ("C0000294", "RO", "C0010692", "may_be_treated_by", "NDFRT", ""),  # the same, from the other end
    ("C0003295", "RN", "C0012384", "isa", "MSH", ""),  # succimer is an antidote
    ("C1519837", "CHD", "C0000294", "isa", "NCI", ""),  # mesna is a uroprotective agent
    ("C0000294", "PAR", "C1519837", "inverse_isa", "NCI", ""),  # the same
    ("C0314604", "CHD", "C0079419", "Subsumed_By", "CBO", "Y"),  # TP53 is a human gene
    ("C0079419", "PAR", "C0314604", "Subsumes", "CBO", "N"),  # the same
    ("C0065541", "RO", "C0000294", "Is_Component_Of_Chemotherapy_Regimen", "NCI", ""),  # mesna is part of MAID
    ("C0000039", "PAR", "C1959616", "", "MSH", ""),  # phosphatidylcholines are the parent
    ("C0000039", "PAR", "C1959616", "", "NDFRT", ""),  # says a second source
    ("C1959616", "CHD", "C0000039", "", "MSH", ""),  # the same, from the other end
    ("C0000039", "SIB", "C0000294", "", "MSH", ""),
    ("C0000039", "AQ", "C0000294", "", "MSH", ""),
    ("C0000039", "RO", "C0000039", "", "MSH", ""),
    ("C0010692", "RO", "C0000039", "", "MSH", ""),
    ("C0000039", "RO", "C0010692", "", "MSH", ""),
]
FACTS = {
    ("C0000294", "may_treat", "C0010692"): ["NDFRT"],
    ("C0012384", "isa", "C0003295"): ["MSH"],
    ("C0000294", "isa", "C1519837"): ["NCI"],
    ("C0079419", "Subsumed_By", "C0314604"): ["CBO"],
    ("C0000294", "Is_Component_Of_Chemotherapy_Regimen", "C0065541"): ["NCI"],
    ("C0000039", "child_of", "C1959616"): ["MSH", "NDFRT"],
    ("C0000039", "other_related_to", "C0010692"): ["MSH"],
}
INVERSE = [("may_treat", "may_be_treated_by"), ("isa", "inverse_isa"), ("Subsumed_By", "Subsumes")]
CUIS = sorted({row[0] for row in RELATIONS} | {row[2] for row in RELATIONS})


def atom(cui, name, sab="MSH", lat="ENG", ts="P", stt="PF", ispref="Y", tty="PT", suppress="N", code="D1", aui="A1"):
    return f"{cui}|{lat}|{ts}|L1|{stt}|S1|{ispref}|{aui}||||{sab}|{tty}|{code}|{name}|0|{suppress}|256|"


def relation(row, suppress="N"):
    cui1, rel, cui2, rela, sab, dir_ = row
    return f"{cui1}|A1|AUI|{rel}|{cui2}|A2|AUI|{rela}|R1||{sab}|{sab}||{dir_}|{suppress}||"


def document():
    rows = [f"RELA|{a}|rela_inverse|{b}|" for pair in INVERSE for a, b in (pair, pair[::-1])]
    return [*rows, "RELA|may_treat|expanded_form|May treat|", "REL|CHD|rel_inverse|PAR|"]


def source(sab, restriction=0, current="Y"):
    terms = f"terms of {sab}||{restriction}|1|1||PT||ENG|UTF-8|{current}|Y|||"
    return f"C9|C9|{sab}_2025|{sab}|name|{sab}|2025|||2025AA||{terms}"


@pytest.fixture
def release(tmp_path):
    """Write a META folder from lists of lines by file."""

    def write(**lines):
        folder = tmp_path / "META"
        folder.mkdir(exist_ok=True)
        given = {"MRCONSO": [atom(cui, f"name of {cui}") for cui in CUIS], "MRDOC": document(), **lines}
        for name, rows in given.items():
            (folder / f"{name}.RRF").write_text("".join(f"{row}\n" for row in rows))
        return folder

    return write


def test_the_worked_rows_read_from_right_to_left_and_each_fact_is_there_once(release, tmp_path):
    report = kg.build(release(MRREL=map(relation, RELATIONS)), tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph:
        assert {tuple(triple): list(triple.sources) for triple in graph.triples()} == FACTS
        assert graph.manifest["inverses"]["may_treat"] == "may_be_treated_by"
        assert graph.manifest["inverses"]["Subsumed_By"] == "Subsumes"
    (account,) = [entry for entry in report.inputs if entry["name"] == "MRREL.RRF"]
    assert account["dropped"] == {
        "allowed qualifier (AQ)": 1,
        "both ends are atoms of one concept": 1,
        "sibling (SIB), which follows from the parents": 1,
    }
    assert account["read"] == len(RELATIONS)


def test_any_order_of_the_rows_gives_the_same_graph(release, tmp_path):
    prints = set()
    for number, order in enumerate(itertools.islice(itertools.permutations(RELATIONS), 0, 3_000, 1_499)):
        folder = release(MRREL=map(relation, order))
        prints.add(kg.build(folder, tmp_path / f"graph{number}").fingerprint)
    assert len(prints) == 1


def test_the_preferred_name(tables, release):
    atoms = [
        atom("C0000001", "flagged", ispref="Y"),
        atom("C0000001", "only ISPREF", ts="S"),
        atom("C0000001", "only TS", stt="VO"),
        atom("C0000002", "tie of low rank", sab="ZZZ", tty="XX"),
        atom("C0000002", "tie of high rank", sab="NCI", tty="PT"),
        atom("C0000003", "suppressed but flagged", suppress="O"),
        atom("C0000004", "französisch", lat="FRE"),
        atom("C0000004", "second in alphabet", ts="S"),
        atom("C0000004", "first in alphabet", ts="S"),
        atom("C0000005", "NA"),
        atom("C0000006", 'a "quote and\u2028a line'),
    ]
    rows, account = tables(read_umls, release(MRCONSO=atoms, MRRANK=["0400|NCI|PT|N|", "0001|ZZZ|XX|N|"]))
    assert {row["id"]: row["name"] for row in rows["concepts"]} == {
        "C0000001": "flagged",
        "C0000002": "tie of high rank",
        "C0000003": "suppressed but flagged",
        "C0000004": "first in alphabet",
        "C0000005": "NA",
        "C0000006": 'a "quote and\u2028a line',
    }
    assert sorted(row["name"] for row in rows["names"]) == sorted(line.split("|")[14] for line in atoms)
    kinds = [row["kind"] for row in rows["names"]]
    assert kinds.count("preferred") == 6 and {row["language"] for row in rows["names"]} == {"en", "fr"}
    assert [row["suppressed"] for row in rows["names"] if row["concept_id"] == "C0000003"] == [True]


def test_types_definitions_codes_and_history(release, tmp_path):
    folder = release(
        MRCONSO=[
            atom("C0000001", "one", sab="SNOMEDCT_US", code="123"),
            atom("C0000001", "uno", sab="HPO", code="HP:0000001", ts="S"),
            atom("C0000001", "eins", sab="MTH", code="NOCODE", ts="S"),
        ],
        MRSTY=["C0000001|T047|B2|Disease or Syndrome|AT1||", "C0000001|T184|A2|Sign or Symptom|AT2||"],
        MRDEF=[
            "C0000001|A1|AT1||MSH|by MeSH|N||",
            "C0000001|A1|AT1||NCI|by NCI|N||",
            "C0000001|A1|AT1||NCI|obsolete|O||",
        ],
        MRCUI=["C0000007|2001AA|DEL||||Y|", "C0000008|2002AA|RB|||C0000001|Y|"],
        MERGEDCUI=["C0000009|C0000001"],
        DELETEDCUI=["C0000010|gone|"],
    )
    kg.build(folder, tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph:
        concept = graph.concept("C0000009")
        assert (concept.id, concept.types, concept.definition) == (
            "C0000001",
            ("Disease or Syndrome", "Sign or Symptom"),
            "by NCI",
        )
        assert graph.table("mappings").column("object").to_pylist() == ["HP:0000001", "SNOMEDCT:123"]
        assert graph.table("attributes").column("value").to_pylist() == ["by MeSH", "by NCI"]
        with pytest.raises(MedgraftError, match=r"retired without successor \(bequeathed in 2002AA to C0000001 \(RB\)"):
            graph.concept("C0000008")
        for gone in ("C0000007", "C0000010"):
            with pytest.raises(MedgraftError, match="deleted in"):
                graph.concept(gone)


def test_options(tables, release):
    folder = release(
        MRCONSO=[
            atom("C0000001", "one", sab="MSH"),
            atom("C0000001", "dos", sab="MSHSPA", lat="SPA", ts="S"),
            atom("C0000002", "two", sab="SNOMEDCT_US"),
            atom("C0000002", "old two", sab="SNOMEDCT_US", suppress="O", ts="S"),
        ],
        MRSTY=["C0000001|T047|B2|Disease or Syndrome|AT1||", "C0000002|T121|A1|Pharmacologic Substance|AT2||"],
        MRSAB=[source("MSH"), source("MSHSPA", 3), source("SNOMEDCT_US", 9), source("MSH", 0, "N")],
        MRSAT=["C0000001|||A1|AUI|D1|AT1||MN|MSH|C10|N||", "C0000001|||A1|AUI|D1|AT1||XX|MSH|no|N||"],
        MRHIER=["C0000001|A1|1||MSH||A2.A3|||"],
        MRREL=[relation(("C0000001", "RO", "C0000002", "", "MSH", "")), relation(RELATIONS[0], "Y")],
    )

    def names(**options):
        rows, _ = tables(read_umls, folder, Options(**options))
        return sorted(row["name"] for row in rows["names"])

    assert names() == ["dos", "old two", "one", "two"]
    assert names(languages=("es",)) == ["dos"]
    assert names(sources=("MSH",)) == ["one"]
    assert names(max_restriction=3) == ["dos", "one"]
    assert names(suppressed=False) == ["dos", "one", "two"]
    assert names(types=("T047",)) == names(types=("DISO",)) == names(types=("Disease or Syndrome",)) == ["dos", "one"]
    rows, account = tables(read_umls, folder, Options(attributes=("MN",), hierarchy=True))
    assert [(row["attribute"], row["value"]) for row in rows["attributes"]] == [
        ("MN", "C10"),
        ("path_to_root", "A2.A3"),
    ]
    assert account.release == "2025AA" and {row["source"] for row in rows["sources"]} == {
        "MSH",
        "MSHSPA",
        "SNOMEDCT_US",
    }
    for wrong in ({"sources": ("MESH",)}, {"types": ("nonsense",)}):
        with pytest.raises(MedgraftError, match="no source 'MESH'|no semantic type 'nonsense'"):
            names(**wrong)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            {"MRCONSO": [atom("C0000001", "one"), "C0000002|ENG"]},
            "MRCONSO.RRF, line 2: 2 fields where",
        ),
        ({"MRCONSO": [atom("c1", "one")]}, "MRCONSO.RRF, line 1: CUI is not an id"),
        ({"MRREL": [relation(("C0000001", "??", "C0000002", "", "MSH", ""))]}, "line 1: neither RELA nor a"),
        ({"MRREL": ["C0000001|a|b"]}, "MRREL.RRF, line 1: 3 fields"),
    ],
)
def test_bad_rows_are_named_or_counted(lines, message, tables, release):
    folder = release(**lines)
    with pytest.raises(InputError, match=message):
        tables(read_umls, folder)
    _, account = tables(read_umls, folder, Options(skip_bad=True))
    assert sum(sum(part.dropped.values()) for part in account.parts) == 1


def test_a_folder_without_names(release, tmp_path):
    folder = release(MRREL=map(relation, RELATIONS))
    (folder / "MRCONSO.RRF").unlink()
    with pytest.raises(InputError, match="holds no MRCONSO.RRF; give the folder with all RRF files"):
        kg.build(folder, tmp_path / "graph")


@pytest.mark.parametrize("cut", ["between", "within"])
def test_a_file_in_parts(release, tmp_path, cut):
    folder = release()
    kg.build(folder, tmp_path / "whole")
    whole = (folder / "MRCONSO.RRF").read_bytes()
    (folder / "MRCONSO.RRF").unlink()
    packed = gzip.compress(whole)
    halves = (gzip.compress(whole[:50]), gzip.compress(whole[50:])) if cut == "between" else (packed[:40], packed[40:])
    for end, text in zip(("aa", "ab"), halves, strict=True):
        (folder / f"MRCONSO.RRF.{end}.gz").write_bytes(text)
    report = kg.build(folder, tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph, kg.connect(tmp_path / "whole") as expected:
        assert graph.fingerprint == expected.fingerprint
    assert "MRCONSO.RRF" in str(report)
    (folder / "MRCONSO.RRF.aa.gz").rename(folder / "MRCONSO.RRF.ac.gz")
    with pytest.raises(InputError, match="part MRCONSO.RRF.aa is missing; fetch all parts"):
        kg.build(folder, tmp_path / "graph")


def test_columns_come_from_mrfiles(tables, release):
    line = "SAB|STR|CUI|LAT|TS|LUI|STT|SUI|ISPREF|AUI|SAUI|SCUI|SDUI|TTY|CODE|SRL|SUPPRESS|CVF".replace("|", ",")
    folder = release(
        MRFILES=[f"MRCONSO.RRF|names|{line}|18|1|1|"],
        MRCONSO=["MSH|the name|C0000001|ENG|P|L1|PF|S1|Y|A1||||PT|D1|0|N||"],
    )
    rows, _ = tables(read_umls, folder)
    assert rows["concepts"][0]["name"] == "the name"


def test_the_mini_release(data, tables):
    rows, account = tables(read_umls, data("graph/umls_rrf_mini/umls_META"))
    assert {row["id"]: row["name"] for row in rows["concepts"]} == {
        "C0000005": "(131)I-Macroaggregated Albumin",
        "C0000039": "1,2-Dipalmitoylphosphatidylcholine",
    }
    assert [part.kept for part in account.parts] == [3, 1, 3] and len(rows["names"]) == 3
    types = {type_ for row in rows["concepts"] for type_ in row["types"]}
    assert types == {"Amino Acid, Peptide, or Protein", "Organic Chemical", "Pharmacologic Substance"}


def test_rxnorm(tmp_path):
    folder = tmp_path / "rrf"
    folder.mkdir()

    def rx(cui, name, tty, sab="RXNORM", aui="1", suppress="N"):
        return f"{cui}|ENG||||||{aui}||||{sab}|{tty}|{cui}|{name}||{suppress}|4096|"

    def rel(cui1, aui1, rel_, cui2, aui2, rela):
        return f"{cui1}|{aui1}|CUI|{rel_}|{cui2}|{aui2}|CUI|{rela}|1||RXNORM|RXNORM|||N|4096|"

    (folder / "RXNCONSO.RRF").write_text(
        "\n".join(
            [
                rx(161, "acetaminophen", "IN", aui="1"),
                rx(161, "APAP", "SY", aui="2"),
                rx(161, "Acetaminophen 1 by others", "PT", sab="MMSL", aui="3"),
                rx(202433, "Tylenol", "BN", aui="4"),
            ]
        )
    )
    (folder / "RXNREL.RRF").write_text(
        "\n".join(
            [
                rel(161, "", "RO", 202433, "", "tradename_of"),
                rel(202433, "", "RO", 161, "", "has_tradename"),
                rel("", 1, "RO", "", 4, "tradename_of"),
                rel("", 1, "RO", "", 99, "tradename_of"),
            ]
        )
    )
    (folder / "RXNDOC.RRF").write_text("RELA|has_tradename|rela_inverse|tradename_of|\n")
    report = kg.build(folder, tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph:
        assert graph.concept("RXNORM:161").name == "acetaminophen"
        assert [tuple(triple) for triple in graph.triples()] == [("RXNORM:161", "has_tradename", "RXNORM:202433")]
    (account,) = [entry for entry in report.inputs if entry["name"] == "RXNREL.RRF"]
    assert account["dropped"] == {"an end that is the atom of no concept": 1}


@pytest.mark.parametrize(
    ("rel", "fact"),
    [
        ("CHD", ("C0000002", "child_of", "C0000001")),
        ("PAR", ("C0000001", "child_of", "C0000002")),
        ("RN", ("C0000002", "narrower_than", "C0000001")),
        ("RB", ("C0000001", "narrower_than", "C0000002")),
        ("RO", ("C0000001", "other_related_to", "C0000002")),
        ("RQ", ("C0000001", "possibly_synonymous_with", "C0000002")),
        ("SY", ("C0000001", "source_synonym_of", "C0000002")),
        ("RL", ("C0000001", "similar_to", "C0000002")),
        ("RU", ("C0000001", "unspecified_related_to", "C0000002")),
        ("XR", ("C0000001", "not_related_to", "C0000002")),
    ],
)
def test_relations_without_a_name_of_their_own(rel, fact, release, tmp_path):
    turned = {"CHD": "PAR", "PAR": "CHD", "RN": "RB", "RB": "RN"}.get(rel, rel)
    rows = [("C0000001", rel, "C0000002", "", "MSH", ""), ("C0000002", turned, "C0000001", "", "NCI", "")]
    names = [atom("C0000001", "one"), atom("C0000002", "two")]
    for number, given in enumerate((rows[:1], rows[1:], rows)):
        report = kg.build(release(MRCONSO=names, MRREL=map(relation, given)), tmp_path / f"graph{number}")
        with kg.connect(tmp_path / f"graph{number}") as graph:
            assert [tuple(triple) for triple in graph.triples()] == [fact]
            assert list(graph.triples()[0].sources) == sorted(row[4] for row in given)
    assert report.merging["triples"]["merged"] == 1


def test_of_relations_only_the_obsolete_are_dropped_unless_asked(release, tables):
    rows = [relation(("C0000001", "RO", "C0000002", f"r{flag}", "MSH", ""), flag) for flag in "NYEO"]
    names = [atom("C0000001", "one"), atom("C0000002", "two")]
    folder = release(MRCONSO=names, MRREL=rows)
    kept, account = tables(read_umls, folder)
    assert [row["relation"] for row in kept["triples"]] == ["rN", "rY", "rE"]
    assert account.parts[-1].dropped == {"obsolete (SUPPRESS=O)": 1}
    kept, account = tables(read_umls, folder, Options(suppressed=False))
    assert [row["relation"] for row in kept["triples"]] == ["rN"]
    assert account.parts[-1].dropped == {"obsolete (SUPPRESS=O)": 1, "suppressed (SUPPRESS=E or Y)": 2}


def test_the_direction_that_a_source_asserts_is_kept(release, tmp_path):
    document = ["RELA|has_site|rela_inverse|a_site_of|", "RELA|a_site_of|rela_inverse|has_site|"]
    names = [atom("C0000001", "one"), atom("C0000002", "two")]
    rows = [
        ("C0000002", "RO", "C0000001", "has_site", "NCI", ""),
        ("C0000001", "RO", "C0000002", "a_site_of", "NCI", ""),
    ]
    for number, (dir_, kept) in enumerate((("", "a_site_of"), ("Y", "has_site"))):
        marked = [(*rows[0][:5], dir_), (*rows[1][:5], "N" if dir_ else "")]
        kg.build(release(MRCONSO=names, MRDOC=document, MRREL=map(relation, marked)), tmp_path / f"graph{number}")
        with kg.connect(tmp_path / f"graph{number}") as graph:
            ends = ("C0000001", "C0000002") if kept == "has_site" else ("C0000002", "C0000001")
            assert [tuple(triple) for triple in graph.triples()] == [(ends[0], kept, ends[1])]


def test_the_groups_hold_every_semantic_type_once(data):
    known = json.loads(data("graph/semantic_network/TUI2STR.json").read_text())
    grouped = " ".join(SEMANTIC_GROUPS.values()).split()
    assert sorted(grouped) == sorted(known) and len(grouped) == 127
