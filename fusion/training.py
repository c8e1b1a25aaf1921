"""Train a model on annotated documents, fused with a graph or plain."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.corpora import Corpus
from fusion.course import (
    PAIR_TASKS,
    Course,
    adapt,
    as_in_training,
    best_scores,
    check_task,
    checkpoints,
    decisive,
    described,
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
from fusion.memory import Memory
from fusion.model import FusedModel
from fusion.question_corpora import QuestionCorpus
from fusion.tagging import HEADS
from fusion.tasks import TASKS, make_model
from fusion.teaching import Lesson, taught
from kg import Linker
from lm.caching import States
from lm.encoder import Encoder, resolve_device
from lm.training import fit
from loaders.errors import MedgraftError


def train(
    task: str,
    corpus: Corpus | QuestionCorpus,
    graph: GraphTables | str | Path | None = None,
    embeddings: ConceptVectors | None = None,
    linker: Linker | None = None,
    *,
    encoder: str | Path,
    out: str | Path | None = None,
    knowledge: KnowledgeTable | None = None,
    memory: Memory | None = None,
    memory_size: int = 8,
    head: str = HEADS[0],
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
    sentence_dropout: float | None = None,
    vector_dropout: float | None = None,
    without_graph: float = 0.0,
    attention_dropout: float = 0.0,
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

    Best is the highest F1; for fused mentions the highest mean of the F1 with the graph and that without it.

    With a graph the model is fused, with none it is plain. Both use the same encoder, output layer, order of data and
    seeds.

    Args:
        task: "ner", "relations" between the mentions that the documents have, "classification" of whole texts, or
            "qa" for questions over a context. Whether these want a label, a choice or a span, and whether a text may
            have several labels, is told by the corpus.
        corpus: documents by split, or questions.
        graph: what `kg.connect` gives or takes, so an ontology dump will do; read while the knowledge table is made,
            not afterwards.
        embeddings: trained on this graph; if not given, TransE is trained once and kept (`kg.kept`).
        linker: built from this graph; likewise.
        encoder: Hugging Face model folder, or name in the local cache, of a BERT-type encoder.
        out: folder for the model; an interrupted training with the same settings goes on where it stopped.
        knowledge: a finished table in place of graph and embeddings (control arms).
        memory: entries to recall, read by this encoder; with or without a graph to fuse (`fusion.build_memory`).
        memory_size: entries of each kind that a sentence recalls.
        head: for ner "span", with which mentions may nest and overlap, or "bio", flat tags of words.
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
        sentence_dropout: share of the windows that are read without their knowledge in training, so that the model can
            do without it; 0.3 for ner by default, 0.5 for qa, 0.1 for classification. With more of it, train longer.
            1 for relations: there the graph speaks through the facts between two concepts, and attending to the
            concepts themselves did not help; give less for a graph that has no such facts.
        vector_dropout: share of the concepts of a batch that are known by their type alone in training; 0.5 for qa by
            default, else none.
        without_graph: share of the training loss that is taken with the graph removed, in a second reading of each
            batch.
        attention_dropout: share of the encoder's attention weights that are dropped in training, in place of what its
            config says. With any at all the trained blocks take twice as long on a CPU, for a quarter of a point of F1
            with many labels, and perhaps a point with few.
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
        MedgraftError: unknown task, no training documents, embeddings or a linker without their graph or of another,
            a device that is not there, a graph that the corpus was labelled from (`fusion.leaks`).
    """
    course = Course(
        head=head, longest_mention=longest_mention, after_block=after_block, num_candidates=num_candidates,
        max_pieces=max_pieces, max_windows=max_windows, frozen_blocks=frozen_blocks, unfreeze_epochs=unfreeze_epochs,
        layer_decay=layer_decay, cache_frozen=cache_frozen, frozen_states=frozen_states, epochs=epochs,
        batch_size=batch_size, learning_rate=learning_rate, new_learning_rate=new_learning_rate,
        knowledge_learning_rate=knowledge_learning_rate, link_loss=link_loss, link_noise=link_noise,
        sentence_dropout=sentence_dropout, vector_dropout=vector_dropout, without_graph=without_graph,
        attention_dropout=attention_dropout, accumulation=accumulation, precision=precision, patience=patience,
        lora_rank=lora_rank, seed=seed, device=device, progress=progress,
    )  # fmt: skip
    check_task(task, corpus, head)
    if lesson is not None and memory is not None:
        raise MedgraftError("a student recalls nothing; give a memory to its teacher, or train without a lesson")
    asked = {} if lesson is not None else TASKS[task].settings_of(corpus)  # type: ignore[arg-type]
    resolve_device(device)
    known = opened(graph)
    searched = search_for_leaks(task, corpus, known)
    if knowledge is None:
        embeddings, linker = its_own(known, embeddings, linker, course)
    table = knowledge_table(known, embeddings, linker, knowledge, pairs=task in PAIR_TASKS)
    if lesson is not None:
        model = lesson.student(seed)
    else:
        loaded = Encoder.load(encoder)
        settings = replace(model_settings(task, loaded, course, asked), memory_size=memory_size)
        memory = _read_by(memory, loaded, frozen_blocks)
        model = make_model(loaded, settings, table, linker if table is not None else None, memory)
    adapt(model.encoder, course)
    make_ready(model, course)
    more = {} if lesson is None else lesson.notes()
    more |= {} if memory is None else {"memory": memory.counts, "memory digest": memory.digest()[:12]}
    plan = described(model, corpus, encoder, course, more)
    folder = None if out is None else checkpoints(Path(out), *decisive(model, corpus, plan))
    with as_in_training(model, course), taught(model, lesson):
        data = model.training_data(corpus.train) if lesson is None else lesson.training_data(model, corpus.train)
        if known is not None:
            warn_of_silence(model, course, data)
        history = fit(
            model.network,
            data.examples,
            data.collate,
            learning_rates=learning_rates(model, course),
            evaluate=model.scorer(corpus.dev) if corpus.dev else None,
            maximise=model.chosen_by,
            folder=folder,
            checkpoint_seconds=60,
            before_epoch=thawing([model.encoder], course),
            **course.for_fit(),
        )
    settle(model.encoder, course)
    notes = {**plan, "steps": history.steps, **data.notes, "best epoch": history.best_epoch}
    finish(model, corpus, course, best_scores(history), notes, searched)
    if out is not None:
        model.save(out)
        remove_checkpoints(Path(out))
    return model


def _read_by(memory: Memory | None, encoder: Encoder, frozen_blocks: int) -> Memory | None:
    """The memory, read by the model's own frozen blocks if these are enough, so that recalling costs nothing more."""
    if memory is None:
        return None
    shared = memory.read_by(encoder)
    return shared if frozen_blocks >= memory.depth else memory
