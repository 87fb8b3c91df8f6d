"""Logits computed by vLLM, for cross-encoders and causal rerankers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from transformers import PretrainedConfig

from distill.models.loading import load_any_tokenizer, load_config
from distill.models.locate import ModelError
from distill.models.vllm import import_vllm, start_engine
from distill.score.settings import CausalTeacher, CrossEncoderTeacher, VllmEngine
from distill.score.teachers.checks import check_positions
from distill.score.teachers.interface import TokenPair

_SETTING = "score.pool"
_CAUSAL, _CLASSIFIER = "ForCausalLM", "ForSequenceClassification"
_AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of models that change their logits after the output matrix."""


class VllmLogits:
    """Raw logits of token ids that we composed.

    `classify` runs the model with a head of one float32 row: the checkpoint's own for a cross-encoder; for a causal model the difference of
    the output matrix's rows for yes and no, or the row of yes alone. `generate` asks a causal model for the log-probabilities of exactly
    these two tokens, whose difference is that of the logits. (Among the `logprobs` most likely tokens they may be missing, and vLLM's
    score templates change the prompt.) Pairs are computed in the order of their ids, so that those with an equal beginning, the prompt
    and the query, follow each other and vLLM finds it in its prefix cache.

    Cost: one pass over the tokens that no cached prefix covers; nothing is padded.

    Args:
        settings: the teacher, whose engine is vLLM.
        dtype: precision of the model's body, `float32` or `bfloat16`.
        answers: token ids of a causal teacher's answers: of no and yes, or of yes alone; None for a cross-encoder.

    Raises:
        ModelError: vLLM is missing or refuses the model, or cannot compute this score.
    """

    def __init__(
        self,
        settings: CrossEncoderTeacher | CausalTeacher,
        dtype: str,
        answers: tuple[int, ...] | None,
    ) -> None:
        engine = settings.engine
        if not isinstance(engine, VllmEngine):
            raise TypeError(f"the engine of '{settings.model}' is {engine.type}, not vllm")
        self._answers: tuple[int, ...] = answers or ()
        self._generates = engine.task == "generate"
        config = load_config(settings.model, settings.revision)
        self._has_segments = getattr(config, "type_vocab_size", 0) > 1
        check_positions(config, settings.max_tokens, settings.model)
        own: dict[str, Any] = {
            "dtype": dtype,
            "tensor_parallel_size": engine.tensor_parallel_size,
            "runner": "generate" if self._generates else "pooling",
            # One more where a token is generated.
            "max_model_len": settings.max_tokens + self._generates,
        }
        if answers is not None:
            own["enable_prefix_caching"] = engine.enable_prefix_caching
        if self._generates:
            check_generate(settings.model, answers)
        elif answers is not None:
            own["hf_overrides"] = causal_overrides(settings, config, answers, engine.tensor_parallel_size)
        elif config.num_labels != 1:
            raise ModelError(f"cross-encoder '{settings.model}' has {config.num_labels} labels; a teacher needs one")
        self._vllm = import_vllm(_SETTING)
        self._llm = start_engine(settings.model, settings.revision, own, engine.options, _SETTING)

    @property
    def version(self) -> str:
        """Version of vLLM."""
        return self._vllm.__version__

    def logits(self, pairs: Sequence[TokenPair]) -> Float[np.ndarray, " P"]:
        """Raw float32 logits of `pairs`, in their order."""
        order = sorted(range(len(pairs)), key=lambda i: pairs[i].ids)
        ordered = [pairs[i] for i in order]
        logits = np.empty(len(pairs), dtype=np.float32)
        if ordered:
            logits[order] = self._generate(ordered) if self._generates else self._classify(ordered)
        return logits

    def _classify(self, pairs: Sequence[TokenPair]) -> list[float]:
        parameters = []
        for pair in pairs:
            # Where the second segment begins is all that vLLM keeps of segment ids; BERT's logits are off by whole units without them.
            segments = {"compressed_token_type_ids": pair.second} if self._has_segments else None
            parameters.append(self._vllm.PoolingParams(use_activation=False, extra_kwargs=segments))
        outputs = self._llm.classify(self._prompts(pairs), pooling_params=parameters, use_tqdm=False)
        return [output.outputs.probs[0] for output in outputs]  # raw logits, since no activation was applied

    def _generate(self, pairs: Sequence[TokenPair]) -> list[float]:
        no, yes = self._answers[0], self._answers[-1]
        parameters = self._vllm.SamplingParams(
            max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=[no, yes]
        )
        outputs = self._llm.generate(self._prompts(pairs), parameters, use_tqdm=False)
        steps = [output.outputs[0].logprobs[0] for output in outputs]
        return [step[yes].logprob - step[no].logprob for step in steps]

    def _prompts(self, pairs: Sequence[TokenPair]) -> list[Any]:
        return [self._vllm.TokensPrompt(prompt_token_ids=pair.ids) for pair in pairs]


def check_generate(model: str, answers: tuple[int, ...] | None) -> None:
    """Raise a `ModelError` for what `generate` cannot score: its log-probabilities are logits less an amount that differs by prompt."""
    if answers is None:
        raise ModelError(
            f"'{model}' is a cross-encoder and generates nothing: set score.teacher.engine.task to classify"
        )
    if len(answers) == 1:
        raise ModelError(
            f"the score of '{model}' is the logit of one answer, which generate cannot give: log-probabilities determine only the "
            "difference of two logits; set score.teacher.engine.task to classify"
        )


def causal_overrides(
    settings: CrossEncoderTeacher | CausalTeacher,
    config: PretrainedConfig,
    answers: tuple[int, ...],
    tensor_parallel_size: int,
) -> dict[str, Any]:
    """Return the `hf_overrides` that turn a causal model into a classifier with one label.

    vLLM is told the answers as tokens and looks their ids up again, so a token that does not come back to its id is an error. With tensor
    parallelism each GPU holds a range of the output matrix and vLLM takes the rows by their global ids from the first: an id beyond
    that range would read another token's row, and is an error. So is a model that does more to its logits than multiply.
    """
    other_task = "set score.teacher.engine.task to generate"
    architectures = [name for name in config.architectures or [] if name.endswith(_CAUSAL)]
    if not architectures:
        raise ModelError(
            f"'{settings.model}' is no causal language model: its config.json names {config.architectures}"
        )
    text_config = config.get_text_config()
    changed = [name for name in _AFTER_THE_HEAD if getattr(text_config, name, None) not in (None, 1, 1.0)]
    if changed:
        raise ModelError(f"'{settings.model}' has {changed[0]}, which vllm leaves out when it classifies; {other_task}")
    share = text_config.vocab_size // tensor_parallel_size
    if max(answers) >= share:
        raise ModelError(
            f"token {max(answers)} of '{settings.model}' lies beyond the first {share} rows of the output matrix, all that vllm "
            f"classifies with when {tensor_parallel_size} GPUs share a model; {other_task}"
        )
    tokenizer = load_any_tokenizer(settings.model, settings.revision)
    tokens = tokenizer.convert_ids_to_tokens(list(answers))
    if tokenizer.convert_tokens_to_ids(tokens) != list(answers):
        raise ModelError(f"the answers {tokens} of '{settings.model}' are not the tokens {answers} of its tokenizer")
    return {
        "architectures": [architectures[0].removesuffix(_CAUSAL) + _CLASSIFIER],
        "classifier_from_token": tokens,
        "method": "no_post_processing" if len(answers) == 1 else "from_2_way_softmax",
    }
