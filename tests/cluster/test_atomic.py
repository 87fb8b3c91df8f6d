"""Files that appear whole or not at all."""

import gzip
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cluster.atomic import open_whole, whole_file, write_bytes
from cluster.errors import StorageError
from cluster.locations import locate
from cluster.storage import join, list_files, open_storage, read_bytes


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "deep" / "folder")
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


def test_a_file_has_its_name_only_at_the_end(storage: str) -> None:
    filesystem, folder = open_storage(storage)
    path = f"{folder}/a.txt"
    write_bytes(filesystem, path, b"old")
    with whole_file(filesystem, path) as stream:
        stream.write(b"new")
        assert read_bytes(filesystem, path) == b"old"
    assert read_bytes(filesystem, path) == b"new"
    assert list_files(filesystem, folder, "") == [path]


def test_an_error_leaves_what_was_there(storage: str) -> None:
    filesystem, folder = open_storage(storage)
    path = f"{folder}/a.txt"
    write_bytes(filesystem, path, b"old")

    def fail() -> None:
        with whole_file(filesystem, path) as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read_bytes(filesystem, path) == b"old"
    assert list_files(filesystem, folder, "") == [path]


def test_two_may_write_one_file(storage: str) -> None:
    filesystem, folder = open_storage(storage)
    path = f"{folder}/a.txt"
    with whole_file(filesystem, path) as one:
        one.write(b"one")
        with whole_file(filesystem, path) as two:
            two.write(b"two")
        assert read_bytes(filesystem, path) == b"two"
    assert read_bytes(filesystem, path) == b"one"


def test_only_what_is_asked_for_is_compressed(storage: str) -> None:
    filesystem, folder = open_storage(storage)
    write_bytes(filesystem, f"{folder}/plain.gz", b"text")
    assert read_bytes(filesystem, f"{folder}/plain.gz") == b"text"
    with open_whole(locate(join(storage, "packed.gz")), "gzip") as stream:
        stream.write(b"text")
    assert gzip.decompress(read_bytes(filesystem, f"{folder}/packed.gz")) == b"text"


def test_the_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught, open_whole(locate("file/below", str(tmp_path))):
        pass
    assert str(caught.value).startswith(f"{tmp_path}/file/below cannot be written: ")
    inner = locate("file/inner", str(tmp_path))
    with pytest.raises(StorageError) as caught, open_whole(locate("outer", str(tmp_path))), open_whole(inner):
        pass
    assert str(caught.value).startswith(f"{tmp_path}/file/inner cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert isinstance(locate(str(tmp_path)).filesystem, pafs.LocalFileSystem)
