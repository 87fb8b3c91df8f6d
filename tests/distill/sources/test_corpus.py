"""The bundled corpus: its counts, its split and its judgements."""

from collections import Counter

import pytest

from distill.sources import corpus


def test_counts() -> None:
    passages, queries, qrels = list(corpus.passages()), list(corpus.queries()), list(corpus.qrels())
    assert Counter(row["lang"] for _, row in passages) == dict.fromkeys(corpus.LANGUAGES, 240)
    assert len({row["id"] for _, row in passages}) == 240
    # 720 English queries; the 240 questions in six more languages.
    assert Counter(row["lang"] for _, row in queries) == {"en": 720, **dict.fromkeys(corpus.LANGUAGES[1:], 240)}
    assert len({row["id"] for _, row in queries}) == 720
    assert Counter(row["grade"] for _, row in qrels) == {3: 720, 1: 14}


def test_file_order_is_cluster_order() -> None:
    """The split counts on it: four siblings a, b, c, d after one another."""
    for index, row in enumerate(corpus.rows()):
        assert row["id"] == f"{row['cluster']}-{'abcd'[index % 4]}"
    clusters = [row["cluster"] for row in corpus.rows()]
    assert clusters[::4] == sorted(set(clusters), key=clusters.index)


def test_split_has_the_documented_sizes() -> None:
    english = [row for _, row in corpus.queries() if row["lang"] == "en"]
    sizes = Counter((row["split"], row["id"].rpartition(".")[2]) for row in english)
    expected = {
        (split, kind): size
        for split, size in (("train", 160), ("dev", 20), ("test", 60))
        for kind in corpus.QUERY_TYPES
    }
    assert sizes == expected


def test_every_passage_keeps_two_training_queries() -> None:
    english = [row for _, row in corpus.queries() if row["lang"] == "en"]
    training = Counter(row["id"].rpartition(".")[0] for row in english if row["split"] == "train")
    assert set(training.values()) == {2}
    assert len(training) == 240


@pytest.mark.parametrize(
    ("index", "splits"),
    [
        (0, ("dev", "train", "train")),  # cluster 0, sibling 0: keyword (0) is held out; 0 = 0 mod 4
        (1, ("train", "test", "train")),  # cluster 0, sibling 1: question (1)
        (2, ("train", "train", "test")),  # cluster 0, sibling 2: paraphrase (2)
        (3, ("test", "train", "train")),  # cluster 0, sibling 3: (0 + 3) mod 3 = 0
        (4, ("train", "test", "train")),  # cluster 1, sibling 0: (1 + 0) mod 3 = 1
        (5, ("train", "train", "dev")),  # cluster 1, sibling 1: 2; 1 = 1 mod 4
        (239, ("train", "train", "dev")),  # cluster 59, sibling 3: 62 mod 3 = 2; 3 = 59 mod 4
    ],
)
def test_split_of(index: int, splits: tuple[str, str, str]) -> None:
    assert tuple(corpus.split_of(index, kind) for kind in corpus.QUERY_TYPES) == splits


def test_language_versions_share_a_split() -> None:
    splits: dict[str, set[str]] = {}
    for _, row in corpus.queries():
        splits.setdefault(row["id"], set()).add(row["split"])
    assert all(len(values) == 1 for values in splits.values())
    versions = {row["lang"]: row["split"] for _, row in corpus.queries() if row["id"] == "nature-01-b.question"}
    assert versions == dict.fromkeys(corpus.LANGUAGES, "test")


def test_judgements_name_siblings_only() -> None:
    ids = [row["id"] for row in corpus.rows()]
    for line, row in corpus.qrels():
        passage, _, kind = row["query"].rpartition(".")
        assert kind in corpus.QUERY_TYPES
        assert ids[line - 1] == passage
        if row["grade"] == 3:
            assert row["passage"] == passage
        else:
            assert row["passage"] != passage
            assert row["passage"][:-1] == passage[:-1]
