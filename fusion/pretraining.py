"""Pretrain an encoder on raw text: adapt one to a domain, or begin from scratch; concepts come from a linker."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, tee
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fusion.knowledge import ConceptVectors
from kg import Linker
from lm.encoder import Encoder, resolve_device
from lm.pretraining import PretrainingNetwork, masked_losses, pack, sequences
from lm.tallies import Difference, Tally, compare, perplexity_tally
from lm.training import fit
from loaders.errors import MedgraftError
from loaders.folders import new_folder
from loaders.records import Document
from loaders.texts import read_texts


@dataclass(frozen=True)
class Pretrained:
    """What pretraining did: perplexity of masked pieces in held-out texts, before and after, by kind of text.

    `head` says where the output layer came from: "trained before" or "new", in which case the perplexity before is
    that of an untrained layer and says nothing of the encoder.
    """

    texts: int
    held_out: int
    sequences: int
    steps: int
    head: str
    perplexity: dict[str, Difference]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        width = max([4, *map(len, self.perplexity)])
        lines = [f"{'kind':{width}}  perplexity before     after  95 % interval of the change"]
        for kind, d in self.perplexity.items():
            lines.append(f"{kind:{width}}  {d.theirs:17.2f}  {d.ours:8.2f}  {d.low:+.2f} to {d.high:+.2f}")
        return "\n".join(
            [*lines, f"{self.texts} texts, {self.sequences} sequences, {self.steps} steps, head {self.head}"]
        )


def pretrain(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    encoder: str | Path | None = None,
    masking: str = "word",
    share: float = 0.15,
    next_segments: bool = False,
    linker: Linker | None = None,
    embeddings: ConceptVectors | None = None,
    vocabulary: int = 8000,
    hidden_size: int = 256,
    num_blocks: int = 4,
    frozen_blocks: int = 0,
    head_only: bool = False,
    epochs: int = 1,
    batch_size: int = 16,
    max_pieces: int = 128,
    learning_rate: float = 1e-4,
    holdout: float = 0.1,
    accumulation: int = 1,
    precision: str = "no",
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Pretrained:
    """Pretrain, and write a Hugging Face model folder that `fusion.train` takes as its encoder.

    Args:
        paths: files of text; see `loaders.read_texts`.
        out: folder for the encoder; an interrupted run with the same settings goes on where it stopped.
        encoder: to be adapted; None begins from scratch with a vocabulary trained on the texts.
        masking: "piece", "word", or "concept", which needs a linker.
        share: of the pieces that are masked.
        next_segments: predict, too, whether a sequence's second half follows its first.
        linker: finds the concepts whose mentions are masked as one, and which `embeddings` predicts.
        embeddings: of the same graph; adds the objective to tell a mention's concept from its pieces.
        vocabulary: word pieces, from scratch.
        hidden_size: width, from scratch.
        num_blocks: transformer blocks, from scratch.
        frozen_blocks: lowest blocks that are not trained.
        head_only: train the output layer alone; what adaptation has to be compared with where the layer is new.
        epochs: passes over the texts; masks differ in each.
        batch_size: sequences a step.
        max_pieces: length of a sequence.
        learning_rate: the highest; it rises over a tenth of the steps and then falls to zero.
        holdout: share of the texts that perplexity is measured on, chosen by a hash of the text.
        accumulation: batches a step.
        precision: "no", "bf16" or "fp16".
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        progress: show bars on stderr if it is a terminal.

    Raises:
        MedgraftError: no text on one of the sides, concepts without a linker, a text without any mention where
            concepts are asked for, embeddings of another graph, an encoder that cannot be used.
    """
    out = Path(out)
    if (masking == "concept" or embeddings is not None) and linker is None:
        raise MedgraftError("masking of concepts and their prediction need a linker; give one")
    if embeddings is not None and linker is not None and embeddings.fingerprint != linker.fingerprint:
        raise MedgraftError("embeddings and linker are of different graphs; make both from one")
    if not 0 < holdout < 1:
        raise MedgraftError(f"the share of held-out texts is between 0 and 1, not {holdout:g}")
    resolve_device(device)
    made = _encoder(encoder, paths, holdout, vocabulary, hidden_size, num_blocks, max_pieces, seed)
    vectors = None if embeddings is None else torch.from_numpy(embeddings.vectors.copy())
    rows = {} if embeddings is None else {id: row for row, id in enumerate(embeddings.ids)}
    network = PretrainingNetwork(made, share=share, next_segments=next_segments, concept_vectors=vectors, seed=seed)
    head = encoder is not None and Path(encoder).is_dir() and network.load_head(Path(encoder))
    made.freeze_blocks(made.num_blocks if head_only else frozen_blocks)
    if head_only:
        made.model.requires_grad_(False)
    settings = {
        "paths": [str(path) for path in paths], "encoder": str(encoder), "masking": masking, "share": share,
        "next segments": next_segments, "linker": linker.fingerprint if linker else None, "holdout": holdout,
        "concepts": embeddings is not None, "sequence": max_pieces, "frozen blocks": frozen_blocks,
        "head only": head_only, "epochs": epochs, "batch size": batch_size, "learning rate": learning_rate,
        "accumulation": accumulation, "precision": precision, "seed": seed,
        "shape": [made.num_blocks, made.hidden_size, len(made.tokenizer)],
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    work = out.parent / f".{out.name}.pretraining-{key}"
    options: dict[str, Any] = {"max_pieces": max_pieces, "masking": masking, "next_segments": next_segments}
    options |= {"concept_rows": rows, "seed": seed}
    linked = _Linked(linker)
    texts = linked(d for _, d in _side(paths, holdout, False))
    packed = pack(texts, made, folder=work / "texts", **options)
    if (masking == "concept" or embeddings is not None) and not linked.concepts:
        raise MedgraftError("the linker found no concept in any of the texts; use a graph that has their concepts")
    held = [(kind, document) for kind, document in _side(paths, holdout, True)]
    if not held:
        raise MedgraftError(f"no text was held out of {packed.read}; raise the share, or give more texts")
    by_kind = {
        kind: pack(linked(d for _, d in some), made, **options)
        for kind, some in groupby(sorted(held, key=lambda one: one[0]), key=lambda one: one[0])
    }
    network.to(resolve_device(device))
    before = {kind: masked_losses(network, some, seed=seed) for kind, some in by_kind.items()}
    examples, collate = sequences(packed, made)
    history = fit(
        network, examples, collate, epochs=epochs, batch_size=batch_size, learning_rates={"": learning_rate},
        accumulation=accumulation, precision=precision, seed=seed, device=device, folder=work / "checkpoints",
        progress=progress,
    )  # fmt: skip
    after = {kind: masked_losses(network, some, seed=seed) for kind, some in by_kind.items()}
    changes = {kind: _change(after[kind], before[kind]) for kind in by_kind}
    report = Pretrained(
        packed.read, len(held), len(packed), history.steps, "trained before" if head else "new", changes
    )
    with new_folder(out) as aside:
        made.save(aside)
        own = {n: t.contiguous() for n, t in network.state_dict().items() if not n.startswith("encoder.")}
        save_file(own, aside / "pretraining.safetensors")
        (aside / "pretraining.json").write_text(
            json.dumps({"settings": settings, "report": report.as_dict()}, indent=2, ensure_ascii=False) + "\n"
        )
    shutil.rmtree(work, ignore_errors=True)
    return report


def _encoder(
    encoder: str | Path | None, paths: Sequence[str | Path], holdout: float, vocabulary: int, hidden_size: int,
    num_blocks: int, max_pieces: int, seed: int,
) -> Encoder:  # fmt: skip
    if encoder is not None:
        return Encoder.load(encoder)
    texts = (document.text for _, document in _side(paths, holdout, False))
    heads = next(n for n in (12, 8, 4, 2, 1) if hidden_size % n == 0 and hidden_size // n >= 8 or n == 1)
    return Encoder.new(
        texts, vocabulary=vocabulary, hidden_size=hidden_size, num_blocks=num_blocks, num_heads=heads,
        max_pieces=max(max_pieces, 512), seed=seed,
    )  # fmt: skip


def _side(paths: Sequence[str | Path], holdout: float, held_out: bool) -> Iterator[tuple[str, Document]]:
    """The texts of one side; equal texts are on the same side."""
    for kind, document in read_texts(paths):
        digest = hashlib.sha256(document.text.encode("utf-8", "replace")).digest()
        if (int.from_bytes(digest[:8], "big") / 2**64 < holdout) == held_out:
            yield kind, document


class _Linked:
    """Texts with the linker's mentions in the place of their own, and how many concepts it found."""

    def __init__(self, linker: Linker | None) -> None:
        self.linker, self.concepts = linker, 0

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        if self.linker is None:
            yield from (replace(document, mentions=()) for document in documents)
            return
        one, other = tee(documents)
        for document, found in zip(one, self.linker.pipe(d.text for d in other), strict=True):
            self.concepts += sum(m.concept_id is not None for m in found.mentions)
            yield replace(document, mentions=found.mentions)


def _change(after: Any, before: Any) -> Difference:
    """Perplexity after against before, over the sequences."""
    tallies: list[Tally] = [perplexity_tally(*losses) for losses in (after, before)]
    return compare(*tallies, draws=2000)["perplexity"]
