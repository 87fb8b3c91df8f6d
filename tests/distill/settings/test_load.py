"""Settings on the command line and in variables: every list and dictionary of the models can be set there."""

import json
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from distill.config import Config, load
from distill.meta.config import MetaConfig
from distill.settings.files import ConfigError
from distill.settings.load import load_as, read_arguments, read_environment
from distill.train.loss_settings import KlLoss


class Collection(NamedTuple):
    """A setting that holds a list or a dictionary: its name, and the model, field and annotation."""

    kind: type[Config] | type[MetaConfig]
    name: str
    field: FieldInfo
    annotation: Any


def alternatives(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, with their arguments."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return [one for part in get_args(annotation) for one in alternatives(part)]
    return [annotation]


def is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def collections(kind: Any, group: type[BaseModel], prefix: str = "") -> Iterator[Collection]:
    for name, field in group.model_fields.items():
        for one in alternatives(field.annotation):
            if is_group(one):
                yield from collections(kind, one, f"{prefix}{name}.")
            elif get_origin(one) in {dict, tuple, list}:
                yield Collection(kind, prefix + name, field, one)


def sample(annotation: Any, name: str = "") -> Any:
    """A value of a type."""
    one = alternatives(annotation)[0]
    origin, arguments = get_origin(one), get_args(one)
    match origin or one:
        case _ if is_group(one):
            fields = {key: field for key, field in one.model_fields.items() if field.is_required() or key == "type"}
            return {key: sample(field.annotation, key) for key, field in fields.items()}
        case _ if origin is Literal:
            return arguments[0]
        case _ if origin is dict:
            return {sample(arguments[0]): sample(arguments[1])}
        case _ if origin in {tuple, list}:
            return (
                [sample(arguments[0]), sample(arguments[0])]
                if arguments[-1] is ...
                else [sample(part) for part in arguments]
            )
        case kind if kind is str:
            return "de"
        case kind if kind is int:
            return 3
        case kind if kind is float:
            return 1.5
        case kind if kind is bool:
            return True
    return 7


CASES = list(
    {
        (one.kind, one.name, str(one.annotation)): one
        for kind in (Config, MetaConfig)
        for one in collections(kind, kind)
    }.values()
)


def nested(settings: Any, name: str) -> Any:
    for part in name.split("."):
        settings = settings[part]
    return settings


def test_there_are_collections() -> None:
    found = {one.name for one in CASES}
    assert len(found) > 60
    assert {
        "languages",
        "select.pool.labels",
        "source.passages",
        "translate.by.files",
        "train.loss.losses",
        "score.teacher.fields",
    } <= found


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.kind.__name__}.{one.name}")
def test_every_collection_can_be_set_on_the_command_line_and_in_a_variable(
    one: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In JSON and in YAML's short form, which help shows; lists of words also with commas alone."""
    value = sample(one.annotation)
    kind: Any = Annotated[one.annotation, one.field]  # pyright: ignore[reportInvalidTypeForm]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    wanted = adapter.validate_python(value)
    texts = [json.dumps(value), yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()]
    if isinstance(value, list) and not isinstance(value[0], dict | list):
        texts.append(",".join(map(str, value)))
    for text in texts:
        for arguments in ([f"--{one.name}", text], [f"--{one.name}={text}"]):
            found = nested(read_arguments(one.kind, ["--seed", "5", *arguments, "--name", "x"]), one.name)
            assert adapter.validate_python(found) == wanted, arguments
    for text in texts[:2]:
        monkeypatch.setenv(f"POLYRAY_{one.name.upper().replace('.', '__')}", text)
        assert adapter.validate_python(nested(read_environment(one.kind), one.name)) == wanted, text


def test_whole_groups_and_choices_on_the_command_line() -> None:
    config = load(
        [],
        [
            "--train.loss",
            "{type: kl, teacher_scale: 20}",
            "--select.pool.labels",
            "{a: b, c: d}",
            "--select.pool.num_cpus",
            "2",
        ],
    )
    assert config.train.loss == KlLoss(teacher_scale=20)
    assert (config.select.pool.labels, config.select.pool.num_cpus) == ({"a": "b", "c": "d"}, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select.pool.labels", "{a: b"], "command line: --select.pool.labels line 1: not YAML: "),
        (
            ["--select.pool.labels", '{"a": "b", "a": "c"}'],
            "command line: --select.pool.labels: 'a' is there twice; keep one of the two",
        ),
        (
            ["--select.pool.labels", "{a: b, a: c}"],
            "command line: --select.pool.labels line 1: 'a' is there twice, also on line 1",
        ),
        (
            ["--translate.by.files", "{no: [x]}"],
            "command line: --translate.by.files line 1: the key no is False in YAML; quote it: 'no'",
        ),
        (
            ["--select.pool.label", "{a: b}"],
            "command line: no such setting --select.pool.label (did you mean --select.pool.labels?)",
        ),
    ],
)
def test_faulty_values_on_the_command_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([], arguments)
    assert str(caught.value).startswith(message)


def test_a_key_twice_in_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRAY_SELECT__POOL__LABELS", '{"a": "b", "a": "c"}')
    with pytest.raises(ConfigError, match=r"^environment: labels: 'a' is there twice; keep one of the two$"):
        load_as(Config)


def test_text_that_begins_like_a_collection_is_text() -> None:
    arguments = ["--score.teacher.prompt.before_query", "{query}", "--name", "[x]"]
    found = read_arguments(Config, arguments)
    assert (nested(found, "score.teacher.prompt.before_query"), found["name"]) == ("{query}", "[x]")
