"""Facts of stages and trainings that reports show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class StageFacts:
    """What is shown of a stage's manifest.

    Attributes:
        seconds: how long the stage took when it was computed.
        rows: rows that it wrote.
        rejected: rows that it could not use.
        reused: whether this run found its output already there.
        versions: software versions by name.

    All but `reused` are keys of the manifest, where the versions are called `software`.
    """

    seconds: float
    rows: int
    rejected: int
    reused: bool
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, manifest: Mapping[str, Any], *, reused: bool) -> "StageFacts":
        """The facts of a manifest."""
        return cls(manifest["seconds"], manifest["rows"], manifest["rejected"], reused, manifest.get("software", {}))


def training_summary(log: pa.Table) -> dict[str, int | float]:
    """Steps, and the first and the last loss of a TRAINING_LOG that has a row."""
    log = log.sort_by("step")
    return {
        "steps": log["step"][-1].as_py(),
        "first_loss": log["loss"][0].as_py(),
        "last_loss": log["loss"][-1].as_py(),
    }


def joined_versions(stages: Mapping[str, StageFacts]) -> dict[str, str]:
    """Each software's version; where stages ran with several of them, all, joined by commas."""
    found: dict[str, list[str]] = {}
    for facts in stages.values():
        for software, version in facts.versions.items():
            if version not in found.setdefault(software, []):
                found[software].append(version)
    return {software: ", ".join(versions) for software, versions in sorted(found.items())}


def p_value(p: float) -> str:
    """A p-value to three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
