"""A UMLS release that nobody made: RRF files of any size with the shape and the traps of the real ones, by a seed.

    python -m tests.benchmarks.synthetic_umls OUT --concepts 100000 --seed 0

For each concept there are about 3.5 atoms and eleven rows of MRREL, each fact from both of its ends. Some rows are
suppressed, preferred atoms too; some atoms are not English; some ids are merged, deleted or bequeathed; strings hold
quotes, U+2028, U+0085 and "NA". Degrees are skewed, as in the real ones. What a graph of it has to hold is counted
here, without any reader.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

CHUNK = 200_000  # concepts written at a time
SOURCES = ("SNOMEDCT_US", "MSH", "NCI", "MTH", "MSHSPA")
LEVELS = (9, 0, 0, 0, 3)
TYPES = {"T047": "Disease or Syndrome", "T121": "Pharmacologic Substance", "T184": "Sign or Symptom", "T023": "Organ"}
RELATIONS = (
    ("may_treat", "may_be_treated_by"),
    ("finding_site_of", "has_finding_site"),
    ("part_of", "has_part"),
    ("causative_agent_of", "has_causative_agent"),
)
ODD = ('a "quoted" word', "two\u2028lines", "next\u0085line", "NA", "null", "tab\there", "naïve")


def generate(out: Path, concepts: int, seed: int = 0) -> dict[str, int]:
    """Write a META folder; returns (and writes as truth.json) what a graph of it has to hold."""
    release = _Release(out / "META")
    (release.folder / "CHANGE").mkdir(parents=True)
    chance = np.random.default_rng(seed)
    _small_tables(release)
    truth = {"concepts": concepts, "triples": 0, "atoms": 0, "obsolete_relations": 0, "places": 0, "attributes": 0}
    for start in range(0, concepts, CHUNK):
        rows = np.arange(start, min(start + CHUNK, concepts))
        truth["atoms"] += _write_names(release, rows, chance)
        facts, obsolete = _write_relations(release, rows, chance)
        truth["triples"] += facts
        truth["obsolete_relations"] += obsolete
        truth["places"] += _write_places(release, rows)
        truth["attributes"] += _write_attributes(release, rows, chance)
    truth["retired"] = _write_history(release, concepts)
    release.write_layout()
    (out / "truth.json").write_text(json.dumps(truth) + "\n")
    return truth


@dataclass
class _Release:
    """A META folder while it is written, and what MRFILES and MRCOLS are to say of it."""

    folder: Path
    columns: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Rows at the end of a file, each with a pipe at its end."""
        self.columns[name] = frame.columns
        self.rows[name] = self.rows.get(name, 0) + frame.height
        with (self.folder / f"{name}.RRF").open("ab") as file:
            frame.with_columns(pl.lit("").alias("end")).write_csv(
                file, separator="|", include_header=False, quote_style="never", line_terminator="\n"
            )

    def write_layout(self) -> None:
        files = [
            (f"{name}.RRF", "", ",".join(columns), len(columns), self.rows[name], 0)
            for name, columns in sorted(self.columns.items())
        ]
        of = [(c, "", "", 0, 0, 0, f"{name}.RRF", "") for name, found in sorted(self.columns.items()) for c in found]
        self.write("MRFILES", pl.DataFrame(files, "FIL DES FMT CLS RWS BTS".split(), orient="row"))
        self.write("MRCOLS", pl.DataFrame(of, "COL DES REF MIN AV MAX FIL DTY".split(), orient="row"))


def _small_tables(release: _Release) -> None:
    inverse = [row for a, b in (*RELATIONS, ("isa", "inverse_isa")) for row in ((a, b), (b, a))]
    doc = [("RELA", a, "rela_inverse", b) for a, b in inverse]
    doc += [("REL", a, "rel_inverse", b) for a, b in (("CHD", "PAR"), ("PAR", "CHD"), ("RO", "RO"), ("SIB", "SIB"))]
    doc += [("RELA", "may_treat", "expanded_form", "May treat")]
    release.write("MRDOC", pl.DataFrame(doc, ["DOCKEY", "VALUE", "TYPE", "EXPL"], orient="row"))
    columns = "VCUI RCUI VSAB RSAB SON SF SVER VSTART VEND IMETA RMETA SLC SCC SRL TFR CFR CXTY TTYL ATNL LAT CENC "
    columns += "CURVER SABIN SSN SCIT"
    sabs = [
        f"C1|C1|{source}_{year}|{source}|{source}|{source}|{year}|||2025AA||owner||{level}|1|1||PT||ENG|UTF-8|{now}|Y||"
        for source, level in zip(SOURCES, LEVELS, strict=True)
        for year, now in ((2024, "N"), (2025, "Y"))
    ]
    release.write("MRSAB", pl.DataFrame([row.split("|") for row in sabs], columns.split(), orient="row"))
    ranks = [(f"{400 - at:04}", source, "PT", "N") for at, source in enumerate(SOURCES)]
    release.write("MRRANK", pl.DataFrame(ranks, ["RANK", "SAB", "TTY", "SUPPRESS"], orient="row"))


def _write_history(release: _Release, concepts: int) -> int:
    """MRCUI, MERGEDCUI, DELETEDCUI: ids above those in use, one in a hundred; returns how many."""
    gone = np.arange(concepts, concepts + concepts // 100)
    old, new = gone[gone % 5 != 4], gone[gone % 5 == 4]
    kind = np.array(["SY", "DEL", "SY", "RO"])[old % 4]
    blank = [""] * len(old)
    successor = np.where(kind != "DEL", _cuis(old - concepts).to_numpy(), "")
    history = {"CUI1": _cuis(old), "VER": ["2019AA"] * len(old), "REL": kind, "RELA": blank, "MAPREASON": blank}
    release.write("MRCUI", pl.DataFrame({**history, "CUI2": successor, "MAPIN": ["Y"] * len(old)}))
    merged, deleted = new[::2], new[1::2]
    release.write("CHANGE/MERGEDCUI", pl.DataFrame({"PCUI": _cuis(merged), "CUI": _cuis(merged - concepts)}))
    release.write("CHANGE/DELETEDCUI", pl.DataFrame({"PCUI": _cuis(deleted), "PSTR": ["gone"] * len(deleted)}))
    return len(gone)


def _write_names(release: _Release, rows: np.ndarray, chance: np.random.Generator) -> int:
    """MRCONSO, MRSTY, MRDEF: the preferred atom of each concept, and up to five more."""
    counts = 1 + chance.poisson(2.5, len(rows))
    of = np.repeat(rows, counts)
    first = np.r_[True, of[1:] != of[:-1]]
    source = chance.integers(0, 4, len(of))
    spanish = ~first & (chance.random(len(of)) < 0.1)
    source[spanish] = 4
    number = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    names = pl.Series(of).cast(pl.String) + " name " + pl.Series(number).cast(pl.String)
    odd = chance.random(len(of)) < 0.02
    words = pl.Series(np.array(ODD, dtype=object)[chance.integers(0, len(ODD), len(of))], dtype=pl.String)
    names = pl.select(pl.when(pl.Series(odd)).then(names + " " + words).otherwise(names)).to_series()
    suppress = np.where(chance.random(len(of)) < 0.13, chance.choice(["O", "Y", "E"], len(of)), "N")
    suppress[first] = np.where(chance.random(len(rows)) < 0.015, "O", "N")  # preferred all the same
    blank = [""] * len(of)
    frame = pl.DataFrame(
        {
            "CUI": _cuis(of),
            "LAT": np.where(spanish, "SPA", "ENG"),
            "TS": np.where(first, "P", "S"),
            "LUI": blank,
            "STT": ["PF"] * len(of),
            "SUI": blank,
            "ISPREF": ["Y"] * len(of),
            "AUI": "A" + pl.Series(of).cast(pl.String) + "_" + pl.Series(number).cast(pl.String),
            "SAUI": blank,
            "SCUI": blank,
            "SDUI": blank,
            "SAB": np.array(SOURCES)[source],
            "TTY": ["PT"] * len(of),
            "CODE": pl.Series(of).cast(pl.String),
            "STR": names,
            "SRL": ["0"] * len(of),
            "SUPPRESS": suppress,
            "CVF": blank,
        }
    )
    release.write("MRCONSO", frame)
    types = np.array(list(TYPES))[chance.integers(0, len(TYPES), len(rows))]
    blank = [""] * len(rows)
    typed = {"CUI": _cuis(rows), "TUI": types, "STN": blank, "STY": [TYPES[t] for t in types]}
    release.write("MRSTY", pl.DataFrame({**typed, "ATUI": blank, "CVF": blank}))
    defined = rows[chance.random(len(rows)) < 0.1]
    blank = [""] * len(defined)
    texts = ("Definition of " + pl.Series(defined).cast(pl.String)).to_list()
    columns = {"CUI": _cuis(defined), "AUI": blank, "ATUI": blank, "SATUI": blank, "SAB": ["NCI"] * len(defined)}
    suppress = np.where(chance.random(len(defined)) < 0.05, "O", "N")
    release.write("MRDEF", pl.DataFrame({**columns, "DEF": texts, "SUPPRESS": suppress, "CVF": blank}))
    return len(of)


def _write_places(release: _Release, rows: np.ndarray) -> int:
    """MRHIER: one place in a tree for each concept."""
    of = pl.DataFrame({"n": rows}).select(n=pl.col("n").cast(pl.String))
    blank = pl.lit("")
    shown = of.select(
        _cuis(rows).alias("CUI"), ("A" + pl.col("n") + "_0").alias("AUI"), pl.lit("1").alias("CXN"),
        blank.alias("PAUI"), pl.lit("SNOMEDCT_US").alias("SAB"), pl.lit("isa").alias("RELA"),
        ("A0_0.A1_0.A" + pl.col("n") + "_0").alias("PTR"), blank.alias("HCD"), blank.alias("CVF"),
    )  # fmt: skip
    release.write("MRHIER", shown)
    return len(rows)


def _write_attributes(release: _Release, rows: np.ndarray, chance: np.random.Generator) -> int:
    """MRSAT: two attributes for each concept, some of them suppressed; returns those in use."""
    of = np.repeat(rows, 2)
    blank = [""] * len(of)
    suppress = np.where(chance.random(len(of)) < 0.05, "O", "N")
    name = np.where(np.arange(len(of)) % 2, "MN", "RX")
    code = pl.Series(of).cast(pl.String)
    columns = {"CUI": _cuis(of), "LUI": blank, "SUI": blank, "METAUI": blank, "STYPE": ["CUI"] * len(of), "CODE": code}
    columns |= {"ATUI": "AT" + code, "SATUI": blank, "ATN": name, "SAB": ["MSH"] * len(of), "ATV": "C" + code}
    release.write("MRSAT", pl.DataFrame({**columns, "SUPPRESS": suppress, "CVF": blank}))
    return int((suppress == "N").sum())


def _write_relations(release: _Release, rows: np.ndarray, chance: np.random.Generator) -> tuple[int, int]:
    """MRREL: parents, other facts (some by two sources), and what states none; returns the facts, and obsolete rows.

    Siblings, relations inside a concept and obsolete relations state none. SNOMED CT marks its direction (DIR).
    """
    children = rows[rows > 0]
    parents = (children * chance.random(len(children)) ** 1.5 * 0.999).astype(np.int64)
    heads = np.repeat(rows, 4)
    tails = (rows.max() * chance.random(len(heads)) ** 3).astype(np.int64)
    kinds = chance.integers(0, len(RELATIONS), len(heads))
    other = pl.DataFrame({"head": heads, "tail": tails, "kind": kinds}).filter(pl.col("head") != pl.col("tail"))
    other = other.unique(maintain_order=True)
    twice = other.filter(pl.Series(chance.random(len(other)) < 0.05))
    names = pl.DataFrame(
        {"kind": range(len(RELATIONS)), "one": [r[0] for r in RELATIONS], "two": [r[1] for r in RELATIONS]}
    )
    isa = pl.DataFrame({"head": children, "tail": parents}).filter(pl.col("head") != pl.col("tail"))
    isa = isa.with_columns(one=pl.lit("isa"), two=pl.lit("inverse_isa"), SAB=pl.lit("SNOMEDCT_US"))
    facts = [isa.with_columns(there=pl.lit("CHD"), back=pl.lit("PAR"))]
    for frame, source in ((other, "NCI"), (twice, "MSH")):
        named = frame.join(names, on="kind", maintain_order="left").drop("kind")
        facts.append(named.with_columns(SAB=pl.lit(source), there=pl.lit("RO"), back=pl.lit("RO")))
    stated = pl.concat(facts)
    # (CUI1, REL, CUI2, RELA): CUI2 RELA CUI1.
    columns = ["first", "REL", "second", "RELA", "SAB", "DIR", "SUPPRESS"]
    ours = pl.col("SAB") == "SNOMEDCT_US"
    used = pl.lit("N").alias("SUPPRESS")
    there = stated.select(
        pl.when(ours).then(pl.lit("Y")).otherwise(pl.lit("")).alias("DIR"), used,
        first="tail", REL="there", second="head", RELA="one", SAB="SAB",
    ).select(columns)  # fmt: skip
    back = stated.select(
        pl.when(ours).then(pl.lit("N")).otherwise(pl.lit("")).alias("DIR"), used,
        first="head", REL="back", second="tail", RELA="two", SAB="SAB",
    ).select(columns)  # fmt: skip
    extra = rows[chance.random(len(rows)) < 0.3]
    apart = {"first": extra, "REL": "SIB", "second": np.maximum(extra - 1, 0), "RELA": "", "SAB": "MSH"}
    inside = {**apart, "REL": "SY", "second": extra}
    lost = rows[(rows > 0) & (chance.random(len(rows)) < 0.02)]
    obsolete = {"first": lost, "REL": "RO", "second": lost - 1, "RELA": "formerly_near", "SAB": "NCI"}
    rest = [(apart, "N"), (inside, "N"), (obsolete, "O")]
    frames = [pl.DataFrame({**some, "DIR": "", "SUPPRESS": state}).select(columns) for some, state in rest]
    every = pl.concat([there, back, *frames])
    every = every.sample(fraction=1.0, shuffle=True, seed=int(chance.integers(1 << 31)))
    blank = pl.lit("")
    shown = every.select(
        _cui("first").alias("CUI1"), blank.alias("AUI1"), pl.lit("CUI").alias("STYPE1"), "REL",
        _cui("second").alias("CUI2"), blank.alias("AUI2"), pl.lit("CUI").alias("STYPE2"), "RELA",
        blank.alias("RUI"), blank.alias("SRUI"), "SAB", pl.col("SAB").alias("SL"), blank.alias("RG"),
        "DIR", "SUPPRESS", blank.alias("CVF"),
    )  # fmt: skip
    release.write("MRREL", shown)
    return len(isa) + len(other), len(lost)


def _cui(column: str) -> pl.Expr:
    return "C" + pl.col(column).cast(pl.String).str.zfill(7)


def _cuis(numbers: np.ndarray) -> pl.Series:
    return pl.DataFrame({"n": numbers}).select(_cui("n")).to_series()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--concepts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generate(given.out, given.concepts, given.seed)
