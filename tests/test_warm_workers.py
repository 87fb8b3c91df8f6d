"""A script that runs in a process of the server finds what it finds under `python`, and the modules that the server imported."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.jobs_small import descendants
from tests.warm_workers import warm_workers

SCRIPT = """
import sys
loaded = "numpy.random" in sys.modules
import os, random
import numpy
print([sys.argv[1:], os.getcwd(), os.environ["WORD"], sys.path[:2], loaded, __name__], flush=True)
print(random.random(), numpy.random.rand(), file=sys.stderr, flush=True)
sys.exit(int(sys.argv[1]))
"""


def run(command: str, folder: Path, wanted: int) -> tuple[str, str]:
    """Run the script, which may go on after its command has ended; return its output and errors."""
    variables = os.environ | {"WORD": "hive", "PYTHONPATH": "/nowhere"}
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        subprocess.run(
            [*command.split(), str(folder / "script.py"), "0", "a b"],
            cwd=folder, env=variables, stdout=out, stderr=err, check=True, timeout=60,
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while (folder / "err").read_text().count("\n") < wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return (folder / "out").read_text(), (folder / "err").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path.resolve()


def expected(folder: Path, *, loaded: bool) -> str:
    return f"{[['0', 'a b'], str(folder), 'hive', [str(folder), '/nowhere'], loaded, '__main__']}\n"


def test_a_forked_process_is_as_a_new_one(folder: Path) -> None:
    with warm_workers(["numpy.random"]) as command:
        out, drawn = run(command, folder, 1)
        assert out == expected(folder, loaded=True)
        again = run(command, folder, 1)
    assert again[0] == out
    assert not set(drawn.split()) & set(again[1].split()), "two processes draw the same numbers"


def test_without_its_server_the_command_starts_python(folder: Path) -> None:
    with warm_workers([]) as command:
        pass
    assert run(command, folder, 1)[0] == expected(folder, loaded=False)


def servers() -> set[int]:
    return {process for process, line in descendants(os.getpid()).items() if "warm_workers.py serve" in line}


def test_the_server_ends_with_its_block() -> None:
    before = servers()
    with warm_workers([]) as command:
        assert len(servers() - before) == 1
    assert servers() == before
    assert not Path(command.split()[-1]).exists()
