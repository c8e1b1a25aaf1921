"""Everything that can be done with the graph without a language model: build, store, query, embed, index, link.

Names are imported on first use, so that `import kg` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kg.aligning import extend_embeddings
    from kg.building import build
    from kg.calibration import calibrate
    from kg.differences import diff
    from kg.embeddings import Embeddings, train_embeddings
    from kg.exporting import export_graphml, export_kgx
    from kg.graph import Graph, connect
    from kg.linking import Linker
    from kg.neo4j_import import write_import_files
    from kg.pictures import draw_map, draw_training
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
    "calibrate",
    "connect",
    "diff",
    "draw_map",
    "draw_training",
    "evaluate_ranking",
    "export_graphml",
    "export_kgx",
    "extend_embeddings",
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
    "calibrate": "kg.calibration",
    "connect": "kg.graph",
    "diff": "kg.differences",
    "draw_map": "kg.pictures",
    "draw_training": "kg.pictures",
    "evaluate_ranking": "kg.ranking",
    "export_graphml": "kg.exporting",
    "export_kgx": "kg.exporting",
    "extend_embeddings": "kg.aligning",
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
