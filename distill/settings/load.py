"""Loading of configurations: YAML files, `POLYRAY_*` environment variables, the command line."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cluster.errors import UserError, one_line
from cluster.settings import ClusterSettings


class ConfigError(UserError, ValueError):
    """The configuration cannot be used. The message is one line that names the setting, its value and what was expected."""

    exit_code = 2


class GivenSettings(BaseSettings):
    """Settings made only of what is passed in, not of variables or files around them; `load_as` decides the sources."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the settings that are passed in as the only source."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class JobConfig(GivenSettings):
    """The settings that every job has."""

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
    """Location of stages and runs: a local folder or s3://bucket/prefix."""
    seed: int = 153
    """Seed of every draw: sampling, languages, new weights."""
    max_rejected: float = Field(default=0.01, ge=0, le=1)
    """Share of a stage's rows that may be rejected before the stage fails. Each is listed with its reason in any case."""
    cluster: ClusterSettings = ClusterSettings()
    """The Ray cluster."""


C = TypeVar("C", bound=JobConfig)


def load_as(
    kind: type[C], files: Sequence[str | Path] = (), arguments: Sequence[str] = (), program: str = "polyray"
) -> C:
    """Read a configuration: YAML files in order, then `POLYRAY_*` variables, then command-line arguments, the last word winning.

    Unknown names, wrong types and impossible combinations raise a `ConfigError` of one line for each fault.
    """
    layers: list[dict[str, Any]] = [_yaml(Path(file)) for file in files]
    layers += [read_environment(kind), read_arguments(kind, arguments, program)]
    # From the defaults up, so that `--score.teacher.model X` alone finds the teacher's type.
    merged: dict[str, Any] = kind().model_dump(mode="json")
    for layer in layers:
        merged = merge(merged, layer)
    try:
        return kind(**merged)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def read_environment(kind: type[BaseSettings]) -> dict[str, Any]:
    """Return the settings that `POLYRAY_*` variables name, nested. Raises ConfigError for a value that is not JSON where it must be."""
    try:
        return EnvSettingsSource(kind)()
    except ValueError as error:
        raise ConfigError(f"environment: {error}") from error


def read_arguments(kind: type[BaseSettings], arguments: Sequence[str], program: str = "polyray") -> dict[str, Any]:
    """Return the settings that command-line arguments name, nested. Raises ConfigError for a name that is none."""
    if not arguments:  # a parser of all settings takes a tenth of a second
        return {}
    try:
        return CliSettingsSource(kind, cli_parse_args=list(arguments), cli_prog_name=program, **_CLI)()
    except ValueError as error:
        raise ConfigError(_explain_arguments(str(error), kind)) from None


_CLI: dict[str, Any] = {
    "cli_implicit_flags": True,
    "cli_use_class_docs_for_groups": True,
    "cli_avoid_json": True,
    "cli_hide_none_type": True,
    "cli_exit_on_error": False,
}


def _explain_arguments(fault: str, kind: type[BaseModel]) -> str:
    """Return argparse's words on a command line as one line."""
    fault = " ".join(fault.split()).removeprefix("error parsing CLI: ")
    unknown = fault.removeprefix("unrecognized arguments: ")
    names = [word.split("=")[0] for word in unknown.split() if word.startswith("--")]
    if unknown == fault or not names:
        return f"command line: {fault}; --help lists every setting"
    return f"command line: {no_such_setting(names, kind)}"


def no_such_setting(names: Sequence[str], kind: type[BaseModel]) -> str:
    """Return the message on names that are no settings of `kind`; a setting with a name that is close to the first is suggested."""
    dashes = "--" if names[0].startswith("--") else ""
    close = difflib.get_close_matches(names[0].removeprefix("--"), setting_names(kind), n=1)
    hint = f" (did you mean {dashes}{close[0]}?)" if close else ""
    return f"no such setting {', '.join(names)}{hint}; --help lists them"


def setting_names(kind: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings of a group, of all alternatives where there is a choice."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return [name for alternative in get_args(kind) for name in setting_names(alternative, prefix)]
    names = []
    for name, information in kind.model_fields.items():
        names += [prefix + name, *setting_names(information.annotation, f"{prefix}{name}.")]
    return list(dict.fromkeys(names))


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return one nested dictionary laid over another. A group whose `type` changes is replaced whole: it has other settings."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        same_type = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        )
        merged[key] = merge(old, value) if same_type else value  # pyright: ignore[reportArgumentType]
    return merged


def explain(error: ValidationError) -> str:
    """Return a validation error as one line, faults joined by semicolons: `train.steps: Input should be greater than 0 (got -1)`."""
    faults = []
    for fault in error.errors():
        setting = ".".join(str(part) for part in fault["loc"])
        got = f" (got {fault['input']!r})" if isinstance(fault["input"], str | int | float | bool | None) else ""
        text = (
            "no such setting; --help lists them"
            if fault["type"] == "extra_forbidden"
            else fault["msg"].removeprefix("Value error, ")
        )
        faults.append(f"{setting}: {text}{got}" if setting else text)
    return "; ".join(faults)


def dump(config: BaseModel) -> str:
    """Return a configuration as YAML, which `load_as` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError(f"configuration file {file} does not exist")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {one_line(error)}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{file} holds a {type(content).__name__}, expected settings by name")
    return content or {}
