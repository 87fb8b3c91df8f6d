#!/usr/bin/env python3
"""Translate-Distill (arXiv 2401.04810): a retriever whose queries are in one language and whose passages are in another.

python jobs/td.py                           # the embedded default: English queries, Chinese passages of the bundled corpus, a local Ray
python jobs/td.py --plan                    # what would run, what is reused
python jobs/td.py --languages de --mix.language de
ray job submit --working-dir . -- python jobs/td.py --config jobs/configs/td_zh.yaml --storage s3://bucket/polyray

Selector, teacher and student each have a language of their own for queries and for passages: `select.query_lang` and `select.passage_lang`,
`score.query_lang` and `score.passage_lang`, `mix.query_lang` and `mix.language`. Otherwise the stages are those of jobs/mtd.py.
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
from jobs.mtd import STAGES
from jobs.mtd import pipeline as stages_of_mtd
from jobs.running.command import CONFIGS, Method, Pipeline
from jobs.running.command import main as run_method


def pipeline(config: Config) -> Pipeline:
    """Return the stages of the job: those of Multilingual Translate-Distill, examples being in one language."""
    if config.mix.strategy != "single":
        raise ConfigError(
            f"mix.strategy '{config.mix.strategy}': Translate-Distill trains for one language; set mix.strategy to 'single' and "
            "mix.language to the language, or run jobs/mtd.py"
        )
    return stages_of_mtd(config)


METHOD = Method("td", Config, pipeline, __doc__, STAGES, CONFIGS / "td.yaml")


def main(arguments: Sequence[str]) -> int:
    """Run the job from its command line; return the exit code."""
    return run_method(METHOD, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
