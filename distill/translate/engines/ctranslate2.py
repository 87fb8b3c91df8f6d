"""Translation models in CTranslate2: on CPUs several times faster than PyTorch, and int8."""

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import how_to_install
from distill.models.loading import load_config
from distill.models.locate import locate
from distill.translate.engines.codec import Codec, load_tokenizer
from distill.translate.engines.conversion import converted, vocabulary
from distill.translate.engines.interface import Translated, TranslatorError
from distill.translate.settings import CTranslate2Translator


class CTranslate2Engine:
    """Greedy or beam search. CTranslate2 sorts sentences by length, cuts batches of a number of tokens and runs them in threads.

    Args:
        settings: the translator.
        model: the model, one of those that `settings` name; it is converted on first use.
        device: `cpu` or `cuda`.
        threads: batches that run at the same time on a CPU, each in one thread: with many sentences that is faster than many threads on
            one batch.
        source_lang: language that a conversion is checked with.
        lang: language that a conversion is checked with.
    """

    def __init__(
        self, settings: CTranslate2Translator, model: str, device: str, threads: int, source_lang: str, lang: str
    ) -> None:
        ctranslate2 = _library(device)
        revision = settings.revisions.get(model)
        folder = converted(settings, model, source_lang, lang)
        self.name = f"{model}{f'@{revision}' if revision else ''} ctranslate2/{settings.quantization}"
        self.version = ctranslate2.__version__
        self._settings = settings
        config = load_config(model, revision)
        self._codec = Codec(load_tokenizer(locate(model), revision), config, settings, model)
        self._tokens = vocabulary(folder)
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        self._end = self._codec.tokenizer.eos_token
        padding = self._codec.tokenizer.pad_token
        # Marian's may be in the vocabulary to begin with, but is no word of a translation.
        marian = self._codec.family == "marian" and padding in self._ids
        self._never = [[padding]] if marian else None
        self._translator = ctranslate2.Translator(
            str(folder), device=device, compute_type=settings.quantization, inter_threads=threads, intra_threads=1
        )

    def translate(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Translated]:
        """Translate sentences, in their order. Cost: one encoder pass, and one decoder pass a token and hypothesis."""
        settings = self._settings
        sources = self._codec.encode(sentences, source_lang, lang)
        start = [self._tokens[i] for i in self._codec.target_start(lang)]
        best: list[list[str]] = [[] for _ in sources]
        for limit, group in self._codec.by_limit(sources).items():
            results = self._translator.translate_batch(
                [[self._tokens[i] for i in sources[index].ids] for index in group],
                target_prefix=[start] * len(group) if start else None,
                max_batch_size=settings.tokens_per_batch,
                batch_type="tokens",
                beam_size=settings.beam_size,
                no_repeat_ngram_size=settings.no_repeat_ngram,
                suppress_sequences=self._never,
                max_input_length=0,
                min_decoding_length=0,
                max_decoding_length=limit + len(start),
                return_end_token=True,
            )
            for index, result in zip(group, results, strict=True):
                best[index] = result.hypotheses[0]
        rows = [[self._ids[token] for token in row[len(start) :]] for row in best]
        return [
            Translated(text.strip(), source.truncated or self._end not in row)
            for text, row, source in zip(self._codec.decode(rows), best, sources, strict=True)
        ]


def _library(device: str) -> Any:
    try:
        import ctranslate2
    except ImportError as error:
        raise TranslatorError(f"translator type ctranslate2 needs ctranslate2: {how_to_install('mt')}") from error
    if device == "cuda":
        _preload_cublas()
        if not ctranslate2.get_cuda_device_count():
            raise TranslatorError("CTranslate2 sees no GPU; set translate.pool.num_gpus to 0 to translate on CPUs")
    return ctranslate2


def _preload_cublas() -> None:
    """Load cuBLAS 12, which CTranslate2 opens by name: torch brings another major version, and pip puts it where nothing looks.

    Without it the first translation fails. Where the package is not installed the system's own library is left to be found.
    """
    try:
        spec = importlib.util.find_spec("nvidia.cublas")
    except ModuleNotFoundError:
        return
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in ("libcublasLt.so.12", "libcublas.so.12"):
            file = Path(folder) / "lib" / name
            if file.is_file():
                ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
