from pathlib import Path
from typing import Any

import pytest
import torch

from distill.encoders.checkpoints import load_encoder
from distill.tables import EXAMPLES
from distill.train.batches import Example, Tally, key, make_batch, with_tallies
from distill.train.stream import examples_of

SHORT, LONG = "sun", "honey bee dance hive flower sun angle food"


def example(position: int, **values: Any) -> dict[str, Any]:
    return {
        "position": position, "query_id": f"q{position}", "query": "bee", "query_lang": "en", "passage_ids": ["a", "b"],
        "passages": [SHORT, LONG], "langs": ["en", "de"], "scores": [1.0, 0.5],
    } | values  # fmt: skip


def table(*rows: dict[str, Any]) -> list[Example]:
    return examples_of(EXAMPLES.from_rows(rows))


def test_texts_that_occur_twice_are_encoded_once_longest_first(tiny_student: Path) -> None:
    encoder = load_encoder(tiny_student)
    rows = table(example(0), example(1, query="dance", passages=[LONG, SHORT], passage_ids=["b", "a"]), example(2))
    batch = make_batch(encoder, rows, 1000)
    [passages], [queries] = batch.passages.batches, batch.queries.batches
    assert torch.equal(passages.ids, encoder.tokenize_passages([LONG, SHORT]).ids)
    assert batch.positions.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert torch.equal(queries.ids[batch.queries.order], encoder.tokenize_queries(["bee", "dance", "bee"]).ids)
    assert batch.tokens == sum(map(len, encoder.passage_rows([LONG, SHORT]) + encoder.query_rows(["bee", "dance"])))


def test_a_budget_cuts_chunks_of_like_length(tiny_student: Path) -> None:
    batch = make_batch(load_encoder(tiny_student), table(example(0)), 8)
    assert [len(chunk.ids) for chunk in batch.passages.batches] == [1, 1]
    long, short = batch.passages.batches
    assert long.ids.shape[1] > short.ids.shape[1]
    assert bool(long.attention.all())
    assert bool(short.attention.all())


def test_keys_are_those_of_the_ids(tiny_student: Path) -> None:
    batch = make_batch(load_encoder(tiny_student), table(example(0)), 1000)
    assert batch.query_keys.tolist() == [[key("q0"), key("bee")]]
    assert batch.passage_keys[batch.positions].tolist() == [[[key("a")], [key("b")]]]
    assert batch.text_keys[batch.positions].tolist() == [[key(SHORT), key(LONG)]]


def test_a_text_has_the_keys_of_all_its_ids(tiny_student: Path) -> None:
    rows = table(
        example(0), example(1, passage_ids=["c", "b"]), example(2, passage_ids=["b", "a"], passages=[LONG, SHORT])
    )
    batch = make_batch(load_encoder(tiny_student), rows, 1000)
    assert batch.passage_keys[batch.positions[0]].tolist() == [[key("a"), key("c")], [key("b"), key("b")]]
    assert batch.text_keys[batch.positions[0]].tolist() == [key(SHORT), key(LONG)]


def test_language_versions_are_found_by_query_and_passages(tiny_student: Path) -> None:
    encoder = load_encoder(tiny_student)
    rows = [example(i, query_id=f"q{i // 2}", langs=[lang] * 2) for i, lang in enumerate(["de", "fr"] * 2)]
    assert make_batch(encoder, table(*rows), 1000).versions.tolist() == [[0, 1], [2, 3]]
    # The same entry once more, as at an epoch's end: its versions are an entry of their own.
    again = [*rows, rows[0] | {"position": 4}, rows[1] | {"position": 5}]
    assert make_batch(encoder, table(*again), 1000).versions.tolist() == [[0, 1], [2, 3], [4, 5]]
    rows[3]["query_id"] = "other"
    assert make_batch(encoder, table(*rows), 1000).versions.tolist() == [[0], [1], [2], [3]]


def test_a_missing_score_is_nan_and_one_that_is_not_finite_is_refused(tiny_student: Path) -> None:
    encoder = load_encoder(tiny_student)
    found = make_batch(encoder, table(example(0, scores=[None, 0.5])), 1000).teacher
    assert torch.isnan(found[0, 0])
    assert found[0, 1] == 0.5
    with pytest.raises(ValueError, match="example 7: its teacher scores"):
        make_batch(encoder, table(example(7, scores=[float("inf"), 0.5])), 1000)


def test_examples_of_unequal_width_are_refused(tiny_student: Path) -> None:
    wide = example(1, passage_ids=["a"], passages=[SHORT], langs=["en"], scores=[1.0])
    with pytest.raises(ValueError, match=r"different numbers of passages: \[1, 2\]"):
        make_batch(load_encoder(tiny_student), table(example(0), wide), 1000)


def test_texts_that_the_student_reads_the_beginning_of_are_tallied_once_a_batch(tiny_student: Path) -> None:
    """It reads 8 tokens of a query, 5 of them words, and 32 of a passage, 29 of them words."""
    exact, over = "bee " * 29, "bee " * 30
    rows = table(
        example(0, query="bee " * 5, passages=[exact, over]),
        example(1, query="sun " * 6, passages=[over, SHORT], langs=["de", "fr"], query_lang="de"),
    )
    tally = Tally()
    make_batch(load_encoder(tiny_student), rows, 1000, tally)
    assert tally == {
        ("query", "en", False): 1,
        ("query", "de", True): 1,
        ("passage", "en", False): 1,
        ("passage", "de", True): 1,
        ("passage", "fr", False): 1,
    }


def test_tallies_of_workers_add_up_to_those_before() -> None:
    before = [{"role": "passage", "lang": "de", "texts": 5, "truncated": 2}]
    workers = [
        Tally({("passage", "de", True): 1, ("passage", "de", False): 3, ("query", "en", False): 2}),
        Tally({("passage", "de", False): 1, ("query", "en", True): 4}),
    ]
    assert with_tallies(before, workers) == [
        {"role": "passage", "lang": "de", "texts": 10, "truncated": 3},
        {"role": "query", "lang": "en", "texts": 6, "truncated": 4},
    ]
    assert before[0]["texts"] == 5
