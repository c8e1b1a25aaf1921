"""Everything that can be done with the graph without a language model: build, store, query, embed, index, link.

Names are imported on first use, so that `import kg` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kg.building import build
    from kg.differences import diff
    from kg.embeddings import Embeddings, train_embeddings
    from kg.exporting import export_graphml, export_kgx
    from kg.graph import Graph, connect
    from kg.linking import Linker
    from kg.neo4j_import import write_import_files
    from kg.ranking import evaluate_ranking
    from kg.results import Records
    from kg.splits import split_triples
    from kg.updating import update

__all__ = [
    "Embeddings",
    "Graph",
    "Linker",
    "Records",
    "build",
    "connect",
    "diff",
    "evaluate_ranking",
    "export_graphml",
    "export_kgx",
    "split_triples",
    "train_embeddings",
    "update",
    "write_import_files",
]

_HOMES = {
    "Embeddings": "kg.embeddings",
    "Graph": "kg.graph",
    "Linker": "kg.linking",
    "Records": "kg.results",
    "build": "kg.building",
    "connect": "kg.graph",
    "diff": "kg.differences",
    "evaluate_ranking": "kg.ranking",
    "export_graphml": "kg.exporting",
    "export_kgx": "kg.exporting",
    "split_triples": "kg.splits",
    "train_embeddings": "kg.embeddings",
    "update": "kg.updating",
    "write_import_files": "kg.neo4j_import",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
