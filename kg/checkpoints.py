"""The state of an unfinished training on disk: killed, it goes on to the result it would have had."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kg.stopping import EarlyStopping
from kg.training_settings import Settings
from kg.triples import Rows
from loaders.errors import MedgraftError

_TABLES = ("concepts", "relations")


@dataclass(frozen=True)
class State:
    """Weights and optimizer of an unfinished training: one safetensors file, its header says of which training."""

    path: Path
    training: str

    def save(self, loop: Any, epoch: int, stopping: EarlyStopping) -> None:
        """Write the state after an epoch: whole, or not at all."""
        tensors = {}
        for name, weight in zip(_TABLES, weights_of(loop.model), strict=True):
            tensors[name] = weight.detach()
            tensors[f"{name}.sum"] = loop.optimizer.state[weight]["sum"]
        for name, table in zip(_TABLES, stopping.best, strict=False):
            tensors[f"{name}.best"] = torch.from_numpy(table)
        header = {
            "training": self.training,
            "epoch": str(epoch),
            "losses": json.dumps([*loop.losses_per_epochs]),
            "checks": json.dumps(stopping.checks),
        }
        aside = self.path.with_name(f"{self.path.name}.new")
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, aside, metadata=header)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(self.path)

    def restore(self, loop: Any, stopping: EarlyStopping) -> bool:
        """Put the loop where the unfinished training was; False if there is none."""
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise MedgraftError(
                f"the state of an unfinished training, {self.path}, is damaged ({error}); delete it"
            ) from error
        if header.get("training") != self.training:
            raise MedgraftError(_other_training(self.path, header.get("training", "{}"), self.training))
        with torch.no_grad():
            for name, weight in zip(_TABLES, weights_of(loop.model), strict=True):
                weight.copy_(tensors[name])
                loop.optimizer.state[weight]["sum"] = tensors[f"{name}.sum"].to(weight.device)
        loop._epoch = int(header["epoch"])
        loop.losses_per_epochs = json.loads(header["losses"])
        stopping.checks = [(epoch, score) for epoch, score in json.loads(header["checks"])]
        stopping.best = [tensors[f"{name}.best"].numpy() for name in _TABLES if f"{name}.best" in tensors]
        torch.manual_seed(epoch_seed(json.loads(self.training)["seed"], loop._epoch + 1))
        return True


def unfinished_state(out: str | Path | None, settings: Settings, fingerprint: str, rows: Rows) -> State | None:
    """Where the state of this training lies, with the folder made, so that a bad place shows before the work."""
    if out is None:
        return None
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise MedgraftError(f"{out} is a file; choose another place for the output folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MedgraftError(f"cannot write to {out.parent}: {error.strerror}; choose another output") from error
    triples = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
    training = asdict(settings) | {"graph": fingerprint, "triples": triples}
    return State(out.parent / f".{out.name}.unfinished.safetensors", json.dumps(training, sort_keys=True))


def _other_training(path: Path, found: str, wanted: str) -> str:
    theirs, ours = json.loads(found), json.loads(wanted)
    names = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    differences = "; ".join(f"{name} {theirs.get(name)!r}, now {ours.get(name)!r}" for name in names)
    return f"{path} holds an unfinished training with other arguments ({differences}); repeat those, or delete the file"


def weights_of(model: Any) -> list[torch.nn.Parameter]:
    """The tables of concepts and of relations inside a PyKEEN model."""
    return [side[0]._embeddings.weight for side in (model.entity_representations, model.relation_representations)]


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for each epoch, so that resuming needs no generator's state."""
    return int(np.random.SeedSequence([abs(seed), epoch]).generate_state(1)[0])
