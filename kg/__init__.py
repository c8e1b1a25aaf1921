"""Everything that can be done with the graph without a language model: build, store, query, embed, index, link.

Names are imported on first use, so that `import kg` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kg.building import build
    from kg.differences import diff
    from kg.embeddings import Embeddings, train_embeddings
    from kg.graph import Graph, connect
    from kg.linking import Linker
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
    "split_triples",
    "train_embeddings",
    "update",
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
    "split_triples": "kg.splits",
    "train_embeddings": "kg.embeddings",
    "update": "kg.updating",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
