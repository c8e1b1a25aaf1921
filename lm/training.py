"""One training loop for every task, resumable to the bit, on one process or several.

The only module that knows accelerate. Randomness comes in three streams that do not touch each other:

* weights: drawn before training, by whoever makes the layers (extra layers under `isolated_seed`);
* data order: a generator of its own for each epoch, from the seed and the epoch;
* dropout: torch's global state, set anew before each forward pass from the seed and the step.

So a model with extra layers sees the same batches and, as long as these layers draw nothing from torch's global state
in their forward pass, the same dropout as the model without them; and a resumed run goes on as if never stopped.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from lm.encoder import resolve_device
from lm.sampling import Step, one_pass
from loaders.errors import MedgraftError
from loaders.folders import new_folder, restore_folder

Batch = dict[str, Tensor]


@dataclass(slots=True)
class Epoch:
    """Mean training loss of an epoch, and what `evaluate` said after it."""

    number: int
    loss: float
    scores: dict[str, float]


@dataclass(slots=True)
class History:
    """What happened in a training run; `seconds` counts earlier parts of a resumed run too."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Of every optimiser step."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that decides the result; a checkpoint can only be resumed under the same plan."""

    epochs: int
    batch_size: int
    learning_rates: dict[str, float]
    weight_decay: float
    warmup: float
    clip: float
    accumulation: int
    precision: str
    seed: int
    patience: int | None
    maximise: list[str]
    examples: str
    parameters: str


@dataclass(slots=True)
class _Progress:
    """Where the run stands: between two steps of an epoch."""

    epoch: int = 0
    step_in_epoch: int = 0
    done: bool = False
    loss_sum: float = 0.0
    loss_count: float = 0.0
    best_score: float = -math.inf
    scaler: dict[str, float] = field(default_factory=dict)
    history: History = field(default_factory=History)


@contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, and leave torch's global state as if nothing had been drawn (for extra layers)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def fit(
    model: nn.Module,
    examples: Sequence[Any],
    collate: Callable[[Sequence[Any]], Batch],
    *,
    epochs: int,
    batch_size: int = 16,
    learning_rates: Mapping[str, float],
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    clip: float = 1.0,
    accumulation: int = 1,
    precision: str = "no",
    seed: int = 0,
    device: str = "auto",
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    maximise: Sequence[str] = ("f1",),
    patience: int | None = None,
    folder: str | Path | None = None,
    checkpoint_seconds: float = 300.0,
    before_epoch: Callable[[int], None] | None = None,
    steps: Callable[[int], list[Step]] | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place; it ends with the weights of the best epoch, or of the last without `evaluate`.

    Args:
        model: `model(batch).loss` is a mean; if the output also has `count`, the number of things it is the mean of,
            then batches, accumulated parts and processes are weighted by it, else by their examples.
        examples: of any kind that has a length (in pieces); batches are made of similar lengths.
        collate: examples to a batch of tensors.
        epochs: passes over the examples.
        batch_size: examples in a forward pass, over all processes together.
        learning_rates: by prefix of the parameter's name ("" for all); the longest prefix counts.
        weight_decay: of matrices; biases and normalisation weights do not decay.
        warmup: share of the steps over which the learning rates rise; then they fall linearly to zero.
        clip: highest norm of the gradient.
        accumulation: forward passes per optimiser step.
        precision: "no", "bf16" or "fp16" (which needs a GPU).
        seed: of data order and dropout.
        device: "auto", "cuda", "mps" or "cpu". With several processes, accelerate assigns the devices.
        evaluate: called after each epoch with the model in evaluation mode, on the main process.
        maximise: keys of `evaluate`'s answer; the mean of what stands there decides which epoch is best.
        patience: stop after so many epochs without a better one.
        folder: for checkpoints. A run that was killed goes on from the last one; one that ended is not run again.
        checkpoint_seconds: time between checkpoints; there is one after each epoch in any case.
        before_epoch: called with the number of each epoch before its first step, and after a resumption; it may freeze
            and thaw parameters that could be trained when training began.
        steps: the steps of the epoch of that number, each a list of batches of numbers of examples; as many in every
            epoch. By default all examples once, in batches of similar lengths, `accumulation` of them a step.
        progress: show a bar on stderr if it is a terminal.

    Raises:
        MedgraftError: nothing to train, a prefix without parameters, a loss that is not finite, a folder that holds
            another run.
    """
    if not len(examples):
        raise MedgraftError("there is nothing to train on: no examples; check that the corpus has annotated documents")
    plan = _Plan(
        epochs, batch_size, dict(learning_rates), weight_decay, warmup, clip, accumulation, precision, seed, patience,
        list(maximise), _examples_hash(examples, steps), _names_hash(model),
    )  # fmt: skip
    accelerator = _accelerator(precision, device)
    try:
        run = _Run(model, examples, collate, steps, plan, accelerator, Path(folder) if folder is not None else None)
        run.resume()
        run.train(evaluate, checkpoint_seconds, before_epoch, progress)
        return run.at.history
    finally:
        # Takes accelerate's casting wrapper off the forward method again.
        vars(model).pop("forward", None)
        # The precision is a global of accelerate's, and the next run may want another.
        AcceleratorState._reset_state()


class _Run:
    """One training run: the model, its optimiser, and where it stands."""

    def __init__(
        self,
        model: nn.Module,
        examples: Sequence[Any],
        collate: Callable[[Sequence[Any]], Batch],
        steps: Callable[[int], list[Step]] | None,
        plan: _Plan,
        accelerator: Any,
        folder: Path | None,
    ) -> None:
        self.raw, self.examples, self.collate, self.plan = model, examples, collate, plan
        self.accelerator, self.folder = accelerator, folder
        lengths = np.array([len(example) for example in examples])
        self.steps = steps or (lambda epoch: _batches(lengths, plan, epoch))
        groups = _parameter_groups(model, plan.learning_rates, plan.weight_decay)
        self.rates = [group["lr"] for group in groups]
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(groups, fused=accelerator.device.type in ("cpu", "cuda"))
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.at = _Progress()
        self.best: dict[str, Tensor] | None = None
        self.steps_per_epoch = len(self.steps(0))

    def train(
        self,
        evaluate: Callable[[], Mapping[str, float]] | None,
        checkpoint_seconds: float,
        before_epoch: Callable[[int], None] | None,
        progress: bool,
    ) -> None:
        at, total = self.at, self.plan.epochs * self.steps_per_epoch
        began, saved = time.monotonic() - at.history.seconds, time.monotonic()
        shown = progress and self.accelerator.is_main_process
        with tqdm(total=total, initial=at.history.steps, desc="train", disable=None if shown else True) as bar:
            while not at.done:
                if before_epoch is not None:
                    before_epoch(at.epoch)
                steps = self.steps(at.epoch)
                for step in range(at.step_in_epoch, len(steps)):
                    self._step(steps[step])
                    at.step_in_epoch = step + 1
                    at.history.seconds = time.monotonic() - began
                    bar.set_postfix(loss=f"{at.history.losses[-1]:.3f}", refresh=False)
                    bar.update()
                    if time.monotonic() - saved >= checkpoint_seconds:
                        self._save()
                        saved = time.monotonic()
                self._end_epoch(evaluate)
                at.history.seconds = time.monotonic() - began
                self._save()
                saved = time.monotonic()
        self._restore_best()

    def _step(self, parts: list[list[int]]) -> None:
        """One optimiser step over its parts, each a batch of examples."""
        factor = self._learning_rate_factor()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.model.train()
        self.optimizer.zero_grad()
        sums = torch.zeros(2, dtype=torch.float64, device=self._sum_device)
        for number, part in enumerate(parts):
            last = number + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                sums += self._backward(part, number).to(self._sum_device)
        loss_sum, count = self.accelerator.reduce(sums, "sum").tolist()
        loss = loss_sum / count if count else 0.0
        if not math.isfinite(loss):
            raise MedgraftError(
                f"the loss is {loss} at step {self.at.history.steps + 1}; lower the learning rate or use precision 'no'"
            )
        self._scale_gradients(self.accelerator.num_processes * self.plan.batch_size / max(count, 1.0))
        self.optimizer.step()
        self.at.history.steps += 1
        self.at.history.losses.append(loss)
        self.at.loss_sum += loss_sum
        self.at.loss_count += count

    def _backward(self, part: list[int], number: int) -> Tensor:
        """Run this process's share of the part; (summed loss, count)."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = part[rank::processes]
        # A process without a share still takes part in the exchange, with weight zero.
        group = [self.examples[i] for i in mine or part[:1]]
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in self.collate(group).items()}
        torch.manual_seed(_mixed(self.plan.seed, self.at.history.steps, number, rank))
        output = self.model(batch)
        counted = getattr(output, "count", None)
        count = torch.as_tensor(len(mine) if counted is None else counted * bool(mine), dtype=torch.float32)
        weight = count.to(output.loss.device)
        # A sum, scaled by a constant: what it has to be divided by is known once all parts have run.
        self.accelerator.backward(output.loss * weight / self.plan.batch_size)
        return torch.stack([output.loss.detach().float() * weight, weight]).double().cpu()

    @property
    def _sum_device(self) -> torch.device:
        return self.accelerator.device if self.accelerator.device.type == "cuda" else torch.device("cpu")

    def _scale_gradients(self, scale: float) -> None:
        """Turn gradients of sums into those of the mean, and clip their norm."""
        self.accelerator.unscale_gradients(self.optimizer)
        gradients = [p.grad for p in self.trained.values() if p.grad is not None]
        if not gradients:
            raise MedgraftError("the loss reaches no parameter that may be trained; freeze fewer blocks")
        norms = torch.stack(torch._foreach_norm(gradients)).tolist()
        if not all(map(math.isfinite, norms)):
            if self.plan.precision == "fp16":
                return  # the loss scaler skips this step
            raise MedgraftError(
                f"the gradient is not finite at step {self.at.history.steps + 1}; lower the learning rate"
            )
        # An exact sum: layers without a gradient must not change the last bit of the others' training.
        norm = scale * math.sqrt(math.fsum(n * n for n in norms))
        torch._foreach_mul_(gradients, scale * min(1.0, self.plan.clip / (norm + 1e-6)))

    def _learning_rate_factor(self) -> float:
        step, total = self.at.history.steps, self.plan.epochs * self.steps_per_epoch
        rising = self.plan.warmup * total
        return (step + 1) / (rising + 1) if step < rising else (total - step) / max(total - rising, 1.0)

    def _end_epoch(self, evaluate: Callable[[], Mapping[str, float]] | None) -> None:
        at = self.at
        scores: dict[str, float] = {}
        if evaluate is not None:
            scores = self._evaluate(evaluate)
            absent = [key for key in self.plan.maximise if key not in scores]
            if absent:
                raise MedgraftError(f"evaluate gives {', '.join(scores)}, but not {absent[0]!r}, to maximise")
            score = sum(scores[key] for key in self.plan.maximise) / len(self.plan.maximise)
            if score > at.best_score:
                at.best_score, at.history.best_epoch = score, at.epoch
                self.best = {name: p.detach().to("cpu", copy=True) for name, p in self.trained.items()}
                self._write("best", self.best, None)
        at.history.epochs.append(Epoch(at.epoch, at.loss_sum / max(at.loss_count, 1.0), scores))
        waited = 0 if at.history.best_epoch is None else at.epoch - at.history.best_epoch
        at.epoch, at.step_in_epoch, at.loss_sum, at.loss_count = at.epoch + 1, 0, 0.0, 0.0
        at.done = at.epoch >= self.plan.epochs or (self.plan.patience is not None and waited >= self.plan.patience)

    def _evaluate(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        answer: list[dict[str, float] | None] = [None]
        if self.accelerator.is_main_process:
            self.raw.eval()
            with torch.no_grad():
                answer = [dict(evaluate())]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(answer)
        return answer[0] or {}

    def _restore_best(self) -> None:
        self.raw.eval()
        if self.best is not None:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.best[name])

    def _save(self) -> None:
        tensors = {f"model.{name}": p.detach() for name, p in self.trained.items()}
        tensors |= {f"buffer.{name}": b for name, b in _kept_buffers(self.raw).items()}
        for name, parameter in self.trained.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        if self.accelerator.scaler is not None:
            self.at.scaler = self.accelerator.scaler.state_dict()
        self._write("latest", tensors, {"plan": asdict(self.plan), "progress": asdict(self.at)})

    def _write(self, name: str, tensors: Mapping[str, Tensor], state: dict[str, Any] | None) -> None:
        if self.folder is None or not self.accelerator.is_main_process:
            return
        with new_folder(self.folder / name) as aside:
            # Copies: what shares memory cannot be stored.
            save_file({key: t.detach().cpu().clone() for key, t in tensors.items()}, aside / "state.safetensors")
            if state is not None:
                (aside / "state.json").write_text(json.dumps(state))

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it holds one."""
        if self.folder is None:
            return
        for name in ("latest", "best"):
            if self.accelerator.is_main_process:
                restore_folder(self.folder / name)
        self.accelerator.wait_for_everyone()
        if not (self.folder / "latest" / "state.json").is_file():
            return
        state = json.loads((self.folder / "latest" / "state.json").read_text())
        now = asdict(self.plan)
        different = [key for key in now if state["plan"].get(key) != now[key]]
        if different:
            raise MedgraftError(
                f"{self.folder} holds a run with other {', '.join(different)}; choose another folder or delete it"
            )
        saved = load_file(self.folder / "latest" / "state.safetensors")
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(saved[f"model.{name}"])
            for name, buffer in _kept_buffers(self.raw).items():
                buffer.copy_(saved[f"buffer.{name}"])
        self._load_optimizer(saved)
        kept = state["progress"]
        history = History(**kept.pop("history"))
        history.epochs = [Epoch(**epoch) for epoch in history.epochs]  # type: ignore[arg-type]
        self.at = _Progress(**kept, history=history)
        if self.accelerator.scaler is not None and self.at.scaler:
            self.accelerator.scaler.load_state_dict(self.at.scaler)
        if history.best_epoch is not None:
            self.best = load_file(self.folder / "best" / "state.safetensors")

    def _load_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        for name, parameter in self.trained.items():
            ending = f".{name}"
            for key, value in saved.items():
                if key.startswith("optimizer.") and key.endswith(ending):
                    slot = key.removeprefix("optimizer.").removesuffix(ending)
                    if "." not in slot:
                        device = parameter.device if slot != "step" or parameter.is_cuda else torch.device("cpu")
                        self.optimizer.state[parameter][slot] = value.to(device)


def _accelerator(precision: str, device: str) -> Any:
    kind = resolve_device(device).type
    if precision not in ("no", "bf16", "fp16"):
        raise MedgraftError(f"unknown precision {precision!r}; choose no, bf16 or fp16")
    if precision == "fp16" and kind != "cuda":
        raise MedgraftError("precision fp16 needs a CUDA device; choose bf16 or no")
    AcceleratorState._reset_state()
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=precision, cpu=kind == "cpu", kwargs_handlers=[unused])


def _parameter_groups(model: nn.Module, rates: Mapping[str, float], weight_decay: float) -> list[dict[str, Any]]:
    """A group for each prefix and each of decay or none, so that no parameter is in two."""
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    unused = set(rates)
    for name, parameter in model.named_parameters():
        prefixes = [p for p in rates if not p or name == p or name.startswith(p + ".")]
        if not prefixes:
            raise MedgraftError(f"no learning rate for {name}; add one for the prefix '', which means all")
        prefix = max(prefixes, key=len)
        unused.discard(prefix)
        if parameter.requires_grad:
            decays = parameter.ndim > 1
            empty = {"params": [], "lr": rates[prefix], "weight_decay": weight_decay if decays else 0.0}
            groups.setdefault((prefix, decays), empty)["params"].append(parameter)
    if unused - {""}:
        raise MedgraftError(f"no parameter's name begins with {sorted(unused - {''})[0]!r}; check the learning rates")
    if not groups:
        raise MedgraftError("every parameter is frozen; freeze fewer blocks")
    return list(groups.values())


def _batches(lengths: Any, plan: _Plan, epoch: int) -> list[Step]:
    """The steps of an epoch, each a list of batches of similar lengths, in an order that the seed and epoch decide."""
    return one_pass(lengths, plan.batch_size, plan.accumulation, np.random.default_rng([plan.seed, epoch]))


def _kept_buffers(model: nn.Module) -> dict[str, Tensor]:
    kept = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


def _mixed(*numbers: int) -> int:
    """A seed that differs for each tuple of numbers."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big") >> 1


def _examples_hash(examples: Sequence[Any], steps: Callable[[int], list[Step]] | None) -> str:
    read = [len(example) for example in examples]
    return hashlib.sha256(repr(read if steps is None else (read, steps(0))).encode()).hexdigest()[:16]


def _names_hash(model: nn.Module) -> str:
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in model.named_parameters()]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]
