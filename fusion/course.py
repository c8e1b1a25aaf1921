"""The steps of a training that one task and several together have in common, in the order in which they are taken."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from fusion.attention import KnowledgeAttention
from fusion.corpora import Corpus
from fusion.knowledge import ConceptVectors, GraphTables, KnowledgeTable
from fusion.leaks import check_leaks
from fusion.model import FusedModel, ModelSettings, TrainingData, default_depth
from fusion.question_corpora import QuestionCorpus
from fusion.recall import MemoryAttention
from fusion.relations import RelationModel
from fusion.robustness import loss_without_graph
from fusion.tagging import HEADS
from fusion.tasks import TASKS
from kg import Linker, connect
from kg.kept import kept_embeddings, kept_linker
from lm.adapters import add_low_rank, merge_low_rank
from lm.caching import States
from lm.encoder import Encoder, resolve_device
from lm.training import History
from lm.unfreezing import gradual_unfreezing, layer_rates
from loaders.errors import MedgraftError, MedgraftWarning

AnyCorpus = Corpus | QuestionCorpus

PAIR_TASKS = ("relations", "qa")
"""Whose models look up the facts between two concepts."""

_LONGEST = {"ner": 256}  # pieces of a window; relations want the document whole
# Shares of windows without their knowledge, and of concepts known by their type alone. Mentions lean on the graph;
# questions are so few that their concepts are learnt by heart; relations do with the facts between their concepts
# alone, which need no attention.
_DROPOUT = {"ner": (0.3, 0.0), "relations": (1.0, 0.0), "qa": (0.5, 0.5), "classification": (0.1, 0.0)}
_ITEMS = {"qa": "questions"}


@dataclass(frozen=True)
class Course:
    """How a training goes: what `fusion.train` is asked for besides its task, corpus, graph and encoder."""

    head: str = HEADS[0]
    longest_mention: int = 16
    after_block: int | None = None
    num_candidates: int = 5
    max_pieces: int | None = None
    max_windows: int | None = None
    frozen_blocks: int = 0
    unfreeze_epochs: int | None = None
    layer_decay: float = 1.0
    cache_frozen: bool = False
    frozen_states: States | None = None
    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 5e-5
    new_learning_rate: float = 1e-3
    knowledge_learning_rate: float = 1e-3
    link_loss: float = 0.0
    link_noise: float = 0.0
    sentence_dropout: float | None = None
    vector_dropout: float | None = None
    without_graph: float = 0.0
    attention_dropout: float = 0.0
    accumulation: int = 1
    precision: str = "no"
    patience: int | None = None
    lora_rank: int | None = None
    seed: int = 0
    device: str = "auto"
    progress: bool = True

    def for_fit(self) -> dict[str, Any]:
        """The arguments of `lm.fit` that have the same name there."""
        names = ("epochs", "batch_size", "accumulation", "precision", "seed", "device", "patience", "progress")
        return {name: getattr(self, name) for name in names}


def check_task(task: str, corpus: AnyCorpus, head: str) -> None:
    """Raise a MedgraftError if there is no such task or head, or the corpus is of another kind of task."""
    if task not in TASKS:
        raise MedgraftError(f"unknown task {task!r}; choose {' or '.join(TASKS)}")
    if (task == "qa") != isinstance(corpus, QuestionCorpus):
        raise MedgraftError(f"{corpus.name} is not a corpus for {task}; qa wants questions, other tasks want documents")
    if head not in HEADS or (head != HEADS[0] and task != "ner"):
        raise MedgraftError(
            f"no head {head!r} for {task}; choose {' or '.join(HEADS)} for ner, nothing for other tasks"
        )


def search_for_leaks(task: str, corpus: AnyCorpus, graph: GraphTables | None) -> list[str]:
    """Refuse a graph that the relations of the corpus were labelled from; says what was searched for."""
    if task == "relations" and isinstance(corpus, Corpus) and graph is not None:
        return check_leaks(corpus, graph)
    return []


def opened(graph: GraphTables | str | Path | None) -> GraphTables | None:
    """A graph as it is, or the one at a place, see `kg.connect`."""
    return connect(graph) if isinstance(graph, str | Path) else graph


def its_own(
    graph: Any, embeddings: ConceptVectors | None, linker: Linker | None, course: Course
) -> tuple[ConceptVectors | None, Linker | None]:
    """The embeddings and the linker given, in their place those that are kept for the graph (`kg.kept`)."""
    if graph is not None and embeddings is None:
        embeddings = kept_embeddings(graph, device=course.device, progress=course.progress)
    if graph is not None and linker is None:
        linker = kept_linker(graph)
    return embeddings, linker


def knowledge_table(
    graph: GraphTables | None,
    embeddings: ConceptVectors | None,
    linker: Linker | None,
    given: KnowledgeTable | None,
    *,
    pairs: bool,
) -> KnowledgeTable | None:
    """The table of what is given, with the facts between concepts for tasks about pairs; None for a plain model."""
    if given is not None:
        if linker is None or linker.fingerprint != given.fingerprint:
            raise MedgraftError("a knowledge table needs the linker of the same graph")
        return given
    parts = {"graph": graph, "embeddings": embeddings, "linker": linker}
    absent = [name for name, value in parts.items() if value is None]
    if len(absent) == 3:
        return None
    if graph is None or embeddings is None or linker is None:
        raise MedgraftError(f"a fused model needs graph, embeddings and linker; {' and '.join(absent)} not given")
    for name, other in (("embeddings", embeddings.fingerprint), ("linker", linker.fingerprint)):
        if other != graph.fingerprint:
            raise MedgraftError(
                f"the {name} are of graph {other[:12]}, but this graph is {graph.fingerprint[:12]}; make them anew"
            )
    return KnowledgeTable.build(graph, embeddings, pairs=pairs)


def model_settings(task: str, encoder: Encoder, course: Course, asked: Mapping[str, Any]) -> ModelSettings:
    """Settings of a new model; `asked` is what the corpus decides, see `settings_of` of the models."""
    after_block = default_depth(encoder.num_blocks) if course.after_block is None else course.after_block
    return ModelSettings(
        task,
        after_block=after_block,
        num_candidates=course.num_candidates,
        max_pieces=min(course.max_pieces or _LONGEST.get(task, encoder.max_pieces), encoder.max_pieces),
        max_windows=course.max_windows,
        seed=course.seed,
        head=course.head if task == "ner" else "",
        longest_mention=course.longest_mention,
        mark_ends=task == "ner" and course.head == "span",
        **asked,
    )


def adapt(encoder: Encoder, course: Course) -> None:
    """Freeze what shall not learn, and add what learns in its place."""
    encoder.freeze_blocks(course.frozen_blocks)
    encoder.set_attention_dropout(course.attention_dropout)
    if course.lora_rank is not None:
        if course.unfreeze_epochs is not None:
            raise MedgraftError("low-rank additions leave every block frozen; ask for lora_rank or for unfreeze_epochs")
        add_low_rank(encoder, course.lora_rank, course.seed)
    if course.unfreeze_epochs is not None and course.frozen_blocks:
        raise MedgraftError("frozen blocks stay frozen; ask for frozen_blocks or for unfreeze_epochs")


def make_ready(model: FusedModel[Any], course: Course) -> None:
    """Bring the model to its device, with what it needs while it is trained."""
    if course.cache_frozen or course.frozen_states is not None:
        grafted = model.table is not None or model.memory is not None
        above = grafted and model.settings.after_block < course.frozen_blocks
        if not course.frozen_blocks or above:
            raise MedgraftError(
                f"{course.frozen_blocks} frozen blocks with knowledge after block {model.settings.after_block} cannot "
                "be computed once; freeze at least one block, and none above the knowledge, or put that higher "
                "(after_block, --after-block)"
            )
        model.frozen_states = {} if course.frozen_states is None else course.frozen_states
    model.precision = course.precision
    if model.attention is not None:
        model.attention.link_noise = course.link_noise
        dropped = dropout_of(model.settings.task, course.sentence_dropout, course.vector_dropout)
        if course.link_loss and dropped["sentence_dropout"] == 1:
            raise MedgraftError(
                "the linking loss teaches the knowledge attention, but at a sentence dropout of 1, the usual one for "
                "relations, that reads no window with its knowledge; give less, such as 0.1"
            )
    model.network.to(resolve_device(course.device))
    if model.memory is not None:
        model.memory.reader.to(resolve_device(course.device))


def dropout_of(task: str, sentence_dropout: float | None, vector_dropout: float | None) -> dict[str, float]:
    """What is dropped of the knowledge in training: as asked for, or as is usual for the task."""
    usual = _DROPOUT[task]
    return {
        "sentence_dropout": usual[0] if sentence_dropout is None else sentence_dropout,
        "vector_dropout": usual[1] if vector_dropout is None else vector_dropout,
    }


def described(
    model: FusedModel[Any], corpus: AnyCorpus, encoder: str | Path, course: Course, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The plan of the training of a model made ready, for its card; `more` is what a teacher or a memory adds to it."""
    task = model.settings.task
    optional = ("link_loss", "link_noise", "without_graph", "attention_dropout")
    dropped = {} if model.attention is None else dropout_of(task, course.sentence_dropout, course.vector_dropout)
    return {
        "corpus": corpus.name + (" (silver labels)" if corpus.silver else ""),
        f"training {_ITEMS.get(task, 'documents')}": len(corpus.train),
        f"development {_ITEMS.get(task, 'documents')}": len(corpus.dev),
        "encoder": Path(encoder).name,
        "frozen blocks": course.frozen_blocks,
        **more,
        **({"layer decay": course.layer_decay} if course.layer_decay != 1 else {}),
        **({"rank of the additions": course.lora_rank} if course.lora_rank is not None else {}),
        **{name.replace("_", " "): getattr(course, name) for name in optional if getattr(course, name)},
        **{name.replace("_", " "): share for name, share in dropped.items()},
        **({"epochs a thawed block": course.unfreeze_epochs} if course.unfreeze_epochs is not None else {}),
        "epochs": course.epochs,
        "batch size": course.batch_size,
        "learning rates": [course.learning_rate, course.new_learning_rate, course.knowledge_learning_rate],
        "accumulation": course.accumulation,
        "precision": course.precision,
        "seed": course.seed,
    }


def learning_rates(model: FusedModel[Any], course: Course) -> dict[str, float]:
    """By prefix of the parameters' names in the model's network, for `lm.fit`."""
    network = model.network
    rates = {"": course.learning_rate}
    if course.layer_decay != 1:
        rates = layer_rates(network, model.encoder, course.learning_rate, course.layer_decay)
    rates["output"] = course.new_learning_rate
    grafted = (KnowledgeAttention, MemoryAttention)
    rates |= {name: course.knowledge_learning_rate for name, m in network.named_modules() if isinstance(m, grafted)}
    if getattr(network, "facts", None) is not None:
        rates["facts"] = course.knowledge_learning_rate
    return rates


@contextmanager
def as_in_training(model: FusedModel[Any], course: Course) -> Iterator[None]:
    """Inside, the network's training loss has the parts that are not the task's own, and drops as much as it should."""
    with (
        _dropping(model, dropout_of(model.settings.task, course.sentence_dropout, course.vector_dropout)),
        loss_without_graph(model.network, course.without_graph),
        _linking_loss(model.network, model.attention, course.link_loss),
    ):
        yield


@contextmanager
def _dropping(model: FusedModel[Any], shares: Mapping[str, float]) -> Iterator[None]:
    """Inside, the knowledge attention drops these shares for this model, whichever other tasks' models have it too."""
    layer = model.attention
    if layer is None:
        yield
        return

    def drop(*_: object) -> None:
        for name, share in shares.items():
            setattr(layer, name, share)

    hook = model.network.register_forward_pre_hook(drop)
    try:
        yield
    finally:
        hook.remove()


def warn_of_silence(model: FusedModel[Any], course: Course, data: TrainingData) -> None:
    """Warn where a graph was given, but has nothing to say to a model of relations: it would be a plain one."""
    dropped = dropout_of(model.settings.task, course.sentence_dropout, course.vector_dropout)
    if data.notes.get("relations", {}).get("with a fact") == 0 and dropped["sentence_dropout"] == 1:
        warnings.warn(
            "the graph states no fact between the concepts of any training pair, and nothing else of it is used for "
            "relations: this will be a plain model; check that the graph has such facts and that the linker finds the "
            "concepts, or give a sentence dropout below 1, such as 0.1, to attend to the concepts by themselves",
            MedgraftWarning,
            stacklevel=3,
        )


def thawing(encoders: Sequence[Encoder], course: Course) -> Callable[[int], None] | None:
    """What `lm.fit` calls before each epoch, if blocks are thawed one by one."""
    if course.unfreeze_epochs is None:
        return None
    each = [gradual_unfreezing(encoder, course.unfreeze_epochs) for encoder in encoders]

    def before_epoch(epoch: int) -> None:
        for thaw in each:
            thaw(epoch)

    return before_epoch


def settle(encoder: Encoder, course: Course) -> None:
    """Undo what `adapt` did for the training alone."""
    if course.unfreeze_epochs is not None:
        encoder.freeze_blocks(0)
    if course.lora_rank is not None:
        merge_low_rank(encoder)


def best_scores(history: History) -> dict[str, float] | None:
    """The development scores of the epoch that was kept; None if there was nothing to choose on."""
    return next((epoch.scores for epoch in history.epochs if epoch.number == history.best_epoch), None)


def finish(
    model: FusedModel[Any],
    corpus: AnyCorpus,
    course: Course,
    scores: Mapping[str, float] | None,
    notes: dict[str, Any],
    searched: list[str],
) -> None:
    """Take threshold and temperature from the development part, and note for the card how the training went."""
    model.network.eval()
    if scores is not None and "threshold" in scores:
        model.settings = replace(model.settings, threshold=scores["threshold"])
    if corpus.dev:
        model.calibrate(corpus.dev)
    model.frozen_states = course.frozen_states
    model.scores = {f"dev {name}": round(v, 4) for name, v in (scores or {}).items() if name != "threshold"}
    model.training = {**notes, "temperature": round(model.settings.temperature, 4)}
    if isinstance(model, RelationModel) and isinstance(corpus, Corpus) and model.table is not None:
        model.leaks = {"searched for": searched, "stated": model.stated(corpus.dev) if corpus.dev else {}}


def checkpoints(out: Path, *decisive: Any) -> Path:
    """A hidden folder beside `out`, named after all that decides the result."""
    key = json.dumps(decisive, sort_keys=True)
    return out.parent / f".{out.name}.training-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def remove_checkpoints(out: Path) -> None:
    """Remove them, those of earlier plans too, once the model is saved."""
    for left in out.parent.glob(f".{out.name}.training-*"):
        shutil.rmtree(left, ignore_errors=True)


def decisive(model: FusedModel[Any], corpus: AnyCorpus, plan: Mapping[str, Any]) -> list[Any]:
    """What decides the result of a model's training, as JSON can hold it."""
    return [corpus.digest(), plan, asdict(model.settings), None if model.table is None else model.table.digest()]


@contextmanager
def _linking_loss(network: nn.Module, attention: KnowledgeAttention | None, weight: float) -> Iterator[None]:
    """Add the loss of the links to that of the task, so many times."""
    if attention is None or not weight:
        yield
        return

    def with_links(_network: nn.Module, _batch: Any, output: Any) -> Any:
        links, attention.link_loss = attention.link_loss, None
        return output if links is None or output.loss is None else replace(output, loss=output.loss + weight * links)

    hook = network.register_forward_hook(with_links)
    try:
        yield
    finally:
        hook.remove()
