"""The command line: results on stdout, progress and errors on stderr, exit code 0, 1 (bad input) or 2 (bad usage)."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from fusion.cli_annotate import annotate, explain
from fusion.cli_evaluate import evaluate
from fusion.cli_link import link
from fusion.cli_methods import augment, pretrain, train_names
from fusion.cli_options import (
    AnyEncoder,
    Device,
    FrozenBlocks,
    GraphToFuse,
    ItsEmbeddings,
    ItsLinker,
    Json,
    LearningRates,
    Precision,
    Seed,
    corpus_of,
    open_embeddings,
    open_knowledge,
    open_linker,
)
from fusion.cli_students import distill, export_model, search
from fusion.cli_swap import remember, swap
from fusion.cli_together import train_together
from kg.cli import build, diff, export, update
from kg.cli_query import app_query
from loaders.errors import MedgraftError, MedgraftWarning

app = typer.Typer(
    name="medgraft",
    help="Graft medical knowledge graphs onto language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

BatchSize = Annotated[int, typer.Option(min=1, help="Windows a step; documents for relations, questions for qa.")]
Head = Annotated[str, typer.Option(help="For ner: span, with which mentions may nest and overlap, or bio (flat tags).")]
AfterBlock = Annotated[
    int | None, typer.Option(help="Blocks below the knowledge; two thirds of them by default.", show_default=False)
]
LinkLoss = Annotated[float, typer.Option(min=0, help="Weight of the linking loss beside the task's.")]
LinkNoise = Annotated[float, typer.Option(min=0, max=1, help="Share of mentions given wrong links in training.")]
SentenceDropout = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, show_default=False,
        help="Share of windows read without their knowledge in training; by default 0.3 for ner, 0.5 for qa, 0.1 for "
        "classification, 1 for relations, where the graph speaks through facts between two concepts.",
    ),
]  # fmt: skip
AttentionDropout = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of the encoder's attention weights that are dropped; slower on a CPU."),
]
VectorDropout = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, show_default=False,
        help="Share of concepts known by their type alone in training; by default 0.5 for qa, else none.",
    ),
]  # fmt: skip
WithoutGraph = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the training loss that is taken with the graph removed.")
]
MemoryKinds = Annotated[
    str,
    typer.Option("--memory", help="What sentences may recall: facts,definitions,examples. Examples are kept whole."),
]
MemorySize = Annotated[int, typer.Option(min=1, help="Entries of each kind that a sentence recalls.")]


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run; finished stages in it are reused.")] = Path(
        "runs/quickstart"
    ),
    download: Annotated[bool, typer.Option("--download", help="Fetch missing corpora without asking.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run the whole path on real data: graph, embeddings, linking, plain and fused NER, explanations, queries.

    Example: medgraft quickstart
    """
    from fusion.quickstart import print_summary, run_quickstart

    ask = None if download or not sys.stdin.isatty() else typer.confirm
    report = run_quickstart(
        out, download=download, ask=ask, device=device, announce=lambda line: typer.echo(line, err=True)
    )
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_summary(report, out)


def embed(
    graph: Annotated[str, typer.Argument(help="Graph folder, ontology dump, or neo4j://...")],
    out: Annotated[Path, typer.Option(help="Folder for the embeddings.")],
    model: Annotated[str, typer.Option(help="TransE, RotatE, DistMult or ComplEx.")] = "TransE",
    dim: Annotated[int, typer.Option(help="Numbers a concept.")] = 128,
    epochs: Annotated[int, typer.Option(help="Passes over the triples.")] = 20,
    loss: Annotated[
        str, typer.Option(help="marginranking, nssa, softplus, bcewithlogits or infonce.")
    ] = "marginranking",
    margin: Annotated[float, typer.Option(help="Of the losses that have one.")] = 1.0,
    norm: Annotated[int, typer.Option(help="1 or 2, of TransE's distance.")] = 2,
    negative_sampler: Annotated[str, typer.Option(help="shared, basic or bernoulli.")] = "shared",
    num_negatives: Annotated[int, typer.Option(help="Wrong answers a triple is set against.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Triples in a step.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="Of Adagrad.")] = 0.3,
    unit_norm: Annotated[
        bool, typer.Option("--unit-norm", help="Keep concepts at length 1 (TransE, DistMult).")
    ] = False,
    mixed_precision: Annotated[bool, typer.Option("--mixed-precision", help="Matrix products in bfloat16.")] = False,
    holdout: Annotated[
        float, typer.Option(help="Triples held out to score the embeddings on; a share if below 1.")
    ] = 0.0,
    dev: Annotated[float, typer.Option(help="Triples held out for early stopping and calibration; likewise.")] = 0.0,
    patience: Annotated[int, typer.Option(help="Epochs without a better dev MRR before training stops; 0: all.")] = 0,
    extend: Annotated[
        Path | None, typer.Option(help="Do not train: give new concepts vectors in the space of these embeddings.")
    ] = None,
    align_to: Annotated[Path | None, typer.Option(help="Turn the new space onto that of these embeddings.")] = None,
    curve: Annotated[Path | None, typer.Option(help="PNG of the losses.")] = None,
    map: Annotated[Path | None, typer.Option(help="PNG map of the concepts by category.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train embeddings of a graph's concepts and relations.

    Example: medgraft embed graphs/hpo --out embeddings/hpo --dev 1000 --patience 3 --curve loss.png

    After an update of the graph: medgraft embed graphs/hpo --out embeddings/new --extend embeddings/hpo
    """
    import kg

    with kg.connect(graph) as connected:
        if extend is not None:
            embeddings = kg.extend_embeddings(kg.Embeddings.load(extend), connected, seed=seed)
            embeddings.save(out)
        else:
            embeddings = kg.train_embeddings(
                connected,
                model,
                dim,
                out,
                epochs=epochs,
                loss=loss,
                margin=margin,
                norm=norm,
                negative_sampler=negative_sampler,
                num_negatives=num_negatives,
                batch_size=batch_size,
                learning_rate=learning_rate,
                unit_norm=unit_norm,
                mixed_precision=mixed_precision,
                holdout=holdout,
                dev=dev,
                patience=patience,
                seed=seed,
                device=device,
                align_to=None if align_to is None else kg.Embeddings.load(align_to),
            )
        if curve is not None:
            kg.draw_training(embeddings, curve)
        if map is not None:
            kg.draw_map(embeddings, connected, map, seed=seed)
    summary = {"out": str(out), "concepts": len(embeddings.ids), "relations": len(embeddings.relations)}
    if as_json:
        summary |= {"settings": embeddings.settings, "metrics": embeddings.metrics}
    elif extend is not None:
        summary["new concepts"] = embeddings.settings["new_concepts"]
    else:
        summary |= _measured(embeddings.metrics)
    _show(summary, as_json)


def train(
    task: Annotated[str, typer.Argument(help="ner, relations, qa or classification.")],
    corpus: Annotated[
        Path,
        typer.Option(
            "--train",
            help="Annotated documents, a file or a folder (PubTator, BioC, brat, JSON lines, CoNLL, GSC+, PGR); "
            "for qa questions (PubMedQA, SQuAD, JSON lines); "
            "for classification labelled texts (CSV, JSON lines).",
        ),
    ],
    encoder: AnyEncoder,
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    dev: Annotated[
        Path | None,
        typer.Option(
            help="Documents or questions to choose the best epoch on.", show_default="a fifth of the training part"
        ),
    ] = None,
    graph: GraphToFuse = None,
    embeddings: ItsEmbeddings = None,
    linker: ItsLinker = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training documents.")] = 5,
    batch_size: BatchSize = 16,
    learning_rates: LearningRates = (5e-5, 1e-3, 1e-3),
    memory: MemoryKinds = "",
    memory_size: MemorySize = 8,
    head: Head = "span",
    after_block: AfterBlock = None,
    frozen_blocks: FrozenBlocks = 0,
    unfreeze_epochs: Annotated[
        int | None, typer.Option(min=1, help="Train the top block first, one more every so many epochs.")
    ] = None,
    layer_decay: Annotated[float, typer.Option(help="Factor of the learning rate from a block to that below.")] = 1.0,
    link_loss: LinkLoss = 0.0,
    link_noise: LinkNoise = 0.0,
    sentence_dropout: SentenceDropout = None,
    vector_dropout: VectorDropout = None,
    attention_dropout: AttentionDropout = 0.0,
    without_graph: WithoutGraph = 0.0,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Train low-rank additions (LoRA) to the blocks that are not frozen.")
    ] = None,
    precision: Precision = "no",
    max_windows: Annotated[
        int | None, typer.Option(min=1, help="For qa: windows of a long context that are read.", show_default="all")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model, fused with a graph or plain.

    `relations` learns what holds between the mentions that the documents have, `qa` to answer questions,
    `classification` to label whole texts.

    Example: medgraft train ner --train train.txt --dev dev.txt --graph graphs/hpo --embeddings embeddings/hpo
    --encoder bert-base-uncased --out models/ner

    In one command from the dump: medgraft train ner --train mine.txt --graph hp.obo --encoder bert-base-uncased
    --out models/ner

    With a memory, which needs no linker: --memory facts,definitions,examples
    """
    import fusion

    kinds = [kind.strip() for kind in memory.split(",") if kind.strip()]
    documents = corpus_of(task, corpus, dev)
    known, vectors, index = open_knowledge(graph, embeddings, linker)
    entries = None
    if kinds:
        entries = fusion.build_memory(kinds, encoder, graph=known, task=task, corpus=documents, progress=True)
    if vectors is None and {"facts", "definitions"} & set(kinds):
        known, index = None, None  # what a memory is made of is fused as well only where its embeddings are named
    model = fusion.train(
        task,
        documents,
        known,
        vectors,
        index,
        encoder=encoder,
        out=out,
        memory=entries,
        memory_size=memory_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rates[0],
        new_learning_rate=learning_rates[1],
        knowledge_learning_rate=learning_rates[2],
        head=head,
        after_block=after_block,
        frozen_blocks=frozen_blocks,
        cache_frozen=frozen_blocks > 0,
        unfreeze_epochs=unfreeze_epochs,
        layer_decay=layer_decay,
        lora_rank=lora_rank,
        max_windows=max_windows,
        link_loss=link_loss,
        link_noise=link_noise,
        sentence_dropout=sentence_dropout,
        vector_dropout=vector_dropout,
        attention_dropout=attention_dropout,
        without_graph=without_graph,
        precision=precision,
        seed=seed,
        device=device,
    )
    summary: dict[str, object] = {"out": str(out), "scores": model.scores}
    if isinstance(model, fusion.RelationModel | fusion.TaggingModel):
        summary |= {"threshold": model.settings.threshold}
    if isinstance(model, fusion.RelationModel) and isinstance(documents, fusion.Corpus):
        summary |= {"dev pairs with a fact": model.leaks.get("stated", {})}
    _show(summary, as_json)


def ablate(
    corpus: Annotated[Path, typer.Option("--train", help="Annotated documents, or questions, a file or a folder.")],
    dev: Annotated[Path, typer.Option(help="Documents to choose the best epoch on.")],
    test: Annotated[Path, typer.Option(help="Documents to compare the arms on.")],
    graph: Annotated[str, typer.Option(help="Graph folder, ontology dump, or neo4j://...")],
    encoder: AnyEncoder,
    out: Annotated[Path, typer.Option(help="Folder of the results; finished runs in it are not run again.")],
    embeddings: ItsEmbeddings = None,
    task: Annotated[str, typer.Option(help="ner, relations or qa.")] = "ner",
    linker: ItsLinker = None,
    arms: Annotated[str, typer.Option(help="Comma-separated: plain, same-parameters, types, true, ...")] = "",
    seeds: Annotated[int, typer.Option(help="How many seeds; a claim needs five.")] = 5,
    shares: Annotated[str, typer.Option(help="Comma-separated shares of the labels: 0.05,1")] = "1",
    epochs: Annotated[int, typer.Option(help="Passes over the training documents.")] = 5,
    batch_size: BatchSize = 16,
    learning_rates: LearningRates = (5e-5, 1e-3, 1e-3),
    head: Head = "span",
    after_block: AfterBlock = None,
    frozen_blocks: FrozenBlocks = 0,
    link_loss: LinkLoss = 0.0,
    link_noise: LinkNoise = 0.0,
    sentence_dropout: SentenceDropout = None,
    vector_dropout: VectorDropout = None,
    attention_dropout: AttentionDropout = 0.0,
    without_graph: WithoutGraph = 0.0,
    precision: Precision = "no",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the control arms and say what the knowledge was worth.

    Prints the comparison; `results.jsonl`, `results.md` and `learning_curve.png` lie in the folder.

    Example: medgraft ablate --train train.txt --dev dev.txt --test test.txt --graph graphs/hpo
    --embeddings embeddings/hpo --encoder bert-base-uncased --shares 0.05,1 --out runs/ablation
    """
    from dataclasses import asdict

    import kg
    from fusion.ablation import ablate as run_arms
    from fusion.ablation_report import draw_learning_curve, markdown, plain_text

    documents = corpus_of(task, corpus, dev, test)
    # Only what is set: every setting is part of the key by which finished runs are known again.
    given: dict[str, Any] = {
        "link_loss": link_loss or None,
        "link_noise": link_noise or None,
        "sentence_dropout": sentence_dropout,
        "vector_dropout": vector_dropout,
        "attention_dropout": attention_dropout or None,
        "without_graph": without_graph or None,
        "head": head if task == "ner" else None,
    }
    with kg.connect(graph) as connected:
        compared = run_arms(
            documents,
            connected,
            open_embeddings(connected, embeddings, device),
            open_linker(connected, linker),
            out=out,
            task=task,
            arms=[arm.strip() for arm in arms.split(",")] if arms else None,
            seeds=range(seeds),
            shares=[_share(share) for share in shares.split(",")],
            announce=lambda line: typer.echo(line, err=True),
            encoder=encoder,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rates[0],
            new_learning_rate=learning_rates[1],
            knowledge_learning_rate=learning_rates[2],
            after_block=after_block,
            frozen_blocks=frozen_blocks,
            precision=precision,
            device=device,
            **{name: value for name, value in given.items() if value is not None},
        )
    (out / "results.md").write_text(markdown(compared), encoding="utf-8")
    draw_learning_curve(compared, out / "learning_curve.png", title=f"{task}, {documents.name}")
    typer.echo(json.dumps([asdict(line) for line in compared], indent=2) if as_json else plain_text(compared))


def doctor(as_json: Json = False) -> None:
    """Say what this machine has: versions, devices, Java for the Neo4j tests, corpora.

    Example: medgraft doctor
    """
    from fusion.doctor import examine

    _show(examine(), as_json)


PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Begin": {"quickstart": quickstart, "doctor": doctor},
    "Graph": {"build": build, "update": update, "diff": diff, "export": export, "query": app_query},
    "Embeddings and links": {"embed": embed, "link": link, "train-names": train_names},
    "Train": {
        "train": train,
        "train-together": train_together,
        "pretrain": pretrain,
        "augment": augment,
        "search": search,
        "distill": distill,
        "ablate": ablate,
    },
    "Use a model": {
        "annotate": annotate,
        "explain": explain,
        "evaluate": evaluate,
        "swap": swap,
        "remember": remember,
        "export-model": export_model,
    },
}
for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command line; an error that the user can mend is one line on stderr and exit code 1."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except MedgraftError as error:
        print(f"medgraft: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("medgraft: stopped; nothing half-written was left behind", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own in one line, like errors; those of libraries as Python has them."""
    own = issubclass(category, MedgraftWarning)
    said = f"medgraft: {message}\n" if own else warnings.formatwarning(message, category, filename, lineno, line)
    print(said, end="", file=file or sys.stderr)  # noqa: T201


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MedgraftError(f"{text!r} is no share of the labels; give numbers above 0 and up to 1: 0.05,1") from None


def _show(values: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in values.items():
        shown = ", ".join(f"{k} {_number(v)}" for k, v in value.items()) if isinstance(value, dict) else _number(value)
        table.add_row(f"[bold]{name}[/bold]", shown)
    Console().print(table)


def _measured(metrics: dict[str, Any]) -> dict[str, object]:
    """What a training showed, in short."""
    losses = metrics["loss"]
    shown: dict[str, object] = {"loss": f"{losses[0]:.4f} at first, {losses[-1]:.4f} after {len(losses)} epochs"}
    if "dev_mrr" in metrics:
        epoch, best = max(metrics["dev_mrr"], key=lambda check: check[1])
        shown["best dev MRR"] = f"{best:.4f} after epoch {epoch}"
    if "split" in metrics:
        shown["split"] = ", ".join(f"{number:,} by {rule}" for rule, number in metrics["split"].items())
    if "ranking" in metrics:
        ranking = metrics["ranking"]
        for name, key in (("MRR", "mrr"), ("hits@10", "hits_at_10")):
            low, high = ranking["interval"][key]
            value, popular = ranking["both"][key], ranking["popularity"][key]
            shown[name] = f"{value:.4f} ({low:.4f} to {high:.4f}), by popularity alone {popular:.4f}"
        shown["ranked"] = f"{ranking['triples']:,} held-out triples, both sides"
    return shown


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
