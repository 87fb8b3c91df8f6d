"""Cross-encoders: sequence-classification models that read query and passage together."""

from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import torch
import transformers
from jaxtyping import Float
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from distill.encoders.settings import Dtype
from distill.models.loading import check_tokens, load_config, load_model, load_tokenizer
from distill.models.locate import ModelError
from distill.numerics.batching import attention_of, fitting_tokens, padded, token_budget_batches
from distill.score.settings import CrossEncoderTeacher, TransformersEngine, VllmEngine
from distill.score.teachers.checks import check_agreement, check_positions
from distill.score.teachers.first_token import shorten_last_layer
from distill.score.teachers.interface import LogitEngine, Provenance, TokenPair
from distill.score.teachers.prompts import ComposedScorer, PairComposer

_HEADS = ("classifier", "score")


class CrossEncoder(ComposedScorer):
    """A sequence-classification model with one label; the score of a pair is its logit. Only the passage is truncated."""

    def __init__(self, settings: CrossEncoderTeacher, dtype: Dtype, tokens_per_batch: int, device: str) -> None:
        tokenizer = load_tokenizer(settings.model, settings.revision)
        config = load_config(settings.model, settings.revision)
        composer = PairComposer(tokenizer, settings.max_tokens, settings.model, segments=has_segments(config))
        engine: LogitEngine
        match settings.engine:
            case TransformersEngine():
                engine = ClassificationLogits(settings, dtype, tokens_per_batch, device)
                check_tokens(tokenizer, engine.embeddings, settings.model)
            case VllmEngine():
                from distill.score.teachers.vllm import VllmLogits

                engine = VllmLogits(settings, dtype, None)
            case _:
                assert_never(settings.engine)
        provenance = Provenance(
            kind=settings.type,
            model=settings.model,
            revision=settings.revision or "",
            engine=settings.engine.type,
            engine_version=engine.version,
            truncation=composer.truncation,
            dtype=dtype,
        )
        super().__init__(composer, engine, provenance)


class ClassificationLogits:
    """The logit of a sequence-classification model with one label, through transformers."""

    version = transformers.__version__

    def __init__(self, settings: CrossEncoderTeacher, dtype: Dtype, tokens_per_batch: int, device: str) -> None:
        self._device = device
        model, _ = load_model(AutoModelForSequenceClassification, settings.model, settings.revision, dtype=dtype)
        if model.config.num_labels != 1:
            raise ModelError(
                f"cross-encoder '{settings.model}' has {model.config.num_labels} labels; a teacher needs one"
            )
        if model.config.pad_token_id is None:
            raise ModelError(
                f"cross-encoder '{settings.model}' has no pad token in its config.json, so its pairs cannot be batched"
            )
        check_positions(model.config, settings.max_tokens, settings.model)
        if dtype != "float32":
            _head_in_float32(model)
        self._has_segments = has_segments(model.config)
        self._pad: int = model.config.pad_token_id
        self._tokens_per_batch = fitting_tokens(tokens_per_batch, model.config, device)
        self._model: Any = model.to(device).eval()
        self.embeddings = self._model.get_input_embeddings()
        self._shorten(settings.model)

    @torch.inference_mode()
    def logits(self, pairs: Sequence[TokenPair]) -> Float[np.ndarray, " P"]:
        """Raw float32 logits of `pairs`, in their order. Cost: one forward pass a pair."""
        found = torch.empty(len(pairs))
        for batch in token_budget_batches([len(pair.ids) for pair in pairs], self._tokens_per_batch):
            inputs = self._inputs([pairs[i] for i in batch])
            found[batch] = self._model(**inputs).logits[:, 0].float().cpu()
        return found.numpy()

    @torch.inference_mode()
    def _shorten(self, name: str) -> None:
        """Spare the last layer what the head does not read, and see that the logit stays what it was."""
        probe = self._inputs([TokenPair(ids, 2, truncated=False) for ids in ([1, 2, 3, 4], [4, 3])])
        before = self._model(**probe).logits
        if shorten_last_layer(self._model):
            after = self._model(**probe).logits
            check_agreement(after, before, float(before.abs().max()), self._model.base_model.dtype, name)

    def _inputs(self, pairs: Sequence[TokenPair]) -> dict[str, torch.Tensor]:
        lengths = [len(pair.ids) for pair in pairs]
        inputs = {"input_ids": padded([pair.ids for pair in pairs], self._pad), "attention_mask": attention_of(lengths)}
        if self._has_segments:
            positions = torch.arange(max(lengths))
            second = torch.tensor([pair.second for pair in pairs])
            inputs["token_type_ids"] = (positions[None, :] >= second[:, None]).long() * inputs["attention_mask"]
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}


def has_segments(config: Any) -> bool:
    """Return whether a model tells the two texts of a pair apart by segment ids (BERT does; XLM-R, DeBERTa-v2 and ModernBERT do not)."""
    return getattr(config, "type_vocab_size", 0) > 1


def _head_in_float32(model: PreTrainedModel) -> None:
    """Compute the logit in float32 whatever the body's precision: bfloat16 has three significant digits, and scores would tie."""
    heads = [getattr(model, name) for name in _HEADS if isinstance(getattr(model, name, None), nn.Module)]
    if not heads:
        raise ModelError(
            f"{type(model).__name__} has no head called {' or '.join(_HEADS)}; score it with dtype float32"
        )
    for head in heads:
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: tuple(value.float() for value in inputs))
