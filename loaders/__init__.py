"""Files in, records out: readers of ontology dumps and text corpora, one module a format.

What a name needs is imported when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.conll import read_conll
    from loaders.corpus import read_corpus
    from loaders.documents import open_writer, read_documents
    from loaders.errors import InputError, MedgraftError, MedgraftWarning
    from loaders.folders import new_folder
    from loaders.gsc import read_gsc
    from loaders.labelled import read_labelled
    from loaders.ontology import detect_format, read_ontology
    from loaders.pubtator import read_pubtator, write_pubtator
    from loaders.questions import read_questions, write_questions
    from loaders.records import Candidate, Concept, Document, Label, Mention, Question, Relation, Triple
    from loaders.tables import Account, Batch

__all__ = [
    "Account",
    "Batch",
    "Candidate",
    "Concept",
    "Document",
    "InputError",
    "Label",
    "MedgraftError",
    "MedgraftWarning",
    "Mention",
    "Question",
    "Relation",
    "Triple",
    "detect_format",
    "new_folder",
    "open_writer",
    "read_conll",
    "read_corpus",
    "read_documents",
    "read_gsc",
    "read_labelled",
    "read_ontology",
    "read_pubtator",
    "read_questions",
    "write_pubtator",
    "write_questions",
]

_MODULES = {
    "loaders.conll": ("read_conll",),
    "loaders.corpus": ("read_corpus",),
    "loaders.documents": ("open_writer", "read_documents"),
    "loaders.errors": ("InputError", "MedgraftError", "MedgraftWarning"),
    "loaders.folders": ("new_folder",),
    "loaders.gsc": ("read_gsc",),
    "loaders.labelled": ("read_labelled",),
    "loaders.ontology": ("detect_format", "read_ontology"),
    "loaders.pubtator": ("read_pubtator", "write_pubtator"),
    "loaders.questions": ("read_questions", "write_questions"),
    "loaders.records": ("Candidate", "Concept", "Document", "Label", "Mention", "Question", "Relation", "Triple"),
    "loaders.tables": ("Account", "Batch"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
