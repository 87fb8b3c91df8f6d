"""Copies through a server that fails: nothing is lost without an error, and what can be tried again is."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cluster import copying
from cluster.copying import FileState, copy_file, copy_folder, download, fault_of, is_whole, upload, upload_whole
from cluster.errors import StorageError
from tests.faulty_s3 import Faults, faulty

LOCAL = pafs.LocalFileSystem()
BIG = 11 * 1024 * 1024
"""More than a part of a multipart upload."""
CLIENT_ATTEMPTS = 3
"""How often Arrow's S3 client itself tries a request."""


@pytest.fixture(scope="module")
def proxied(s3_bucket: str, s3_endpoint: str) -> Iterator[tuple[pafs.FileSystem, Faults]]:
    with faulty(s3_endpoint) as (address, faults):
        yield (
            pafs.S3FileSystem(
                endpoint_override=address, access_key="test", secret_key="test", region="us-east-1",
                allow_delayed_open=True,  # small files by a PUT, large ones in parts
            ),
            faults,
        )  # fmt: skip


@pytest.fixture
def store(proxied: tuple[pafs.FileSystem, Faults], monkeypatch: pytest.MonkeyPatch) -> tuple[pafs.FileSystem, Faults]:
    monkeypatch.setattr(copying, "_WAITS_S", (0.0, 0.0, 0.0))
    filesystem, faults = proxied
    faults.clear()
    faults.status = 503
    return filesystem, faults


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small, an empty and a large file, and one in a folder inside."""
    path = tmp_path_factory.mktemp("checkpoint")
    (path / "config.json").write_text("{}")
    (path / "empty.txt").write_bytes(b"")
    (path / "model.safetensors").write_bytes(bytes(range(256)) * (BIG // 256))
    (path / "1_Dense").mkdir()
    (path / "1_Dense" / "model.safetensors").write_bytes(b"dense")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_folder_comes_back_as_it_was_sent(
    store: tuple[pafs.FileSystem, Faults], folder: Path, tmp_path: Path
) -> None:
    filesystem, _ = store
    states = upload(str(folder), filesystem, "polyray-test/copying/same")
    assert states["1_Dense/model.safetensors"] == FileState(5, hashlib.sha256(b"dense").hexdigest())
    assert states["empty.txt"] == FileState(0, hashlib.sha256(b"").hexdigest())
    download(filesystem, "polyray-test/copying/same", str(tmp_path / "back"))
    assert content(tmp_path / "back") == content(folder)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("PUT", 503),
        ("CreateMultipartUpload", 503),
        ("UploadPart", 500),
        ("CompleteMultipartUpload", 500),
        ("CompleteMultipartUpload", 503),
        ("GET", 503),
        ("HEAD", 500),
        ("LIST", 503),
    ],
)
def test_each_kind_of_request_may_fail_until_the_client_gives_up_once(
    store: tuple[pafs.FileSystem, Faults], folder: Path, tmp_path: Path, kind: str, status: int
) -> None:
    filesystem, faults = store
    target = f"polyray-test/copying/{kind}-{status}"
    faults.status, faults.left[kind] = status, CLIENT_ATTEMPTS
    upload_whole(str(folder), filesystem, target)
    if kind == "LIST":
        faults.left[kind] = CLIENT_ATTEMPTS
    download(filesystem, target, str(tmp_path / "back"))
    assert faults.failed[kind]
    assert {name: data for name, data in content(tmp_path / "back").items() if name != copying.LIST} == content(folder)
    assert is_whole(filesystem, target)


@pytest.mark.parametrize("kind", ["PUT", "UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_goes_on_failing_is_an_error_and_leaves_no_list(
    store: tuple[pafs.FileSystem, Faults], folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `pyarrow.fs.copy_files` returns without a word."""
    filesystem, faults = store
    target = f"polyray-test/copying/broken-{kind}"
    faults.left[kind], faults.below = 1000, "safetensors"
    monkeypatch.setattr(copying, "_WAITS_S", ())
    with pytest.raises(StorageError, match=r"model\.safetensors' could not be copied to .*AWS Error"):
        upload_whole(str(folder), filesystem, target)
    faults.left.clear()
    assert fault_of(filesystem, target) == "it has no files.json, so its upload did not end"
    upload_whole(str(folder), filesystem, target)
    assert is_whole(filesystem, target)


def test_a_refusal_is_not_tried_again(store: tuple[pafs.FileSystem, Faults], folder: Path) -> None:
    filesystem, faults = store
    faults.status, faults.left["PUT"] = 403, 1000
    before = faults.seen["PUT"]
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        copy_file(LOCAL, str(folder / "config.json"), filesystem, "polyray-test/copying/refused")
    assert faults.seen["PUT"] == before + 1


def test_a_download_that_is_cut_short_is_no_file(
    store: tuple[pafs.FileSystem, Faults], folder: Path, tmp_path: Path
) -> None:
    filesystem, faults = store
    upload(str(folder), filesystem, "polyray-test/copying/cut")
    faults.cut, faults.left["GET"] = 100, 1000
    with pytest.raises(StorageError, match=r"model\.safetensors' could not be copied"):
        copy_file(filesystem, "polyray-test/copying/cut/model.safetensors", LOCAL, str(tmp_path / "model.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_a_list_tells_what_a_folder_lacks(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    upload_whole(str(folder), LOCAL, str(target))
    assert fault_of(LOCAL, str(target), digests=True) == ""
    listed = json.loads((target / "files.json").read_text())["files"]
    assert listed["config.json"] == {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (target / "config.json").write_text("[]")
    assert is_whole(LOCAL, str(target))
    assert fault_of(LOCAL, str(target), digests=True) == "config.json has other bytes than were written"
    with pytest.raises(StorageError, match=r"is damaged: config\.json has other bytes than were written; delete"):
        download(LOCAL, str(target), str(tmp_path / "back"))
    (target / "config.json").write_text("{")
    assert fault_of(LOCAL, str(target)) == "config.json has 1 bytes, 2 were written"
    (target / "config.json").unlink()
    assert fault_of(LOCAL, str(target)) == "it lacks config.json"
    (target / "files.json").write_text("{}")
    assert fault_of(LOCAL, str(target)) == "files.json cannot be read"
    (target / "files.json").unlink()
    assert not is_whole(LOCAL, str(target))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no files to copy"):
        copy_folder(LOCAL, str(tmp_path / "nowhere"), LOCAL, str(tmp_path / "copy"))
    with pytest.raises(StorageError, match="could not be copied"):
        copy_file(LOCAL, str(tmp_path / "nowhere"), LOCAL, str(tmp_path / "copy"))
