"""Conversion of Hugging Face models to CTranslate2's format: once for each model, revision and precision, checked against the original.

Three of CTranslate2 4.8's loaders are wrong, two of them under transformers 5 only, and are corrected here:

- M2M100's hundred language tokens are looked for where transformers 5 no longer keeps them, so the vocabulary is too short.
- Marian's decoder is taken to begin from a zero vector. That is the embedding of the padding that transformers begins with, until
  a model is trained there: its output head is the same matrix, and moves it.
- T5's logits are divided by sqrt(d_model) where `tie_word_embeddings` is true, which transformers 5 always says; the models that need the
  factor are those with `scale_decoder_outputs`, and never an mT5.

Against further faults, the float32 form of every conversion is compared with the original on a few sentences before it is kept.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cluster.errors import one_line
from distill.models.locate import locate
from distill.translate.engines.codec import Codec, load_tokenizer
from distill.translate.engines.interface import TranslatorError
from distill.translate.engines.transformers import load_translator
from distill.translate.settings import CTranslate2Translator

_LAYOUT = 1
"""Part of the folder's name; raise it when conversions change, so that older ones are not used."""
_TOLERANCE = 1e-3
"""Largest difference of a token's log-probability between the two float32 forms, as a share of it; sound ones differ by about 1e-5."""
_PROBES = (
    "The bridge was built of stone in 1874, and it still carries the road across the river.",
    "How do honey bees tell each other where food is?",
    "Light is a wave.",
)


def converted(settings: CTranslate2Translator, model: str, source_lang: str, lang: str) -> Path:
    """Return the folder of the converted model; convert it unless the folder exists.

    Processes that need the same model wait for the one that converts it. A folder appears whole or not at all.

    Args:
        settings: precision and cache folder.
        model: Hugging Face id or local folder.
        source_lang: language of the sentences that the conversion is checked with.
        lang: language into which they are translated.

    Raises:
        TranslatorError: a model of a family that cannot be converted, or a conversion that does not compute what the original does.
    """
    cache = Path(settings.cache).expanduser()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TranslatorError(
            f"cannot write the folder of converted models '{cache}': {error.strerror}; set `cache` of the translator"
        ) from error
    folder = cache / cache_key(settings, model)
    with _locked(cache / f".{folder.name}.lock"):
        if not (folder / "polyray.json").is_file():
            with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as new:
                _convert(Path(new) / "model", settings, model, source_lang, lang)
                shutil.rmtree(folder, ignore_errors=True)
                (Path(new) / "model").rename(folder)
    return folder


def cache_key(settings: CTranslate2Translator, model: str) -> str:
    """Return the name of the folder of a converted model: a hash of what decides its content.

    That is the model (its files' sizes and times where it is local, its commit on the hub otherwise), the precision, and the version of
    CTranslate2's format.
    """
    import ctranslate2

    folder = locate(model)
    if Path(folder).is_dir():
        files = sorted(path for path in Path(folder).iterdir() if path.is_file())
        state: Any = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    else:
        state = commit(folder, settings.revisions.get(model))
    content = [_LAYOUT, model, state, settings.quantization, ctranslate2.__version__.rpartition(".")[0]]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return f"{Path(model).name}-{settings.quantization}-{digest}"


def commit(model: str, revision: str | None) -> str:
    """Return the commit on the hub that a revision (by default the main branch) stands for now."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    return str(extract_commit_hash(cached_file(model, "config.json", revision=revision), None))


def vocabulary(folder: Path) -> list[str]:
    """Return the tokens of a converted model by id."""
    return json.loads((folder / "shared_vocabulary.json").read_text(encoding="utf-8"))


@torch.no_grad()
def _convert(folder: Path, settings: CTranslate2Translator, model: str, source_lang: str, lang: str) -> None:
    import ctranslate2
    import transformers

    revision = settings.revisions.get(model)
    original = load_translator(locate(model), revision, "float32")
    tokenizer = load_tokenizer(locate(model), revision)
    codec = Codec(tokenizer, original.config, settings, model)
    if getattr(tokenizer, "separate_vocabs", False):
        raise TranslatorError(
            f"'{model}' has two vocabularies, which CTranslate2's converter does not handle; use translator type transformers"
        )
    plain = folder.parent / "float32"
    _save(plain, original, tokenizer, model, "float32")
    error = largest_difference(plain, original, codec, source_lang, lang)
    if not error <= _TOLERANCE:
        raise TranslatorError(
            f"CTranslate2 {ctranslate2.__version__} does not compute what '{model}' does under transformers {transformers.__version__}:"
            f" log-probabilities differ by up to {100 * error:.3g} %; use translator type transformers, or other versions"
        )
    if settings.quantization == "float32":
        plain.rename(folder)
    else:
        _save(folder, original, tokenizer, model, settings.quantization)
    facts = {
        "model": model,
        "revision": revision,
        "quantization": settings.quantization,
        "ctranslate2": ctranslate2.__version__,
        "transformers": transformers.__version__,
        "largest_difference": error,
    }
    (folder / "polyray.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _save(folder: Path, model: Any, tokenizer: Any, name: str, quantization: str) -> None:
    folder.mkdir()
    try:
        spec = loader(model)(model, tokenizer)
        spec.validate()
        spec.optimize(quantization=quantization)
        spec.save(str(folder))
    except (ValueError, RuntimeError, KeyError, AttributeError, NotImplementedError) as error:
        raise TranslatorError(
            f"CTranslate2 cannot convert '{name}': {one_line(error)}; use translator type transformers"
        ) from error


def loader(model: Any) -> Any:
    """Return CTranslate2's loader of a model's family, corrected."""
    from ctranslate2.converters import transformers as ct

    class M2M100Loader(ct.M2M100Loader):
        """A loader that takes every token's name from the tokenizer by its id and fills up rows that have none."""

        def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
            names = {number: token for token, number in tokenizer.get_vocab().items()}
            names |= {number: token for token, number in getattr(tokenizer, "lang_token_to_id", {}).items()}
            return [names.get(number, f"madeupword{number}") for number in range(model.config.vocab_size)]

    class T5Loader(ct.T5Loader):
        """A loader that scales the logits where transformers does."""

        def get_model_spec(self, model: Any) -> Any:
            forced = model.config.tie_word_embeddings
            model.config.tie_word_embeddings = bool(getattr(model.config, "scale_decoder_outputs", False))
            try:
                return super().get_model_spec(model)
            finally:
                model.config.tie_word_embeddings = forced

    match model.config.model_type:
        case "marian":
            return _marian_loader(model)
        case "m2m_100":
            return M2M100Loader()
        case "t5" | "mt5":
            return T5Loader()
        case "umt5":
            return ct.UMT5Loader()
        case other:
            raise TranslatorError(f"CTranslate2 is not used for '{other}' models; use translator type transformers")


def _marian_loader(model: Any) -> Any:
    """Return CTranslate2's own loader where the decoder's first embedding is zero, otherwise one that converts that embedding too."""
    from ctranslate2.converters import transformers as ct

    class TrainedMarianLoader(ct.MarianMTLoader):
        """Keeps the padding in the vocabulary, and begins with its embedding."""

        def get_model_spec(self, model: Any) -> Any:
            model.config.normalize_before = False
            model.config.normalize_embedding = False
            return ct.BartLoader.get_model_spec(self, model)

        def set_decoder(self, spec: Any, decoder: Any) -> None:
            ct.BartLoader.set_decoder(self, spec, decoder)

        def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
            return ct.BartLoader.get_vocabulary(self, model, tokenizer)

        def set_config(self, config: Any, model: Any, tokenizer: Any) -> None:
            super().set_config(config, model, tokenizer)
            config.decoder_start_token = tokenizer.pad_token

    start = model.get_decoder().embed_tokens.weight[model.config.decoder_start_token_id]
    return TrainedMarianLoader() if bool(start.any()) else ct.MarianMTLoader()


@torch.no_grad()
def largest_difference(folder: Path, model: Any, codec: Codec, source_lang: str, lang: str) -> float:
    """Return the largest relative difference between log-probabilities of a converted model, computed in float32, and of its original.

    The tokens are those of the sources themselves, read as if they were translations: any text shows whether two models are the same.
    """
    import ctranslate2

    names = vocabulary(folder)
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    sources = [source.ids for source in codec.encode(_PROBES, source_lang, lang)]
    end = codec.tokenizer.eos_token_id
    pieces = [row[:12] for row in codec.tokenizer(list(_PROBES), add_special_tokens=False)["input_ids"]]
    targets = [[*codec.target_start(lang), *row] for row in pieces]
    results = translator.score_batch(
        [[names[i] for i in row] for row in sources], [[names[i] for i in row] for row in targets]
    )
    worst = 0.0
    for source, target, result in zip(sources, targets, results, strict=True):
        expected = _log_probabilities(model, source, [*target, end], len(names))
        if len(expected) != len(result.log_probs):
            return float("inf")
        pairs = zip(expected, result.log_probs, strict=True)
        worst = max([worst, *(abs(a - b) / max(1.0, abs(a)) for a, b in pairs)])
    return worst


def _log_probabilities(model: Any, source: Sequence[int], target: Sequence[int], vocabulary_size: int) -> list[float]:
    """Return the log-probabilities of a target's tokens among the first tokens of the vocabulary, which are those that were converted."""
    start = model.config.decoder_start_token_id
    decoded = torch.tensor([[start, *target[:-1]]])
    logits = model(input_ids=torch.tensor([source]), decoder_input_ids=decoded).logits[0].float()
    # Marian's padding, the last token, is never produced; CTranslate2 may leave it out.
    logits = logits[:, :vocabulary_size]
    return logits.log_softmax(dim=-1)[torch.arange(len(target)), torch.tensor(target)].tolist()


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
