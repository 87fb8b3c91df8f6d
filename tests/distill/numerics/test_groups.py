import pytest
import torch

from distill.numerics.groups import Groups


def test_worked_by_hand() -> None:
    groups = Groups(["a", "b", "a", "c", "b", "b"])
    assert groups.keys == ["a", "b", "c"]
    assert not groups.are_single
    scores = torch.tensor([[1.0, 5.0, 3.0, 4.0, 5.0, 2.0], [0.0, -1.0, 0.0, -9.0, -2.0, -3.0]])
    assert groups.scores(scores).tolist() == [[3.0, 5.0, 4.0], [0.0, -1.0, -9.0]]
    values, documents = groups.top_k(scores, 2)
    assert documents.tolist() == [[1, 2], [0, 1]]
    assert values.tolist() == [[5.0, 4.0], [0.0, -1.0]]
    # The first of two equal passages stands for its document.
    assert groups.best_passages(scores, values, documents).tolist() == [[1, 3], [0, 1]]


def test_k_documents_come_out_however_many_passages_one_has() -> None:
    # A document of a thousand passages fills every list of passages.
    groups = Groups(["long"] * 1000 + ["x", "y", "x"])
    scores = torch.cat([torch.full((1000,), 9.0), torch.tensor([1.0, 3.0, 2.0])])[None]
    values, documents = groups.top_k(scores, 3)
    assert [groups.keys[i] for i in documents[0].tolist()] == ["long", "y", "x"]
    assert groups.best_passages(scores, values, documents).tolist() == [[0, 1001, 1002]]


def test_equal_scores_rank_by_the_first_passage() -> None:
    groups = Groups(["b", "a", "b", "c", "a"])
    scores = torch.tensor([[0.0, 0.0, 7.0, 7.0, 7.0]])
    assert [groups.keys[i] for i in groups.top_k(scores, 3)[1][0].tolist()] == ["b", "a", "c"]
    assert [groups.keys[i] for i in groups.top_k(scores, 1)[1][0].tolist()] == ["b"]


def test_equal_to_a_loop_on_random_groups() -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        keys = torch.randint(0, 12, (40,), generator=generator).tolist()
        groups = Groups(keys)
        scores = torch.randint(-4, 5, (3, 40), generator=generator).float()  # many ties
        values, documents = groups.top_k(scores, 5)
        passages = groups.best_passages(scores, values, documents)
        for row in range(3):
            best: dict[int, tuple[float, int]] = {}
            for position, key in enumerate(keys):
                score = float(scores[row, position])
                if key not in best or score > best[key][0]:
                    best[key] = (score, position)
            expected = sorted(best.items(), key=lambda item: (-item[1][0], keys.index(item[0])))[:5]
            assert [groups.keys[i] for i in documents[row].tolist()] == [key for key, _ in expected]
            assert [*zip(values[row].tolist(), passages[row].tolist(), strict=True)] == [one for _, one in expected]


def test_single_passages_are_the_documents() -> None:
    groups = Groups(["a", "b"])
    scores = torch.tensor([[1.0, 2.0]])
    assert groups.scores(scores) is scores
    assert groups.best_passages(scores, *groups.top_k(scores, 2)).tolist() == [[1, 0]]


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="is NaN"):
        Groups(["a", "b", "a"]).top_k(torch.tensor([[1.0, 2.0, torch.nan]]), 1)
