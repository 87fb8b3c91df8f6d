"""The configuration of a job: YAML files, overridden by `POLYRAY_*` environment variables, overridden by the command line.

Field defaults are the papers' own where a paper has one (the docstring says which); `jobs/configs/` holds whole configurations. Nothing
here imports torch or ray, so a configuration can be written, checked and planned anywhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from distill.encoders.settings import LateInteractionStudent, StudentSettings
from distill.evaluate.settings import EvaluateSettings
from distill.index.settings import IndexSettings
from distill.method import WITHOUT_TEACHER, Method, check, has_teacher, implied
from distill.mix.settings import MixSettings
from distill.plan.settings import PlanSettings
from distill.score.settings import ScoreSettings
from distill.select.settings import SelectSettings
from distill.settings.base import Language
from distill.settings.load import JobConfig, load_as
from distill.settings.serve import ServeSettings
from distill.sources.settings import BundledSource, Source
from distill.train.settings import TrainSettings
from distill.translate.settings import TranslateSettings


class Config(JobConfig):
    """A Polyray job: sources, select, translate, score, mix, train, index, evaluate, report, serve."""

    source_lang: Language = "en"
    """The language of the training queries, in which the teacher reads."""
    languages: tuple[Language, ...] = ("de", "fr", "es", "zh", "fa", "ru")
    """The other languages, in which the student learns to find passages. Empty for a student of `source_lang` alone, which `mix.language`
    then names."""
    method: Method = "distillation"
    """How the student learns.

    - `distillation`: from a teacher's scores, of passages in the mixed languages (Translate-Distill, arXiv 2401.04810, and its multilingual
      form, arXiv 2405.00977).
    - `english_distillation`: the same on passages in `source_lang` only, a baseline.
    - `translate_train`: from judgements, without a teacher: a baseline. Candidates are those of the selector, the judged passages among
      them (`select.add_judged`); each example begins with a positive (`mix.negatives`) and the loss is `cross_entropy`.
    - `self_distillation`: the same with the loss `relevance_margin` (arXiv 2407.21515).

    The last two set what is said here of the other settings, and `mix.group` to 1, since groups share a teacher's scores. A loss other than
    `kl` is kept; one that needs a teacher is an error."""
    source: Source = BundledSource()
    """Source of queries, passages and judgements."""
    select: SelectSettings = SelectSettings()
    """Candidates: the passages that the teacher scores for each query."""
    translate: TranslateSettings = TranslateSettings()
    """Translations of the passages: files, data sets, or a translator."""
    score: ScoreSettings = ScoreSettings()
    """The teacher, its calibration and the checks of its scores."""
    mix: MixSettings = MixSettings()
    """Training examples, made of scores and passages."""
    student: StudentSettings = LateInteractionStudent()
    """The model that is trained, and what it starts from."""
    train: TrainSettings = TrainSettings()
    """Loss, optimiser, batches, checkpoints and workers of the training."""
    index: IndexSettings = IndexSettings()
    """Encoding of the documents for the index."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """Queries, measures and baselines of the evaluation."""
    serve: ServeSettings = ServeSettings()
    """The search endpoint."""
    plan: PlanSettings = PlanSettings()
    """The hardware that `--plan` estimates for."""

    @model_validator(mode="before")
    @classmethod
    def _with_what_the_method_implies(cls, given: Any) -> Any:
        """Add what the method implies to the given settings. Their own faults are left to the validation of each group."""
        if not isinstance(given, dict) or given.get("method") not in WITHOUT_TEACHER:
            return given
        try:
            select = SelectSettings.model_validate(given.get("select", {}))
            mix = MixSettings.model_validate(given.get("mix", {}))
            train = TrainSettings.model_validate(given.get("train", {}))
        except ValidationError:
            return given
        select, mix, train = implied(given["method"], select, mix, train)
        return given | {"select": select, "mix": mix, "train": train}

    @model_validator(mode="after")
    def _languages_agree(self) -> "Config":
        if self.source_lang in self.languages:
            raise ValueError(f"languages holds the source language '{self.source_lang}'; list only the others")
        if len(set(self.languages)) != len(self.languages):
            raise ValueError(f"languages {list(self.languages)} names a language twice")
        if not self.mixed_languages:
            raise ValueError(
                "languages is empty: name one, or train for source_lang with mix.strategy 'single' and mix.language"
            )
        known = {self.source_lang, *self.languages}
        drawn = {*self.mix.languages, *([self.mix.language] if self.mix.language else [])}
        if drawn - known:
            raise ValueError(
                f"mix draws from {sorted(drawn - known)}, which are neither source_lang nor in languages {sorted(known)}"
            )
        if self.mix.imported is None and self.student_query_lang not in known:
            raise ValueError(
                f"mix.query_lang '{self.mix.query_lang}' is neither source_lang nor in languages {sorted(known)}"
            )
        return self

    @model_validator(mode="after")
    def _method_agrees(self) -> "Config":
        check(self.method, self.select, self.mix, self.train, self.student, len(self.mixed_languages))
        return self

    @property
    def has_teacher(self) -> bool:
        """True if a teacher scores the candidates."""
        return has_teacher(self.method)

    @property
    def compares_english(self) -> bool:
        """True if a second student is trained on passages in the source language, to compare with."""
        return self.evaluate.english_baseline and self.method == "distillation" and self.mix.imported is None

    @property
    def student_query_lang(self) -> str:
        """The language in which the student reads queries."""
        return self.mix.query_lang or self.source_lang

    @property
    def batch_unit(self) -> int:
        """Examples in a row that belong together in a batch: a group's queries, or the language versions of a round-robin entry."""
        return self.mix.unit(len(self.mixed_languages))

    @property
    def mixed_languages(self) -> tuple[str, ...]:
        """The languages that examples are drawn in."""
        if self.method == "english_distillation":
            return (self.source_lang,)
        if self.mix.language:
            return (self.mix.language,)
        return self.mix.languages or self.languages


def load(files: Sequence[str | Path] = (), arguments: Sequence[str] = (), program: str = "polyray") -> Config:
    """Read the configuration of a distillation, see `load_as`."""
    return load_as(Config, files, arguments, program)
