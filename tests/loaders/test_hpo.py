"""HPO annotations: what is absent is never a fact, evidence is JSON, a slow line-by-line reading is the judge."""

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import compress
from operator import not_
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import Account, InputError, detect_format
from loaders.hpo import RELATIONS, read_genes_to_phenotype, read_hpoa
from loaders.options import Options

HEADER = (
    "database_id\tdisease_name\tqualifier\thpo_id\treference\tevidence\tonset\tfrequency\tsex\tmodifier\taspect"
    "\tbiocuration\n"
)
ROW = "OMIM:1\tName\t\tHP:0000001\tPMID:1\tPCS\t\t\t\t\tP\tx\n"


def facts(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["head"], row["relation"], row["tail"]) for row in rows]


def test_annotations_by_aspect_and_absence(tables: Callable[..., Any], mini: Path) -> None:
    rows, account = tables(read_hpoa, mini / "mini.hpoa")
    assert (account.read, account.kept, account.release) == (15, 14, "2031-01-01")
    assert account.dropped == {"no patient was examined (frequency 0/0)": 1}
    assert facts(rows["triples"]) == [
        ("OMIM:1", "has_phenotype", "HP:9000002"),
        ("OMIM:1", "has_phenotype", "HP:9000003"),
        ("OMIM:1", "has_phenotype", "HP:9000004"),
        ("OMIM:1", "has_mode_of_inheritance", "HP:9000006"),
        ("OMIM:1", "has_clinical_course", "HP:9000007"),
        ("OMIM:1", "has_modifier", "HP:9000008"),
        ("OMIM:1", "has_past_medical_history", "HP:9000009"),
        ("ORPHA:2", "has_phenotype", "HP:9000008"),
    ]
    assert [tail for _, _, tail in facts(rows["exclusions"])] == [f"HP:900000{n}" for n in (2, 3, 4, 5, 6, 9)]


def test_evidence_is_json_without_empty_keys(tables: Callable[..., Any], mini: Path) -> None:
    rows, _ = tables(read_hpoa, mini / "mini.hpoa")
    evidence = [row["evidence"] for row in rows["triples"] + rows["exclusions"]]
    assert [json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False) for text in evidence] == evidence
    assert json.loads(evidence[0]) == {
        "evidence": "PCS",
        "frequency": "3/4",
        "frequency_value": 0.75,
        "modifier": "HP:9000012;HP:9000013",
        "onset": "HP:9000011",
        "reference": "PMID:1",
        "sex": "MALE",
    }
    assert json.loads(evidence[1])["frequency_value"] == 0.765
    assert json.loads(evidence[2]) == {"evidence": "PCS", "frequency": "HP:0040282", "reference": "PMID:1"}
    assert json.loads(evidence[7])["reference"] == 'a "quoted\\" note'


def test_a_disease_has_its_first_name_and_the_others_as_aliases(tables: Callable[..., Any], mini: Path) -> None:
    rows, _ = tables(read_hpoa, mini / "mini.hpoa")
    assert [(row["id"], row["name"], row["types"]) for row in rows["concepts"]] == [
        ("OMIM:1", "Wobble disease", ["Disease"]),
        ("ORPHA:2", "NA", ["Disease"]),
    ]
    assert [(row["name"], row["kind"]) for row in rows["names"]] == [
        ("Wobble disease", "preferred"),
        ("wobble Disease", "exact"),
        ("NA", "preferred"),
    ]


def test_genes_have_phenotypes_exclusions_and_diseases(tables: Callable[..., Any], mini: Path) -> None:
    rows, account = tables(read_genes_to_phenotype, mini / "mini_genes_to_phenotype.txt")
    assert (account.read, account.kept) == (7, 7)
    assert facts(rows["triples"]) == [
        ("NCBIGene:10", "associated_with_disease", "OMIM:1"),
        ("NCBIGene:10", "associated_with_disease", "ORPHA:2"),
        ("NCBIGene:11", "associated_with_disease", "OMIM:1"),
        ("NCBIGene:10", "associated_with_phenotype", "HP:9000002"),
        ("NCBIGene:10", "associated_with_phenotype", "HP:9000003"),
        ("NCBIGene:11", "associated_with_phenotype", "HP:9000002"),
        ("NCBIGene:11", "associated_with_phenotype", "HP:9000004"),
    ]
    assert [(head, tail) for head, _, tail in facts(rows["exclusions"])] == [
        ("NCBIGene:10", "HP:9000004"),
        ("NCBIGene:10", "HP:9000002"),
        ("NCBIGene:11", "HP:9000003"),
    ]
    assert [row["evidence"] for row in rows["triples"][3:5]] == [
        '{"disease": "OMIM:1"}',
        '{"disease": "OMIM:1", "frequency": "3/4", "frequency_value": 0.75}',
    ]
    assert [(row["concept_id"], row["name"]) for row in rows["names"]] == [
        ("NCBIGene:10", "WOB1"),
        ("NCBIGene:11", "NA"),
        ("NCBIGene:11", "NA2"),
    ]


def test_earlier_headers_are_read_too(tables: Callable[..., Any], write: Callable[..., Path]) -> None:
    old = (
        "#description: old\n#date: 2019-05-06\n#DatabaseID\tDiseaseName\tQualifier\tHPO_ID\tReference\tEvidence\tOnset"
    )
    old += "\tFrequency\tSex\tModifier\tAspect\tBiocuration\n"
    rows, account = tables(read_hpoa, write(old + ROW))
    assert len(rows["triples"]) == 1 and account.release == "2019-05-06"
    # The id and the name of the phenotype stand the wrong way round in this header, as they did in real releases.
    old = "#Format: entrez-gene-id<tab>entrez-gene-symbol<tab>HPO-Term-Name<tab>HPO-Term-ID<tab>Frequency-Raw<tab>"
    old += "Frequency-HPO<tab>Additional Info from G-D source<tab>G-D source<tab>disease-ID for link\n"
    old += "72\tABC1\tHP:0000001\tAll\t\tHP:0040283\t\torphadata\tORPHA:2\n"
    old += "72\tABC1\tHP:0000002\tSome\t-\tHP:0040285\t-\tmim2gene\tOMIM:1\n"
    rows, _ = tables(read_genes_to_phenotype, write(old))
    assert [tail for _, relation, tail in facts(rows["triples"]) if relation.endswith("phenotype")] == ["HP:0000001"]
    assert [tail for _, _, tail in facts(rows["exclusions"])] == ["HP:0000002"]
    assert json.loads(rows["triples"][-1]["evidence"]) == {"disease": "ORPHA:2", "frequency": "HP:0040283"}


BAD_ROWS = {
    ROW.replace("\tP\t", "\tQ\t"): "an aspect other than",
    ROW.replace("Name\t\t", "Name\tnot\t"): "a qualifier other than NOT",
    ROW.replace("HP:0000001", "Wobble"): "the phenotype is not an id",
    ROW.replace("OMIM:1", ""): "the disease is not an id",
    ROW.replace("\tx\n", "\n"): "11 fields where the header has 12",
    ROW.replace("\tx\n", "\tx\ty\n"): "13 fields where the header has 12",
    ROW.replace("Name", "N\nme"): "2 fields where",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_malformed_row_names_its_line_and_can_be_skipped(
    row: str, tables: Callable[..., Any], write: Callable[..., Path]
) -> None:
    path = write("#version: 1\n" + HEADER + ROW + "\n" + row + ROW)
    with pytest.raises(InputError, match=f"line 5: {BAD_ROWS[row]}"):
        tables(read_hpoa, path)
    rows, account = tables(read_hpoa, path, options=Options(skip_bad=True))
    assert len(rows["triples"]) == account.kept == 2
    assert sum(account.dropped.values()) == row.count("\n")


def test_bytes_that_are_not_utf8_name_their_line(tables: Callable[..., Any], write: Callable[..., Path]) -> None:
    path = write((HEADER + ROW).encode() + ROW.encode().replace(b"Name", b"caf\xe9") + ROW.encode())
    with pytest.raises(InputError, match="line 3: not UTF-8"):
        tables(read_hpoa, path)
    _, account = tables(read_hpoa, path, options=Options(skip_bad=True))
    assert account.dropped == {"malformed: not UTF-8": 1} and account.kept == 2


def test_missing_columns_and_rows_are_named(tables: Callable[..., Any], write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="missing: hpo_id, aspect$"):
        tables(read_hpoa, write(HEADER.replace("hpo_id", "term").replace("aspect", "?") + ROW))
    with pytest.raises(InputError, match="missing: frequency$"):
        tables(read_genes_to_phenotype, write("hpo_id\thpo_name\tncbi_gene_id\tgene_symbol\tdisease_id\n"))
    with pytest.raises(InputError, match="no annotation"):
        tables(read_hpoa, write(HEADER))


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\t\r \ufeff"), max_size=6)
FREQUENCY = st.one_of(
    st.sampled_from(["", "-", "0%", "0.0%", "100%", "101%", "HP:0040285", "HP:0040280", "0/3", "00/3", "0/0", "5/0"]),
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.decimals(0, 100, places=1).map(lambda number: f"{number}%"),
    FIELD,
)
ANNOTATION = st.tuples(
    st.sampled_from(["OMIM:1", "ORPHA:2"]), FIELD, st.sampled_from(["", "NOT"]), st.just("HP:0000001"), FIELD, FIELD,
    FIELD, FREQUENCY, FIELD, FIELD, st.sampled_from(sorted(RELATIONS)), FIELD,
)  # fmt: skip


def slow_evidence(row: tuple[str, ...]) -> str:
    found = dict(zip(("reference", "evidence", "onset", "frequency", "sex", "modifier"), row[4:10], strict=True))
    evidence: dict[str, str | float] = {key: value for key, value in found.items() if value}
    if match := re.fullmatch(r"([0-9]+)/([0-9]+)", row[7]):
        if 0 < int(match[2]) >= int(match[1]):
            evidence["frequency_value"] = int(match[1]) / int(match[2])
    elif match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", row[7]):
        if float(match[1]) <= 100:
            evidence["frequency_value"] = float(match[1] + "e-2")
    return json.dumps(evidence, sort_keys=True, ensure_ascii=False) if evidence else ""


def is_absent(row: tuple[str, ...]) -> bool:
    return row[2] == "NOT" or bool(re.fullmatch(r"(?i:HP:0040285|excluded)|0+([.,]0+)?%?|0+/0*[1-9][0-9]*", row[7]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(rows=st.lists(ANNOTATION, min_size=1, max_size=5))
def test_a_slow_reading_agrees(
    rows: list[tuple[str, ...]], tables: Callable[..., Any], write: Callable[..., Path]
) -> None:
    found, account = tables(read_hpoa, write(HEADER + "".join("\t".join(row) + "\n" for row in rows)))
    unknown = [row for row in rows if row[2] == "" and re.fullmatch("0+/0+", row[7])]
    assert account.kept == len(rows) - len(unknown)
    for table, absent in (("triples", False), ("exclusions", True)):
        expected = [row for row in rows if row not in unknown and is_absent(row) == absent]
        assert facts(found[table]) == [(row[0], RELATIONS[row[10]], row[3]) for row in expected]
        assert [row["evidence"] for row in found[table]] == [slow_evidence(row) for row in expected]


def test_the_hpo_release_has_its_published_counts(hpo: Path, tables: Callable[..., Any]) -> None:
    rows, account = tables(read_hpoa, hpo / "phenotype.hpoa")
    assert (account.read, account.kept, account.release) == (271_702, 271_702, "2025-01-16")
    by_frequency = Counter("frequency" in json.loads(row["evidence"]) for row in rows["exclusions"])
    assert by_frequency == {True: 2_000, False: 711}
    assert len(rows["triples"]) == 271_702 - 2_711
    aspects = Counter(row["relation"] for table in ("triples", "exclusions") for row in rows[table])
    assert aspects == {RELATIONS[a]: n for a, n in {"P": 254_621, "I": 8_854, "C": 8_020, "H": 130, "M": 77}.items()}


def test_the_gene_table_is_read_as_a_slow_loop_reads_it(hpo: Path) -> None:
    path = hpo / "genes_to_phenotype.txt"
    account = Account(path)
    found: dict[str, list[tuple[str, str, str]]] = {"triples": [], "exclusions": []}
    for table, rows in read_genes_to_phenotype(path, account):
        if table in found:
            found[table] += zip(*(rows.column(name).to_pylist() for name in ("head", "relation", "tail")), strict=True)
    lines = [line.split("\t") for line in path.read_bytes().decode().rstrip("\n").split("\n")[1:]]
    assert account.kept == len(lines) == 316_589
    annotations = [(f"NCBIGene:{line[0]}", "associated_with_phenotype", line[2]) for line in lines]
    absent = [line[4].startswith("0/") for line in lines]
    diseases = {(f"NCBIGene:{line[0]}", "associated_with_disease", line[5]) for line in lines}
    assert found["exclusions"] == list(compress(annotations, absent))
    assert sorted(found["triples"]) == sorted([*compress(annotations, map(not_, absent)), *diseases])


@pytest.mark.parametrize(
    "header",
    ["hpo_id\thpo_name\tncbi_gene_id\tgene_symbol\tdisease_id", "#Format: HPO-id<tab>HPO label<tab>entrez-gene-id"],
)
def test_the_table_from_phenotypes_to_genes_holds_no_annotations(header: str, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="none of the known formats"):
        detect_format(write(f"{header}\nHP:0000001\tAll\t10\tNAT2\tOMIM:1\n"))
