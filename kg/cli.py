"""The graph on the command line: `medgraft build`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

Where = Annotated[str, typer.Argument(metavar="GRAPH", help="Graph folder, or neo4j://host:7687.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def build(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Ontology dumps, or one graph folder.")],
    to: Annotated[str, typer.Option(metavar="GRAPH", help="Folder for the graph, or neo4j://host:7687.")],
    format: Annotated[str | None, typer.Option(help="Format of the sources; detected by their content.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count malformed rows and go on.")] = False,
    mappings: Annotated[str, typer.Option(help="Mappings between the concepts: keep, same_as or merge.")] = "keep",
    languages: Annotated[list[str] | None, typer.Option("--language", help="Only names in this one (en).")] = None,
    vocabularies: Annotated[
        list[str] | None, typer.Option("--source-vocabulary", help="Only what this one says (MSH, SNOMEDCT_US).")
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only concepts of this semantic type or group (T047, DISO).")
    ] = None,
    no_suppressed: Annotated[bool, typer.Option("--no-suppressed", help="Leave out suppressed names.")] = False,
    max_restriction: Annotated[
        int | None, typer.Option(min=0, max=9, help="Leave out sources with a higher restriction level.")
    ] = None,
    attributes: Annotated[
        list[str] | None, typer.Option("--attribute", help="Keep this attribute of concepts; * keeps all.")
    ] = None,
    hierarchy: Annotated[bool, typer.Option("--hierarchy", help="Keep the places in the sources' trees.")] = False,
    release_type: Annotated[
        str | None, typer.Option(help="Part of a SNOMED CT release: snapshot, full or delta.")
    ] = None,
    stated: Annotated[bool, typer.Option("--stated", help="Stated relationships, not the inferred ones.")] = False,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="OUR=THEIRS", help="Name of our column in a table.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a graph from ontology dumps, in a folder or on a Neo4j server.

    Options that may be given several times: --language, --source-vocabulary, --type, --attribute, --column.
    Credentials for Neo4j come from NEO4J_USERNAME and NEO4J_PASSWORD.

    Example: medgraft build hp.obo phenotype.hpoa genes_to_phenotype.txt --to graphs/hpo
    """
    import kg

    asked = {
        "languages": languages,
        "sources": vocabularies,
        "types": types,
        "suppressed": False if no_suppressed else None,
        "max_restriction": max_restriction,
        "attributes": attributes,
        "hierarchy": hierarchy or None,
        "release_type": release_type,
        "stated": stated or None,
        "columns": dict(map(_column, columns)) if columns else None,
    }
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None and value != []}
    report = kg.build(list(sources), to, format=format, skip_bad=skip_bad, mappings=mappings, **options)
    typer.echo(to_json(asdict(report)) if as_json else str(report))


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise typer.BadParameter(f"{text!r} is not of the form OUR=THEIRS")
    return ours, theirs


def to_json(value: Any) -> str:
    """JSON as the commands print it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
