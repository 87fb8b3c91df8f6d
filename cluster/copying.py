"""Copies of files and folders between file systems, each checked after it was written.

`pyarrow.fs.copy_files` (26.0) returns as if all were well when an upload fails as its stream closes: a folder of weights then lacks them.
Here every file goes through an output stream, whose errors are raised, and what arrived is compared with what was sent.
"""

import hashlib
import json
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.atomic import whole_file, write_bytes
from cluster.errors import StorageError, one_line
from cluster.storage import read_bytes

T = TypeVar("T")

LIST = "files.json"
"""The file that `upload_whole` writes last: size and SHA-256 of every other file of the folder."""
_CHUNK = 16 * 1024 * 1024
_WAITS_S = (1.0, 4.0, 15.0)
"""Waits between the attempts to copy a file, beside the few quick ones of the S3 client itself."""
_LASTING = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")
"""S3's errors that trying again does not mend."""


@dataclass(frozen=True)
class FileState:
    """Size in bytes and SHA-256 of a file's content."""

    size: int
    sha256: str


def copy_file(source: pafs.FileSystem, path: str, target: pafs.FileSystem, to: str) -> FileState:
    """Copy a file and check what arrived; return the size and digest of what was sent.

    Other errors of S3 than refusals are tried again, for some 20 s. Raise `StorageError` if no attempt succeeds.

    Cost: one pass over the file; to an object store a second, which reads the copy back.
    """
    return _try(lambda: _copy(source, path, target, to), f"'{path}' could not be copied to '{to}'")


def copy_folder(source: pafs.FileSystem, folder: str, target: pafs.FileSystem, to: str) -> dict[str, FileState]:
    """Copy every file of a folder and of the folders in it as `copy_file` does; return their states by path below the folder.

    Raise `StorageError` if there is no such folder, if it has no file, or if a file cannot be copied.
    """
    files = _files(source, folder)
    if not files:
        raise StorageError(f"'{folder}' holds no files to copy")
    return {name: copy_file(source, f"{folder}/{name}", target, f"{to}/{name}") for name in files}


def upload(local: str, filesystem: pafs.FileSystem, folder: str) -> dict[str, FileState]:
    """Copy a local folder to a folder of a file system, which is made if it is not there; return what `copy_folder` does."""
    return copy_folder(pafs.LocalFileSystem(), local, filesystem, folder)


def upload_whole(local: str, filesystem: pafs.FileSystem, folder: str) -> None:
    """Upload a local folder and then, as `files.json`, the list of its files: a folder with a list is whole."""
    if LIST in _files(filesystem, folder):
        _try(lambda: filesystem.delete_file(f"{folder}/{LIST}"), f"'{folder}/{LIST}' could not be deleted")
    states = upload(local, filesystem, folder)
    rows = {name: {"size": state.size, "sha256": state.sha256} for name, state in sorted(states.items())}
    content = (json.dumps({"files": rows}, indent=2) + "\n").encode()
    _try(lambda: write_bytes(filesystem, f"{folder}/{LIST}", content), f"'{folder}/{LIST}' could not be written")


def download(filesystem: pafs.FileSystem, folder: str, local: str) -> None:
    """Copy a folder of a file system to a local one; where it has a list of its files, compare what arrived with that too."""
    states = copy_folder(filesystem, folder, pafs.LocalFileSystem(), local)
    listed = read_list(filesystem, folder)
    if listed is not None and (fault := _difference(listed, states)):
        raise StorageError(f"'{folder}' is damaged: {fault}; delete the folder, or write it again")


def fault_of(filesystem: pafs.FileSystem, folder: str, *, digests: bool = False) -> str:
    """Return what is wrong with a folder that `upload_whole` wrote, in words; empty where it is whole.

    Args:
        filesystem: where the folder is.
        folder: its path.
        digests: whether to read every file and compare its digest too; sizes alone cost one listing.
    """
    infos = _files(filesystem, folder)
    if LIST not in infos:
        return f"it has no {LIST}, so its upload did not end"
    listed = read_list(filesystem, folder)
    if listed is None:
        return f"{LIST} cannot be read"
    states = {}
    for name in listed.keys() & infos.keys():
        states[name] = FileState(infos[name], listed[name].sha256)
        if digests and infos[name] == listed[name].size:
            states[name] = _state(filesystem, f"{folder}/{name}")
    return _difference(listed, states)


def is_whole(filesystem: pafs.FileSystem, folder: str) -> bool:
    """Return whether a folder has all the files that `upload_whole` wrote to it, in their sizes."""
    return not fault_of(filesystem, folder)


def read_list(filesystem: pafs.FileSystem, folder: str) -> Mapping[str, FileState] | None:
    """Return the states that a folder's list gives its files, by path; None where it has no list, or a damaged one."""
    path = f"{folder}/{LIST}"

    def read() -> bytes:
        return b"" if filesystem.get_file_info(path).type != pafs.FileType.File else read_bytes(filesystem, path)

    content = _try(read, f"'{path}' could not be read")
    try:
        return {str(name): FileState(**state) for name, state in json.loads(content)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _difference(listed: Mapping[str, FileState], found: Mapping[str, FileState]) -> str:
    """Return how files differ from a list; files beside it are none of its matter."""
    for name, state in listed.items():
        own = found.get(name)
        if own is None:
            return f"it lacks {name}"
        if own.size != state.size:
            return f"{name} has {own.size:,} bytes, {state.size:,} were written"
        if own.sha256 != state.sha256:
            return f"{name} has other bytes than were written"
    return ""


def _copy(source: pafs.FileSystem, path: str, target: pafs.FileSystem, to: str) -> FileState:
    size = source.get_file_info(path).size
    digest, sent = hashlib.sha256(), 0
    with source.open_input_stream(path, compression=None) as stream, _opened(target, to) as out:
        for chunk in _chunks(stream):
            out.write(chunk)
            digest.update(chunk)
            sent += len(chunk)
        if sent != size:  # a connection that ends early reads like the end of the file
            raise OSError(f"'{path}' gave {sent:,} of its {size:,} bytes")
    state = FileState(sent, digest.hexdigest())
    arrived = target.get_file_info(to)
    if arrived.type != pafs.FileType.File or arrived.size != sent:
        raise OSError(f"'{to}' has {arrived.size if arrived.is_file else 'no'} bytes after {sent:,} were written")
    if not isinstance(target, pafs.LocalFileSystem) and _state(target, to) != state:
        raise OSError(f"'{to}' gives back other bytes than were written")
    return state


@contextmanager
def _opened(filesystem: pafs.FileSystem, path: str) -> Iterator[IO[bytes]]:
    """Open a file to write; if the context or the end of the stream fails, there is no file of that name."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        with whole_file(filesystem, path) as stream:
            yield stream
        return
    try:
        with filesystem.open_output_stream(path, compression=None) as stream:
            yield stream  # pyright: ignore[reportReturnType]
    except BaseException:
        with suppress(OSError):  # closing the stream may have completed an object with a part of the content
            filesystem.delete_file(path)
        raise


def _state(filesystem: pafs.FileSystem, path: str) -> FileState:
    digest, size = hashlib.sha256(), 0
    with filesystem.open_input_stream(path, compression=None) as stream:
        for chunk in _chunks(stream):
            digest.update(chunk)
            size += len(chunk)
    return FileState(size, digest.hexdigest())


def _chunks(stream: pa.NativeFile) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _files(filesystem: pafs.FileSystem, folder: str) -> dict[str, int]:
    """Return the sizes of the files below a folder, by path below it, sorted; none where there is no folder."""
    base = folder.rstrip("/")
    selector = pafs.FileSelector(base, allow_not_found=True, recursive=True)
    infos = _try(lambda: filesystem.get_file_info(selector), f"'{folder}' could not be listed")
    found = {posixpath.relpath(info.path, base): info.size for info in infos if info.type == pafs.FileType.File}
    return dict(sorted(found.items()))


def _try(action: Callable[[], T], what: str) -> T:
    """Return what an action gives, tried again after errors that may pass; a `StorageError` that begins with `what` if none succeeds."""
    for wait in (*_WAITS_S, None):
        try:
            return action()
        except OSError as error:
            if wait is None or not _may_pass(error):
                raise StorageError(f"{what}: {one_line(error, 300)}") from error
            time.sleep(wait)
    raise AssertionError


def _may_pass(error: OSError) -> bool:
    """Return whether an error may not come again: S3's have no number, those of a local disk do."""
    return error.errno is None and not any(word in str(error) for word in _LASTING)
