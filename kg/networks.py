"""Parts of a graph, or all of it, as networkx graphs, GraphML files and pictures: the only door to networkx.

Nodes have `name` and `types`; edges are keyed by their relation and have `relation` and `sources`.
"""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import networkx as nx

from loaders.records import Concept, Triple

Network: TypeAlias = nx.MultiDiGraph

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")  # no characters of XML
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#ff9da6")
_WIDTH, _HEIGHT, _MARGIN = 960, 580, 110
_SHOWN = 34  # characters of a name in a picture
_TRIED = 2_000  # paths that are looked at, for those that are short enough
DAMPING = 0.4


def network(concepts: Iterable[Concept], triples: Iterable[Triple]) -> Network:
    """Concepts and triples as a networkx graph; triples with an end outside are left out."""
    result: Network = nx.MultiDiGraph()
    for concept in concepts:
        result.add_node(concept.id, name=concept.name, types=concept.types)
    for triple in triples:
        if triple.head in result and triple.tail in result:
            result.add_edge(
                *(triple.head, triple.tail), key=triple.relation, relation=triple.relation, sources=triple.sources
            )
    return result


def write_graphml(network: Network, path: Path) -> None:
    """Write GraphML, with lists as text joined by `|`; characters that XML cannot hold become `?`.

    Format: http://graphml.graphdrawing.org/specification.html
    """
    plain: Network = nx.MultiDiGraph()
    for node, data in network.nodes(data=True):
        plain.add_node(_clean(node), name=_clean(data["name"]), types=_clean("|".join(data["types"])))
    for number, (head, tail, data) in enumerate(network.edges(data=True)):
        sources = _clean("|".join(data["sources"]))
        plain.add_edge(_clean(head), _clean(tail), key=number, relation=_clean(data["relation"]), sources=sources)
    nx.write_graphml(plain, path)


def informative_paths(
    edges: Iterable[tuple[str, str]], degrees: Mapping[str, int], a: str, b: str, max_length: int, k: int
) -> list[tuple[list[str], float]]:
    """The best `k` simple paths between two nodes, each with its score: what hubs lie on it lowers it.

    The score is the product of degree ** -0.4 over the concepts between the ends: 1 for a direct fact. It is the
    degree-weighted product of Himmelstein and Baranzini (PLOS Computational Biology 2015), with their damping, but for
    the degrees being over all relations, and the ends left out. Equal scores: the shorter path, then by its ids.
    """
    graph: nx.Graph = nx.Graph()
    graph.add_edges_from(edges)
    if a not in graph or b not in graph:
        return []
    costs = {node: 0.0 if node in (a, b) else DAMPING * math.log(max(degrees[node], 1)) for node in graph}
    for one, other, data in graph.edges(data=True):
        data["cost"] = (costs[one] + costs[other]) / 2
    found: list[tuple[float, int, list[str]]] = []
    for path in itertools.islice(nx.shortest_simple_paths(graph, a, b, weight="cost"), _TRIED):
        cost = sum(costs[node] for node in path)
        if len(found) >= k and cost > sorted(found)[k - 1][0] + 1e-9:
            break
        if len(path) - 1 <= max_length:
            found.append((cost, len(path), path))
    ranked = sorted(found, key=lambda item: (round(item[0], 9), *item[1:]))
    return [(path, math.exp(-cost)) for cost, _, path in ranked[:k]]


def picture(network: Network, centre: Collection[str] = ()) -> str:
    """A small graph as an SVG: concepts coloured by their first type, those of `centre` larger, edges with names.

    The same graph gives the same picture. Meant for up to some forty concepts.
    """
    simple = nx.Graph(network.to_undirected(as_view=True))
    places = nx.spring_layout(simple, seed=0, k=2.2 / math.sqrt(max(len(simple), 1)), iterations=200) if simple else {}
    xy = {node: _scaled(place) for node, place in sorted(places.items())}
    types = sorted({_type(data) for _, data in network.nodes(data=True)})
    colour = {type_: _COLOURS[i % len(_COLOURS)] for i, type_ in enumerate(types)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>',
        '<defs><marker id="to" viewBox="0 0 10 10" refX="19" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 1L10 5L0 9z" fill="#999"/></marker></defs>',
    ]
    named: dict[tuple[str, str], list[str]] = {}
    for head, tail, data in sorted(network.edges(data=True), key=lambda edge: (*edge[:2], edge[2]["relation"])):
        named.setdefault((head, tail), []).append(data["relation"])
    for (head, tail), relations in named.items():
        (x1, y1), (x2, y2) = xy[head], xy[tail]
        parts.append(
            f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#bbb" marker-end="url(#to)"/>'
            f'<text x="{(x1 + x2) / 2:.0f}" y="{(y1 + y2) / 2:.0f}" fill="#777" font-size="9" text-anchor="middle">'
            f"{escape(_short(', '.join(relations)))}</text>"
        )
    for node, (x, y) in xy.items():
        data = network.nodes[node]
        size, weight = (9, "bold") if node in centre else (6, "normal")
        parts.append(
            f"<g><title>{escape(_clean(node + ' ' + data['name']))}</title>"
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{size}" fill="{colour[_type(data)]}"/>'
            f'<text x="{x:.0f}" y="{y - size - 3:.0f}" text-anchor="middle" fill="#222" font-weight="{weight}">'
            f"{escape(_short(data['name']))}</text></g>"
        )
    for i, type_ in enumerate(types):
        parts.append(
            f'<circle cx="14" cy="{14 + 16 * i}" r="5" fill="{colour[type_]}"/>'
            f'<text x="24" y="{18 + 16 * i}" fill="#222">{escape(_short(type_ or "no type"))}</text>'
        )
    return "".join([*parts, "</svg>"])


def _scaled(place: Iterable[float]) -> tuple[float, float]:
    """A place of the layout, from -1 to 1, in the picture."""
    x, y = place
    return (
        _MARGIN + (float(x) + 1) / 2 * (_WIDTH - 2 * _MARGIN),
        _MARGIN + (float(y) + 1) / 2 * (_HEIGHT - 2 * _MARGIN),
    )


def _type(data: Mapping[str, Any]) -> str:
    return str(data["types"][0]) if data["types"] else ""


def _short(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}\u2026"


def _clean(text: str) -> str:
    return _CONTROL.sub("?", text)
