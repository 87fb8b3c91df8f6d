"""Storage: files, JSON and tables of a job below one location.

The AWS_* variables that an s3:// location needs must be set before Ray starts: workers inherit them.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.atomic import write_bytes
from cluster.errors import StorageError, one_line, storage_remedy
from cluster.locations import SourceError, locate, shown


def open_storage(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a location (`cluster.locations`) and the path on it, absolute. Raise `StorageError` for what is none."""
    try:
        location = locate(uri)
    except SourceError as error:
        raise StorageError(f"storage {error}") from error
    local = isinstance(location.filesystem, pafs.LocalFileSystem)
    return location.filesystem, str(Path(location.path).absolute()) if local else location.path


def join(uri: str, *parts: str) -> str:
    """Return a location below `uri`, in the same spelling."""
    base, mark, query = uri.partition("?")
    return "/".join([base.rstrip("/"), *parts]) + mark + query


def check_reachable(uri: str) -> None:
    """Ask a storage for its folder, which need not exist yet. Raise `StorageError` if it does not answer, or has no place for a folder."""
    filesystem, path = open_storage(uri)
    local = isinstance(filesystem, pafs.LocalFileSystem)
    bucket = "" if local else path.partition("/")[0]
    try:
        kind = filesystem.get_file_info(path).type
        lost = kind == pafs.FileType.NotFound and bucket and filesystem.get_file_info(bucket).type == kind
    except OSError as error:
        remedy = storage_remedy(error) or "check the URI and the access rights"
        raise StorageError(f"storage {shown(uri)} cannot be reached: {one_line(error, 300)}; {remedy}") from error
    if lost:
        raise StorageError(
            f"storage {shown(uri)}: there is no bucket '{bucket}'; make it, or check the URI and AWS_ENDPOINT_URL"
        )
    if kind == pafs.FileType.File:
        raise StorageError(f"storage {shown(uri)} is a file; give a folder")
    if local and (above := [parent for parent in Path(path).parents if parent.is_file()]):
        raise StorageError(f"storage {shown(uri)} lies below {above[0]}, which is a file; give a folder")


def check_writable(uri: str) -> None:
    """Write, read and delete a small file below `uri`, before any work. Raise `StorageError` if that fails."""
    check_reachable(uri)
    filesystem, path = open_storage(uri)
    probe = f"{path}/.probe-{uuid.uuid4().hex}"
    try:
        filesystem.create_dir(path, recursive=True)
        write_bytes(filesystem, probe, b"probe")
        content = read_bytes(filesystem, probe)
        filesystem.delete_file(probe)
    except OSError as error:
        raise StorageError(f"storage {shown(uri)} cannot be written: {one_line(error, 300)}") from error
    if content != b"probe":
        raise StorageError(f"storage {shown(uri)} gives back other bytes than were written")


def read_bytes(filesystem: pafs.FileSystem, path: str) -> bytes:
    """Return the content of a file."""
    with filesystem.open_input_stream(path, compression=None) as stream:
        return stream.read()


def write_json(filesystem: pafs.FileSystem, path: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    write_bytes(filesystem, path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(filesystem: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    """Return the content of a JSON file, None where there is no file."""
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return None
    return json.loads(read_bytes(filesystem, path))


def write_table(filesystem: pafs.FileSystem, path: str, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write a Parquet file that appears whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    write_bytes(filesystem, path, sink.getvalue())


def read_table(filesystem: pafs.FileSystem, folder: str, columns: list[str] | None = None) -> pa.Table:
    """Return all Parquet files of a folder, in the order of their names, as one table. Raise `StorageError` if there is none."""
    files = list_files(filesystem, folder, ".parquet")
    if not files:
        raise StorageError(f"'{folder}' holds no Parquet files")
    return pa.concat_tables([pq.read_table(file, columns=columns, filesystem=filesystem) for file in files])


def list_files(filesystem: pafs.FileSystem, folder: str, suffix: str) -> list[str]:
    """Return the paths of the files in a folder whose names end in `suffix`, sorted; none where there is no folder."""
    infos = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return sorted(info.path for info in infos if info.type == pafs.FileType.File and info.path.endswith(suffix))


_HASHED_WHOLE = 256 * 1024 * 1024


def fingerprint(uri: str) -> str:
    """Return a hash that tells one state of a file or folder from another: of its content, above 256 MiB a file of its size and time.

    Raise `StorageError` if the location does not exist.
    """
    filesystem, path = open_storage(uri)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise StorageError(f"{shown(uri)} does not exist")
    files = (
        [info] if info.type == pafs.FileType.File else filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    )
    digest = hashlib.sha256()
    for file in sorted((f for f in files if f.type == pafs.FileType.File), key=lambda f: f.path):
        digest.update(file.path.removeprefix(path).encode())
        content = (
            read_bytes(filesystem, file.path) if file.size <= _HASHED_WHOLE else f"{file.size} {file.mtime_ns}".encode()
        )
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]
