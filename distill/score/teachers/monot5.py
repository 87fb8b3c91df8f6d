"""monoT5 and its multilingual relatives: sequence-to-sequence models that answer whether a passage is relevant (arXiv 2003.06713)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from distill.encoders.settings import Dtype
from distill.models.loading import check_tokens, load_model, load_tokenizer
from distill.models.locate import ModelError
from distill.numerics.batching import attention_of, fitting_tokens, padded, token_budget_batches
from distill.score.settings import MonoT5Teacher
from distill.score.teachers.checks import check_agreement
from distill.score.teachers.interface import Provenance, TokenPair
from distill.score.teachers.prompts import ComposedScorer, Prompt, PromptComposer, answer_id, special_token

_TRUE = ("▁false", "▁true")
_YES = ("▁no", "▁yes")
_SIM = ("▁não", "▁sim")

ANSWERS: Mapping[str, tuple[str, str]] = {
    "castorini/monot5-small-msmarco-10k": _TRUE,
    "castorini/monot5-small-msmarco-100k": _TRUE,
    "castorini/monot5-base-msmarco": _TRUE,
    "castorini/monot5-base-msmarco-10k": _TRUE,
    "castorini/monot5-base-med-msmarco": _TRUE,
    "castorini/monot5-large-msmarco": _TRUE,
    "castorini/monot5-large-msmarco-10k": _TRUE,
    "castorini/monot5-3b-msmarco": _TRUE,
    "castorini/monot5-3b-msmarco-10k": _TRUE,
    "castorini/monot5-3b-med-msmarco": _TRUE,
    "unicamp-dl/InRanker-small": _TRUE,
    "unicamp-dl/InRanker-base": _TRUE,
    "unicamp-dl/InRanker-3B": _TRUE,
    "unicamp-dl/mt5-base-en-msmarco": _YES,
    "unicamp-dl/mt5-base-en-pt-msmarco-v1": _YES,
    "unicamp-dl/mt5-base-en-pt-msmarco-v2": _YES,
    "unicamp-dl/mt5-base-mmarco-v1": _YES,
    "unicamp-dl/mt5-base-mmarco-v2": _YES,
    # mT5's vocabulary has no "▁false": in training it fell into pieces, the first of which is the bare word start.
    "unicamp-dl/mt5-3B-mmarco-en-pt": ("▁", "▁true"),
    "unicamp-dl/mt5-13b-mmarco-100k": ("▁", "▁true"),
    "unicamp-dl/ptt5-base-pt-msmarco-10k-v1": _SIM,
    "unicamp-dl/ptt5-base-pt-msmarco-10k-v2": _SIM,
    "unicamp-dl/ptt5-base-pt-msmarco-100k-v1": _SIM,
    "unicamp-dl/ptt5-base-pt-msmarco-100k-v2": _SIM,
    "unicamp-dl/ptt5-base-en-pt-msmarco-10k-v1": _SIM,
    "unicamp-dl/ptt5-base-en-pt-msmarco-100k-v2": _SIM,
    "unicamp-dl/monoptt5-small": ("▁Não", "▁Sim"),
    "unicamp-dl/monoptt5-base": ("▁Não", "▁Sim"),
    "unicamp-dl/monoptt5-large": ("▁Não", "▁Sim"),
    "unicamp-dl/monoptt5-3b": ("▁Não", "▁Sim"),
}
"""The tokens of false and true of published checkpoints (pygaggle; rerankers; the checkpoints' cards)."""


class MonoT5(ComposedScorer):
    """A T5 or mT5 that reads `Query: ... Document: ... Relevant:`; the score is logit(true) - logit(false) of its first token.

    That is the log-odds of true. The log-probability that others report follows from it: log p(true) = -softplus(-score). It saturates
    at 0 where the score does not.
    """

    def __init__(self, settings: MonoT5Teacher, dtype: Dtype, tokens_per_batch: int, device: str) -> None:
        answers = monot5_answers(settings)
        tokenizer = load_tokenizer(settings.model, settings.revision)
        composer = monot5_composer(settings, tokenizer)
        ids = (answer_id(tokenizer, answers[0], settings.model), answer_id(tokenizer, answers[1], settings.model))
        engine = Seq2SeqLogits(settings, ids, dtype, tokens_per_batch, device)
        check_tokens(tokenizer, engine.embeddings, settings.model)
        engine.self_check(composer.compose(["what is it"], ["it is this"], [(0, 0)])[0])
        provenance = Provenance(
            kind=settings.type,
            model=settings.model,
            revision=settings.revision or "",
            engine="transformers",
            engine_version=engine.version,
            prompt=composer.prompt_hash,
            truncation=composer.truncation,
            dtype=dtype,
        )
        super().__init__(composer, engine, provenance)


def monot5_answers(settings: MonoT5Teacher) -> tuple[str, str]:
    """Return the tokens of false and true; an unknown checkpoint without given ones is a `ModelError`."""
    answers = settings.answers or ANSWERS.get(settings.model)
    if answers is None:
        raise ModelError(
            f"it is not known what '{settings.model}' answers: set score.teacher.answers; known are {', '.join(ANSWERS)}"
        )
    return answers


def monot5_composer(settings: MonoT5Teacher, tokenizer: PreTrainedTokenizerBase) -> PromptComposer:
    """Make the composer of a monoT5."""
    end = special_token(tokenizer, "eos_token")
    if end is None:
        raise ModelError(f"the tokenizer of '{settings.model}' has no end-of-sequence token; a T5 needs one")
    prompt = Prompt(
        opening=(),
        query=("Query: ", " Document:"),
        between=(),
        passage=(" ", f" Relevant:{end}"),
        closing=(),
        answers=monot5_answers(settings),
    )
    composer = PromptComposer(tokenizer, prompt, settings.max_tokens)
    composer.check_whole(settings.model)
    return composer


class Seq2SeqLogits:
    """Differences of two tokens' logits in the first decoder step, through transformers.

    Only two rows of the output layer are multiplied, in float32: all of mT5's would be 250,000 numbers a pair.
    """

    version = transformers.__version__

    def __init__(
        self, settings: MonoT5Teacher, answers: tuple[int, int], dtype: Dtype, tokens_per_batch: int, device: str
    ) -> None:
        self._name = settings.model
        self._answers = answers
        self._device = device
        model, _ = load_model(AutoModelForSeq2SeqLM, settings.model, settings.revision, dtype=dtype)
        self._tokens_per_batch = fitting_tokens(tokens_per_batch, model.config, device)
        self._model: Any = model.to(device).eval()
        self.embeddings = self._model.get_input_embeddings()
        self._pad: int = model.config.pad_token_id
        self._start: int = model.config.decoder_start_token_id
        self._rows = self._model.get_output_embeddings().weight[list(answers)].detach().float()
        # T5 v1.0 scales what it feeds its output layer, v1.1 does not, and mT5 never does. transformers 5 keeps the fact in a flag of
        # its own, T5Config.scale_decoder_outputs, and reports tie_word_embeddings as true for all of them.
        scaled = getattr(model.config, "scale_decoder_outputs", False)
        self._scale = model.config.d_model**-0.5 if scaled else 1.0

    @torch.inference_mode()
    def logits(self, pairs: Sequence[TokenPair]) -> Float[np.ndarray, " P"]:
        """Raw float32 differences of `pairs`, in their order. Cost: one encoder pass and one decoder step a pair."""
        found = torch.empty(len(pairs))
        for batch in token_budget_batches([len(pair.ids) for pair in pairs], self._tokens_per_batch):
            rows = [pairs[i].ids for i in batch]
            answers = self._answer_logits(padded(rows, self._pad), attention_of([len(row) for row in rows]))
            found[batch] = (answers[:, 1] - answers[:, 0]).cpu()
        return found.numpy()

    def _answer_logits(self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"]) -> Float[Tensor, "B 2"]:
        ids, attention = ids.to(self._device), attention.to(self._device)
        states = self._model.get_encoder()(input_ids=ids, attention_mask=attention).last_hidden_state
        hidden = self._model.get_decoder()(
            input_ids=torch.full((len(ids), 1), self._start, device=self._device),
            encoder_hidden_states=states,
            encoder_attention_mask=attention,
            use_cache=False,
        ).last_hidden_state
        return functional.linear(hidden[:, 0].float() * self._scale, self._rows)

    @torch.inference_mode()
    def self_check(self, pair: TokenPair) -> None:
        """Compare one pair with the model's own whole forward pass.

        A difference is a `ModelError`: an output layer that is scaled or tied wrongly gives plausible scores that are all wrong.
        """
        ids = torch.tensor([pair.ids])
        ours = self._answer_logits(ids, torch.ones_like(ids)).cpu()
        start = torch.full((1, 1), self._start, device=self._device)
        whole = self._model(input_ids=ids.to(self._device), decoder_input_ids=start).logits[:, 0].cpu()
        check_agreement(ours, whole[:, list(self._answers)], float(whole.abs().max()), self._model.dtype, self._name)
