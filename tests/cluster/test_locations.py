"""Locations: one opener for data and storage, local and s3://, whose messages hold no credentials."""

import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cluster.atomic import write_bytes
from cluster.errors import StorageError, UserError
from cluster.locations import SourceError, exists, find_all, locate, quoted, shown
from cluster.storage import check_writable, fingerprint, open_storage, read_bytes

SECRET = "wJalr/XUtn+FEMI"
"""Secrets hold slashes and plus signs."""


def test_locate_joins_root_and_relative_path(tmp_path: Path) -> None:
    assert locate("a/b.jsonl", str(tmp_path)).path == f"{tmp_path}/a/b.jsonl"
    assert locate("/elsewhere/b.jsonl", str(tmp_path)).path == "/elsewhere/b.jsonl"
    assert locate("b.jsonl").path == "b.jsonl"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no\.jsonl does not exist; relative paths start from /"):
        find_all("no.jsonl", str(tmp_path))
    with pytest.raises(
        SourceError, match=r"^no\.jsonl does not exist; relative paths start from the current directory$"
    ):
        find_all("no.jsonl")


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"gs:// is not supported; give a local path or s3://bucket/key"):
        locate("gs://bucket/p.jsonl")


def test_a_folder_stands_for_its_files_by_name(tmp_path: Path) -> None:
    for name in ("part-2.jsonl", "part-1.jsonl", "_SUCCESS", ".part-1.jsonl.crc"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    assert [Path(file.name).name for file in find_all(str(tmp_path))] == ["part-1.jsonl", "part-2.jsonl"]
    with pytest.raises(SourceError, match="is an empty folder"):
        find_all("deeper", str(tmp_path))


def test_a_folder_in_a_folder_is_not_left_out_in_silence(tmp_path: Path) -> None:
    """An empty one may stand there, and one whose name says that it holds no data."""
    for name in ("a.jsonl", "deeper/b.jsonl", ".cache/c.jsonl", "_logs/d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=rf"^{tmp_path} holds the folder deeper; name that folder too, or the files"):
        find_all(str(tmp_path))
    (tmp_path / "deeper/b.jsonl").unlink()
    assert [Path(file.name).name for file in find_all(str(tmp_path))] == ["a.jsonl"]


def test_links_are_followed_and_one_to_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").touch()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert [file.name for file in find_all(str(tmp_path / "link"))] == [f"{tmp_path}/link/a.jsonl"]
    (tmp_path / "data/b.jsonl").symlink_to(tmp_path / "lost")
    with pytest.raises(SourceError, match=r"data/b\.jsonl is a link to nothing, or no file; remove it"):
        find_all(str(tmp_path / "data"))


def test_folders_of_a_partition_are_searched_and_known(tmp_path: Path) -> None:
    """As Hive, Spark and pandas write them: values percent-encoded, a missing one by Hive's name."""
    missing = "__HIVE_DEFAULT_PARTITION__"
    for name in (
        "lang=de/year=2020/b.jsonl",
        "lang=de/year=2020/_SUCCESS",
        "lang=a%2Fb/c.jsonl",
        f"lang={missing}/d.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {str(Path(file.name).relative_to(tmp_path)): file.partition for file in find_all(str(tmp_path))}
    assert found == {
        f"lang={missing}/d.jsonl": (("lang", None),),
        "lang=a%2Fb/c.jsonl": (("lang", "a/b"),),
        "lang=de/year=2020/b.jsonl": (("lang", "de"), ("year", "2020")),
    }


def test_file_uris_are_local_paths(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/my%20data"
    assert locate(uri).path == f"{tmp_path}/my data"
    assert open_storage(uri)[1] == f"{tmp_path}/my data"
    with pytest.raises(SourceError, match=r"^file://host/x: file:// is not supported; "):
        locate("file://host/x")


def test_storage_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filesystem, path = open_storage("store")
    assert isinstance(filesystem, pafs.LocalFileSystem)
    assert path == f"{tmp_path}/store"


def test_data_and_storage_read_the_same_location(s3_bucket: str, tmp_path: Path) -> None:
    """With a space, a percent sign and a plus sign in the key."""
    uri = f"{s3_bucket}/{tmp_path.name}/my set%20/a+b.bin"
    filesystem, path = open_storage(uri)
    write_bytes(filesystem, path, b"content")
    location = locate(uri)
    assert location.path == path == f"polyray-test/{tmp_path.name}/my set%20/a+b.bin"
    assert location.name == uri
    assert exists(location)
    assert read_bytes(location.filesystem, location.path) == b"content"
    assert [file.name for file in find_all(uri.rpartition("/")[0])] == [uri]
    decoded, key = pafs.FileSystem.from_uri(quoted(uri))
    assert (key, read_bytes(decoded, key)) == (path, b"content")


@pytest.mark.parametrize("secret", [SECRET, "wJalr%2FXUtn%2BFEMI"])
def test_credentials_and_options_open_a_bucket(
    s3_bucket: str, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    options = f"?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    uri = f"s3://AKIA:{secret}@polyray-test/{tmp_path.name}/a b{options}"
    check_writable(uri)
    assert open_storage(uri)[1] == locate(uri).path == f"polyray-test/{tmp_path.name}/a b"
    assert locate(uri).name == shown(uri) == f"s3://polyray-test/{tmp_path.name}/a b"
    assert locate(uri).uri == uri
    assert locate("c", uri).uri == uri.replace("a b", "a b/c")
    encoded = f"s3://AKIA:wJalr%2FXUtn%2BFEMI@polyray-test/{tmp_path.name}/a%20b{options}"
    assert quoted(uri) == encoded


def test_no_message_holds_credentials(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for bad in (
        f"s3://AKIA:{SECRET}@polyray-test/x?regio=x",
        f"s3://AKIA:{SECRET}@a bucket/x",
        f"gs://AKIA:{SECRET}@polyray-test/x?token={SECRET}",
        f"s3://AKIA:{SECRET}@",
    ):
        said = []
        for attempt in (locate, open_storage):
            with pytest.raises(UserError) as caught:
                attempt(bad)
            said.append(str(caught.value))
        assert said[1] == f"storage {said[0]}"
        for hidden in ("AKIA", SECRET, "wJalr", "FEMI"):
            assert hidden not in said[0]
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    for attempt in (check_writable, fingerprint):
        with pytest.raises(StorageError) as caught:
            attempt(f"s3://AKIA:{SECRET}@no-such-bucket/x?endpoint_override={endpoint}&scheme=http&region=us-east-1")
        assert "s3://no-such-bucket/x" in str(caught.value)
        assert "AKIA" not in str(caught.value)
        assert "wJalr" not in str(caught.value)


def test_what_cannot_be_opened_is_named() -> None:
    with pytest.raises(SourceError) as caught:
        locate("s3://polyray-test/x?regio=x")
    assert str(caught.value) == (
        "s3://polyray-test/x cannot be opened: Unexpected query parameter in S3 URI: 'regio'; "
        "check the bucket's name, the credentials, AWS_REGION and AWS_ENDPOINT_URL"
    )
    with pytest.raises(SourceError, match=r"^s3:// names no bucket; give s3://bucket/key$"):
        locate("s3://")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/tmp/a@b:c", "/tmp/a@b:c"),
        ("s3://bucket/user@host/x?region=y", "s3://bucket/user@host/x"),
        ("s3://key:secret@bucket/user@host", "s3://bucket/user@host"),
        ("s3://key:sec/ret@bucket", "s3://bucket"),
        ("s3://bucket/time 12:30", "s3://bucket/time 12:30"),
    ],
)
def test_names_are_without_credentials_and_options(uri: str, name: str) -> None:
    assert shown(uri) == name
