"""A plain model or student for onnxruntime: as it is, or with int8 weights, a quarter of the size; measured."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fusion.evaluation import Compared, compare_models
from fusion.model import FusedModel, Item
from fusion.tasks import load
from lm.exporting import FILE, export_onnx
from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Exported:
    """Megabytes of the encoder and of the one it was made from; `speed` and `scores` against that, if measured.

    `speed` is how many times as many items a second it takes, from text to answers: median, least and greatest.
    """

    megabytes: float
    before: float
    speed: tuple[float, float, float] | None = None
    scores: Compared | None = None

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"megabytes": round(self.megabytes, 1), "before": round(self.before, 1)}
        if self.speed is not None:
            shown["speed"] = dict(zip(("median", "least", "greatest"), self.speed, strict=True))
        return shown | ({} if self.scores is None else self.scores.as_dict())

    def __str__(self) -> str:
        lines = [f"encoder {self.megabytes:.1f} MB, {self.before:.1f} before"]
        if self.speed is not None:
            lines.append("speed {:.2f} times that of torch ({:.2f} to {:.2f})".format(*self.speed))
        return "\n".join([*lines, *([] if self.scores is None else [str(self.scores)])])


def export_model(
    model: FusedModel[Item],
    out: str | Path,
    *,
    int8: bool = False,
    gold: Sequence[Item] = (),
    rounds: int = 5,
    draws: int = 2000,
) -> Exported:
    """Write a model folder whose encoder onnxruntime runs; `fusion.load` reads it, all but training works.

    Args:
        model: plain; what a fused one does in its middle is not exported, `fusion.distill` makes a student of it.
        out: the folder.
        int8: linear layers and embeddings with weights of int8, by dynamic quantisation.
        gold: labelled items to measure speed and scores on, by turns and on as many threads as torch has; none by
            default.
        rounds: of timing.
        draws: of the bootstrap and the paired test.

    Raises:
        MedgraftError: a fused model, or onnx is not installed.
    """
    if model.fused or model.memory is not None:
        raise MedgraftError(
            "a model with a graph or a memory is not exported; distil a student from it first: medgraft distill"
        )
    model.network.to("cpu").eval()
    with TemporaryDirectory() as work:
        encoder = export_onnx(model.encoder, work, int8=int8)
        notes = {"runtime": f"onnxruntime{', int8' if int8 else ''}; the scores are those before export"}
        replace(model, encoder=encoder, training={**model.training, **notes}).save(out)
    size = (Path(out) / FILE).stat().st_size / 1e6
    before = sum(p.numel() * p.element_size() for p in model.encoder.parameters()) / 1e6
    if not gold:
        return Exported(size, before)
    exported = load(out, device="cpu")
    ratios = []
    for _ in range(rounds):
        seconds = [_seconds(one, gold) for one in (exported, model)]
        ratios.append(seconds[1] / seconds[0])
    speed = statistics.median(ratios), min(ratios), max(ratios)
    return Exported(size, before, speed, compare_models(exported, model, gold, draws=draws))


def _seconds(model: FusedModel[Item], items: Sequence[Item]) -> float:
    start = time.perf_counter()
    for _ in model.pipe(items):
        pass
    return time.perf_counter() - start
