"""The scripts that run one stage: they find the method by the configuration, so that they are right for every method."""

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, get_args

from distill.config import Config
from distill.meta.config import MetaConfig
from distill.meta.settings import MetaMethod
from distill.settings.files import ConfigError, read_settings
from jobs.running.command import Method, find_config, main, options_parser
from jobs.running.programs import program, run_program


def main_until(stage: str, script: str, arguments: Sequence[str], description: str | None) -> int:
    """Run the job of a configuration up to its stages `stage`; return the exit code.

    Args:
        stage: the last stage, see `Job.until`.
        script: the script's name.
        arguments: the command line, without the program.
        description: the script's help text.
    """
    methods: list[Method[Any]] = []

    def action() -> None:
        options, settings = options_parser(script, until=False).parse_known_args(arguments)
        methods.append(find_method(options.config or (), settings))

    code = run_program(program(script), action)
    if not methods:
        return code
    return main(methods[0], arguments, script=script, until=stage, description=description)


def find_method(files: Sequence[str], settings: Sequence[str]) -> Method[Any]:
    """Return the method that a configuration is for: MAML-Align by its settings, adaptive relevance margins by `method`, else distillation.

    Translate-Distill is Multilingual Translate-Distill with `mix.strategy: single`: its stages are the same.

    Args:
        files: the configuration's files, or names of shipped ones.
        settings: settings of the command line, as `--name value` or `--name=value`.
    """
    from jobs import arm, maml_align, mtd

    given: dict[str, Any] = {}
    for name in files:
        with suppress(ConfigError):  # the method that loads the configuration says what is wrong
            given |= read_settings(find_config(name))
    method = _argument("method", settings) or os.environ.get("POLYRAY_METHOD") or given.get("method")
    meta_only = set(MetaConfig.model_fields) - set(Config.model_fields)
    if method in get_args(MetaMethod) or (method is None and given.keys() & meta_only):
        return maml_align.METHOD
    return arm.METHOD if method == "self_distillation" else mtd.METHOD


def _argument(name: str, settings: Sequence[str]) -> str | None:
    """Return the last value of a setting on a command line."""
    words = [*settings, ""]
    values = [after for word, after in pairwise(words) if word == f"--{name}"]
    values += [word.partition("=")[2] for word in settings if word.startswith(f"--{name}=")]
    return values[-1] if values else None
