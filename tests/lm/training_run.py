"""A small training run as a program of its own, to be killed and resumed, or run in two processes.

    python training_run.py OUT [--folder FOLDER] [--die-at STEP] [--dropout P] [--accumulation N]

Writes the trained weights to OUT/weights.safetensors and the loss of every step to OUT/losses.json.
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lm.training import History, fit, isolated_seed

torch.set_num_threads(1)
RATES = {"": 1e-2, "layers.2": 3e-2}


@dataclass
class Output:
    loss: Tensor
    count: Tensor


class Model(nn.Module):
    """Says for each letter of a string whether it is a vowel; `unused` never gets a gradient."""

    def __init__(self, dropout: float = 0.1, extra: bool = False) -> None:
        super().__init__()
        with isolated_seed(0):
            self.layers = nn.Sequential(nn.Embedding(128, 8), nn.Dropout(dropout), nn.Linear(8, 2))
            self.unused = nn.Linear(3, 3)
        self.extra = nn.Linear(8, 8) if extra else None
        if self.extra is not None:
            nn.init.zeros_(self.extra.weight)
            nn.init.zeros_(self.extra.bias)

    def forward(self, batch: dict[str, Tensor]) -> Output:
        hidden = self.layers[1](self.layers[0](batch["letters"]))
        if self.extra is not None:
            hidden = hidden + 0 * self.extra(hidden)
        logits = self.layers[2](hidden)
        kept = batch["letters"] > 0
        loss = nn.functional.cross_entropy(logits[kept], batch["vowel"][kept])
        return Output(loss, kept.sum())


def examples() -> list[str]:
    words = "the boy had absence seizures after warfarin and nausea with renal failure in a series of six cases".split()
    return [a + b for a in words for b in words[:4]]


def collate(group: list[str]) -> dict[str, Tensor]:
    longest = max(map(len, group))
    letters = torch.tensor([[ord(c) for c in word] + [0] * (longest - len(word)) for word in group])
    vowels = torch.tensor([[int(c in "aeiou") for c in word] + [0] * (longest - len(word)) for word in group])
    return {"letters": letters, "vowel": vowels}


def run(
    model: Model, folder: str | None = None, die_at: int | None = None, accumulation: int = 1, epochs: int = 3
) -> History:
    calls = 0

    def collate_or_die(group: list[str]) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os._exit(9)
        return collate(group)

    return fit(
        model,
        examples(),
        collate_or_die,
        epochs=epochs,
        batch_size=8,
        learning_rates=RATES,
        accumulation=accumulation,
        seed=5,
        device="cpu",
        folder=folder,
        checkpoint_seconds=0.0,
        evaluate=lambda: {"f1": float(model.layers[2].weight.detach().norm())},
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--folder")
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--accumulation", type=int, default=1)
    arguments = parser.parse_args()
    model = Model(arguments.dropout)
    history = run(model, arguments.folder, arguments.die_at, arguments.accumulation)
    if int(os.environ.get("RANK", "0")) == 0:
        arguments.out.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), arguments.out / "weights.safetensors")
        (arguments.out / "losses.json").write_text(json.dumps(history.losses))


if __name__ == "__main__":
    main()
