"""Settings as text: YAML files, and values in YAML or JSON on a command line or in a variable.

YAML is read as people mean it: a key is there once and is text, `1e-5` is a number, `1:30`, `010` and `2024-01-01` are text. What YAML
takes for a truth value without quotes (`no`, `off`) is one, and where text is wanted the message says to quote it.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError, one_line


class ConfigError(UserError, ValueError):
    """The configuration cannot be used. The message is one line that names the setting, its value and what was expected."""

    exit_code = 2


def read_settings(file: Path) -> dict[str, Any]:
    """Return the settings in a YAML file of UTF-8; raise ConfigError, which names file and line."""
    if not file.is_file():
        raise ConfigError(f"configuration file {file} does not exist")
    content = parse_settings(_text(file), str(file))
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{file} holds a {type(content).__name__}, expected settings by name")
    return content or {}


def _text(file: Path) -> str:
    raw = file.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{file} is UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{file} line {line} is not UTF-8 (byte {raw[error.start]:#04x}); save it as UTF-8"
        ) from error


def parse_settings(text: str, source: str) -> Any:
    """Return what a text in YAML holds; raise ConfigError, which names `source` and the line."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: {_problem(error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not YAML: {one_line(error)}") from error


def _problem(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, _KeyFault):
        return str(error.problem)
    return f"not YAML: {one_line(ValueError(', '.join(filter(None, [error.context, error.problem]))))}"


def parse_value(text: str, source: str) -> Any:
    """Return what a value in JSON or YAML holds (`{"a": 1}`, `{a: 1}`); raise ConfigError, which names `source`."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError:
        return parse_settings(text, source)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: {one_line(error)}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(f"{name!r} is there twice; keep one of the two")
    return dict(pairs)


class _KeyFault(yaml.constructor.ConstructorError):
    """A key that is there twice, or is no text."""


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses a key that is there twice or is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, bool) or key is None:
                raise _KeyFault(
                    None,
                    None,
                    f"the key {key_node.value} is {key!r} in YAML; quote it: '{key_node.value}'",
                    key_node.start_mark,
                )
            if isinstance(key_node, yaml.ScalarNode) and key in lines:
                fault = f"{key_node.value!r} is there twice, also on line {lines[key]}; keep one of the two"
                raise _KeyFault(None, None, fault, key_node.start_mark)
            if isinstance(key_node, yaml.ScalarNode):
                lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
