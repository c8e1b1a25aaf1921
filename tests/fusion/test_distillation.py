"""Distillation: a student without a graph that says what its teacher says, for every task, by the one loop."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fusion
from fusion.attention import Knowledge
from fusion.model import FusedModel
from fusion.teaching import Lesson, _covered, _divergence, _loss, _means
from kg import Linker
from loaders.errors import MedgraftError
from loaders.records import Document, Label, Mention
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors
from tests.fusion.test_cli import run

NAMES = invented_names(240)
GRAPH = invented_graph(NAMES)
VECTORS = invented_vectors(GRAPH)
CORPUS = invented_corpus(NAMES, (240, 40, 40))
SETTINGS: dict[str, Any] = {
    "epochs": 12, "learning_rate": 2e-3, "new_learning_rate": 4e-3, "knowledge_learning_rate": 4e-3, "device": "cpu",
    "progress": False,
}  # fmt: skip
# The names of the development and test part, in sentences without labels.
TEXTS = [Document(f"t{n}", d.text) for n, d in enumerate((*CORPUS.dev, *CORPUS.test))] * 4


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


@pytest.fixture(scope="module")
def teacher(folder: Path, linker: Linker, tmp_path_factory: pytest.TempPathFactory) -> FusedModel[Any]:
    out = tmp_path_factory.mktemp("teacher") / "model"
    return fusion.train("ner", CORPUS, GRAPH, VECTORS, linker, encoder=folder, out=out, max_pieces=64, **SETTINGS)


def test_a_span_head_is_taught_as_tags_are(folder: Path, linker: Linker) -> None:
    settings = SETTINGS | {"epochs": 1}
    teacher = fusion.train(
        "ner", CORPUS, GRAPH, VECTORS, linker, encoder=folder, head="span", longest_mention=4, **settings
    )
    lesson = Lesson(teacher)
    student = lesson.student(0)
    data = lesson.training_data(student, CORPUS.train[:4])
    batch = data.collate(data.examples[:4])
    teacher.network.eval()
    decided, count = teacher.network.decisions(teacher.network(batch), batch)
    labelled = int((batch["labels"] != -100).sum())
    assert decided.shape == (labelled, 2)
    expected = torch.nn.functional.cross_entropy(decided, batch["labels"][batch["labels"] != -100].long())
    words = (batch["labels"][:, :, 0, 0] != -100).sum()
    assert count == words < labelled
    torch.testing.assert_close(expected * labelled / words, teacher.network(batch).loss)
    taught = fusion.distill(teacher, CORPUS, TEXTS[:20], **settings)
    assert taught.settings.head == "span" and not taught.fused and len(list(taught.pipe(CORPUS.test[:3]))) == 3


def test_a_student_learns_from_texts_what_only_the_graph_told(teacher: FusedModel[Any], tmp_path: Path) -> None:
    assert teacher.evaluate(CORPUS.test).f1 >= 0.9
    longer = SETTINGS | {"epochs": 24}  # after 12 a student is at .66 to .88, by seed
    student = fusion.distill(teacher, CORPUS, TEXTS, out=tmp_path / "student", link_weight=0.5, **longer)
    plain = fusion.distill(teacher, CORPUS, label_weight=1.0, hidden_weight=0.0, **longer)
    assert not student.fused and student.evaluate(CORPUS.test).f1 > plain.evaluate(CORPUS.test).f1 + 0.2
    again = fusion.load(tmp_path / "student", device="cpu")
    assert not again.fused and again.linker is None and not (tmp_path / "student" / "knowledge").exists()
    assert [d.mentions for d in again.pipe(CORPUS.test[:5])] == [d.mentions for d in student.pipe(CORPUS.test[:5])]
    assert again.training["teacher"].startswith("fused, ") and "links" not in str(list(again.network.state_dict()))
    # The teacher is as it was.
    assert not teacher.network.encoder._forward_hooks and teacher.evaluate(CORPUS.test).f1 >= 0.9


def test_a_student_of_fewer_blocks_takes_the_upper_one_of_each_pair(teacher: FusedModel[Any]) -> None:
    student = fusion.distill(teacher, replace(CORPUS, train=()), TEXTS[:20], blocks=1, **{**SETTINGS, "epochs": 1})
    assert student.encoder.num_blocks == 1 and teacher.encoder.num_blocks == 2
    shallow = teacher.encoder.shallower(1)
    for ours, theirs in zip(shallow.blocks[0].parameters(), teacher.encoder.blocks[1].parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours is not theirs


def test_frozen_blocks_are_computed_once_for_both(teacher: FusedModel[Any]) -> None:
    few = {**SETTINGS, "epochs": 1, "frozen_blocks": 1}
    once, anew = (fusion.distill(teacher, CORPUS, TEXTS[:10], cache_frozen=c, **few) for c in (True, False))
    for name, weight in anew.network.state_dict().items():
        torch.testing.assert_close(once.network.state_dict()[name], weight, atol=2e-4, rtol=1e-3)
    assert teacher.encoder.frozen_blocks == 0
    with pytest.raises(MedgraftError, match="all blocks of the teacher"):
        fusion.distill(teacher, CORPUS, TEXTS[:10], blocks=1, cache_frozen=True, **few)


def test_an_interrupted_distillation_is_another_one_under_another_teacher(teacher: FusedModel[Any]) -> None:
    from fusion.teaching import Lesson

    other = replace(teacher, table=replace(teacher.table, vectors=teacher.table.vectors + 1))  # type: ignore[type-var]
    assert Lesson(teacher).notes() == Lesson(teacher).notes() != Lesson(other).notes()


def test_students_of_the_other_tasks(folder: Path, linker: Linker) -> None:
    from tests.fusion.invented_questions import invented_questions
    from tests.fusion.invented_relations import invented_pairs, invented_relation_corpus

    brief = {**SETTINGS, "epochs": 1}
    labelled = [
        replace(d, labels=tuple(Label(name) for name in sorted({m.type for m in d.mentions})[: 1 + several]))
        for several in (0, 1)
        for d in CORPUS.train[:20]
    ]
    one, several = (replace(CORPUS, train=tuple(part), dev=tuple(part)) for part in (labelled[:20], labelled[20:]))
    pairs, sizes = invented_pairs(NAMES), (20, 10, 10)
    given: list[tuple[str, Any, Any]] = [("classification", one, GRAPH), ("classification", several, GRAPH)]
    given += [("relations", invented_relation_corpus(NAMES, sizes), pairs)]
    given += [("qa", invented_questions(NAMES, kind, sizes), pairs) for kind in ("label", "choice", "span")]
    for task, corpus, graph in given:
        index = linker if graph is GRAPH else Linker.build(graph)
        taught = fusion.train(task, corpus, graph, invented_vectors(graph), index, encoder=folder, **brief)
        student = fusion.distill(taught, corpus, corpus.dev, link_weight=0.1, **brief)
        assert not student.fused and student.settings.kind == taught.settings.kind
        assert 0 <= student.evaluate(corpus.dev).f1 <= 1


def test_divergence_is_that_of_scipy_and_zero_of_the_same() -> None:
    from scipy.stats import entropy

    theirs, ours = torch.randn(5, 4), torch.randn(5, 4, requires_grad=True)
    expected = [entropy(a, b) for a, b in zip(theirs.softmax(1).numpy(), ours.detach().softmax(1).numpy(), strict=True)]
    assert float(_divergence(theirs, ours.detach())) == pytest.approx(sum(expected), rel=1e-4)
    holes = ours.masked_fill(torch.tensor([True, False, False, False]), -torch.inf)
    apart = _divergence(theirs.masked_fill(torch.tensor([True, False, False, False]), -torch.inf), holes)
    apart.backward()  # type: ignore[no-untyped-call]
    assert apart.isfinite() and ours.grad is not None and ours.grad.isfinite().all()
    assert float(_divergence(theirs, theirs)) == pytest.approx(0, abs=1e-6)


def test_logits_are_divided_by_what_divides_the_labels() -> None:
    # Two spans that two words begin, of a teacher that is sure by half; the student says even odds everywhere.
    lesson: Any = SimpleNamespace(temperature=2.0, label_weight=0.25, hidden_weight=1.0, link_weight=0.0)
    odds = {"ours": torch.zeros(4, 2), "theirs": torch.tensor([[0.0, 2 * math.log(3)]] * 2 + [[0.0, 0.0]] * 2)}
    student: Any = SimpleNamespace(network=SimpleNamespace(decisions=lambda output, _batch: (odds[output.name], 2)))
    output, said = SimpleNamespace(name="ours", loss=torch.tensor(8.0)), SimpleNamespace(name="theirs")
    # KL of (1/4, 3/4) from (1/2, 1/2), twice.
    apart = 2 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    loss = _loss(lesson, student, {}, output, said, {})
    assert float(loss) == pytest.approx(0.25 * 8 + 0.75 * 2**2 * apart / 2)


def test_mentions_cover_their_pieces() -> None:
    known: Any = SimpleNamespace(
        sentence=torch.tensor([0, 1, 1]), start=torch.tensor([1, 0, 2]), end=torch.tensor([3, 1, 4])
    )
    assert isinstance(known, Knowledge) is False
    assert _covered(known, (2, 4)).tolist() == [[False, True, True, False], [True, False, True, True]]
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    assert _means(hidden, known).flatten().tolist() == [1.5, 4.0, 6.5]


def test_what_cannot_be_taught_is_said(teacher: FusedModel[Any], folder: Path) -> None:
    empty = replace(CORPUS, train=())
    plain = fusion.train("ner", replace(CORPUS, train=CORPUS.train[:5]), encoder=folder, **{**SETTINGS, "epochs": 1})
    strange = replace(CORPUS, train=(Document("x", "fever", (Mention(0, 5, "Sign"),)),))
    cases: list[tuple[str, Any]] = [
        ("nothing to learn from", lambda: fusion.distill(teacher, empty)),
        ("give a depth from 1 to", lambda: fusion.distill(teacher, CORPUS, blocks=7)),
        ("labels' weight", lambda: fusion.distill(teacher, CORPUS, label_weight=2)),
        ("a plain teacher links nothing", lambda: fusion.distill(plain, CORPUS, link_weight=1.0)),
        ("'Sign' is not one of", lambda: fusion.distill(teacher, strange, device="cpu", progress=False)),
    ]
    for needle, call in cases:
        with pytest.raises(MedgraftError, match=needle):
            call()


def test_the_command(teacher: FusedModel[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from loaders import write_pubtator

    teacher.save(tmp_path / "teacher")
    with (tmp_path / "train.txt").open("w") as file:
        write_pubtator([replace(d, id=str(n)) for n, d in enumerate(CORPUS.train[:10])], file)
    (tmp_path / "texts.txt").write_text("\n\n".join(d.text for d in TEXTS[:10]))
    command = ["distill", tmp_path / "teacher", "--train", tmp_path / "train.txt", "--dev", tmp_path / "train.txt"]
    command += ["--texts", tmp_path / "texts.txt", "--blocks", "1", "--epochs", "1", "--device", "cpu"]
    code, said, err = run(capsys, *command, "--out", tmp_path / "student", "--json")
    assert code == 0, err
    student = fusion.load(tmp_path / "student")
    assert student.encoder.num_blocks == 1 and student.training["training documents"] == 20
    code, _, err = run(capsys, *command, "--blocks", "9", "--out", tmp_path / "no")
    assert code == 1 and "give a depth from 1 to" in err and not (tmp_path / "no").exists()
