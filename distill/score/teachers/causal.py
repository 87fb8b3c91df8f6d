"""Causal language models that answer whether a passage is relevant: Qwen3-Reranker, bge-reranker-v2-gemma, mxbai-rerank-v2, and others."""

from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from distill.encoders.settings import Dtype
from distill.models.loading import check_tokens, load_model, load_tokenizer
from distill.numerics.batching import attention_of, fitting_tokens, padded, token_budget_batches
from distill.score.settings import CausalTeacher, PromptSettings, TransformersEngine, VllmEngine
from distill.score.teachers.checks import check_agreement, check_positions
from distill.score.teachers.interface import LogitEngine, Provenance, TokenPair
from distill.score.teachers.prompts import ComposedScorer, Prompt, PromptComposer, answer_id, special_token

_QWEN3_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided."
    ' Note that the answer can only be "yes" or "no".'
)
_QWEN3_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_BGE_INSTRUCTION = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query"
    " by providing a prediction of either 'Yes' or 'No'."
)
_MXBAI_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair,"
    " carefully analyze the semantic relationship between them, then provide your binary relevance judgment"
    " (0 for not relevant, 1 for relevant).\nRelevance:"
)


class Causal(ComposedScorer):
    """A causal language model; the score is the logit of the positive answer as the next token, less that of the negative one if any."""

    def __init__(self, settings: CausalTeacher, dtype: Dtype, tokens_per_batch: int, device: str) -> None:
        tokenizer = load_tokenizer(settings.model, settings.revision)
        composer = causal_composer(settings, tokenizer)
        answers = causal_answers(settings, tokenizer)
        engine: LogitEngine
        match settings.engine:
            case TransformersEngine():
                engine = NextTokenLogits(settings, answers, dtype, tokens_per_batch, device)
                check_tokens(tokenizer, engine.embeddings, settings.model)
                engine.self_check(composer.compose(["what is it"], ["it is this"], [(0, 0)])[0])
            case VllmEngine():
                from distill.score.teachers.vllm import VllmLogits

                engine = VllmLogits(settings, dtype, answers)
            case _:
                assert_never(settings.engine)
        provenance = Provenance(
            kind=settings.type,
            model=settings.model,
            revision=settings.revision or "",
            engine=settings.engine.type,
            engine_version=engine.version,
            prompt=composer.prompt_hash,
            truncation=composer.truncation,
            dtype=dtype,
        )
        super().__init__(composer, engine, provenance)


def causal_prompt(settings: CausalTeacher, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Return the prompt and the answers of a causal teacher.

    Those of published models are their own: Qwen3-Reranker's and bge-reranker-v2-gemma's from their model cards, mxbai-rerank-v2's from
    the `mxbai-rerank` package. They say too which pieces are tokenised apart.
    """
    match settings.prompt:
        case "qwen3":
            return _qwen3(settings.instruction or _QWEN3_INSTRUCTION)
        case "bge_gemma":
            return _bge_gemma(settings.instruction or _BGE_INSTRUCTION, special_token(tokenizer, "bos_token"))
        case "mxbai":
            return _mxbai(settings.instruction)
        case PromptSettings():
            return _custom(settings.prompt)
        case _:
            assert_never(settings.prompt)


def causal_composer(settings: CausalTeacher, tokenizer: PreTrainedTokenizerBase) -> PromptComposer:
    """Make the composer of a causal teacher, for any engine."""
    composer = PromptComposer(tokenizer, causal_prompt(settings, tokenizer), settings.max_tokens)
    if settings.prompt == "qwen3" or isinstance(settings.prompt, PromptSettings):
        composer.check_whole(settings.model)
    return composer


def causal_answers(settings: CausalTeacher, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Token ids of the answers: of the negative and the positive one, or of the positive one alone."""
    answers = causal_prompt(settings, tokenizer).answers
    return tuple(answer_id(tokenizer, answer, settings.model) for answer in answers)


def _qwen3(instruction: str) -> Prompt:
    # Its card tokenises the part with query and document as one text. That between the colon and the space is a place where its
    # tokenizer always splits, so the document may be tokenised apart with the space before it.
    return Prompt(
        opening=(f"<|im_start|>system\n{_QWEN3_SYSTEM}<|im_end|>\n<|im_start|>user\n",),
        query=(f"<Instruct>: {instruction}\n<Query>: ", "\n<Document>:"),
        between=(),
        passage=(" ", ""),
        closing=("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",),
        answers=("no", "yes"),
    )


def _bge_gemma(instruction: str, start: str | None) -> Prompt:
    return Prompt(
        opening=(start,) if start else (),
        query=("A: ", ""),
        between=("\n",),
        passage=("B: ", ""),
        closing=("\n", instruction),
        answers=("Yes",),
    )


def _mxbai(instruction: str | None) -> Prompt:
    return Prompt(
        opening=(f"<|im_start|>system\n{_MXBAI_SYSTEM}<|im_end|>\n<|im_start|>user\n",),
        query=(f"instruction: {instruction}\nquery: " if instruction else "query: ", ""),
        between=("\n",),
        passage=("document: ", ""),
        closing=("\n", _MXBAI_TASK, "<|im_end|>\n<|im_start|>assistant\n"),
        answers=("0", "1"),
    )


def _custom(prompt: PromptSettings) -> Prompt:
    stripped = prompt.before_passage.rstrip(" ")
    return Prompt(
        opening=(),
        query=(prompt.before_query, stripped),
        between=(),
        passage=(prompt.before_passage[len(stripped) :], prompt.after_passage),
        closing=(),
        answers=(prompt.yes,) if prompt.no is None else (prompt.no, prompt.yes),
    )


class NextTokenLogits:
    """The answers' logits as the next token after a prompt, through transformers.

    Only the last hidden state of each prompt is multiplied, in float32, and only with the answers' rows of the output layer.
    """

    version = transformers.__version__

    def __init__(
        self, settings: CausalTeacher, answers: tuple[int, ...], dtype: Dtype, tokens_per_batch: int, device: str
    ) -> None:
        self._name = settings.model
        self._ids = list(answers)
        self._device = device
        model, _ = load_model(AutoModelForCausalLM, settings.model, settings.revision, dtype=dtype)
        check_positions(model.config, settings.max_tokens, settings.model)
        self._tokens_per_batch = fitting_tokens(tokens_per_batch, model.config, device)
        self._model = model.to(device).eval()
        self._body: Any = self._model.base_model
        self.embeddings = self._model.get_input_embeddings()
        head: Any = model.get_output_embeddings()
        self._rows = head.weight[self._ids].detach().float()
        self._cap: float | None = getattr(model.config, "final_logit_softcapping", None)

    @torch.inference_mode()
    def logits(self, pairs: Sequence[TokenPair]) -> Float[np.ndarray, " P"]:
        """Raw float32 scores of `pairs`, in their order. Cost: one forward pass a pair."""
        found = torch.empty(len(pairs))
        for batch in token_budget_batches([len(pair.ids) for pair in pairs], self._tokens_per_batch):
            rows = [pairs[i].ids for i in batch]
            answers = self._answer_logits(padded(rows, 0), attention_of([len(row) for row in rows])).cpu()
            found[batch] = answers[:, 0] if len(self._ids) == 1 else answers[:, 1] - answers[:, 0]
        return found.numpy()

    def _answer_logits(self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"]) -> Float[Tensor, "B A"]:
        # Filled up at the end: a token never sees what comes after it, and positions count from the prompt's first token.
        ids, attention = ids.to(self._device), attention.to(self._device)
        hidden = self._body(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(ids)), attention.sum(dim=1) - 1].float()
        logits = functional.linear(last, self._rows)
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)

    @torch.inference_mode()
    def self_check(self, pair: TokenPair) -> None:
        """Compare one pair with the model's own whole forward pass; a difference is a `ModelError`.

        It finds models that do more to their logits than multiply: scale, shift or cap them in ways that are not known here.
        """
        ids = torch.tensor([pair.ids])
        ours = self._answer_logits(ids, torch.ones_like(ids)).cpu()
        whole = self._model(input_ids=ids.to(self._device)).logits[:, -1].cpu()
        check_agreement(ours, whole[:, self._ids], float(whole.abs().max()), self._model.dtype, self._name)
