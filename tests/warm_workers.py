"""Processes for Ray's workers that have the large libraries imported already: forked from a server, not started anew.

Every actor of Ray is a new process, and importing torch and transformers takes it four seconds: far longer than what most tests ask of
it. `warm_workers` starts a server that imports them once and gives the command to set as Ray's `py_executable`. The command sends its
arguments, environment, folder and standard files to the server, which forks a worker. Ray and the packages of this project are imported
by every worker itself.
"""

import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PRELOADED = (
    "fastapi", "fsspec", "jsonschema", "numpy.random", "opentelemetry.sdk.metrics", "pandas", "pyarrow.dataset", "pyarrow.parquet",
    "pydantic", "requests", "scipy.sparse", "torch", "torch.distributed", "transformers", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.bert.modeling_bert",
)  # fmt: skip
"""Modules that a worker finds imported. None of them starts a thread, which a fork would lose; Ray may, and reads variables early."""


@contextmanager
def warm_workers(modules: Sequence[str] = PRELOADED) -> Iterator[str]:
    """Run a server that imports modules; give a command that runs a Python script with its arguments in a process of the server."""
    script = str(Path(__file__).resolve())
    with tempfile.TemporaryDirectory(prefix="warm", dir="/tmp") as folder:
        path = f"{folder}/socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(64)  # requests wait for the imports
            server = subprocess.Popen(
                [sys.executable, script, "serve", str(listener.fileno()), *modules],
                env=os.environ | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, pass_fds=[listener.fileno()],
            )  # fmt: skip
        try:
            yield f"{sys.executable} -I -S {script} ask {path}"
        finally:
            server.communicate()  # the server ends when its input does


def serve(number: int, modules: Sequence[str]) -> None:
    """Import modules, then fork a process for each request, until the standard input ends."""
    with socket.socket(fileno=number) as listener, selectors.DefaultSelector() as events:
        for name in modules:
            importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
        events.register(listener, selectors.EVENT_READ)
        events.register(sys.stdin, selectors.EVENT_READ)
        while sys.stdin not in [key.fileobj for key, _ in events.select()]:
            connection, _ = listener.accept()
            with connection:
                request, files = _receive(connection)
                if os.fork() == 0:
                    listener.close()
                    connection.close()
                    events.close()
                    _become(request, files)
                for file in files:
                    os.close(file)
                connection.sendall(b"forked")


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a request, and the three standard files that came with it."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    content = b""
    while len(content) < int.from_bytes(size, "little"):
        content += connection.recv(65536)
    return json.loads(content), list(files)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Run a script in this process as `python script arguments` does, and exit."""
    code = 1
    own = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    libraries = [folder for folder in sys.path if folder not in own]
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        script = request["arguments"][0]
        sys.argv = request["arguments"]
        searched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:] = [str(Path(script).parent), *filter(None, searched), *libraries]
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()  # or all workers would draw the same numbers
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ask(path: str, arguments: list[str]) -> None:
    """Have a process forked that runs a script; without a server, become one."""
    content = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": str(Path.cwd())}).encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            socket.send_fds(connection, [len(content).to_bytes(8, "little")], [0, 1, 2])
            connection.sendall(content)
            if connection.recv(16) == b"forked":
                return
    except OSError:
        pass
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        _ask(sys.argv[2], sys.argv[3:])
    else:
        serve(int(sys.argv[2]), sys.argv[3:])
