"""Storage: one URI, local or s3://, as one pyarrow file system and a path on it.

S3 settings (endpoint, region, credentials) come from the standard AWS_* variables, so that every library that reads them agrees. They
must be set before Ray starts: workers inherit them.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.errors import UserError


class StorageError(UserError, OSError):
    """A location cannot be read or written. The message names it and says what to do."""


def open_storage(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of `uri` and the path on it. Local paths become absolute; of URIs, s3:// and file:// are known."""
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    scheme = uri.split("://", 1)[0]
    if scheme not in {"s3", "file"}:
        raise StorageError(
            f"storage '{uri}': scheme '{scheme}' is not supported; give a local path or s3://bucket/prefix"
        )
    try:
        return pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(
            f"storage '{uri}' cannot be reached: {_one_line(error)}; check AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and credentials"
        ) from error


def join(uri: str, *parts: str) -> str:
    """A location below `uri`, in the same spelling."""
    base, mark, query = uri.partition("?")
    return "/".join([base.rstrip("/"), *parts]) + mark + query


def check_writable(uri: str) -> None:
    """Write, read and delete a small file below `uri`; a `StorageError` says what failed. A second's work that saves an hour's."""
    filesystem, path = open_storage(uri)
    probe = f"{path}/.probe-{uuid.uuid4().hex}"
    try:
        filesystem.create_dir(path, recursive=True)
        write_bytes(filesystem, probe, b"probe")
        found = read_bytes(filesystem, probe)
        filesystem.delete_file(probe)
    except OSError as error:
        raise StorageError(f"storage '{uri}' cannot be written: {_one_line(error)}") from error
    if found != b"probe":
        raise StorageError(f"storage '{uri}' gives back other bytes than were written")


def write_bytes(filesystem: pafs.FileSystem, path: str, content: bytes) -> None:
    """Write a file that appears whole or not at all, replacing an older one.

    On local disk under a temporary name, then renamed; in an object store the object appears when it is complete.
    """
    local = isinstance(filesystem, pafs.LocalFileSystem)
    target = f"{path}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp" if local else path
    if local:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with filesystem.open_output_stream(target) as stream:
        stream.write(content)
    if local:
        Path(target).replace(path)


def read_bytes(filesystem: pafs.FileSystem, path: str) -> bytes:
    """The content of a file."""
    with filesystem.open_input_stream(path, compression=None) as stream:
        return stream.read()


def write_json(filesystem: pafs.FileSystem, path: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    write_bytes(filesystem, path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(filesystem: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    """The content of a JSON file, or None where there is no file."""
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return None
    return json.loads(read_bytes(filesystem, path))


def write_table(filesystem: pafs.FileSystem, path: str, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write a Parquet file that appears whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    write_bytes(filesystem, path, sink.getvalue())


def read_table(filesystem: pafs.FileSystem, folder: str, columns: list[str] | None = None) -> pa.Table:
    """All Parquet files of a folder, in the order of their names, as one table."""
    files = list_files(filesystem, folder, ".parquet")
    if not files:
        raise StorageError(f"'{folder}' holds no Parquet files")
    return pa.concat_tables([pq.read_table(file, columns=columns, filesystem=filesystem) for file in files])


def list_files(filesystem: pafs.FileSystem, folder: str, suffix: str) -> list[str]:
    """Paths of the files in a folder whose names end in `suffix`, sorted; none where there is no folder."""
    found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return sorted(info.path for info in found if info.type == pafs.FileType.File and info.path.endswith(suffix))


_HASHED_WHOLE = 256 * 1024 * 1024


def fingerprint(uri: str) -> str:
    """What tells one state of a file or folder from another: a hash of its content, or of size and time above 256 MiB a file.

    A location that does not exist is a `StorageError`.
    """
    filesystem, path = open_storage(uri)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise StorageError(f"'{uri}' does not exist")
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
