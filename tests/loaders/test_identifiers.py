"""One spelling for identifiers, the same one at a time and by the column."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.identifiers import IRIS, PREFIXES, normal_id, normal_ids

CASES = {
    "MSH:D000001": "MESH:D000001",
    "MeSH:D000001": "MESH:D000001",
    "MESH:D000001": "MESH:D000001",
    "SNOMEDCT_US_2025_09_01:123": "SNOMEDCT:123",
    "SNOMEDCT_US:123": "SNOMEDCT:123",
    "SCTID:123": "SNOMEDCT:123",
    "SNOMED:123": "SNOMEDCT:123",
    " UMLS:C0000005 ": "C0000005",
    "UMLS:C0000005": "C0000005",
    "UMLS_CUI:C0000005": "C0000005",
    "CUI:C0000005": "C0000005",
    "C0000005": "C0000005",
    "UMLS:T047": "UMLS:T047",
    "Orphanet:558": "ORPHA:558",
    "ORPHA:558": "ORPHA:558",
    "MIM:154700": "OMIM:154700",
    "OMIMPS:154700": "OMIMPS:154700",
    "ICD10CM_2026:A00.0": "ICD10CM:A00.0",
    "ICD10CM:A00.0": "ICD10CM:A00.0",
    "NCI_2024AB:C1": "NCIT:C1",
    "ncbigene:7157": "NCBIGene:7157",
    "PMID:1": "PMID:1",
    "odd_2025_09_01:1": "odd:1",
    "http://purl.obolibrary.org/obo/HP_0000001": "HP:0000001",
    "https://purl.obolibrary.org/obo/NCIT_C1": "NCIT:C1",
    "http://identifiers.org/mesh/D000001": "MESH:D000001",
    "https://identifiers.org/snomedct:123": "SNOMEDCT:123",
    "https://identifiers.org/hgnc/HGNC:5": "HGNC:5",
    "http://id.nlm.nih.gov/mesh/D000001": "MESH:D000001",
    "http://snomed.info/id/123": "SNOMEDCT:123",
    "http://linkedlifedata.com/resource/umls/id/C0000005": "C0000005",
    "http://www.orpha.net/ORDO/Orphanet_558": "ORPHA:558",
    "http://www.ebi.ac.uk/efo/EFO_0000001": "EFO:0000001",
    "http://www.w3.org/2004/02/skos/core#exactMatch": "skos:exactMatch",
    "http://purl.obolibrary.org/obo/": "http://purl.obolibrary.org/obo/",
    "http://purl.obolibrary.org/obo/hp/x/y": "http://purl.obolibrary.org/obo/hp/x/y",
    "https://example.org/x": "https://example.org/x",
    "ftp://example.org/x": "ftp://example.org/x",
    "no id": "no id",
    "no id: at all": "no id: at all",
    "MSH:": "MSH:",
    ":x": ":x",
    "": "",
}
PIECES = [*PREFIXES, *IRIS, "http://", "HTTPS://", ":", "_", "/", "_2025_09_01", "C0000005", "1", " ", "\n", "//", "#"]


@pytest.mark.parametrize(("given", "ours"), CASES.items())
def test_known_spellings(given: str, ours: str) -> None:
    assert normal_id(given) == ours
    assert normal_id(ours) == ours


@given(
    st.lists(
        st.sampled_from(sorted(CASES))
        | st.text(max_size=12)
        | st.none()
        | st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=5).map("".join)
    )
)
def test_a_column_is_spelled_as_each_of_its_values(texts: list[str | None]) -> None:
    column = pl.DataFrame({"id": texts}, schema={"id": pl.String}).select(normal_ids(pl.col("id")))["id"]
    assert column.to_list() == [None if text is None else normal_id(text) for text in texts]
