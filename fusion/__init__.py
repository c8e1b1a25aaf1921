"""Where text meets graph: knowledge attention, fused models, their explanation, and the command line.

What a name needs is imported when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.attention import Knowledge, KnowledgeAttention
    from fusion.augmentation import augment
    from fusion.classification import ClassificationModel
    from fusion.confidence import Reliability, reliability
    from fusion.context import EncoderContext
    from fusion.corpora import Corpus, load_corpus
    from fusion.distillation import distill
    from fusion.evaluation import compare_models, measure
    from fusion.explanation import Effect, Explanation
    from fusion.exporting import Exported, export_model
    from fusion.knowledge import KnowledgeTable
    from fusion.label_corpora import load_labelled
    from fusion.memory import Memory
    from fusion.memory_entries import build_memory
    from fusion.model import FusedEncoder, FusedModel
    from fusion.name_training import train_names
    from fusion.name_vectors import NameVectors
    from fusion.pretraining import pretrain
    from fusion.question_corpora import QuestionCorpus, load_questions
    from fusion.questions import QuestionModel
    from fusion.quickstart import run_quickstart
    from fusion.relations import RelationModel
    from fusion.rendering import Display, display, draw_explanations
    from fusion.searching import Range, Search, search
    from fusion.swapping import Gate, SwapReport, forget, gate, remember, swap_graph, swap_memory
    from fusion.tagging import TaggingModel
    from fusion.tasks import load, read_items
    from fusion.together import train_together
    from fusion.training import train

__all__ = [
    "ClassificationModel",
    "Corpus",
    "Display",
    "Effect",
    "EncoderContext",
    "Explanation",
    "Exported",
    "FusedEncoder",
    "FusedModel",
    "Gate",
    "Knowledge",
    "KnowledgeAttention",
    "KnowledgeTable",
    "Memory",
    "NameVectors",
    "QuestionCorpus",
    "QuestionModel",
    "Range",
    "RelationModel",
    "Reliability",
    "Search",
    "SwapReport",
    "TaggingModel",
    "augment",
    "build_memory",
    "compare_models",
    "display",
    "distill",
    "draw_explanations",
    "export_model",
    "forget",
    "gate",
    "load",
    "load_corpus",
    "load_labelled",
    "load_questions",
    "measure",
    "pretrain",
    "read_items",
    "reliability",
    "remember",
    "run_quickstart",
    "search",
    "swap_graph",
    "swap_memory",
    "train",
    "train_names",
    "train_together",
]

_HOMES = {
    "ClassificationModel": "classification",
    "Corpus": "corpora",
    "Display": "rendering",
    "Effect": "explanation",
    "EncoderContext": "context",
    "Explanation": "explanation",
    "Exported": "exporting",
    "FusedEncoder": "model",
    "FusedModel": "model",
    "Gate": "swapping",
    "Knowledge": "attention",
    "KnowledgeAttention": "attention",
    "KnowledgeTable": "knowledge",
    "Memory": "memory",
    "NameVectors": "name_vectors",
    "QuestionCorpus": "question_corpora",
    "QuestionModel": "questions",
    "Range": "searching",
    "RelationModel": "relations",
    "Reliability": "confidence",
    "Search": "searching",
    "SwapReport": "swapping",
    "TaggingModel": "tagging",
    "augment": "augmentation",
    "build_memory": "memory_entries",
    "compare_models": "evaluation",
    "display": "rendering",
    "distill": "distillation",
    "draw_explanations": "rendering",
    "export_model": "exporting",
    "forget": "swapping",
    "gate": "swapping",
    "load": "tasks",
    "load_corpus": "corpora",
    "load_labelled": "label_corpora",
    "load_questions": "question_corpora",
    "measure": "evaluation",
    "pretrain": "pretraining",
    "read_items": "tasks",
    "reliability": "confidence",
    "remember": "swapping",
    "run_quickstart": "quickstart",
    "search": "searching",
    "swap_graph": "swapping",
    "swap_memory": "swapping",
    "train": "training",
    "train_names": "name_training",
    "train_together": "together",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
