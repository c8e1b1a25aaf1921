"""Train a model on annotated documents, fused with a graph or plain."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from fusion.attention import KnowledgeAttention
from fusion.corpora import Corpus
from fusion.knowledge import ConceptVectors, GraphTables, KnowledgeTable
from fusion.leaks import check_leaks
from fusion.memory import Memory
from fusion.model import FusedModel, ModelSettings, default_depth
from fusion.question_corpora import QuestionCorpus
from fusion.relations import RelationModel
from fusion.robustness import loss_without_graph
from fusion.tagging import HEADS
from fusion.tasks import TASKS, make_model
from fusion.teaching import Lesson, taught
from kg import Linker
from lm.adapters import add_low_rank, merge_low_rank
from lm.caching import States
from lm.encoder import Encoder, freeze_blocks, resolve_device
from lm.training import fit
from lm.unfreezing import gradual_unfreezing, layer_rates
from loaders.errors import MedgraftError

_LONGEST = {"ner": 256}  # pieces of a window; relations want the document whole
_ITEMS = {"qa": "questions"}


def train(
    task: str,
    corpus: Corpus | QuestionCorpus,
    graph: GraphTables | None = None,
    embeddings: ConceptVectors | None = None,
    linker: Linker | None = None,
    *,
    encoder: str | Path,
    out: str | Path | None = None,
    knowledge: KnowledgeTable | None = None,
    memory: Memory | None = None,
    memory_size: int = 8,
    head: str = "bio",
    longest_mention: int = 16,
    after_block: int | None = None,
    num_candidates: int = 5,
    max_pieces: int | None = None,
    max_windows: int | None = None,
    frozen_blocks: int = 0,
    unfreeze_epochs: int | None = None,
    layer_decay: float = 1.0,
    cache_frozen: bool = False,
    frozen_states: States | None = None,
    epochs: int = 5,
    batch_size: int = 16,
    learning_rate: float = 5e-5,
    new_learning_rate: float = 1e-3,
    knowledge_learning_rate: float = 1e-3,
    link_loss: float = 0.0,
    link_noise: float = 0.0,
    vector_dropout: float = 0.0,
    without_graph: float = 0.0,
    accumulation: int = 1,
    precision: str = "no",
    patience: int | None = None,
    lora_rank: int | None = None,
    lesson: Lesson | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> FusedModel[Any]:
    """Train on `corpus.train`, keep the epoch that is best on `corpus.dev`; the test documents are never looked at.

    With a graph, its embeddings and a linker the model is fused; with none of them it is plain. Both use the same
    encoder, output layer, order of data and seeds.

    Args:
        task: "ner", "relations" between the mentions that the documents have, "classification" of whole texts, or
            "qa" for questions over a context. Whether these want a label, a choice or a span, and whether a text may
            have several labels, is told by the corpus.
        corpus: documents by split, or questions.
        graph: what `kg.connect` gives; read while the knowledge table is made, not afterwards.
        embeddings: trained on this graph.
        linker: built from this graph.
        encoder: Hugging Face model folder, or name in the local cache, of a BERT-type encoder.
        out: folder for the model; an interrupted training with the same settings goes on where it stopped.
        knowledge: a finished table in place of graph and embeddings (control arms).
        memory: entries to recall, read by this encoder; with or without a graph to fuse (`fusion.build_memory`).
        memory_size: entries of each kind that a sentence recalls.
        head: for ner "bio", flat tags of words, or "span", with which mentions may nest and overlap.
        longest_mention: words of the longest mention that the span head finds.
        after_block: blocks below the knowledge; two thirds of them by default.
        num_candidates: candidates a mention.
        max_pieces: longest window of a document, in pieces; by default 256 for ner, else what the encoder takes.
        max_windows: for qa, how many windows of a long context are read, those that share most with the question; all
            by default.
        frozen_blocks: lowest blocks, with the embedding layer, that are not trained.
        unfreeze_epochs: train the top block first, and one block more every so many epochs (`lm.unfreezing`).
        layer_decay: factor of the learning rate from each block to the one below it.
        cache_frozen: compute the frozen blocks once and keep what they say in memory (pieces * hidden size * 4 bytes);
            the low-cost mode, with the knowledge above them.
        frozen_states: where to keep it, to share it between trainings of one encoder; `cache_frozen` then.
        epochs: passes over the training documents.
        batch_size: windows a step; documents for relations, questions for qa (windows if they want spans).
        learning_rate: of the encoder.
        new_learning_rate: of the output layer.
        knowledge_learning_rate: of the knowledge attention, which starts as the identity.
        link_loss: weight of the linking loss beside the task's: for linked mentions that people gave a concept, the
            cross-entropy of the candidates and NIL (for ner and relations).
        link_noise: share of the mentions that get the candidates of another one in training, with NIL as the right
            answer.
        vector_dropout: share of the concepts of a batch that are known by their type alone in training.
        without_graph: share of the training loss that is taken with the graph removed, in a second reading of each
            batch.
        accumulation: batches a step.
        precision: "no", "bf16" or "fp16".
        patience: stop after so many epochs without a better one.
        lora_rank: train no weight of the encoder, but low-rank additions to the linear layers above the frozen blocks
            (`lm.adapters`), which join the weights in the end; learning rates are higher with it, 1e-3 or so.
        lesson: a teacher; `fusion.distill` makes one. The model begins as it says then, and not as `encoder`.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        progress: show bars on stderr if it is a terminal.

    Raises:
        MedgraftError: unknown task, no training documents, graph without embeddings or linker or of another graph,
            a device that is not there, a graph that the corpus was labelled from (`fusion.leaks`).
    """
    if task not in TASKS:
        raise MedgraftError(f"unknown task {task!r}; choose {' or '.join(TASKS)}")
    if (task == "qa") != isinstance(corpus, QuestionCorpus):
        raise MedgraftError(f"{corpus.name} is not a corpus for {task}; qa wants questions, other tasks want documents")
    if head not in HEADS or (head != HEADS[0] and task != "ner"):
        raise MedgraftError(
            f"no head {head!r} for {task}; choose {' or '.join(HEADS)} for ner, nothing for other tasks"
        )
    if lesson is not None and memory is not None:
        raise MedgraftError("a student recalls nothing; give a memory to its teacher, or train without a lesson")
    asked = {} if lesson is not None else TASKS[task].settings_of(corpus)  # type: ignore[arg-type]
    resolve_device(device)
    searched: list[str] = []
    if isinstance(corpus, Corpus) and task == "relations" and graph is not None:
        searched = check_leaks(corpus, graph)
    table = _table(task, graph, embeddings, linker) if knowledge is None else _with_linker(knowledge, linker)
    if lesson is not None:
        model = lesson.student(seed)
        loaded, settings = model.encoder, model.settings
    else:
        loaded = Encoder.load(encoder)
        settings = ModelSettings(
            task,
            after_block=default_depth(loaded.num_blocks) if after_block is None else after_block,
            num_candidates=num_candidates,
            max_pieces=min(max_pieces or _LONGEST.get(task, loaded.max_pieces), loaded.max_pieces),
            max_windows=max_windows,
            seed=seed,
            head=head,
            longest_mention=longest_mention,
            memory_size=memory_size,
            **asked,
        )
        memory = _read_by(memory, loaded, frozen_blocks)
        model = make_model(loaded, settings, table, linker if table is not None else None, memory)
    freeze_blocks(loaded, frozen_blocks)
    if lora_rank is not None:
        if unfreeze_epochs is not None:
            raise MedgraftError("low-rank additions leave every block frozen; ask for lora_rank or for unfreeze_epochs")
        add_low_rank(loaded, lora_rank, seed)
    if unfreeze_epochs is not None and frozen_blocks:
        raise MedgraftError("frozen blocks stay frozen; ask for frozen_blocks or for unfreeze_epochs")
    cache_frozen = cache_frozen or frozen_states is not None
    grafted = table is not None or memory is not None
    if cache_frozen and (not frozen_blocks or (grafted and settings.after_block < frozen_blocks)):
        raise MedgraftError(
            f"{frozen_blocks} frozen blocks with knowledge after block {settings.after_block} cannot be computed once; "
            "freeze at least one block, and none above the knowledge"
        )
    model.precision = precision
    if cache_frozen:
        model.frozen_states = {} if frozen_states is None else frozen_states
    model.network.to(resolve_device(device))
    if memory is not None:
        memory.reader.to(resolve_device(device))
    plan = {
        "corpus": corpus.name + (" (silver labels)" if corpus.silver else ""),
        f"training {_ITEMS.get(task, 'documents')}": len(corpus.train),
        f"development {_ITEMS.get(task, 'documents')}": len(corpus.dev),
        "encoder": Path(encoder).name,
        "frozen blocks": frozen_blocks,
        **({} if lesson is None else lesson.notes()),
        **({} if memory is None else {"memory": memory.counts, "memory digest": memory.digest()[:12]}),
        **({"layer decay": layer_decay} if layer_decay != 1 else {}),
        **({"rank of the additions": lora_rank} if lora_rank is not None else {}),
        **{
            name.replace("_", " "): value
            for name, value in (
                ("link_loss", link_loss),
                ("link_noise", link_noise),
                ("vector_dropout", vector_dropout),
                ("without_graph", without_graph),
            )
            if value
        },
        **({"epochs a thawed block": unfreeze_epochs} if unfreeze_epochs is not None else {}),
        "epochs": epochs,
        "batch size": batch_size,
        "learning rates": [learning_rate, new_learning_rate, knowledge_learning_rate],
        "accumulation": accumulation,
        "precision": precision,
        "seed": seed,
    }
    below = {"": learning_rate}
    if layer_decay != 1:
        below = layer_rates(model.network, loaded, learning_rate, layer_decay)
    rates = {**below, "output": new_learning_rate}
    if table is not None:
        rates["encoder.knowledge"] = knowledge_learning_rate
    if memory is not None:
        rates["encoder.memory"] = knowledge_learning_rate
    if getattr(model.network, "facts", None) is not None:
        rates["facts"] = knowledge_learning_rate
    knowledge_attention = getattr(model.network.encoder, "knowledge", None)
    if knowledge_attention is not None:
        knowledge_attention.link_noise, knowledge_attention.vector_dropout = link_noise, vector_dropout
    with (
        loss_without_graph(model.network, without_graph),
        _linking_loss(model.network, knowledge_attention, link_loss),
        taught(model, lesson),
    ):
        data = model.training_data(corpus.train) if lesson is None else lesson.training_data(model, corpus.train)
        history = fit(
            model.network,
            data.examples,
            data.collate,
            epochs=epochs,
            batch_size=batch_size,
            learning_rates=rates,
            accumulation=accumulation,
            precision=precision,
            seed=seed,
            device=device,
            evaluate=model.scorer(corpus.dev) if corpus.dev else None,
            patience=patience,
            folder=None if out is None else _checkpoints(Path(out), corpus, plan, settings, table),
            checkpoint_seconds=60,
            before_epoch=None if unfreeze_epochs is None else gradual_unfreezing(loaded, unfreeze_epochs),
            progress=progress,
        )
    if unfreeze_epochs is not None:
        loaded.freeze_blocks(0)
    if lora_rank is not None:
        merge_low_rank(loaded)
    model.network.eval()
    best = next((e for e in history.epochs if e.number == history.best_epoch), None)
    if best is not None and "threshold" in best.scores:
        model.settings = replace(model.settings, threshold=best.scores["threshold"])
    if corpus.dev:
        model.calibrate(corpus.dev)
    model.frozen_states = frozen_states
    model.scores = {} if best is None else {f"dev {name}": round(value, 4) for name, value in best.scores.items()}
    model.training = {**plan, "steps": history.steps, **data.notes, "best epoch": history.best_epoch}
    model.training["temperature"] = round(model.settings.temperature, 4)
    if isinstance(model, RelationModel) and isinstance(corpus, Corpus) and table is not None:
        model.leaks = {"searched for": searched, "stated": model.stated(corpus.dev) if corpus.dev else {}}
    if out is not None:
        model.save(out)
        for left in Path(out).parent.glob(f".{Path(out).name}.training-*"):
            shutil.rmtree(left, ignore_errors=True)
    return model


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


def _read_by(memory: Memory | None, encoder: Encoder, frozen_blocks: int) -> Memory | None:
    """The memory, read by the model's own frozen blocks if these are enough, so that recalling costs nothing more."""
    if memory is None:
        return None
    shared = memory.read_by(encoder)
    return shared if frozen_blocks >= memory.depth else memory


def _table(
    task: str, graph: GraphTables | None, embeddings: ConceptVectors | None, linker: Linker | None
) -> KnowledgeTable | None:
    given = {"graph": graph, "embeddings": embeddings, "linker": linker}
    absent = [name for name, value in given.items() if value is None]
    if len(absent) == 3:
        return None
    if graph is None or embeddings is None or linker is None:
        raise MedgraftError(f"a fused model needs graph, embeddings and linker; {' and '.join(absent)} not given")
    for name, other in (("embeddings", embeddings.fingerprint), ("linker", linker.fingerprint)):
        if other != graph.fingerprint:
            raise MedgraftError(
                f"the {name} are of graph {other[:12]}, but this graph is {graph.fingerprint[:12]}; make them anew"
            )
    return KnowledgeTable.build(graph, embeddings, pairs=task in ("relations", "qa"))


def _with_linker(knowledge: KnowledgeTable, linker: Linker | None) -> KnowledgeTable:
    if linker is None or linker.fingerprint != knowledge.fingerprint:
        raise MedgraftError("a knowledge table needs the linker of the same graph")
    return knowledge


def _checkpoints(
    out: Path,
    corpus: Corpus | QuestionCorpus,
    plan: dict[str, Any],
    settings: ModelSettings,
    table: KnowledgeTable | None,
) -> Path:
    """A hidden folder beside `out`, named after all that decides the result."""
    key = json.dumps(
        [corpus.digest(), plan, asdict(settings), None if table is None else table.digest()], sort_keys=True
    )
    return out.parent / f".{out.name}.training-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
