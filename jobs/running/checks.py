"""Checks of stages before the first stage runs: what settings, models and data say about a failure that would come later.

Each function here is the `check` of a stage, or a part of one: it raises UserError. What depends on data returns quietly where the stage
that reads them is not finished.
"""

from collections.abc import Callable

from cluster.errors import UserError
from cluster.stages import Runner, Stage
from distill.config import Config


def evaluation(config: Config, documents: Stage) -> Callable[[Runner], None]:
    """Return the check of the evaluation: every measure can be computed, and the source that is for evaluation alone has judged queries."""

    def check(runner: Runner) -> None:
        from distill.measures.metrics import check_measures

        check_measures(config.evaluate.measures)
        if config.evaluate.source is not None and (why := why_not_evaluated(config, documents, runner)):
            raise UserError(f"evaluate.source has nothing to evaluate: {why}")

    return check


def skip_evaluation(config: Config, documents: Stage) -> Callable[[Runner], str]:
    """Return a function that says why there is nothing to evaluate, for the stages of the evaluation.

    A job whose own source has no judged query of the split trains and indexes, and ends without figures.
    """
    known: list[str] = []

    def skip(runner: Runner) -> str:
        if config.evaluate.source is not None or runner.finished(documents) is None:
            return ""
        if not known:  # asked for many times, and what is read does not change
            known.append(why_not_evaluated(config, documents, runner))
        return known[0]

    return skip


def why_not_evaluated(config: Config, documents: Stage, runner: Runner) -> str:
    """Return why no query can be evaluated; empty where one can, and before the source is read."""
    from distill.evaluate.queries import nothing_to_evaluate

    if runner.finished(documents) is None:
        return ""
    queries = runner.table(documents, "queries").read(columns=["query_id", "lang", "split"])
    qrels = runner.table(documents, "qrels").read()
    lang = config.evaluate.query_lang or config.source_lang
    return nothing_to_evaluate(queries, qrels, config.evaluate.split, lang)


def source_passages(config: Config, data: Stage, runner: Runner) -> None:
    """Raise UserError where the source has no passage that the teacher could read, and none is made."""
    if runner.rows(data, "passages") == 0 and config.translate.elsewhere == "leave_out":
        raise UserError(
            f"the source has no passage in '{config.source_lang}' (source_lang), so that nothing can be trained on: set source_lang to a "
            "language that it has, translate.elsewhere to 'translate', or evaluate.source to a source that is only searched"
        )


def both(first: Callable[[Runner], None], second: Callable[[Runner], None]) -> Callable[[Runner], None]:
    """Return the check of two others, one after the other."""

    def check(runner: Runner) -> None:
        first(runner)
        second(runner)

    return check
