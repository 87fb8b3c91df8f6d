from pathlib import Path

import pytest

from cluster.locations import SourceError, find_all, locate


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
