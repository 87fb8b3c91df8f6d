#!/usr/bin/env python3
"""MAML-Align (arXiv 2309.08185): a multilingual encoder adapted to languages with a handful of examples each, by meta-distillation.

python jobs/maml_align.py                          # the embedded default: the bundled corpus, a local Ray, local files
python jobs/maml_align.py --plan                   # what would run, what is reused
python jobs/maml_align.py --method maml --tasks.mode trans --baselines '["zero_shot", "fine_tune", "maml"]'
python jobs/maml_align.py --train.variant released_code --train.distillation_weight 0.1
ray job submit --working-dir . -- python jobs/maml_align.py --config jobs/configs/maml_lareqa.yaml --storage s3://bucket/polyray

Tasks are small: a few triplets of a question, its answer and another candidate (or sentence pairs with scores) in the support languages, a
few in the query languages. jobs/tasks.py makes them and shows some. The encoder is read by jobs/train.py, jobs/arm.py and
sentence-transformers.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

from cluster.stages import Runner, Stage
from distill.meta.config import MetaConfig
from distill.settings.load import ConfigError
from jobs.running import meta_learning as stage
from jobs.running.command import CONFIGS, Job, Method
from jobs.running.command import main as run_method


class MetaPipeline(Job[MetaConfig]):
    """A meta-learning: it ends with an encoder for every fold and their comparison with the baselines."""

    def print_plan(self, runner: Runner) -> None:
        """Print stages and their work."""
        from jobs.running.plan import print_plan

        print_plan(self.config, self.stages, runner)

    def check_service(self) -> None:
        """Raise ConfigError: the job makes no endpoint."""
        self.serve()

    def write_report(self, runner: Runner) -> None:
        """Report the quality of every system: on the terminal and as HTML."""
        from jobs.running.meta_finish import write_report

        write_report(self.config, runner)

    def serve(self) -> None:
        """Raise ConfigError: the job makes an encoder and no index."""
        raise ConfigError(
            "--serve: this job makes an encoder and no index to serve; give its checkpoint to jobs/arm.py or jobs/mtd.py "
            "as student.start.model, which end with an endpoint"
        )


def pipeline(config: MetaConfig) -> MetaPipeline:
    """Return the stages of the job: data, encoder, then for each fold tasks, trainings and evaluations, then the comparison."""
    data = stage.sources(config)
    begun = stage.start(config, data)
    stages: list[Stage] = [data, begun]
    neighbours = None
    if config.tasks.needs_vectors and config.source.kind == "retrieval":
        neighbours = stage.vectors(config, data, begun)
        stages += [neighbours]
    modes = config.modes
    evaluations: dict[str, dict[int, Stage]] = {system: {} for system in config.systems}
    for fold in stage.folds(config):
        made = {mode: stage.tasks(config, mode, fold, data, neighbours) for mode in dict.fromkeys(modes.values())}
        stages += made.values()
        for system, method in config.systems.items():
            encoder = begun
            if system in modes:
                encoder = stage.train(config, system, method, fold, begun, made[modes[system]])
                stages += [encoder]
            evaluations[system][fold.number] = stage.evaluate(config, system, fold, data, encoder)
            stages += [evaluations[system][fold.number]]
    return MetaPipeline(config, [*stages, stage.compare(config, evaluations)])


STAGES = "sources start [vectors], for every fold and system: tasks train evaluate, then compare"
METHOD = Method("maml_align", MetaConfig, pipeline, __doc__, STAGES, CONFIGS / "maml_align.yaml")


def main(arguments: Sequence[str]) -> int:
    """Run the job from its command line; return the exit code."""
    return run_method(METHOD, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
