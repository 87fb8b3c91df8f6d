"""Programs: how a script is called, its options, its errors in one line, its exit code."""

import argparse
import os
import re
import select
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cluster import interrupts
from cluster.errors import StorageError, UserError, one_line, report_error, storage_remedy
from distill.settings.load import ConfigError


def run_program(name: str, action: Callable[[], None], interrupted: str = interrupts.GOES_ON) -> int:
    """Run a program's action and return its exit code.

    0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM, 141 nobody reads its output. An error that the user can mend
    is printed on stderr as one line that begins with the program's name, and so is an interruption, with what follows from it.
    """
    with interrupts.guarded(name, interrupted):
        try:
            return _run(name, action)
        except BaseException as error:
            # What a signal ended in: libraries turn some interruptions into errors of their own, or into SystemExit.
            number = interrupts.came() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else 0)
            if not number:
                raise
            return interrupts.said(number)


def _run(name: str, action: Callable[[], None]) -> int:
    try:
        action()
        sys.stdout.flush()
        interrupts.check()
    except UserError as error:
        interrupts.check()
        return report_error(name, error)
    except BrokenPipeError:
        if not _is_output_closed():
            raise
        return 141
    except OSError as error:
        interrupts.check()
        remedy = storage_remedy(error)
        if remedy is None:
            raise
        return report_error(name, StorageError(f"{one_line(error, 400)}; {remedy}"))
    return 0


def _is_output_closed() -> bool:
    """Return whether the reader of the standard output, such as `head`, has gone; what is still buffered is then dropped."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return True


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
