"""Loading of configurations: YAML files, `POLYRAY_*` environment variables, the command line."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cluster.settings import ClusterSettings
from distill.settings.files import ConfigError, parse_value, read_settings


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
    layers: list[dict[str, Any]] = [read_settings(Path(file)) for file in files]
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
        return _Variables(kind)()
    except ValueError as error:
        raise ConfigError(f"environment: {error.__cause__ or error}") from error


class _Variables(EnvSettingsSource):
    """Variables whose lists and groups are JSON or YAML."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        del field
        return parse_value(value, field_name) if isinstance(value, str) else value


def read_arguments(kind: type[BaseSettings], arguments: Sequence[str], program: str = "polyray") -> dict[str, Any]:
    """Return the settings that command-line arguments name, nested. Raises ConfigError for a name that is none."""
    others, whole = _whole_values(kind, arguments)
    settings: dict[str, Any] = {}
    try:
        if others:  # a parser of all settings takes a tenth of a second
            settings = CliSettingsSource(kind, cli_parse_args=others, cli_prog_name=program, **_CLI)()
    except ValueError as error:
        raise ConfigError(_explain_arguments(str(error), kind)) from None
    for name, value in whole:
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        settings = merge(settings, nested)
    return settings


def _whole_values(kind: type[BaseModel], arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, Any]]]:
    """Take groups, dictionaries and lists of them in JSON or YAML (`{a: 1}`, `[{a: 1}]`) out of the arguments, with their settings.

    The parser of all settings reads JSON alone and knows one alternative of a choice: where one has a list, it makes one of a dictionary.
    """
    words, others, whole = list(arguments), [], []
    while words:
        word = words.pop(0)
        name, mark, value = word.removeprefix("--").partition("=")
        if not mark:
            value = words[0] if words else ""
        if word.startswith("--") and re.match(r"\s*(\{|\[\s*\{)", value) and is_collection(kind, name):
            words = words if mark else words[1:]
            whole.append((name, parse_value(value, f"command line: --{name}")))
        else:
            others.append(word)
    return others, whole


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


def is_collection(kind: Any, name: str) -> bool:
    """Return whether a dotted name is of a setting that holds a group, a dictionary or a list, in any alternative, and never plain text."""
    annotations = list(_annotations(kind, name.split(".")))
    leaves = [leaf for annotation in annotations for leaf in _leaves(annotation)]
    collections = [leaf for leaf in leaves if leaf is dict or leaf in {tuple, list} or _is_group(leaf)]
    return bool(collections) and str not in leaves


def _annotations(kind: Any, names: Sequence[str]) -> Iterator[Any]:
    for group in filter(_is_group, _leaves(kind)):
        if names[0] in group.model_fields:
            annotation = group.model_fields[names[0]].annotation
            yield from _annotations(annotation, names[1:]) if names[1:] else [annotation]


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of an annotation: groups and types, without their arguments."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for one in get_args(annotation):
            yield from _leaves(one)
    else:
        yield origin or annotation


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


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
        if fault["type"] == "string_type" and isinstance(fault["input"], bool | int | float):
            got += "; quote it: without quotes YAML reads no, off and 1.10 as truth values and numbers"
        faults.append(f"{setting}: {text}{got}" if setting else text)
    return "; ".join(faults)


def dump(config: BaseModel) -> str:
    """Return a configuration as YAML, which `load_as` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
