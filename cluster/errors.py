"""Errors whose message tells the user what to do."""

import errno
import os
import re
import sys
import traceback

# What Unicode calls default ignorable and Python takes for printable: marks and letters without a glyph.
_WITHOUT_GLYPH = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


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


def storage_remedy(error: OSError) -> str | None:
    """Return what to do about an error of a disk or of S3; None for other errors of the system."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full: free some of it"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "check who owns the folder, and its access rights"
        case errno.ENOTDIR | errno.EISDIR:
            return "a file is in the place of a folder, or a folder in that of a file"
        case _ if "AWS Error" in str(error):
            return "check the URI, the AWS_* variables and the access rights"
    return None


def how_to_install(extra: str) -> str:
    """Return the commands that install an extra: of an installed Polyray, and of a checkout."""
    return f"pip install 'polyray[{extra}]', in a checkout pip install -e '.[{extra}]'"


def visible(text: str) -> str:
    r"""Return a text with every character that cannot be seen as its escape: `\ufeffp3` for an id that begins with a byte-order mark.

    These are control and format characters, spaces other than the common one, and letters and marks without a glyph.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    seen = character.isprintable() and not _WITHOUT_GLYPH.match(character)
    return character if seen else character.encode("unicode_escape", "surrogatepass").decode()


def one_line(error: BaseException, limit: int | None = None) -> str:
    """Return the text of an error on one line, at most `limit` characters of it; what cannot be seen is escaped (`visible`)."""
    return visible(" ".join(re.split(r"[ \t\r\n\v\f]+", str(error).strip())))[:limit]
