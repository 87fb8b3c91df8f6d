"""Similarities of sentences."""

import numpy as np
import torch

from distill.meta.evaluate.pairs import similarities


def test_similarities_by_hand() -> None:
    axis = torch.eye(2)
    np.testing.assert_allclose(similarities([axis[:1] * 3], [axis[:1], -axis[:1], axis[1:]]), [[1, -1, 0]])
    # The first vector meets itself, the second only what is orthogonal to it: (1 + 0) / 2. Nothing is like a text without vectors.
    np.testing.assert_allclose(similarities([axis], [axis[:1], torch.zeros(0, 2)]), [[0.5, 0]])
