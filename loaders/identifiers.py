"""One spelling for identifiers that vocabularies write in many ways: `normal_id("SNOMEDCT_US_2025_09_01:1")`.

Ours are CURIEs with the prefix that the owner of the vocabulary uses, and the bare CUI for UMLS.
"""

import re
from collections.abc import Callable

import polars as pl

# Foreign prefix, upper case, without a release date -> ours. Others stay as they are.
PREFIXES = {
    "CUI": "UMLS",
    "UMLS_CUI": "UMLS",
    "UMLS": "UMLS",
    "MSH": "MESH",
    "SNOMEDCT_US": "SNOMEDCT",
    "SNOMED": "SNOMEDCT",
    "SNOMED_CT": "SNOMEDCT",
    "SNOMEDCT_CORE": "SNOMEDCT",
    "SCTID": "SNOMEDCT",
    "SCT": "SNOMEDCT",
    "ORPHANET": "ORPHA",
    "ORDO": "ORPHA",
    "MIM": "OMIM",
    "NCI": "NCIT",
    "NCIM": "UMLS",
    "NCI_THESAURUS": "NCIT",
    "ICD10-CM": "ICD10CM",
    "ICD-10-CM": "ICD10CM",
    "RXCUI": "RXNORM",
    "RXNORM": "RXNORM",
    "NCBI_GENE": "NCBIGene",
    "NCBIGENE": "NCBIGene",
    "ENTREZ": "NCBIGene",
    "ENTREZGENE": "NCBIGene",
    "NCBITAXON": "NCBITaxon",
    "DO": "DOID",
    "HPO": "HP",
}
PREFIXES |= {name: name for name in ("DOID", "HP", "ICD10CM", "MESH", "MONDO", "NCIT", "OMIM", "ORPHA", "SNOMEDCT")}
# How an IRI begins -> the prefix of what follows; "" where that has a prefix of its own (`HP_0000001`, `hgnc:5`,
# `mesh/D000001`). The longest beginning that fits counts.
IRIS = {
    "purl.obolibrary.org/obo/": "",
    "www.ebi.ac.uk/efo/": "",
    "www.orpha.net/ORDO/": "",
    "identifiers.org/": "",
    "bioregistry.io/": "",
    "purl.bioontology.org/ontology/": "",
    "id.nlm.nih.gov/mesh/": "MESH",
    "www.snomed.info/id/": "SNOMEDCT",
    "snomed.info/id/": "SNOMEDCT",
    "snomed.info/sct/": "SNOMEDCT",
    "omim.org/entry/": "OMIM",
    "www.omim.org/entry/": "OMIM",
    "linkedlifedata.com/resource/umls/id/": "UMLS",
    "www.ncbi.nlm.nih.gov/gene/": "NCBIGene",
    "ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl#": "NCIT",
    "www.w3.org/2004/02/skos/core#": "skos",
    "www.w3.org/2002/07/owl#": "owl",
}
_BEGINNINGS = sorted(IRIS, key=len, reverse=True)
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_DATE = re.compile(r"_(?:\d{4}_\d{2}_\d{2}|\d{4}-\d{2}-\d{2}|\d{8}|\d{4}(?:AA|AB)?)")
# Behind the beginning of an IRI: `HP_0000001`, `hgnc:5`, `hgnc/HGNC:5`, `SNOMEDCT/1`.
_OWN_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9.-]*?)[_:/]([A-Za-z0-9][^\s/#?]*)")
_CUI = r"^C[0-9]{7}$"


def normal_id(text: str) -> str:
    """An identifier in our spelling; what is neither a CURIE nor a well-known IRI stays as it is."""
    prefix, colon, local = _curie(text.strip(" "))
    ours = _normal_prefix(prefix)
    if not colon or ours is None or not local:
        return prefix + colon + local
    return local if ours == "UMLS" and re.fullmatch(_CUI.strip("^$"), local) else f"{ours}:{local}"


def normal_ids(column: pl.Expr) -> pl.Expr:
    """`normal_id` of each value of a column; only IRIs and prefixes, each once, become Python objects."""
    return column.map_batches(_normal_series, return_dtype=pl.String)


def _normal_series(values: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"text": values.cast(pl.String).str.strip_chars(" ")})
    iri = pl.col("text").str.contains("(?i)^https?://")
    if frame.select(iri.any()).item():
        as_curie = _mapped(frame["text"].filter(frame.select(iri.fill_null(False)).to_series()), _iri_as_curie)
        frame = frame.with_columns(text=pl.col("text").replace(as_curie))
    frame = frame.with_columns(pl.col("text").str.splitn(":", 2).struct.rename_fields(["prefix", "local"])).unnest(
        "text"
    )
    known = _mapped(frame["prefix"].filter(frame["local"].is_not_null()), _normal_prefix)
    ours = pl.col("prefix").replace_strict(known, default=None, return_dtype=pl.String)
    local = pl.col("local")
    return frame.select(
        pl.when(local.is_null())
        .then("prefix")
        .when(ours.is_null() | (local == "") | local.str.starts_with("//"))
        .then(pl.concat_str("prefix", pl.lit(":"), "local"))
        .when((ours == "UMLS") & local.str.contains(_CUI))
        .then(local)
        .otherwise(pl.concat_str(ours, pl.lit(":"), local))
        .alias(values.name)
    ).to_series()


def _mapped(values: pl.Series, function: Callable[[str], str | None]) -> dict[str, str | None]:
    return {text: function(text) for text in values.drop_nulls().unique().to_list()}


def _curie(text: str) -> tuple[str, str, str]:
    """A text parted at its first colon, once a known IRI is a CURIE; unknown ones are not parted."""
    prefix, colon, local = (_iri_as_curie(text) if _SCHEME.match(text) else text).partition(":")
    return (f"{prefix}:{local}", "", "") if local.startswith("//") else (prefix, colon, local)


def _normal_prefix(prefix: str) -> str | None:
    """The prefix in our spelling; None if it cannot be one."""
    if not _PREFIX.fullmatch(prefix):
        return None
    date = _DATE.search(prefix)
    bare = prefix[: date.start()] if date and date.end() == len(prefix) else prefix
    return PREFIXES.get(bare.upper(), bare)


def _iri_as_curie(text: str) -> str:
    """A well-known IRI as a CURIE, its prefix as the IRI spells it; others as they are."""
    rest = _SCHEME.sub("", text, count=1)
    beginning = next((beginning for beginning in _BEGINNINGS if rest.startswith(beginning)), None)
    if beginning is None:
        return text
    local = rest.removeprefix(beginning)
    if prefix := IRIS[beginning]:
        return f"{prefix}:{local}" if local else text
    own = _OWN_PREFIX.fullmatch(local)
    if not own:
        return text
    prefix, local = own.groups()
    again, colon, behind = local.partition(":")  # hgnc/HGNC:5
    if colon and again.upper() == prefix.upper():
        prefix, local = again, behind
    return f"{prefix}:{local}" if local else text
