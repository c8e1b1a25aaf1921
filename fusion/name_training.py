"""Train an encoder on the synonyms of a graph, so that what means the same lies close: `medgraft train-names`."""

import hashlib
import json
import random
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.alias_table import alias_table, select_concepts
from kg.matching import alias_codes
from kg.nearest import NearestIndex
from lm.encoder import Encoder, resolve_device
from lm.names import NameNetwork, NamePairs, collate_names, name_pieces
from lm.training import fit
from lm.vectors import fast_precision, text_vectors
from loaders.errors import MedgraftError
from loaders.folders import new_folder

COMPARED = 10_000  # names among which the held-out ones are looked for


@dataclass(frozen=True)
class TrainedNames:
    """What training on names did; recall: the share of held-out names whose nearest other name is of their concept.

    Attributes:
        concepts: With names of more than one wording.
        names: Wordings of these concepts, held-out ones included.
        pairs: That were trained on.
        held_out: Names that no pair has.
        compared: Names among which the held-out ones were looked for.
        before: Recall at 1 and at 5 before training.
        after: Likewise, after it.
        steps: Of the optimiser.
    """

    concepts: int
    names: int
    pairs: int
    held_out: int
    compared: int
    before: dict[str, float]
    after: dict[str, float]
    steps: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        recall = ", ".join(f"recall{at} {self.before[at]:.3f} before, {self.after[at]:.3f} after" for at in self.before)
        return (
            f"{self.pairs:,} pairs of {self.names:,} names of {self.concepts:,} concepts, {self.steps:,} steps\n"
            f"{self.held_out:,} held-out names among {self.compared:,}: {recall}"
        )


@dataclass(frozen=True)
class Synonyms:
    """Names of concepts, by concept: `texts` (N,), `concepts` (N,) rows, `held_out` (N,) whether no pair has it."""

    texts: list[str]
    concepts: NDArray[np.int32]
    held_out: NDArray[np.bool_]


def train_names(
    graph: Any,
    out: str | Path,
    *,
    encoder: str | Path,
    types: Collection[str] | None = None,
    languages: Collection[str] | None = ("en",),
    keep: Collection[str] | None = None,
    pairs: int = 10,
    epochs: int = 1,
    batch_size: int = 128,
    max_pieces: int = 25,
    frozen_blocks: int = 0,
    learning_rate: float = 1e-4,
    holdout: float = 0.02,
    precision: str = "auto",
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> TrainedNames:
    """Train on pairs of names of one concept, and write a Hugging Face model folder for `fusion.NameVectors`.

    Names that are the same to the linker's dictionary (case, plural, order of words) count as one, and a name that
    several concepts share is left out. The loss is SapBERT's; see `lm.names`.

    Args:
        graph: as for `kg.Linker.build`.
        out: folder for the encoder; an interrupted run with the same settings goes on where it stopped.
        encoder: Hugging Face model folder, or name in the local cache; a sentence encoder is a good start.
        types: only concepts with one of these semantic types; None for all.
        languages: only names in these; None for all.
        keep: only concepts with these ids; None for all.
        pairs: of a concept at most, drawn at random.
        epochs: passes over the pairs.
        batch_size: pairs a step; all their names are compared with one another.
        max_pieces: of a name that are read.
        frozen_blocks: lowest blocks that are not trained; half of them save nearly half of the time.
        learning_rate: the highest; it rises over a tenth of the steps and then falls to zero.
        holdout: share of the names that recall is measured on, chosen by a hash of the name.
        precision: "no", "bf16", "fp16", or "auto" for bf16 where the device has matrix units for it.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        progress: show bars on stderr if it is a terminal.

    Raises:
        MedgraftError: no concept has two names, no name was held out, an encoder that cannot be used.
    """
    if not 0 < holdout < 1:
        raise MedgraftError(f"the share of held-out names is between 0 and 1, not {holdout:g}")
    out, place = Path(out), resolve_device(device)
    network = NameNetwork(Encoder.load(encoder).to(place))
    network.encoder.freeze_blocks(frozen_blocks)
    computed = fast_precision(place) if precision == "auto" else precision
    known = synonyms(graph, types=types, languages=languages, keep=keep, holdout=holdout)
    chosen = _pairs(known, pairs, seed)
    compared = _compared(known, seed)
    settings = {
        "graph": graph.fingerprint, "encoder": str(encoder), "types": None if types is None else sorted(types),
        "languages": None if languages is None else sorted(languages),
        "keep": None if keep is None else _digest(sorted(keep)), "pairs": pairs, "epochs": epochs,
        "batch size": batch_size, "pieces": max_pieces, "frozen blocks": frozen_blocks,
        "learning rate": learning_rate, "holdout": holdout,
        "precision": computed, "seed": seed,
    }  # fmt: skip
    key = _digest(settings)
    work = out.parent / f".{out.name}.names-{key}"
    options: dict[str, Any] = {"max_pieces": max_pieces, "precision": "no" if computed == "fp16" else computed}
    before = _recall(known, compared, network.encoder, **options)
    history = fit(
        network, NamePairs(name_pieces(known.texts, network.encoder, max_pieces), chosen, known.concepts[chosen[:, 0]]),
        lambda group: collate_names(group, network.encoder), epochs=epochs, batch_size=batch_size,
        learning_rates={"": learning_rate}, precision=computed, seed=seed, device=device, folder=work,
        progress=progress,
    )  # fmt: skip
    after = _recall(known, compared, network.encoder, **options)
    report = TrainedNames(
        len(np.unique(known.concepts)), len(known.texts), len(chosen), int(known.held_out.sum()),
        len(compared), before, after, history.steps,
    )  # fmt: skip
    with new_folder(out) as aside:
        network.encoder.save(aside)
        (aside / "names.json").write_text(
            json.dumps({"settings": settings, "report": report.as_dict()}, indent=2, ensure_ascii=False) + "\n"
        )
    shutil.rmtree(work, ignore_errors=True)
    return report


def synonyms(
    graph: Any,
    *,
    types: Collection[str] | None,
    languages: Collection[str] | None,
    keep: Collection[str] | None,
    holdout: float,
) -> Synonyms:
    """The wordings of each concept that has several, one name for each, by concept.

    Raises:
        MedgraftError: there is none, or none to hold out.
    """
    concepts = select_concepts(graph.table("concepts"), types, keep)
    aliases, _ = alias_table(graph.table("names"), concepts, languages, {})
    wordings = [(concept, _wordings(group)) for concept, group in groupby(_keyed(aliases), key=lambda row: row[0])]
    owners: dict[int, int] = {}  # of each key: its concept, -1 where there are several
    for concept, of in wordings:
        for name in of:
            owners[name] = concept if owners.get(name, concept) == concept else -1
    texts: list[str] = []
    rows: list[int] = []
    held: list[bool] = []
    for concept, of in wordings:
        own = [name for key, name in of.items() if owners[key] != -1]
        if len(own) < 2:
            continue
        out = [_share(name) < holdout for name in own]
        if all(out):  # one has to stay, to be found
            out[0] = False
        texts += [name.casefold() for name in own]  # as the linker has its spellings
        rows += [concept] * len(own)
        held += out
    if not texts or not any(held):
        raise MedgraftError(
            f"{len(set(rows)):,} concepts have names of several wordings, {sum(held):,} of which are held out; "
            "check types and languages against the graph, or raise the held-out share"
        )
    return Synonyms(texts, np.array(rows, np.int32), np.array(held, bool))


def _keyed(aliases: pa.Table) -> Iterator[tuple[int, int, str]]:
    """Concept, key and text of each name, the preferred name of a concept first."""
    for batch in aliases.select(["concept", "alias", "case_sensitive"]).to_batches(max_chunksize=65_536):
        for concept, alias, sensitive in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield concept, sum(alias_codes(alias, sensitive)), alias


def _wordings(group: Iterator[tuple[int, int, str]]) -> dict[int, str]:
    """By key the name that says it; one without a comma rather than an inverted one ("failure, heart")."""
    found: dict[int, str] = {}
    for _, key, name in group:
        if key not in found or ("," in found[key] and "," not in name):
            found[key] = name
    return found


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _share(name: str) -> float:
    """A number in [0, 1) that only the name decides."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "big") / 2**64


def _pairs(known: Synonyms, most: int, seed: int) -> NDArray[np.int64]:
    """(P, 2) rows of names of one concept, at most `most` a concept, none held out."""
    rng = random.Random(seed)
    kept = np.flatnonzero(~known.held_out)
    made: list[tuple[int, int]] = []
    for _, group in groupby(kept.tolist(), key=lambda row: int(known.concepts[row])):
        every = list(combinations(group, 2))
        made += every if len(every) <= most else rng.sample(every, most)
    if not made:
        raise MedgraftError("no concept has two names that are not held out; lower the held-out share")
    return np.array(made, np.int64)


def _compared(known: Synonyms, seed: int) -> NDArray[np.int64]:
    """The names among which held-out ones are looked for: those of their concepts, and others at random."""
    wanted = np.isin(known.concepts, known.concepts[known.held_out]) & ~known.held_out
    own, others = np.flatnonzero(wanted), np.flatnonzero(~wanted & ~known.held_out)
    more = np.random.default_rng(seed).permutation(others)[: max(0, COMPARED - len(own))]
    return np.sort(np.concatenate([own, more]))


def _recall(known: Synonyms, compared: NDArray[np.int64], encoder: Encoder, **options: Any) -> dict[str, float]:
    asked = np.flatnonzero(known.held_out)
    index = NearestIndex(_vectors(encoder, known.texts, compared, **options), approximate=False)
    rows, _ = index.search(_vectors(encoder, known.texts, asked, **options), 5)
    right = known.concepts[compared][rows] == known.concepts[asked][:, None]
    return {f"@{k}": float(right[:, :k].any(axis=1).mean()) for k in (1, 5)}


def _vectors(encoder: Encoder, texts: Sequence[str], rows: NDArray[np.int64], **options: Any) -> NDArray[np.float32]:
    return text_vectors(encoder, [texts[row] for row in rows], **options)
