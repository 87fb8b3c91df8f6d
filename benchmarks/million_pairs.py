"""A million pairs through the score stage: time, memory of driver and actors, and the same with an actor and the driver killed.

    python benchmarks/million_pairs.py [--pairs 250000 1000000] [--kill] [--folder FOLDER]

Synthetic passages, queries and a TREC run of 100 passages a query are read by `jobs/mine.py`; measured is `jobs/score.py`, a process of its
own with its own Ray, with two actors of one thread and a cross-encoder of two layers of 32. Memory is sampled every two seconds from
/proc/*/smaps_rollup until the score stage is done: of each process what it has alone (anonymous pages), and of all together the
proportional set, in which shared memory counts once. With `--kill` an actor is killed with SIGKILL after a third of the shards, the driver
after two thirds, and the same command goes on. Every run ends with a comparison of the pairs scored to those asked for.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[1]
PASSAGES, CANDIDATES, SHARD = 100_000, 100, 100
WORDS = [f"word{i}" for i in range(500)]


def write_collection(folder: Path, queries: int) -> None:
    """Passages of 8 to 30 words, queries of 3 to 8, and a run of random passages."""
    random = Random(0)
    folder.mkdir(parents=True, exist_ok=True)

    def text(low: int, high: int) -> str:
        return " ".join(random.choices(WORDS, k=random.randint(low, high)))

    with (folder / "passages.tsv").open("w") as file:
        file.writelines(f"p{i:06d}\t{text(8, 30)}\n" for i in range(PASSAGES))
    with (folder / "queries.tsv").open("w") as file:
        file.writelines(f"q{i:06d}\t{text(3, 8)}\n" for i in range(queries))
    with (folder / "run.trec").open("w") as file:
        for i in range(queries):
            drawn = random.sample(range(PASSAGES), CANDIDATES)
            file.writelines(f"q{i:06d} Q0 p{p:06d} {rank} {-rank} random\n" for rank, p in enumerate(drawn, 1))


def write_teacher(folder: Path) -> None:
    """Write a BERT of two layers of 32 over whole words, random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)


def write_config(folder: Path, teacher: Path, shard: int) -> Path:
    """Return the job's configuration."""
    content = {
        "name": "million", "storage": str(folder / "store"), "languages": ["de"],
        "source": {"type": "files", "root": str(folder), "passages": ["passages.tsv"], "queries": ["queries.tsv"]},
        "select": {"by": {"type": "run", "path": str(folder / "run.trec"), "top_k": CANDIDATES}},
        "score": {
            "teacher": {"type": "cross_encoder", "model": str(teacher), "max_tokens": 64}, "queries_per_shard": shard,
            "pool": {"min_actors": 2, "max_actors": 2},
        },
        "cluster": {"num_cpus": 2},
    }  # fmt: skip
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@dataclass
class Memory:
    """Peaks in MB.

    Attributes:
        driver: anonymous memory of the driver.
        actor: anonymous memory of the largest actor.
        all: proportional set of all processes of the job.
    """

    driver: float = 0.0
    actor: float = 0.0
    all: float = 0.0


@dataclass
class Job:
    """`jobs/score.py` in a process of its own, watched."""

    config: Path
    memory: Memory
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it and its watch."""
        variables = os.environ | {"RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "jobs/score.py", "--config", str(self.config)], cwd=ROOT, env=variables
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.process.poll() is None and not list(self.config.parent.glob("store/stages/score-*/manifest.json")):
            tree = [self.process.pid, *descendants(self.process.pid)]
            sizes = {pid: memory_of(pid) for pid in tree}
            self.memory.driver = max(self.memory.driver, sizes[self.process.pid][0])
            self.memory.actor = max([self.memory.actor, *(sizes[pid][0] for pid in tree if is_actor(pid))])
            self.memory.all = max(self.memory.all, sum(size[1] for size in sizes.values()))
            time.sleep(2.0)

    def markers(self) -> int:
        """How many shards are committed."""
        return len(list(self.config.parent.glob("store/stages/score-*/_shards/*.json")))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until something is so, or the job ended."""
        while not condition() and self.process.poll() is None:
            time.sleep(0.2)

    def end(self) -> None:
        """Wait for its end."""
        if self.process.wait():
            sys.exit(f"the job failed with exit code {self.process.returncode}")


def descendants(pid: int) -> list[int]:
    """Children of a process and theirs."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in children.read_text().split()]
        except OSError:
            continue
        for child in direct:
            found += [child, *descendants(child)]
    return found


def memory_of(pid: int) -> tuple[float, float]:
    """Return a process's anonymous memory and its proportional set, in MB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines[1:]}
    return sizes.get("Pss_Anon", 0.0), sizes.get("Pss", 0.0)


def is_actor(pid: int) -> bool:
    """Tell whether a process is an actor of a pool."""
    try:
        return b"ShardActor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def check(folder: Path, queries: int) -> str:
    """Compare what was scored with what was asked."""
    (stage,) = folder.glob("store/stages/score-*")
    (select,) = folder.glob("store/stages/select-*")
    manifest = json.loads((stage / "manifest.json").read_text())
    asked = pq.read_table(select / "candidates").sort_by("query_id")
    scored = pa.concat_tables([pq.read_table(file) for file in sorted((stage / "scores").glob("*.parquet"))]).sort_by(
        "query_id"
    )
    assert asked["query_id"].equals(scored["query_id"]), "queries differ"
    assert asked["passage_ids"].combine_chunks().equals(scored["passage_ids"].combine_chunks()), "passages differ"
    scores = pc.list_flatten(scored["scores"])
    assert len(scores) == queries * CANDIDATES
    assert pc.all(pc.is_finite(scores)).as_py()
    return f"{len(scored):,} queries and {len(scores):,} pairs, each once; {manifest['rejected']} rejected"


def measure(folder: Path, teacher: Path, pairs: int, shard: int, *, kill: bool) -> None:
    """One run, and a line about it."""
    queries = pairs // CANDIDATES
    write_collection(folder, queries)
    config = write_config(folder, teacher, shard)
    subprocess.run([sys.executable, "jobs/mine.py", "--config", str(config)], cwd=ROOT, check=True)
    memory = Memory()
    job = Job(config, memory)
    shards = -(-queries // shard)
    started, note = time.monotonic(), ""
    job.start()
    if kill:
        job.wait(lambda: job.markers() > shards / 3)
        victim = next(pid for pid in descendants(job.process.pid) if is_actor(pid))
        os.kill(victim, signal.SIGKILL)
        job.wait(lambda: job.markers() > 2 * shards / 3)
        job.process.kill()
        job.process.wait()
        note = f"; driver killed with {job.markers()} of {shards} shards committed"
        job.start()
    job.end()
    seconds = time.monotonic() - started
    (manifest,) = folder.glob("store/stages/score-*/manifest.json")
    stage_seconds = json.loads(manifest.read_text())["seconds"]
    took = f"score stage {stage_seconds:.0f} s, {pairs / stage_seconds:,.0f} pairs/s; " if not kill else "with kills, "
    print(
        f"{pairs:,} pairs: {took}the whole job {seconds:.0f} s; peak memory: driver {memory.driver:.0f} MB, largest actor "
        f"{memory.actor:.0f} MB, everything {memory.all:.0f} MB; {check(folder, queries)}{note}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--shard", type=int, default=SHARD, help="queries in a shard")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="million"))
    write_teacher(folder / "teacher")
    for pairs in options.pairs:
        measure(
            folder / f"{pairs}{'-kill' if options.kill else ''}",
            folder / "teacher",
            pairs,
            options.shard,
            kill=options.kill,
        )


if __name__ == "__main__":
    main()
