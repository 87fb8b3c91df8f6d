import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distill.train.batches import Chunks, TrainingBatch
from distill.train.loss_settings import (
    CrossEntropyLoss,
    InfoNceLoss,
    KlLoss,
    LanguageLoss,
    LossSettings,
    MarginMseLoss,
    RelevanceMarginLoss,
    SumLoss,
)
from distill.train.losses import (
    cross_entropy,
    info_nce,
    kl_divergence,
    language_divergence,
    margin_mse,
    reverse_kl_divergence,
)
from distill.train.margins import adaptive_margin, distributed_margin, static_margin
from distill.train.objective import LossError, Objective, Vectors, same

NOTHING = Chunks((), torch.zeros(0, dtype=torch.long), 0)


def single_vectors(n_way: int = 3) -> Vectors:
    """Four queries, of which the last two are one query in two languages, and six passages; passages 4 and 5 are one passage."""
    torch.manual_seed(0)
    queries, passages = (functional.normalize(torch.randn(count, 1, 8), dim=-1) for count in (4, 6))
    places = torch.tensor([[0, 1, 2], [1, 2, 3], [4, 0, 1], [5, 0, 1]])[:, :n_way]
    batch = TrainingBatch(
        NOTHING, NOTHING, places, torch.randn(4, n_way), torch.tensor([[1, 0], [2, 1], [3, 2], [3, 3]]),
        torch.tensor([10, 11, 12, 13, 14, 14])[:, None], torch.arange(6), torch.tensor([[0, 1], [2, 3]]),
    )  # fmt: skip
    return Vectors(queries, passages, torch.ones(6, 1, dtype=torch.bool), batch)


def dot(vectors: Vectors) -> Tensor:
    return vectors.queries[:, 0] @ vectors.passages[:, 0].T


def total(loss: LossSettings, vectors: Vectors, sizes: tuple[int, ...] = ()) -> float:
    return sum(value.item() for value in Objective(loss, sizes)(vectors).values())


def test_each_loss_is_its_function_of_the_scores() -> None:
    vectors = single_vectors()
    scores, teacher = dot(vectors).gather(1, vectors.batch.positions), vectors.batch.teacher
    kl = KlLoss(teacher_scale=2, student_scale=0.5)
    assert total(kl, vectors) == pytest.approx(kl_divergence(scores, teacher, 0.5, 2.0).item(), rel=1e-5)
    reverse = KlLoss(direction="student_teacher", student_scale=2)
    assert total(reverse, vectors) == pytest.approx(reverse_kl_divergence(scores, teacher, 2.0).item(), rel=1e-5)
    mse = MarginMseLoss(teacher_scale=0.5, pairs="all")
    assert total(mse, vectors) == pytest.approx(margin_mse(scores, 0.5 * teacher, "all").item(), rel=1e-5)
    assert total(CrossEntropyLoss(scale=20), vectors) == pytest.approx(cross_entropy(scores, 20.0).item(), rel=1e-5)


def test_other_languages_of_a_positive_are_no_negatives() -> None:
    vectors = single_vectors()
    negatives = torch.ones(4, 6, dtype=torch.bool)
    negatives[0, 0] = negatives[1, 1] = False
    negatives[2:, 4:] = False  # both versions of the positive, for both versions of the query
    expected = info_nce(dot(vectors), torch.tensor([0, 1, 4, 5]), negatives, 20.0)
    assert total(InfoNceLoss(scale=20), vectors) == pytest.approx(expected.item(), rel=1e-5)


def info_nce_of(vectors: Vectors, positives: list[int], negatives: list[list[int]]) -> float:
    """Return InfoNCE where each query's negatives are the columns named."""
    mask = torch.zeros(len(positives), len(vectors.passages), dtype=torch.bool)
    for row, columns in enumerate(negatives):
        mask[row, columns] = True
    return info_nce(dot(vectors), torch.tensor(positives), mask).item()


def test_a_text_under_two_ids_is_one_passage() -> None:
    """Passage 0 has the ids 10 and 14, so passages 4 and 5 are other versions of it; 3 has the text of 2 and is no second negative."""
    vectors = single_vectors()
    keys = torch.tensor([[10, 14], [11, 11], [12, 12], [13, 13], [14, 14], [14, 14]])
    texts = torch.tensor([0, 1, 2, 2, 4, 5])
    vectors.batch = vectors.batch._replace(passage_keys=keys, text_keys=texts)
    expected = info_nce_of(vectors, [0, 1, 4, 5], [[1, 2], [0, 2, 4, 5], [1, 2], [1, 2]])
    assert total(InfoNceLoss(), vectors) == pytest.approx(expected, rel=1e-6)


def test_queries_of_one_text_have_each_others_positives() -> None:
    """The first two queries have one text under two ids."""
    vectors = single_vectors()
    vectors.batch = vectors.batch._replace(query_keys=torch.tensor([[1, 0], [2, 0], [3, 2], [3, 3]]))
    rest = [2, 3, 4, 5]
    expected = info_nce_of(vectors, [0, 1, 4, 5], [rest, rest, [0, 1, 2, 3], [0, 1, 2, 3]])
    assert total(InfoNceLoss(), vectors) == pytest.approx(expected, rel=1e-6)


def test_what_shares_a_key_is_one_however_many_steps_apart() -> None:
    texts, ids = torch.tensor([[5], [6], [6], [7], [8]]), torch.tensor([[1, 1], [1, 2], [3, 4], [4, 4], [9, 9]])
    assert same([texts, ids]).tolist() == [0, 0, 0, 0, 4]
    assert same([ids]).tolist() == [0, 0, 2, 2, 4]


def test_losses_count_their_terms() -> None:
    vectors = single_vectors()
    teacher = torch.tensor([[1.0, 2.0, math.nan], [1.0, 2.0, 3.0], [math.nan, 1.0, 2.0], [1.0, 1.0, 1.0]])
    vectors.batch = vectors.batch._replace(teacher=teacher)
    losses = SumLoss(losses=(KlLoss(), MarginMseLoss(), MarginMseLoss(pairs="all"), CrossEntropyLoss()))
    assert Objective(losses).terms(vectors.batch) == [None, 5, 8, None]


def test_each_summand_has_its_factor() -> None:
    vectors = single_vectors()
    parts = Objective(SumLoss(losses=(KlLoss(weight=2), MarginMseLoss())), (4, 8))(vectors, [3.0, 0.5])
    assert parts["kl"].item() == pytest.approx(6 * total(KlLoss(), vectors, (4, 8)), rel=1e-6)
    assert parts["margin_mse"].item() == pytest.approx(0.5 * total(MarginMseLoss(), vectors, (4, 8)), rel=1e-6)


def test_a_sum_is_weighted_and_names_its_parts() -> None:
    vectors = single_vectors()
    parts = Objective(SumLoss(losses=(KlLoss(weight=2), CrossEntropyLoss(weight=0.5))))(vectors)
    assert parts["kl"].item() == pytest.approx(2 * total(KlLoss(), vectors), rel=1e-6)
    assert parts["cross_entropy"].item() == pytest.approx(0.5 * total(CrossEntropyLoss(), vectors), rel=1e-6)


def test_two_losses_of_one_kind_are_added() -> None:
    vectors = single_vectors()
    twice = Objective(SumLoss(losses=(KlLoss(), KlLoss(direction="student_teacher"))))(vectors)
    assert twice["kl"].item() == pytest.approx(
        total(KlLoss(), vectors) + total(KlLoss(direction="student_teacher"), vectors), rel=1e-6
    )


def test_matryoshka_is_the_mean_over_cut_and_normalised_vectors() -> None:
    vectors = single_vectors()
    losses = []
    for size in (2, 8):
        queries, passages = (
            functional.normalize(part[:, 0, :size], dim=-1) for part in (vectors.queries, vectors.passages)
        )
        scores = (queries @ passages.T).gather(1, vectors.batch.positions)
        losses.append(kl_divergence(scores, vectors.batch.teacher).item())
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)
    assert total(KlLoss(), vectors, (2, 8)) == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_languages_are_compared_by_entry() -> None:
    vectors = single_vectors()
    scores = dot(vectors).gather(1, vectors.batch.positions)
    expected = language_divergence(scores[torch.tensor([[0, 1], [2, 3]])]).item()
    parts = Objective(SumLoss(losses=(KlLoss(), LanguageLoss(weight=3))))(vectors)
    assert parts["language"].item() == pytest.approx(3 * expected, rel=1e-5)


def test_a_language_loss_without_versions_is_refused() -> None:
    vectors = single_vectors()
    vectors.batch = vectors.batch._replace(versions=torch.arange(4)[:, None])
    with pytest.raises(LossError, match=r"mix\.strategy round_robin"):
        Objective(SumLoss(losses=(KlLoss(), LanguageLoss())))(vectors)


def test_margins_are_of_the_first_passage_and_the_second() -> None:
    vectors = single_vectors(2)
    triple = vectors.queries[:, 0], vectors.passages[[0, 1, 4, 5], 0], vectors.passages[[1, 2, 0, 0], 0]
    assert total(RelevanceMarginLoss(), vectors) == pytest.approx(distributed_margin(*triple).item(), rel=1e-5)
    rows = RelevanceMarginLoss(alignment="equation", error="soft")
    expected = distributed_margin(*triple, kind="soft", alignment="equation").item()
    assert total(rows, vectors) == pytest.approx(expected, rel=1e-5)
    static = RelevanceMarginLoss(margin="static", tau=0.6, in_batch=True)
    assert total(static, vectors) == pytest.approx(static_margin(*triple, 0.6, in_batch=True).item(), rel=1e-5)
    adaptive = RelevanceMarginLoss(margin="adaptive", error="absolute")
    assert total(adaptive, vectors) == pytest.approx(adaptive_margin(*triple, kind="absolute").item(), rel=1e-5)


def test_margins_of_more_than_two_passages_are_refused() -> None:
    with pytest.raises(LossError, match="found 1 vectors a query and 3 passages"):
        Objective(RelevanceMarginLoss())(single_vectors())
