"""SSSOM: mappings between vocabularies as a tab-separated table under a header of YAML comments.

A mapping is a row of the table `mappings`, from each of its two ends, since the graph may hold the one, the other or
both; what the graph makes of them is told in `kg.joining`. Prefixes are spelled as the file's own `curie_map` says.

Format: https://mapping-commons.github.io/sssom/
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from loaders.columns import batches, json_object, json_text, well_formed, without
from loaders.errors import InputError
from loaders.identifiers import normal_id, normal_ids
from loaders.lines import text_lines
from loaders.options import DEFAULTS, Options
from loaders.quoted import read_quoted_frames
from loaders.tables import Account, Batch
from loaders.terms import match_predicate

_KEY = ("subject_id", "predicate_id", "object_id")
_LABELS = ("subject_label", "object_label")  # what the ends are called is for their own vocabularies to say
_NO_TERM = "sssom:NoTermFound"
_XREF = ("oboInOwl:hasDbXref", "http://www.geneontology.org/formats/oboInOwl#hasDbXref")
_EQUIVALENT = "owl:equivalentClass"
_TURNED = {"skos:broadMatch": "skos:narrowMatch", "skos:narrowMatch": "skos:broadMatch"}
_ID = r"^\S+$"


def read_sssom(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """The mappings of a file; the account counts its rows.

    Predicates are SKOS matches, `owl:sameAs`, `owl:equivalentClass` and `oboInOwl:hasDbXref` (`xref`); rows with
    another one are dropped, and so are those that are negated (`predicate_modifier` Not) or that say that there is no
    such term. The evidence tells all that a row says besides: justification, confidence, authors, tools.

    Raises:
        InputError: a header that is none, a column missing, a row of another width or without an id; with
            `options.skip_bad` such a row is counted and left out.
    """
    metadata, line, columns = _header(path)
    source = str(metadata.get("mapping_set_title") or path.name.split(".")[0])
    account.release = str(metadata.get("mapping_set_version") or metadata.get("mapping_set_id") or "")
    prefixes = _prefixes(metadata.get("curie_map"))
    for frame in read_quoted_frames(path, columns, account, after_line=line, separator="\t", skip_bad=options.skip_bad):
        frame = frame.with_columns(pl.col(columns).str.strip_chars(" \r"))
        fault = pl.coalesce(
            pl.when(~pl.col(column).str.contains(_ID)).then(pl.lit(f"a mapping without a {column}")) for column in _KEY
        )
        frame = well_formed(path, frame, fault, account, options.skip_bad)
        yield from _mappings(frame, columns, prefixes, source, account)
    licence = str(metadata.get("license") or "")
    yield from batches(
        "sources",
        pl.DataFrame(
            {
                "source": [source],
                "release": [account.release or None],
                "restriction": [None],
                "licence": [licence or None],
            },
            schema_overrides={"restriction": pl.Int64, "release": pl.String, "licence": pl.String},
        ),
    )


def is_sssom(head: list[str]) -> bool:
    """Whether the first lines of a file are those of an SSSOM table."""
    first = next((line for line in head if line.strip() and not line.startswith("#")), "")
    return set(_KEY) <= set(first.rstrip("\r").split("\t"))


def _header(path: Path) -> tuple[dict[str, Any], int, list[str]]:
    """The metadata, the number of the line with the columns, and these."""
    comments = []
    for number, line in text_lines(path):
        if line.startswith("#"):
            comments.append(line[1:])
        elif line.strip():
            columns = line.split("\t")
            missing = [column for column in _KEY if column not in columns]
            if missing:
                raise InputError(path, number, f"no SSSOM header (missing: {', '.join(missing)}); check the file")
            twice = next((column for column in columns if columns.count(column) > 1), None)
            if twice is not None:
                raise InputError(path, number, f"the column {twice!r} is there twice; rename one")
            return _metadata(path, comments), number, columns
    raise InputError(path, None, "holds no table; an SSSOM file is expected")


def _metadata(path: Path, comments: list[str]) -> dict[str, Any]:
    try:
        found = yaml.safe_load("\n".join(comments))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = None if line is None else line + 1
        raise InputError(path, at, "the comments at the top are no YAML; mend them, or take them out") from error
    return found if isinstance(found, dict) else {}


def _prefixes(curie_map: Any) -> dict[str, str]:
    """The file's prefix of a CURIE, with its colon -> what we write in its place."""
    if not isinstance(curie_map, dict):
        return {}
    ours = {}
    for prefix, iri in curie_map.items():
        spelled = normal_id(f"{iri}0").removesuffix("0")
        if spelled.endswith(":") and "//" not in spelled:
            ours[f"{prefix}:"] = spelled
    return ours


def _mappings(
    frame: pl.DataFrame, columns: list[str], prefixes: dict[str, str], source: str, account: Account
) -> Iterator[Batch]:
    if "predicate_modifier" in columns:
        negated = pl.col("predicate_modifier").str.to_lowercase() == "not"
        frame = without(frame, account, "negated mapping", negated)
    nowhere = (pl.col("subject_id") == _NO_TERM) | (pl.col("object_id") == _NO_TERM)
    frame = without(frame, account, "no term found", nowhere)
    names = {name: _predicate(name) for name in frame["predicate_id"].unique()}
    predicate = pl.col("predicate_id").replace_strict(names, return_dtype=pl.String) if names else pl.lit("")
    frame = without(
        frame.with_columns(predicate=predicate), account, "predicate that is no match", pl.col("predicate") == ""
    )
    account.count(kept=frame.height)
    said = [c for c in columns if c not in (*_KEY, *_LABELS, "predicate_modifier")]
    frame = frame.select(
        "predicate",
        subject=_spelled("subject_id", prefixes),
        object=_spelled("object_id", prefixes),
        source=pl.lit(source),
        evidence=json_object({column.replace('"', ""): json_text(column) for column in said}),
    )
    turned = pl.col("predicate").replace(_TURNED)
    yield from batches("mappings", frame.rename({"subject": "concept_id"}))
    yield from batches("mappings", frame.with_columns(turned).rename({"object": "concept_id", "subject": "object"}))


def _predicate(name: str) -> str:
    if name in _XREF:
        return "xref"
    return _EQUIVALENT if normal_id(name) == _EQUIVALENT else match_predicate(name)


def _spelled(column: str, prefixes: dict[str, str]) -> pl.Expr:
    id = pl.col(column)
    if not prefixes:
        return normal_ids(id)
    prefix = id.str.extract(r"^([^:]*:)")
    known = prefix.replace_strict(prefixes, default=None, return_dtype=pl.String)
    return normal_ids(pl.when(known.is_not_null()).then(known + id.str.slice(prefix.str.len_chars())).otherwise(id))
