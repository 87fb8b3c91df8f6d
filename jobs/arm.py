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
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster.stages import Stage
from distill.config import Config, ConfigError
from jobs import pipeline as stage
from jobs.command import Pipeline, main

DEFAULT = Path(__file__).parent / "configs" / "arm.yaml"


def pipeline(config: Config) -> Pipeline:
    """The stages of the job, top to bottom."""
    if config.method != "self_distillation":
        raise ConfigError(f"method '{config.method}': jobs/arm.py distils a student from itself; set self_distillation")
    data = stage.sources(config)
    translations = stage.translate(config, data)
    stages: list[Stage] = [data, translations]
    if config.mix.imported:
        examples = stage.imported_mix(config)
    else:
        candidates = stage.select(config, data, translations)
        examples = stage.mix(config, data, translations, candidates)
        stages += [candidates]
    student = stage.train(config, data, translations, examples)
    documents = stage.sources(config, config.evaluate.source, "evaluation_sources") if config.evaluate.source else data
    index = stage.index(config, documents, translations, student)
    runs = stage.retrieve(config, documents, translations, None, {"student": (student, index)})
    evaluation = stage.evaluate(config, documents, index, runs)
    stages += [examples, student, *([documents] if documents is not data else []), index, runs, evaluation]
    return Pipeline(config, stages)


if __name__ == "__main__":
    main(pipeline, __file__, __doc__, default=DEFAULT)
