"""Errors whose message tells the user what to do."""

import os
import sys
import traceback


class UserError(Exception):
    """An error that the user can mend. The message says what is wrong, where, and what to do; commands show it as one line.

    Attributes:
        exit_code: the exit code of a command that ends with this error: 1 failed, 2 wrong usage or configuration.
    """

    exit_code: int = 1


class StorageError(UserError, OSError):
    """A location cannot be read or written. The message names it and says what to do."""


class StageError(UserError, RuntimeError):
    """A stage failed. The message names the stage and what to do."""


def report_error(program: str, error: Exception) -> int:
    """Print an error on stderr, as one line that begins with the program, and return the exit code.

    With `POLYRAY_TRACEBACK` set, print its whole trace instead.
    """
    if os.environ.get("POLYRAY_TRACEBACK"):
        traceback.print_exception(error)
    else:
        print(f"{program}: {one_line(error)}", file=sys.stderr)
    return error.exit_code if isinstance(error, UserError) else 1


def how_to_install(extra: str) -> str:
    """Return the commands that install an extra: of an installed Polyray, and of a checkout."""
    return f"pip install 'polyray[{extra}]', in a checkout pip install -e '.[{extra}]'"


def one_line(error: BaseException, limit: int | None = None) -> str:
    """Return the text of an error on one line, at most `limit` characters of it."""
    return " ".join(str(error).split())[:limit]
