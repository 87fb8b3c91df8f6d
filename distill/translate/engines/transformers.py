"""Translation models in PyTorch: Marian, NLLB, M2M100 and MADLAD through transformers."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from distill.models.loading import check_tokens, load_model
from distill.models.locate import locate
from distill.numerics.batching import token_budget_batches
from distill.translate.engines.checks import COMPUTED, check_embeddings, check_logits
from distill.translate.engines.codec import Codec, load_tokenizer
from distill.translate.engines.interface import Translated
from distill.translate.settings import ModelTranslator, TransformersTranslator


class TransformersEngine:
    """Greedy or beam search in token-budget batches of sentences of similar length.

    A translation's length limit depends on its own source alone and batches are of one limit, so what a sentence becomes does not depend
    on its neighbours (but for the last bits of a float, which decide a tie once in many thousand tokens).

    Args:
        settings: the translator.
        model: the model, one of those that `settings` name.
        device: `cpu` or `cuda`.
    """

    def __init__(self, settings: TransformersTranslator, model: str, device: str) -> None:
        revision = settings.revisions.get(model)
        folder = locate(model)
        self.name = f"{model}@{revision} transformers" if revision else f"{model} transformers"
        self.version = transformers.__version__
        self._settings = settings
        self._device = device
        self._model: Any = load_translator(folder, revision, settings.dtype).to(torch.device(device))
        self._codec = Codec(load_tokenizer(folder, revision), self._model.config, settings, model)
        check_tokens(self._codec.tokenizer, self._model.get_input_embeddings(), model)
        prepare_generation(self._model, settings)

    def translate(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Translated]:
        """Translate sentences, in their order. Cost: one encoder pass, and one decoder pass a token and hypothesis."""
        sources = self._codec.encode(sentences, source_lang, lang)
        start = self._codec.target_start(lang)
        generated: list[list[int]] = [[] for _ in sources]
        for limit, group in self._codec.by_limit(sources).items():
            for batch in token_budget_batches([len(sources[i].ids) for i in group], self._settings.tokens_per_batch):
                indices = [group[i] for i in batch]
                rows = self._generate([sources[i].ids for i in indices], start, limit)
                for index, row in zip(indices, rows, strict=True):
                    generated[index] = row
        end = self._codec.tokenizer.eos_token_id
        texts = self._codec.decode([row[len(start) :] for row in generated])
        return [
            Translated(text.strip(), source.truncated or end not in row[len(start) :])
            for text, row, source in zip(texts, generated, sources, strict=True)
        ]

    @torch.inference_mode()
    def _generate(self, rows: list[list[int]], start: list[int], limit: int) -> list[list[int]]:
        """Return the generated ids of a batch, up to and with the end token."""
        inputs = pad(rows, self._codec.tokenizer.pad_token_id).to(self._device)
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        attention = (torch.arange(inputs.shape[1], device=self._device) < lengths[:, None]).long()
        options = {"forced_bos_token_id": start[0]} if start else {}
        outputs = self._model.generate(
            input_ids=inputs, attention_mask=attention, max_new_tokens=limit + len(start), **options
        )
        end = self._codec.tokenizer.eos_token_id
        return [_until(row, end) for row in outputs[:, 1:].tolist()]


def load_translator(folder: str, revision: str | None, dtype: str) -> Any:
    """Load a sequence-to-sequence model and check its weights against its files: transformers has tied some wrongly, without a warning."""
    # A matrix that is tied may be loaded from the wrong one, which `check_embeddings` sees.
    absent = (*COMPUTED, "embed_tokens.weight", "lm_head.weight")
    loaded, _ = load_model(AutoModelForSeq2SeqLM, folder, revision, dtype=dtype, absent=absent)
    model = loaded.eval()
    check_embeddings(model, folder, revision)
    check_logits(model, folder)
    return model


def prepare_generation(model: Any, settings: ModelTranslator) -> None:
    """Set the model's search as `settings` say; of the checkpoint's own settings only its ids, forbidden words and length penalty count."""
    config = model.generation_config
    config.num_beams = settings.beam_size
    config.do_sample = False
    config.max_length = None
    config.no_repeat_ngram_size = settings.no_repeat_ngram or None
    # It would end a translation that reaches its limit, which would then look complete.
    config.forced_eos_token_id = None
    config.early_stopping = settings.beam_size > 1


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Return rows of ids as one tensor, padded on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row
