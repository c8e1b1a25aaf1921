"""Tables of nodes or of edges in any layout, comma- or tab-separated: the header or the user says which column is what.

Our columns of an edge are head, relation and tail; of a node id and name. `Options.columns` maps them to the columns of
the file: `{"head": "ChemicalID", "relation": "=treats", "tail": "DiseaseID"}`, where `=` begins a constant. Some
well-known layouts are told by their headers: `LAYOUTS`. Comma-separated tables may quote (RFC 4180), tab-separated
ones do not.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from loaders.columns import batches, json_object, json_text, well_formed
from loaders.delimited import read_frames
from loaders.errors import InputError, MedgraftError
from loaders.identifiers import normal_ids
from loaders.lines import text_lines
from loaders.options import DEFAULTS, Options
from loaders.quoted import header_columns, read_quoted_frames
from loaders.tables import Account, Batch

_EDGE = ("head", "relation", "tail")  # each is required
_MORE_OF_EDGES = (
    *("head_name", "tail_name", "head_type", "tail_type", "head_prefix", "tail_prefix"),
    *("source", "negated", "language"),
)
_NODE = ("id", "name")
_MORE_OF_NODES = ("type", "definition", "synonyms", "parents", "xrefs", "prefix", "source", "language")
_SEARCHED_LINES = 100
# Vocabularies whose numbers are written with so many digits, even where a table writes them as plain numbers.
_DIGITS = {"HP": 7, "GO": 7, "MONDO": 7, "UBERON": 7, "CL": 7}
_OUR_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_TRUE = ("true", "1", "yes")


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    Attributes:
        columns: our column -> the column of the file, or `=` and a constant. Our names other than those of this module
            are evidence of an edge, attributes of a node.
        relations: relation of the file -> ours; others stay as they are.
        symmetric: our relations that hold in both directions; `*` for all.
        denials: relation that states the absence of another -> that other; such an edge is an exclusion.
        prefixes: vocabulary, as the file names it -> prefix of our ids; empty for ids that have none (UMLS).
        prefix_ends_with: what ends the vocabulary within the ids themselves, if anything does.
    """

    columns: Mapping[str, str]
    relations: Mapping[str, str] = field(default_factory=dict)
    symmetric: tuple[str, ...] = ()
    denials: Mapping[str, str] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    prefix_ends_with: str = ""


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_HETIONET_PREFIXES = {
    "Gene": "NCBIGene",
    "Compound": "DRUGBANK",
    "Symptom": "MESH",
    "Side Effect": "",
    "Pathway": "PathwayCommons",
    "Pharmacologic Class": "NDFRT",
}
_CTD_CHEMICAL = {"source": "=CTD", "head_name": "ChemicalName", "head": "ChemicalID", "head_type": "=Chemical"}
_CTD_CHEMICAL |= {"head_prefix": "=MESH"}
_CTD_GENE = {"source": "=CTD", "head_name": "GeneSymbol", "head": "GeneID", "head_type": "=Gene"}
_CTD_GENE |= {"head_prefix": "=NCBIGene"}
_CTD_DISEASE = {"tail_name": "DiseaseName", "tail": "DiseaseID", "tail_type": "=Disease", "tail_prefix": "=MESH"}
_CTD_INFERRED = {"relation": "DirectEvidence", "score": "InferenceScore", "publications": "PubMedIDs"}
_CTD_RELATIONS = {"": "inferred_association", "marker/mechanism": "marker_or_mechanism", "therapeutic": "therapeutic"}
_CTD_NODE = {"source": "=CTD", "definition": "Definition", "parents": "ParentIDs", "synonyms": "Synonyms"}
_CTD_NODE |= {"tree_number": "TreeNumbers", "prefix": "=MESH"}

# Tried in this order; a table has a layout if it has all the columns that the layout names.
LAYOUTS: dict[str, Layout] = {
    # Every edge is there from either end, without a word about its direction.
    "PrimeKG": Layout(
        {
            **{"head": "x_id", "head_name": "x_name", "head_type": "x_type", "head_prefix": "x_source"},
            **{"tail": "y_id", "tail_name": "y_name", "tail_type": "y_type", "tail_prefix": "y_source"},
            **{"relation": "relation", "display_relation": "display_relation", "source": "=PrimeKG"},
        },
        symmetric=("*",),
        denials={
            "disease_phenotype_negative": "disease_phenotype_positive",
            "anatomy_protein_absent": "anatomy_protein_present",
        },
        prefixes={"NCBI": "NCBIGene", "HPO": "HP", "DrugBank": "DRUGBANK", "CTD": "MESH", "REACTOME": "REACT"},
    ),
    "Hetionet nodes": Layout(
        {"id": "id", "name": "name", "type": "kind", "source": "=Hetionet"},
        prefixes=_HETIONET_PREFIXES,
        prefix_ends_with="::",
    ),
    "Hetionet edges": Layout(
        {"head": "source", "relation": "metaedge", "tail": "target", "metaedge": "metaedge", "source": "=Hetionet"},
        relations={
            **dict.fromkeys(("AuG", "CuG", "DuG"), "upregulates"),
            **dict.fromkeys(("AdG", "CdG", "DdG"), "downregulates"),
            **dict.fromkeys(("CrC", "DrD"), "resembles"),
            **dict.fromkeys(("GpBP", "GpCC", "GpMF", "GpPW"), "participates_in"),
            **{"AeG": "expresses", "CbG": "binds", "CcSE": "causes", "CpD": "palliates", "CtD": "treats"},
            **{"DaG": "associated_with", "DlA": "localizes_to", "DpS": "presents", "GcG": "covaries_with"},
            **{"GiG": "interacts_with", "Gr>G": "regulates", "PCiC": "includes"},
        },
        symmetric=("resembles", "covaries_with", "interacts_with"),
        prefixes=_HETIONET_PREFIXES,
        prefix_ends_with="::",
    ),
    "CTD chemicals and diseases": Layout(
        {**_CTD_CHEMICAL, **_CTD_DISEASE, **_CTD_INFERRED, "inference_gene": "InferenceGeneSymbol"},
        relations=_CTD_RELATIONS,
    ),
    "CTD genes and diseases": Layout(
        {**_CTD_GENE, **_CTD_DISEASE, **_CTD_INFERRED, "inference_chemical": "InferenceChemicalName"},
        relations=_CTD_RELATIONS,
    ),
    "CTD chemicals and genes": Layout(
        {
            **_CTD_CHEMICAL,
            **{f"tail{key[4:]}": column for key, column in _CTD_GENE.items() if key.startswith("head")},
            **{"relation": "=interacts_with_gene", "organism": "OrganismID", "interaction": "Interaction"},
            **{"actions": "InteractionActions", "gene_forms": "GeneForms", "publications": "PubMedIDs"},
        }
    ),
    "CTD genes and pathways": Layout(
        {
            **_CTD_GENE,
            **{
                "relation": "=participates_in",
                "tail": "PathwayID",
                "tail_name": "PathwayName",
                "tail_type": "=Pathway",
            },
        }
    ),
    "CTD chemicals": Layout({**_CTD_NODE, "id": "ChemicalID", "name": "ChemicalName", "type": "=Chemical"}),
    "CTD diseases": Layout(
        {
            **_CTD_NODE,
            **{"id": "DiseaseID", "name": "DiseaseName", "type": "=Disease", "alternative_ids": "AltDiseaseIDs"},
        }
    ),
    "Disease Ontology symptoms": Layout(
        {
            **{"head": "disease_id", "head_name": "disease_label", "head_type": "=Disease", "source": "=DO"},
            **{"tail": "symptom_id", "tail_name": "symptom_label", "tail_type": "=Symptom", "relation": "=has_symptom"},
        }
    ),
    "edges": Layout(_same(*_EDGE)),
    "nodes": Layout(_same(*_NODE)),
}


def read_table(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """The edges or the nodes of a table; the account counts its rows.

    Columns, beside those that must be there:

    - edges (`head`, `relation`, `tail`): head_name, tail_name, head_type, tail_type, head_prefix, tail_prefix, source,
      negated, language; any other name is evidence under that name. Where there are names or types the ends are
      concepts, else the facts need the concepts from another file.
    - nodes (`id`, `name`): type, definition, synonyms, parents, xrefs, prefix, source, language, where synonyms, types,
      parents (`is_a`) and xrefs may be several, parted by `|`; any other name is an attribute.

    A prefix (`=NCBIGene`, or a column that names the vocabulary) goes before ids that have no colon. Edges that are
    `negated` (true, yes, 1) are exclusions. The source is the column or constant for it, else the name of the file;
    names are English (`en`) unless `language` says otherwise. Lines before the header that begin with `#` are passed
    over; the header may be one of them. `options.columns` adds to what the header tells, and goes before it. If it
    names columns for edges and for nodes, each file is read as what it has the columns for.

    Raises:
        InputError: no header, a column missing or there twice; a row of another width, with a stray quote, or without
            an id or relation; with `options.skip_bad` such a row is counted and left out. Always: no row at all.
    """
    table = _table(path, options)
    frames = read_quoted_frames if table.separator == "," else read_frames
    name = path.name.split(".")[0]
    seen = _Seen()
    relations: set[str] = set()
    for frame in frames(
        path,
        table.columns,
        account,
        after_line=table.after_line,
        separator=table.separator,
        skip_bad=options.skip_bad,
    ):
        frame = frame.with_columns(pl.col(pl.String).str.strip_chars(" \r"))
        if "head" in table.layout.columns:
            yield from _edges(path, frame, account, options.skip_bad, table.layout, name, seen, relations)
        else:
            yield from _nodes(path, frame, account, options.skip_bad, table.layout, name)
    if not account.read:
        raise InputError(path, None, "holds a header and no rows; fetch the file anew")
    symmetric = table.layout.symmetric
    both_ways = sorted(relation for relation in relations if "*" in symmetric or relation in symmetric)
    yield from batches("inverses", pl.DataFrame({"relation": both_ways, "inverse": both_ways}, _INVERSES))


def is_table(head: list[str]) -> bool:
    """Whether the first lines of a file hold the header of one of `LAYOUTS`."""
    return any(_layout(columns) for _, columns, _ in _candidates(enumerate(head, start=1)))


def has_columns(head: list[str], columns: Mapping[str, str]) -> bool:
    """Whether the first lines of a file hold a header with the columns of edges or nodes that a user names."""
    needed = [[columns[ours] for ours in kind if ours in columns] for kind in (_EDGE, _NODE)]
    wanted = [{theirs for theirs in kind if not theirs.startswith("=")} for kind in needed]
    return any(kind and kind <= set(there) for _, there, _ in _candidates(enumerate(head, start=1)) for kind in wanted)


_INVERSES = {"relation": pl.String, "inverse": pl.String}


class _Table(NamedTuple):
    """A table: its columns, each under a name of its own, the last line before its rows, and what the columns are."""

    columns: list[str]
    separator: str
    after_line: int
    layout: Layout


def _table(path: Path, options: Options) -> _Table:
    found = list(_candidates(text_lines(path)))
    if not found:
        raise InputError(path, None, "has no header; a table whose first line names its columns is expected")
    asked = {ours: theirs for ours, theirs in options.columns.items() if not theirs.startswith("=")}
    fitting = (row for row in found if _layout(row[1]) or (asked and set(asked.values()) <= set(row[1])))
    number, columns, separator = next(fitting, found[0])
    layout = _layout(columns) or Layout({})
    layout = replace(layout, columns=_chosen(path, number, columns, layout.columns, options.columns))
    twice = sorted({column for column in columns if columns.count(column) > 1})
    for column in twice:
        if column in layout.columns.values():
            raise InputError(path, number, f"the column {column!r} is there twice; rename one")
    unique = [
        column if column not in columns[:place] else f"{column} (column {place + 1})"
        for place, column in enumerate(columns)
    ]
    return _Table(unique, separator, found[0][0] - (number != found[0][0]), layout)


def _candidates(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str], str]]:
    """Lines that may be the header, with their columns and separator: the first that is no comment, then comments."""
    comments = []
    for number, line in lines:
        if line.startswith("#"):
            comments.append((number, line.lstrip("# ")))
        elif line.strip():
            yield _columns(number, line)
            break
        if number >= _SEARCHED_LINES:
            break
    for number, line in comments:
        yield _columns(number, line)


def _columns(number: int, line: str) -> tuple[int, list[str], str]:
    line = line.rstrip("\r")
    if "\t" in line:
        return number, [name.strip() for name in line.split("\t")], "\t"
    return number, [name.strip() for name in header_columns(line)], ","


def _layout(columns: list[str]) -> Layout | None:
    there = set(columns)
    for layout in LAYOUTS.values():
        if all(column in there for column in layout.columns.values() if not column.startswith("=")):
            return layout
    return None


def _chosen(
    path: Path, number: int, columns: list[str], told: Mapping[str, str], asked: Mapping[str, str]
) -> dict[str, str]:
    """Our column -> the file's, of one kind of table.

    Raises:
        InputError: a column that is needed is not named, or not there.
        MedgraftError: one of ours has a name that cannot be one.
    """
    there = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    edges = {"head", "tail"} & asked.keys()
    both = bool(edges) and "id" in asked
    given = {**told, **asked}
    if both:
        has_edges = all(given.get(ours, "").startswith("=") or given.get(ours) in columns for ours in _EDGE)
        edges = edges if has_edges else set()
    is_edges = bool(edges) or ("head" in told and "id" not in asked)
    needed, more, others = (
        (_EDGE, _MORE_OF_EDGES, (*_NODE, *_MORE_OF_NODES))
        if is_edges
        else (_NODE, _MORE_OF_NODES, (*_EDGE, *_MORE_OF_EDGES))
    )
    for ours in needed:
        if ours not in given:
            message = f"which column is {ours}? Say so: --column {ours}=NAME, or --column {ours}==CONSTANT"
            raise InputError(path, number, f"{message}; there are: {there}")
    for ours in asked:
        if not _OUR_NAME.fullmatch(ours):
            raise MedgraftError(f"{ours!r} cannot be the name of a column; use letters, digits and _")
    own = {*needed, *more} | (set() if both else asked.keys())
    chosen = {ours: theirs for ours, theirs in given.items() if ours in own or ours not in others}
    for ours, theirs in list(chosen.items()):
        if theirs.startswith("=") or theirs in columns:
            continue
        if both and ours not in needed:
            del chosen[ours]  # of the other kind of table
            continue
        raise InputError(path, number, f"no column {theirs!r} for {ours}; there are: {there}")
    return chosen


def _value(layout: Layout, ours: str, default: str = "") -> pl.Expr:
    """What a row has in one of our columns."""
    theirs = layout.columns.get(ours, f"={default}")
    return pl.lit(theirs[1:]) if theirs.startswith("=") else pl.col(theirs)


def _id(layout: Layout, ours: str, prefix: str) -> pl.Expr:
    """An identifier with its prefix; empty where there is none."""
    value, vocabulary = _value(layout, ours), _value(layout, prefix)
    if layout.prefix_ends_with:
        parted = value.str.splitn(layout.prefix_ends_with, 2)
        local = parted.struct.field("field_1").fill_null("")
        vocabulary = pl.when(local != "").then(parted.struct.field("field_0")).otherwise(pl.lit(""))
        value = pl.when(local != "").then(local).otherwise(value)
    if layout.prefixes:
        vocabulary = vocabulary.replace(layout.prefixes)
    padded = value
    for name, digits in _DIGITS.items():
        is_number = (vocabulary == name) & value.str.contains(r"^\d+$")
        padded = pl.when(is_number).then(value.str.zfill(digits)).otherwise(padded)
    bare = (value == "") | (vocabulary == "") | value.str.contains(":", literal=True)
    return pl.when(bare).then(value).otherwise(vocabulary + ":" + padded)


def _faulty(*checks: tuple[str, str]) -> pl.Expr:
    """The first fault of a row: (column that must not be empty or broken, what to say of it)."""
    fault = pl.lit(None, pl.String)
    for column, message in reversed(checks):
        empty = (pl.col(column) == "") | pl.col(column).str.contains(r"[\n\t]")
        fault = pl.when(empty).then(pl.lit(message)).otherwise(fault)
    return fault


def _said(layout: Layout, known: tuple[str, ...]) -> list[str]:
    return [ours for ours in layout.columns if ours not in known]


@dataclass
class _Seen:
    """The ends of edges so far: each (id, type) and each (id, name) becomes a row once."""

    types: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"id": pl.String, "type": pl.String}))
    names: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"id": pl.String, "name": pl.String}))

    def batches(self, ends: pl.DataFrame, source: str) -> Iterator[Batch]:
        """Concepts and names of those ends (id, name, type, language) that are new."""
        concepts = ends.unique(("id", "type"), keep="first", maintain_order=True)
        concepts = concepts.join(self.types, on=("id", "type"), how="anti", maintain_order="left")
        self.types = pl.concat([self.types, concepts.select("id", "type")])
        yield from batches(
            "concepts",
            concepts.select(
                "id",
                name=pl.when(pl.col("name") == "").then("id").otherwise("name"),
                types=_listed(pl.col("type")),
                definition=pl.lit(None, pl.String),
                source=pl.lit(source),
            ),
        )
        names = ends.filter(pl.col("name") != "").unique(("id", "name"), keep="first", maintain_order=True)
        names = names.join(self.names, on=("id", "name"), how="anti", maintain_order="left")
        first = names["id"].is_first_distinct() & ~names["id"].is_in(self.names["id"].implode())
        self.names = pl.concat([self.names, names.select("id", "name")])
        yield from batches(
            "names",
            names.select(
                "name",
                "language",
                concept_id="id",
                kind=pl.when(first).then(pl.lit("preferred")).otherwise(pl.lit("exact")),
                source=pl.lit(source),
                suppressed=pl.lit(False),
            ),
        )


def _edges(
    path: Path,
    frame: pl.DataFrame,
    account: Account,
    skip_bad: bool,
    layout: Layout,
    file: str,
    seen: _Seen,
    relations: set[str],
) -> Iterator[Batch]:
    constant = layout.columns.get("source", f"={file}")
    source = constant[1:] if constant.startswith("=") else file
    stated = _value(layout, "source", file)
    relation = _value(layout, "relation")
    if layout.relations:
        relation = relation.replace(layout.relations)
    facts = frame.select(
        "line number",
        head=_id(layout, "head", "head_prefix"),
        relation=relation,
        tail=_id(layout, "tail", "tail_prefix"),
        source=pl.when(stated == "").then(pl.lit(source)).otherwise(stated),
        evidence=json_object(
            {ours: json_text(_value(layout, ours)) for ours in _said(layout, (*_EDGE, *_MORE_OF_EDGES))}
        ),
        negated=_value(layout, "negated").str.to_lowercase().is_in(_TRUE),
        head_name=_value(layout, "head_name"),
        head_type=_value(layout, "head_type"),
        tail_name=_value(layout, "tail_name"),
        tail_type=_value(layout, "tail_type"),
        language=_value(layout, "language", "en"),
    )
    fault = _faulty(*((column, f"an edge without {column}") for column in _EDGE))
    facts = well_formed(path, facts, fault, account, skip_bad)
    account.count(kept=facts.height)
    ends = [end for end in ("head", "tail") if {f"{end}_name", f"{end}_type"} & layout.columns.keys()]
    for end in ends:
        yield from seen.batches(facts.select("language", id=end, name=f"{end}_name", type=f"{end}_type"), source)
    denied = pl.col("relation").is_in(list(layout.denials))
    facts = facts.with_columns(negated=pl.col("negated") ^ denied, relation=pl.col("relation").replace(layout.denials))
    relations |= set(facts["relation"].unique())
    yield from batches("triples", facts.filter(~pl.col("negated")))
    yield from batches("exclusions", facts.filter("negated"))


def _nodes(
    path: Path, frame: pl.DataFrame, account: Account, skip_bad: bool, layout: Layout, file: str
) -> Iterator[Batch]:
    stated = _value(layout, "source", file)
    further = _said(layout, (*_NODE, *_MORE_OF_NODES))
    nodes = frame.select(
        "line number",
        id=_id(layout, "id", "prefix"),
        source=pl.when(stated == "").then(pl.lit(file)).otherwise(stated),
        language=_value(layout, "language", "en"),
        vocabulary=_value(layout, "prefix"),
        **{ours: _value(layout, ours) for ours in ("name", "type", "definition", "synonyms", "parents", "xrefs")},
        **{f"said {ours}": _value(layout, ours) for ours in further},
    )
    nodes = well_formed(path, nodes, _faulty(("id", "a node without id")), account, skip_bad)
    account.count(kept=nodes.height)
    yield from batches(
        "concepts",
        nodes.select(
            "id",
            "source",
            name=pl.when(pl.col("name") == "").then("id").otherwise("name"),
            types=_listed(pl.col("type")),
            definition=pl.when(pl.col("definition") != "").then("definition"),
        ),
    )
    for column, kind in (("name", "preferred"), ("synonyms", "exact")):
        names = nodes.filter(pl.col("name") != "") if column == "name" else _each(nodes, column)
        names = names.select(
            "source", "language", concept_id="id", name=column, kind=pl.lit(kind), suppressed=pl.lit(False)
        )
        yield from batches("names", names)
    parents = Layout({"id": "parents", "prefix": "vocabulary"}, prefixes=layout.prefixes)
    tail = _id(parents, "id", "prefix")
    is_a = {"relation": pl.lit("is_a"), "evidence": pl.lit("")}
    yield from batches("triples", _each(nodes, "parents").select("source", head="id", tail=tail, **is_a))
    xref = {"predicate": pl.lit("xref"), "object": normal_ids(pl.col("xrefs")), "evidence": pl.lit("")}
    yield from batches("mappings", _each(nodes, "xrefs").select("source", concept_id="id", **xref))
    for ours in further:
        said = nodes.filter(pl.col(f"said {ours}") != "")
        said = said.select("source", concept_id="id", attribute=pl.lit(ours), value=f"said {ours}")
        yield from batches("attributes", said)


def _listed(column: pl.Expr) -> pl.Expr:
    """The parts of a text that `|` parts."""
    empty = pl.lit([], pl.List(pl.String))
    parts = column.str.split("|").list.eval(pl.element().filter(pl.element() != ""))
    return pl.when(column == "").then(empty).otherwise(parts)


def _each(nodes: pl.DataFrame, column: str) -> pl.DataFrame:
    """A row for each part of a list."""
    return nodes.with_columns(pl.col(column).str.split("|")).explode(column).filter(pl.col(column) != "")
