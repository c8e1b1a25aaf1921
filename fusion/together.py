"""Train models of several tasks together, so that each may gain by what the others are told (multi-task learning)."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.course import (
    PAIR_TASKS,
    AnyCorpus,
    Course,
    adapt,
    as_in_training,
    best_scores,
    check_task,
    checkpoints,
    decisive,
    described,
    dropout_of,
    finish,
    its_own,
    knowledge_table,
    learning_rates,
    make_ready,
    model_settings,
    opened,
    remove_checkpoints,
    search_for_leaks,
    settle,
    thawing,
    warn_of_silence,
)
from fusion.knowledge import ConceptVectors, GraphTables, KnowledgeTable
from fusion.model import FusedModel, TrainingData
from fusion.sharing import JointNetwork, check_sharing, joint_data, last_shared, make_sharing, table_for
from fusion.tagging import HEADS
from fusion.tasks import TASKS
from kg import Linker
from lm.caching import States
from lm.encoder import Encoder, resolve_device
from lm.sampling import by_turns
from lm.training import fit
from lm.weighting import loss_weights as make_weights
from loaders.errors import MedgraftError

OWN = ("head", "longest_mention", "num_candidates", "max_pieces", "max_windows", "batch_size", "new_learning_rate")
"""Settings that may differ between tasks that are trained together."""

_WEIGHT_RATE = 1e-2  # of the logarithms of learnt loss weights, which have far to go in a few hundred steps


def train_together(
    corpora: Mapping[str, AnyCorpus],
    graph: GraphTables | str | Path | None = None,
    embeddings: ConceptVectors | None = None,
    linker: Linker | None = None,
    *,
    encoder: str | Path,
    out: str | Path | None = None,
    knowledge: KnowledgeTable | None = None,
    sharing: str | None = None,
    sampling_temperature: float = 1.0,
    loss_weights: str = "equal",
    pull: float = 0.1,
    experts: int = 4,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> dict[str, FusedModel[Any]]:
    """Train a model of each task on one encoder, and keep the epoch with the best mean of the tasks' main scores.

    The models are as `fusion.train` makes them: each evaluates, annotates, explains, saves and loads by itself. What
    they share (`fusion.sharing`) they share in memory until they are saved; a saved folder is complete.

    Args:
        corpora: by task ("ner", "relations", "classification", "qa"), two or more.
        graph: as for `fusion.train`, like the next three.
        embeddings: of this graph.
        linker: of this graph.
        encoder: Hugging Face model folder or name.
        out: folder for the models, each in a folder named after its task.
        knowledge: a finished table in place of graph and embeddings.
        sharing: "hard", "soft", "private-fusion" or "experts"; by default private fusion with a graph, where a shared
            knowledge attention cost mentions most of what it gave them, and hard without one.
        sampling_temperature: each step is of one task, drawn in proportion to its size (in steps) to the power of
            1 / temperature; see `lm.sampling.by_turns`.
        loss_weights: "equal", "uncertainty" or "gradient", see `lm.weighting`.
        pull: for soft sharing, the weight of the squared distance between a task's encoder and the mean of the others.
        experts: for that sharing, how many.
        own: by task, settings of `OWN` that it has for itself.
        settings: of `fusion.train`, for all tasks: epochs, batch_size, learning rates, frozen_blocks, seed and the
            like.

    Raises:
        MedgraftError: fewer than two tasks, an empty corpus, development parts for some tasks only, unknown sharing or
            weights, settings that tasks cannot have for themselves; and as `fusion.train`.
    """
    course = Course(**settings)
    courses = _courses(corpora, course, own or {})
    asked = {task: _asked(task, corpus, courses[task]) for task, corpus in corpora.items()}
    resolve_device(course.device)
    known = opened(graph)
    searched = {task: search_for_leaks(task, corpus, known) for task, corpus in corpora.items()}
    if knowledge is None:
        embeddings, linker = its_own(known, embeddings, linker, course)
    pairs = [task for task in corpora if task in PAIR_TASKS]
    table = knowledge_table(known, embeddings, linker, knowledge, pairs=bool(pairs))
    sharing = sharing or ("hard" if table is None else "private-fusion")
    check_sharing(sharing, table is not None)
    loaded = Encoder.load(encoder)
    extra = {"experts": experts} if sharing == "experts" else {}
    wanted = {task: model_settings(task, loaded, courses[task], {**asked[task], **extra}) for task in corpora}
    if sharing != "private-fusion":
        # The knowledge attention acts on every task, so none may be trained without it, and is of one shape for all.
        courses = {task: _attending(task, c) for task, c in courses.items()}
        ends = any(settings.mark_ends for settings in wanted.values())
        wanted = {task: replace(settings, mark_ends=ends) for task, settings in wanted.items()}
    models = make_sharing(sharing, loaded, wanted, {t: table_for(t in pairs, table) for t in corpora}, linker)
    encoders = list({id(model.encoder): model.encoder for model in models.values()}.values())
    for one in encoders:
        adapt(one, course)
    _make_ready(models, courses)
    weights = make_weights(loss_weights, len(models), last_shared(sharing, loaded))
    joint = JointNetwork({t: m.network for t, m in models.items()}, weights, pull if sharing == "soft" else 0.0)
    joint.to(resolve_device(course.device))
    scheme = {"sharing": sharing, "sampling temperature": sampling_temperature, "loss weights": loss_weights}
    scheme |= {"pull": pull} if sharing == "soft" else {}
    plans = {}
    for task, corpus in corpora.items():
        others = {"trained with": ", ".join(other for other in corpora if other != task), **scheme}
        plans[task] = described(models[task], corpus, encoder, courses[task], others)
    folder = None
    if out is not None:
        folder = checkpoints(Path(out), scheme, *(decisive(models[t], c, plans[t]) for t, c in corpora.items()))
    with ExitStack() as stack:
        for task, model in models.items():
            stack.enter_context(as_in_training(model, courses[task]))
        data = {task: _training_data(task, models[task], corpus) for task, corpus in corpora.items()}
        for task in corpora if known is not None else ():
            warn_of_silence(models[task], courses[task], data[task])
        examples, collate = joint_data(list(data.values()))
        history = fit(
            joint,
            examples,
            collate,
            learning_rates=_joint_rates(joint, models, courses),
            evaluate=_joint_scorer(models, corpora),
            folder=folder,
            checkpoint_seconds=60,
            before_epoch=thawing(encoders, course),
            steps=by_turns(
                [np.array([len(example) for example in some.examples]) for some in data.values()],
                [courses[task].batch_size for task in data],
                temperature=sampling_temperature,
                accumulation=course.accumulation,
                seed=course.seed,
            ),
            **course.for_fit(),
        )
    for one in encoders:
        settle(one, course)
    best, counted = best_scores(history), joint.weights.current()  # type: ignore[operator]
    for number, (task, model) in enumerate(models.items()):
        notes = {**plans[task], "steps": history.steps, **data[task].notes, "best epoch": history.best_epoch}
        if counted is not None:
            notes["loss weight in the end"] = round(counted[number], 4)
        finish(model, corpora[task], courses[task], _scores_of(task, best), notes, searched[task])
    if out is not None:
        for task, model in models.items():
            model.save(Path(out) / task)
        remove_checkpoints(Path(out))
    return models


def _courses(
    corpora: Mapping[str, AnyCorpus], course: Course, own: Mapping[str, Mapping[str, Any]]
) -> dict[str, Course]:
    """The course of each task; a head of mentions is of ner alone."""
    if len(corpora) < 2:
        raise MedgraftError("there is nothing to share: give corpora of two tasks or more, or train the one alone")
    strange = [task for task in own if task not in corpora]
    if strange:
        raise MedgraftError(f"settings for {strange[0]!r}, but no corpus; the tasks are {', '.join(corpora)}")
    common = [name for some in own.values() for name in some if name not in OWN]
    if common:
        raise MedgraftError(f"{common[0]} is the same for all tasks; they differ in {', '.join(OWN)} only")
    with_dev = [task for task, corpus in corpora.items() if corpus.dev]
    without = [task for task in corpora if task not in with_dev]
    if with_dev and without:
        raise MedgraftError(
            f"{without[0]} has no development part, but {with_dev[0]} has; the epoch is chosen by the mean over all "
            "tasks, so give all of them one, or none"
        )
    plain = replace(course, head=HEADS[0])
    return {task: replace(course if task == "ner" else plain, **own.get(task, {})) for task in corpora}


def _attending(task: str, course: Course) -> Course:
    """With windows that are read with their knowledge, though for the task alone it be usual that none is."""
    without = course.sentence_dropout is None and dropout_of(task, None, None)["sentence_dropout"] == 1
    return replace(course, sentence_dropout=0.1) if without else course


def _asked(task: str, corpus: AnyCorpus, course: Course) -> dict[str, Any]:
    """What a corpus that can be trained on decides of its task's model."""
    check_task(task, corpus, course.head)
    if not corpus.train:
        raise MedgraftError(f"{corpus.name} has nothing to train {task} on; check its training part, or leave it out")
    return TASKS[task].settings_of(corpus)  # type: ignore[arg-type]


def _make_ready(models: Mapping[str, FusedModel[Any]], courses: Mapping[str, Course]) -> None:
    """Frozen blocks are the same for all tasks, so they keep what these say in one place."""
    kept: States = {}
    for task, model in models.items():
        course = courses[task]
        states = kept if course.cache_frozen and course.frozen_states is None else course.frozen_states
        make_ready(model, replace(course, frozen_states=states))


def _training_data(task: str, model: FusedModel[Any], corpus: AnyCorpus) -> TrainingData:
    data = model.training_data(corpus.train)
    if not data.examples:
        raise MedgraftError(f"{corpus.name} has no example to train {task} on; check its annotation")
    return data


def _joint_rates(
    joint: JointNetwork, models: Mapping[str, FusedModel[Any]], courses: Mapping[str, Course]
) -> dict[str, float]:
    """The learning rates of each model, under the names that the joint network has for their modules.

    What is shared has one name there, in the first of the models; prefixes that no parameter goes by are left out.
    """
    rates = {"weights": _WEIGHT_RATE}
    for task, model in models.items():
        for prefix, rate in learning_rates(model, courses[task]).items():
            rates[f"tasks.{task}" + (f".{prefix}" if prefix else "")] = rate
    names = [name for name, _ in joint.named_parameters()]
    used = {max((p for p in rates if name.startswith(f"{p}.")), key=len) for name in names}
    return {prefix: rate for prefix, rate in rates.items() if prefix in used}


def _joint_scorer(
    models: Mapping[str, FusedModel[Any]], corpora: Mapping[str, AnyCorpus]
) -> Callable[[], Mapping[str, float]] | None:
    """After an epoch: the scores of each task after its name, and as "f1" the mean of what each is chosen by."""
    if not all(corpus.dev for corpus in corpora.values()):
        return None
    scorers = {task: models[task].scorer(corpus.dev) for task, corpus in corpora.items()}

    def evaluate() -> Mapping[str, float]:
        each = {task: scorer() for task, scorer in scorers.items()}
        scores = {f"{task} {name}": value for task, some in each.items() for name, value in some.items()}
        mains = [np.mean([some[key] for key in models[task].chosen_by]) for task, some in each.items()]
        return {"f1": float(np.mean(mains)), **scores}

    return evaluate


def _scores_of(task: str, best: Mapping[str, float] | None) -> dict[str, float] | None:
    """One task's scores out of those of all."""
    if best is None:
        return None
    return {name.removeprefix(f"{task} "): value for name, value in best.items() if name.startswith(f"{task} ")}
