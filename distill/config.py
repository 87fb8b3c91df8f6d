"""The configuration of a job: YAML files, overridden by `POLYRAY_*` environment variables, overridden by the command line.

Field defaults are the papers' own where a paper has one (the docstring says which); `jobs/configs/` holds whole configurations. Nothing
here imports torch or ray, so a configuration can be written, checked and planned anywhere.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from distill.encoders.settings import LateInteractionStudent, StudentSettings
from distill.method import Method, check, has_teacher, implied
from distill.mix.settings import MixSettings
from distill.plan.settings import PlanSettings
from distill.score.settings import ScoreSettings
from distill.select.settings import SelectSettings
from distill.settings.base import Language
from distill.settings.serve import ClusterSettings, EvaluateSettings, IndexSettings, ServeSettings
from distill.sources.settings import BundledSource, Source
from distill.train.settings import TrainSettings
from distill.translate.settings import TranslateSettings


class ConfigError(ValueError):
    """The configuration cannot be used. The message is one line that names the setting, its value and what was expected."""


class GivenSettings(BaseSettings):
    """Settings made of what is passed in alone: made in code, they depend on nothing around them. Who loads them decides the sources."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class JobConfig(GivenSettings):
    """What every job has."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix="POLYRAY_",
        env_nested_delimiter="__",
        env_nested_max_split=4,
    )

    name: str = Field(default="mtd", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run and of its folder."""
    storage: str = "polyray-data"
    """Where stages and runs lie: a local folder or s3://bucket/prefix."""
    seed: int = 153
    """Seed of every draw: sampling, languages, new weights."""
    max_rejected: float = Field(default=0.01, ge=0, le=1)
    """Share of a stage's rows that may be rejected before the stage fails. Each is listed with its reason in any case."""
    cluster: ClusterSettings = ClusterSettings()
    """Ray."""


class Config(JobConfig):
    """A Polyray job: sources, select, translate, score, mix, train, index, evaluate, report, serve."""

    source_lang: Language = "en"
    """The language of the training queries, and the one in which the teacher reads."""
    languages: tuple[Language, ...] = ("de", "fr", "es", "zh", "fa", "ru")
    """The other languages, in which the student learns to find passages. None, for a student of `source_lang` alone, which `mix.language`
    then is."""
    method: Method = "distillation"
    """How the student learns.

    - `distillation`: from a teacher's scores, of passages in the mixed languages (Translate-Distill, arXiv 2401.04810, and its multilingual
      form, arXiv 2405.00977).
    - `english_distillation`: the same on passages in `source_lang` only, a baseline.
    - `translate_train`: from judgements, without a teacher: a baseline. Candidates are those of the selector, the judged passages among
      them (`select.add_judged`); each example begins with a positive (`mix.negatives`) and the loss is `cross_entropy`.
    - `self_distillation`: the same with the loss `relevance_margin` (arXiv 2407.21515).

    The last two imply the settings that they are said to have, and no groups (`mix.group`), which share scores of a teacher. A loss other
    than `kl` stays; it is refused if it needs a teacher."""
    source: Source = BundledSource()
    """Queries and passages."""
    select: SelectSettings = SelectSettings()
    """Candidates for the teacher."""
    translate: TranslateSettings = TranslateSettings()
    """Translations of the passages."""
    score: ScoreSettings = ScoreSettings()
    """The teacher's scores."""
    mix: MixSettings = MixSettings()
    """Training examples."""
    student: StudentSettings = LateInteractionStudent()
    """The model that is trained."""
    train: TrainSettings = TrainSettings()
    """Training."""
    index: IndexSettings = IndexSettings()
    """The index."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """Evaluation."""
    serve: ServeSettings = ServeSettings()
    """The endpoint."""
    plan: PlanSettings = PlanSettings()
    """What `--plan` counts with."""

    @model_validator(mode="after")
    def _languages_agree(self) -> "Config":
        if self.source_lang in self.languages:
            message = f"languages holds the source language '{self.source_lang}'; list only the others"
            raise ValueError(message)
        if len(set(self.languages)) != len(self.languages):
            message = f"languages {list(self.languages)} names a language twice"
            raise ValueError(message)
        if not self.mixed_languages:
            raise ValueError(
                "languages is empty: name one, or train for source_lang with mix.strategy 'single' and mix.language"
            )
        known = {self.source_lang, *self.languages}
        drawn = {*self.mix.languages, *([self.mix.language] if self.mix.language else [])}
        if drawn - known:
            message = f"mix draws from {sorted(drawn - known)}, which are neither source_lang nor in languages {sorted(known)}"
            raise ValueError(message)
        if self.mix.imported is None and self.student_query_lang not in known:
            message = f"mix.query_lang '{self.mix.query_lang}' is neither source_lang nor in languages {sorted(known)}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _method_agrees(self) -> "Config":
        groups = implied(self.method, self.select, self.mix, self.train)
        for name, settings in zip(("select", "mix", "train"), groups, strict=True):
            object.__setattr__(self, name, settings)  # frozen for everyone else
        check(self.method, self.mix, self.train, len(self.mixed_languages))
        return self

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher scores the candidates."""
        return has_teacher(self.method)

    @property
    def compares_english(self) -> bool:
        """Whether a second student is trained on passages in the source language, to compare with."""
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
    """`load_as` of the configuration that most jobs have."""
    return load_as(Config, files, arguments, program)


C = TypeVar("C", bound=JobConfig)


def load_as(
    kind: type[C], files: Sequence[str | Path] = (), arguments: Sequence[str] = (), program: str = "polyray"
) -> C:
    """Read a configuration: YAML files in order, then `POLYRAY_*` variables, then command-line arguments, the last word winning.

    Unknown names, wrong types and impossible combinations raise a `ConfigError` of one line for each fault.
    `--help` among the arguments prints every setting and exits.
    """
    layers: list[dict[str, Any]] = [_yaml(Path(file)) for file in files]
    try:
        layers.append(EnvSettingsSource(kind)())
    except ValueError as error:
        message = f"environment: {error}"
        raise ConfigError(message) from error
    try:
        layers.append(CliSettingsSource(kind, cli_parse_args=list(arguments), cli_prog_name=program, **_CLI)())
    except ValueError as error:
        raise ConfigError(_explain_arguments(str(error), kind)) from None
    # From the defaults up, so that `--score.teacher.model X` alone finds the teacher's type.
    merged: dict[str, Any] = kind().model_dump(mode="json")
    for layer in layers:
        merged = merge(merged, layer)
    try:
        return kind(**merged)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


_CLI: dict[str, Any] = {
    "cli_implicit_flags": True,
    "cli_use_class_docs_for_groups": True,
    "cli_avoid_json": True,
    "cli_hide_none_type": True,
    "cli_exit_on_error": False,
}


def _explain_arguments(fault: str, kind: type[BaseModel]) -> str:
    """What argparse says of the command line, as one line; a name that is close to an unknown one is suggested."""
    fault = " ".join(fault.split()).removeprefix("error parsing CLI: ")
    unknown = fault.removeprefix("unrecognized arguments: ")
    names = [word.split("=")[0] for word in unknown.split() if word.startswith("--")]
    if unknown == fault or not names:
        return f"command line: {fault}; --help lists every setting"
    close = difflib.get_close_matches(names[0].removeprefix("--"), setting_names(kind), n=1)
    hint = f" (did you mean --{close[0]}?)" if close else ""
    return f"command line: no such setting {', '.join(names)}{hint}; --help lists them"


def setting_names(kind: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a group, those of every alternative where there is a choice."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return [name for alternative in get_args(kind) for name in setting_names(alternative, prefix)]
    names = []
    for name, information in kind.model_fields.items():
        names += [prefix + name, *setting_names(information.annotation, f"{prefix}{name}.")]
    return list(dict.fromkeys(names))


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one nested dictionary over another. A group whose `type` changes is replaced whole: the old type's settings mean nothing."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        same_type = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        )
        merged[key] = merge(old, value) if same_type else value  # pyright: ignore[reportArgumentType]
    return merged


def explain(error: ValidationError) -> str:
    """A validation error as one line: `train.learning_rate: Input should be greater than 0 (got -1.0)`, faults joined by semicolons."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        got = f" (got {fault['input']!r})" if isinstance(fault["input"], str | int | float | bool | None) else ""
        text = (
            "no such setting; --help lists them"
            if fault["type"] == "extra_forbidden"
            else fault["msg"].removeprefix("Value error, ")
        )
        faults.append(f"{place}: {text}{got}" if place else text)
    return "; ".join(faults)


def dump(config: BaseModel) -> str:
    """The resolved configuration as YAML, which `load` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        message = f"configuration file {file} does not exist"
        raise ConfigError(message)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        message = f"{file} is not YAML: {' '.join(str(error).split())}"
        raise ConfigError(message) from error
    if content is not None and not isinstance(content, dict):
        message = f"{file} holds a {type(content).__name__}, expected settings by name"
        raise ConfigError(message)
    return content or {}
