"""Every family of models in both engines against transformers' own `generate`, sentence by sentence."""

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from distill.models.locate import ModelError
from distill.sources import corpus
from distill.translate.engines import Engines, load_engine
from distill.translate.engines.codec import Codec
from distill.translate.engines.interface import TranslationEngine, TranslatorError
from distill.translate.settings import CTranslate2Translator, ModelTranslator, TransformersTranslator
from tests.distill.translate.conftest import FAMILIES

ENGLISH = [row["text"] for _, row in corpus.passages() if row["lang"] == "en"]
SENTENCES = [text[:length] for text, length in zip(ENGLISH[::18], range(8, 200, 15), strict=False)]
SHORT: dict[str, Any] = {"length_factor": 0.4, "length_offset": 10}
TARGET_TOKENS = {"nllb": "deu_Latn", "m2m100": "__de__"}


def tokenizer_of(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*sacremoses.*")
        return AutoTokenizer.from_pretrained(folder)


@functools.cache
def loaded_plainly(folder: Path) -> tuple[Any, Any]:
    return tokenizer_of(folder), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


@functools.cache
def reference(folder: Path, family: str, sentence: str, beams: int = 1) -> tuple[str, bool]:
    """What a user of transformers would write: source language set, first token forced, `generate`, `decode`."""
    tokenizer, model = loaded_plainly(folder)
    options: dict[str, Any] = {}
    match family:
        case "nllb" | "m2m100":
            tokenizer.src_lang = "eng_Latn" if family == "nllb" else "en"
            options["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(TARGET_TOKENS[family])
        case "marian_several":
            sentence = f">>deu<< {sentence}"
        case "t5" | "t5_tied" | "mt5":
            sentence = f"<2de> {sentence}"
    inputs = tokenizer(sentence, return_tensors="pt")
    source = inputs["input_ids"].shape[1]
    limit = -(-int(0.4 * source + 10) // 16) * 16
    model.generation_config.forced_eos_token_id = None
    model.generation_config.max_length = None
    found = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=beams, do_sample=False,
        early_stopping=beams > 1, max_new_tokens=limit + (1 if "forced_bos_token_id" in options else 0), **options,
    )[0, 1:]  # fmt: skip
    cut = tokenizer.eos_token_id not in found.tolist()
    if "forced_bos_token_id" in options:
        found = found[1:]
    return tokenizer.decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip(), cut


def engine(kind: str, folder: Path, cache: Path, **settings: Any) -> TranslationEngine:
    chosen: ModelTranslator
    if kind == "transformers":
        chosen = TransformersTranslator(model=str(folder), **{**SHORT, **settings})
    else:
        chosen = CTranslate2Translator(
            model=str(folder), cache=str(cache), **{**SHORT, "quantization": "float32", **settings}
        )
    return load_engine(chosen, "en", "de", "cpu")


@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_translations_are_those_of_generate(
    family: str, kind: str, models: dict[str, Path], tmp_path: Path
) -> None:
    found = engine(kind, models[family], tmp_path, tokens_per_batch=300).translate(SENTENCES, "en", "de")
    expected = [reference(models[family], family, sentence) for sentence in SENTENCES]
    differing = sum((each.text, each.truncated) != other for each, other in zip(found, expected, strict=True))
    # Two tokens of random weights can be as good as each other; CTranslate2 sums in another order.
    assert differing <= (kind == "ctranslate2"), list(zip(found, expected, strict=True))
    assert len({each.text for each in found}) > len(found) // 2, (
        "the model says the same of everything; the test would show nothing"
    )


@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
@pytest.mark.parametrize("family", ["marian", "nllb", "t5"])
def test_beam_search_is_that_of_generate(family: str, kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    sentences = SENTENCES[::4]
    found = engine(kind, models[family], tmp_path, beam_size=3).translate(sentences, "en", "de")
    expected = [reference(models[family], family, sentence, beams=3) for sentence in sentences]
    assert [(each.text, each.truncated) for each in found] == expected


@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
def test_a_sentence_does_not_depend_on_its_neighbours(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    loaded = engine(kind, models["marian"], tmp_path)
    together = loaded.translate(SENTENCES, "en", "de")
    assert loaded.translate(SENTENCES[::-1], "en", "de") == together[::-1]
    assert [loaded.translate([sentence], "en", "de")[0] for sentence in SENTENCES[:6]] == together[:6]
    assert loaded.translate([], "en", "de") == []


def test_int8_is_near_float32(models: dict[str, Path], tmp_path: Path) -> None:
    """Random weights decide by hair's breadths, so log-probabilities are compared, not translations."""
    import ctranslate2

    from distill.translate.engines.conversion import converted, largest_difference
    from distill.translate.engines.transformers import load_translator

    settings = CTranslate2Translator(model=str(models["marian"]), cache=str(tmp_path))
    folder = converted(settings, str(models["marian"]), "en", "de")
    tokenizer = tokenizer_of(models["marian"])
    model = load_translator(str(models["marian"]), None, "float32")
    codec = Codec(tokenizer, model.config, settings, "marian")
    difference = largest_difference(folder, model, codec, "en", "de")
    assert 1e-5 < difference < 0.5
    assert ctranslate2.contains_model(str(folder))


def test_what_looks_like_a_special_token_stays_text(models: dict[str, Path]) -> None:
    for family, mark in (("marian_several", ">>fra<< "), ("nllb", "</s> fra_Latn "), ("t5", "</s> <pad> ")):
        tokenizer = tokenizer_of(models[family])
        settings = TransformersTranslator(model="m")
        codec = Codec(tokenizer, _config(models[family]), settings, family)
        ids = codec.encode([f"{mark}The hive."], "en", "de")[0].ids
        body = ids[1:-1]
        special = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(mark.split()[-1])}
        assert not special - {tokenizer.unk_token_id} & set(body), (family, tokenizer.convert_ids_to_tokens(ids))


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


@pytest.mark.parametrize(
    ("family", "lang", "token"),
    [
        ("marian_several", "de", ">>deu<<"),
        ("marian_several", "zh", ">>cmn_Hans<<"),
        ("nllb", "zh", "zho_Hans"),
        ("nllb", "fa", "pes_Arab"),
        ("nllb", "zh-TW", "zho_Hant"),
        ("nllb", "pt-BR", "por_Latn"),
        ("m2m100", "zh", "__zh__"),
        ("m2m100", "pt-BR", "__pt__"),
        ("t5", "zh", "<2zh>"),
    ],
)
def test_language_tokens(family: str, lang: str, token: str, models: dict[str, Path]) -> None:
    tokenizer = tokenizer_of(models[family])
    codec = Codec(tokenizer, _config(models[family]), TransformersTranslator(model="m"), family)
    assert tokenizer.convert_ids_to_tokens(codec.language_id(lang)) == token


def test_unknown_languages_are_named_and_codes_can_be_given(models: dict[str, Path], tmp_path: Path) -> None:
    folder = models["nllb"]
    with pytest.raises(TranslatorError, match=r"'xx' is no tag of a language .*set language_codes"):
        engine("transformers", folder, tmp_path).translate(["A."], "en", "xx")
    loaded = engine("transformers", folder, tmp_path, language_codes={"xx": "deu_Latn"})
    assert loaded.translate(SENTENCES[:3], "en", "xx") == loaded.translate(SENTENCES[:3], "en", "de")
    several = engine("transformers", models["marian_several"], tmp_path)
    with pytest.raises(
        TranslatorError, match=r"does not know the language 'es' \(tried >>spa_Latn<<, >>spa<<, >>es<<\)"
    ):
        several.translate(["A."], "en", "es")


@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
def test_long_sources_are_cut_and_flagged(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    loaded = engine(kind, models["t5"], tmp_path, max_source_tokens=12, length_factor=8)
    short, long = loaded.translate(["A bee.", "A bee. " * 30], "en", "de")
    assert long.truncated
    assert (short, long) == tuple(
        engine("transformers", models["t5"], tmp_path, max_source_tokens=12, length_factor=8).translate(
            ["A bee.", "A bee. " * 30], "en", "de"
        )
    )


@pytest.mark.parametrize("kind", ["transformers", "ctranslate2"])
def test_a_model_without_more_positions_stops(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    """The tiny Marian knows 128 positions."""
    loaded = engine(kind, models["marian"], tmp_path, length_factor=5, max_source_tokens=500)
    found = loaded.translate(["The stone bridge over the river. " * 40], "en", "de")
    assert found[0].truncated


def test_the_translator_column_names_model_revision_and_engine(models: dict[str, Path], tmp_path: Path) -> None:
    folder = models["marian"]
    assert engine("transformers", folder, tmp_path).name == f"{folder} transformers"
    assert engine("ctranslate2", folder, tmp_path).name == f"{folder} ctranslate2/float32"
    settings = TransformersTranslator(model=str(folder), revisions={str(folder): "abc"})
    assert load_engine(settings, "en", "de", "cpu").name == f"{folder}@abc transformers"


def test_one_model_a_language(models: dict[str, Path]) -> None:
    several = {"de": str(models["marian"]), "fr": str(models["marian_several"])}
    engines = Engines(TransformersTranslator(models=several), "en", "cpu", 1)
    first = engines.get("de")
    assert engines.get("de") is first
    assert engines.get("fr").name == f"{models['marian_several']} transformers"
    with pytest.raises(TranslatorError, match="no model translates into 'es': the translator names models for de, fr"):
        engines.get("es")


def test_wrongly_tied_weights_are_noticed(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of transformers 5.15: MADLAD's encoder embedding came from the output head."""
    from transformers import T5ForConditionalGeneration

    from distill.translate.engines.checks import check_embeddings

    model = T5ForConditionalGeneration.from_pretrained(models["t5"])
    check_embeddings(model, str(models["t5"]), None)
    head = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.shared.weight = head
    with pytest.raises(
        TranslatorError, match=r"loaded '(shared|encoder\.embed_tokens)\.weight' with other values than its files hold"
    ):
        check_embeddings(model, str(models["t5"]), None)


def test_missing_weights_are_noticed(models: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(models["nllb"], broken)
    weights = load_file(broken / "model.safetensors")
    del weights["model.encoder.layers.0.fc1.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 1 weights of .*encoder\.layers\.0\.fc1\.weight, which would be random"
    ):
        engine("transformers", broken, tmp_path)
