"""Methods: the settings that each implies, and checks of settings that contradict a method or each other."""

from typing import Any, Literal

from distill.encoders.settings import SingleVectorStudent, StudentSettings
from distill.formats.settings import PylateExamples
from distill.mix.settings import MixSettings, NegativeSettings
from distill.select.settings import SelectSettings
from distill.train.loss_settings import CrossEntropyLoss, KlLoss, LanguageLoss, RelevanceMarginLoss, summands
from distill.train.settings import TrainSettings

Method = Literal["distillation", "english_distillation", "translate_train", "self_distillation"]

WITHOUT_TEACHER = {"translate_train": CrossEntropyLoss(), "self_distillation": RelevanceMarginLoss()}
"""The methods without a teacher, and the loss that each implies."""

_OF_SCORES = ("margin", "relative_margin", "min_score", "max_score")
"""Options of `mix.negatives` that read the teacher's scores."""


def has_teacher(method: Method) -> bool:
    """Return whether a teacher scores the candidates."""
    return method not in WITHOUT_TEACHER


def implied(
    method: Method, select: SelectSettings, mix: MixSettings, train: TrainSettings
) -> tuple[SelectSettings, MixSettings, TrainSettings]:
    """Return the settings with what the method implies: see `Config.method`."""
    if has_teacher(method):
        return select, mix, train
    alone: dict[str, Any] = {"group": 1, "missing": "error"}
    if mix.imported is None:
        select = select.model_copy(update={"add_judged": True})
        alone["negatives"] = mix.negatives or NegativeSettings()
    mix = MixSettings.model_validate(dict(mix) | alone)
    if isinstance(train.loss, KlLoss):
        train = TrainSettings.model_validate(dict(train) | {"loss": WITHOUT_TEACHER[method]})
    return select, mix, train


def check(
    method: Method,
    select: SelectSettings,
    mix: MixSettings,
    train: TrainSettings,
    student: StudentSettings,
    languages: int,
) -> None:
    """Raise ValueError for settings that contradict the method or each other.

    Args:
        method: the method.
        select: the candidates.
        mix: the examples.
        train: the training.
        student: the model that is trained.
        languages: how many languages examples are drawn in.
    """
    loss = train.loss
    if not has_teacher(method) and loss.needs_teacher:
        raise ValueError(f"method '{method}' has no teacher, but train.loss '{loss.type}' needs one")
    used = [name for name in _OF_SCORES if mix.negatives is not None and getattr(mix.negatives, name) is not None]
    if not has_teacher(method) and used:
        raise ValueError(f"method '{method}' has no teacher, but mix.negatives.{used[0]} reads its scores")
    if loss.needs_positive and not _positive_first(mix):
        raise ValueError(
            f"train.loss '{loss.type}' needs a positive in each example; set mix.negatives (with include_positive)"
        )
    if loss.needs_positive and mix.group > 1:
        raise ValueError(
            f"train.loss '{loss.type}' takes the first passage for the positive, but with mix.group {mix.group} it is that of the group's "
            "first query alone; set mix.group to 1"
        )
    if mix.sampling == "pairs" and not _positive_first(mix):
        raise ValueError("mix.sampling 'pairs' needs positives; set mix.negatives (with include_positive)")
    kinds = {type(summand) for summand in summands(loss)}
    if RelevanceMarginLoss in kinds and mix.n_way != 2:
        raise ValueError(
            f"train.loss 'relevance_margin' takes a positive and a negative, but mix.n_way is {mix.n_way}; set it to 2"
        )
    if RelevanceMarginLoss in kinds and not (isinstance(student, SingleVectorStudent) and student.normalize):
        raise ValueError(
            "train.loss 'relevance_margin' compares cosines of single vectors; set student.type to 'single_vector', with normalize"
        )
    if LanguageLoss in kinds and (mix.strategy != "round_robin" or languages < 2):
        raise ValueError(
            "the loss 'language' compares an entry's languages: it needs mix.strategy 'round_robin' and two languages or more"
        )
    if mix.imported is None:
        _check_candidates(select.by.top_k, mix)
    _check_shares(mix, train, languages)


def _check_candidates(top_k: int, mix: MixSettings) -> None:
    """Raise ValueError if no query can have enough candidates for an example."""
    negatives = mix.negatives or NegativeSettings(include_positive=False)
    last = min(top_k, negatives.last_rank or top_k)
    window, wanted = last - negatives.first_rank + 1, mix.n_way - 1
    if negatives.include_positive and window < wanted:
        raise ValueError(
            f"mix.negatives leaves ranks {negatives.first_rank} to {last} of select.by.top_k {top_k}, but mix.n_way {mix.n_way} needs "
            f"{wanted} negatives; widen them, or lower mix.n_way"
        )
    if mix.negatives is None and top_k < mix.n_way:
        raise ValueError(f"select.by.top_k {top_k} is less than mix.n_way {mix.n_way}: no query has so many candidates")


def _positive_first(mix: MixSettings) -> bool:
    """Return whether every example begins with a positive, as far as settings tell."""
    if mix.imported is not None:
        return not isinstance(mix.imported, PylateExamples)
    return mix.negatives is not None and mix.negatives.include_positive


def _check_shares(mix: MixSettings, train: TrainSettings, languages: int) -> None:
    """Raise ValueError if a worker's share of a batch cuts a group or an entry. Shares of an elastic group differ by whole ones."""
    share, what = train.batch_size, "train.batch_size"
    if train.max_workers is None:
        share, what = train.batch_size // train.workers, "train.batch_size / train.workers"
    if share % mix.group:
        raise ValueError(f"{what} = {share} is not a multiple of mix.group {mix.group}, which no worker may cut")
    if mix.strategy == "round_robin" and share % languages:
        raise ValueError(
            f"{what} = {share} is not a multiple of the {languages} languages of each round_robin entry, which no worker may cut"
        )
    unit = mix.unit(languages)
    parts = train.most_workers * train.accumulate
    if train.batch_size // unit < parts:
        raise ValueError(
            f"train.batch_size {train.batch_size} is {train.batch_size // unit} uncut parts of {unit} examples, fewer than {parts}: "
            "workers x train.accumulate"
        )
