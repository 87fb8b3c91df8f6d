"""Training curves in TensorBoard, Weights & Biases or MLflow, through their own libraries (the extra `tracking`)."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import how_to_install
from distill.train.settings import Logger
from distill.train.trainer import TrainingError


class Tracker(ABC):
    """A destination for the numbers of a training."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of a step by name; a name's slashes make groups."""

    @abstractmethod
    def close(self) -> None:
        """Write what is not written yet."""


class TensorBoardTracker(Tracker):
    """Event files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._writer = _library("tensorboardX", "tensorboard").SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbTracker(Tracker):
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and the like decide where it goes."""

    def __init__(self, name: str, settings: Mapping[str, Any], folder: Path) -> None:
        # The id makes a resumed training continue its run.
        run_id = name.replace("/", "-")
        self._run = _library("wandb", "wandb").init(
            id=run_id, name=name, resume="allow", config=dict(settings), dir=str(folder)
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log at a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class MlflowTracker(Tracker):
    """A run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME decide where it goes."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self._mlflow = _library("mlflow", "mlflow")
        found = self._mlflow.search_runs(filter_string=f"attributes.run_name = '{name}'", output_format="list")
        if found:
            self._mlflow.start_run(run_id=found[0].info.run_id)
        else:
            self._mlflow.start_run(run_name=name)
            self._mlflow.log_params(_flat(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def open_trackers(loggers: Sequence[Logger], name: str, settings: Mapping[str, Any], folder: Path) -> list[Tracker]:
    """Open the trackers of the settings, with their files under `folder`; a `TrainingError` for a missing library."""
    found: list[Tracker] = []
    for logger in loggers:
        match logger:
            case "tensorboard":
                found.append(TensorBoardTracker(folder / "tensorboard"))
            case "wandb":
                found.append(WandbTracker(name, settings, folder))
            case "mlflow":
                found.append(MlflowTracker(name, settings))
    return found


def _library(module: str, logger: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TrainingError(f"train.loggers: '{logger}' needs its library: {how_to_install('tracking')}") from error


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
