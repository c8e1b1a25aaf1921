"""A UMLS release that nobody made: RRF files of any size with the shape and the traps of the real ones, by a seed.

    python -m tests.benchmarks.synthetic_umls OUT --concepts 100000 --seed 0

For each concept there are about 3.5 atoms and ten rows of MRREL, each fact from both of its ends. Some atoms are
suppressed, some not English; strings hold quotes, U+2028, U+0085 and "NA". Degrees are skewed, as in the real ones.
"""

import argparse
import json
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
    folder = out / "META"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    _small_tables(folder)
    facts = 0
    atoms = 0
    for start in range(0, concepts, CHUNK):
        rows = np.arange(start, min(start + CHUNK, concepts))
        atoms += _write_names(folder, rows, chance)
        facts += _write_relations(folder, rows, chance)
    gone = concepts // 100
    retired = np.arange(concepts, concepts + gone)
    _write(
        folder,
        "MRCUI",
        pl.DataFrame(
            {
                "CUI1": _cuis(retired),
                "VER": ["2019AA"] * gone,
                "REL": np.where(retired % 2 == 0, "SY", "DEL"),
                "RELA": [""] * gone,
                "MAPREASON": [""] * gone,
                "CUI2": np.where(retired % 2 == 0, _cuis(retired - concepts).to_numpy(), ""),
                "MAPIN": ["Y"] * gone,
            }
        ),
    )
    truth = {"concepts": concepts, "triples": facts, "retired": gone, "atoms": atoms}
    (out / "truth.json").write_text(json.dumps(truth) + "\n")
    return truth


def _small_tables(folder: Path) -> None:
    inverse = [row for a, b in (*RELATIONS, ("isa", "inverse_isa")) for row in ((a, b), (b, a))]
    doc = [("RELA", a, "rela_inverse", b) for a, b in inverse]
    _write(folder, "MRDOC", pl.DataFrame(doc, schema=["DOCKEY", "VALUE", "TYPE", "EXPL"], orient="row"))
    for source, level in zip(SOURCES, LEVELS, strict=True):
        row = f"C1|C1|{source}_2025|{source}|{source}|{source}|2025|||2025AA||owner||{level}|1|1||PT||ENG|UTF-8|Y|Y|||"
        with (folder / "MRSAB.RRF").open("a") as file:
            file.write(row + "\n")
    ranks = [(f"{400 - at:04}", source, "PT", "N") for at, source in enumerate(SOURCES)]
    _write(folder, "MRRANK", pl.DataFrame(ranks, schema=["RANK", "SAB", "TTY", "SUPPRESS"], orient="row"))


def _write_names(folder: Path, rows: np.ndarray, chance: np.random.Generator) -> int:
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
    suppress[first] = "N"
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
    _write(folder, "MRCONSO", frame)
    types = np.array(list(TYPES))[chance.integers(0, len(TYPES), len(rows))]
    blank = [""] * len(rows)
    typed = {"CUI": _cuis(rows), "TUI": types, "STN": blank, "STY": [TYPES[t] for t in types], "A": blank, "CVF": blank}
    _write(folder, "MRSTY", pl.DataFrame(typed))
    defined = rows[chance.random(len(rows)) < 0.1]
    blank = [""] * len(defined)
    texts = ("Definition of " + pl.Series(defined).cast(pl.String)).to_list()
    columns = {"CUI": _cuis(defined), "AUI": blank, "ATUI": blank, "SATUI": blank, "SAB": ["NCI"] * len(defined)}
    _write(folder, "MRDEF", pl.DataFrame({**columns, "DEF": texts, "SUPPRESS": ["N"] * len(defined), "CVF": blank}))
    return len(of)


def _write_relations(folder: Path, rows: np.ndarray, chance: np.random.Generator) -> int:
    """MRREL: parents, other facts (some by two sources), siblings and relations inside a concept; returns the facts."""
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
    columns = ["first", "REL", "second", "RELA", "SAB"]
    there = stated.select(first="tail", REL="there", second="head", RELA="one", SAB="SAB").select(columns)
    back = stated.select(first="head", REL="back", second="tail", RELA="two", SAB="SAB").select(columns)
    extra = rows[chance.random(len(rows)) < 0.3]
    noise = {"first": extra, "REL": "SIB", "second": np.maximum(extra - 1, 0), "RELA": "", "SAB": "MSH"}
    inside = {"first": extra, "REL": "SY", "second": extra, "RELA": "", "SAB": "MSH"}
    every = pl.concat([there, back, *(pl.DataFrame(some).select(columns) for some in (noise, inside))])
    every = every.sample(fraction=1.0, shuffle=True, seed=int(chance.integers(1 << 31)))
    blank = pl.lit("")
    shown = every.select(
        _cui("first").alias("CUI1"), blank.alias("AUI1"), pl.lit("CUI").alias("STYPE1"), "REL",
        _cui("second").alias("CUI2"), blank.alias("AUI2"), pl.lit("CUI").alias("STYPE2"), "RELA",
        blank.alias("RUI"), blank.alias("SRUI"), "SAB", pl.col("SAB").alias("SL"), blank.alias("RG"),
        blank.alias("DIR"), pl.lit("N").alias("SUPPRESS"), blank.alias("CVF"),
    )  # fmt: skip
    _write(folder, "MRREL", shown)
    return len(isa) + len(other)


def _cui(column: str) -> pl.Expr:
    return "C" + pl.col(column).cast(pl.String).str.zfill(7)


def _cuis(numbers: np.ndarray) -> pl.Series:
    return pl.DataFrame({"n": numbers}).select(_cui("n")).to_series()


def _write(folder: Path, name: str, frame: pl.DataFrame) -> None:
    """Rows at the end of a file, each with a pipe at its end."""
    with (folder / f"{name}.RRF").open("ab") as file:
        frame.with_columns(pl.lit("").alias("end")).write_csv(
            file, separator="|", include_header=False, quote_style="never", line_terminator="\n"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--concepts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generate(given.out, given.concepts, given.seed)
