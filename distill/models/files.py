"""The files of a model's folder, checked before anything is loaded: what is damaged is named, with the file, the field and the remedy.

Only the headers of weights are read, so that the cost does not depend on a model's size. What loaded tensors hold is checked by
`distill.models.loading`.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distill.models.locate import ModelError

WEIGHTS = "model.safetensors"
PICKLED = "pytorch_model.bin"
_AGAIN = "fetch the checkpoint again"
_LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself reads no longer one."""
_TEXTS = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_EMBEDDINGS = (
    "word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight", "shared.weight", "wte.weight", "word_embedding.weight",
)  # fmt: skip
"""How the names of input embeddings end, of which a row belongs to each token."""

Header = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of the tensors of a file, by name."""


def check_folder(folder: str | Path, *, pickled: bool = False) -> None:
    """Check the files that lie in a model's folder: configuration, tokenizer, weights. Raise `ModelError` for what is damaged.

    A file that is not there is the loader's matter; but weights must be there, and all that an index names.

    Args:
        folder: a local folder with a config.json.
        pickled: whether weights may be those of `torch.save`.
    """
    folder = Path(folder)
    config = read_object(folder / "config.json")
    check_texts(folder)
    headers: dict[Path, Header] = {}
    for file in weight_files(folder, pickled=pickled):
        if file.suffix == ".safetensors":
            headers[file] = read_header(file)
        else:
            check_pickled(file)
    _check_index(folder, headers)
    tokens = _largest_token(folder / "tokenizer.json")
    for file, header in headers.items():
        for name, (_, shape) in header.items():
            if name.endswith(_EMBEDDINGS) and len(shape) == 2:
                _check_rows(folder, file, name, shape[0], config.get("vocab_size"), tokens)


def check_texts(folder: Path) -> None:
    """Check the JSON files of a model's folder, those that are there. Raise `ModelError` for one that is damaged."""
    for name in _TEXTS:
        if (folder / name).exists():
            read_object(folder / name)


def _check_rows(folder: Path, file: Path, name: str, rows: int, vocabulary: Any, largest: int | None) -> None:
    if isinstance(vocabulary, int) and vocabulary != rows and _is_main(name):
        raise ModelError(
            f"{folder / 'config.json'}: vocab_size is {vocabulary}, but '{name}' of {file.name} has {rows} rows; the two are of "
            f"different models: {_AGAIN}"
        )
    if largest is not None and largest >= rows and _is_main(name):
        raise beyond_embeddings(folder / "tokenizer.json", largest, rows)


def _is_main(name: str) -> bool:
    """Return whether embeddings are of the whole model: not of a part, such as a decoder with another vocabulary."""
    return "decoder." not in name and "vision" not in name and "audio" not in name


def beyond_embeddings(file: Path | str, token: int, rows: int) -> ModelError:
    """Return the error for a tokenizer with tokens that have no embedding."""
    return ModelError(
        f"{file}: it has a token with id {token}, but the model has embeddings for ids below {rows} only; save the tokenizer that "
        "the model was trained with, or resize the embeddings"
    )


def weight_files(folder: Path, *, pickled: bool = False) -> list[Path]:
    """Return the files with the weights of a folder: model.safetensors, or those that its index names.

    Raises:
        ModelError: there are none, two kinds that contradict each other, or some that the index names are not there.
    """
    for name in (WEIGHTS, *((PICKLED,) if pickled else ())):
        file, index = folder / name, folder / f"{name}.index.json"
        named = _named(index) if index.exists() else []
        if file.exists() and named and named != [name]:
            raise ModelError(
                f"'{folder}' has {name} and also {index.name}, which names {named[0]}; delete the one that is not the model's"
            )
        if file.exists():
            return [file]
        missing = [part for part in named if not (folder / part).is_file()]
        if missing:
            raise ModelError(f"{index} names {missing[0]}, which is not there; {_AGAIN}")
        if named:
            return [folder / part for part in named]
    raise ModelError(_no_weights(folder))


def _named(index: Path) -> list[str]:
    """Return the files that an index names, sorted."""
    found = read_object(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(part, str) for part in found.values()):
        raise ModelError(f"{index}: weight_map is missing or maps no tensors to files; {_AGAIN}")
    return sorted(set(found.values()))


def _check_index(folder: Path, headers: Mapping[Path, Header]) -> None:
    """Raise a `ModelError` where a file lacks a tensor that the index says it has."""
    index = folder / f"{WEIGHTS}.index.json"
    if not headers or folder / WEIGHTS in headers or not index.exists():
        return
    for tensor, part in read_object(index)["weight_map"].items():
        if tensor not in headers[folder / part]:
            raise ModelError(f"{index}: '{tensor}' is said to be in {part}, which does not hold it; {_AGAIN}")


def read_header(file: Path) -> Header:
    """Return the tensors of a safetensors file, by its header; a `ModelError` for a file that is cut short or something else."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(64)
        _check_start(file, start)
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > _LONGEST_HEADER:
            raise ModelError(f"{file} is no safetensors file; {_AGAIN}")
        if size < 8 + length:
            raise ModelError(f"{file} is cut short: it has {size:,} bytes, its header alone {8 + length:,}; {_AGAIN}")
        stream.seek(8)
        content = stream.read(length)
    try:
        rows = json.loads(content)
        rows.pop("__metadata__", None)
        header = {str(name): (str(row["dtype"]), tuple(map(int, row["shape"]))) for name, row in rows.items()}
        end = 8 + length + max((int(row["data_offsets"][1]) for row in rows.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{file} is no safetensors file: its header cannot be read; {_AGAIN}") from error
    if size != end:
        what = "is cut short" if size < end else "has bytes after its last tensor"
        raise ModelError(f"{file} {what}: it has {size:,} bytes, its header says {end:,}; {_AGAIN}")
    return header


def check_pickled(file: Path) -> None:
    """Raise a `ModelError` for a file of `torch.save` that is empty, a pointer, or cut short."""
    with file.open("rb") as stream:
        start = stream.read(64)
    _check_start(file, start)
    # The archive's directory is at its end. Files of PyTorch before 1.6 are plain pickles.
    if start.startswith(b"PK") and not zipfile.is_zipfile(file):
        raise ModelError(f"{file} is cut short; {_AGAIN}")


def read_json(file: Path) -> Any:
    """Return the content of a JSON file of a checkpoint; a `ModelError` that says what is wrong if it cannot be read."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror or error}; {_AGAIN}") from error
    _check_start(file, content[:64])
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ModelError(f"{file} begins with a byte-order mark; save it as UTF-8 without one")
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{file} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}; correct it, or {_AGAIN}"
        ) from error


def read_object(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object; anything else is a `ModelError`."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object; {_AGAIN}")
    return content


def _check_start(file: Path, start: bytes) -> None:
    """Raise a `ModelError` for a file that stands for another one."""
    if not start.strip():
        raise ModelError(f"{file} is empty; {_AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{file} is a Git LFS pointer, not the file that it stands for; run `git lfs pull` in '{file.parent}'"
        )
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ModelError(f"{file} is a page of a web site, not the file; {_AGAIN}")


def _largest_token(file: Path) -> int | None:
    """Return the largest id of a tokenizer's tokens; None where there is no such file or it has no list of them."""
    if not file.exists():
        return None
    content = read_object(file)
    model = content.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    ids: Iterable[Any] = words.values() if isinstance(words, dict) else range(len(words or ()))
    added = [row.get("id") for row in content.get("added_tokens") or () if isinstance(row, dict)]
    return max((i for i in (*ids, *added) if isinstance(i, int)), default=None)


def _no_weights(folder: Path) -> str:
    start = f"'{folder}' has no .safetensors weights"
    pickles = sorted([*folder.glob(PICKLED), *folder.glob("*.dnn")])
    if (folder / "adapter_config.json").is_file():
        return f"{start} but an adapter; merge it with peft's merge_and_unload and save the whole model"
    if not pickles:
        return f"{start}; save it with transformers' save_pretrained, which writes {WEIGHTS}"
    state = f"torch.load({str(pickles[0])!r}, map_location='cpu', weights_only=True)"
    if pickles[0].suffix == ".dnn":
        state = f"torch.load({str(pickles[0])!r}, map_location='cpu', weights_only=False)['model_state_dict']"
    line = (
        f"import torch, safetensors.torch as s; s.save_file({{n: t.clone().contiguous() for n, t in {state}.items()}}, "
        f"{str(folder / WEIGHTS)!r}, {{'format': 'pt'}})"
    )
    trust = ", if you trust whoever made it," if pickles[0].suffix == ".dnn" else ""
    return f'{start}, and pickled ones are not loaded, because that can run code; convert {pickles[0].name}{trust} with: python -c "{line}"'
