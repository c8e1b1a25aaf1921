"""Hyper-parameter search on the development part, by optuna: a stated budget, every trial kept, no look at the test."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fusion.ablation import read_results
from fusion.corpora import Corpus
from fusion.course import Course, its_own, opened
from fusion.question_corpora import QuestionCorpus
from fusion.training import train
from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn evenly on a logarithmic scale where `log`; whole ones if both are whole."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise MedgraftError(
                f"{self.low:g} to {self.high:g} is no range; give the lower end first, above 0 on a logarithmic scale"
            )


Space = Mapping[str, Range | Sequence[Any]]
"""By name of an argument of `fusion.train`: a range, or the values to choose from."""


def read_space(lines: Sequence[str]) -> Space:
    """From lines such as `learning_rate=1e-5:1e-3:log`, `frozen_blocks=0:4` and `batch_size=4,8,16`.

    Raises:
        MedgraftError: a line of another kind.
    """
    found: dict[str, Range | Sequence[Any]] = {}
    for line in lines:
        name, _, values = line.partition("=")
        ends = values.removesuffix(":log").split(":")
        try:
            if len(ends) == 2:
                low, high = (int(end) if end.isdigit() else float(end) for end in ends)
                found[name] = Range(low, high, values.endswith(":log"))
            else:
                found[name] = [json.loads(value) for value in values.split(",")]
        except ValueError:
            raise MedgraftError(
                f"{line!r} names nothing to vary; write NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE"
            ) from None
    return found


SPACE: Space = {
    "learning_rate": Range(1e-5, 1e-3, log=True),
    "new_learning_rate": Range(3e-4, 1e-2, log=True),
    "batch_size": (4, 8, 16),
    "layer_decay": Range(0.7, 1.0),
}
FUSED_SPACE: Space = {**SPACE, "knowledge_learning_rate": Range(3e-4, 1e-2, log=True)}
_FIXED = ("seed", "out", "device", "progress", "lesson", "knowledge", "frozen_states")


@dataclass(frozen=True)
class Trial:
    """One choice: its mean score on the development part over the seeds, and the seconds of its trainings."""

    number: int
    settings: dict[str, Any]
    score: float
    seconds: float


@dataclass(frozen=True)
class Search:
    """All trials, in order. The best score is the best of so many, so it is higher than new texts will show."""

    trials: tuple[Trial, ...]
    seeds: int

    @property
    def best(self) -> Trial:
        return max(self.trials, key=lambda trial: trial.score)

    @property
    def seconds(self) -> float:
        """What the trainings took, those of earlier runs too."""
        return sum(trial.seconds for trial in self.trials)

    def as_dict(self) -> dict[str, Any]:
        return {"best": asdict(self.best), "trials": len(self.trials), "seeds": self.seeds, "seconds": self.seconds}

    def __str__(self) -> str:
        chosen = ", ".join(
            f"{n} {v:.3g}" if isinstance(v, float) else f"{n} {v}" for n, v in self.best.settings.items()
        )
        return (
            f"best of {len(self.trials)} trials, {self.seeds} seeds each, {self.seconds:.0f} s of training: "
            f"dev {self.best.score:.4f}\n{chosen}"
        )


def search(
    task: str,
    corpus: Corpus | QuestionCorpus,
    graph: Any = None,
    embeddings: Any = None,
    linker: Any = None,
    *,
    encoder: str | Path,
    out: str | Path,
    space: Space | None = None,
    trials: int = 20,
    minutes: float | None = None,
    seeds: int = 1,
    seed: int = 0,
    device: str = "auto",
    announce: Callable[[str], None] = lambda _line: None,
    **settings: Any,
) -> Search:
    """Train with settings that optuna's TPE sampler proposes, and keep the scores on the development part.

    A search that was stopped goes on, and one of `trials` more goes on from the trials that are there; what is proposed
    depends on the seed and on the trials before, not on interruptions. Each trial is one line of `out/trials.jsonl`.

    Args:
        task: as of `fusion.train`.
        corpus: with a development part; its test part is taken away before anything is trained.
        graph: for a fused model, as of `fusion.train`, like the next two.
        embeddings: of this graph.
        linker: of this graph.
        encoder: as of `fusion.train`.
        out: folder of the results.
        space: what to vary; `SPACE`, with a graph `FUSED_SPACE`, by default.
        trials: the budget, those of earlier runs included.
        minutes: no trial begins after so many minutes of this run.
        seeds: trainings of each trial, whose scores are averaged; fewer than the scores' spread wants finds luck.
        seed: of the proposals; the trainings have the seeds from 0 on.
        device: "auto", "cpu", "cuda" or "mps".
        announce: told of every finished trial.
        settings: handed to `fusion.train`, the same in every trial.

    Raises:
        MedgraftError: no development part, a name or range that cannot be varied, no trial; and as `fusion.train`.
    """
    import optuna

    asked = dict(space if space is not None else SPACE if graph is None else FUSED_SPACE)
    _check(asked, settings, corpus, trials, seeds)
    graph = opened(graph)
    embeddings, linker = its_own(graph, embeddings, linker, Course(device=device))
    corpus = replace(corpus, test=())  # type: ignore[arg-type]
    key = {
        "task": task, "documents": corpus.digest(), "encoder": Path(encoder).name, "seeds": seeds, "seed": seed,
        "graph": None if graph is None else graph.fingerprint,
        "space": {name: repr(some) for name, some in asked.items()},
        "settings": {name: str(value) for name, value in settings.items()},
    }  # fmt: skip
    key = json.loads(json.dumps(key))
    file = Path(out) / "trials.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = [Trial(**line["trial"]) for line in read_results(file) if line["key"] == key][:trials]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began = time.monotonic()
    while len(done) < trials and (minutes is None or time.monotonic() - began < 60 * minutes or not done):
        chosen = _proposed(asked, done, seed)
        start = time.monotonic()
        scores = []
        for number in range(seeds):
            model = train(
                task, corpus, graph, embeddings, linker, encoder=encoder, seed=number, device=device,
                **{**settings, **chosen},
            )  # fmt: skip
            scores.append(float(model.scores["dev f1"]))
        trial = Trial(len(done), chosen, sum(scores) / seeds, round(time.monotonic() - start, 2))
        with file.open("a", encoding="utf-8") as results:
            results.write(json.dumps({"key": key, "trial": asdict(trial)}) + "\n")
        done.append(trial)
        announce(f"trial {trial.number}: dev {trial.score:.4f} in {trial.seconds:.0f} s, {trial.settings}")
    return Search(tuple(done), seeds)


def _proposed(space: Space, done: Sequence[Trial], seed: int) -> dict[str, Any]:
    """What the sampler proposes after these trials; it starts anew each time, so a resumed search goes on alike."""
    import optuna

    kinds: dict[str, Any] = {}
    for name, some in space.items():
        if not isinstance(some, Range):
            kinds[name] = optuna.distributions.CategoricalDistribution(tuple(some))
        elif isinstance(some.low, int) and isinstance(some.high, int):
            kinds[name] = optuna.distributions.IntDistribution(some.low, some.high, log=some.log)
        else:
            kinds[name] = optuna.distributions.FloatDistribution(some.low, some.high, log=some.log)
    sampler = optuna.samplers.TPESampler(seed=seed * 100_003 + len(done), n_startup_trials=5, multivariate=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in done:
        study.add_trial(optuna.trial.create_trial(params=trial.settings, distributions=kinds, value=trial.score))
    return dict(study.ask(kinds).params)


def _check(space: Space, settings: Mapping[str, Any], corpus: Any, trials: int, seeds: int) -> None:
    import inspect

    known = [name for name, p in inspect.signature(train).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name, some in space.items():
        if name not in known or name in _FIXED or name == "encoder":
            raise MedgraftError(f"{name!r} cannot be varied; vary arguments of fusion.train such as {', '.join(SPACE)}")
        if name in settings:
            raise MedgraftError(f"{name!r} is both varied and set to {settings[name]!r}; drop one of the two")
        if not isinstance(some, Range) and not len(some):
            raise MedgraftError(f"there is no value of {name!r} to choose from; give one or more")
    if not space:
        raise MedgraftError("there is nothing to vary; name at least one argument of fusion.train")
    if trials < 1 or seeds < 1:
        raise MedgraftError("a search wants one trial and one seed or more")
    if not corpus.dev:
        raise MedgraftError("a search chooses on the development part, and there is none; give one")


def draw_search(found: Search, path: str | Path) -> None:
    """A picture: the score of each trial against its seconds, and the best so far against the trials."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([t.seconds for t in found.trials], [t.score for t in found.trials], "o")
    left.set(xlabel="seconds of training", ylabel="score on the development part")
    best = [max(t.score for t in found.trials[: n + 1]) for n in range(len(found.trials))]
    right.plot([t.score for t in found.trials], "o", alpha=0.4, label="trial")
    right.step(range(len(best)), best, where="post", label="best so far")
    right.set(xlabel="trial")
    right.legend()
    figure.savefig(path, dpi=130)
