"""Progress of a stage: a bar on a terminal, and lines at growing intervals where there is none, as in the log of a job."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

from cluster.workspace import Count

_FIRST_S = 10.0
_MOST_S = 300.0
_GROWTH = 0.1
"""Between two lines a tenth of the time passes that the stage has run, so a long job has a short log."""
_LOOK_S = 1.0


class Progress:
    """The progress of one stage, on stderr, from a thread of its own.

    Args:
        stage: the stage's name.
        shown: whether to show anything.
        stream: where it is shown; by default stderr.
        first_s: seconds before the first line of a log.
    """

    def __init__(
        self, stage: str, *, shown: bool = True, stream: TextIO | None = None, first_s: float = _FIRST_S
    ) -> None:
        self._stage = stage
        self._shown = shown
        self._stream = stream or sys.stderr
        self._first_s = first_s
        self._source: Callable[[], Count | None] = lambda: None
        self._since: tuple[float, int] | None = None
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start to show."""
        self._started = time.monotonic()
        if self._shown:
            show = self._show_bar if self._stream.isatty() else self._print_lines
            self._thread = threading.Thread(target=show, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop to show."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    @contextlib.contextmanager
    def following(self, source: Callable[[], Count | None]) -> Iterator[None]:
        """Show in this block what `source` says, which is called from another thread; None of it: only the time."""
        before, self._source, self._since = self._source, source, None
        try:
            yield
        finally:
            self._source, self._since = before, None

    def line(self) -> str:
        """Return the progress in words: what is done, of how much, how fast, and the time that is left."""
        elapsed = time.monotonic() - self._started
        count = self._source()
        if count is None:
            return f"  {self._stage}: running for {duration(elapsed)}"
        total = "" if count.total is None else f" of {count.total:,}"
        said = f"  {self._stage}: {count.done:,}{total} {count.unit}"
        rate = self._rate(count)
        if rate:
            said += f", {_number(rate)} a second"
            if count.total is not None:
                said += f", {duration((count.total - count.done) / rate)} left"
        else:
            said += f" after {duration(elapsed)}"
        return f"{said}; {count.more}" if count.more else said

    def _rate(self, count: Count) -> float:
        """Return how much is done in a second, since the first count: 0 while that is not known."""
        now = time.monotonic()
        if self._since is None or count.done < self._since[1]:
            self._since = (now, count.done)
        started, before = self._since
        return (count.done - before) / (now - started) if now > started else 0.0

    def _print_lines(self) -> None:
        due = self._first_s
        while not self._ended.wait(due):
            print(self.line(), file=self._stream, flush=True)
            due = min(_MOST_S, max(self._first_s, _GROWTH * (time.monotonic() - self._started)))

    def _show_bar(self) -> None:
        with tqdm(bar_format="{desc}", leave=False, file=self._stream) as bar:
            while not self._ended.wait(_LOOK_S):
                bar.set_description_str(self.line())


def duration(seconds: float) -> str:
    """Return a duration in words: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
