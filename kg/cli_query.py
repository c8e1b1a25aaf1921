"""Questions to a graph on the command line: `medgraft query`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kg.cli import Json, Where, to_json
from loaders.errors import MedgraftError

if TYPE_CHECKING:
    from kg.graph import Graph

app_query = typer.Typer(help="Ask a graph: concepts, relations, hierarchy, paths, Cypher.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="Concept id, such as HP:0001250.")]
_UNBOUNDED = 100_000  # columns


@app_query.command()
def concept(graph: Where, id: Id, as_json: Json = False) -> None:
    """Show one concept with its parents and children.

    Example: medgraft query concept graphs/hpo HP:0001250
    """
    with _opened(graph) as opened:
        found = opened.concept(id)
        near = {"parents": list(opened.parents(id)), "children": list(opened.children(id))}
    if as_json:
        typer.echo(to_json({**asdict(found), **{name: [asdict(c) for c in near[name]] for name in near}}))
        return
    rows = [(key, _cell(value)) for key, value in asdict(found).items()]
    rows += [(name, "; ".join(f"{c.id} {c.name}" for c in concepts)) for name, concepts in near.items()]
    _table(("field", "value"), rows)


@app_query.command()
def search(
    graph: Where,
    text: Annotated[str, typer.Argument(help="Words of a name or alias.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Concepts to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Find concepts by their names.

    Example: medgraft query search graphs/hpo "absence seizure"
    """
    _records(graph, lambda opened: opened.search(text, k), ("id", "name", "types", "aliases"), as_json)


@app_query.command()
def relations(
    graph: Where,
    id: Id,
    relation: Annotated[str | None, typer.Option(help="Only this relation.")] = None,
    direction: Annotated[str, typer.Option(help="both, out or in.")] = "both",
    excluded: Annotated[bool, typer.Option("--excluded", help="What is stated NOT to hold, instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the triples of a concept.

    Example: medgraft query relations graphs/hpo HP:0001250 --relation is_a
    """

    def ask(opened: "Graph") -> Iterable[Any]:
        return opened.exclusions(id) if excluded else opened.relations(id, relation, direction)  # type: ignore[arg-type]

    _records(graph, ask, ("head", "head_name", "relation", "tail", "tail_name", "sources"), as_json)


@app_query.command()
def path(
    graph: Where,
    a: Annotated[str, typer.Argument(metavar="A", help="Concept id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Concept id.")],
    max_length: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 6,
    as_json: Json = False,
) -> None:
    """Show a shortest path between two concepts.

    Example: medgraft query path graphs/hpo HP:0001250 HP:0000822
    """
    with _opened(graph) as opened:
        found = opened.path(a, b, max_length)
        steps = None if found is None else [asdict(triple) for triple in found]
    if as_json:
        typer.echo(to_json(steps))
    elif steps is None:
        typer.echo(f"no path of at most {max_length} steps between {a} and {b}")
    else:
        columns = ("head", "head_name", "relation", "tail", "tail_name")
        _table(columns, [[step[column] for column in columns] for step in steps])


@app_query.command()
def paths(
    graph: Where,
    a: Annotated[str, typer.Argument(metavar="A", help="Concept id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Concept id.")],
    max_length: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 4,
    k: Annotated[int, typer.Option("-k", min=1, help="Paths to show.")] = 5,
    relation: Annotated[list[str] | None, typer.Option(help="Only over this one; may be given again.")] = None,
    as_json: Json = False,
) -> None:
    """Show the most informative paths between two concepts: those over hubs come last.

    Example: medgraft query paths graphs/hpo OMIM:619340 HP:0000252 --relation has_phenotype --relation is_a
    """
    with _opened(graph) as opened:
        found = opened.paths(a, b, max_length=max_length, k=k, relations=relation)
        ranked = [{"score": path.score, "triples": [asdict(triple) for triple in path.triples]} for path in found]
        lines = [str(path) for path in found]
    if as_json:
        typer.echo(to_json(ranked))
    else:
        typer.echo("\n".join(lines) or f"no path of at most {max_length} steps between {a} and {b}")


@app_query.command()
def picture(
    graph: Where,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Concept ids.")],
    out: Annotated[FilePath, typer.Option(metavar="FILE.svg", help="File for the picture.")],
    hops: Annotated[int, typer.Option(min=0, help="How far the neighbourhood goes.")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Concepts to draw at most.")] = 40,
) -> None:
    """Draw the neighbourhood of concepts.

    Example: medgraft query picture graphs/hpo HP:0001250 --out seizure.svg
    """
    with _opened(graph) as opened:
        drawn = opened.picture(ids, hops, limit)
    try:
        out.write_text(drawn.svg, encoding="utf-8")
    except OSError as error:
        raise MedgraftError(f"cannot write {out}: {error.strerror}; choose another file") from error
    typer.echo(f"{out}" + (f" ({drawn.left_out:,} more concepts are not shown)" if drawn.left_out else ""))


@app_query.command()
def ancestors(graph: Where, id: Id, as_json: Json = False) -> None:
    """List all concepts above a concept, nearest first.

    Example: medgraft query ancestors graphs/hpo HP:0001250
    """
    _records(graph, lambda opened: opened.ancestors(id), ("id", "name", "types"), as_json)


@app_query.command()
def descendants(graph: Where, id: Id, as_json: Json = False) -> None:
    """List all concepts below a concept, nearest first.

    Example: medgraft query descendants graphs/hpo HP:0001250
    """
    _records(graph, lambda opened: opened.descendants(id), ("id", "name", "types"), as_json)


@app_query.command()
def names(graph: Where, id: Id, as_json: Json = False) -> None:
    """List all names of a concept, with their kind, language and source.

    Example: medgraft query names graphs/umls C0036572
    """
    with _opened(graph) as opened:
        rows = opened.names(id).to_pylist()
    _show(rows, ("name", "kind", "language", "source", "suppressed"), as_json)


@app_query.command()
def mappings(graph: Where, id: Id, as_json: Json = False) -> None:
    """List the codes and cross-references of a concept.

    Example: medgraft query mappings graphs/umls C0036572
    """
    with _opened(graph) as opened:
        rows = opened.mappings(id).to_pylist()
    _show(rows, ("predicate", "object", "sources"), as_json)


@app_query.command()
def evidence(
    graph: Where,
    head: Annotated[str, typer.Argument(metavar="HEAD", help="Concept id.")],
    relation: Annotated[str, typer.Argument(help="Relation, or the name of its inverse.")],
    tail: Annotated[str, typer.Argument(metavar="TAIL", help="Concept id.")],
    as_json: Json = False,
) -> None:
    """Show where a fact comes from.

    Example: medgraft query evidence graphs/hpo OMIM:619340 has_phenotype HP:0001518
    """
    with _opened(graph) as opened:
        rows = opened.evidence(head, relation, tail).to_pylist()
    _show(rows, ("source", "release", "evidence"), as_json)


@app_query.command()
def similarity(
    graph: Where,
    a: Annotated[str, typer.Argument(metavar="A", help="Concept id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Concept id.")],
    measure: Annotated[str, typer.Option(help="lin or resnik.")] = "lin",
    as_json: Json = False,
) -> None:
    """Say how much two concepts have in common, from 0 to 1, and through what.

    Example: medgraft query similarity graphs/hpo HP:0001250 HP:0002069
    """
    with _opened(graph) as opened:
        value = opened.similarity(a, b, measure)  # type: ignore[arg-type]
        shared = opened.most_informative_ancestor(a, b)
    found = {"similarity": value, "id": shared and shared.id, "name": shared and shared.name}
    _show([found], ("similarity", "id", "name"), as_json)


@app_query.command()
def cypher(
    graph: Where,
    query: Annotated[str, typer.Argument(help="A query that reads.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A value, JSON or text.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a Cypher query of your own.

    Example: medgraft query cypher graphs/hpo 'MATCH (n:Concept {id: $id})-[r]->(m:Concept) RETURN r.relation AS
    relation, m.name AS name' -p id=HP:0001250
    """
    parameters = dict(map(_parameter, parameter or []))
    with _opened(graph) as opened:
        rows = opened.cypher(query, **parameters)
    if as_json:
        typer.echo(to_json(rows))
    else:
        _table(tuple(rows[0]) if rows else ("no rows",), [tuple(row.values()) for row in rows])


@app_query.command()
def stats(graph: Where, as_json: Json = False) -> None:
    """Count concepts by type and triples by relation.

    Example: medgraft query stats graphs/hpo
    """
    with _opened(graph) as opened:
        counts, fingerprint = opened.stats(), opened.fingerprint
    if as_json:
        typer.echo(to_json({**counts, "fingerprint": fingerprint}))
        return
    rows = [(name, f"{count:,}") for name, count in counts.items() if isinstance(count, int)]
    for group, title in (("types", "type"), ("relations", "relation")):
        rows += [(f"{title} {name}", f"{count:,}") for name, count in counts[group].items()]
    _table(("what", "count"), [*rows, ("fingerprint", fingerprint)])


@contextmanager
def _opened(where: str) -> Iterator["Graph"]:
    import kg

    with kg.connect(where) as graph:
        yield graph


def _show(rows: list[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        typer.echo(to_json(rows))
    else:
        _table(columns, [[row[column] for column in columns] for row in rows])


def _records(where: str, ask: Callable[["Graph"], Iterable[Any]], columns: Sequence[str], as_json: bool) -> None:
    with _opened(where) as graph:
        rows = [asdict(record) for record in ask(graph)]
    _show(rows, columns, as_json)


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table as wide as the terminal; as wide as it needs where there is none, so that no value is cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(80, console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum)
    console.print(table)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
