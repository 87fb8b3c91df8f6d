"""The cost of Ray in a scoring job: pairs a second through the score stage against the same class in a plain loop. Ten minutes.

    python benchmarks/ray_share.py

A cross-encoder of MiniLM-L6's size (random weights, the bundled MiniLM tokenizer) reads synthetic pairs of about 120 tokens, one thread.
Loop and stage alternate, each on a minute of work or more; the stage runs on a local Ray with one actor, writes and commits its shards.
Not counted: Ray's start and the loading of the model, which a loop has too; both are printed.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

import distill.score.stage as scoring
from cluster.progress import Progress
from cluster.session import Session
from cluster.settings import PoolSettings
from cluster.stages import Runner, Stage, StageRun
from cluster.workspace import Shard
from distill.models.locate import BUNDLED_TEACHER, locate
from distill.score.settings import CrossEncoderTeacher, ScoreSettings
from distill.tables import CANDIDATES, PASSAGES, QUERIES

QUERIES_COUNT, CANDIDATES_COUNT, PASSAGES_COUNT, QUERIES_PER_SHARD, ROUNDS = 160, 10, 2000, 20, 3
PAIRS = QUERIES_COUNT * CANDIDATES_COUNT
LOG = "POLYRAY_BENCHMARK_LOG"


class TimedWorker(scoring.ScoreWorker):
    """The stage's own worker, which also writes down when it worked and what CPU time its process had used by then."""

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """Return the shard's tables."""
        before = {"began": time.time(), "cpu_before": time.process_time()}
        tables = super().__call__(shard)
        facts = {**before, "ended": time.time(), "cpu": time.process_time()}
        with Path(os.environ[LOG]).open("a") as log:
            log.write(json.dumps(facts) + "\n")
        return tables


class Loop(StageRun):
    """A stage whose shards are computed here, one after the other, and thrown away."""

    def map_shards(
        self,
        shards: Sequence[Any],
        worker: Callable[..., Any],
        arguments: Mapping[str, Any],
        pool: Any,  # noqa: ARG002
        unit: str,  # noqa: ARG002
    ) -> None:
        """Compute them."""
        made = {name: value.make() if hasattr(value, "make") else value for name, value in arguments.items()}
        compute = worker(**made)
        for shard in shards:
            compute(shard)
        raise Done


class Done(Exception):  # noqa: N818
    """The loop is over; there is nothing to read back."""


@dataclass(frozen=True)
class Measured:
    """Pairs a second between the first pair and the last, and CPU seconds of the process that computed in that time."""

    rate: float
    cpu: float
    inside: float


def build_model(folder: Path) -> str:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(locate(BUNDLED_TEACHER))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_sources(run: StageRun) -> None:
    random = Random(0)
    words = [
        "river",
        "stone",
        "light",
        "market",
        "history",
        "signal",
        "garden",
        "motion",
        "theory",
        "harbour",
        "engine",
        "winter",
    ]
    text = lambda low, high: " ".join(random.choices(words, k=random.randint(low, high)))  # noqa: E731
    passages = [
        {"passage_id": f"p{i:05d}", "doc_id": "", "lang": "en", "title": "", "text": text(50, 180)}
        for i in range(PASSAGES_COUNT)
    ]
    queries = [
        {"query_id": f"q{i:05d}", "lang": "en", "text": text(4, 12), "split": "train"} for i in range(QUERIES_COUNT)
    ]
    run.write("passages", PASSAGES.from_rows(passages))
    run.write("queries", QUERIES.from_rows(queries))


def write_candidates(run: StageRun) -> None:
    random = Random(1)
    drawn = [random.sample(range(PASSAGES_COUNT), CANDIDATES_COUNT) for _ in range(QUERIES_COUNT)]
    rows = [
        {"query_id": f"q{i:05d}", "passage_ids": [f"p{j:05d}" for j in places], "selector": "random"}
        for i, places in enumerate(drawn)
    ]
    run.write("candidates", CANDIDATES.from_rows(rows))


def measure(log: Path, work: Callable[[], object]) -> Measured:
    log.unlink(missing_ok=True)
    os.environ[LOG] = str(log)
    work()
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    seconds = calls[-1]["ended"] - calls[0]["began"]
    inside = sum(call["ended"] - call["began"] for call in calls)
    return Measured(PAIRS / seconds, calls[-1]["cpu"] - calls[0]["cpu_before"], inside / seconds)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="ray_share"))
    log = folder / "log"
    os.environ[LOG] = str(log)
    scoring.ScoreWorker = TimedWorker  # the stage's function makes what this name says
    teacher = CrossEncoderTeacher(model=build_model(folder / "model"))
    settings = ScoreSettings(teacher=teacher, queries_per_shard=QUERIES_PER_SHARD, pool=PoolSettings())
    store = str(folder / "store")
    sources = Stage("sources", 1, write_sources, {}, uses_ray=False, rows="passages")
    select = Stage("select", 1, write_candidates, {}, (sources,), uses_ray=False, rows="candidates")
    stages = [
        Stage(
            "score",
            round_,
            lambda run: scoring.score(run, settings, teacher, "en"),
            {},
            (sources, select),
            rows="scores",
        )
        for round_ in range(ROUNDS)
    ]

    def loop() -> None:
        with suppress(Done):
            scoring.score(Loop(stages[0], store, Session(), Progress("score", shown=False)), settings, teacher, "en")

    shares, cpu_shares = [], []
    session = Session("local")
    with session:
        runner = Runner(store, session, progress=False)
        runner.run(sources)
        runner.run(select)
        for stage in stages:
            session.close()  # the loop has the machine to itself
            plain = measure(log, loop)
            started = time.perf_counter()
            session.connect()
            start = time.perf_counter() - started
            driver = time.process_time()
            started = time.perf_counter()
            ray = measure(log, lambda stage=stage: runner.run(stage))
            wall = time.perf_counter() - started
            driver = time.process_time() - driver
            shares.append(ray.rate / plain.rate)
            cpu_shares.append(plain.cpu / ray.cpu)
            outside = wall - PAIRS / ray.rate
            print(
                f"loop {plain.rate:.2f} pairs/s, {plain.cpu:.1f} CPU-s | stage {ray.rate:.2f} pairs/s, {ray.cpu:.1f} CPU-s of its actor, "
                f"{driver:.1f} of the driver, {ray.inside:.1%} of the time inside the worker | share {shares[-1]:.1%}, by CPU time "
                f"{cpu_shares[-1]:.1%} | Ray started in {start:.1f} s; {outside:.1f} s before the first shard and after the last",
                flush=True,
            )
    print(f"median share {statistics.median(shares):.1%}, of CPU time {statistics.median(cpu_shares):.1%}")


if __name__ == "__main__":
    main()
