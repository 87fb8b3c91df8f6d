"""The loop over the steps of a training on one worker: items made ahead, log lines, checkpoints.

Plain torch: where checkpoints are kept is a `Checkpoints`, under Ray Train `distill.train.worker_group.RayCheckpoints`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from distill.train.stream import Prefetch

T = TypeVar("T")
History = dict[str, list[dict[str, Any]]]
"""Rows of the tables that grow while training goes on, by a name: they are kept in checkpoints."""


@runtime_checkable
class Trained(Protocol):
    """The trainer that a loop drives: its weights, its optimiser and the number of steps taken."""

    step: int
    rank: int
    world: int

    def save(self, folder: Path, history: History) -> None:
        """Write a checkpoint."""

    def load(self, folder: Path) -> History:
        """Continue from a checkpoint; return its history."""
        ...


@runtime_checkable
class LoopSettings(Protocol):
    """The settings that a loop reads."""

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between lines of the log."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        ...

    @property
    def prefetch(self) -> int:
        """Items that are made ahead."""
        ...


@runtime_checkable
class Checkpoints(Protocol):
    """Where the checkpoints of a training are kept."""

    def last(self) -> AbstractContextManager[Path | None]:
        """Return a context with the local folder of the last checkpoint; None before the first."""
        ...

    def report(self, metrics: Mapping[str, Any], rank: int, save: Callable[[Path], None]) -> None:
        """Report a step, on every worker alike; on the first one `save` writes the checkpoint into a folder."""


class Loop(ABC, Generic[T]):
    """The steps that are left of a training, from its last checkpoint if there is one.

    A log line, a measurement and a checkpoint are due every `log_every`, `measure_every` and `checkpoint_every` steps, in this order, and
    all at the last step.

    Args:
        trainer: takes the steps; `trainer.step` is the number of those taken.
        settings: how many steps there are, and what is due when.
        checkpoints: where checkpoints are kept.
        tables: names of the lists in `history`; the first holds the log lines, each with its `loss`.
    """

    measure_every: int | None = None
    """Steps between measurements; None: there are none."""

    def __init__(
        self, trainer: Trained, settings: LoopSettings, checkpoints: Checkpoints, tables: tuple[str, ...] = ("log",)
    ) -> None:
        self._trainer = trainer
        self._settings = settings
        self._checkpoints = checkpoints
        self._tables = tables
        self.history: History = {name: [] for name in tables}

    @abstractmethod
    def item(self, step: int) -> T:
        """Return this worker's share of a step (from 0). Called ahead of time, in a thread."""

    @abstractmethod
    def take_step(self, item: T) -> None:
        """Take one optimiser step."""

    @abstractmethod
    def log_line(self) -> None:
        """Add a line to the log: means over the steps since the last one, the same on every worker."""

    def reached(self, step: int, steps: int, loss: float) -> None:
        """Tell how far the training is, after a line of the log; nothing here."""

    def measure(self) -> None:
        """Measure the model as it is; called every `measure_every` steps."""

    def is_over(self) -> bool:
        """Return whether to stop before the last step. Every worker must answer alike."""
        return False

    def metrics(self) -> dict[str, Any]:
        """Return what is reported with a checkpoint besides the step and its loss."""
        return {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold open what the steps need; nothing here."""
        yield

    def run(self) -> None:
        """Take all steps that are left."""
        trainer, settings = self._trainer, self._settings
        with self._checkpoints.last() as folder:
            if folder is not None:
                self.history = trainer.load(folder)
        if trainer.step >= settings.steps or self.is_over():
            return
        with self.opened():
            for item in Prefetch(self.item, range(trainer.step, settings.steps), settings.prefetch):
                self.take_step(item)
                if self._is_due(settings.log_every):
                    self.log_line()
                    self.reached(trainer.step, settings.steps, self.history[self._tables[0]][-1]["loss"])
                if self.measure_every is not None and self._is_due(self.measure_every):
                    self.measure()
                if self._is_due(settings.checkpoint_every):
                    self._report()
                if self.is_over():
                    break

    def _is_due(self, every: int) -> bool:
        step = self._trainer.step
        return step % every == 0 or step == self._settings.steps

    def _report(self) -> None:
        trainer = self._trainer
        metrics = {"step": trainer.step, "loss": self.history[self._tables[0]][-1]["loss"]} | self.metrics()
        self._checkpoints.report(metrics, trainer.rank, lambda folder: trainer.save(folder, self.history))
