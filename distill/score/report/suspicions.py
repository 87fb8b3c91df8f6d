"""Suspicions: what in a teacher's figures stops a job before a student learns from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.models.locate import ModelError
from distill.score.report.figures import Examination
from distill.score.settings import TeacherCheckSettings


class SuspiciousTeacherError(ModelError):
    """A teacher's scores look wrong. The message names each suspicion, and the setting that allows it."""


@dataclass(frozen=True)
class Suspicion:
    """Something about a teacher that looks wrong.

    Attributes:
        kind: its name in `score.check.allow`.
        message: the teacher, the figure, the limit and likely causes, in one line.
    """

    kind: str
    message: str


_CAUSES = {
    "constant": "the model does not see the passages (a prompt or truncation that drops them), or has an untrained head",
    "random": "an untrained or wrong checkpoint, wrong answer tokens or a missing chat template, a score whose sign is turned, "
    "or judgements of other ids",
    "saturated": "a sigmoid or another activation was applied (raw logits are wanted), or scores were rounded",
    "not_finite": "half precision that overflows, or a model that failed on these pairs (see table rejected)",
    "truncated": "max_tokens is too small for these passages, or the prompt takes most of it",
}


def suspicions(examination: Examination, limits: TeacherCheckSettings) -> list[Suspicion]:
    """List what looks wrong with a teacher."""
    facts = examination.facts()
    found = {
        "constant": _above(facts, "constant_share", limits.constant_share, "of the queries have candidates that all score the same"),
        "random": _near_chance(examination, facts, limits),
        "saturated": _above(facts, "saturated_share", limits.saturated_share, f"of the scores lie at an end of {_range(facts)}"),
        "not_finite": _above(facts, "not_finite_share", limits.not_finite_share, "of the pairs got no finite score"),
        "truncated": _above(facts, "truncated_share", limits.truncated_share, "of the pairs were truncated"),
    }  # fmt: skip
    name = f"teacher '{examination.teacher}' (stage {examination.stage})"
    return [
        Suspicion(kind, f"{name} is suspicious ({kind}): {figure}; likely causes: {_CAUSES[kind]}")
        for kind, figure in found.items()
        if figure
    ]


def _above(facts: Mapping[str, float], measure: str, limit: float, words: str) -> str:
    value = facts.get(measure, 0.0)
    return f"{value:.1%} {words}, the limit is {limit:.1%} (score.check.{measure})" if value > limit else ""


def _range(facts: Mapping[str, float]) -> str:
    return f"their range {facts['minimum']:g} to {facts['maximum']:g}" if "minimum" in facts else ""


def _near_chance(examination: Examination, facts: Mapping[str, float], limits: TeacherCheckSettings) -> str:
    if examination.compared < limits.random_queries:
        return ""
    deviations = facts["judged_best_deviations"]
    if deviations > limits.random_margin:
        return ""
    return (
        f"the best candidate is judged relevant for {facts['judged_best_share']:.1%} of {examination.compared} queries, where a random"
        f" order gives {facts['judged_best_by_chance']:.1%}: {deviations:+.1f} standard errors, expected more than"
        f" {limits.random_margin:g} (score.check.random_margin)"
    )


def refuse_suspicious(found: Sequence[Suspicion], limits: TeacherCheckSettings, location: str) -> list[str]:
    """Return the messages of suspicions that are allowed; raise a `SuspiciousTeacherError` for others.

    Args:
        found: the suspicions.
        limits: the settings, with those that are allowed.
        location: where the report is, for the message.
    """
    refused = [suspicion for suspicion in found if suspicion.kind not in limits.allow]
    if refused:
        kinds = sorted({suspicion.kind for suspicion in refused} | set(limits.allow))
        raise SuspiciousTeacherError(
            "; ".join(suspicion.message for suspicion in refused)
            + f". The report is {location}. To continue set score.check.allow to [{', '.join(kinds)}]"
        )
    return [suspicion.message for suspicion in found]
