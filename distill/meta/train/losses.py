"""Losses of a set of a meta-task: triplets of a question and two candidates, or sentence pairs with graded scores.

Shapes: N triplets or pairs, V and W vectors of a text (1 for a single-vector encoder), D the vectors' size. Vectors that take no part in a
score are zero.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

_NEAREST = 1e-6
"""The smallest distance of texts with several vectors: at 0 the root has no gradient."""


def similarities(
    first: Float[Tensor, "N V D"],
    second: Float[Tensor, "N W D"],
    first_keep: Bool[Tensor, "N V"],
    second_keep: Bool[Tensor, "N W"],
) -> Float[Tensor, " N"]:
    """Return the similarity of the texts of each pair, from -1 to 1.

    Of single vectors it is the cosine; of several the mean over the first text's vectors of the largest cosine with one of the second's,
    which is MaxSim (ColBERT, arXiv 2004.12832) divided by the number of vectors.
    """
    first, second = functional.normalize(first, dim=-1), functional.normalize(second, dim=-1)
    cosines = torch.einsum("nvd,nwd->nvw", first, second)
    best = cosines.masked_fill(~second_keep.unsqueeze(1), -torch.inf).amax(dim=-1)
    counts = first_keep.sum(dim=1)
    return torch.where(first_keep, best, 0.0).sum(dim=1) / counts


def distances(
    first: Float[Tensor, "N V D"],
    second: Float[Tensor, "N W D"],
    first_keep: Bool[Tensor, "N V"],
    second_keep: Bool[Tensor, "N W"],
) -> Float[Tensor, " N"]:
    """Return Euclidean distances of single vectors of unit length; of texts with several vectors sqrt(2 - 2s), s being their similarity.

    For unit vectors the two are one formula. As in torch's triplet loss, 1e-6 is added to each coordinate's difference.
    """
    if first.shape[1] == second.shape[1] == 1:
        return functional.pairwise_distance(
            functional.normalize(first[:, 0], dim=-1), functional.normalize(second[:, 0], dim=-1), p=2
        )
    alike = similarities(first, second, first_keep, second_keep)
    return (2 - 2 * alike).clamp(min=_NEAREST**2).sqrt()


def triplet_loss(positive: Float[Tensor, " N"], negative: Float[Tensor, " N"], margin: float) -> Float[Tensor, ""]:
    """Return the mean of max(0, d+ - d- + margin), of a question's distances to a candidate that answers it and to one that does not."""
    return (positive - negative + margin).clamp(min=0).mean()


def similarity_loss(alike: Float[Tensor, " N"], scores: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the mean squared difference of similarities and graded scores from 0 to 1."""
    return functional.mse_loss(alike, scores)
