"""UMLS Metathesaurus and RxNorm: a folder of Rich Release Format (RRF) files, in full or in part.

A row of MRREL says what its SECOND concept is to its first, so (CUI2, RELA, CUI1) is the fact. Every relation is
written twice, once from each end; MRDOC says which names belong together, and merging keeps one of each pair.
Format: UMLS Reference Manual, chapter 3, https://www.ncbi.nlm.nih.gov/books/NBK9685/; RxNorm has the same files with
fewer columns, https://www.nlm.nih.gov/research/umls/rxnorm/docs/techdoc.html
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase
from typing import cast

import polars as pl

from loaders.columns import batches, well_formed, without
from loaders.delimited import read_frames
from loaders.errors import InputError, MedgraftError
from loaders.identifiers import PREFIXES
from loaders.lines import text_lines
from loaders.options import DEFAULTS, Options
from loaders.semantic_groups import SEMANTIC_GROUPS
from loaders.sources import Joined, files
from loaders.tables import Account, Batch, Rows

# The columns of each file where MRFILES does not say otherwise.
_SAB = (
    "VCUI RCUI VSAB RSAB SON SF SVER VSTART VEND IMETA RMETA SLC SCC SRL TFR CFR CXTY TTYL ATNL LAT CENC CURVER SABIN "
    "SSN SCIT"
)
_CONSO = "CUI LAT TS LUI STT SUI ISPREF AUI SAUI SCUI SDUI SAB TTY CODE STR SRL SUPPRESS CVF"
_COLUMNS = {
    "MRCONSO": _CONSO,
    "MRSTY": "CUI TUI STN STY ATUI CVF",
    "MRDEF": "CUI AUI ATUI SATUI SAB DEF SUPPRESS CVF",
    "MRREL": "CUI1 AUI1 STYPE1 REL CUI2 AUI2 STYPE2 RELA RUI SRUI SAB SL RG DIR SUPPRESS CVF",
    "MRSAT": "CUI LUI SUI METAUI STYPE CODE ATUI SATUI ATN SAB ATV SUPPRESS CVF",
    "MRDOC": "DOCKEY VALUE TYPE EXPL",
    "MRSAB": _SAB,
    "MRRANK": "RANK SAB TTY SUPPRESS",
    "MRHIER": "CUI AUI CXN PAUI SAB RELA PTR HCD CVF",
    "MRCUI": "CUI1 VER REL RELA MAPREASON CUI2 MAPIN",
    "MERGEDCUI": "PCUI CUI",
    "DELETEDCUI": "PCUI PSTR",
    "RXNCONSO": _CONSO,
    "RXNSTY": "CUI TUI STN STY ATUI CVF",
    "RXNREL": "CUI1 AUI1 STYPE1 REL CUI2 AUI2 STYPE2 RELA RUI SRUI SAB SL DIR RG SUPPRESS CVF",
    "RXNSAT": "CUI LUI SUI METAUI STYPE CODE ATUI SATUI ATN SAB ATV SUPPRESS CVF",
    "RXNDOC": "DOCKEY VALUE TYPE EXPL",
    "RXNSAB": _SAB,
    "RXNCUI": "CUI1 VER_START VER_END CARDINALITY CUI2",
}
# RxNorm's own names for columns that are one and the same.
_ALSO = {"RXCUI": "CUI", "RXCUI1": "CUI1", "RXCUI2": "CUI2", "RXAUI": "AUI", "RXAUI1": "AUI1", "RXAUI2": "AUI2"}

# REL where RELA is empty: the relation of the second concept to the first, and whether the ends change places.
_PLAIN_RELATIONS = {
    "CHD": ("child_of", False),
    "PAR": ("child_of", True),
    "RN": ("narrower_than", False),
    "RB": ("narrower_than", True),
    "RO": ("other_related_to", False),
    "RQ": ("possibly_synonymous_with", False),
    "SY": ("source_synonym_of", False),
    "RL": ("similar_to", False),
    "RU": ("unspecified_related_to", False),
    "XR": ("not_related_to", False),
}
_SYMMETRIC = [_PLAIN_RELATIONS[rel][0] for rel in ("RO", "RQ", "SY", "RL", "RU", "XR")]
_LEFT_OUT = {
    "SIB": "sibling (SIB), which follows from the parents",
    "AQ": "allowed qualifier (AQ)",
    "QB": "qualified by (QB)",
}
# The direction to keep where the sources do not mark one (DIR); else the name that comes first in the alphabet.
_PREFERRED = ("isa", "part_of", "may_treat", "may_prevent", "has_finding_site", "has_ingredient", "causative_agent_of")
_COMMON_INVERSES = {"isa": "inverse_isa", "part_of": "has_part", "may_treat": "may_be_treated_by"}
_LANGUAGES = {
    **{"ARA": "ar", "BAQ": "eu", "CHI": "zh", "CZE": "cs", "DAN": "da", "DUT": "nl", "ENG": "en", "EST": "et"},
    **{"FIN": "fi", "FRE": "fr", "GER": "de", "GRE": "el", "HEB": "he", "HUN": "hu", "ITA": "it", "JPN": "ja"},
    **{"KOR": "ko", "LAV": "lv", "NOR": "no", "POL": "pl", "POR": "pt", "RUS": "ru", "SCR": "hr", "SPA": "es"},
    **{"SWE": "sv", "TUR": "tr", "UKR": "uk"},
}
_DEFINERS = ("NCI", "MSH", "SNOMEDCT_US", "HPO", "GO")  # whose definition is shown first
_RXNORM_TERMS = "IN PIN MIN BN SCD SBD GPCK BPCK SCDC SBDC SCDF SBDF SCDG SBDG DF DFG PSN SY TMSY ET".split()
_CUI = r"^C[0-9]{7}$"
_RXCUI = r"^[0-9]+$"


def read_umls(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts (ids are CUIs), names, codes, facts, history of a META folder; each file has an account of its rows.

    A concept is called by the atom with LAT=ENG, TS=P, STT=PF and ISPREF=Y; where there is none or several, by the
    greatest MRRANK, then by source, then by the text. Suppressed atoms stay as suppressed names; obsolete relations
    (SUPPRESS=O) are dropped, and with `options.suppressed=False` all suppressed rows.

    Raises:
        InputError: no MRCONSO, a row of another width, an id that is no CUI; with `options.skip_bad` such a row is
            counted and left out.
        MedgraftError: an unknown language, source or semantic type in the options.
    """
    yield from _Release(path, account, options, "MR", "", _CUI).read()


def read_rxnorm(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """RxNorm, as `read_umls` reads UMLS; ids are `RXNORM:161`, relations between atoms are those of their concepts.

    A concept is called by its atom of source RXNORM with the first term type of IN, PIN, MIN, BN, SCD, SBD, ...
    """
    yield from _Release(path, account, options, "RXN", "RXNORM:", _RXCUI).read()


def is_umls(names: list[str]) -> bool:
    """Whether a folder with these files holds UMLS files."""
    return any(_base(name) in ("MRCONSO", "MRREL", "MRSTY") or _part(name, "MR") for name in names)


def is_rxnorm(names: list[str]) -> bool:
    """Whether a folder with these files holds RxNorm files."""
    return any(_base(name) == "RXNCONSO" for name in names)


def _part(name: str, kind: str) -> str:
    """The file that a file is a part of, as NLM ships big ones (`MRCONSO.RRF.aa.gz`); empty if it is none."""
    found = re.fullmatch(rf"({kind}\w+\.RRF)\.[a-z]{{2}}(?:\.gz)?", name)
    return found[1] if found else ""


def _base(name: str) -> str:
    return name.upper().removesuffix(".GZ").removesuffix(".RRF")


@dataclass
class _Release:
    """One reading of one folder."""

    folder: Path
    account: Account
    options: Options
    kind: str
    prefix: str
    pattern: str
    files: dict[str, Path] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    sources: pl.Series | None = None
    chosen: pl.DataFrame | None = None
    concept_of: pl.DataFrame | None = None  # RxNorm: the concept of each atom

    def read(self) -> Iterator[Batch]:
        self._find_files()
        if f"{self.kind}CONSO" not in self.files:
            raise InputError(self.folder, None, f"holds no {self.kind}CONSO.RRF; give the folder with all RRF files")
        self._read_layout()
        yield from self._sources()
        types = self._types()
        inverses = self._inverses()
        rank = self._ranks()
        definitions: list[pl.DataFrame] = []
        yield from self._definitions(definitions)
        names: list[pl.DataFrame] = []
        yield from self._atoms(rank, names)
        yield from self._concepts(names, types, definitions)
        yield from self._relations(inverses)
        yield from self._attributes()
        yield from self._history()

    # Files and their columns

    def _find_files(self) -> None:
        """The file of each name; parts of a file that was split count as one, a whole file before its parts."""
        parts: dict[str, list[Path]] = {}
        for file in files(self.folder):
            if whole := _part(file.name, self.kind):
                parts.setdefault(whole, []).append(file)
            else:
                self.files.setdefault(_base(file.name), file)
        for whole, some in parts.items():
            if _base(whole) in self.files:
                continue
            some.sort(key=lambda file: file.name)
            ends = [file.name.removeprefix(f"{whole}.")[:2] for file in some]
            expected = [f"{one}{other}" for one in ascii_lowercase for other in ascii_lowercase][: len(ends)]
            if ends != expected:
                missing = next(end for end in expected if end not in ends)
                raise InputError(some[0], None, f"the part {whole}.{missing} is missing; fetch all parts")
            self.files[_base(whole)] = cast(Path, Joined(whole, tuple(some)))

    def _read_layout(self) -> None:
        """Columns by MRFILES where it is there, else the documented ones."""
        for name in (f"{self.kind}FILES", "MRFILES"):
            if name in self.files:
                for _, line in text_lines(self.files[name]):
                    fields = line.split("|")
                    if len(fields) > 2:
                        self.columns[_base(fields[0].split("/")[-1])] = fields[2].split(",")
                break

    def _frames(self, name: str) -> Iterator[tuple[Account, pl.DataFrame]]:
        """The rows of a file, in frames, none if it is not there; with the account that they are to be counted in."""
        path = self.files.get(name)
        if path is None:
            return
        account = self.account.part(path)
        account.release = self.account.release
        columns = [_ALSO.get(column, column) for column in self.columns.get(name) or _COLUMNS[name].split()]
        first = next((line for _, line in text_lines(path) if line), "")
        width = first.count("|") + 1
        if width == len(columns) + 1:  # each row ends with a pipe
            columns = [*columns, "end of row"]
        missing = [column for column in _COLUMNS[name].split() if column not in columns and column != "CVF"]
        if first and missing:
            raise InputError(path, None, f"has no column {missing[0]} by MRFILES; fetch the file anew")
        for frame in read_frames(path, columns, account, separator="|", skip_bad=self.options.skip_bad):
            yield account, frame

    def _of_source(self, account: Account, frame: pl.DataFrame) -> pl.DataFrame:
        if self.sources is None:
            return frame
        return without(frame, account, "a source that was not asked for", ~pl.col("SAB").is_in(self.sources.implode()))

    def _with_ids(self, account: Account, frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
        """The rows whose ids look like ids, with our prefix before them."""
        fault = pl.lit(None, pl.String)
        for column in columns:
            wrong = pl.when(~pl.col(column).str.contains(self.pattern)).then(
                pl.lit(f"{column} is not an id ({'C and seven digits' if self.kind == 'MR' else 'a number'})")
            )
            fault = pl.coalesce(wrong, fault)
        frame = well_formed(account.path, frame, fault, account, self.options.skip_bad)
        return frame.with_columns((pl.lit(self.prefix) + pl.col(column)).alias(column) for column in columns)

    # Sources, types, ranks, inverse names

    def _sources(self) -> Iterator[Batch]:
        frames = []
        for account, frame in self._frames(f"{self.kind}SAB"):
            current = (
                frame
                if "CURVER" not in frame.columns
                else without(frame, account, "not the current version of its source", pl.col("CURVER") == "N")
            )
            account.count(kept=current.height)
            frames.append(current)
        wanted = self.options.sources
        if not frames:
            if self.options.max_restriction is not None:
                raise MedgraftError(
                    f"{self.folder} has no {self.kind}SAB.RRF, which tells the restriction of each source"
                )
            self.sources = pl.Series(wanted, dtype=pl.String) if wanted else None
            return
        table = pl.concat(frames).with_columns(pl.col("SRL").cast(pl.Int64, strict=False))
        unknown = sorted(set(wanted) - set(table["RSAB"]))
        if unknown:
            raise MedgraftError(f"no source {unknown[0]!r} in {self.kind}SAB.RRF; there are {_some(table['RSAB'])}")
        meta = table.filter(pl.col("IMETA") != "")["IMETA"].max()
        self.account.release = str(meta or "")
        yield from batches(
            "sources",
            table.select(
                source="RSAB",
                release=pl.when(pl.col("SVER") == "").then("VSAB").otherwise("SVER"),
                restriction="SRL",
                licence=pl.when(pl.col("SLC") != "").then("SLC"),
            ),
        )
        if wanted or self.options.max_restriction is not None:
            if wanted:
                table = table.filter(pl.col("RSAB").is_in(wanted))
            if self.options.max_restriction is not None:
                table = table.filter(pl.col("SRL").fill_null(9) <= self.options.max_restriction)
            self.sources = table["RSAB"].unique().sort()

    def _types(self) -> pl.DataFrame:
        """CUI and its semantic types; sets `chosen` where only some types are asked for."""
        frames = [pl.DataFrame(schema=dict.fromkeys(("CUI", "TUI", "STY"), pl.String))]
        for account, frame in self._frames(f"{self.kind}STY"):
            frame = self._with_ids(account, frame, "CUI")
            account.count(kept=frame.height)
            frames.append(frame.select("CUI", "TUI", "STY"))
        table = pl.concat(frames)
        if self.options.types:
            known = set(table["TUI"]) | set(table["STY"])
            wanted: list[str] = []
            for type_ in self.options.types:
                group = SEMANTIC_GROUPS.get(type_.upper())
                if group is None and type_ not in known:
                    raise MedgraftError(
                        f"no semantic type {type_!r} here; give a name or identifier of {self.kind}STY.RRF, or one of "
                        f"the groups {', '.join(SEMANTIC_GROUPS)}"
                    )
                wanted += group.split() if group else [type_]
            asked = pl.col("TUI").is_in(wanted) | pl.col("STY").is_in(wanted)
            self.chosen = table.filter(asked).select("CUI").unique()
        return table.group_by("CUI").agg(types=pl.col("STY").unique().sort())

    def _inverses(self) -> dict[str, str]:
        pairs: dict[str, str] = {}
        for account, frame in self._frames(f"{self.kind}DOC"):
            account.count(kept=frame.height)
            inverse = frame.filter((pl.col("DOCKEY") == "RELA") & (pl.col("TYPE") == "rela_inverse"))
            pairs |= {one: other for one, other in inverse.select("VALUE", "EXPL").iter_rows() if one and other}
        if not pairs:
            pairs = {**_COMMON_INVERSES, **{other: one for one, other in _COMMON_INVERSES.items()}}
        return pairs

    def _ranks(self) -> pl.DataFrame:
        frames = [pl.DataFrame(schema={"SAB": pl.String, "TTY": pl.String, "SUPPRESS": pl.String, "rank": pl.Int64})]
        if self.kind == "RXN":
            ranks = [("RXNORM", term, "N", len(_RXNORM_TERMS) - at) for at, term in enumerate(_RXNORM_TERMS)]
            frames.append(pl.DataFrame(ranks, schema=frames[0].schema, orient="row"))
        for account, frame in self._frames("MRRANK") if self.kind == "MR" else ():
            account.count(kept=frame.height)
            frames.append(frame.select("SAB", "TTY", "SUPPRESS", rank=pl.col("RANK").cast(pl.Int64, strict=False)))
        return pl.concat(frames).unique(["SAB", "TTY", "SUPPRESS"], keep="first", maintain_order=True)

    # Concepts, names, codes

    def _definitions(self, found: list[pl.DataFrame]) -> Iterator[Batch]:
        for account, frame in self._frames(f"{self.kind}DEF"):
            frame = self._of_source(account, self._with_ids(account, frame, "CUI"))
            frame = self._in_use(account, frame)
            if self.chosen is not None:
                frame = _of_types(account, frame, self.chosen)
            account.count(kept=frame.height)
            order = {source: at for at, source in enumerate(_DEFINERS)}
            found.append(
                frame.select("CUI", "SAB", "DEF", order=pl.col("SAB").replace_strict(order, default=len(order)))
            )
            yield from batches(
                "attributes",
                frame.select(concept_id="CUI", attribute=pl.lit("definition"), value="DEF", source="SAB"),
            )

    def _in_use(self, account: Account, frame: pl.DataFrame) -> pl.DataFrame:
        """Without what is obsolete, and without all that is suppressed where so asked."""
        frame = without(frame, account, "obsolete (SUPPRESS=O)", pl.col("SUPPRESS") == "O")
        if self.options.suppressed:
            return frame
        return without(frame, account, "suppressed (SUPPRESS=E or Y)", pl.col("SUPPRESS").is_in(["E", "Y"]))

    def _atoms(self, ranks: pl.DataFrame, best: list[pl.DataFrame]) -> Iterator[Batch]:
        """Names and codes; the best atom of each concept in each frame is held back for `_concepts`."""
        for account, frame in self._frames(f"{self.kind}CONSO"):
            frame = self._of_source(account, self._with_ids(account, frame, "CUI"))
            if self.chosen is not None:
                frame = _of_types(account, frame, self.chosen)
            frame = frame.with_columns(
                language=pl.col("LAT").replace_strict(_LANGUAGES, default=pl.col("LAT").str.to_lowercase()),
                suppressed=pl.col("SUPPRESS") != "N",
            )
            if self.options.languages:
                asked = pl.col("language").is_in(self.options.languages)
                frame = without(frame, account, "a language that was not asked for", ~asked)
            frame = without(frame, account, "an atom without a name", pl.col("STR").str.strip_chars() == "")
            yield from self._codes(frame)
            flagged = (
                (pl.col("LAT") == "ENG") & (pl.col("TS") == "P") & (pl.col("STT") == "PF") & (pl.col("ISPREF") == "Y")
            )
            frame = frame.join(ranks, on=["SAB", "TTY", "SUPPRESS"], how="left", maintain_order="left").select(
                "CUI",
                "language",
                "SAB",
                "STR",
                "suppressed",
                flagged=flagged,
                english=pl.col("LAT") == "ENG",
                rank=pl.col("rank").fill_null(0),
            )
            first = _best_first(frame)
            best.append(first.unique("CUI", keep="first", maintain_order=True).with_columns(file=pl.lit(len(best))))
            others = first.filter(~first["CUI"].is_first_distinct())
            if not self.options.suppressed:
                others = without(others, account, "suppressed name", pl.col("suppressed"))
            account.count(kept=others.height + best[-1].height)
            yield from _names(others, "exact")

    def _codes(self, frame: pl.DataFrame) -> Iterator[Batch]:
        coded = frame.filter((pl.col("CODE") != "NOCODE") & (pl.col("CODE") != ""))
        prefix = pl.col("SAB").replace({source: ours for source, ours in PREFIXES.items() if ours != "UMLS"})
        yield from batches(
            "mappings",
            coded.select(
                concept_id="CUI",
                predicate=pl.lit("code"),
                # Codes of the OBO ontologies bring their prefix with them.
                object=pl.when(pl.col("CODE").str.contains(r"^[A-Za-z]+:\S"))
                .then("CODE")
                .otherwise(pl.concat_str(prefix, "CODE", separator=":")),
                source="SAB",
                evidence=pl.lit(""),
            ).unique(),
        )

    def _concepts(
        self, best: list[pl.DataFrame], types: pl.DataFrame, definitions: list[pl.DataFrame]
    ) -> Iterator[Batch]:
        if not best:
            return
        atoms = _best_first(pl.concat(best))
        chosen = atoms.unique("CUI", keep="first", maintain_order=True)
        yield from _names(atoms.filter(~atoms["CUI"].is_first_distinct()), "exact")
        yield from _names(chosen, "preferred")
        concepts = chosen.join(types, on="CUI", how="left", maintain_order="left")
        if definitions:
            defined = pl.concat(definitions).sort("CUI", "order", "SAB", "DEF").unique("CUI", keep="first")
            concepts = concepts.join(defined.select("CUI", "DEF"), on="CUI", how="left", maintain_order="left")
        else:
            concepts = concepts.with_columns(DEF=pl.lit(None, pl.String))
        yield from batches(
            "concepts",
            concepts.select(id="CUI", name="STR", types=pl.col("types").fill_null([]), definition="DEF", source="SAB"),
        )

    # Facts

    def _relations(self, inverses: dict[str, str]) -> Iterator[Batch]:
        asserted: Counter[str] = Counter()
        for account, frame in self._frames(f"{self.kind}REL"):
            if self.kind == "RXN":
                frame = self._lift(frame)
            frame = self._of_source(account, frame)
            for rel, reason in _LEFT_OUT.items():
                frame = without(frame, account, reason, pl.col("REL") == rel)
            frame = self._in_use(account, frame)
            if self.kind == "RXN":
                unknown = (pl.col("CUI1") == "") | (pl.col("CUI2") == "")
                frame = without(frame, account, "an end that is the atom of no concept", unknown)
            frame = self._with_ids(account, frame, "CUI1", "CUI2")
            frame = without(frame, account, "both ends are atoms of one concept", pl.col("CUI1") == pl.col("CUI2"))
            unnamed = (pl.col("RELA") == "") & ~pl.col("REL").is_in(list(_PLAIN_RELATIONS))
            fault = pl.when(unnamed).then(pl.lit("neither RELA nor a known REL"))
            frame = well_formed(account.path, frame, fault, account, self.options.skip_bad)
            account.count(kept=frame.height)
            marked = frame.filter((pl.col("DIR") == "Y") & (pl.col("RELA") != ""))["RELA"]
            asserted.update(dict(marked.value_counts().iter_rows()))
            turned = (pl.col("RELA") == "") & pl.col("REL").is_in(["PAR", "RB"])
            plain = {rel: name for rel, (name, _) in _PLAIN_RELATIONS.items()}
            yield from batches(
                "triples",
                frame.select(
                    head=pl.when(turned).then("CUI1").otherwise("CUI2"),
                    relation=pl.when(pl.col("RELA") == "")
                    .then(pl.col("REL").replace_strict(plain, default=""))
                    .otherwise("RELA"),
                    tail=pl.when(turned).then("CUI2").otherwise("CUI1"),
                    source="SAB",
                    evidence=pl.lit(""),
                ),
            )
        rows = Rows()
        for relation, inverse in sorted(_canonical(inverses, asserted).items()):
            rows.add("inverses", relation, inverse)
        for relation in _SYMMETRIC:
            rows.add("inverses", relation, relation)
        yield from rows.rest()

    def _lift(self, frame: pl.DataFrame) -> pl.DataFrame:
        """RxNorm states some relations between atoms: the same relation between their concepts."""
        for end in ("1", "2"):
            atoms = self._atoms_and_concepts().rename({"AUI": f"AUI{end}", "CUI": "concept"})
            frame = frame.join(atoms, on=f"AUI{end}", how="left", maintain_order="left")
            stated = pl.when(pl.col(f"CUI{end}") != "").then(f"CUI{end}")
            frame = frame.with_columns(pl.coalesce(stated, "concept", pl.lit("")).alias(f"CUI{end}")).drop("concept")
        return frame

    def _atoms_and_concepts(self) -> pl.DataFrame:
        if self.concept_of is None:
            read = _Release(self.folder, Account(self.folder), Options(skip_bad=True), self.kind, "", self.pattern)
            read.files, read.columns = self.files, self.columns
            frames = [pl.DataFrame(schema={"AUI": pl.String, "CUI": pl.String})]
            frames += [frame.select("AUI", "CUI") for _, frame in read._frames("RXNCONSO")]
            self.concept_of = pl.concat(frames).unique("AUI", keep="first")
        return self.concept_of

    # Attributes, trees, history

    def _attributes(self) -> Iterator[Batch]:
        wanted = self.options.attributes
        for account, frame in self._frames(f"{self.kind}SAT") if wanted else ():
            if "*" not in wanted:
                frame = without(frame, account, "an attribute that was not asked for", ~pl.col("ATN").is_in(wanted))
            frame = self._in_use(account, self._of_source(account, self._with_ids(account, frame, "CUI")))
            account.count(kept=frame.height)
            yield from batches("attributes", frame.select(concept_id="CUI", attribute="ATN", value="ATV", source="SAB"))
        for account, frame in self._frames("MRHIER") if self.options.hierarchy else ():
            frame = self._of_source(account, self._with_ids(account, frame, "CUI"))
            account.count(kept=frame.height)
            yield from batches(
                "attributes",
                frame.select(concept_id="CUI", attribute=pl.lit("path_to_root"), value="PTR", source="SAB"),
            )

    def _history(self) -> Iterator[Batch]:
        """MRCUI: deleted (DEL), merged (SY), or bequeathed to related concepts, which are no successors."""
        for account, frame in self._frames("MRCUI"):
            frame = self._with_ids(account, frame, "CUI1")
            account.count(kept=frame.height)
            merged = pl.col("REL") == "SY"
            yield from _retired(
                frame.select(
                    id="CUI1",
                    successor=pl.when(merged & (pl.col("CUI2") != "")).then("CUI2"),
                    reason=pl.when(merged)
                    .then("merged in " + pl.col("VER"))
                    .when(pl.col("REL") == "DEL")
                    .then("deleted in " + pl.col("VER"))
                    .otherwise("bequeathed in " + pl.col("VER") + " to " + pl.col("CUI2") + " (" + pl.col("REL") + ")"),
                )
            )
        for account, frame in self._frames("MERGEDCUI"):
            frame = self._with_ids(account, frame, "PCUI", "CUI")
            account.count(kept=frame.height)
            yield from _retired(frame.select(id="PCUI", successor="CUI", reason=pl.lit("merged in this release")))
        for account, frame in self._frames("DELETEDCUI"):
            frame = self._with_ids(account, frame, "PCUI")
            account.count(kept=frame.height)
            yield from _retired(
                frame.select(id="PCUI", successor=pl.lit(None, pl.String), reason=pl.lit("deleted in this release"))
            )
        for account, frame in self._frames("RXNCUI"):
            frame = self._with_ids(account, frame, "CUI1")
            gone = pl.col("CUI2") == pl.col("CUI1").str.strip_prefix(self.prefix)
            frame = frame.with_columns(CUI2=pl.when((pl.col("CUI2") != "") & ~gone).then(self.prefix + pl.col("CUI2")))
            account.count(kept=frame.height)
            yield from _retired(
                frame.select(
                    id="CUI1",
                    successor="CUI2",
                    reason=pl.when(pl.col("CUI2").is_null()).then(pl.lit("retired")).otherwise(pl.lit("remapped")),
                )
            )


def _of_types(account: Account, frame: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    kept = frame.join(chosen, on="CUI", how="semi", maintain_order="left")
    account.count(dropped={"of a semantic type that was not asked for": frame.height - kept.height})
    return kept


def _best_first(atoms: pl.DataFrame) -> pl.DataFrame:
    return atoms.sort(
        "CUI", "flagged", "english", "rank", "SAB", "STR", descending=[False, True, True, True, False, False]
    )


def _names(atoms: pl.DataFrame, kind: str) -> Iterator[Batch]:
    yield from batches(
        "names",
        atoms.select("language", "suppressed", concept_id="CUI", name="STR", kind=pl.lit(kind), source="SAB").unique(
            maintain_order=True
        ),
    )


def _retired(frame: pl.DataFrame) -> Iterator[Batch]:
    yield from batches("retired", frame)


def _canonical(inverses: dict[str, str], asserted: Counter[str]) -> dict[str, str]:
    """Of each pair the name to keep: marked by DIR more often, else a preferred one, else first in the alphabet."""
    order = {name: at for at, name in enumerate(_PREFERRED)}

    def place(name: str) -> tuple[int, int, str]:
        return -asserted[name], order.get(name, len(order)), name

    kept = {}
    for one, other in inverses.items():
        first, second = sorted((one, other), key=place)
        kept[first] = second
    return kept


def _some(names: pl.Series) -> str:
    ordered = sorted(set(names.to_list()))
    return ", ".join(ordered[:20]) + (", ..." if len(ordered) > 20 else "")
