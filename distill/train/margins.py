r"""Self-distillation with adaptive relevance margins (arXiv 2407.21515): a student's own passage similarities as its teacher.

Shapes: B triples of a query, a relevant passage and another; D the size of their vectors, which have unit length.

With :math:`m_i = s(q_i, d^+_i) - s(q_i, d^-_i)` for cosines s, and :math:`g(x, y) = \frac12 s(x, y) + \frac12`, a margin is drawn to a
target: a constant, or the similarity of passages. The error of a difference x is :math:`x^2`, :math:`|x|` or :math:`\log(1 + e^{-x})`.

The released code (webis-de/adaptive-relevance-margin-loss) pairs, in the forms over a whole batch, rows with columns by broadcasting a
vector over a matrix. `alignment='code'` does as it does; `alignment='equation'` pairs row by row. They are named where they differ.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def error(difference: Float[Tensor, "*shape"], kind: str) -> Float[Tensor, "*shape"]:
    """Return the error of each difference: `squared`, `absolute` or `soft`.

    Example:
        >>> error(torch.tensor([0.5, -2.0]), "squared").tolist()
        [0.25, 4.0]
    """
    match kind:
        case "squared":
            return difference.square()
        case "absolute":
            return difference.abs()
        case "soft":
            return functional.softplus(-difference)
        case _:
            raise ValueError(f"no error is called {kind!r}")


def static_margin(
    queries: Float[Tensor, "B D"],
    positives: Float[Tensor, "B D"],
    negatives: Float[Tensor, "B D"],
    tau: float,
    *,
    in_batch: bool = False,
    kind: str = "squared",
    alignment: str = "code",
) -> Float[Tensor, ""]:
    r"""Return the error of every margin to :math:`\tau`: :math:`\mathrm{mean}_i\, err(m_i - \tau)`, or over all margins of the batch.

    Example:
        >>> queries, positives, negatives = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.0, 1.0]])  # B 1, D 2
        >>> round(static_margin(queries, positives, negatives, tau=0.3).item(), 4)  # (0.8 - 0 - 0.3)^2
        0.25
    """
    margins = (
        _batch_margins(queries, positives, negatives, alignment)
        if in_batch
        else _margins(queries, positives, negatives)
    )
    return error(margins - tau, kind).mean()


def adaptive_margin(
    queries: Float[Tensor, "B D"],
    positives: Float[Tensor, "B D"],
    negatives: Float[Tensor, "B D"],
    *,
    in_batch: bool = False,
    detach: bool = False,
    kind: str = "squared",
    alignment: str = "code",
) -> Float[Tensor, ""]:
    r"""Return the error of every margin to the similarity of its two passages: :math:`\mathrm{mean}_i\, err(m_i - g(d^+_i, d^-_i))`.

    In batch, :math:`\mathrm{mean}_{ij}\, err(M_{ij} - g(d^+_i, d^-_j))`; M is that of `static_margin`.

    Example:
        >>> queries, positives, negatives = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.0, 1.0]])  # B 1, D 2
        >>> round(adaptive_margin(queries, positives, negatives).item(), 4)  # (0.8 - 0 - (0.6 + 1) / 2)^2
        0.0
    """
    if in_batch:
        margins = _batch_margins(queries, positives, negatives, alignment)
        targets = _targets(positives @ negatives.T, detach)
    else:
        margins = _margins(queries, positives, negatives)
        targets = _targets((positives * negatives).sum(-1), detach)
    return error(margins - targets, kind).mean()


def distributed_margin(
    queries: Float[Tensor, "B D"],
    positives: Float[Tensor, "B D"],
    negatives: Float[Tensor, "B D"],
    *,
    detach: bool = False,
    kind: str = "squared",
    alignment: str = "code",
) -> Float[Tensor, ""]:
    r"""Return the error of every margin to the similarities of passages of all triples.

    As released, :math:`\mathrm{mean}_{ij}\, err(m_j - g(d^+_i, d^-_j))`: the margin of the triple that the negative belongs to. Row by row,
    :math:`\mathrm{mean}_{ij}\, err(m_i - g(d^+_i, d^-_j))`: the margin of the triple of the positive.

    Example:
        >>> queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # B 2, D 2
        >>> positives, negatives = torch.tensor([[0.8, 0.6], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> round(distributed_margin(queries, positives, negatives).item(), 4)
        0.075
    """
    margins = _margins(queries, positives, negatives)
    targets = _targets(positives @ negatives.T, detach)
    spread = margins[None, :] if alignment == "code" else margins[:, None]
    return error(spread - targets, kind).mean()


def _margins(
    queries: Float[Tensor, "B D"], positives: Float[Tensor, "B D"], negatives: Float[Tensor, "B D"]
) -> Float[Tensor, " B"]:
    return (queries * positives).sum(-1) - (queries * negatives).sum(-1)


def _batch_margins(
    queries: Float[Tensor, "B D"], positives: Float[Tensor, "B D"], negatives: Float[Tensor, "B D"], alignment: str
) -> Float[Tensor, "B B"]:
    r"""Margins to the negatives of all triples.

    As released, :math:`M_{ij} = s(q_j, d^+_j) - s(q_i, d^-_j)`, whose two terms have different queries; row by row,
    :math:`M_{ij} = s(q_i, d^+_i) - s(q_i, d^-_j)`.
    """
    own = (queries * positives).sum(-1)
    return (own[None, :] if alignment == "code" else own[:, None]) - queries @ negatives.T


def _targets(cosines: Float[Tensor, "*shape"], detach: bool) -> Float[Tensor, "*shape"]:
    targets = 0.5 * cosines + 0.5
    return targets.detach() if detach else targets
