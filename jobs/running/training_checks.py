"""Checks of a training before the first stage: lengths of texts against the student's positions, and the queries that watch it."""

from pathlib import Path

from cluster.stages import Runner, Stage
from distill.config import Config
from distill.encoders.settings import FreshStudent
from distill.models.locate import locate
from jobs.running import model_checks


def check_training(config: Config, data: Stage, runner: Runner) -> None:
    """Raise UserError where the training of a student cannot begin, or would be watched with nothing."""
    model_checks.student(config.student, config.train)(runner)
    check_student(config)
    if config.train.dev is not None and runner.finished(data) is not None:
        from distill.train.dev import judged_queries

        queries = runner.table(data, "queries").read(columns=["query_id", "split", "lang"])
        judgements = runner.table(data, "qrels").read(columns=["query_id", "relevance"])
        judged_queries(queries, judgements, config.student_query_lang)


def check_student(config: Config) -> None:
    """Raise a `ModelError` where texts may be longer than the model that the student starts from has positions."""
    start = config.student.start
    if isinstance(start, FreshStudent):
        return
    from distill.encoders.start import check_lengths
    from distill.models.loading import load_config

    folder = Path(locate(start.model))
    if folder.is_dir() and not (folder / "config.json").is_file():
        return  # its configuration is in a folder below, and read with the weights
    check_lengths(config.student, load_config(start.model, start.revision))
