"""The plan of a job: stages to run and to reuse, their work, GPU-hours and price."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.stages import Runner, Stage
from distill.models.locate import ModelError
from distill.plan.settings import PlanSettings
from distill.settings.load import JobConfig
from jobs.running.estimates import ASSUMED_PASSAGE, ASSUMED_QUERY
from jobs.running.programs import program

ASSUMED = (
    f"{ASSUMED_QUERY[0]} to {ASSUMED_QUERY[1]} words a query and {ASSUMED_PASSAGE[0]} to {ASSUMED_PASSAGE[1]} a passage"
)


def print_plan(
    config: JobConfig, stages: Sequence[Stage], runner: Runner, hardware: PlanSettings | None = None
) -> None:
    """Print one line a stage (name; run, reuse or skip; digest, work) and the sum; nothing runs.

    Work that depends on stages that are not finished yet is told in terms of settings.

    Args:
        config: the job's configuration.
        stages: its stages in order.
        runner: knows which stages are finished.
        hardware: what GPU-hours and price are counted with; None counts neither.
    """
    print(f"plan of '{config.name}' in {config.storage}; each stage's folder is stages/NAME-DIGEST")
    width = max(20, *(len(stage.name) for stage in stages)) if stages else 20
    least, most, waiting, unknown = 0.0, 0.0, 0, False
    for stage in stages:
        manifest = runner.finished(stage)
        if why := runner.skipped(stage):
            state, said = "skip", why
        elif manifest is not None:
            state = "reuse"
            said = f"{manifest['rows']:,} rows, took {manifest['seconds']:g} s, finished {manifest['finished']}"
        else:
            state = "run"
            costs = cost(stage, runner, hardware)
            said = work_of(stage, runner) + costs.words
            waiting += 1
            least, most = least + costs.hours[0], most + costs.hours[1]
            unknown |= costs.unknown
        print(f"  {stage.name:<{width}} {state:<6} {stage.digest}  {said}")
    facts = [f"{waiting} of {len(stages)} stages to run"]
    if most and hardware:
        facts.append(f"{_hours(hardware, (least, most))} at {_speed(hardware)}")
    if least != most:
        facts.append(f"texts that are not downloaded yet are taken to have {ASSUMED}")
    if unknown:
        facts.append(f"after {program('sources')} a plan counts pairs, tokens and GPU-hours on a sample of the data")
    print("; ".join(facts))


def work_of(stage: Stage, runner: Runner) -> str:
    """Return a stage's work in words."""
    return stage.work if isinstance(stage.work, str) else stage.work(runner)


@dataclass(frozen=True)
class Cost:
    """The cost of a stage.

    Attributes:
        words: tokens, operations, GPU-hours and price, or why they are not estimated; empty where no model runs.
        hours: the least and the most GPU-hours; 0 where they are not known.
        unknown: whether it can be estimated only after an earlier stage.
    """

    words: str = ""
    hours: tuple[float, float] = (0.0, 0.0)
    unknown: bool = False


def cost(stage: Stage, runner: Runner, hardware: PlanSettings | None = None) -> Cost:
    """Return the cost of a stage; without hardware, tokens and operations alone."""
    if stage.estimate is None:
        return Cost()
    try:
        work = stage.estimate(runner)
    except ModelError as error:
        return Cost(f" (not estimated: {error})")
    if work is None:
        return Cost(unknown=True)
    least, most = work
    if not most.operations:
        return Cost()
    tokens = _between(f"{least.tokens:,.0f}", f"{most.tokens:,.0f}")
    words = f": {tokens} tokens, {_between(f'{least.operations:.2g}', f'{most.operations:.2g}')} operations"
    if hardware is None:
        return Cost(words)
    from distill.models.costs import gpu_hours

    hours = (
        gpu_hours(least.operations, hardware.gpu_tflops, hardware.efficiency),
        gpu_hours(most.operations, hardware.gpu_tflops, hardware.efficiency),
    )
    return Cost(f"{words}, {_hours(hardware, hours)}", hours)


def _between(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _hours(hardware: PlanSettings, hours: tuple[float, float]) -> str:
    price = hardware.price_per_gpu_hour
    words = f"{_between(f'{hours[0]:,.3g}', f'{hours[1]:,.3g}')} GPU-hours"
    if price is None:
        return words
    return f"{words}, cost {_between(f'{hours[0] * price:,.2f}', f'{hours[1] * price:,.2f}')}"


def _speed(hardware: PlanSettings) -> str:
    return f"{hardware.efficiency:.0%} of {hardware.gpu_tflops:g} TFLOP/s (plan.efficiency, plan.gpu_tflops)"
