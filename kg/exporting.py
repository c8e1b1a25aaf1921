"""A graph for other tools: KGX tables, the files of `neo4j-admin`, GraphML.

KGX: `nodes.tsv` and `edges.tsv`, which `medgraft build` reads back to the same concepts and facts. A relation is
written as `biolink:<relation>`, whether Biolink has it or not, since renaming it would lose what the source said;
negated edges are the exclusions; a fact with several pieces of evidence is written once for each. Suppressed names stay
out. KGX has no quoting: a tab, a line break or, in a list, a `|` becomes a blank, and such values are counted.

Format: https://github.com/biolink/kgx/blob/master/specification/kgx-format.md
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

from kg.differences import GraphTables
from kg.snapshot import SCHEMAS, is_graph
from loaders.errors import MedgraftError
from loaders.folders import new_folder, only_writer

FORMATS = ("kgx", "neo4j-admin", "graphml")
_KINDS = {
    "exact_synonym": ("preferred", "exact"),
    "narrow_synonym": ("narrow",),
    "broad_synonym": ("broad",),
    "related_synonym": ("related",),
}
_EDGE = ("id", "type", "subject", "predicate", "object", "negated", "provided_by")
_SOURCES = ("knowledge_source", "primary_knowledge_source", "aggregator_knowledge_source")
_SAME_AS = "owl:sameAs"
_BREAKS = r"[\t\r\n]+"
_PARTED = r"[\t\r\n|]+"  # what a value in a list cannot hold


@dataclass(frozen=True)
class ExportReport:
    """What was written where: rows by file, and what a format could not hold, by reason."""

    where: str
    rows: dict[str, int]
    lost: dict[str, int]

    def __str__(self) -> str:
        lines = [f"{rows:>12,}  {name}" for name, rows in self.rows.items()]
        lines += [f"{count:>12,}  {reason}" for reason, count in self.lost.items() if count]
        return "\n".join([f"{self.where}:", *lines])


def export_kgx(graph: str | Path, out: str | Path) -> ExportReport:
    """Write `nodes.tsv` and `edges.tsv` into a new folder.

    Args:
        graph: a graph folder, or the address of a Neo4j database.
        out: the folder, which appears when all is written.

    Raises:
        MedgraftError: no graph there, or no access to the output.
    """
    lost: Counter[str] = Counter()
    with closing(GraphTables(graph)) as tables, _outside(graph, out) as folder:
        rows = {"nodes.tsv": _write_nodes(tables, folder / "nodes.tsv", lost)}
        rows["edges.tsv"] = _write_edges(tables, folder / "edges.tsv", lost)
    return ExportReport(str(out), rows, dict(lost))


def export_graphml(graph: str | Path, out: str | Path) -> ExportReport:
    """Write `graph.graphml` into a new folder: concepts with name and types, triples with relation and sources.

    Raises:
        MedgraftError: no graph there, or no access to the output.
    """
    from kg.graph import connect
    from kg.networks import write_graphml

    with connect(graph) as opened, _outside(graph, out) as folder:
        whole = opened.to_networkx()
        write_graphml(whole, folder / "graph.graphml")
        counts = opened.stats()
    rows = {"nodes": whole.number_of_nodes(), "edges": whole.number_of_edges()}
    names = ("names", "exclusions", "retired", "mappings", "attributes")
    return ExportReport(str(out), rows, {f"{name}, which GraphML has no place for": counts[name] for name in names})


@contextmanager
def _outside(graph: str | Path, out: str | Path) -> Iterator[Path]:
    """A new folder that does not replace the graph itself, nor anything else than an earlier export."""
    target = Path(out)
    if "://" not in str(graph) and Path(graph).resolve().is_relative_to(target.resolve()):
        raise MedgraftError(f"{graph} lies in {out}, which the export would replace; choose another folder")
    if is_graph(target):
        raise MedgraftError(f"{out} is a graph, which the export would replace; choose another folder")
    with only_writer(target), new_folder(target) as folder:
        yield folder


def _write_nodes(tables: GraphTables, path: Path, lost: Counter[str]) -> int:
    nodes = _frame(tables, "concepts").select(
        "id", "name", category="types", description="definition", provided_by="sources"
    )
    names = _frame(tables, "names")
    lost["suppressed names, left out"] += int(names["suppressed"].sum())
    names = names.filter(~pl.col("suppressed")).join(
        nodes.select("id", preferred="name"), left_on="concept_id", right_on="id"
    )
    names = names.filter(pl.col("name") != pl.col("preferred"))
    for column, kinds in _KINDS.items():
        nodes = _with_list(nodes, names.filter(pl.col("kind").is_in(kinds)), "name", column)
    mappings = _frame(tables, "mappings")
    same = pl.col("predicate") == _SAME_AS
    nodes = _with_list(nodes, mappings.filter(same), "object", "same_as")
    nodes = _with_list(nodes, mappings.filter(pl.col("predicate").is_in(["xref", "code"])), "object", "xref")
    others = mappings.filter(~same & ~pl.col("predicate").is_in(["xref", "code"]))
    lost["mappings that are neither xref nor same_as, left out"] += others.height
    attributes = _frame(tables, "attributes")
    lost["attributes, left out"] += attributes.height
    retired = _frame(tables, "retired").select("id", deprecated=pl.lit("true"))
    lost["successors of retired ids, left out"] += _frame(tables, "retired")["successor"].count()
    nodes = pl.concat([nodes, retired], how="diagonal")
    return _write_tsv(nodes, path, lost)


def _with_list(nodes: pl.DataFrame, rows: pl.DataFrame, values: str, column: str) -> pl.DataFrame:
    """The nodes with a column more: for each the values of its rows, sorted."""
    lists = rows.group_by(id="concept_id").agg(pl.col(values).unique().sort().alias(column))
    return nodes.join(lists, on="id", how="left", maintain_order="left")


def _write_edges(tables: GraphTables, path: Path, lost: Counter[str]) -> int:
    rows = 0
    keys = _evidence_keys(tables)
    for name in ("triples", "exclusions"):
        for batch in tables.batches(name):
            facts = cast(pl.DataFrame, pl.from_arrow(batch)).explode("evidence", keep_nulls=True, empty_as_null=True)
            said = _said(facts["evidence"], keys)
            edges = facts.select(
                subject="head",
                predicate="biolink:" + pl.col("relation"),
                object="tail",
                negated=pl.lit("true" if name == "exclusions" else ""),
                knowledge_source="sources",
            ).hstack(said)
            rows += _write_tsv(edges, path, lost, append=rows > 0)
    if not rows:
        columns = ["subject", "predicate", "object", "negated", "knowledge_source"]
        path.write_text("\t".join(columns) + "\n", encoding="utf-8")
    return rows


def _evidence_keys(tables: GraphTables) -> list[str]:
    """What pieces of evidence can say, sorted."""
    keys: set[str] = set()
    for name in ("triples", "exclusions"):
        for batch in tables.batches(name, ["evidence"]):
            for text in batch.column("evidence").flatten().unique().to_pylist():
                keys |= json.loads(text).keys()
    return sorted(keys)


def _said(evidence: pl.Series, keys: list[str]) -> pl.DataFrame:
    """What each piece of evidence says under the keys: text as it is, anything else as JSON."""
    texts = evidence.unique().drop_nulls().sort()
    said = [json.loads(text) for text in texts]
    columns = {_column(key): [_text(row[key]) if key in row else "" for row in said] for key in keys}
    known = pl.DataFrame(columns, schema=dict.fromkeys(map(_column, keys), pl.String))
    place = texts.search_sorted(evidence.fill_null(""))
    place = place.zip_with(evidence.is_not_null(), pl.Series([None], dtype=place.dtype))
    return known.select(pl.all().gather(place)) if keys else known


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _column(key: str) -> str:
    """The name for a column of evidence; one that has a meaning of its own in KGX gets a `_`."""
    return f"{key}_" if key in (*_EDGE, *_SOURCES) else key


def _write_tsv(frame: pl.DataFrame, path: Path, lost: Counter[str], append: bool = False) -> int:
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    texts = [name for name in frame.columns if name not in lists]
    broken = frame.select(pl.col(texts).str.contains(_BREAKS).sum()).sum_horizontal().item()
    parted = frame.select(pl.col(name).list.eval(pl.element().str.contains(_PARTED)).list.sum().sum() for name in lists)
    lost["values with a tab, a line break or, in a list, a bar, which became a blank"] += int(broken or 0) + int(
        parted.sum_horizontal().item() or 0
    )
    frame = frame.with_columns(
        pl.col(texts).str.replace_all(_BREAKS, " "),
        *(pl.col(name).list.eval(pl.element().str.replace_all(_PARTED, " ")).list.join("|") for name in lists),
    )
    with path.open("ab" if append else "wb") as file:
        frame.write_csv(file, include_header=not append, separator="\t", quote_style="never")
    return frame.height


def _frame(tables: GraphTables, name: str) -> pl.DataFrame:
    return cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches(tables.batches(name), SCHEMAS[name])))
