"""Training, resuming, storing and using embeddings, on small graphs whose answers are known."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pyarrow as pa
import pytest
import torch

from kg import training_loop
from kg.embeddings import Embeddings, train_embeddings
from kg.geometry import MODELS, expected, scores_of_all, scores_of_pairs, width_of
from kg.row_updates import FetchedRows, RowAdagrad
from kg.training_settings import Settings
from loaders.errors import MedgraftError

SMALL = {"dim": 16, "epochs": 4, "batch_size": 64, "num_negatives": 8, "progress": False, "device": "cpu"}


class TableGraph:
    """What training needs of a graph."""

    def __init__(self, rows, fingerprint="f1"):
        columns = zip(*rows, strict=True) if rows else ([], [], [])
        names = ("head", "relation", "tail")
        self.triples = pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)})
        self.concepts = pa.table({"id": sorted({c for h, _, t in rows for c in (h, t)} | {"C:lonely"})})
        self.fingerprint = fingerprint

    def table(self, name):
        return {"triples": self.triples, "concepts": self.concepts}[name]

    def batches(self, name, columns):
        return self.table(name).select(columns).to_batches(max_chunksize=7)


def city_grid(side=12):
    """A grid: every fact follows from a translation, so TransE can learn it all."""
    rows = []
    for x in range(side):
        for y in range(side):
            here = f"P:{x:02}{y:02}"
            rows += [(here, "east_of", f"P:{x - 1:02}{y:02}")] if x else []
            rows += [(here, "north_of", f"P:{x:02}{y - 1:02}")] if y else []
    return TableGraph(rows)


def hand_made(p=2):
    vectors = np.array([[0, 0], [1, 0], [2, 0], [0, 1]], dtype=np.float32)
    return Embeddings(
        ["A", "B", "C", "D"], vectors, ["right", "up"], np.array([[1, 0], [0, 1]], np.float32), p=p, fingerprint="f1"
    )


def assert_same(first, second):
    assert first.ids == second.ids and first.relations == second.relations
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.relation_vectors, second.relation_vectors)


def classes():
    """Four classes of diseases with symptoms of their own: two out of three of them for each disease."""
    return TableGraph(
        [
            (f"D:{disease:02}", "has_symptom", f"S:{disease % 4}{symptom}")
            for disease in range(40)
            for symptom in range(9)
            if (disease // 4 + symptom) % 3
        ]
    )


@pytest.mark.parametrize(
    ("model", "sampler"), [*((model, "shared") for model in MODELS), ("TransE", "basic"), ("TransE", "bernoulli")]
)
def test_learns_what_popularity_cannot_know(model, sampler):
    graph = classes()
    settings = {**SMALL, "epochs": 25, "negative_sampler": sampler, "loss": "marginranking"}
    embeddings = train_embeddings(graph, model, **settings, holdout=20)
    assert embeddings.ids == graph.concepts["id"].to_pylist()
    assert embeddings.relations == ["has_symptom"]
    assert embeddings.vectors.dtype == np.float32 and embeddings.vectors.shape == (77, width_of(model, 16))
    ranking = embeddings.metrics["ranking"]
    assert ranking["triples"] == 20
    assert ranking["both"]["mrr"] > 2 * ranking["popularity"]["mrr"]
    assert embeddings.metrics["loss"][-1] < embeddings.metrics["loss"][0] / 2


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "nssa", "margin": 3.0},
        {"loss": "infonce"},
        {"norm": 1},
        {"batch_size": 300},
        {"epochs": 1},
        {"model": "RotatE", "mixed_precision": True},
        {"model": "DistMult", "loss": "bcewithlogits", "mixed_precision": True},
        {"model": "ComplEx", "loss": "softplus", "negative_sampler": "bernoulli"},
    ],
)
def test_other_settings_train(settings):
    embeddings = train_embeddings(city_grid(), **{**SMALL, **settings})
    assert np.isfinite(embeddings.vectors).all()
    assert len(embeddings.metrics["loss"]) == embeddings.settings["epochs"]


@pytest.mark.parametrize("sampler", ["shared", "basic"])
def test_unit_norm_keeps_every_concept_at_length_one_and_still_learns(sampler):
    settings = {**SMALL, "epochs": 2, "unit_norm": True, "negative_sampler": sampler}
    made = train_embeddings(city_grid(), **settings)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert (abs(np.linalg.norm(made.relation_vectors, axis=1) - 1) > 0.01).all()
    assert made.metrics["loss"][1] < made.metrics["loss"][0] and made.settings["unit_norm"]
    with pytest.raises(MedgraftError, match="RotatE has no unit_norm"):
        train_embeddings(city_grid(), "RotatE", **settings)


def test_same_seed_same_vectors_whatever_was_drawn_before():
    graph = city_grid()
    first = train_embeddings(graph, seed=3, **SMALL)
    torch.rand(5)
    np.random.rand(5)
    before = torch.random.get_rng_state()
    assert_same(first, train_embeddings(graph, seed=3, **SMALL))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not np.array_equal(first.vectors, train_embeddings(graph, seed=4, **SMALL).vectors)


def test_trains_on_a_part_with_the_ids_of_the_whole_graph():
    graph = city_grid()
    part = graph.triples.slice(0, 50)
    embeddings = train_embeddings(graph, triples=part, **SMALL)
    assert len(embeddings) == 145 and embeddings.settings["triples"] == 50
    foreign = pa.table({"head": ["X"], "relation": ["east_of"], "tail": ["P:0000"]})
    with pytest.raises(MedgraftError, match="'X'"):
        train_embeddings(graph, triples=foreign, **SMALL)


def pykeen_model(name, p):
    from pykeen.models import ComplEx, DistMult, RotatE, TransE
    from pykeen.triples import CoreTriplesFactory

    made = {"TransE": TransE, "RotatE": RotatE, "DistMult": DistMult, "ComplEx": ComplEx}[name]
    factory = CoreTriplesFactory(torch.tensor([[0, 0, 1], [2, 1, 3]]), num_entities=9, num_relations=2)
    return made(triples_factory=factory, embedding_dim=6, random_seed=0, **({"scoring_fct_norm": p} if p == 1 else {}))


@pytest.mark.parametrize(("name", "p"), [("TransE", 1), *((name, 2) for name in MODELS)])
def test_scores_are_those_of_pykeen(name, p):
    model = pykeen_model(name, p)
    if name == "TransE":
        model.interaction.p = p
    concepts, relations = (w.detach() for w in training_loop.weights_of(model))
    triples = torch.cartesian_prod(torch.arange(9), torch.arange(2), torch.arange(9))
    theirs = model.score_hrt(triples)[:, 0].detach()
    h, r, t = concepts[triples[:, 0]], relations[triples[:, 1]], concepts[triples[:, 2]]
    for side, given, answer, column in (("tail", h, t, 2), ("head", t, h, 0)):
        places = expected(name, side, given, r)
        torch.testing.assert_close(scores_of_pairs(name, p, places, answer), theirs, rtol=1e-5, atol=1e-5)
        for exact in (True, False):
            of_all = scores_of_all(name, p, places, concepts, exact=exact)
            of_answer = of_all.gather(1, triples[:, [column]])[:, 0]
            torch.testing.assert_close(of_answer, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [20, 200])
def test_row_updates_are_those_of_torchs_adagrad(size):
    """Of a small table, whose gradient is dense, and of a large one."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(size, 4, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    own, judge = RowAdagrad([ours], lr=0.3), torch.optim.Adagrad([theirs], lr=0.3)
    for _ in range(5):
        heads = torch.randint(12, (7,), generator=generator)
        wrong = torch.randint(12, (7, 3), generator=generator)
        rows = FetchedRows(ours, heads, wrong, places=np.full(len(ours), 7))
        for optimizer, (h, w) in ((own, rows.vectors), (judge, (theirs[heads], theirs[wrong]))):
            optimizer.zero_grad()
            ((h[:, None] * w).sum(-1) ** 2).sum().backward()
            if optimizer is own:
                rows.gradient()
            optimizer.step()
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(ours[12:], start[12:])


@pytest.mark.parametrize("sampler", ["shared", "basic"])
def test_one_step_is_the_step_of_pykeens_own_loop(sampler):
    """The gradient of a batch, judged by autograd through PyKEEN's model on the same triples and negatives."""
    from pykeen.triples import CoreTriplesFactory

    settings = Settings("TransE", 6, 2, "marginranking", 1.0, sampler, 3, 1, 300, 0.3, 0)
    triples = torch.stack([torch.randint(n, (300,)) for n in (140, 2, 140)], dim=1)
    factory = CoreTriplesFactory(triples, num_entities=140, num_relations=2)
    loop = training_loop._loop(settings, factory, torch.device("cpu"))
    loop.model.reset_parameters_()
    (batch,) = loop._create_training_data_loader(
        factory, sampler=None, batch_size=300, drop_last=False, pin_memory=False
    )
    loop._forward_pass(batch, 0, 300, 300, 0.0, None)
    ours = [weight.grad.to_dense().clone() for weight in training_loop.weights_of(loop.model)]
    loop.optimizer.zero_grad()

    right, wrong = batch["positives"], []
    for row, (h, r, t) in enumerate(right.tolist()):
        of_row = row // 128 if sampler == "shared" else row
        concepts = batch["negatives"][of_row].tolist()
        as_head = batch["as_head"][of_row].tolist()
        if sampler == "shared":
            wrong.append([(h, r, c) for c in concepts] + [(c, r, t) for c in concepts])
        else:
            wrong.append([(c, r, t) if side else (h, r, c) for c, side in zip(concepts, as_head, strict=True)])
    negatives = torch.tensor(wrong)
    scores = loop.model.score_hrt(negatives.view(-1, 3)).view(len(right), -1)
    loop.model.loss.process_slcwa_scores(loop.model.score_hrt(right), scores).backward()
    for mine, weight in zip(ours, training_loop.weights_of(loop.model), strict=True):
        torch.testing.assert_close(mine, weight.grad, rtol=1e-3, atol=1e-5)


def interrupted(out, epochs_before_death):
    """Train until the state of some epochs is on disk, then die without a word."""
    from kg.checkpoints import State

    save = State.save

    def save_and_die(self, loop, epoch, stopping):
        save(self, loop, epoch, stopping)
        if epoch == epochs_before_death:
            os.kill(os.getpid(), signal.SIGKILL)

    State.save = save_and_die
    train_embeddings(city_grid(), out=out, checkpoint_seconds=0, **SMALL)


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_killed_training_goes_on_to_the_same_result(tmp_path, epochs):
    out = tmp_path / "embeddings"
    process = multiprocessing.get_context("spawn").Process(target=interrupted, args=(out, epochs))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists() and len(list(tmp_path.iterdir())) == 1
    resumed = train_embeddings(city_grid(), out=out, **SMALL)
    whole = train_embeddings(city_grid(), **SMALL)
    assert_same(resumed, whole)
    assert resumed.metrics == whole.metrics
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings"]


def test_state_of_another_training_is_refused(tmp_path):
    out = tmp_path / "embeddings"
    process = multiprocessing.get_context("spawn").Process(target=interrupted, args=(out, 2))
    process.start()
    process.join(120)
    with pytest.raises(MedgraftError, match="learning_rate 0.*now 0.7.*delete the file"):
        train_embeddings(city_grid(), out=out, learning_rate=0.7, **SMALL)
    with pytest.raises(MedgraftError, match="graph 'f1', now 'f2'"):
        train_embeddings(
            TableGraph(list(zip(*city_grid().triples.to_pydict().values(), strict=True)), "f2"), out=out, **SMALL
        )
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(MedgraftError, match="damaged"):
        train_embeddings(city_grid(), out=out, **SMALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "TransX"}, "unknown model 'TransX'; there is TransE, RotatE, DistMult, ComplEx"),
        ({"loss": "hope"}, "unknown loss"),
        ({"negative_sampler": "lucky"}, "unknown negative sampler"),
        ({"norm": 3}, "unknown norm"),
        ({"dim": 0}, "dim is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 1e30}, "no longer finite; use a learning_rate below"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda:99"}, "no GPU 'cuda:99'.*use device='cpu'"),
        ({"holdout": 200}, "ask for fewer"),
        ({"patience": 3}, "early stopping .patience. needs development triples; give dev=1000"),
        ({"patience": -1}, "patience is -1"),
        ({"dev": pa.table({"head": [], "relation": [], "tail": []})}, "development triples is empty"),
        ({"model": "RotatE", "norm": 1}, "unknown norm 1 for RotatE; there is 2"),
    ],
)
def test_bad_arguments_are_explained(arguments, words, capfd):
    with pytest.raises(MedgraftError, match=words) as error:
        train_embeddings(city_grid(), **{**SMALL, **arguments})
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_graph_without_triples_and_output_that_is_a_file(tmp_path):
    with pytest.raises(MedgraftError, match="no triples"):
        train_embeddings(TableGraph([]), **SMALL)
    (tmp_path / "file").touch()
    started = time.monotonic()
    for out in (tmp_path / "file", tmp_path / "file" / "embeddings"):
        with pytest.raises(MedgraftError, match="choose another"):
            train_embeddings(city_grid(), out=out, **{**SMALL, "epochs": 100_000})
    assert time.monotonic() - started < 5


def test_scores_of_hand_made_vectors():
    embeddings = hand_made()
    assert embeddings.score("A", "right", "B") == 0
    assert embeddings.score("A", "right", "C") == -1
    assert embeddings.score("A", "right", "D") == pytest.approx(-np.sqrt(2))
    assert hand_made(p=1).score("A", "right", "D") == -2
    assert embeddings.score("A", "up", "D") == 0
    everything = embeddings.score_all("tail", np.array([0, 1]), np.array([0, 1]))
    for row, (head, relation) in enumerate([("A", "right"), ("B", "up")]):
        assert everything[row].tolist() == pytest.approx([embeddings.score(head, relation, tail) for tail in "ABCD"])
    heads = embeddings.score_all("head", np.array([2]), np.array([0]))
    assert heads[0].tolist() == pytest.approx([embeddings.score(head, "right", "C") for head in "ABCD"])


def test_predictions_leave_out_the_given_and_the_known():
    embeddings = hand_made()
    assert [c.concept_id for c in embeddings.predict_tails("A", "right", k=2)] == ["B", "C"]
    assert [c.concept_id for c in embeddings.predict_heads("right", "C", k=9)] == ["B", "A", "D"]
    known = pa.table({"head": ["A", "B"], "relation": ["right", "right"], "tail": ["B", "C"]})
    assert [c.concept_id for c in embeddings.predict_tails("A", "right", k=1, known=known)] == ["C"]
    assert [c.concept_id for c in embeddings.predict_heads("right", "C", known=[known])] == ["A", "D"]
    assert embeddings.predict_tails("A", "right", k=1)[0].score == 0


def test_similar_leaves_out_the_concept_itself_even_among_equals():
    vectors = np.array([[1, 0], [2, 0], [1, 0], [0, 1]], dtype=np.float32)
    embeddings = Embeddings(["A", "B", "C", "D"], vectors, ["r"], np.zeros((1, 2), np.float32))
    assert [c.concept_id for c in embeddings.similar("B", k=2)] == ["A", "C"]
    assert [c.concept_id for c in embeddings.similar("C", k=10)] == ["A", "B", "D"]
    assert embeddings.similar("A", k=1)[0].score == pytest.approx(1)


def test_unknown_concepts_and_relations_are_explained():
    embeddings = hand_made()
    assert "A" in embeddings and "Z" not in embeddings
    for call in (
        lambda: embeddings.similar("Z"),
        lambda: embeddings.score("A", "right", "Z"),
        lambda: embeddings.vector("Z"),
    ):
        with pytest.raises(MedgraftError, match="'Z'"):
            call()
    with pytest.raises(MedgraftError, match="'down'; there are right, up"):
        embeddings.predict_tails("A", "down")


def test_round_trip_through_a_folder(tmp_path):
    graph = city_grid()
    out = tmp_path / "embeddings"
    trained = train_embeddings(graph, out=out, holdout=10, **SMALL)
    assert set(trained.metrics["split"]) == {"duplicates", "twins", "shortcuts", "coverage"}
    loaded = Embeddings.load(out, graph)
    assert_same(trained, loaded)
    assert (loaded.p, loaded.fingerprint, loaded.settings, loaded.metrics) == (
        trained.p,
        trained.fingerprint,
        trained.settings,
        trained.metrics,
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "concepts.parquet",
        "settings.json",
        "vectors.safetensors",
    ]
    assert "145 concepts" in (out / "README.md").read_text()
    assert json.loads((out / "settings.json").read_text())["settings"]["dim"] == 16


def test_embeddings_of_another_graph_are_refused(tmp_path):
    hand_made().save(tmp_path / "e")
    with pytest.raises(MedgraftError, match="belong to the graph f1, not to f2; train them again"):
        Embeddings.load(tmp_path / "e", TableGraph([("A", "r", "B")], "f2"))


@pytest.mark.parametrize("name", ["vectors.safetensors", "concepts.parquet", "settings.json"])
def test_missing_and_damaged_files_are_named(tmp_path, name):
    hand_made().save(tmp_path / "e")
    (tmp_path / "e" / name).write_bytes(b"{")
    with pytest.raises(MedgraftError, match="damaged"):
        Embeddings.load(tmp_path / "e")
    (tmp_path / "e" / name).unlink()
    with pytest.raises(MedgraftError, match=f"{name} is missing"):
        Embeddings.load(tmp_path / "e")


def test_early_stopping_keeps_the_best_vectors_and_resumes(tmp_path):
    settings = {**SMALL, "epochs": 40, "dev": 20, "patience": 2}
    stopped = train_embeddings(classes(), **settings)
    checks = stopped.metrics["dev_mrr"]
    scores = [score for _, score in checks]
    assert len(checks) < 40 and scores.index(max(scores)) == len(scores) - 3
    best_epoch = checks[scores.index(max(scores))][0]
    whole = train_embeddings(classes(), **{**settings, "epochs": best_epoch})
    assert_same(stopped, whole)
    assert stopped.calibration is not None


@pytest.mark.gpu
def test_trains_on_a_gpu_in_mixed_precision():
    graph = classes()
    made = train_embeddings(
        graph, "ComplEx", **{**SMALL, "epochs": 25, "device": "cuda"}, mixed_precision=True, holdout=20
    )
    ranking = made.metrics["ranking"]
    assert ranking["both"]["mrr"] > ranking["popularity"]["mrr"]
