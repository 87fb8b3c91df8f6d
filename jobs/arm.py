#!/usr/bin/env python3
"""Self-distillation with adaptive relevance margins (arXiv 2407.21515): a single-vector retriever from judgements, without a teacher.

python jobs/arm.py                          # the embedded default: the bundled corpus, a local Ray, local files
python jobs/arm.py --plan                   # what would run, what is reused
python jobs/arm.py --train.loss.margin adaptive
ray job submit --working-dir . -- python jobs/arm.py --config jobs/configs/arm_msmarco.yaml --storage s3://bucket/polyray

Each query has as many pairs of a positive and a negative as there are epochs (`mix.epochs`). The student's own similarities of the two
passages say how far apart their scores should be.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

from distill.config import Config
from distill.settings.load import ConfigError
from jobs.mtd import pipeline as stages_of_mtd
from jobs.running.command import CONFIGS, Method, Pipeline
from jobs.running.command import main as run_method


def pipeline(config: Config) -> Pipeline:
    """Return the stages of the job: those of jobs/mtd.py, which leaves the teacher out where there is none."""
    if config.method != "self_distillation":
        raise ConfigError(f"method '{config.method}': jobs/arm.py distils a student from itself; set self_distillation")
    return stages_of_mtd(config)


STAGES = "sources translate select mix train index retrieve evaluate"
METHOD = Method("arm", Config, pipeline, __doc__, STAGES, CONFIGS / "arm.yaml")


def main(arguments: Sequence[str]) -> int:
    """Run the job from its command line; return the exit code."""
    return run_method(METHOD, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
