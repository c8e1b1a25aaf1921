"""Vectors for what an update of the graph brings, in the space of the vectors that are there.

Two ways. `extend_embeddings` keeps every old row bit for bit and places each new concept by its facts: at the mean of
the places where its neighbours expect it, and from there a few steps of gradient descent on its own facts, everything
old held fast. `align` is for a full retraining: the new space is turned onto the old one by the orthogonal matrix that
brings the concepts of both nearest (Procrustes; Schönemann, 1966).

Such a turn leaves TransE's L2 distances as they are. It would change TransE's L1 distances, and for RotatE, DistMult
and ComplEx, whose relations act on each dimension for itself, the scores; for these alignment is refused.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from kg.geometry import Side, expected, scores_of_all, scores_of_pairs
from kg.triples import Rows, TripleGraph, integer_triples, read_integer_graph
from kg.vectors import Embeddings, Vectors
from loaders.errors import MedgraftError

_STEPS, _RATE, _NEGATIVES = 30, 0.05, 64


def extend_embeddings(
    embeddings: Embeddings, graph: TripleGraph, *, triples: pa.Table | None = None, seed: int = 0
) -> Embeddings:
    """Embeddings for an updated graph without training again: the rows of old concepts are bit-identical.

    New concepts are placed in rounds: first those with facts about old concepts, then those with facts about these. A
    new concept without any such fact lies at the mean of all vectors. Concepts that the graph no longer has are left
    out.

    Args:
        embeddings: of the graph before the update.
        graph: after it.
        triples: place new concepts by these triples only; all of the graph if None.
        seed: of the wrong answers that the last steps move away from.
    """
    whole = read_integer_graph(graph)
    ids = whole.ids
    named = whole.relations if triples is None else pc.unique(triples["relation"]).to_pylist()
    unknown = sorted(set(named) - set(embeddings.relations))
    if unknown:
        raise MedgraftError(
            f"the graph has relations that the embeddings were not trained on, {', '.join(unknown[:5])}; train them "
            "again, with align_to=the old embeddings to stay in their space"
        )
    if triples is None:
        rows = whole.rows
        rows[:, 1] = np.array([embeddings.relation_to_row[name] for name in whole.relations], np.int64)[rows[:, 1]]
    else:
        rows = integer_triples(triples, ids, embeddings.relations)
    old = np.array([embeddings.id_to_row.get(concept_id, -1) for concept_id in ids])
    vectors = np.where(old[:, None] >= 0, embeddings.vectors[old], 0).astype(np.float32)
    placed = old >= 0
    new = ~placed
    while _place(embeddings, rows, vectors, placed):
        pass
    vectors[~placed] = embeddings.vectors.mean(axis=0)
    touching = rows[new[rows[:, 0]] | new[rows[:, 2]]]
    if len(touching):
        _settle(embeddings, touching, vectors, new, seed)
    return replace(
        embeddings,
        ids=ids,
        vectors=vectors,
        fingerprint=graph.fingerprint,
        settings=embeddings.settings | {"extended_from": embeddings.fingerprint, "new_concepts": int(new.sum())},
    )


def _place(embeddings: Embeddings, rows: Rows, vectors: Vectors, placed: NDArray[np.bool_]) -> bool:
    """Place the concepts that have a fact with a placed one at the mean of where these expect them; False if none."""
    width = vectors.shape[1]
    sums, counts = np.zeros((len(vectors), width)), np.zeros(len(vectors), dtype=np.int64)
    questions: tuple[tuple[Side, int, int], ...] = (("tail", 0, 2), ("head", 2, 0))
    for side, given, answer in questions:
        facts = rows[placed[rows[:, given]] & ~placed[rows[:, answer]]]
        relation = torch.from_numpy(embeddings.relation_vectors[facts[:, 1]])
        places = expected(embeddings.model, side, torch.from_numpy(vectors[facts[:, given]]), relation).numpy()
        np.add.at(sums, facts[:, answer], places)
        np.add.at(counts, facts[:, answer], 1)
    found = counts > 0
    vectors[found] = (sums[found] / counts[found, None]).astype(np.float32)
    placed |= found
    return bool(found.any())


def _settle(embeddings: Embeddings, rows: Rows, vectors: Vectors, new: NDArray[np.bool_], seed: int) -> None:
    """A few steps of gradient descent on the facts of new concepts; only their vectors move (in place)."""
    generator = torch.Generator().manual_seed(seed)
    model, p = embeddings.model, embeddings.p
    heads, relations, tails = (torch.from_numpy(column.copy()) for column in rows.T)
    shift = torch.from_numpy(embeddings.relation_vectors)[relations]
    fixed, movable = torch.from_numpy(vectors), torch.from_numpy(np.flatnonzero(new))
    place = torch.zeros(len(vectors), dtype=torch.int64)
    place[movable] = torch.arange(len(movable))
    moving = fixed[movable].clone().requires_grad_()
    optimizer = torch.optim.Adagrad([moving], lr=_RATE)
    is_new = torch.from_numpy(new)

    def current(concepts: torch.Tensor) -> torch.Tensor:
        return torch.where(is_new[concepts][:, None], moving[place[concepts]], fixed[concepts])

    for _ in range(_STEPS):
        wrong = fixed[torch.randint(len(vectors), (_NEGATIVES,), generator=generator)]
        h, t = current(heads), current(tails)
        as_tail, as_head = expected(model, "tail", h, shift), expected(model, "head", t, shift)
        right = scores_of_pairs(model, p, as_tail, t)[:, None]
        others = torch.cat([scores_of_all(model, p, side, wrong) for side in (as_tail, as_head)], dim=1)
        loss = torch.relu(1 + others - right).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vectors[new] = moving.detach().numpy()


def align(embeddings: Embeddings, old: Embeddings) -> Embeddings:
    """Turn embeddings onto the space of older ones, by the concepts that both have; scores stay what they are.

    Raises:
        MedgraftError: for models whose scores would change, different lengths, or no concept in common.
    """
    if (embeddings.model, embeddings.p, old.model, old.p) != ("TransE", 2, "TransE", 2):
        raise MedgraftError(
            f"only TransE with the L2 norm can be turned onto another space without changing its scores, not "
            f"{embeddings.model} (L{embeddings.p}) onto {old.model} (L{old.p}); train without align_to"
        )
    common = [concept_id for concept_id in embeddings.ids if concept_id in old]
    if embeddings.dim != old.dim or not common:
        raise MedgraftError(
            f"cannot align {embeddings.dim} dimensions to {old.dim} by {len(common)} concepts in common; train with "
            f"dim={old.dim} on a graph with concepts of the old one"
        )
    mine = embeddings.vectors[[embeddings.id_to_row[c] for c in common]].astype(np.float64)
    theirs = old.vectors[[old.id_to_row[c] for c in common]].astype(np.float64)
    # Translation of all concepts leaves h + r - t alone, so the means are matched too; relations are only turned.
    center, aim = mine.mean(axis=0), theirs.mean(axis=0)
    left, _, right = np.linalg.svd((mine - center).T @ (theirs - aim))
    turn = left @ right
    vectors = ((embeddings.vectors - center) @ turn + aim).astype(np.float32)
    relation_vectors = (embeddings.relation_vectors.astype(np.float64) @ turn).astype(np.float32)
    settings = embeddings.settings | {"aligned_to": old.fingerprint}
    return replace(embeddings, vectors=vectors, relation_vectors=relation_vectors, settings=settings)
