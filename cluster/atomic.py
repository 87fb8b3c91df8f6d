"""Files that appear whole or not at all, replacing an older one: half a file of scores reads like a whole one."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pyarrow.fs as pafs

from cluster.errors import StorageError, one_line
from cluster.locations import Location


@contextmanager
def open_whole(location: Location, compression: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file to write, as `whole_file` does. Raise `StorageError` if it cannot be written.

    Args:
        location: the file; folders that it lies in are made.
        compression: `gzip`, or None.
    """
    try:
        with whole_file(location.filesystem, location.path, compression) as stream:
            yield stream
    except StorageError:  # of another file, written inside the context
        raise
    except OSError as error:
        raise StorageError(f"{location.name} cannot be written: {one_line(error)}") from error


@contextmanager
def whole_file(filesystem: pafs.FileSystem, path: str, compression: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file to write under a temporary name; it gets its own name when the context ends without an error, else it is deleted.

    Several processes may write the same file at once: the last one's stays, whole.
    """
    unfinished = f"{path}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    if isinstance(filesystem, pafs.LocalFileSystem):  # an object store has no folders to make
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with filesystem.open_output_stream(unfinished, compression=compression) as stream:
            yield stream  # pyright: ignore[reportReturnType]
        filesystem.move(unfinished, path)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(unfinished)
        raise


def write_bytes(filesystem: pafs.FileSystem, path: str, content: bytes) -> None:
    """Write a file at once, as `whole_file` does; an object store shows an object only when it is complete, under its own name."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        with whole_file(filesystem, path) as stream:
            stream.write(content)
        return
    with filesystem.open_output_stream(path, compression=None) as stream:
        stream.write(content)
