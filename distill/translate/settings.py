"""Settings of the translate stage: translators, flags and the report."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import PoolSettings, Settings
from distill.formats.settings import PassageFields
from distill.settings.base import Language


class PrecomputedTranslator(Settings):
    """Translations that exist already, as the papers use neuMARCO."""

    type: Literal["precomputed"] = "precomputed"
    files: dict[Language, tuple[str, ...]] = Field(default_factory=dict)
    """Language to passage files, or folders of them, in that language (formats as for a file source)."""
    fields: PassageFields = PassageFields()
    """Names of the fields in `files`."""
    ir_datasets: dict[Language, str] = Field(default_factory=dict)
    """Language to ir_datasets id, for example `{zh: neumarco/zh}`."""


class ModelTranslator(Settings):
    """The settings that all translation models share, whatever computes them."""

    execution: ClassVar[frozenset[str]] = frozenset()
    model: str | None = None
    """A multilingual model (NLLB, M2M100, MADLAD, a Marian model of several languages): Hugging Face id or local folder."""
    models: dict[Language, str] = Field(default_factory=dict)
    """Target language to a model of its own, as Marian's are (`{de: Helsinki-NLP/opus-mt-en-de}`); the others use `model`."""
    revisions: dict[str, str] = Field(default_factory=dict)
    """Model to its commit on the hub."""
    language_codes: dict[Language, str] = Field(default_factory=dict)
    """Language to the model's code for it, where the built-in table is wrong or lacks it (`{sr: srp_Cyrl}`, `{pt-BR: pob}`)."""
    beam_size: int = Field(default=1, ge=1)
    """Hypotheses that the search keeps; 1 is greedy. mMARCO used 5; four cost two to three times as much as one."""
    tokens_per_batch: int = Field(default=4096, ge=16)
    """Padded source tokens in a batch."""
    max_source_tokens: int = Field(default=256, ge=8)
    """Longer sentences are cut, which is flagged `truncated`. Models lose the end of long sentences well before their own limit."""
    length_factor: float = Field(default=2.0, gt=0)
    """a in the longest translation of a sentence of n tokens, a * n + b tokens."""
    length_offset: int = Field(default=16, ge=1)
    """b of the same; a translation that reaches the limit is flagged `truncated`."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No n-gram of so many tokens is produced twice in a sentence; 0 allows all repeats."""

    @model_validator(mode="after")
    def _has_model(self) -> "ModelTranslator":
        if self.model is None and not self.models:
            raise ValueError(
                "names no model: set `model` for one that knows every language, `models` for one for each language"
            )
        return self

    def model_for(self, lang: str) -> str | None:
        """Return the model that translates to `lang`, or None."""
        return self.models.get(lang, self.model)


class TransformersTranslator(ModelTranslator):
    """Marian, NLLB, M2M100 or MADLAD in PyTorch through transformers: runs anywhere, the reference of the others."""

    type: Literal["transformers"] = "transformers"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights."""


class CTranslate2Translator(ModelTranslator):
    """The same models in CTranslate2, which is several times faster on CPUs. A model is converted once and then reused."""

    type: Literal["ctranslate2"] = "ctranslate2"
    execution: ClassVar[frozenset[str]] = frozenset({"cache"})
    quantization: Literal["int8", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32"] = "int8"
    """Precision of the weights; int8 is four times smaller than float32 and the fastest on CPUs."""
    cache: str = "~/.cache/polyray/ctranslate2"
    """Folder of converted models, one for each machine, or one for all on a shared file system."""


class VllmTranslator(Settings):
    """A large language model, asked sentence by sentence at temperature 0 in vLLM, whose environment `translate.pool.runtime_env` names."""

    execution: ClassVar[frozenset[str]] = frozenset({"tensor_parallel_size"})
    type: Literal["vllm"] = "vllm"
    model: str
    """Hugging Face id or local folder of a model that follows instructions. Its chat template is used where it has one."""
    revision: str | None = None
    """Commit on the hub."""
    prompt: str = (
        "Translate the text from {source_language} into {target_language}. Translate all of it and add nothing. "
        "Write the translation between <translation> and </translation>.\n\n{text}"
    )
    """The prompt; `{source_language}`, `{target_language}` and `{text}` are filled in."""
    opening: str = "<translation>"
    """Text that the model writes before the translation; what precedes it is dropped. Empty, with `closing`: the whole answer counts."""
    closing: str = "</translation>"
    """Text that the model writes after the translation; generation stops there."""
    template_options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template (`{enable_thinking: false}` for Qwen3)."""
    language_names: dict[Language, str] = Field(default_factory=dict)
    """Language to its name in the prompt, where the built-in table lacks it or another name works better."""
    max_source_tokens: int = Field(default=512, ge=8)
    """Longer sentences are cut, which is flagged `truncated`."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest answer in tokens, thoughts and delimiters included; one that reaches it is flagged `truncated`."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Precision of the weights."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that share one model; each actor reserves `translate.pool.num_gpus`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other arguments of `vllm.LLM`, passed as they are (`gpu_memory_utilization`, `quantization` ...)."""

    @model_validator(mode="after")
    def _has_fields(self) -> "VllmTranslator":
        missing = [field for field in ("{target_language}", "{text}") if field not in self.prompt]
        if missing:
            raise ValueError(f"prompt has no {' and no '.join(missing)}")
        if bool(self.opening) != bool(self.closing):
            raise ValueError("opening and closing are either both given or both empty")
        return self


class CommandTranslator(Settings):
    """A program of yours: it reads sentences from standard input and writes as many translations, in order, to standard output."""

    type: Literal["command"] = "command"
    command: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments; `{source_lang}` and `{lang}` stand for the languages. It is not run by a shell."""
    name: str
    """The translator's name, recorded with the translations."""
    format: Literal["jsonl", "lines"] = "jsonl"
    """`jsonl`: objects with `text`, `source_lang` and `lang` in, objects with `text` and perhaps `truncated` out; `lines`: one sentence
    a line both ways."""
    sentences_per_run: int = Field(default=1000, ge=1)
    """Sentences that one run of the program gets."""
    timeout_s: float = Field(default=3600.0, gt=0)
    """Longest time of a run, in seconds."""


EngineTranslator = Annotated[
    TransformersTranslator | CTranslate2Translator | VllmTranslator | CommandTranslator,
    Field(discriminator="type"),
]
"""Translators that translate, unlike precomputed files."""

Translator = Annotated[
    PrecomputedTranslator | TransformersTranslator | CTranslate2Translator | VllmTranslator | CommandTranslator,
    Field(discriminator="type"),
]


class FlagSettings(Settings):
    """Limits beyond which a translation is doubtful. Of parallel texts made by people, all but a few in a thousand keep them."""

    min_characters: int = Field(default=20, ge=1)
    """Shorter sources are not checked for `length_ratio`, nor shorter translations for `wrong_language`: they tell too little."""
    length_factor: float = Field(default=2.2, gt=1)
    """`length_ratio`: the number of characters is by more than this factor off what is usual between the two languages."""
    length_ratios: dict[Language, tuple[float, float]] = Field(default_factory=dict)
    """Language to the least and the greatest usual ratio of characters, translation to source, instead of the built-in ones."""
    max_repeats: int = Field(default=4, ge=2)
    """`repeated`: the same at most 16 words or letters so many times in a row, over at least 8 words or 24 letters."""
    max_repeated_share: float = Field(default=0.2, gt=0, lt=1)
    """`repeated`: of the translation's runs of four words, a share larger by more than this occurred before than of the source's."""


class TranslationReportSettings(Settings):
    """The translation report."""

    references: int = Field(default=200, ge=0)
    """Passages a language that have a parallel passage and are translated nevertheless, to measure BLEU and chrF; 0 measures nothing."""
    samples: int = Field(default=12, ge=0)
    """Passages a language that the report shows beside their translations."""


class TranslateSettings(Settings):
    """The translate stage: passages in every target language, under the ids of their sources."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool", "shard_seconds"})
    by: Translator = PrecomputedTranslator()
    """The translator. Parallel passages that came with the source are always used."""
    precomputed: PrecomputedTranslator = PrecomputedTranslator()
    """Files and data sets that are used before an engine: it translates only what they, and the source, lack."""
    fallback: EngineTranslator | None = None
    """An engine for the passages whose translation is flagged; where `by` is precomputed, for those that have none."""
    elsewhere: Literal["leave_out", "translate"] = "leave_out"
    """Treatment of passages without a text in `source_lang`, which are documents to search in either case. `leave_out`: the student is not
    trained on them. `translate`: they get translations into `source_lang` and the other languages, of files or by the engine, so that they
    can be candidates, scored and trained on. Each is translated from the first of `languages` in which it exists; models for one pair of
    languages (`models`) cannot."""
    max_missing: float = Field(default=0.1, ge=0, le=1)
    """Share of the passages that may lack a translation into one language before the stage fails. Each is listed anyway."""
    max_sentence_characters: int = Field(default=600, ge=40)
    """Longer sentences are cut at the last clause or space before."""
    passages_per_shard: int | None = Field(default=None, ge=1)
    """Passages in a shard, the unit of commit and retry; if None, as many as take `shard_seconds`, measured on the first ones."""
    shard_seconds: float = Field(default=120.0, gt=0)
    """Time that a shard should take an actor, in seconds."""
    flags: FlagSettings = FlagSettings()
    """Limits beyond which a translation is doubtful."""
    report: TranslationReportSettings = TranslationReportSettings()
    """The translation report."""
    pool: PoolSettings = PoolSettings()
    """The actors."""

    @property
    def engine(self) -> EngineTranslator | None:
        """The translator of passages that have no translation yet; None where files are all there is."""
        return self.fallback if isinstance(self.by, PrecomputedTranslator) else self.by

    @property
    def second_engine(self) -> EngineTranslator | None:
        """The translator of flagged passages, or None."""
        return None if isinstance(self.by, PrecomputedTranslator) else self.fallback

    @property
    def existing(self) -> PrecomputedTranslator:
        """The files and data sets that are used first."""
        return self.by if isinstance(self.by, PrecomputedTranslator) else self.precomputed

    @model_validator(mode="after")
    def _files_named_once(self) -> "TranslateSettings":
        if isinstance(self.by, PrecomputedTranslator) and self.precomputed != PrecomputedTranslator():
            raise ValueError(
                "translate.precomputed is for files that come before an engine; translate.by is precomputed, name them there"
            )
        return self

    def models(self) -> list[str]:
        """Return every model that an engine may load, once each, in order."""
        named: list[str | None] = []
        for engine in (self.engine, self.second_engine):
            if isinstance(engine, ModelTranslator):
                named += [engine.model, *engine.models.values()]
            elif isinstance(engine, VllmTranslator):
                named.append(engine.model)
        return list(dict.fromkeys(model for model in named if model))
