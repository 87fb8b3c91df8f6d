"""The parts that the reports of all runs share: facts of stages and trainings, rejected rows, and the page around them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from distill.pages import plots
from distill.pages.page import page

_REJECTED_SHOWN = 20


@dataclass(frozen=True)
class StageFacts:
    """The facts of a stage that a report shows.

    Attributes:
        seconds: how long the stage took when it was computed.
        rows: rows that it wrote.
        rejected: rows that it could not use.
        reused: whether this run reused the output of an earlier one.
        versions: software versions by name.
        warnings: what the stage warned of.

    All but `reused` are keys of the manifest, where the versions are called `software` and the warnings are among the `notes`.
    """

    seconds: float
    rows: int
    rejected: int
    reused: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, manifest: Mapping[str, Any], *, reused: bool) -> "StageFacts":
        """Return the facts of a manifest."""
        warnings = tuple(manifest.get("notes", {}).get("warnings", ()))
        counts = (manifest["seconds"], manifest["rows"], manifest["rejected"])
        return cls(*counts, reused, manifest.get("software", {}), warnings)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The facts that the report of every run shows.

    Attributes:
        name: the run's name.
        settings: the resolved configuration as YAML.
        stages: facts of every stage by name, in the order in which they ran.
        rejected: stage -> REJECTED, of stages that rejected rows.
        confidence: level of the confidence intervals, default 0.95.
    """

    name: str
    settings: str
    stages: Mapping[str, StageFacts]
    rejected: Mapping[str, pa.Table] = field(default_factory=dict)
    confidence: float = 0.95

    @property
    def rejected_count(self) -> int:
        """The rows that all stages rejected."""
        return sum(facts.rejected for facts in self.stages.values())

    def shared_summary(self) -> dict[str, Any]:
        """Return the part of `summary.json` that all runs share: name, confidence, stages, their warnings, and versions."""
        return {
            "name": self.name,
            "confidence": self.confidence,
            "stages": {
                stage: {
                    "seconds": facts.seconds,
                    "rows": facts.rows,
                    "rejected": facts.rejected,
                    "reused": facts.reused,
                }
                for stage, facts in self.stages.items()
            },
            "warnings": {stage: list(facts.warnings) for stage, facts in self.stages.items() if facts.warnings},
            "versions": _joined_versions(self.stages),
        }

    def page(self, template: str, numbers: Mapping[str, Any], figures: Mapping[str, str], **values: object) -> str:
        """Return the run's report as one HTML file.

        Args:
            template: name of a template in `distill` that extends `pages/page.html.j2`.
            numbers: what `summary.json` holds.
            figures: title -> SVG; the figure of the stages is added.
            values: what else the template shows.
        """
        from markupsafe import Markup

        figures = {**figures, **self._stage_figure()}
        rejected = [row | {"stage": stage} for stage, table in self.rejected.items() for row in table.to_pylist()]
        return page(
            template,
            inputs=self,
            summary=numbers,
            figures={title: Markup(svg) for title, svg in figures.items()},  # noqa: S704 - drawn here, with escaped labels
            rejected=rejected[:_REJECTED_SHOWN],
            rejected_count=self.rejected_count,
            p_value=_p_value,
            **values,
        )

    def _stage_figure(self) -> dict[str, str]:
        if not self.stages:
            return {}
        seconds = {stage: facts.seconds for stage, facts in self.stages.items()}
        reused = [stage for stage, facts in self.stages.items() if facts.reused]
        return {"stages": plots.stage_bars(seconds, reused)}


def training_summary(log: pa.Table) -> dict[str, int | float]:
    """Return the number of steps and the first and last loss of a TRAINING_LOG, which must have a row."""
    log = log.sort_by("step")
    return {
        "steps": log["step"][-1].as_py(),
        "first_loss": log["loss"][0].as_py(),
        "last_loss": log["loss"][-1].as_py(),
    }


def _joined_versions(stages: Mapping[str, StageFacts]) -> dict[str, str]:
    """Return the version of each software; if stages ran with several, all of them, joined by commas."""
    known: dict[str, list[str]] = {}
    for facts in stages.values():
        for software, version in facts.versions.items():
            if version not in known.setdefault(software, []):
                known[software].append(version)
    return {software: ", ".join(versions) for software, versions in sorted(known.items())}


def _p_value(p: float) -> str:
    """Return a p-value to three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
