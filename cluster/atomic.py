"""Files that have their name only once they are whole: half a file of scores reads like a whole one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from cluster.locations import Location
from cluster.storage import StorageError


@contextmanager
def open_whole(place: Location, compression: str | None = None) -> Iterator[IO[bytes]]:
    """A file to write, under another name until the context ends without an error. What cannot be written is a `StorageError`.

    Args:
        place: the file; folders that it lies in are made.
        compression: `gzip`, or none.
    """
    folder = place.path.rpartition("/")[0]
    unfinished = f"{place.path}.part"
    try:
        if folder:
            place.filesystem.create_dir(folder, recursive=True)
        with place.filesystem.open_output_stream(unfinished, compression=compression) as stream:
            yield stream  # pyright: ignore[reportReturnType]
        place.filesystem.move(unfinished, place.path)
    except StorageError:  # of another file, written inside the context
        raise
    except OSError as error:
        raise StorageError(f"{place.name} cannot be written: {' '.join(str(error).split())}") from error
