"""SNOMED CT in Release Format 2: a release folder with its Snapshot, or the Full files reduced to their latest state.

A fact counts when the relationship and the concepts at both of its ends are active. Names are preferred, or not, by the
language reference sets, never by the description file. Relationships carry their group as evidence: the attributes of
one group belong together. A Delta is laid over the rows of an earlier release, which the reader hands out as state.
Format: SNOMED International, Release File Specification, https://confluence.ihtsdotools.org/display/DOCRELFMT
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from loaders.columns import batches, json_object, json_text, well_formed
from loaders.delimited import read_frames
from loaders.errors import InputError, MedgraftError
from loaders.identifiers import normal_ids
from loaders.lines import line_blocks, text_lines
from loaders.options import DEFAULTS, Options
from loaders.sources import files, opened
from loaders.tables import Account, Batch

PREFIX = "SNOMEDCT:"
RELEASE_TYPES = ("snapshot", "full", "delta")
_SOURCE = "SNOMEDCT"
_IS_A = 116680003
_INFERRED = 900000000000011006
_STATED = 900000000000010007
_FULLY_SPECIFIED = 900000000000003001
_DEFINITION = 900000000000550004
_PREFERRED = 900000000000548007
_ACCEPTABLE = 900000000000549004
# Reference sets of English, in the order in which a preferred term is looked for: United States, Great Britain.
_ENGLISH = (900000000000509007, 900000000000508004)
_SUCCESSIONS = {900000000000526001: "replaced by", 900000000000527005: "same as"}
_ASSOCIATIONS = {
    **_SUCCESSIONS,
    900000000000523009: "possibly equivalent to",
    900000000000524003: "moved to",
    900000000000525002: "moved from",
    900000000000528000: "was a",
    900000000000529008: "similar to",
    900000000000530003: "alternative",
    1186921001: "possibly replaced by",
    1186924009: "partially equivalent to",
}
_WHY_INACTIVE = 900000000000489007  # the reference set that says it, with these values
_REASONS = {
    900000000000482003: "duplicate",
    900000000000483008: "outdated",
    900000000000484002: "ambiguous",
    900000000000485001: "erroneous",
    900000000000486000: "limited",
    900000000000487009: "moved elsewhere",
    900000000000492006: "pending move",
    723277005: "against editorial policy",
    1186917008: "derived from a classification",
    1186919006: "meaning unknown",
}
# What the codes of a map are codes of; those of other maps get the map's own id as their prefix.
_MAPPED_TO = {
    900000000000497000: "CTV3",
    900000000000498005: "SRT",
    446608001: "ICDO",
    447562003: "ICD10",
    447563008: "ICD9CM",
    6011000124106: "ICD10CM",
    450993002: "ICPC2",
    705112009: "LOINC",
    784008009: "ORPHA",
}
# How a SNOMED CT concept relates to the code; what maps leave open is no claim of identity.
_CORRELATIONS = {
    "447557004": "skos:exactMatch",
    "447558009": "skos:broadMatch",
    "447559001": "skos:narrowMatch",
}
_FILE = re.compile(
    r"^x?(?:sct2|der2)_(?P<content>[A-Za-z]+)_(?P<detail>[A-Za-z0-9]*?)(?P<type>Snapshot|Full|Delta)(?:-[A-Za-z-]+)?"
    r"_[A-Za-z0-9-]+_(?P<date>\d{8})\w*\.txt(?:\.gz)?$"
)
_FILES = {
    "Concept": "concept",
    "Description": "description",
    "TextDefinition": "description",
    "Relationship": "relationship",
    "StatedRelationship": "relationship",
    "RelationshipConcreteValues": "value",
}
# A reference set is known by a column that no other kind has.
_REFSETS = {
    "acceptabilityId": "language",
    "targetComponentId": "association",
    "valueId": "inactivation",
    "mapTarget": "map",
    "owlExpression": "axiom",
}
_ROW = "id effectiveTime active"
_COLUMNS = {
    "concept": _ROW,
    "description": f"{_ROW} conceptId languageCode typeId term",
    "relationship": f"{_ROW} sourceId destinationId relationshipGroup typeId characteristicTypeId",
    "value": f"{_ROW} sourceId value relationshipGroup typeId characteristicTypeId",
    "language": f"{_ROW} refsetId referencedComponentId acceptabilityId",
    "association": f"{_ROW} refsetId referencedComponentId targetComponentId",
    "inactivation": f"{_ROW} refsetId referencedComponentId valueId",
    "map": f"{_ROW} refsetId referencedComponentId mapTarget mapGroup mapPriority mapRule correlationId",
}
_ONLY_IN_SOME = ("mapGroup", "mapPriority", "mapRule", "correlationId")  # maps: empty where they are not
_TEXTS = ("languageCode", "term", "value", "mapTarget", *_ONLY_IN_SOME)
_UNREAD = {"axiom": "OWL axiom, not read", "": "row of a reference set or file that is not read"}
_UNPUBLISHED = 99999999  # the time of a row that has none yet
_TAG = r"\s*\(([^()]+)\)\s*$"
_SLICE = 500_000  # rows turned into Arrow at once
_Found = list[tuple[Path, re.Match[str]]]


def read_rf2(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts, names, relationships, maps and retired concepts of a release; each file has an account of its rows.

    Ids are `SNOMEDCT:138875005`. A concept is called by its preferred synonym in the first of the language reference
    sets that has one (United States, Great Britain, then the others; English before other languages, or the languages
    asked for in their order), else by its fully specified name without its tag, else by any active synonym, else by
    its id. The tag of the fully specified name, `disorder`, is its type; without such a name it has none. Relations are
    called by the English name of their type, `is_a` by that. A retired concept has a successor where the release says
    that it was replaced by, or is the same as, exactly one other. Rows that a Delta may later change are yielded as
    they are, as batches `state:rf2_concept` and so on.

    Args:
        path: the release, or any folder in it.
        account: gets a part for each file that is read.
        options: `release_type` (`snapshot`, else `full` where there is no Snapshot), `stated`, `languages` (a concept
            keeps its fully specified name in whatever language).

    Raises:
        InputError: a file is missing or has other columns, a row is malformed; with `options.skip_bad` such a row is
            counted and left out; there are OWL axioms but none of the relationships asked for.
        MedgraftError: an unknown release type, or a Delta, which is no whole graph.
    """
    kind, found = _chosen(path, options)
    if kind == "delta":
        raise MedgraftError(
            f"{path} is a Delta, which is no whole graph; build from the Snapshot or the Full release, "
            "then run `medgraft update GRAPH DELTA`"
        )
    if not any(_FILES.get(match["content"]) == "concept" for _, match in found):
        raise InputError(path, None, f"has no {kind} file of concepts (sct2_Concept_{kind.title()}...)")
    yield from _Release(path, account, options).read(found)


def read_rf2_delta(path: Path, account: Account, options: Options, state: Path) -> Iterator[Batch]:
    """The whole new release: the rows of a Delta laid over those of the release that a graph holds.

    A row of the Delta replaces the earlier one with its id, even if its effective time is older. The accounts are of
    the files of the Delta; of rows with one id in the Delta itself the latest counts. What comes out is what
    `read_rf2` would yield for both releases combined, the state for a next Delta included.

    Args:
        path: the Delta, a folder or zip archive; only its Delta files are read.
        account: gets a part for each file that is read.
        options: as for `read_rf2`; `release_type` does not matter.
        state: the folder with `rf2_concept.parquet` and so on, as yielded by an earlier reading.

    Raises:
        InputError: as `read_rf2`.
        MedgraftError: the state is missing or damaged, or there is no Delta.
    """
    if not (state / "rf2_concept.parquet").is_file():
        raise MedgraftError(f"{state} holds no SNOMED CT release to apply a Delta to; build the graph from one first")
    path = opened(path) if isinstance(path, Path) else path
    found = _by_type(path).get("delta")
    if not found:
        raise MedgraftError(f"{path} has no Delta files (sct2_..._Delta_...); check the path")
    yield from _Release(path, account, options, state).read(found)


def is_rf2(names: list[str]) -> bool:
    """Whether a folder with these files is a SNOMED CT release."""
    return any(found["content"] in _FILES for found in map(_FILE.match, names) if found)


def is_rf2_delta(path: Path, options: Options = DEFAULTS) -> bool:
    """Whether reading this would mean to apply a Delta: it has nothing else, or the options ask for it.

    Raises:
        InputError: it does not exist or cannot be opened.
    """
    path = opened(path) if isinstance(path, Path) else path
    if not path.is_dir():
        return False
    types = _by_type(path)
    return "delta" in types and (len(types) == 1 or options.release_type.lower() == "delta")


def _by_type(path: Path) -> dict[str, _Found]:
    """The files of each release type that has one of concepts, descriptions or relationships."""
    by_type: dict[str, _Found] = {}
    for file in files(path):
        match = _FILE.match(file.name)
        if match:
            by_type.setdefault(match["type"].lower(), []).append((file, match))
    return {kind: found for kind, found in by_type.items() if any(match["content"] in _FILES for _, match in found)}


def _chosen(path: Path, options: Options) -> tuple[str, _Found]:
    """The release type to read, and its files."""
    asked = options.release_type.lower()
    if asked and asked not in RELEASE_TYPES:
        raise MedgraftError(f"no release type {options.release_type!r}; choose one of {', '.join(RELEASE_TYPES)}")
    if not path.is_dir():
        raise InputError(path, None, "a single file, where SNOMED CT is a folder or zip archive of files; give that")
    by_type = _by_type(path)
    kind = asked or next((kind for kind in RELEASE_TYPES if kind in by_type), "snapshot")
    if kind not in by_type:
        there = f"there is {', '.join(sorted(by_type))}" if by_type else "is it a SNOMED CT release?"
        raise InputError(path, None, f"has no {kind} files (sct2_Concept_{kind.title()}...); {there}")
    return kind, by_type[kind]


@dataclass
class _Release:
    """One reading of one release.

    Frames have the column `file`, the number of the account that a row is counted in; it is -1 for what an earlier
    release left as state, which no file of this one is to account for.
    """

    path: Path
    account: Account
    options: Options
    state: Path | None = None
    accounts: list[Account] = field(default_factory=list)
    files: dict[str, list[tuple[Path, int]]] = field(default_factory=dict)
    axioms: int = 0
    relationships: int = 0
    relation_names: pl.DataFrame = field(default_factory=pl.DataFrame)

    def read(self, found: _Found) -> Iterator[Batch]:
        self.account.release = max(match["date"] for _, match in found)
        for file, match in found:
            self._open(file, match)
        if self.state is None and not self.files.get("relationship"):
            why = "only OWL axioms, which are not read" if self.axioms else "no relationship file"
            raise InputError(self.path, None, f"has {why}; add the file of relationships to the folder")
        yield from batches("sources", _source(self.account.release))
        concepts = self._latest("concept")
        yield from self._keep_state("concept", concepts)
        retired = concepts.filter(~pl.col("active")).select("id", "file")
        active = self._kept(self._drop(concepts, "inactive", ~pl.col("active"))).select("id")
        yield from self._state_and_names(active)
        yield from self._facts(active)
        yield from self._history(retired)
        yield from self._maps(active)

    # Files and their rows

    def _open(self, file: Path, match: re.Match[str]) -> None:
        """Put a file with those of its content, or count its rows as not read."""
        account = self.account.part(file)
        self.accounts.append(account)
        content = _FILES.get(match["content"], "")
        if match["content"].endswith("Refset"):
            header = _header(file)
            content = next((content for column, content in _REFSETS.items() if column in header), "")
        if content in _COLUMNS:
            self.files.setdefault(content, []).append((file, len(self.accounts) - 1))
            return
        for _, block in line_blocks(file, 1):
            rows = sum(bool(line.strip()) for line in block.split(b"\n"))
            account.count(dropped={_UNREAD[content]: rows})
            self.axioms += rows if content == "axiom" else 0

    def _rows(self, content: str, file: Path, number: int) -> Iterator[pl.DataFrame]:
        """The rows of one file, checked, with the columns that matter."""
        columns = _COLUMNS[content].split()
        header = _header(file)
        missing = [column for column in columns if column not in header and column not in _ONLY_IN_SOME]
        if missing:
            raise InputError(file, 1, f"has no column {missing[0]}; fetch the release anew")
        absent = {column: pl.lit("") for column in columns if column not in header}
        numbers = [column for column in columns[3:] if column not in _TEXTS and column != "relationshipGroup"]
        if "refsetId" not in columns:  # the rows of reference sets have UUIDs
            numbers.append("id")
        wrong = {column: (~pl.col(column).str.contains(r"^\d{6,18}$"), "is not an SCTID") for column in numbers}
        wrong["active"] = (~pl.col("active").is_in(["0", "1"]), "is neither 0 nor 1")
        wrong["effectiveTime"] = (~pl.col("effectiveTime").str.contains(r"^(\d{8})?$"), "is not a date")
        if "relationshipGroup" in columns:
            wrong["relationshipGroup"] = (~pl.col("relationshipGroup").str.contains(r"^\d{1,9}$"), "is not a number")
        fault = pl.coalesce(pl.when(is_so).then(pl.lit(f"{name} {what}")) for name, (is_so, what) in wrong.items())
        account, skip_bad = self.accounts[number], self.options.skip_bad
        for frame in read_frames(file, header, account, after_line=1, skip_bad=skip_bad):
            good = well_formed(file, frame.with_columns(**absent), fault, account, skip_bad)
            time = pl.col("effectiveTime").cast(pl.Int32, strict=False).fill_null(_UNPUBLISHED)
            good = good.with_columns(effectiveTime=time, active=pl.col("active") == "1", file=pl.lit(number, pl.Int32))
            yield good.select(*columns, "file").cast(_schema(content))

    def _latest(self, content: str) -> pl.DataFrame:
        """One row an id: the latest of those in the files, else what the earlier release had."""
        frames = [self._earlier(content)]
        for file, number in self.files.get(content, ()):
            frames += self._rows(content, file, number)
        rows = pl.concat(frames)
        repeated = rows["id"].is_duplicated()
        if not repeated.any():
            return rows
        again = rows.filter(repeated).sort("id", pl.col("file") >= 0, "effectiveTime", maintain_order=True)
        again = again.with_columns(last=pl.col("id").is_last_distinct())
        again = self._drop(again, "superseded by a later row", ~pl.col("last")).drop("last")
        return pl.concat([rows.filter(~repeated), again])

    def _earlier(self, content: str) -> pl.DataFrame:
        path = None if self.state is None else self.state / f"rf2_{content}.parquet"
        if path is None or not path.exists():
            return pl.DataFrame(schema=_schema(content))
        try:
            rows = pl.read_parquet(path)
            return rows.with_columns(file=pl.lit(-1, pl.Int32)).select(_schema(content).names()).cast(_schema(content))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise MedgraftError(f"{path} cannot be read ({error!s:.80}); build the graph again") from error

    def _keep_state(self, content: str, rows: pl.DataFrame) -> Iterator[Batch]:
        """What a later Delta needs: all concepts, and of the rest what is active."""
        wanted = rows if content == "concept" else rows.filter("active")
        for part in wanted.drop("file").iter_slices(_SLICE):
            for batch in part.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
                yield Batch(f"state:rf2_{content}", batch)

    def _drop(self, rows: pl.DataFrame, reason: str, which: pl.Expr) -> pl.DataFrame:
        """The rows for which `which` is not true; the others are counted as dropped, each in its file."""
        marked = rows.with_columns(out=which.fill_null(False))
        for number, count in marked.filter("out").group_by("file").len().iter_rows():
            if number >= 0:
                self.accounts[number].count(dropped={reason: count})
        return marked.filter(~pl.col("out")).drop("out")

    def _kept(self, rows: pl.DataFrame) -> pl.DataFrame:
        for number, count in rows.group_by("file").len().iter_rows():
            if number >= 0:
                self.accounts[number].count(kept=count)
        return rows

    def _of(self, rows: pl.DataFrame, column: str, concepts: pl.DataFrame, reason: str) -> pl.DataFrame:
        """The rows whose `column` is one of the concepts."""
        return self._drop(rows, reason, ~pl.col(column).is_in(concepts["id"].implode()))

    # Names

    def _state_and_names(self, active: pl.DataFrame) -> Iterator[Batch]:
        """Concepts with their names, types and definitions."""
        rows = self._latest("description")
        yield from self._keep_state("description", rows)
        rows = self._drop(rows, "inactive", ~pl.col("active"))
        rows = self._of(rows, "conceptId", active, "conceptId is not an active concept")
        language = self._latest("language")
        yield from self._keep_state("language", language)
        language = self._kept(self._drop(language, "inactive", ~pl.col("active")))
        rows = _ranked(rows.with_columns(pl.col("languageCode").str.to_lowercase()), language)
        self.relation_names = _labels(rows.filter(pl.col("typeId") != _DEFINITION), ())
        asked = self.options.languages
        if asked:
            other = ~pl.col("languageCode").is_in(asked) & (pl.col("typeId") != _FULLY_SPECIFIED)
            rows = self._drop(rows, "a language that was not asked for", other)
        self._kept(rows)
        names = rows.filter(pl.col("typeId") != _DEFINITION)
        yield from _concepts(active, names, rows.filter(pl.col("typeId") == _DEFINITION), asked)

    # Facts

    def _facts(self, active: pl.DataFrame) -> Iterator[Batch]:
        """Relationships and concrete values, inferred or stated, by the characteristic type of each row."""
        rows = self._latest("relationship")
        yield from self._keep_state("relationship", rows)
        rows = self._in_force(rows, active, "destinationId")
        self._check_facts(rows)
        for part in _with_relation(rows, self.relation_names).iter_slices(_SLICE):
            group = pl.when(pl.col("relationshipGroup") > 0).then(pl.col("relationshipGroup").cast(pl.String))
            facts = part.select(
                head=_curie("sourceId"),
                relation="relation",
                tail=_curie("destinationId"),
                source=pl.lit(_SOURCE),
                evidence=json_object({"group": group}),
            )
            yield from batches("triples", facts)
        rows = self._latest("value")
        yield from self._keep_state("value", rows)
        rows = _with_relation(self._in_force(rows, active), self.relation_names)
        value = pl.col("value").str.strip_prefix("#").str.strip_prefix('"').str.strip_suffix('"')
        yield from _attributes(rows, "sourceId", pl.col("relation"), value)

    def _in_force(self, rows: pl.DataFrame, active: pl.DataFrame, *ends: str) -> pl.DataFrame:
        rows = self._drop(rows, "inactive", ~pl.col("active"))
        self.relationships += rows.height
        wanted = _STATED if self.options.stated else _INFERRED
        rows = self._drop(rows, "of another characteristic type", pl.col("characteristicTypeId") != wanted)
        for end in ("sourceId", *ends):
            rows = self._of(rows, end, active, f"{end} is not an active concept")
        return self._kept(rows)

    def _check_facts(self, rows: pl.DataFrame) -> None:
        """A graph without the relationships that were asked for is not what anybody wants."""
        if rows.height or not self.axioms:
            return
        if not self.relationships:
            raise InputError(
                self.path, None, "has only OWL axioms, which are not read; add the file of relationships to the folder"
            )
        if self.options.stated:
            message = "states its relationships as OWL axioms, which are not read; ask for the inferred ones"
            raise InputError(self.path, None, message)

    # History, maps

    def _history(self, retired: pl.DataFrame) -> Iterator[Batch]:
        rows = self._latest("association")
        yield from self._keep_state("association", rows)
        rows = self._drop(rows, "inactive", ~pl.col("active"))
        rows = self._kept(self._of(rows, "referencedComponentId", retired, "of what is no retired concept"))
        successor = pl.when(pl.col("refsetId").is_in(list(_SUCCESSIONS))).then(_curie("targetComponentId"))
        meaning = pl.col("refsetId").replace_strict(_ASSOCIATIONS, default="associated with", return_dtype=pl.String)
        told = rows.with_columns(meaning=meaning, successor=successor)
        told = told.sort("referencedComponentId", "meaning", "targetComponentId").unique(
            ["referencedComponentId", "meaning", "targetComponentId"], keep="first", maintain_order=True
        )
        told = told.group_by("referencedComponentId").agg(
            successor=pl.col("successor").drop_nulls().unique(),
            others=pl.concat_str("meaning", pl.lit(" "), _curie("targetComponentId")).str.join("; "),
        )
        why = self._latest("inactivation")
        yield from self._keep_state("inactivation", why)
        why = self._drop(why, "inactive", ~pl.col("active"))
        why = self._drop(why, "an attribute that is not read", pl.col("refsetId") != _WHY_INACTIVE)
        why = self._kept(self._of(why, "referencedComponentId", retired, "of what is no retired concept"))
        unknown = pl.lit("reason ") + pl.col("valueId").cast(pl.String)
        known = pl.col("valueId").replace_strict(_REASONS, default=None, return_dtype=pl.String)
        why = why.group_by("referencedComponentId").agg(why=pl.coalesce(known, unknown).unique().sort().str.join(", "))
        rows = retired.join(told, left_on="id", right_on="referencedComponentId", how="left", maintain_order="left")
        rows = rows.join(why, left_on="id", right_on="referencedComponentId", how="left", maintain_order="left")
        reasons = [pl.lit("inactive"), pl.lit(" (") + pl.col("why") + ")", pl.lit(": ") + pl.col("others")]
        yield from batches(
            "retired",
            rows.select(
                id=_curie("id"),
                successor=pl.when(pl.col("successor").list.len() == 1).then(pl.col("successor").list.first()),
                reason=pl.concat_str(reasons, ignore_nulls=True),
            ),
        )

    def _maps(self, active: pl.DataFrame) -> Iterator[Batch]:
        """Simple maps are cross-references; complex and extended ones say how a concept is classified."""
        rows = self._latest("map")
        yield from self._keep_state("map", rows)
        rows = self._drop(rows, "inactive", ~pl.col("active"))
        rows = self._of(rows, "referencedComponentId", active, "referencedComponentId is not an active concept")
        rows = self._kept(self._drop(rows, "a map to no code", pl.col("mapTarget").str.strip_chars() == ""))
        prefix = pl.col("refsetId").replace_strict(_MAPPED_TO, default=None, return_dtype=pl.String)
        prefix = pl.coalesce(prefix, pl.lit("SNOMEDCT_MAP_") + pl.col("refsetId").cast(pl.String))
        classified = pl.col("correlationId") != ""
        match = pl.col("correlationId").replace_strict(
            _CORRELATIONS, default="skos:relatedMatch", return_dtype=pl.String
        )
        target = pl.col("mapTarget").str.strip_chars()
        for part in rows.iter_slices(_SLICE):
            members = {
                "group": json_text("mapGroup"),
                "priority": json_text("mapPriority"),
                "rule": json_text("mapRule"),
            }
            mapped = part.select(
                concept_id=_curie("referencedComponentId"),
                predicate=pl.when(classified).then(match).otherwise(pl.lit("xref")),
                object=normal_ids(pl.concat_str(prefix, pl.lit(":"), target)),
                source=pl.lit(_SOURCE),
                evidence=json_object(members),
            )
            yield from batches("mappings", mapped)


def _header(file: Path) -> list[str]:
    line = next((line for _, line in text_lines(file)), None)
    if line is None:
        raise InputError(file, None, "is empty, without even a header; fetch the release anew")
    return line.split("\t")


def _schema(content: str) -> pl.Schema:
    """The types of the columns of a content: texts, and numbers for ids, of which there are many."""
    schema: dict[str, pl.DataType] = {column: pl.Int64() for column in _COLUMNS[content].split()}
    schema |= {column: pl.String() for column in schema if column in _TEXTS}
    schema |= {"effectiveTime": pl.Int32(), "active": pl.Boolean()}
    if "refsetId" in schema:
        schema["id"] = pl.String()
    if "relationshipGroup" in schema:
        schema["relationshipGroup"] = pl.Int32()
    return pl.Schema({**schema, "file": pl.Int32()})


def _source(release: str) -> pl.DataFrame:
    return pl.DataFrame({"source": [_SOURCE], "release": [release]}).with_columns(
        restriction=pl.lit(None, pl.Int64), licence=pl.lit(None, pl.String)
    )


def _curie(column: str) -> pl.Expr:
    return pl.lit(PREFIX) + pl.col(column).cast(pl.String)


def _attributes(rows: pl.DataFrame, concept: str, attribute: pl.Expr, value: pl.Expr) -> Iterator[Batch]:
    for part in rows.iter_slices(_SLICE):
        frame = part.select(concept_id=_curie(concept), attribute=attribute, value=value, source=pl.lit(_SOURCE))
        yield from batches("attributes", frame)


def _ranked(descriptions: pl.DataFrame, language: pl.DataFrame) -> pl.DataFrame:
    """Descriptions with `rank`, how early in the order of the reference sets they are preferred, and `accepted`."""
    order = {refset: at for at, refset in enumerate(_ENGLISH)}
    accepted = language.filter(pl.col("acceptabilityId").is_in([_PREFERRED, _ACCEPTABLE])).select(
        id="referencedComponentId",
        preferred=pl.col("acceptabilityId") == _PREFERRED,
        order=pl.col("refsetId").replace_strict(order, default=len(order), return_dtype=pl.Int64),
    )
    ranked = accepted.group_by("id").agg(
        rank=pl.col("order").filter(pl.col("preferred")).min(), accepted=pl.lit(True).first()
    )
    return descriptions.join(ranked, on="id", how="left", maintain_order="left")


def _best_first(names: pl.DataFrame, languages: tuple[str, ...]) -> pl.DataFrame:
    """The names of each concept, the one to call it by first."""
    order = {language: at for at, language in enumerate(languages or ("en",))}
    specified = pl.col("typeId") == _FULLY_SPECIFIED
    place = (
        pl.when(~specified & pl.col("rank").is_not_null())
        .then(0)
        .when(specified)
        .then(1)
        .when(pl.col("accepted"))
        .then(2)
        .otherwise(3)
    )
    language = pl.col("languageCode").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    names = names.with_columns(place=place, order=language, specified=specified)
    return names.sort("conceptId", "order", "languageCode", "place", "rank", "id", nulls_last=True)


def _labels(names: pl.DataFrame, languages: tuple[str, ...]) -> pl.DataFrame:
    """One row a concept: what to call it, by which description."""
    best = _best_first(names, languages).unique("conceptId", keep="first", maintain_order=True)
    return best.select(
        "conceptId",
        label=pl.when("specified").then(pl.col("term").str.replace(_TAG, "")).otherwise("term"),
        chosen="id",
    )


def _tags(names: pl.DataFrame) -> pl.DataFrame:
    """The semantic tag of each concept, from its fully specified name, the English one where there are several."""
    whole = _best_first(names, ()).filter("specified").with_columns(types=pl.col("term").str.extract(_TAG))
    whole = whole.drop_nulls("types").unique("conceptId", keep="first", maintain_order=True)
    return whole.select("conceptId", types=pl.concat_list("types"))


def _concepts(
    active: pl.DataFrame, names: pl.DataFrame, definitions: pl.DataFrame, languages: tuple[str, ...]
) -> Iterator[Batch]:
    labels = _labels(names, languages)
    first = _best_first(definitions, languages).unique("conceptId", keep="first", maintain_order=True)
    concepts = active
    for told in (labels, _tags(names), first.select("conceptId", definition="term")):
        concepts = concepts.join(told, left_on="id", right_on="conceptId", how="left", maintain_order="left")
    for part in concepts.iter_slices(_SLICE):
        described = part.select(
            "definition",
            id=_curie("id"),
            name=pl.coalesce("label", _curie("id")),
            types=pl.col("types").fill_null([]),
            source=pl.lit(_SOURCE),
        )
        yield from batches("concepts", described)
    named = _best_first(names, languages).join(labels, on="conceptId", how="left", maintain_order="left")
    chosen = pl.col("id") == pl.col("chosen")
    # Also the preferred term of each other language. A fully specified name that names its concept loses its tag.
    preferred = (pl.col("place") == 0) & pl.struct("conceptId", "languageCode").is_first_distinct()
    named = named.with_columns(
        kind=pl.when(chosen | preferred).then(pl.lit("preferred")).otherwise(pl.lit("exact")),
        name=pl.when(chosen).then("label").otherwise("term"),
    )
    for part in named.iter_slices(_SLICE):
        frame = part.select(
            "name",
            "kind",
            concept_id=_curie("conceptId"),
            language="languageCode",
            source=pl.lit(_SOURCE),
            suppressed=pl.lit(False),
        )
        yield from batches("names", frame)
    yield from _attributes(named.filter("specified"), "conceptId", pl.lit("fully_specified_name"), pl.col("term"))
    yield from _attributes(definitions, "conceptId", pl.lit("definition"), pl.col("term"))


def _with_relation(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Relations by the name of their type, in lower case, with underscores; by its id too where two share a name."""
    spelled = pl.col("label").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "_").str.strip_chars("_")
    identified = pl.col("typeId").cast(pl.String)
    types = rows.select("typeId").unique().join(labels, left_on="typeId", right_on="conceptId", how="left")
    types = types.with_columns(spelled=pl.when(spelled != "").then(spelled))
    shared = (pl.len().over("spelled") > 1) | (pl.col("spelled") == "is_a")
    types = types.select(
        "typeId",
        relation=pl.when(pl.col("typeId") == _IS_A)
        .then(pl.lit("is_a"))
        .when(shared & pl.col("spelled").is_not_null())
        .then(pl.col("spelled") + "_" + identified)
        .otherwise(pl.coalesce("spelled", identified)),
    )
    return rows.join(types, on="typeId", how="left", maintain_order="left")
