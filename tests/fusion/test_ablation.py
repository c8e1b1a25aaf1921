"""Control arms take away what they say, a battery goes on where it stopped, the paired test can tell and not tell."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.ablation import ARMS, ablate, compare, table_of
from fusion.knowledge import KnowledgeTable
from kg import Linker
from loaders.errors import MedgraftError
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors

NAMES = invented_names(40)
GRAPH = invented_graph(NAMES)
VECTORS = invented_vectors(GRAPH)
CORPUS = invented_corpus(NAMES, (12, 4, 8))
TABLE = KnowledgeTable.build(GRAPH, VECTORS)


def test_arms_take_away_what_they_say() -> None:
    made = {name: change(TABLE, 3) for name, change in ARMS.items()}
    assert made["plain"] is None
    assert made["true"] is TABLE
    same, types, drawn = made["same-parameters"], made["types"], made["random"]
    assert same is not None and types is not None and drawn is not None
    assert same.vectors.unique(dim=0).shape[0] == 1 and (same.neighbours == -1).all() and (same.types == 0).all()
    assert torch.equal(types.types, TABLE.types) and (types.neighbours == -1).all()
    assert torch.allclose(drawn.vectors.norm(dim=1), TABLE.vectors.norm(dim=1))
    assert not torch.equal(drawn.vectors, TABLE.vectors)
    for name in ("permuted", "permuted-within-type"):
        arm = made[name]
        assert arm is not None and sorted(arm.ids) == sorted(TABLE.ids) and arm.ids != TABLE.ids
        assert torch.equal(arm.vectors, TABLE.vectors)
    for name, change in ARMS.items():
        again, first = change(TABLE, 3), made[name]
        assert (again is None) == (first is None)
        assert again is None or first is None or again.digest() == first.digest()


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
    assert run(("plain", "true")) == ["plain", "true", "removed"]
    assert file.read_text().startswith(first)
    lines = file.read_text().count('"seed"')
    run(("plain", "true"))
    assert file.read_text().count('"seed"') == lines == 6
    less = replace(CORPUS, test=CORPUS.test[:3])
    ablate(less, GRAPH, VECTORS, linker, out=tmp_path, arms=("plain",), seeds=(0,), progress=False, **given)
    assert len(json.loads(file.read_text().splitlines()[-1])["counts"]) == 3, "another test part is another battery"
    with pytest.raises(MedgraftError, match="unknown arm 'magic'"):
        run(("magic",))


def lines(arm: str, gain: float, documents: int = 60) -> list[dict[str, object]]:
    generator = np.random.default_rng(5)
    made = []
    for seed in range(5):
        correct = generator.binomial(10, 0.6 + gain, documents)
        made.append({"arm": arm, "seed": seed, "counts": [(10, 10, int(c)) for c in correct]})
    return made


def test_the_paired_test_finds_a_gain_and_finds_none() -> None:
    compared = {c.arm: c for c in compare([*lines("plain", 0), *lines("better", 0.1), *lines("alike", 0)], draws=500)}
    assert compared["better"].p < 0.01 and compared["better"].difference > 0.05
    assert compared["alike"].p > 0.05 and compared["plain"].p == 1
    assert "better" in table_of(compared.values())


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
    made = [{"arm": "true", "seed": 0, "counts": ours}, {"arm": "plain", "seed": 0, "counts": theirs}]
    found = {c.arm: c.p for c in compare(made, draws=4000)}
    assert found["true"] == pytest.approx(extreme / 16, abs=0.03)
