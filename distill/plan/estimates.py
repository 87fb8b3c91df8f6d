"""The work of a stage: items, tokens and floating-point operations, from a measured sample of lengths and the shapes of models.

Needs the tables that the sources stage wrote, tokenizers and config.json of the models, but no weights.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
from transformers.utils.hub import cached_file

from cluster.errors import one_line
from cluster.stored_table import StoredTable
from distill.encoders.settings import LateInteractionStudent, PretrainedStudent, StudentSettings
from distill.mix.settings import MixSettings
from distill.models.costs import DecoderShape, EncoderShape, Seq2SeqShape, Shape, model_shape
from distill.models.loading import load_tokenizer
from distill.models.locate import ModelError, locate
from distill.models.reach import check_hub
from distill.score.settings import (
    BiEncoderTeacher,
    CausalTeacher,
    CrossEncoderTeacher,
    HttpTeacher,
    ImportedTeacher,
    LateInteractionTeacher,
    MonoT5Teacher,
    SingleTeacher,
)
from distill.score.teachers.causal import causal_composer
from distill.score.teachers.interface import Composer
from distill.score.teachers.monot5 import monot5_composer
from distill.score.teachers.prompts import PairComposer
from distill.train.settings import TrainSettings
from distill.translate.settings import ModelTranslator

_WHOLE = 100_000
"""A length in tokens that no passage reaches: translators cut sentences, not passages."""


@dataclass(frozen=True)
class Work:
    """An estimate.

    Attributes:
        items: pairs, passages or examples.
        tokens: tokens that models read, without padding.
        operations: floating-point operations on them.
    """

    items: int
    tokens: float
    operations: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.items + other.items, self.tokens + other.tokens, self.operations + other.operations)


def extrapolated(items: int, lengths: Sequence[int], cost: Callable[[float], float]) -> Work:
    """Return the work of `items` with lengths distributed as those of a sample. Costs are averaged, not lengths: attention is quadratic."""
    if not lengths:
        return Work(items, 0.0, 0.0)
    return Work(items, items * float(np.mean(lengths)), items * float(np.mean([cost(float(n)) for n in lengths])))


def sample(table: StoredTable, count: int, columns: Sequence[str]) -> pa.Table:
    """Return at most `count` rows of a table, from eight positions spread evenly over it."""
    rows = len(table)
    if rows <= count:
        return table.read(columns=columns)
    each = max(1, count // 8)
    return pa.concat_tables([table.read(i * rows // 8, i * rows // 8 + each, columns) for i in range(8)])


def read_shape(model: str, revision: str | None) -> Shape:
    """Return the shape of a model, from its config.json in a folder or on the hub. Raises ModelError where it cannot be read."""
    return model_shape(json.loads(_read(model, revision, "config.json")), f"'{model}'")


def _read(model: str, revision: str | None, name: str) -> str:
    found = locate(model)
    if not Path(found).is_dir():
        check_hub(found, revision)
    try:
        path = cached_file(found, name, revision=revision)
    except OSError as error:
        raise ModelError(f"{name} of '{model}' cannot be read: {one_line(error, 120)}") from error
    return Path(str(path)).read_text(encoding="utf-8")


def text_lengths(model: str, revision: str | None, texts: Sequence[str], limit: int) -> list[int]:
    """Return lengths in tokens, special tokens included, of texts cut at `limit`. Raises ModelError where there is no tokenizer."""
    try:
        tokenizer = load_tokenizer(model, revision)
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise _no_tokenizer(model, error) from error
    return [len(ids) for ids in tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]] if texts else []


def score_work(
    teacher: SingleTeacher, queries: Sequence[str], passages: Sequence[str], query_count: int, pair_count: int
) -> Work:
    """Return the work of scoring `pair_count` pairs of `query_count` queries.

    `queries` and `passages` are samples; at least one of each is needed.

    An encoder is taken to read each passage of a pair anew, which is the most it can come to: a shard encodes each of its passages
    once. What servers and files cost is not known here.
    """
    match teacher:
        case HttpTeacher() | ImportedTeacher():
            return Work(pair_count, 0.0, 0.0)
        case BiEncoderTeacher():
            limits = (teacher.max_query_tokens, teacher.max_passage_tokens)
            return _encoder_work(teacher, limits, queries, passages, query_count, pair_count)
        case LateInteractionTeacher():
            limits = late_interaction_limits(teacher.model, teacher.revision)
            return _encoder_work(teacher, limits, queries, passages, query_count, pair_count)
        case CrossEncoderTeacher() | MonoT5Teacher() | CausalTeacher():
            shape = read_shape(teacher.model, teacher.revision)
            count = max(len(queries), len(passages))
            pairs = [(i % len(queries), i % len(passages)) for i in range(count)]
            lengths = [len(pair.ids) for pair in composer_of(teacher).compose(queries, passages, pairs)]
            return extrapolated(pair_count, lengths, _reader(shape, teacher.model))
        case _:
            assert_never(teacher)


def composer_of(teacher: CrossEncoderTeacher | MonoT5Teacher | CausalTeacher) -> Composer:
    """Return what composes a teacher's token ids; of its files only the tokenizer is loaded."""
    try:
        tokenizer = load_tokenizer(teacher.model, teacher.revision)
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise _no_tokenizer(teacher.model, error) from error
    match teacher:
        case CrossEncoderTeacher():
            return PairComposer(tokenizer, teacher.max_tokens, teacher.model)
        case MonoT5Teacher():
            return monot5_composer(teacher, tokenizer)
        case CausalTeacher():
            return causal_composer(teacher, tokenizer)
        case _:
            assert_never(teacher)


def _reader(shape: Shape, model: str) -> Callable[[float], float]:
    """Return the function from the tokens of a pair to the operations of reading it."""
    match shape:
        case EncoderShape():
            return shape.forward
        case DecoderShape():
            return shape.read
        case Seq2SeqShape():
            return shape.judge
        case _:
            raise ModelError(f"it is not known how '{model}' reads a pair")


def _encoder_work(
    teacher: BiEncoderTeacher | LateInteractionTeacher,
    limits: tuple[int, int],
    queries: Sequence[str],
    passages: Sequence[str],
    query_count: int,
    pair_count: int,
) -> Work:
    read = _reader(read_shape(teacher.model, teacher.revision), teacher.model)
    sides = [
        extrapolated(count, text_lengths(teacher.model, teacher.revision, texts, limit), read)
        for texts, limit, count in ((queries, limits[0], query_count), (passages, limits[1], pair_count))
    ]
    return Work(pair_count, sides[0].tokens + sides[1].tokens, sides[0].operations + sides[1].operations)


def late_interaction_limits(model: str, revision: str | None) -> tuple[int, int]:
    """Return the lengths at which a late-interaction checkpoint cuts, by its small files; where they name none, texts are whole."""
    files = ("artifact.metadata", "config_sentence_transformers.json", "sentence_bert_config.json")
    contents = [json.loads(text) for text in (read_small(model, revision, name) for name in files) if text is not None]
    if not contents:
        raise ModelError(f"'{model}' is not a late-interaction checkpoint: it has none of {', '.join(files)}")
    facts: dict[str, Any] = {}
    for content in reversed(contents):
        facts |= {name: value for name, value in content.items() if value is not None}
    expansion = facts.get("query_expansion")
    by_expansion = expansion.get("length") if isinstance(expansion, dict) else None
    longest = facts.get("max_seq_length", _WHOLE)
    queries = facts.get("query_maxlen") or by_expansion or facts.get("query_length") or longest
    return queries, facts.get("doc_maxlen") or facts.get("document_length") or longest


def read_small(model: str, revision: str | None, name: str) -> str | None:
    """Return the text of a model's file; None where it has no such file."""
    path = cached_file(locate(model), name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return Path(str(path)).read_text(encoding="utf-8") if path else None


def translate_work(translator: ModelTranslator, passages: Sequence[str], counts: Mapping[str, int]) -> Work:
    """Return the work of translating `counts` passages into each language; translations are taken to be as long as their sources."""
    total = Work(0, 0.0, 0.0)
    for lang, count in counts.items():
        model = translator.models.get(lang, translator.model or "")
        revision = translator.revisions.get(model)
        shape = read_shape(model, revision)
        if not isinstance(shape, Seq2SeqShape):
            raise ModelError(f"'{model}' is not an encoder-decoder; the cost of translating with it is not known")
        beams = translator.beam_size
        lengths = text_lengths(model, revision, passages, _WHOLE)
        total += extrapolated(count, lengths, partial(_translate, shape, beams))
    return total


def _translate(shape: Seq2SeqShape, beams: int, tokens: float) -> float:
    return shape.translate(tokens, tokens, beams)


def train_work(
    settings: TrainSettings, student: StudentSettings, mix: MixSettings, queries: Sequence[str], passages: Sequence[str]
) -> Work:
    """Return the work of training: forward and backward of a query and its passages for each example.

    `queries` and `passages` are samples.

    With a gradient cache, or recomputed activations, the forward pass is done twice.
    """
    twice = settings.activation_checkpointing or settings.gradient_cache
    step = partial(student_shape(student).train, checkpointing=twice)
    examples = settings.steps * settings.batch_size
    query_lengths = student_query_lengths(student, queries)
    passage_lengths = student_passage_lengths(student, passages)
    read = extrapolated(examples, query_lengths, step)
    # A group of queries shares its passages, so that every passage is read once.
    seen = extrapolated(examples * mix.n_way, passage_lengths, step)
    return Work(examples, read.tokens + seen.tokens, read.operations + seen.operations)


def index_work(student: StudentSettings, documents: int, passages: Sequence[str]) -> Work:
    """Return the work of encoding a collection. `passages` is a sample of it."""
    return extrapolated(documents, student_passage_lengths(student, passages), student_shape(student).forward)


def student_shape(student: StudentSettings) -> EncoderShape:
    """Return the shape of the student's backbone."""
    start = student.start
    if not isinstance(start, PretrainedStudent):
        return EncoderShape(start.layers, start.hidden, 4 * start.hidden)
    shape = read_shape(start.model, start.revision)
    if not isinstance(shape, EncoderShape):
        raise ModelError(f"'{start.model}' is not an encoder; a student starts from one")
    return shape


def student_query_lengths(student: StudentSettings, queries: Sequence[str]) -> list[int]:
    """Return the lengths of queries as the student reads them: with [MASK] padding all are `query_tokens` long."""
    if isinstance(student, LateInteractionStudent) and student.query_expansion:
        return [student.query_tokens for _ in queries]
    return _student_lengths(student, queries, student.query_tokens)


def student_passage_lengths(student: StudentSettings, passages: Sequence[str]) -> list[int]:
    """Return the lengths of passages as the student reads them."""
    return _student_lengths(student, passages, student.passage_tokens)


def _student_lengths(student: StudentSettings, texts: Sequence[str], limit: int) -> list[int]:
    start = student.start
    if not isinstance(start, PretrainedStudent):
        raise ModelError("the student's tokenizer is made by the job itself, so lengths are not known before")
    return text_lengths(start.model, start.revision, texts, limit)


def _no_tokenizer(model: str, error: Exception) -> ModelError:
    return ModelError(f"the tokenizer of '{model}' cannot be loaded: {one_line(error, 120)}")
