"""Control arms take away what they say, a battery goes on where it stopped, the paired test can tell and not tell."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from fusion import ablation
from fusion.ablation import ablate, compare
from fusion.ablation_report import draw_learning_curve, markdown, plain_text
from fusion.arms import ARMS, PAIRS_ONLY, Material, rewired_triples, with_wrong_links
from fusion.significance import holm, randomisation_p
from kg import Linker
from loaders.errors import MedgraftError
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors

NAMES = invented_names(40)
GRAPH = invented_graph(NAMES)
VECTORS = invented_vectors(GRAPH)
CORPUS = invented_corpus(NAMES, (12, 4, 8))


@pytest.fixture(scope="module")
def material(encoder_folder: Callable[[str], Path]) -> Material:
    return Material(GRAPH, VECTORS, Linker.build(GRAPH), CORPUS, encoder_folder("bert"))


def test_arms_take_away_what_they_say(material: Material) -> None:
    table = material.table
    arms = {name: change for name, change in ARMS.items() if name not in PAIRS_ONLY}
    made = {name: change(material, 3) for name, change in arms.items()}
    assert made["plain"] is None
    assert made["true"] is table
    same, types, drawn = made["same-parameters"], made["types"], made["random"]
    assert same is not None and types is not None and drawn is not None
    assert same.vectors.unique(dim=0).shape[0] == 1 and (same.neighbours == -1).all() and (same.types == 0).all()
    assert torch.equal(types.types, table.types) and (types.neighbours == -1).all()
    assert torch.allclose(drawn.vectors.norm(dim=1), table.vectors.norm(dim=1))
    assert not torch.equal(drawn.vectors, table.vectors)
    for name in ("permuted", "permuted-within-type"):
        arm = made[name]
        assert arm is not None and sorted(arm.ids) == sorted(table.ids) and arm.ids != table.ids
        assert torch.equal(arm.vectors, table.vectors)
    rewired, names, both = made["rewired"], made["names"], made["true+names"]
    assert rewired is not None and torch.equal(rewired.types, table.types)
    assert not torch.equal(rewired.vectors, table.vectors), "embeddings of its own"
    assert names is not None and both is not None and both.dim == 2 * table.dim == 2 * names.dim
    assert torch.equal(both.vectors[:, table.dim :], names.vectors)
    read = names.vectors.norm(dim=1) > 0
    mentioned = {m.concept_id for d in (*CORPUS.train, *CORPUS.dev, *CORPUS.test) for m in d.mentions}
    assert all(read[table.id_to_row[id]] for id in mentioned), "every name that the corpus brings up"
    torch.testing.assert_close(names.vectors[read].norm(dim=1), torch.ones(int(read.sum())))
    for name, change in arms.items():
        again, first = change(material, 3), made[name]
        assert (again is None) == (first is None)
        assert again is None or first is None or again.digest() == first.digest()


def test_rewiring_keeps_every_degree() -> None:
    triples = GRAPH.table("triples")
    rewired = rewired_triples(triples, 0)
    for column in ("head", "relation"):
        assert rewired[column].equals(triples[column])
    for kind in ("treats", "causes"):
        tails = [sorted(t["tail"].filter(pc.equal(t["relation"], kind)).to_pylist()) for t in (triples, rewired)]
        assert tails[0] == tails[1]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.3, 0.1, 0.5), (1.0, 0.9, 1.0)])
def test_wrong_links_are_as_many_as_asked_for(material: Material, share: float, least: float, most: float) -> None:
    linked = list(material.linker.pipe(d.text for d in CORPUS.train))
    wrong = with_wrong_links(linked, share, material.table.ids, 0)
    before, after = ([m.candidates for d in side for m in d.mentions] for side in (linked, wrong))
    changed = sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
    assert least <= changed <= most
    assert [[c.score for c in some] for some in before] == [[c.score for c in some] for some in after]


def test_a_battery_goes_on_where_it_stopped(encoder_folder: Callable[[str], Path], tmp_path: Path) -> None:
    linker = Linker.build(GRAPH)
    given = {"encoder": encoder_folder("bert"), "epochs": 1, "max_pieces": 64, "device": "cpu"}

    def run(arms: tuple[str, ...]) -> list[str]:
        done = ablate(CORPUS, GRAPH, VECTORS, linker, out=tmp_path, arms=arms, seeds=(0, 1), progress=False, **given)
        return [line.arm for line in done]

    assert run(("plain",)) == ["plain"]
    file = tmp_path / "results.jsonl"
    first = file.read_text()
    file.write_text(first + '{"key": "cut o')
    tested = ["plain", "true", "10 % wrong links", "30 % wrong links", "graph removed"]
    real = ablation._tested

    def stopped(*given: Any) -> dict[str, Any]:
        if not given[-1]:
            raise KeyboardInterrupt
        return real(*given)

    with pytest.MonkeyPatch.context() as patch:  # when three of the four tests of an arm are done
        patch.setattr(ablation, "_tested", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(("true",))
    assert run(("plain", "true")) == tested
    assert file.read_text().startswith(first)
    lines = file.read_text().count('"seed"')
    run(("plain", "true"))
    assert file.read_text().count('"seed"') == lines == 10
    less = replace(CORPUS, test=CORPUS.test[:3])
    ablate(less, GRAPH, VECTORS, linker, out=tmp_path, arms=("plain",), seeds=(0,), progress=False, **given)
    assert len(json.loads(file.read_text().splitlines()[-1])["counts"]) == 3, "another test part is another battery"
    with pytest.raises(MedgraftError, match="unknown arm 'magic'"):
        run(("magic",))
    with pytest.raises(MedgraftError, match="are none"):
        ablate(CORPUS, GRAPH, VECTORS, linker, out=tmp_path, shares=(0.01,), **given)


def test_frozen_blocks_computed_once_and_every_mention_nil_give_the_plain_model(
    encoder_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    given = {"encoder": encoder_folder("bert"), "epochs": 2, "max_pieces": 64, "device": "cpu", "frozen_blocks": 1}
    ablate(
        CORPUS, GRAPH, VECTORS, Linker.build(GRAPH), out=tmp_path, arms=("plain", "nil"), seeds=(0,), shares=(0.5, 1),
        learning_rate=5e-3, new_learning_rate=1e-2, progress=False, head="bio", **given,
    )  # fmt: skip
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    by_arm = {arm: [line["counts"] for line in found if line["arm"] == arm] for arm in ("plain", "nil")}
    assert by_arm["plain"] == by_arm["nil"] and len(by_arm["nil"]) == 2
    assert sum(row[1] for counts in by_arm["plain"] for row in counts), "something was predicted"
    for line in found:
        assert [sum(r[0] for r in rows) for rows in zip(*line["subsets"].values(), strict=True)] == [
            row[0] for row in line["counts"]
        ]
        assert sum(row[0] for row in line["subsets"]["memorised"]) == 0, "the parts share no name"


def lines(arm: str, gain: float, documents: int = 60) -> list[dict[str, object]]:
    generator = np.random.default_rng(5)
    made = []
    for seed in range(5):
        correct = generator.binomial(10, 0.6 + gain, documents)
        counts = [(10, 10, int(c)) for c in correct]
        made.append({"arm": arm, "share": 0.5, "seed": seed, "counts": counts, "subsets": {"unseen": counts}})
    return made


def test_the_paired_test_finds_a_gain_and_finds_none(tmp_path: Path) -> None:
    made = [*lines("plain", 0), *lines("true", 0.1), *lines("alike", 0)]
    for line in made:
        line["subsets"] |= {"memorised": line["counts"], "synonym": line["counts"]}
    compared = compare(made, draws=500)
    by_arm = {c.arm: c for c in compared}
    gain, none = by_arm["true"].plain, by_arm["alike"].plain
    assert gain is not None and gain.p < 0.01 and 0.05 < gain.low < gain.value < gain.high
    assert none is not None and none.p > 0.05 and none.low <= 0 <= none.high
    assert by_arm["plain"].plain is None and by_arm["true"].true is None
    assert by_arm["alike"].true is not None and by_arm["alike"].true.p < 0.02
    for table in (markdown(compared), plain_text(compared)):
        assert "true" in table and "50%" in table
    draw_learning_curve(compared, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_holm_is_the_step_down_procedure() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_p_is_what_all_exchanges_give() -> None:
    """With few documents every exchange can be listed."""
    from itertools import product

    ours = [(3, 3, 3), (2, 2, 2), (4, 3, 3), (2, 3, 1)]
    theirs = [(3, 3, 1), (2, 2, 1), (4, 4, 2), (2, 2, 2)]

    def f1(rows: list[tuple[int, int, int]]) -> float:
        gold, predicted, correct = (sum(column) for column in zip(*rows, strict=True))
        return 2 * correct / (gold + predicted)

    observed = abs(f1(ours) - f1(theirs))
    extreme = 0
    for swap in product([False, True], repeat=4):
        left = [t if s else o for s, o, t in zip(swap, ours, theirs, strict=True)]
        right = [o if s else t for s, o, t in zip(swap, ours, theirs, strict=True)]
        extreme += abs(f1(left) - f1(right)) >= observed - 1e-12
    found = randomisation_p(np.array([ours]), np.array([theirs]), draws=4000)
    assert found == pytest.approx(extreme / 16, abs=0.03)
