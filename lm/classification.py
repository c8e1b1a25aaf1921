"""Labels of whole texts: one of several, or any number of them; long texts are read in all their windows.

The logits of a text are the means of its windows' logits. The output layer is that of questions (`lm.questions`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional as F

from lm.alignment import Window
from lm.encoder import Array
from lm.questions import AnswerScorer, QuestionScheme
from loaders.errors import MedgraftError
from loaders.records import Document, Label

_PREFIX = "labels."

Extra = Callable[[Sequence[Window]], dict[str, Tensor]]


@dataclass(frozen=True)
class LabelScheme:
    """The labels, sorted; `several` if a text may have none or more than one of them."""

    labels: tuple[str, ...]
    several: bool = False

    @property
    def kind(self) -> str:
        return "labels"

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "LabelScheme":
        """The scheme of annotated documents.

        Raises:
            MedgraftError: there are none, no labels, or the same label for every text.
        """
        named = [{label.name for label in document.labels} for document in documents]
        labels = tuple(sorted(set().union(*named)))
        if not labels:
            raise MedgraftError("no document has a label to train on; check the corpus")
        if len(labels) == 1 and all(named):
            raise MedgraftError(f"every document has the label {labels[0]!r}, so there is nothing to tell apart")
        return cls(labels, any(len(names) != 1 for names in named))

    def check(self, documents: Iterable[Document]) -> None:
        """Refuse documents whose labels these are not.

        Raises:
            MedgraftError: a label that training never showed, or not exactly one where one is wanted.
        """
        for document in documents:
            names = [label.name for label in document.labels]
            unseen = [name for name in names if name not in self.labels]
            if unseen:
                raise MedgraftError(
                    f"document {document.id!r} has the label {unseen[0]!r}, which no training document has; train on "
                    "it, or leave such documents out"
                )
            if not self.several and len(set(names)) != 1:
                raise MedgraftError(
                    f"document {document.id!r} has {len(set(names))} labels, but the training documents have one each"
                )

    def truth(self, documents: Sequence[Document]) -> Array:
        """(D, L) which labels each document has."""
        table = np.zeros((len(documents), len(self.labels)), dtype=np.float32)
        for row, document in enumerate(documents):
            for label in document.labels:
                table[row, self.labels.index(label.name)] = 1
        return table


def labels_extra(documents: Sequence[Document], scheme: LabelScheme) -> Extra:
    """An extra for `collate`: the document of each window (B,), and the truth (D, L) of the documents in the batch."""
    truth = scheme.truth(documents)

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        numbers = list(dict.fromkeys(window.document for window in group))
        of = torch.tensor([numbers.index(window.document) for window in group], dtype=torch.long)
        return {f"{_PREFIX}document": of, f"{_PREFIX}truth": torch.from_numpy(truth[numbers])}

    return extra


@dataclass(slots=True)
class LabelOutput:
    """`loss` is the mean over `count` documents; `scores` (B, L) are the logits of the windows."""

    loss: Tensor | None
    scores: Tensor
    count: Tensor | None = None


class DocumentClassifier(nn.Module):
    """An encoder (any module that maps a batch to hidden states (B, T, d)) under an output layer."""

    def __init__(self, encoder: nn.Module, scheme: LabelScheme, *, hidden_size: int, seed: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.scheme = scheme
        self.output = AnswerScorer(hidden_size, QuestionScheme("label", scheme.labels), seed=seed)

    def forward(self, batch: dict[str, Tensor]) -> LabelOutput:
        """Logits of the windows, and the loss where the batch has the truth: cross-entropy, binary for several."""
        scores = self.output(self.output.vectors(self.encoder(batch), batch)).float()
        if f"{_PREFIX}truth" not in batch:
            return LabelOutput(None, scores)
        truth, logits = batch[f"{_PREFIX}truth"], self._documents(scores, batch)
        if self.scheme.several:
            loss = F.binary_cross_entropy_with_logits(logits, truth)
        else:
            loss = F.cross_entropy(logits, truth.argmax(dim=1))
        return LabelOutput(loss, scores, torch.tensor(len(truth), device=scores.device))

    def decisions(self, output: LabelOutput, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """The logits (D, L) of the documents in the batch, for several labels those (D * L, 2) of no and yes.

        With by what the loss divides their sum, the number of rows.
        """
        logits = self._documents(output.scores, batch)
        if self.scheme.several:
            logits = torch.stack([torch.zeros_like(logits), logits], dim=-1).flatten(0, 1)
        return logits, max(len(logits), 1)

    def _documents(self, scores: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Means (D, L) over the windows of each document."""
        of, truth = batch[f"{_PREFIX}document"], batch[f"{_PREFIX}truth"]
        logits = scores.new_zeros(truth.shape).index_add(0, of, scores)
        return logits / torch.bincount(of, minlength=len(truth))[:, None]


def document_logits(made: Sequence[Window], scores: Sequence[Array], count: int) -> Array:
    """(D, L) means of the windows' logits."""
    total = np.zeros((count, len(scores[0]) if scores else 0))
    seen = np.zeros(count)
    for window, row in zip(made, scores, strict=True):
        total[window.document] += row
        seen[window.document] += 1
    return total / np.maximum(seen, 1)[:, None]


def labels_of(
    scheme: LabelScheme, logits: Array, temperature: float = 1.0, threshold: float = 0.5
) -> tuple[Label, ...]:
    """The likeliest label of logits (L,); for several all with a probability of at least `threshold`, surest first."""
    scaled = logits / temperature
    if scheme.several:
        chances = 1 / (1 + np.exp(-scaled))
        order = [n for n in np.argsort(-chances, kind="stable") if chances[n] >= threshold]
    else:
        chances = np.exp(scaled - scaled.max())
        chances /= chances.sum()
        order = [np.argmax(chances)]
    return tuple(Label(scheme.labels[n], float(chances[n])) for n in order)


def best_label_threshold(scheme: LabelScheme, logits: Array, truth: Array) -> float:
    """The probability from 0.05 to 0.95 above which calling a label gives the best macro F1; 0.5 for one label."""
    if not scheme.several:
        return 0.5
    chances = 1 / (1 + np.exp(-logits))
    grid = np.arange(0.05, 0.96, 0.05)
    scores = [f1_score(truth, chances >= at, average="macro", zero_division=0.0) for at in grid]
    return float(grid[int(np.argmax(scores))])
