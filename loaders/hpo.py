"""HPO annotations: `phenotype.hpoa` (diseases) and `genes_to_phenotype.txt` (genes), current and earlier releases.

Both files also say what does NOT hold, in three ways: the qualifier NOT, the frequency `HP:0040285` (excluded) or 0 %,
and the fraction 0/m, "none of m patients". Such a row is an exclusion and never a triple.
Format: https://obophenotype.github.io/human-phenotype-ontology/annotations/phenotype_hpoa/
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from loaders.columns import batches, json_object, json_text, well_formed
from loaders.delimited import read_frames
from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.options import DEFAULTS, Options
from loaders.tables import Account, Batch, Rows

RELATIONS = {
    "P": "has_phenotype",
    "I": "has_mode_of_inheritance",
    "C": "has_clinical_course",
    "M": "has_modifier",
    "H": "has_past_medical_history",
}
# Our column -> its names in the releases so far; case, `_`, `-`, spaces and `#` do not count.
_HPOA = {
    "disease": ("database_id",),
    "name": ("disease_name",),
    "qualifier": ("qualifier",),
    "phenotype": ("hpo_id",),
    "reference": ("reference", "db_reference"),
    "evidence": ("evidence",),
    "onset": ("onset",),
    "frequency": ("frequency",),
    "sex": ("sex",),
    "modifier": ("modifier",),
    "aspect": ("aspect",),
}
_GENES = {
    "gene": ("ncbi_gene_id", "entrez-gene-id"),
    "symbol": ("gene_symbol", "entrez-gene-symbol"),
    "phenotype": ("hpo_id", "HPO-Term-ID"),
    "phenotype_name": ("hpo_name", "HPO-Term-Name"),
    "frequency": ("frequency", "Frequency-Raw"),
    "disease": ("disease_id", "disease-ID for link"),
}
_OPTIONAL = {"frequency_term": ("Frequency-HPO",)}
_SEARCHED_LINES = 100

_CURIE = r"^[A-Za-z][A-Za-z0-9_.-]*:[^\s|]+$"
_FRACTION = r"^(\d{1,9})\s*/\s*(\d{1,9})$"
_PERCENT = r"^(\d{1,3}(?:\.\d{1,9})?)\s*%$"
_NONE_OF = r"^0+\s*(?:/|of)\s*0*[1-9]\d*$"
_NOBODY = r"^0+\s*(?:/|of)\s*0+$"
_ZERO = r"(?i)^(?:0+(?:[.,]0+)?\s*%?|HP:0040285|excluded)$"


def read_hpoa(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Diseases and their annotations from `phenotype.hpoa`; the account counts annotation lines.

    The aspect of a row gives the relation (`RELATIONS`). Evidence is JSON: reference, evidence (code), frequency as it
    stands there, frequency_value (a share from 0 to 1) where it is a number, onset, sex, modifier. A disease is called
    by its first name in the file, its other names are aliases.

    Raises:
        InputError: missing columns, a row of another width, a qualifier other than NOT, an unknown aspect, an id that
            is no CURIE; with `skip_bad` such a row is counted and left out. Always: no row at all.
    """
    header = _header(path, _HPOA)
    account.release = header.release
    diseases = _Names("Disease", "hpoa")
    for frame in _frames(path, header, account, options.skip_bad):
        frame = frame.with_columns(relation=pl.col("aspect").replace_strict(RELATIONS, default=None))
        fault = (
            pl.when(~pl.col("disease").str.contains(_CURIE))
            .then(pl.lit("the disease is not an id like OMIM:619340"))
            .when(~pl.col("phenotype").str.contains(_CURIE))
            .then(pl.lit("the phenotype is not an id like HP:0001250"))
            .when(~pl.col("qualifier").is_in(["", "NOT"]))
            .then(pl.lit("a qualifier other than NOT"))
            .when(pl.col("relation").is_null())
            .then(pl.lit(f"an aspect other than {', '.join(RELATIONS)}"))
        )
        frame = well_formed(path, frame, fault, account, options.skip_bad)
        diseases.add(frame.select("disease", "name"))
        absent = (pl.col("qualifier") == "NOT") | _is_absent("frequency")
        frame = _examined(frame, ~absent, account)
        keys = ("evidence", "frequency", "modifier", "onset", "reference", "sex")
        yield from _facts(frame, "disease", absent, keys, diseases.source)
    _not_empty(path, account)
    yield from diseases.batches(account.release)


def read_genes_to_phenotype(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Genes (`NCBIGene:10`), their phenotypes and diseases from `genes_to_phenotype.txt`; the account counts its lines.

    A row states (gene, associated_with_phenotype, phenotype), with the disease and the frequency as evidence, and
    (gene, associated_with_disease, disease), given once. The second holds even where the first is an exclusion.

    Raises:
        InputError: as `read_hpoa`.
    """
    header = _header(path, _GENES)
    genes = _Names("Gene", "genes_to_phenotype")
    seen: set[tuple[str, str]] = set()
    rows = Rows()
    for frame in _frames(path, header, account, options.skip_bad):
        # In some releases the header has the phenotype's id and name the wrong way round.
        swapped = pl.col("phenotype_name").str.contains(r"^HP:[0-9]+$")
        frame = frame.with_columns(
            _unless_dash("symbol"),
            _unless_dash("disease"),
            _unless_dash("frequency"),
            _unless_dash("frequency_term"),
            gene="NCBIGene:" + pl.col("gene").str.strip_prefix("NCBIGene:"),
            phenotype=pl.when(swapped).then("phenotype_name").otherwise("phenotype"),
            relation=pl.lit("associated_with_phenotype"),
        )
        fault = (
            pl.when(~pl.col("gene").str.contains(r"^NCBIGene:[0-9]+$"))
            .then(pl.lit("the gene is not a number of NCBI Gene"))
            .when(~pl.col("phenotype").str.contains(_CURIE))
            .then(pl.lit("the phenotype is not an id like HP:0001250"))
            .when((pl.col("disease") != "") & ~pl.col("disease").str.contains(_CURIE))
            .then(pl.lit("the disease is not an id like OMIM:619340"))
        )
        frame = well_formed(path, frame, fault, account, options.skip_bad)
        genes.add(frame.select("gene", "symbol"))
        pairs = frame.filter(pl.col("disease") != "").select("gene", "disease").unique(maintain_order=True)
        for gene, disease in pairs.iter_rows():
            if (gene, disease) not in seen:
                seen.add((gene, disease))
                rows.add("triples", gene, "associated_with_disease", disease, genes.source, "")
        yield from rows.rest()
        absent = _is_absent("frequency") | _is_absent("frequency_term")
        frame = _examined(frame, ~absent, account)
        frame = frame.with_columns(
            frequency=pl.when(pl.col("frequency") == "").then("frequency_term").otherwise("frequency")
        )
        yield from _facts(frame, "gene", absent, ("disease", "frequency"), genes.source)
    _not_empty(path, account)
    yield from genes.batches(account.release)


def is_hpoa(head: list[str]) -> bool:
    """Whether the first lines of a file are those of phenotype.hpoa, some columns perhaps missing."""
    return _most_found(head, "database_id", "disease_name", "qualifier", "aspect", "biocuration") >= 3


def is_genes_to_phenotype(head: list[str]) -> bool:
    """Whether the first lines of a file are those of a gene-phenotype table, some columns perhaps missing.

    phenotype_to_genes.txt, which begins with the phenotype, is none: it lists a gene again for all that lies above its
    phenotypes, so its rows are no annotations.
    """
    if any(_column_names(line)[:1] == [_normal(_GENES["phenotype"][0])] for line in head):
        return False
    genes = _most_found(head, *_GENES["gene"], *_GENES["symbol"])
    return genes > 0 and genes + _most_found(head, *_GENES["phenotype"], *_GENES["phenotype_name"]) > 1


class _Header(NamedTuple):
    """Our names for the columns of a file, in its order (those not read are numbered), and where the header stands."""

    columns: list[str]
    line: int
    release: str


def _header(path: Path, wanted: Mapping[str, tuple[str, ...]]) -> _Header:
    """Find the header among the first lines; comments come before it, and in some releases it looks like one."""
    notes: dict[str, str] = {}
    found: set[str] = set()
    for number, line in text_lines(path):
        columns = _our_columns(line, {**wanted, **_OPTIONAL})
        if wanted.keys() <= set(columns):
            return _Header(columns, number, notes.get("version") or notes.get("date") or "")
        found = max(found, wanted.keys() & set(columns), key=len)
        key, colon, value = line.removeprefix("#").partition(":")
        if line.startswith("#") and colon:
            notes.setdefault(key.strip().lower(), value.strip())
        if number >= _SEARCHED_LINES:
            break
    missing = [names[0] for column, names in wanted.items() if column not in found]
    raise InputError(path, None, f"no header with all expected columns; missing: {', '.join(missing)}")


def _our_columns(line: str, wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
    ours = {_normal(name): column for column, names in wanted.items() for name in names}
    columns: list[str] = []
    for position, name in enumerate(_column_names(line), start=1):
        column = ours.get(name, "")
        columns.append(column if column and column not in columns else f"column {position}")
    return columns


def _column_names(line: str) -> list[str]:
    line = line.removeprefix("#").removeprefix("Format:").replace("<tab>", "\t")
    return [_normal(name) for name in line.split("\t")]


def _normal(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _most_found(head: list[str], *names: str) -> int:
    """How many of the names stand in one line, at most."""
    wanted = set(map(_normal, names))
    return max((len(wanted & set(_column_names(line))) for line in head), default=0)


def _frames(path: Path, header: _Header, account: Account, skip_bad: bool) -> Iterator[pl.DataFrame]:
    for frame in read_frames(path, header.columns, account, after_line=header.line, skip_bad=skip_bad):
        frame = frame.with_columns(pl.col(pl.String).str.strip_chars(" "))
        yield frame if "frequency_term" in header.columns else frame.with_columns(frequency_term=pl.lit(""))


def _unless_dash(column: str) -> pl.Expr:
    return pl.when(pl.col(column) == "-").then(pl.lit("")).otherwise(column).alias(column)


def _examined(frame: pl.DataFrame, claimed: pl.Expr, account: Account) -> pl.DataFrame:
    """The rows that say something, counted as kept: `none of no patients` is neither a fact nor its absence."""
    empty = claimed & pl.col("frequency").str.contains(_NOBODY)
    kept = frame.filter(~empty)
    if kept.height < frame.height:
        account.count(dropped={"no patient was examined (frequency 0/0)": frame.height - kept.height})
    account.count(kept=kept.height)
    return kept


def _not_empty(path: Path, account: Account) -> None:
    if not account.read:
        raise InputError(path, None, "holds a header and no annotation; fetch the file anew")


def _is_absent(column: str) -> pl.Expr:
    return pl.col(column).str.contains(_NONE_OF) | pl.col(column).str.contains(_ZERO)


def _facts(frame: pl.DataFrame, head: str, absent: pl.Expr, keys: tuple[str, ...], source: str) -> Iterator[Batch]:
    """Triples, and exclusions where the row says that the fact does not hold."""
    facts = frame.select(
        head=pl.col(head),
        relation="relation",
        tail="phenotype",
        source=pl.lit(source),
        evidence=_evidence(keys),
        absent=absent,
    )
    for table, rows in (("triples", facts.filter(~pl.col("absent"))), ("exclusions", facts.filter("absent"))):
        yield from batches(table, rows)


def _evidence(keys: tuple[str, ...]) -> pl.Expr:
    """A JSON object of the columns that are not empty, by sorted keys, and with the frequency its value as a share."""
    members = {key: json_text(key) for key in keys}
    return json_object({**members, "frequency_value": _share().cast(pl.String)})


def _share() -> pl.Expr:
    """The frequency as a number from 0 to 1: n/m and percentages; null for a frequency term or anything else."""
    frequency = pl.col("frequency")
    part, whole = (frequency.str.extract(_FRACTION, group).cast(pl.Float64) for group in (1, 2))
    # As 23.5e-2, which is read to the nearest number; Polars divides by a constant less exactly.
    percent = (frequency.str.extract(_PERCENT, 1) + "e-2").cast(pl.Float64)
    share = pl.coalesce(part / whole, percent)
    return pl.when(share <= 1).then(share)


@dataclass
class _Names:
    """The concepts that a table mentions, with all their names in the order of the file."""

    type: str
    source: str
    names: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, frame: pl.DataFrame) -> None:
        """Take the ids and names of a frame's two columns."""
        for identifier, name in frame.unique(maintain_order=True).iter_rows():
            names = self.names.setdefault(identifier, {})
            if name:
                names[name] = None

    def batches(self, release: str) -> Iterator[Batch]:
        rows = Rows()
        rows.add("sources", self.source, release or None, None, None)
        for identifier, found in self.names.items():
            names = list(found) or [identifier]
            rows.add("concepts", identifier, names[0], [self.type], None, self.source)
            for rank, name in enumerate(names):
                rows.add("names", identifier, name, "preferred" if rank == 0 else "exact", "en", self.source, False)
        yield from rows.rest()
