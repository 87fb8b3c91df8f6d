"""A job that is small in everything, on files.

`SmallJob.run` runs it as users do: a process of its own, on its own Ray. `SmallJob.run_here` runs its script in the process of the
tests, on the Ray that they share.
"""

import contextlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from cluster.storage import open_storage, read_json, read_table

ROOT = Path(__file__).resolve().parents[1]

STAGES = ("sources", "translate", "select", "score", "calibrate", "mix", "train", "index", "retrieve", "evaluate")
"""The stages of the job without the English-only baseline, in their order."""

AFTER_TRAINING = ("train", "index", "retrieve", "evaluate")
"""The stages that a changed learning rate runs again."""

LIMIT_S = 900.0
"""Longer than any of these jobs takes on a busy machine: only what hangs is stopped by it."""

_SUMMARY = re.compile(r"^(\w+) +([\d,]+) rows +([\d,]+) rejected +(reused|[\d.]+ s)")


def write_data(folder: Path, passages: int = 24) -> None:
    """The first passages of the bundled corpus in three languages as JSONL, two English queries for each, and their judgements.

    Of every six queries four are for training, one for development, one for the test.
    """
    from distill.sources import corpus

    rows = corpus.rows()[:passages]
    texts = [
        {"id": row["id"], "lang": lang, "title": row["title"][lang], "text": row["text"][lang]}
        for row in rows
        for lang in ("en", "de", "zh")
    ]
    queries = []
    for i, row in enumerate(rows):
        for j, text in enumerate((row["queries"]["keyword"], row["queries"]["question"]["en"])):
            split = ("train", "train", "dev", "train", "train", "test")[(2 * i + j) % 6]
            queries.append({"id": f"{row['id']}-{j}", "text": text, "split": split})
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("passages", texts), ("queries", queries)):
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    judged = [f"{query['id']} 0 {query['id'][:-2]} 3\n" for query in queries]
    (folder / "judged.qrels").write_text("".join(judged), encoding="utf-8")


def write_teacher(folder: Path, tokenizer: Path, hidden: int, layers: int) -> None:
    """A cross-encoder with random weights and the tokenizer of another, of a size that decides how long scoring takes."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    copied = AutoTokenizer.from_pretrained(tokenizer)
    copied.save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(copied),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=4 * hidden,
        pad_token_id=0,
    )
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)


@dataclass(frozen=True)
class Finished:
    """How a job ended.

    Attributes:
        code: its exit code.
        out: what it printed.
        err: what it printed on stderr.
        seconds: how long it took.
    """

    code: int
    out: str
    err: str
    seconds: float

    @property
    def reused(self) -> dict[str, bool]:
        """Each stage of which a summary line was printed, in order: whether it was reused."""
        return {line[1]: line[4] == "reused" for text in self.out.splitlines() if (line := _SUMMARY.match(text))}

    def done(self) -> "Finished":
        """Itself, or an error that shows what the job said."""
        assert self.code == 0, f"exit code {self.code}\n{self.out[-1500:]}\n{self.err[-3000:]}"
        return self


@dataclass(frozen=True)
class SmallJob:
    """A configuration file and where its stages lie.

    Attributes:
        folder: holds the data, the configuration and, unless `storage` says otherwise, the stages.
        teacher: the teacher's folder.
        storage: a URI; none: in the folder.
        overrides: settings laid over the small ones, by dotted name.
    """

    folder: Path
    teacher: Path
    storage: str | None = None
    overrides: tuple[tuple[str, Any], ...] = ()
    data: Path | None = None

    @property
    def store(self) -> str:
        """The storage's URI."""
        return self.storage or str(self.folder / "store")

    def config(self) -> Path:
        """Write data and configuration, if they are not there, and give the configuration's file."""
        data = self.data or self.folder / "data"
        if not data.exists():
            write_data(data)
        content: dict[str, Any] = {
            "name": "small",
            "storage": self.store,
            "languages": ["de", "zh"],
            "source": {
                "type": "files",
                "root": str(data),
                "passages": ["passages.jsonl"],
                "queries": ["queries.jsonl"],
                "qrels": ["judged.qrels"],
                "passage_fields": {"title": "title", "lang": "lang"},
                "query_fields": {"split": "split"},
            },
            "select": {"by": {"type": "bm25", "top_k": 8}},
            "score": {
                "teacher": {"type": "cross_encoder", "model": str(self.teacher), "max_tokens": 192},
                "queries_per_shard": 6,
                "check": {"allow": ["constant", "random", "truncated"]},  # random weights, letters for tokens
            },
            "mix": {"n_way": 3},
            "student": {
                "start": {"type": "fresh", "vocabulary": 500, "layers": 1, "hidden": 32},
                "dim": 16, "query_tokens": 8, "passage_tokens": 24,
            },
            "train": {"learning_rate": 1e-3, "batch_size": 4, "steps": 200, "checkpoint_every": 20, "log_every": 10},
            "index": {"passages_per_shard": 24},
            "evaluate": {"english_baseline": False, "depth": 20, "measures": ["nDCG@20", "RR@10"]},
            "cluster": {"num_cpus": 4},
        }  # fmt: skip
        for name, value in self.overrides:
            *path, last = name.split(".")
            group = content
            for part in path:
                group = group.setdefault(part, {})
            group[last] = value
        file = self.folder / "job.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file

    def start(self, *arguments: str, script: str = "mtd.py", terminal: bool = False) -> "Driver":
        """Start the job and return at once."""
        command = [sys.executable, str(ROOT / "jobs" / script), "--config", str(self.config()), *arguments]
        return Driver(command, self.folder, terminal=terminal)

    def run(self, *arguments: str, script: str = "mtd.py", limit_s: float = LIMIT_S) -> Finished:
        """Run the job to its end."""
        return self.start(*arguments, script=script).wait(limit_s)

    def run_here(self, *arguments: str, script: str = "mtd.py") -> Finished:
        """Run the job's script in this process, on the Ray that this process has, if it has one."""
        return run_script(str(ROOT / "jobs" / script), ["--config", str(self.config()), *arguments], self.folder)

    def stage_folders(self, stage: str) -> list[str]:
        """The folders of a stage, of every state that it was computed in."""
        filesystem, root = open_storage(self.store)
        from pyarrow.fs import FileSelector

        infos = filesystem.get_file_info(FileSelector(f"{root}/stages", allow_not_found=True))
        return sorted(info.path for info in infos if re.fullmatch(rf"{stage}-[0-9a-f]{{12}}", info.base_name))

    def folder_of(self, stage: str) -> str:
        """The folder of a stage that was computed in one state only."""
        folders = self.stage_folders(stage)
        assert len(folders) == 1, folders
        return folders[0]

    def table(self, stage: str, name: str) -> pa.Table:
        """A table of a stage, whole."""
        return read_table(open_storage(self.store)[0], f"{self.folder_of(stage)}/{name}")

    def manifest(self, stage: str) -> dict[str, Any]:
        """A stage's manifest; it must be finished."""
        manifest = read_json(open_storage(self.store)[0], f"{self.folder_of(stage)}/manifest.json")
        assert manifest is not None
        return manifest

    def markers(self, stage: str) -> dict[str, int]:
        """The markers of a stage's committed shards on local disk, and when each was written, in nanoseconds."""
        files = [file for folder in self.stage_folders(stage) for file in Path(folder).glob("_shards/*.json")]
        return {file.name: file.stat().st_mtime_ns for file in files}


def run_script(file: str, arguments: Sequence[str], folder: Path) -> Finished:
    """Run a script as `python FILE ...` in `folder` would, in this process, on the Ray that it has, if it has one."""
    out, err = io.StringIO(), io.StringIO()
    started, code = time.monotonic(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(folder),
    ):
        patch.setattr(sys, "argv", [file, *arguments])
        patch.setattr(sys, "path", [str(Path(file).absolute().parent), *sys.path])
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return Finished(code, out.getvalue(), err.getvalue(), time.monotonic() - started)


def environment(**more: str) -> dict[str, str]:
    """The variables that a job is started with: those of a user who sets none of Ray's or of Polyray's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_A", "POLYRAY_"))}
    return inherited | {"HF_HUB_OFFLINE": "1"} | more


class Driver:
    """A running job.

    Args:
        command: what to run.
        folder: where it is run from, and where its output is kept.
        variables: its environment; none: `environment()`.
        terminal: whether `interrupt` will be used: it gets a process group of its own, as a shell gives its commands.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        variables: Mapping[str, str] | None = None,
        *,
        terminal: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.out")))
        self._files = [folder / f"{number}.{kind}" for kind in ("out", "err")]
        self._started = time.monotonic()
        # Files, not pipes: Ray's processes inherit them, and would keep a pipe open after the driver's death.
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self._process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=variables or environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0 if terminal else None,
                preexec_fn=_listen if terminal else None,  # noqa: PLW1509 - no other thread starts jobs
            )
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def read(self) -> Finished:
        """Return its output so far."""
        out, err = (file.read_text(encoding="utf-8", errors="replace") for file in self._files)
        code = self._process.poll()
        return Finished(-1000 if code is None else code, out, err, time.monotonic() - self._started)

    def wait(self, limit_s: float = LIMIT_S) -> Finished:
        """Wait for its end; one that takes longer is killed with all that it started."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            said = self.read()
            self.kill()
            raise AssertionError(f"no end after {limit_s} s\n{said.out[-1500:]}\n{said.err[-3000:]}") from None
        return self.read()

    def wait_until(self, what: str, condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        """Wait until a condition holds while it runs."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if not self.running:
                said = self.read()
                raise AssertionError(
                    f"ended before {what}: exit code {said.code}\n{said.out[-1500:]}\n{said.err[-3000:]}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"not in {limit_s} s: {what}")
            time.sleep(0.005)

    def kill(self) -> dict[int, str]:
        """SIGKILL to the driver alone. Gives the processes that it had started."""
        family = descendants(self.pid)
        self._process.kill()
        self._process.wait()
        return family

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """A signal to the whole process group, as a terminal sends Ctrl-C."""
        os.killpg(self.pid, number)

    def end(self, limit_s: float = 30.0) -> None:
        """SIGTERM, and SIGKILL if that is not enough."""
        self._process.terminate()
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _listen() -> None:
    """Undo what a shell does to programs in its background: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def descendants(pid: int) -> dict[int, str]:
    """The living processes below one: their ids and command lines."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(folder.name)] = int(fields[1])
    below: dict[int, str] = {}
    for process in parents:
        above = process
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and process != pid:
            below[process] = command_line(process)
    return below


def command_line(pid: int) -> str:
    """A process's command line, or title; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Processes of Ray that try for a minute to tell a server that is gone too of the death of their node, and then end."""


def survivors(family: Mapping[int, str], limit_s: float) -> dict[int, str]:
    """Those of the processes that still live after `limit_s` seconds, Ray's agents apart. All are then killed, each by its id.

    A process counts as living while its id has a command line that begins as before: ids are used again.
    """

    def living() -> dict[int, str]:
        return {pid: name for pid, name in family.items() if name and command_line(pid)[:20] == name[:20]}

    deadline = time.monotonic() + limit_s
    while set(living().values()) - set(AGENTS) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = living()
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return {pid: name for pid, name in left.items() if name not in AGENTS}
