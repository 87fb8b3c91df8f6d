"""Damaged files of a model's folder: one line with the file, the field and the remedy, by the headers alone."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.models.files import check_folder, read_header
from distill.models.locate import ModelError


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def change(file: Path, action: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    action(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def truncate(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def prepend(file: Path, start: bytes) -> None:
    file.write_bytes(start + file.read_bytes())


def shards(folder: Path) -> dict[str, str]:
    """Cut the weights in two files with an index; give the index's map."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, folder / file, {"format": "pt"})
    found = {name: file for file, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": found}))
    return found


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
WEIGHTS = "model.safetensors"


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        (WEIGHTS, lambda f: truncate(f, 0.5), r"is cut short: it has [\d,]+ bytes, its header says [\d,]+; fetch"),
        (WEIGHTS, lambda f: f.write_bytes(f.read_bytes()[:100]), r"is cut short: it has 100 bytes, its header alone"),
        (WEIGHTS, lambda f: f.write_bytes(POINTER), r"is a Git LFS pointer, .*run `git lfs pull` in"),
        (WEIGHTS, lambda f: f.write_bytes(b""), r"is empty; fetch the checkpoint again"),
        (WEIGHTS, lambda f: f.write_bytes(b"<!DOCTYPE html><html>404"), r"is a page of a web site"),
        (WEIGHTS, lambda f: f.write_bytes(b"PK\3\4" * 100), r"is no safetensors file"),
        (WEIGHTS, lambda f: f.write_bytes(struct.pack("<Q", 8) + b'{"a": 1}'), r"its header cannot be read"),
        (WEIGHTS, lambda f: f.write_bytes(f.read_bytes() + b"more"), r"has bytes after its last tensor"),
        ("config.json", lambda f: prepend(f, b"\xef\xbb\xbf"), r"begins with a byte-order mark; save it as UTF-8 without"),
        ("config.json", lambda f: f.write_text("[]"), r"holds no JSON object"),
        ("config.json", lambda f: f.write_bytes(b""), r"is empty"),
        ("config.json", lambda f: f.unlink(), r"cannot be read: No such file or directory"),
        ("config.json", lambda f: change(f, lambda c: c.update(vocab_size=9)),
         r"vocab_size is 9, but 'embeddings\.word_embeddings\.weight' of model\.safetensors has \d+ rows"),
        ("tokenizer.json", lambda f: prepend(f, b"\xef\xbb\xbf"), r"begins with a byte-order mark"),
        ("tokenizer.json", lambda f: truncate(f, 0.9), r"is not JSON: .* in line \d+, column \d+"),
        ("tokenizer.json", lambda f: f.write_bytes(POINTER), r"is a Git LFS pointer"),
        ("tokenizer.json", lambda f: change(f, lambda c: c["added_tokens"].append({"id": 5000, "content": "<url>"})),
         r"it has a token with id 5000, but the model has embeddings for ids below \d+ only"),
        ("tokenizer_config.json", lambda f: f.write_bytes('{"ä": 1}'.encode("latin-1")), r"is not UTF-8 \(byte 2\)"),
    ],
)  # fmt: skip
def test_damage_is_named(folder: Path, file: str, damage: Callable[[Path], object], said: str) -> None:
    check_folder(folder)
    damage(folder / file)
    with pytest.raises(ModelError, match=re.escape(str(folder / file)) + ".*" + said) as caught:
        check_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f, m: f.write_text(json.dumps({"metadata": {}})), r"weight_map is missing or maps no tensors to files"),
        (lambda f, m: (f.parent / "b.safetensors").unlink(), r"names b\.safetensors, which is not there"),
        (lambda f, m: f.write_text(json.dumps({"weight_map": m | {"extra.weight": "a.safetensors"}})),
         r"'extra\.weight' is said to be in a\.safetensors, which does not hold it"),
    ],
)  # fmt: skip
def test_an_index_names_what_is_there(folder: Path, damage: Callable[..., object], said: str) -> None:
    found = shards(folder)
    check_folder(folder)
    index = folder / "model.safetensors.index.json"
    damage(index, found)
    with pytest.raises(ModelError, match=re.escape(str(index)) + ".*" + said):
        check_folder(folder)


def test_weights_of_two_kinds_are_refused(folder: Path, tiny_bert: Path) -> None:
    """An interrupted copy of a new version beside an old one: whichever was read, nobody would know."""
    shards(folder)
    shutil.copy(tiny_bert / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(
        ModelError, match=r"has model\.safetensors and also model\.safetensors\.index\.json, which names a"
    ):
        check_folder(folder)


def test_pickled_weights_only_where_they_may_be(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    check_folder(folder, pickled=True)
    with pytest.raises(ModelError, match="pickled ones are not loaded"):
        check_folder(folder)
    truncate(folder / "pytorch_model.bin", 0.7)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is cut short"):
        check_folder(folder, pickled=True)


def test_a_header_gives_types_and_shapes(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros(0)}, tmp_path / WEIGHTS)
    assert read_header(tmp_path / WEIGHTS) == {"a": ("BF16", (2, 3)), "b": ("F32", (0,))}
