"""Locations: files and folders by local path, s3:// URI or file:// URI, opened in one way for data, models and storage.

S3 settings (endpoint, region, credentials) come from the standard AWS_* variables, so that every library that reads them agrees; options
at the end of a URI (`?endpoint_override=`, `?region=`) win. Keys are taken literally, as `aws s3` takes them: with spaces, and `%20` is
no space. Credentials in a URI (`s3://key:secret@bucket`) are never in a name or a message.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import UserError, one_line

_MISSING_VALUE = "__HIVE_DEFAULT_PARTITION__"


class SourceError(UserError, ValueError):
    """A source of text cannot be used. The message is one line: file, position in it, what is wrong, what to do."""


@dataclass(frozen=True)
class Location:
    """A file or folder.

    Attributes:
        filesystem: its file system.
        path: its path there.
        name: its name in messages and tables: the path, or the URI without options and credentials.
        uri: what `locate` makes this location of.
        partition: names and values of the folders `name=value` (Hive, Spark, Athena) between this file and the folder that was named;
            each is a field of the file's records. None stands for Hive's name of a missing value.
    """

    filesystem: pafs.FileSystem
    path: str
    name: str
    uri: str
    partition: tuple[tuple[str, str | None], ...] = ()


def locate(path: str, root: str = "") -> Location:
    """Return the location that `path` names: a local path, or an s3:// or file:// URI. Nothing is opened.

    Relative paths start from `root`, itself of any of these kinds; an empty one is the current directory. Raise `SourceError` for other
    schemes and for what is no URI.
    """
    if "://" not in path and root and not Path(path).expanduser().is_absolute():
        base, mark, options = root.partition("?") if "://" in root else (root, "", "")
        path = f"{base.rstrip('/')}/{path}{mark}{options}" if path else root
    scheme, mark, rest = path.partition("://")
    if mark and scheme == "file" and rest.startswith("/"):
        mark, path = "", unquote(rest)
    if not mark:
        local = str(Path(path).expanduser())
        return Location(pafs.LocalFileSystem(), local, local, local)
    if scheme != "s3":
        raise SourceError(f"{shown(path)}: {scheme}:// is not supported; give a local path or s3://bucket/key")
    address, mark, options = rest.partition("?")
    credentials, address = _credentials(address.strip("/"))
    bucket, _, key = address.partition("/")
    name = f"s3://{address}"
    if not bucket:
        raise SourceError(f"{name} names no bucket; give s3://bucket/key")
    try:
        # Only the bucket goes through the URI parser, which refuses keys with spaces.
        filesystem, _ = pafs.FileSystem.from_uri(f"s3://{_quoted(credentials)}{bucket}{mark}{options}")
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = one_line(error).replace(_quoted(credentials), "")
        advice = "check the bucket's name, the credentials, AWS_REGION and AWS_ENDPOINT_URL"
        raise SourceError(f"{name} cannot be opened: {reason}; {advice}") from None
    inside = f"{bucket}/{key}" if key else bucket
    return Location(filesystem, inside, name, f"s3://{credentials}{address}{mark}{options}")


def shown(uri: str) -> str:
    """Return a URI without credentials and options, for messages; a local path as it is."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}://{_credentials(rest.partition('?')[0])[1]}" if mark else uri


def quoted(uri: str) -> str:
    """Return an s3:// URI with its key and credentials percent-encoded, for libraries that decode them; a local path as it is."""
    scheme, mark, rest = uri.partition("://")
    if scheme != "s3":
        return uri
    address, options_mark, options = rest.partition("?")
    credentials, address = _credentials(address)
    return f"{scheme}{mark}{_quoted(credentials)}{quote(address)}{options_mark}{options}"


def exists(location: Location) -> bool:
    """Return whether there is a file at `location`."""
    return _info(location).type == pafs.FileType.File


def find_all(path: str, root: str = "") -> list[Location]:
    """Return the file that `path` names, or the files in the folder that it names, by name.

    Files are those right inside the folder and those in folders `name=value` below it, in which Hive's layout puts the rows of one value.
    Names that begin with `_` or `.` (markers such as `_SUCCESS`) are passed over.

    Raises:
        SourceError: there is no file, a link leads nowhere, or a folder of another name holds files too, which are not to be left out in
            silence.
    """
    location = locate(path, root)
    kind = _info(location).type
    if kind == pafs.FileType.NotFound:
        start = locate("", root).name if root else "the current directory"
        raise SourceError(f"{location.name} does not exist; relative paths start from {start}")
    if kind != pafs.FileType.Directory:
        return [location]
    files = _files_in(location)
    if not files:
        raise SourceError(f"{location.name} is an empty folder")
    return files


def _files_in(folder: Location) -> list[Location]:
    files: list[Location] = []
    for info in sorted(_contents(folder), key=lambda info: info.base_name):
        inside = replace(locate(info.base_name, folder.uri), partition=folder.partition)
        if info.type == pafs.FileType.File:
            files.append(inside)
        elif info.type != pafs.FileType.Directory:
            raise SourceError(f"{inside.name} is a link to nothing, or no file; remove it")
        elif "=" in info.base_name[1:]:
            name, _, value = info.base_name.partition("=")
            known = None if value == _MISSING_VALUE else unquote(value)
            files += _files_in(replace(inside, partition=(*folder.partition, (unquote(name), known))))
        elif _contents(inside):
            raise SourceError(
                f"{folder.name} holds the folder {info.base_name}; name that folder too, or the files that are meant"
            )
    return files


def _contents(folder: Location) -> list[pafs.FileInfo]:
    try:
        infos = folder.filesystem.get_file_info(pafs.FileSelector(folder.path))
        if isinstance(folder.filesystem, pafs.LocalFileSystem):  # whose list lacks links to nothing
            lost = {path.name for path in Path(folder.path).iterdir()} - {info.base_name for info in infos}
            infos += [pafs.FileInfo(str(Path(folder.path) / name), pafs.FileType.NotFound) for name in lost]
    except OSError as error:
        raise unreadable(folder, error) from error
    return [info for info in infos if info.base_name[:1] not in {"_", "."}]


def unreadable(location: Location, error: Exception) -> SourceError:
    """Return the error that says that a file or folder cannot be read."""
    return SourceError(f"{location.name} cannot be read: {one_line(error)}")


def _info(location: Location) -> pafs.FileInfo:
    try:
        return location.filesystem.get_file_info(location.path)
    except OSError as error:
        raise unreadable(location, error) from error


def _credentials(address: str) -> tuple[str, str]:
    """Split `key:secret@bucket/...` after the `@`. A secret may hold slashes; a bucket's name holds neither `:` nor `@`."""
    head = address.partition("/")[0]
    if "@" not in head and not (":" in head and "@" in address):
        return "", address
    credentials, mark, rest = address.partition("@")
    return credentials + mark, rest


def _quoted(credentials: str) -> str:
    """Percent-encode what a URI may not hold of a key and a secret, which may be encoded already."""
    return (
        ":".join(quote(unquote(part), safe="") for part in credentials.removesuffix("@").split(":")) + credentials[-1:]
    )
