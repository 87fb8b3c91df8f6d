"""Conversion to CTranslate2: once, whole, and checked; and the loaders' faults under transformers 5."""

import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ctranslate2.converters import transformers as ct

from distill.translate.engines import conversion
from distill.translate.engines.conversion import cache_key, converted, loader, vocabulary
from distill.translate.engines.interface import TranslatorError
from distill.translate.settings import CTranslate2Translator


def settings(folder: Path, cache: Path, **given: Any) -> CTranslate2Translator:
    return CTranslate2Translator(model=str(folder), cache=str(cache), **given)


def convert(folder: Path, cache: Path, **given: Any) -> Path:
    return converted(settings(folder, cache, **given), str(folder), "en", "de")


def test_a_model_is_converted_once(models: dict[str, Path], tmp_path: Path) -> None:
    first = convert(models["marian"], tmp_path)
    state = [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(first.iterdir())]
    second = convert(models["marian"], tmp_path)
    assert second == first
    assert [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(second.iterdir())] == state
    facts = json.loads((first / "polyray.json").read_text())
    assert facts["quantization"] == "int8"
    assert 0 < facts["largest_difference"] < 1e-4
    # Nothing half made is left.
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{first.name}.lock", first.name]


def test_what_decides_a_conversion_is_in_its_name(models: dict[str, Path], tmp_path: Path) -> None:
    chosen = settings(models["marian"], tmp_path)
    name = str(models["marian"])
    key = cache_key(chosen, name)
    assert cache_key(chosen.model_copy(update={"beam_size": 5, "cache": "/elsewhere"}), name) == key
    assert cache_key(chosen.model_copy(update={"quantization": "float32"}), name) != key
    assert cache_key(chosen, str(models["nllb"])) != key


def _convert_in_process(folder: str, cache: str, results: Any) -> None:
    results.put(convert(Path(folder), Path(cache)).joinpath("model.bin").stat().st_ino)


def test_processes_that_want_the_same_model_share_one_conversion(models: dict[str, Path], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (str(models["marian"]), str(tmp_path), results)
    processes = [context.Process(target=_convert_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        found = {results.get(timeout=240) for _ in processes}
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert len(found) == 1


def test_a_conversion_that_was_killed_is_made_again(models: dict[str, Path], tmp_path: Path) -> None:
    """A folder without its last file is not a conversion."""
    half = tmp_path / cache_key(settings(models["marian"], tmp_path), str(models["marian"]))
    half.mkdir()
    (half / "model.bin").write_bytes(b"half")
    folder = convert(models["marian"], tmp_path)
    assert folder == half
    assert (folder / "model.bin").stat().st_size > 1000


def test_ctranslate2s_own_m2m100_loader_is_at_fault(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, CTranslate2 was mended and ours is no longer needed."""
    monkeypatch.setattr(conversion, "loader", lambda model: ct.M2M100Loader())
    with pytest.raises(TranslatorError, match=r"CTranslate2 cannot convert .*vocabulary 0 has size"):
        convert(models["m2m100"], tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_ctranslate2s_own_t5_loader_is_noticed(
    family: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It divides the logits of every T5 by sqrt(d_model); the check before a conversion is kept finds that out."""
    own = {"t5": ct.T5Loader, "mt5": ct.MT5Loader}[family]
    monkeypatch.setattr(conversion, "loader", lambda model: own())
    with pytest.raises(
        TranslatorError, match=r"does not compute what '.*' does .* log-probabilities differ by up to \d"
    ):
        convert(models[family], tmp_path)
    monkeypatch.undo()
    assert convert(models[family], tmp_path).is_dir()


def test_a_tied_t5_keeps_its_factor(models: dict[str, Path], tmp_path: Path) -> None:
    """T5 1.0 does scale: there CTranslate2's loader and ours agree."""
    facts = json.loads((convert(models["t5_tied"], tmp_path, quantization="float32") / "polyray.json").read_text())
    assert facts["largest_difference"] < 1e-3


def test_other_families_are_refused() -> None:
    from transformers import BartConfig

    with pytest.raises(
        TranslatorError, match="CTranslate2 is not used for 'bart' models; use translator type transformers"
    ):
        loader(SimpleNamespace(config=BartConfig()))


def test_ctranslate2s_own_marian_loader_is_noticed_for_a_model_that_was_trained_here(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training moves the padding's embedding, with which transformers begins and CTranslate2 does not."""
    monkeypatch.setattr(conversion, "loader", lambda model: ct.MarianMTLoader())
    with pytest.raises(
        TranslatorError, match=r"does not compute what '.*' does .* log-probabilities differ by up to \d"
    ):
        convert(models["marian_trained"], tmp_path)
    monkeypatch.undo()
    assert "<pad>" in vocabulary(convert(models["marian_trained"], tmp_path))
    assert "<pad>" not in vocabulary(convert(models["marian"], tmp_path))


def test_a_cache_that_cannot_be_written_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        TranslatorError, match=r"cannot write the folder of converted models '.*/file/cache': .*; set `cache`"
    ):
        convert(models["marian"], tmp_path / "file" / "cache")
