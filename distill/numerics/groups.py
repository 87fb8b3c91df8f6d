"""Scores of documents that consist of passages: a document has the score of its best passage (MaxP; Dai and Callan, arXiv 1905.09217).

Shapes: Q queries, N passages, G documents, K documents asked for.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.numerics.best import top_k

Key = TypeVar("Key", bound=Hashable)


class Groups(Generic[Key]):
    """Passages by the document that they are of.

    Documents are numbered by their first passages, and that number decides between equal scores.

    Args:
        keys: the document of each passage.

    Attributes:
        keys: the documents, in the order of their numbers.
        of: the number of each passage's document.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        numbers: dict[Key, int] = {}
        of = [numbers.setdefault(key, len(numbers)) for key in keys]
        self.keys = list(numbers)
        self.of: Int[Tensor, " N"] = torch.tensor(of, dtype=torch.long)

    def __len__(self) -> int:
        """Return G, the number of documents."""
        return len(self.keys)

    @property
    def are_single(self) -> bool:
        """Whether every document is one passage, so that nothing is to be joined."""
        return len(self.keys) == len(self.of)

    def scores(self, scores: Float[Tensor, "Q N"]) -> Float[Tensor, "Q G"]:
        """Return the score of every document, that of its best passage. A NaN makes its document's score NaN."""
        if self.are_single:
            return scores
        of = self.of.to(scores.device).expand(len(scores), -1)
        best = torch.full((len(scores), len(self.keys)), -torch.inf, dtype=scores.dtype, device=scores.device)
        return best.scatter_reduce(1, of, scores, "amax")

    def top_k(self, scores: Float[Tensor, "Q N"], k: int) -> tuple[Float[Tensor, "Q K"], Int[Tensor, "Q K"]]:
        """Return the scores and numbers of each query's k best documents, best first, equal scores by number.

        Documents are joined before the list is cut, so there are k of them unless fewer exist. A NaN is a `ValueError`.
        """
        return top_k(self.scores(scores), k)

    def best_passages(
        self, scores: Float[Tensor, "Q N"], values: Float[Tensor, "Q K"], documents: Int[Tensor, "Q K"]
    ) -> Int[Tensor, "Q K"]:
        """Return the position of the best passage of some documents, the first of equals.

        Args:
            scores: of all passages.
            values: the documents' own scores.
            documents: their numbers.
        """
        if self.are_single:
            return documents
        of = self.of.to(scores.device)
        found = torch.empty_like(documents)
        for row, (own, wanted) in enumerate(zip(values, documents, strict=True)):
            bounds = torch.full((len(self.keys),), torch.nan, dtype=scores.dtype, device=scores.device)
            bounds[wanted] = own
            (positions,) = (scores[row] == bounds[of]).nonzero(as_tuple=True)
            first = torch.full((len(self.keys),), len(of), device=scores.device)
            first.scatter_reduce_(0, of[positions], positions, "amin")
            found[row] = first[wanted]
        return found
