#!/usr/bin/env python3
"""Multilingual Translate-Distill (arXiv 2405.00977), from raw text in one language to a multilingual search endpoint.

python jobs/mtd.py                          # the embedded default: a local Ray, the bundled corpus, local files
python jobs/mtd.py --plan                   # what would run, what is reused
python jobs/mtd.py --config my.yaml --train.learning_rate 1e-5 --serve
python jobs/mtd.py --method translate_train # a baseline of the papers: no teacher, judgements instead
ray job submit --working-dir . -- python jobs/mtd.py --storage s3://bucket/polyray
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from cluster import interrupts

    interrupts.begin()

from cluster.stages import Stage
from distill.config import Config
from jobs.running import distillation as stage
from jobs.running.checks import skip_evaluation
from jobs.running.command import Method, Pipeline
from jobs.running.command import main as run_method


def pipeline(config: Config) -> Pipeline:
    """Return the stages of the job, top to bottom. Without a teacher (`method`) those of its scores are left out."""
    data = stage.sources(config)
    translations = stage.translate(config, data)
    documents = stage.sources(config, config.evaluate.source, "evaluation_sources") if config.evaluate.source else data
    stages: list[Stage] = [data, *([documents] if documents is not data else []), translations]
    scores = None
    if config.mix.imported:
        examples = stage.imported_mix(config)
    else:
        candidates = stage.select(config, data, translations)
        stages += [candidates]
        if config.has_teacher:
            judged = stage.score(config, data, candidates, translations)
            scores = stage.calibrate(config, data, candidates, judged)
            stages += [*judged, scores]
        examples = stage.mix(config, data, translations, scores or candidates)
    student = stage.train(config, data, translations, examples)
    index = stage.index(config, documents, translations, student)
    students = {"student": (student, index)}
    stages += [examples, student, index]
    if scores and config.compares_english:
        english_examples = stage.mix(config, data, translations, scores, english=True)
        english_student = stage.train(config, data, translations, english_examples)
        english_index = stage.index(config, documents, translations, english_student)
        students["english_distillation"] = (english_student, english_index)
        baseline = (english_examples, english_student, english_index)
        stages += [replace(one, skip=skip_evaluation(config, documents)) for one in baseline]
    runs = stage.retrieve(config, documents, translations, scores, students)
    evaluation = stage.evaluate(config, documents, index, runs)
    return Pipeline(config, [*stages, runs, evaluation])


STAGES = "sources translate select score calibrate mix train index [english_mix english_train english_index] retrieve evaluate"
METHOD = Method("mtd", Config, pipeline, __doc__, STAGES)


def main(arguments: Sequence[str]) -> int:
    """Run the job from its command line; return the exit code."""
    return run_method(METHOD, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
