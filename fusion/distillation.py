"""Knowledge distillation: from a fused teacher to a student that needs no graph, linker or embeddings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.corpora import Corpus
from fusion.model import FusedModel
from fusion.question_corpora import QuestionCorpus
from fusion.teaching import Lesson
from fusion.training import train
from loaders.errors import MedgraftError


def distill(
    teacher: FusedModel[Any],
    corpus: Corpus | QuestionCorpus,
    texts: Sequence[Any] = (),
    *,
    out: str | Path | None = None,
    blocks: int | None = None,
    label_weight: float = 0.5,
    temperature: float = 2.0,
    hidden_weight: float = 1.0,
    link_weight: float = 0.0,
    **settings: Any,
) -> FusedModel[Any]:
    """Train a plain model to say what the teacher says; see `fusion.teaching` for the loss.

    The student begins as the teacher without its graph. It is trained by `fusion.train`, on the labelled items and on
    `texts`, whose labels are what the teacher finds in them. Any task will do, and any trained teacher: a plain one
    makes a smaller student, and is what a student of a fused one has to be compared with.

    Args:
        teacher: a trained model.
        corpus: the best epoch is chosen on its development part; its training part may be empty.
        texts: without labels, documents or questions; for relations with mentions and their concepts.
        out: folder for the student, as of `fusion.train`.
        blocks: of the student's encoder, which are then evenly spaced blocks of the teacher's; all by default.
        label_weight: of the labels, from 0 to 1; the rest is the teacher's logits.
        temperature: by which both logits are divided.
        hidden_weight: of the distance to the teacher's hidden states at linked mentions.
        link_weight: of the teacher's choice among NIL and the candidates of each mention.
        settings: handed to `fusion.train`; epochs, frozen_blocks, seed and the like.

    Raises:
        MedgraftError: nothing to learn from, labels that the teacher does not know, weights out of range, more blocks
            than the teacher has; and as `fusion.train`.
    """
    if not corpus.train and not texts:
        raise MedgraftError("there is nothing to learn from: neither labelled documents nor texts; give some")
    lesson = Lesson(teacher, blocks, label_weight, temperature, hidden_weight, link_weight)
    found = list(teacher.pipe(texts)) if texts else []
    both: Any = replace(corpus, train=(*corpus.train, *found))  # type: ignore[arg-type]
    name = str(teacher.training.get("encoder", "teacher"))
    student = train(teacher.settings.task, both, encoder=name, out=out, lesson=lesson, **settings)
    return student
