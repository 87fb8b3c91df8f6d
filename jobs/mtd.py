#!/usr/bin/env python3
"""Multilingual Translate-Distill (arXiv 2405.00977), from raw text in one language to a multilingual search endpoint.

python jobs/mtd.py                          # the embedded default: a local Ray, the bundled corpus, local files
python jobs/mtd.py --plan                   # what would run, what is reused
python jobs/mtd.py --config my.yaml --train.learning_rate 1e-5 --serve
ray job submit --working-dir . -- python jobs/mtd.py --storage s3://bucket/polyray
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # the project's folder instead of this one, whose serve.py would hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster.stages import Stage
from distill.config import Config
from jobs import pipeline as stage
from jobs.command import Pipeline, main


def pipeline(config: Config) -> Pipeline:
    """The stages of the job, top to bottom."""
    data = stage.sources(config)
    translations = stage.translate(config, data)
    candidates = stage.select(config, data, translations)
    judged = stage.score(config, data, candidates, translations)
    scores = stage.calibrate(config, data, candidates, judged)
    examples = stage.mix(config, data, translations, scores)
    student = stage.train(config, data, translations, examples)
    documents = stage.sources(config, config.evaluate.source, "evaluation_sources") if config.evaluate.source else data
    index = stage.index(config, documents, translations, student)
    students = {"student": (student, index)}
    stages: list[Stage] = [data, translations, candidates, *judged, scores, examples, student]
    stages += [documents] if documents is not data else []
    stages += [index]
    if config.evaluate.english_baseline:
        english_examples = stage.mix(config, data, translations, scores, english=True)
        english_student = stage.train(config, data, translations, english_examples)
        english_index = stage.index(config, documents, translations, english_student)
        students["english_distillation"] = (english_student, english_index)
        stages += [english_examples, english_student, english_index]
    runs = stage.retrieve(config, documents, translations, scores, students)
    evaluation = stage.evaluate(config, documents, index, runs)
    return Pipeline(config, [*stages, runs, evaluation])


if __name__ == "__main__":
    main(pipeline, __file__, __doc__)
