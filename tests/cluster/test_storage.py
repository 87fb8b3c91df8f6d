from pathlib import Path

import pyarrow as pa
import pytest

from cluster.atomic import write_bytes
from cluster.errors import StorageError
from cluster.storage import (
    check_reachable,
    check_writable,
    fingerprint,
    join,
    open_storage,
    read_json,
    read_table,
    write_json,
    write_table,
)


@pytest.mark.parametrize("below", ["", "/store", "/deep/store"])
def test_a_file_is_no_storage(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    uri = f"{tmp_path}/file{below}"
    said = f"lies below {tmp_path}/file, which is a file" if below else "is a file"
    with pytest.raises(StorageError, match=rf"^storage {uri} {said}; give a folder$"):
        check_reachable(uri)


def test_a_storage_that_does_not_exist_yet_is_reachable(tmp_path: Path, s3_bucket: str) -> None:
    check_reachable(str(tmp_path / "new"))
    check_reachable(f"{s3_bucket}/new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'; make it, or check the URI"):
        check_reachable("s3://no-such-bucket/new")


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "deep" / "folder")
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


def test_tables_and_json_round_trip(storage: str) -> None:
    check_writable(storage)
    filesystem, path = open_storage(storage)
    write_table(filesystem, f"{path}/t/00001.parquet", pa.table({"a": [3]}))
    write_table(filesystem, f"{path}/t/00000.parquet", pa.table({"a": [1, 2]}))
    write_table(filesystem, f"{path}/t/00001.parquet", pa.table({"a": [4]}))
    assert read_table(filesystem, f"{path}/t")["a"].to_pylist() == [1, 2, 4]
    assert read_json(filesystem, f"{path}/none.json") is None
    write_json(filesystem, f"{path}/some.json", {"ü": 1})
    assert read_json(filesystem, f"{path}/some.json") == {"ü": 1}


def test_fingerprint_sees_content_and_names_only(storage: str) -> None:
    filesystem, path = open_storage(storage)
    for folder in ("one", "two"):
        write_bytes(filesystem, f"{path}/{folder}/a", b"hello")
        write_bytes(filesystem, f"{path}/{folder}/b", b"world")
    assert fingerprint(join(storage, "one")) == fingerprint(join(storage, "two"))
    before = fingerprint(join(storage, "one"))
    write_bytes(filesystem, f"{path}/one/b", b"World")
    assert fingerprint(join(storage, "one")) != before
    with pytest.raises(StorageError, match="does not exist"):
        fingerprint(join(storage, "three"))


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    filesystem, path = open_storage(str(tmp_path))
    write_bytes(filesystem, f"{path}/a/b.bin", b"1")
    write_bytes(filesystem, f"{path}/a/b.bin", b"2")
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "a").iterdir()] == [("b.bin", b"2")]


def test_unknown_schemes_and_unwritable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"storage gs://b/x: gs:// is not supported; give a local path or s3://bucket/key"
    ):
        open_storage("gs://b/x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"lies below {tmp_path}/file, which is a file"):
        check_writable(str(tmp_path / "file" / "below"))
    with pytest.raises(StorageError, match="storage /proc/polyray cannot be written: "):
        check_writable("/proc/polyray")


def test_join_keeps_the_query_of_a_uri() -> None:
    assert join("s3://b/p?region=x", "a", "b") == "s3://b/p/a/b?region=x"
    assert join("/tmp/x/", "a") == "/tmp/x/a"
