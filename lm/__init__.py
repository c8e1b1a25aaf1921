"""Text without a graph: encoder, alignment of characters and word pieces, tagging, training, scores."""

from importlib import import_module
from typing import Any

_HOME = {
    "AnswerScores": "answer_scores",
    "BlockState": "encoder",
    "DocumentClassifier": "classification",
    "Encoder": "encoder",
    "History": "training",
    "LabelScheme": "classification",
    "MentionTagger": "tagging",
    "QuestionNetwork": "questions",
    "QuestionScheme": "questions",
    "RelationNetwork": "relations",
    "RelationScheme": "relations",
    "Scores": "evaluation",
    "TagScheme": "tagging",
    "Tagger": "tagging",
    "Window": "alignment",
    "collate": "alignment",
    "evaluate_answers": "answer_scores",
    "evaluate_mentions": "evaluation",
    "evaluate_relations": "evaluation",
    "expected_calibration_error": "calibration",
    "fit": "training",
    "fit_temperature": "calibration",
    "freeze_blocks": "encoder",
    "isolated_seed": "training",
    "predict": "tagging",
    "resolve_device": "encoder",
    "windows": "alignment",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Load torch and transformers only when a name is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'lm' has no attribute {name!r}")
    return getattr(import_module(f"lm.{_HOME[name]}"), name)
