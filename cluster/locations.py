"""Locations: files and folders that a user names, by local path or s3:// URI."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from cluster.errors import UserError


class SourceError(UserError, ValueError):
    """A source of text cannot be used. The message is one line: file, place in it, what is wrong, what to do."""


@dataclass(frozen=True)
class Location:
    """A file or folder.

    Attributes:
        filesystem: where it is.
        path: its path there.
        name: what to call it in messages and tables: the path, or the URI without options and credentials.
        uri: what `locate` makes this place of.
    """

    filesystem: pafs.FileSystem
    path: str
    name: str
    uri: str


def locate(path: str, root: str = "") -> Location:
    """The place that `path` names: an s3:// URI or a local path.

    Relative paths start from `root`, itself either; an empty one is the current directory.
    Nothing is opened. An S3 endpoint other than Amazon's comes from AWS_ENDPOINT_URL, or from `?endpoint_override=` at
    the end of the URI.
    """
    if "://" not in path and root and not Path(path).expanduser().is_absolute():
        base, mark, options = root.partition("?") if "://" in root else (root, "", "")
        path = f"{base.rstrip('/')}/{path}{mark}{options}" if path else root
    scheme, mark, rest = path.partition("://")
    if not mark:
        local = str(Path(path).expanduser())
        return Location(pafs.LocalFileSystem(), local, local, local)
    if scheme != "s3":
        raise SourceError(f"{path}: {scheme}:// is not supported; give a local path or s3://bucket/key")
    address, mark, options = rest.partition("?")
    bucket, _, key = address.strip("/").partition("/")
    try:
        # Only the bucket goes through the URI parser, which refuses keys with spaces.
        filesystem, bucket_path = pafs.FileSystem.from_uri(f"s3://{bucket}{mark}{options}")
    except (OSError, ValueError) as error:
        shown = address.rpartition("@")[2]
        raise SourceError(
            f"s3://{shown}: {one_line(error)}; check the bucket's name, AWS_REGION and AWS_ENDPOINT_URL"
        ) from error
    inside = f"{bucket_path}/{key}" if key else bucket_path
    return Location(filesystem, inside, f"s3://{inside}", f"s3://{address}{mark}{options}")


def exists(place: Location) -> bool:
    """Whether there is a file at `place`."""
    return _info(place).type == pafs.FileType.File


def find_all(path: str, root: str = "") -> list[Location]:
    """The file that `path` names, or the files right inside the folder that it names, by name; there must be one.

    Names in a folder that begin with `_` or `.` (markers such as `_SUCCESS`) are passed over.
    """
    place = locate(path, root)
    kind = _info(place).type
    if kind == pafs.FileType.NotFound:
        start = locate("", root).name if root else "the current directory"
        raise SourceError(f"{place.name} does not exist; relative paths start from {start}")
    if kind != pafs.FileType.Directory:
        return [place]
    try:
        infos = place.filesystem.get_file_info(pafs.FileSelector(place.path))
    except OSError as error:
        raise unreadable(place, error) from error
    names = sorted(
        info.base_name for info in infos if info.type == pafs.FileType.File and info.base_name[0] not in "_."
    )
    if not names:
        raise SourceError(f"{place.name} is an empty folder")
    return [locate(name, place.uri) for name in names]


def _info(place: Location) -> pafs.FileInfo:
    try:
        return place.filesystem.get_file_info(place.path)
    except OSError as error:
        raise unreadable(place, error) from error


def unreadable(place: Location, error: Exception) -> SourceError:
    """Return the error of a location that cannot be read."""
    return SourceError(f"{place.name} cannot be read: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split())
