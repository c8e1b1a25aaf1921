"""Memory: exact where nothing is recalled, decisive where only it can tell, changed without training, saved whole."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import fusion
from fusion.memory import Entry, Memory
from fusion.memory_entries import definition_entries, example_entries, fact_entries
from fusion.model import FusedModel, ModelSettings
from fusion.recall import MemoryAttention, Recalled
from fusion.recalling import Recalling, phrases
from fusion.tasks import make_model
from kg import Linker
from lm.alignment import collate, windows
from lm.encoder import Encoder
from loaders.errors import MedgraftError
from loaders.records import Document, Label, Mention, Question, Relation
from tests.fusion.invented import InventedGraph, invented_corpus, invented_graph, invented_names, invented_vectors

NAMES = invented_names(160)
CORPUS = invented_corpus(NAMES, (160, 24, 60))
SETTINGS: dict[str, Any] = {
    **{"epochs": 16, "learning_rate": 2e-3, "new_learning_rate": 4e-3, "knowledge_learning_rate": 1e-2},
    **{"max_pieces": 64, "device": "cpu", "progress": False, "frozen_blocks": 1, "after_block": 1},
    **{"cache_frozen": True, "memory_size": 2},
}


def typed_graph(fingerprint: str = "a" * 64) -> InventedGraph:
    """The type of a concept, and so of a mention, is stated by its label in the memory and by nothing else."""
    graph = invented_graph(NAMES)
    types = [["Drug"] if n % 2 == 0 else ["Illness"] for n in range(len(NAMES))] + [["Thing"]]
    concepts = graph.table("concepts").set_column(2, "types", pa.array(types))
    return InventedGraph({**graph.tables, "concepts": concepts}, fingerprint)


GRAPH = typed_graph()


@pytest.fixture(scope="module")
def folder(encoder_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT that does not tell places apart, so that a word is alike wherever it stands, as in a trained one."""
    encoder = Encoder.load(encoder_folder("bert"))
    torch.nn.init.zeros_(encoder.model.embeddings.position_embeddings.weight)
    out = tmp_path_factory.mktemp("encoder")
    encoder.save(out)
    return out


@pytest.fixture(scope="module")
def memory(folder: Path) -> Memory:
    entries = [*fact_entries(GRAPH), *definition_entries(GRAPH), *example_entries("ner", CORPUS.train[:40])]
    return Memory.build(entries, folder, graph=GRAPH.fingerprint, depth=1)


@pytest.fixture(scope="module")
def remembering(folder: Path, memory: Memory, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    out = tmp_path_factory.mktemp("models") / "remembering"
    return fusion.train("ner", CORPUS, encoder=folder, memory=memory, out=out, **SETTINGS)


def untrained(folder: Path, memory: Memory | None, **weights: float) -> FusedModel:
    """In evaluation mode; with `std` every weight of the memory attention is drawn at random."""
    settings = ModelSettings("ner", ("Chemical", "Disease"), after_block=1, max_pieces=64, memory_size=4)
    model = make_model(Encoder.load(folder), settings, memory=memory)
    for parameter in model.network.encoder.memory.parameters() if weights else ():
        torch.nn.init.normal_(parameter, **weights)
    return replace(model, network=model.network.eval())


def states_of(model: FusedModel, texts: list[str]) -> torch.Tensor:
    """Hidden states of one batch."""
    documents = [Document(str(n), text) for n, text in enumerate(texts)]
    batch = collate(windows(texts, model.encoder, 64, 0), model.encoder, *model.extras(documents))
    with torch.inference_mode():
        states: torch.Tensor = model.network.encoder(batch)
    return states


def test_only_a_model_with_the_true_memory_tells_unseen_names_apart(
    remembering: FusedModel, folder: Path, memory: Memory
) -> None:
    shuffled = fusion.train("ner", CORPUS, encoder=folder, memory=memory.shuffled(0), **SETTINGS)
    assert remembering.evaluate(CORPUS.test).f1 >= 0.8
    assert shuffled.evaluate(CORPUS.test).f1 <= 0.7
    assert remembering.evaluate(CORPUS.test, with_graph=False).f1 <= 0.7


def test_untrained_or_empty_it_is_the_plain_encoder_bit_for_bit(folder: Path, memory: Memory) -> None:
    texts = [document.text for document in CORPUS.test[:6]]
    plain = untrained(folder, None)
    fresh = untrained(folder, memory)
    empty = untrained(folder, memory.only(lambda _kind, _source: False), std=0.4)
    assert torch.equal(states_of(fresh, texts), states_of(plain, texts))
    assert torch.equal(states_of(empty, texts), states_of(plain, texts))
    full = untrained(folder, memory, std=0.4)
    assert not torch.equal(states_of(full, texts), states_of(plain, texts))
    assert torch.equal(states_of(full, ["", "  "]), states_of(plain, ["", "  "]))


def test_trained_with_an_empty_memory_it_equals_plain_training_bit_for_bit(folder: Path, memory: Memory) -> None:
    few = replace(CORPUS, train=CORPUS.train[:30], dev=())
    brief = {**SETTINGS, "epochs": 2}
    nothing = fusion.train("ner", few, encoder=folder, memory=memory.only(lambda *_: False), **brief)
    plain = fusion.train("ner", few, encoder=folder, **brief)
    for name, weight in plain.encoder.state_dict().items():
        assert torch.equal(nothing.encoder.state_dict()[name], weight), name
    assert torch.equal(nothing.network.output.linear.weight, plain.network.output.linear.weight)


def test_a_sentence_alone_and_in_a_batch_is_read_the_same(folder: Path, memory: Memory) -> None:
    model = untrained(folder, memory, std=0.4)
    texts = [document.text for document in CORPUS.test[:5]] + [f"{CORPUS.test[6].text} {CORPUS.test[7].text}"]
    together = states_of(model, texts)
    for row, text in enumerate(texts):
        alone = states_of(model, [text])[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=2e-5, rtol=0)


def test_pieces_hear_the_slots_of_their_own_sentence_only() -> None:
    torch.manual_seed(0)
    layer = MemoryAttention(8, num_labels=3, num_kinds=2, size=8, num_heads=2).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    hidden = torch.randn(1, 5, 8)
    recalled = Recalled(
        vectors=torch.randn(1, 3, 8),
        labels=torch.tensor([[1, 2, 0]]),
        kinds=torch.tensor([[0, 1, 1]]),
        sentences=torch.tensor([[0, 1, -1]]),
        places=torch.tensor([[-1, 0, 0, 1, 2]]),
        phrases=torch.tensor([[[1, 2], [0, 0], [3, 5]]]),
        scores=torch.tensor([[0.9, 0.0, 0.8]]),
        entries=torch.zeros(1, 3, dtype=torch.long),
    )
    before = layer(hidden, recalled)
    vectors = recalled.vectors.clone()
    vectors[0, 1] += 1
    changed = (layer(hidden, replace(recalled, vectors=vectors)) != before).any(dim=2)[0]
    assert changed.tolist() == [True, False, False, True, False]
    assert torch.equal(before[0, 4], hidden[0, 4])
    vectors = recalled.vectors.clone()
    vectors[0, 2] += 1
    assert torch.equal(layer(hidden, replace(recalled, vectors=vectors)), before)


def test_a_training_example_never_recalls_itself(folder: Path, memory: Memory) -> None:
    train = CORPUS.train[:40]
    recalling = Recalling(memory, [d.text for d in train], 40)
    made = windows([d.text for d in train], memory.reader, 64, 0)
    sources = memory.entries["source"].to_pylist()
    seen = 0
    for window, found in zip(made, recalling.recollections(made), strict=True):
        rows = [some.nearest.row for some in found if some.nearest.slot < 0]
        texts = {train[[d.id for d in train].index(sources[row])].text for row in rows}
        assert train[window.document].text not in texts
        seen += len(rows)
    assert seen >= 38 * len(train)
    twin = replace(train[0], id="twin")  # another id, the same text
    again = memory.with_entries(example_entries("ner", [twin]))
    found = Recalling(again, [train[0].text], 100).recollections(made[:1])[0]
    assert not {"twin", train[0].id} & {again.entries["source"][row].as_py() for *_, (row, *_), _ in found}


def test_the_nearest_entries_are_recalled_best_first(folder: Path, memory: Memory) -> None:
    name = NAMES[-1]
    model = untrained(folder, memory)
    found = model.recall(f"the {name} came .")
    facts = [r for r in found if r.entry.kind == "facts"]
    assert name in facts[0].entry.text and [r.score for r in facts] == sorted((r.score for r in facts), reverse=True)
    assert len(facts) == 4 and len({r.entry.source for r in facts}) == 4
    assert facts[0].entry.slots[0][2] in ("Drug", "Illness")
    with pytest.raises(MedgraftError, match="no memory"):
        untrained(folder, None).recall("the")


def test_a_saved_model_brings_its_memory_and_predicts_the_same(
    remembering: FusedModel, folder: Path, memory: Memory, tmp_path: Path
) -> None:
    remembering.save(tmp_path / "model")
    assert not (tmp_path / "model" / "memory" / "reader").exists()  # the frozen blocks read
    again = fusion.load(tmp_path / "model", device="cpu")
    assert list(again.pipe(CORPUS.test[:8])) == list(remembering.pipe(CORPUS.test[:8]))
    assert again.memory is not None and again.memory.digest() == memory.digest()
    assert "word for word" in (tmp_path / "model" / "README.md").read_text()
    (tmp_path / "model" / "memory" / "memory.json").unlink()
    with pytest.raises(MedgraftError, match=r"memory\.json is missing"):
        fusion.load(tmp_path / "model")


def test_an_encoder_that_was_trained_whole_takes_its_reader_along(folder: Path, memory: Memory, tmp_path: Path) -> None:
    few = replace(CORPUS, train=CORPUS.train[:30], dev=CORPUS.dev[:4])
    thawed = {**SETTINGS, "epochs": 1, "frozen_blocks": 0, "cache_frozen": False}
    model = fusion.train("ner", few, encoder=folder, memory=memory, **thawed)
    model.save(tmp_path / "model")
    again = fusion.load(tmp_path / "model", device="cpu")
    assert list(again.pipe(CORPUS.test[:8])) == list(model.pipe(CORPUS.test[:8]))
    assert [r.entry for r in again.recall(CORPUS.test[0].text)] == [r.entry for r in model.recall(CORPUS.test[0].text)]


def test_entries_are_added_and_taken_away_without_training(remembering: FusedModel, tmp_path: Path) -> None:
    weights = {name: tensor.clone() for name, tensor in remembering.network.state_dict().items()}
    bare = fusion.swap_memory(remembering, remembering.memory.only(lambda kind, _source: kind == "examples"))
    without = bare.evaluate(CORPUS.test).f1
    added = replace(bare, memory=bare.memory.with_entries(definition_entries(GRAPH)))
    assert added.evaluate(CORPUS.test).f1 >= without + 0.2
    assert torch.equal(added.memory.slots[: len(bare.memory.slots)], bare.memory.slots)
    more = fusion.remember(remembering, CORPUS.dev[:3])
    assert more.memory.counts["examples"] == remembering.memory.counts["examples"] + 3
    assert fusion.forget(more, [d.id for d in CORPUS.dev[:3]]).memory.digest() == remembering.memory.digest()
    for name, tensor in remembering.network.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    with pytest.raises(MedgraftError, match="nothing in the memory comes from 'nowhere'"):
        fusion.forget(remembering, ["nowhere"])
    with pytest.raises(MedgraftError, match="nothing is annotated"):
        fusion.remember(remembering, [Document("1", "a text")])


def test_a_label_that_was_not_learnt_says_nothing(remembering: FusedModel) -> None:
    entry = Entry("definitions", "zzz is new", ((0, 3, "Novelty"),), "X:new")
    memory = Memory.build([entry], remembering.memory.reader, depth=1)
    swapped = fusion.swap_memory(remembering, memory)
    assert swapped.memory.labels.tolist() == [-1] and swapped.memory.entry(0).slots == ((0, 3, ""),)
    assert len(list(swapped.pipe(CORPUS.test[:3]))) == 3


def test_a_memory_of_another_encoder_or_graph_is_refused(
    remembering: FusedModel, folder: Path, memory: Memory, encoder_folder: Callable[[str], Path]
) -> None:
    strange = fusion.build_memory(["facts"], encoder_folder("bert"), graph=GRAPH, depth=1)
    other = fusion.build_memory(["facts"], folder, graph=typed_graph("b" * 64), depth=1)
    with pytest.raises(MedgraftError, match="another encoder"):
        fusion.train("ner", CORPUS, encoder=folder, memory=strange, **SETTINGS)
    with pytest.raises(MedgraftError, match="another encoder"):
        fusion.swap_memory(remembering, strange)
    with pytest.raises(MedgraftError, match="of graph bbbb"):
        fusion.swap_memory(remembering, other)
    assert fusion.swap_memory(remembering, other, other_graph=True).memory.graph == "b" * 64
    table = fusion.KnowledgeTable.build(GRAPH, invented_vectors(GRAPH))
    with pytest.raises(MedgraftError, match="of graph bbbb"):
        fusion.train(
            "ner", CORPUS, knowledge=table, linker=Linker.build(GRAPH), encoder=folder, memory=other, **SETTINGS
        )
    with pytest.raises(MedgraftError, match="without a memory"):
        fusion.swap_memory(untrained(folder, None), memory)
    with pytest.raises(MedgraftError, match="needs a graph"):
        fusion.build_memory(["facts"], folder)
    with pytest.raises(MedgraftError, match="choose from facts"):
        fusion.build_memory(["dreams"], folder)
    with pytest.raises(MedgraftError, match="training part"):
        fusion.build_memory(["examples"], folder)


def test_memory_and_knowledge_attention_go_together(folder: Path, memory: Memory, tmp_path: Path) -> None:
    few = replace(CORPUS, train=CORPUS.train[:60], dev=CORPUS.dev[:8])
    linker = Linker.build(GRAPH)
    vectors = invented_vectors(GRAPH)
    brief = {**SETTINGS, "epochs": 3}
    model = fusion.train("ner", few, GRAPH, vectors, linker, encoder=folder, memory=memory, **brief)
    model.save(tmp_path / "both")
    again = fusion.load(tmp_path / "both", device="cpu")
    assert list(again.pipe(CORPUS.test[:6])) == list(model.pipe(CORPUS.test[:6]))
    document = next(d for d in model.pipe(CORPUS.test) if d.mentions)
    explained = model.explain(document.text)[0]
    assert explained.probability == pytest.approx(explained.mention.score, abs=0.5) and explained.effects
    moved, _ = fusion.swap_graph(model, typed_graph("b" * 64), Linker.build(typed_graph("b" * 64)))
    assert moved.memory.graph == "b" * 64 and moved.memory.counts == memory.counts


TEXTS = tuple(
    Document(f"{n}", f"the {name} came .", labels=(Label("odd" if n % 2 else "even"),))
    for n, name in enumerate(NAMES[:24])
)
QUESTIONS = tuple(
    Question(f"{n}", f"is {name} odd", f"we saw {name} today .", answer="yes" if n % 2 else "no")
    for n, name in enumerate(NAMES[:24])
)
RELATED = tuple(
    Document(
        f"{n}",
        f"{a} after {b} .",
        (Mention(0, 6, "Disease", "D:1"), Mention(13, 19, "Chemical", "C:1")),
        (Relation("C:1", "causes", "D:1"),) if n % 2 else (),
    )
    for n, (a, b) in enumerate(zip(NAMES[:24], NAMES[24:48], strict=True))
)


@pytest.mark.parametrize(
    ("task", "items", "label"),
    [("classification", TEXTS, "odd"), ("qa", QUESTIONS, "yes"), ("relations", RELATED, "Chemical causes")],
)
def test_every_task_recalls_its_examples(task: str, items: Any, label: str, folder: Path, tmp_path: Path) -> None:
    corpus_of = fusion.QuestionCorpus if task == "qa" else fusion.Corpus
    corpus = corpus_of("invented", items[:16], items[16:20], items[20:])
    memory = fusion.build_memory(["examples"], folder, task=task, corpus=corpus, depth=1)
    assert label in memory.label_names
    brief = {**SETTINGS, "epochs": 2, "max_pieces": 48}
    plain = fusion.train(task, corpus, encoder=folder, **brief)
    model = fusion.train(task, corpus, encoder=folder, memory=memory, **brief)
    moved = [not torch.equal(w, plain.encoder.state_dict()[n]) for n, w in model.encoder.state_dict().items()]
    assert any(moved)
    model.save(tmp_path / "model")
    again = fusion.load(tmp_path / "model", device="cpu")
    assert list(again.pipe(corpus.test)) == list(model.pipe(corpus.test))
    assert (model.network.encoder.memory.output.weight != 0).any()


def test_options_of_a_question_do_not_tell_of_each_other(folder: Path) -> None:
    question = Question("1", "which", "the context .", options=("one", "two"), answer="two")
    entries = example_entries("qa", [question])
    assert [e.slots[0][2] for e in entries] == ["wrong", "right"]
    memory = Memory.build(entries, folder, depth=1)
    texts = ["which\none\nthe context .", "which\ntwo\nthe context ."]
    for number in range(2):
        assert Recalling(memory, texts, 8).recollections(windows(texts, memory.reader, 64, 0))[number] == []


def test_facts_of_all_relations_get_their_turn() -> None:
    triples = pa.table(
        {
            "head": ["X:0000"] * 9 + ["X:0001"],
            "relation": ["often"] * 9 + ["may_seldom"],
            "tail": [f"X:{n:04}" for n in range(1, 10)] + ["X:0002"],
        }
    )
    made = fact_entries(InventedGraph({**GRAPH.tables, "triples": triples}), most=4)
    assert [e.text for e in made].count(f"{NAMES[1]} may seldom {NAMES[2]}") == 1 and len(made) == 4
    for entry in made:
        (a, b, _), (c, d, _) = entry.slots
        assert entry.text[a:b] in NAMES and entry.text[c:d] in NAMES


def test_definitions_say_aliases_and_what_a_concept_is() -> None:
    concepts = pa.table(
        {
            "id": ["X:1", "X:2"], "name": ["ataxia", "hub"], "types": [["Disease"], None],
            "definition": ["Loss of balance.", None], "aliases": [["unsteadiness"], []],
        }
    )  # fmt: skip
    triples = pa.table({"head": ["X:1"], "relation": ["is_a"], "tail": ["X:2"]})
    made = definition_entries(InventedGraph({"concepts": concepts, "triples": triples}))
    assert [e.text for e in made] == ["ataxia, also called unsteadiness: Loss of balance.", "hub ()"]
    assert [made[0].text[i:j] for i, j, _ in made[0].slots] == ["ataxia", "unsteadiness"]


def test_phrases_are_runs_between_stop_words() -> None:
    text = "The patients had severe acute renal failure grade four, not β-blocker 5 rash."
    found = [text[i:j] for i, j in phrases(text, 0, len(text))]
    assert found == ["severe acute renal failure", "grade four", "β", "blocker", "rash"]


def test_from_the_command_line(folder: Path, tmp_path: Path, remembering: FusedModel) -> None:
    from typer.testing import CliRunner

    from fusion.cli import app
    from loaders import write_pubtator

    for name, documents in (("train", CORPUS.train[:20]), ("dev", CORPUS.dev[:4]), ("more", CORPUS.dev[4:8])):
        numbered = [replace(d, id=str(n + {"train": 0, "dev": 50, "more": 100}[name])) for n, d in enumerate(documents)]
        with (tmp_path / f"{name}.txt").open("w") as file:
            write_pubtator(numbered, file)
    model = str(tmp_path / "model")
    arguments = ["train", "ner", "--train", str(tmp_path / "train.txt"), "--dev", str(tmp_path / "dev.txt")]
    arguments += ["--encoder", str(folder), "--out", model, "--epochs", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--memory", "examples", "--memory-size", "3"])
    assert done.exit_code == 0, done.output
    assert fusion.load(model, device="cpu").settings.memory_size == 3
    out = str(tmp_path / "model-2")
    more = ["remember", model, "--examples", str(tmp_path / "more.txt"), "--forget", "0", "--out", out]
    done = CliRunner().invoke(app, more)
    assert done.exit_code == 0 and done.output == "examples: 20 before, 23 now\n", done.output
    assert np.isin(["100", "103"], fusion.load(out, device="cpu").memory.entries["source"].to_pylist()).all()
