"""Lines of progress, and the counts of shards."""

import io
import time

import pytest

from cluster import progress as module
from cluster.progress import Progress, duration
from cluster.shards import ShardCount
from cluster.workspace import Count, Shard, row_shards


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_line_tells_what_is_done_how_fast_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 of 1,000 after nothing, 300 after ten seconds: 20 a second, so the other 700 take 35."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    counts = [Count(100, 1000, "queries", "2 actors"), Count(300, 1000, "queries", "2 actors")]
    shown = Progress("score", shown=False)
    with shown.following(lambda: counts.pop(0)):
        assert shown.line() == "  score: 100 of 1,000 queries after 0 s; 2 actors"
        now[0] += 10
        assert shown.line() == "  score: 300 of 1,000 queries, 20 a second, 35 s left; 2 actors"
    now[0] += 120
    assert shown.line() == "  score: running for 2 min"


def test_a_count_that_goes_back_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a training's step does, which continues from its last checkpoint."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    counts = [Count(90, 100, "steps"), Count(40, 100, "steps"), Count(50, 100, "steps")]
    shown = Progress("train", shown=False)
    with shown.following(lambda: counts.pop(0)):
        shown.line()
        now[0] = 5.0
        assert shown.line() == "  train: 40 of 100 steps after 5 s"
        now[0] = 10.0
        assert shown.line() == "  train: 50 of 100 steps, 2 a second, 25 s left"


def test_a_log_gets_lines_at_intervals_and_none_after_the_end() -> None:
    log = io.StringIO()
    with Progress("mix", stream=log, first_s=0.05) as shown, shown.following(lambda: Count(3, None, "examples")):
        time.sleep(0.5)
    lines = log.getvalue().splitlines()
    assert 2 <= len(lines) <= 10
    assert all(line.startswith("  mix: 3 examples") for line in lines)
    time.sleep(0.2)
    assert log.getvalue().splitlines() == lines


def test_nothing_is_printed_where_nothing_is_to_be_shown() -> None:
    log = io.StringIO()
    with Progress("mix", shown=False, stream=log, first_s=0.01):
        time.sleep(0.1)
    assert log.getvalue() == ""


def test_shards_are_counted_in_their_rows() -> None:
    """25 rows in shards of ten; the first shard is committed. The second of those left has five rows."""
    counted = ShardCount(row_shards(25, 10), {0}, "queries")
    assert counted.count() == Count(10, 25, "queries", "0 actors")
    counted.finish([1])
    assert counted.count() == Count(15, 25, "queries", "0 actors")
    counted.finish([0])
    assert counted.count() == Count(25, 25, "queries", "0 actors")


def test_shards_that_are_no_rows_are_counted_themselves() -> None:
    counted = ShardCount([Shard(0, {"existing": True}), Shard(1, {})], (), "passages")
    counted.finish([0])
    assert counted.count() == Count(1, 2, "shards", "0 actors")
