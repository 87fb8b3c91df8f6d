"""Claims: one job at a time computes a stage; another that needs it waits, and then reuses what was made.

A claim is a file in the stage's folder that names the process that computes the stage, with a time that this process renews. A claim whose
process is gone, or that was not renewed for a while, counts for nothing: the same command goes on at once after its driver was killed.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from cluster.storage import read_json, write_json

_FILE = "_claim.json"
_RENEW_S = 15.0
_STALE_S = 60.0
_LOOK_S = 1.0


@contextlib.contextmanager
def claimed(
    filesystem: pafs.FileSystem, folder: str, is_done: Callable[[], bool], wait: Callable[[str], None]
) -> Iterator[bool]:
    """Hold the claim of a stage's folder in this block. Yield False, without a claim, if another job finished the stage meanwhile.

    Two processes that begin within milliseconds of each other may both get it; what they compute is the same.

    Args:
        filesystem: the file system of the folder.
        folder: the stage's folder.
        is_done: whether the stage is finished.
        wait: is told once who holds the claim, before this waits for it.
    """
    path, own = f"{folder}/{_FILE}", _process()
    told = False
    while holder := _holder(filesystem, path, own):
        if not told:
            told = True
            wait(f"process {holder['pid']} on {holder['host']}")
        time.sleep(_LOOK_S)
    if told and is_done():
        yield False
        return
    write_json(filesystem, path, own | {"renewed": time.time()})
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_S):
            with contextlib.suppress(OSError):  # the next time, or the stage's own writing, will tell
                write_json(filesystem, path, own | {"renewed": time.time()})

    thread = threading.Thread(target=renew, name="claim", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join(timeout=_RENEW_S)
        with contextlib.suppress(OSError):  # as it goes stale, and the stage's own error matters more
            filesystem.delete_file(path)


def _holder(filesystem: pafs.FileSystem, path: str, own: dict[str, Any]) -> dict[str, Any] | None:
    """Return the claim of another process that still computes the stage, None if there is none."""
    claim = read_json(filesystem, path)
    if claim is None or {name: claim[name] for name in own} == own:
        return None
    if claim["host"] == own["host"] and claim["space"] == own["space"]:
        return claim if _started(claim["pid"]) == claim["started"] else None
    return claim if time.time() - claim["renewed"] < _STALE_S else None


def _process() -> dict[str, Any]:
    """Return what tells this process from all others: its host, its space of process ids, its id and when it started."""
    space = Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "space": str(space.readlink()) if space.is_symlink() else "",
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def _started(pid: int) -> str:
    """Return when a process of this machine started, in ticks since the machine did; empty if it is gone or waits to be."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
