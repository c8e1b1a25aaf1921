"""The graph on the command line: `medgraft build`, `medgraft update`, `medgraft diff`, `medgraft export`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

Where = Annotated[str, typer.Argument(metavar="GRAPH", help="Graph folder, ontology dump, or neo4j://host:7687.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Limit = Annotated[int, typer.Option(min=0, help="Concepts and facts of each kind to show as examples.")]

# What `build` and `update` ask of the readers; None is as the reader, or the graph, has it.
Format = Annotated[str | None, typer.Option(help="Format of the sources; detected by their content.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count malformed rows and go on.")]
Languages = Annotated[list[str] | None, typer.Option("--language", help="Only names in this one (en).")]
Vocabularies = Annotated[
    list[str] | None, typer.Option("--source-vocabulary", help="Only what this one says (MSH, SNOMEDCT_US).")
]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only concepts of this semantic type or group (T047, DISO).")
]
Suppressed = Annotated[bool | None, typer.Option("--suppressed/--no-suppressed", help="Suppressed names, or none.")]
MaxRestriction = Annotated[
    int | None, typer.Option(min=0, max=9, help="Leave out sources with a higher restriction level.")
]
Attributes = Annotated[
    list[str] | None, typer.Option("--attribute", help="Keep this attribute of concepts; * keeps all.")
]
Hierarchy = Annotated[
    bool | None, typer.Option("--hierarchy/--no-hierarchy", help="The places in the sources' trees, or none.")
]
ReleaseType = Annotated[str | None, typer.Option(help="Part of a SNOMED CT release: snapshot, full or delta.")]
Stated = Annotated[
    bool | None, typer.Option("--stated/--inferred", help="Relationships as their authors stated them, or inferred.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="OUR=THEIRS", help="Name of our column in a table.")
]


def build(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Ontology dumps, or one graph folder.")],
    to: Annotated[str, typer.Option(metavar="GRAPH", help="Folder for the graph, or neo4j://host:7687.")],
    format: Format = None,
    skip_bad: SkipBad = False,
    mappings: Annotated[str, typer.Option(help="Mappings between the concepts: keep, same_as or merge.")] = "keep",
    languages: Languages = None,
    vocabularies: Vocabularies = None,
    types: Types = None,
    suppressed: Suppressed = None,
    max_restriction: MaxRestriction = None,
    attributes: Attributes = None,
    hierarchy: Hierarchy = None,
    release_type: ReleaseType = None,
    stated: Stated = None,
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Build a graph from ontology dumps, in a folder or on a Neo4j server.

    Options that may be given several times: --language, --source-vocabulary, --type, --attribute, --column.
    Credentials for Neo4j come from NEO4J_USERNAME and NEO4J_PASSWORD.

    Example: medgraft build hp.obo phenotype.hpoa genes_to_phenotype.txt --to graphs/hpo
    """
    import kg

    options = _options(
        languages=languages,
        sources=vocabularies,
        types=types,
        suppressed=suppressed,
        max_restriction=max_restriction,
        attributes=attributes,
        hierarchy=hierarchy,
        release_type=release_type,
        stated=stated,
        columns=columns,
    )
    report = kg.build(list(sources), to, format=format, skip_bad=skip_bad, mappings=mappings, **options)
    typer.echo(to_json(asdict(report)) if as_json else str(report))


def update(
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help="Graph folder, or neo4j://host:7687.")],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="NEW_RELEASE...", help="The new release of all that the graph is built from."),
    ],
    format: Format = None,
    skip_bad: SkipBad = False,
    mappings: Annotated[str | None, typer.Option(help="As for build: keep, same_as or merge.")] = None,
    languages: Languages = None,
    vocabularies: Vocabularies = None,
    types: Types = None,
    suppressed: Suppressed = None,
    max_restriction: MaxRestriction = None,
    attributes: Attributes = None,
    hierarchy: Hierarchy = None,
    release_type: ReleaseType = None,
    stated: Stated = None,
    columns: Columns = None,
    retire_gone: Annotated[
        bool, typer.Option("--retire-gone/--forget-gone", help="What becomes of ids that the release drops unsaid.")
    ] = True,
    partial: Annotated[
        bool, typer.Option("--partial", help="Lose what came from sources that are not given now.")
    ] = False,
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """Bring a graph to a new release, and say what that changes.

    Options that are not given are as the graph was built. A database may also be updated from one graph folder, whose
    copy it becomes; a folder also by a Delta of SNOMED CT.

    Example: medgraft update graphs/hpo new/hp.obo new/phenotype.hpoa new/genes_to_phenotype.txt
    """
    import kg

    options = _options(
        languages=languages,
        sources=vocabularies,
        types=types,
        suppressed=suppressed,
        max_restriction=max_restriction,
        attributes=attributes,
        hierarchy=hierarchy,
        release_type=release_type,
        stated=stated,
        columns=columns,
    )
    report = kg.update(
        graph,
        list(sources),
        format=format,
        skip_bad=skip_bad,
        mappings=mappings,
        retire_gone=retire_gone,
        partial=partial,
        **options,
    )
    typer.echo(to_json(report.to_dict(limit)) if as_json else report.report(limit))


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Graph folder, ontology dump, or neo4j://host:7687.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    limit: Limit = 5,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two graphs: what B has that A has not, and the other way round.

    Example: medgraft diff graphs/hpo-2024 graphs/hpo-2025 --limit 20

    Example: medgraft diff old/hp.obo new/hp.obo
    """
    import kg

    changes = kg.diff(a, b)
    typer.echo(to_json(changes.to_dict(limit)) if as_json else changes.report(limit))
    if exit_code and changes:
        raise typer.Exit(1)


def export(
    graph: Where,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")],
    format: Annotated[str, typer.Option(help="kgx, neo4j-admin or graphml.")] = "kgx",
    database: Annotated[str, typer.Option(help="neo4j-admin: the database to import into.")] = "neo4j",
    run: Annotated[bool, typer.Option("--run", help="neo4j-admin: import at once, on this machine.")] = False,
    as_json: Json = False,
) -> None:
    """Write a graph as files for other tools, or for an offline import into Neo4j.

    An import takes a graph folder and a stopped server; the command for it is printed. After the server's start,
    `medgraft build GRAPH --to neo4j://...` adds the indexes and checks the counts.

    Example: medgraft export graphs/hpo --format neo4j-admin --out import/hpo
    """
    from kg.exporting import FORMATS, export_graphml, export_kgx
    from kg.neo4j_import import run_import, write_import_files

    if format not in FORMATS:
        raise typer.BadParameter(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    if format != "neo4j-admin":
        report = (export_kgx if format == "kgx" else export_graphml)(graph, out)
        typer.echo(to_json(asdict(report)) if as_json else str(report))
        return
    files = write_import_files(graph, out, database=database)
    typer.echo(to_json(asdict(files)) if as_json else str(files))
    if run:
        typer.echo(run_import(files), err=as_json)


def to_json(value: Any) -> str:
    """JSON as the commands print it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _options(columns: list[str] | None, **asked: Any) -> dict[str, Any]:
    """The options for the readers that were given at all."""
    given = {**asked, "columns": dict(map(_column, columns or []))}
    return {name: value for name, value in given.items() if value is not None and value not in ([], {})}


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise typer.BadParameter(f"{text!r} is not of the form OUR=THEIRS")
    return ours, theirs
