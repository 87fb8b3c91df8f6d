"""Interrupts: Ctrl-C and SIGTERM end a program in one way, at any moment, whatever handlers its libraries install.

A script calls `begin` before it imports anything heavy: until its program runs, a signal ends the process with one line. While the program
runs (`guarded`), a signal raises KeyboardInterrupt. Ray replaces the handlers when it starts, and ends the process from its own, so the
signals that came are counted below the handlers, and `restore` puts these back.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

GOES_ON = "the same command goes on from what is done"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_S = 20.0
"""Seconds that an interrupted program may take to end what it started."""


class _State:
    """The signals of this process.

    Attributes:
        number: the first signal that came, 0 before one.
        count: how many times a handler here was called.
        running: whether a program runs, whose KeyboardInterrupt is caught.
        shields: how many sections that are not to be interrupted are open.
        told: whether the user was told.
        line: what the user is told; empty before a program runs.
        pipe: the ends of the pipe into which Python writes every signal's number, whichever handler is installed.
    """

    def __init__(self) -> None:
        self.number = 0
        self.count = 0
        self.running = False
        self.shields = 0
        self.told = False
        self.line = ""
        self.pipe: tuple[int, int] | None = None


_state = _State()


def begin() -> None:
    """End this process with one line and the code 130 (143 for SIGTERM) if a signal comes before its program runs."""
    restore()


def restore() -> None:
    """Install the handlers of this module, unless this is not the main thread or the signal is ignored, as in a shell's background."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)


def came() -> int:
    """Return the number of the first signal that came while a program runs, 0 if none did."""
    if _state.pipe is not None and not _state.number:
        with contextlib.suppress(BlockingIOError):
            numbers = [number for number in os.read(_state.pipe[0], 4096) if number in _SIGNALS]
            _state.number = numbers[0] if numbers else 0
    return _state.number


def check() -> None:
    """Raise KeyboardInterrupt if a signal came whose KeyboardInterrupt a library swallowed."""
    if came():
        raise KeyboardInterrupt


@contextlib.contextmanager
def guarded(program: str, what: str = GOES_ON) -> Iterator[None]:
    """Let signals raise KeyboardInterrupt in this block, and count them; the handlers of before come back at its end.

    Args:
        program: the program's name, for the line that says that it was interrupted.
        what: what follows from that.
    """
    _state.line = f"{program}: interrupted; {what}"
    if _state.running or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    pipe = _state.pipe = os.pipe()
    for end in pipe:
        os.set_blocking(end, False)
    wakeup = signal.set_wakeup_fd(pipe[1], warn_on_full_buffer=False)
    _state.number = _state.count = 0
    _state.told = False
    _state.running = True
    restore()
    try:
        yield
    finally:
        _state.running = False
        _state.pipe = None
        signal.set_wakeup_fd(wakeup)
        for end in pipe:
            os.close(end)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Keep this block from being interrupted: it ends what was started. A third signal, or 20 s after one, ends the process."""
    _state.shields += 1
    limit = threading.Timer(_LAST_S, _end) if came() else None
    if limit is not None:
        limit.daemon = True
        limit.start()
    try:
        yield
    finally:
        _state.shields -= 1
        if limit is not None:
            limit.cancel()
    if _state.shields == 0 and limit is None and _state.running:
        check()


def said(number: int) -> int:
    """Print on stderr that the program was interrupted, and what follows from that; return the exit code, 128 and the signal's number."""
    if not _state.told:
        _state.told = True
        print(f"{_start()}{_state.line}", file=sys.stderr, flush=True)
    return 128 + number


def _handle(number: int, frame: FrameType | None) -> None:
    del frame
    _state.number = _state.number or number
    _state.count += 1
    if _state.running and not _state.shields:
        raise KeyboardInterrupt
    if _state.count > 2 or (_state.count == 1 and not _state.running):
        _end()


def _end() -> NoReturn:
    """End this process, with the line that says why."""
    script = Path(sys.argv[0])
    program = " ".join(["polyray", *sys.argv[1:2]]) if script.stem == "polyray" else f"jobs/{script.name}"
    if not _state.told:
        line = _state.line or f"{program}: interrupted; {GOES_ON}"
        # Not through sys.stderr: the signal may have interrupted a write to it.
        with contextlib.suppress(OSError):
            os.write(2, f"{_start()}{line}\n".encode())
    os._exit(128 + _state.number)


def _start() -> str:
    return "\n" if os.isatty(2) else ""  # after the terminal's ^C
