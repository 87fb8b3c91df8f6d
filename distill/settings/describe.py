"""Settings described for people: an overview, one group with every field's meaning and default, a configuration with comments.

All of it is read from the models: the meaning of a setting is its docstring, its default is the model's.
"""

import json
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

_NAMES = {str: "TEXT", int: "INT", float: "FLOAT", bool: "true|false", type(None): "none", Any: "VALUE"}


def overview(kind: type[BaseModel], width: int = 100) -> str:
    """Return one line for each setting and group of settings of `kind`: name, first sentence, default."""
    lines = []
    for name, field in kind.model_fields.items():
        meaning, default = _first_sentence(field.description or ""), ""
        if not _groups(field.annotation):
            default = f" (default: {textwrap.shorten(shown(_default(field)), 40, placeholder=' ...')})"
        room = width - 17 - len(default)
        lines.append(f"  {name:<14} {textwrap.shorten(meaning, room, placeholder=' ...')}{default}")
    return "\n".join(lines)


def details(kind: type[BaseModel], path: str, width: int = 100) -> str | None:
    """Return every field of a setting or group as the command line takes it, with its default and meaning.

    Alternatives stand under their `type`. `--[no-]name` is a switch: `--name` sets true, `--no-name` false.

    Args:
        kind: the whole configuration.
        path: a dotted name, such as `score` or `score.teacher`.
        width: characters in a line.

    Returns:
        The text; None where `path` names nothing. Where alternatives differ in it, each has its own part, under their types.
    """
    *groups, name = path.split(".")
    prefix = "".join(f"{group}." for group in groups)
    owners: dict[str, list[str]] = {}
    for alternative, model, instance in _resolve(kind, kind(), groups):
        if name in model.model_fields:
            text = "\n".join(_field(prefix, name, model.model_fields[name], instance, "", width))
            owners.setdefault(text, []).append(alternative)
    if len(owners) < 2:
        return next(iter(owners), None)
    return "\n\n".join(f"{', '.join(f'`{one}`' for one in names)}:\n{text}" for text, names in owners.items())


def commented(config: BaseModel) -> str:
    """Return a configuration as YAML with a comment on every key; loading it gives an equal configuration."""
    return "\n".join(_yaml(config, config.model_dump(mode="json"), "", ())) + "\n"


def shown(value: Any) -> str:
    """Return a default as help shows it: a line of text as it is, None as `none`, no default as `required`, all else as JSON."""
    if value is PydanticUndefined:
        return "required"
    plain = to_jsonable_python(value)
    if plain is None:
        return "none"
    is_line = isinstance(plain, str) and plain and "\n" not in plain
    return plain if is_line else json.dumps(plain, ensure_ascii=False)


def spelled(annotation: Any) -> str:
    """Return a type as help shows it: `INT`, `train|dev`, `TEXT,...`, `{TEXT: FLOAT}`."""
    annotation = _bare(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        text = "|".join(map(str, arguments))
    elif origin in {Union, types.UnionType}:
        groups = _groups(annotation)
        leaves = [spelled(one) for one in arguments if one is not type(None) and not _groups(one)]
        text = "|".join(dict.fromkeys([*leaves, *([_spelled_groups(groups)] if groups else [])]))
    elif origin is tuple and arguments[-1] is not ...:
        text = f"[{', '.join(map(spelled, arguments))}]"
    elif origin in {tuple, list}:
        text = f"{spelled(arguments[0])},..."
    elif origin is dict:
        text = f"{{{spelled(arguments[0])}: {spelled(arguments[1])}}}"
    else:
        text = _spelled_groups(_groups(annotation)) if _groups(annotation) else str(annotation)
    return text


def _spelled_groups(groups: Sequence[type[BaseModel]]) -> str:
    types_ = "|".join(filter(None, map(_type, groups)))
    return f"{{type: {types_}, ...}}" if types_ else "{...}"


def _field(
    prefix: str, name: str, field: FieldInfo, instance: BaseModel | None, indent: str, width: int
) -> Iterator[str]:
    """Yield the lines of a field and of everything below it."""
    default = _default(field) if instance is None else getattr(instance, name)
    groups = _groups(field.annotation)
    if not groups:
        switch = _bare(field.annotation) is bool
        option = f"--[no-]{prefix}{name}" if switch else f"--{prefix}{name} {spelled(field.annotation)}"
        yield f"{indent}{option} {_default_words(default)}"
        yield from _wrapped(field.description or "", f"{indent}    ", width)
        return
    if len(groups) == 1:
        (group,) = groups
        values = [spelled(one) for one in get_args(_bare(field.annotation)) if not _groups(one)]
        if not isinstance(default, BaseModel):
            words = "|".join([*(value for value in values if value != "none"), "{...}"])
            yield " ".join(filter(None, [f"{indent}--{prefix}{name}", words, _default_words(default)]))
        else:
            yield f"{indent}{prefix}{name}:"
        yield from _wrapped(field.description or "", f"{indent}    ", width)
        yield from _group(f"{prefix}{name}.", group, default, f"{indent}  ", width)
        return
    types_ = "|".join(_type(group) for group in groups)
    yield f"{indent}--{prefix}{name}.type {types_} {_default_words(None if default is None else _type(type(default)))}"
    yield from _wrapped(field.description or "", f"{indent}    ", width)
    for group in groups:
        yield ""
        text = f"`{_type(group)}`: {_paragraphs(group.__doc__ or '')[0]}"
        yield from _wrapped(text, f"{indent}  ", width)
        yield from _group(f"{prefix}{name}.", group, default, f"{indent}    ", width)


def _default_words(default: Any) -> str:
    return "(required)" if default is PydanticUndefined else f"(default: {shown(default)})"


def _group(prefix: str, group: type[BaseModel], default: Any, indent: str, width: int) -> Iterator[str]:
    instance = default if type(default) is group else None
    for name, field in group.model_fields.items():
        if name != "type":
            yield from _field(prefix, name, field, instance, indent, width)


def _resolve(
    model: type[BaseModel], instance: BaseModel | None, groups: Sequence[str], alternative: str = ""
) -> Iterator[tuple[str, type[BaseModel], BaseModel | None]]:
    """Yield the groups that a path of names leads to, one for each alternative: its type, the group, its default value or None."""
    if not groups:
        yield alternative, model, instance
    elif groups[0] in model.model_fields:
        field = model.model_fields[groups[0]]
        default = _default(field) if instance is None else getattr(instance, groups[0])
        alternatives = _groups(field.annotation)
        for group in alternatives:
            label = _type(group) if len(alternatives) > 1 else alternative
            yield from _resolve(group, default if type(default) is group else None, groups[1:], label)


def _groups(annotation: Any) -> list[type[BaseModel]]:
    """Return the groups of settings that a field may hold, one for each alternative."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {Union, types.UnionType}:
        return [group for one in get_args(annotation) for group in _groups(one)]
    return []


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _type(group: type[BaseModel]) -> str:
    """Return the value of a group's `type`; empty where it has none."""
    field = group.model_fields.get("type")
    return "" if field is None else str(get_args(field.annotation)[0])


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _yaml(model: BaseModel, dumped: Mapping[str, Any], indent: str, alternatives: Sequence[str]) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        meaning = field.description or ""
        if name == "type" and not meaning:
            meaning = _paragraphs(type(model).__doc__ or "")[0]
        if name == "type" and len(alternatives) > 1:
            meaning = f"{meaning} One of {', '.join(alternatives)}."
        yield from _wrapped(meaning or name, f"{indent}# ", 120)
        value, plain = getattr(model, name), dumped[name]
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _yaml(value, plain, f"{indent}  ", [_type(one) for one in _groups(field.annotation)])
        elif isinstance(value, tuple | list) and any(isinstance(one, BaseModel) for one in value):
            yield f"{indent}{name}:"
            for one, row in zip(value, plain, strict=True):
                yield f"{indent}  -"
                yield from _yaml(one, row, f"{indent}    ", ())
        else:
            text = yaml.safe_dump({name: plain}, allow_unicode=True, sort_keys=False, width=10_000)
            yield from textwrap.indent(text.rstrip("\n"), indent).split("\n")


def _paragraphs(text: str) -> list[str]:
    """Return paragraphs and list items, each as one line."""
    paragraphs: list[str] = []
    for block in re.split(r"\n\s*\n", textwrap.dedent(text).strip()):
        paragraphs += [" ".join(item.split()) for item in re.split(r"\n(?=\s*- )", block)]
    return paragraphs or [""]


def _wrapped(text: str, indent: str, width: int) -> Iterator[str]:
    for paragraph in _paragraphs(text):
        hanging = indent + ("  " if paragraph.startswith("- ") else "")
        yield from textwrap.wrap(
            paragraph,
            width,
            initial_indent=indent,
            subsequent_indent=hanging,
            break_on_hyphens=False,
            break_long_words=False,
        )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", _paragraphs(text)[0])[0].rstrip(";")
