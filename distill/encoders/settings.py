"""Encoders: the student, and those that selectors and teachers use."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings


class PretrainedStudent(Settings):
    """A student that starts from a checkpoint: HF_ColBERT, or any Hugging Face encoder, to which a projection is added."""

    type: Literal["pretrained"] = "pretrained"
    model: str = "xlm-roberta-large"
    """Hugging Face id or local folder; `bundled:student` is the small multilingual one that ships with the project."""
    revision: str | None = None
    """Commit on the hub."""


class FreshStudent(Settings):
    """A small transformer with random weights and a tokenizer trained on the job's own passages."""

    type: Literal["fresh"] = "fresh"
    vocabulary: int = Field(default=16_000, ge=100)
    """Entries of the tokenizer."""
    layers: int = Field(default=2, ge=1)
    """Transformer layers."""
    hidden: int = Field(default=192, ge=8)
    """Width; must be a multiple of 32, the width of an attention head."""

    @model_validator(mode="after")
    def _whole_heads(self) -> "FreshStudent":
        if self.hidden % 32:
            raise ValueError(f"hidden {self.hidden} is not a multiple of 32")
        return self


class _Student(Settings):
    """The settings of both kinds of student."""

    start: Annotated[PretrainedStudent | FreshStudent, Field(discriminator="type")] = PretrainedStudent()
    """The start."""
    query_tokens: int = Field(default=32, ge=4)
    """Query length in tokens, marker and special tokens included; longer queries are truncated."""
    passage_tokens: int = Field(default=220, ge=4)
    """Longest passage in tokens; longer ones are truncated (220 in training: arXiv 2401.04810)."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the backbone in training, everywhere in it. If None, the backbone's own (0.1 in XLM-R, as the papers trained it). On a CPU
    a quarter of a step is spent on drawing it."""


class LateInteractionStudent(_Student):
    """A late-interaction student (ColBERT-X): a vector for every token."""

    type: Literal["late_interaction"] = "late_interaction"
    dim: int = Field(default=128, ge=1)
    """Size of a token vector (128: ColBERT-X). A checkpoint with a projection keeps its own."""
    marker_mode: Literal["insert", "overwrite"] = "insert"
    """The way markers enter: inserted at index 1 (colbert-ai, PyLate), or written over it after a '. ' prefix (PLAID-X)."""
    mask_punctuation: bool = True
    """Leave the punctuation tokens of passages out of the score."""
    skip_list: Literal["first_piece", "token"] | None = None
    """The tokens that are left out: the first piece that the tokenizer makes of each mark (PLAID-X), or the token of that name (PyLate,
    sentence-transformers). The two differ on XLM-R, where the first piece is mostly the bare word-start piece. If None, as in the project
    whose marker mode it is, `first_piece` with overwrite and `token` with insert; a checkpoint with a projection keeps its own."""
    attend_to_mask_tokens: bool = False
    """Let other tokens attend to the [MASK] padding of queries."""
    query_expansion: bool = True
    """Pad queries with [MASK] to `query_tokens`, with all of those vectors in the score (ColBERT). Otherwise only the vectors
    of the query's own tokens are in it."""


class SingleVectorStudent(_Student):
    """A single-vector student (DPR): one vector for a text, compared by inner product."""

    type: Literal["single_vector"] = "single_vector"
    pooling: Literal["mean", "cls", "pooler"] = "mean"
    """The vector: mean of the last hidden states, the first one, or the backbone's pooler on the first one."""
    normalize: bool = True
    """Give vectors unit length, which makes scores cosines."""
    query_prefix: str = ""
    """Text put before every query (`query: ` for E5)."""
    passage_prefix: str = ""
    """Text put before every passage."""
    sizes: tuple[int, ...] = ()
    """Matryoshka sizes (arXiv 2205.13147): the loss is the mean over vectors cut to each of these sizes; empty: the whole vector only."""

    @model_validator(mode="after")
    def _increasing(self) -> "SingleVectorStudent":
        if list(self.sizes) != sorted(set(self.sizes)) or any(size < 1 for size in self.sizes):
            raise ValueError(f"sizes {list(self.sizes)} must be positive and increase")
        return self


StudentSettings = Annotated[LateInteractionStudent | SingleVectorStudent, Field(discriminator="type")]


Dtype = Literal["float32", "bfloat16"]
"""Precision of a model's weights and states."""


Pooling = Literal["mean", "cls", "pooler", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]


class PooledEncoder(Settings):
    """A single-vector encoder as it is: the score is the inner product of two vectors.

    A sentence-transformers folder says itself how it pools, projects (Dense) and normalises, and which prompts it has. A setting that
    contradicts it is an error.
    """

    type: Literal["bi_encoder"] = "bi_encoder"
    model: str = "bundled:all-MiniLM-L6-v2"
    """Hugging Face id or local folder; `bundled:all-MiniLM-L6-v2` is the encoder of the `embedded` extra."""
    revision: str | None = None
    """Commit on the hub."""
    pooling: Pooling | None = None
    """From token states to one vector: their `mean`, the first (`cls`), the last (`lasttoken`), the backbone's `pooler`, or another in
    the words of sentence-transformers. If None, what the folder says; `mean` for a plain Hugging Face model, which says nothing."""
    normalize: bool | None = None
    """Give vectors unit length, which makes scores cosines. If None, what the folder says, otherwise true."""
    query_prefix: str | None = None
    """Text before each query (some encoders want an instruction). If None, the folder's prompt `query`, otherwise nothing."""
    passage_prefix: str | None = None
    """Text before each passage. If None, the folder's prompt `document`, otherwise nothing."""
    max_query_tokens: int = Field(default=64, ge=4)
    """Longer queries are truncated."""
    max_passage_tokens: int = Field(default=256, ge=4)
    """Longer passages are truncated."""
