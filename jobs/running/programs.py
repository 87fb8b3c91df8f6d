"""Programs: how a script is called, its options, its errors in one line, its exit code."""

import argparse
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cluster.errors import UserError, report_error
from distill.settings.load import ConfigError


def run_program(
    name: str, action: Callable[[], None], interrupted: str = "the same command goes on from what is done"
) -> int:
    """Run a program's action and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    An error that the user can mend is printed on stderr as one line that begins with the program's name.
    """
    try:
        action()
    except UserError as error:
        return report_error(name, error)
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; {interrupted}", file=sys.stderr)
        return 130
    return 0


def program(name: str) -> str:
    """Return a script's name as the user typed it: `polyray mtd`, or `jobs/mtd.py`."""
    return f"polyray {name}" if _is_console_command() else f"jobs/{name}.py"


def command(name: str) -> str:
    """Return what to type to run a script, in the way in which this one was run."""
    return f"polyray {name}" if _is_console_command() else f"python jobs/{name}.py"


def as_typed(text: str) -> str:
    """Return a text with the scripts that it tells to run spelled as the user typed this one."""
    return re.sub(r"python jobs/(\w+)\.py", r"polyray \1", text) if _is_console_command() else text


def _is_console_command() -> bool:
    return Path(sys.argv[0]).stem == "polyray"


def help_width() -> int:
    """Return the characters in a line of help: those of the terminal, at most 120."""
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a ConfigError, so that they are shown as one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError with argparse's message."""
        raise ConfigError(f"{message}; --help lists the options")


def script_parser(script: str, description: str | None, *, add_help: bool = True) -> Parser:
    """Return a parser for a script that has options of its own."""
    return Parser(
        add_help=add_help,
        prog=program(script),
        description=as_typed(description or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
