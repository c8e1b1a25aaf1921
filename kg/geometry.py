"""The four models as geometry: where an answer is expected, and how near a concept is to that place.

With e for vectors of concepts, r for those of relations, and complex numbers stored as (real, imaginary) pairs:

| model | the tail is expected at | the head is expected at | score of a concept c at the place x |
|---|---|---|---|
| TransE (Bordes et al., 2013) | e_h + r | e_t - r | -‖x - c‖, L1 or L2 |
| RotatE (Sun et al., 2019) | e_h · r, each r of modulus 1 | e_t · conj(r) | -‖x - c‖, L2 |
| DistMult (Yang et al., 2015) | e_h · r | e_t · r | ⟨x, c⟩ |
| ComplEx (Trouillon et al., 2016) | e_h · r | e_t · conj(r) | ⟨x, c⟩ over the pairs |

Scores are those of PyKEEN's interactions of the same names; a test compares them.
"""

from typing import Literal

import torch

MODELS = ("TransE", "RotatE", "DistMult", "ComplEx")
COMPLEX = ("RotatE", "ComplEx")
DISTANCES = ("TransE", "RotatE")
Side = Literal["head", "tail"]


def width_of(model: str, dim: int) -> int:
    """Numbers a vector: a complex dimension takes two."""
    return 2 * dim if model in COMPLEX else dim


def expected(model: str, side: Side, given: torch.Tensor, relation: torch.Tensor) -> torch.Tensor:
    """Where the answers to questions are expected.

    Args:
        model: one of `MODELS`.
        side: what is asked for; the vectors of the other side are given.
        given: shape (..., width).
        relation: shape (..., width).
    """
    if model == "TransE":
        return given + relation if side == "tail" else given - relation
    if model == "DistMult":
        return given * relation
    a, b = given.unflatten(-1, (-1, 2)).unbind(-1)
    c, d = relation.unflatten(-1, (-1, 2)).unbind(-1)
    if side == "head":
        d = -d
    return torch.stack([a * c - b * d, a * d + b * c], dim=-1).flatten(-2)


def scores_of_pairs(model: str, p: int, places: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
    """Score of each place against its own concept: shapes (..., width) to (...)."""
    if model in DISTANCES and p == 1:  # twice as fast as `vector_norm`
        return -(places - concepts).abs().sum(-1)
    if model in DISTANCES:
        return -torch.linalg.vector_norm(places - concepts, ord=p, dim=-1)
    return (places * concepts).sum(-1)


def scores_of_all(
    model: str, p: int, places: torch.Tensor, concepts: torch.Tensor, exact: bool = False
) -> torch.Tensor:
    """Score of each place against every concept: shapes (..., n, width) and (..., m, width) to (..., n, m).

    `exact` subtracts before it squares. The faster way to Euclidean distances, by a matrix product, loses digits, and
    with them ties: good enough to train with.
    """
    if model not in DISTANCES:
        return places @ concepts.transpose(-1, -2)
    how = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist_if_necessary"
    return -torch.cdist(places, concepts, p=float(p), compute_mode=how)
