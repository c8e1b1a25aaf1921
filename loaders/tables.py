"""The columns that readers of ontologies yield, and the account of the rows they read.

A reader is a generator of `Batch`es: Arrow record batches, each for one of the tables in `SCHEMAS`. No row needs to
become a Python object on its way from the file to the store.

- `concepts`: one row a concept and source. `types` are semantic types; `definition` may be null.
- `names`: every name of a concept, the preferred one (kind `preferred`) included. `kind` is one of `NAME_KINDS`;
  `language` is an ISO 639-1 code; suppressed names (obsolete, discarded by the source) are kept and marked.
- `triples`: head, relation, tail and the source that states it. `evidence` is a JSON object with what else the row
  says (reference, evidence code, frequency, onset, ...), or the empty string.
- `exclusions`: the same columns for facts that the source states NOT to hold. They are never triples.
- `retired`: ids that are no longer in use (alternative, merged, obsolete); `successor` is null where there is none.
- `mappings`: what a concept is called elsewhere: its codes and cross-references. `object` is a CURIE of another
  vocabulary as `loaders.identifiers` spells it, `predicate` is `xref`, `code`, or a SKOS or OWL predicate.
- `attributes`: anything else a source says about a concept, as text: further definitions, chosen attributes, places in
  a tree.
- `inverses`: pairs of relation names that say the same fact from either end. `relation` is the one to keep; it equals
  `inverse` where the relation is symmetric. Readers yield facts in either direction; merging folds them.
- `sources`: what is known of a source named in the other tables: release, restriction level, licence; null if unknown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

NAME_KINDS = ("preferred", "exact", "narrow", "broad", "related")

_FACT = [("head", pa.string()), ("relation", pa.string()), ("tail", pa.string()), ("source", pa.string())]
SCHEMAS: dict[str, pa.Schema] = {
    "concepts": pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("types", pa.list_(pa.string())),
            ("definition", pa.string()),
            ("source", pa.string()),
        ]
    ),
    "names": pa.schema(
        [
            ("concept_id", pa.string()),
            ("name", pa.string()),
            ("kind", pa.string()),
            ("language", pa.string()),
            ("source", pa.string()),
            ("suppressed", pa.bool_()),
        ]
    ),
    "triples": pa.schema([*_FACT, ("evidence", pa.string())]),
    "exclusions": pa.schema([*_FACT, ("evidence", pa.string())]),
    "retired": pa.schema([("id", pa.string()), ("successor", pa.string()), ("reason", pa.string())]),
    "mappings": pa.schema(
        [
            ("concept_id", pa.string()),
            ("predicate", pa.string()),
            ("object", pa.string()),
            ("source", pa.string()),
            ("evidence", pa.string()),
        ]
    ),
    "attributes": pa.schema(
        [("concept_id", pa.string()), ("attribute", pa.string()), ("value", pa.string()), ("source", pa.string())]
    ),
    "inverses": pa.schema([("relation", pa.string()), ("inverse", pa.string())]),
    "sources": pa.schema(
        [("source", pa.string()), ("release", pa.string()), ("restriction", pa.int64()), ("licence", pa.string())]
    ),
}


class Batch(NamedTuple):
    """Some rows of one of the tables in `SCHEMAS`."""

    table: str
    rows: pa.RecordBatch


@dataclass
class Account:
    """What became of the rows of one file: `read == kept + sum(dropped.values())` when the reader is done.

    A row is what the format counts by: a stanza of an OBO file, a line of a table. `release` is the version that the
    file states, if any. A dump of several files has one account for each in `parts`, and counts nothing itself.
    """

    path: Path
    format: str = ""
    release: str = ""
    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    parts: "list[Account]" = field(default_factory=list)

    def part(self, path: Path) -> "Account":
        """The account of one file of this dump."""
        part = Account(path, self.format, self.release)
        self.parts.append(part)
        return part

    def files(self) -> "Iterator[Account]":
        """The accounts of all files, one for a dump that is one file."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.files()

    def keep(self) -> None:
        self.read += 1
        self.kept += 1

    def drop(self, reason: str) -> None:
        self.count(dropped={reason: 1})

    def count(self, kept: int = 0, dropped: Mapping[str, int] | None = None) -> None:
        """Many rows at once: so many kept, so many dropped for each reason."""
        self.read += kept
        self.kept += kept
        for reason, rows in (dropped or {}).items():
            if rows:
                self.read += rows
                self.dropped[reason] += rows


class Rows:
    """Collects Python rows into Arrow batches, for formats that are small or need a parser of their own."""

    def __init__(self, size: int = 50_000) -> None:
        self.size = size
        self._rows: dict[str, list[Sequence[object]]] = {table: [] for table in SCHEMAS}

    def add(self, table: str, *values: object) -> None:
        """One row, its values in the order of the table's columns."""
        self._rows[table].append(values)

    def full(self) -> Iterator[Batch]:
        """The tables that have reached the batch size."""
        return self._take(self.size)

    def rest(self) -> Iterator[Batch]:
        """Whatever is left."""
        return self._take(1)

    def _take(self, least: int) -> Iterator[Batch]:
        for table, rows in self._rows.items():
            if len(rows) >= least:
                self._rows[table] = []
                schema = SCHEMAS[table]
                columns = zip(*rows, strict=True)
                yield Batch(
                    table,
                    pa.record_batch(
                        [pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema=schema
                    ),
                )
