"""Worker processes of a training that runs here, for tests that kill them."""

import os
import re
import time
from pathlib import Path


def wait_for_checkpoint(root: Path, step: int) -> None:
    """Return as soon as the run in `root` has written the checkpoint of a step."""
    deadline = time.monotonic() + 300
    while not list(root.glob(f"stages/train-*/ray_train/step-{step:08d}")):
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.01)


def train_workers() -> list[int]:
    """Processes of Ray Train workers that descend from this one."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "status").read_text()
                names[int(folder.name)] = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(folder.name)] = int(re.search(r"PPid:\s+(\d+)", status).group(1))  # pyright: ignore[reportOptionalMemberAccess]

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid, name in names.items() if b"TrainWorker" in name and ours(pid)]
