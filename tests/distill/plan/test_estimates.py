"""Estimates from samples, against the same sums worked out with the models' own tokenizers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer, MarianConfig

from cluster.stored_table import StoredTable
from distill.encoders.settings import FreshStudent, LateInteractionStudent, PretrainedStudent, SingleVectorStudent
from distill.mix.settings import MixSettings
from distill.models.costs import EncoderShape, Seq2SeqShape
from distill.models.locate import ModelError
from distill.plan.estimates import Work, extrapolated, index_work, sample, score_work, train_work, translate_work
from distill.score.settings import BiEncoderTeacher, CrossEncoderTeacher, HttpTeacher, LateInteractionTeacher
from distill.train.settings import TrainSettings
from distill.translate.settings import TransformersTranslator

QUERIES = ["bee honey", "river"]
PASSAGES = ["stone arch road", "city map light wave sound bee", "sun"]
TINY = EncoderShape(layers=2, hidden=32, inner=64)


def test_costs_are_averaged_and_not_lengths() -> None:
    """Lengths 1 and 3 at a cost of n * n: 5 on average, where the mean length 2 would give 4."""
    assert extrapolated(10, [1, 3], lambda n: n * n) == Work(10, 20.0, 50.0)
    assert extrapolated(10, [], lambda n: n) == Work(10, 0.0, 0.0)


def test_a_sample_is_spread_over_the_table(tmp_path: Path) -> None:
    for i in range(4):
        pq.write_table(
            pa.table({"n": list(range(100 * i, 100 * i + 100))}), tmp_path / f"{i}.parquet", row_group_size=30
        )
    table = StoredTable.open(pafs.LocalFileSystem(), str(tmp_path))
    assert sample(table, 16, ["n"])["n"].to_pylist() == [n for i in range(8) for n in (50 * i, 50 * i + 1)]
    assert sample(table, 400, ["n"])["n"].to_pylist() == list(range(400))


def lengths(model: Path, *texts: list[str], limit: int) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [len(ids) for ids in tokenizer(*texts, truncation=True, max_length=limit)["input_ids"]]


def test_pairs_of_a_cross_encoder(tiny_cross_encoder: Path) -> None:
    found = score_work(CrossEncoderTeacher(model=str(tiny_cross_encoder)), QUERIES, PASSAGES, 9, 300)
    read = lengths(tiny_cross_encoder, [QUERIES[0], QUERIES[1], QUERIES[0]], PASSAGES, limit=512)
    assert read == [8, 10, 6]
    assert found.tokens == 100 * sum(read)
    assert found.operations == pytest.approx(100 * sum(TINY.forward(float(n)) for n in read))


def test_pairs_of_a_bi_encoder_and_of_late_interaction(tiny_bert: Path, tiny_student: Path) -> None:
    """Queries are encoded once, passages as often as they are candidates."""
    found = score_work(BiEncoderTeacher(model=str(tiny_bert), max_passage_tokens=6), QUERIES, PASSAGES, 10, 300)
    assert found.tokens == 10 * (4 + 3) / 2 + 300 * (5 + 6 + 3) / 3
    assert found.operations == pytest.approx(
        5 * sum(TINY.forward(n) for n in (4.0, 3.0)) + 100 * sum(TINY.forward(n) for n in (5.0, 6.0, 3.0))
    )
    late = score_work(LateInteractionTeacher(model=str(tiny_student)), QUERIES, PASSAGES, 10, 300)
    assert late.tokens == 10 * (4 + 3) / 2 + 300 * (5 + 8 + 3) / 3


def test_lengths_of_other_layouts(tiny_bert: Path, tmp_path: Path) -> None:
    """Queries of 4 and 3 tokens, passages of 5, 8 and 3: cut where the checkpoint cuts them, which its small files say."""
    shutil.copytree(tiny_bert, tmp_path / "m")
    teacher = LateInteractionTeacher(model=str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r"it has none of artifact\.metadata, config_sentence_transformers\.json"):
        score_work(teacher, QUERIES, PASSAGES, 10, 300)

    def tokens(**files: dict[str, Any]) -> float:
        for name, content in files.items():
            (tmp_path / "m" / f"{name}.json").write_text(json.dumps(content))
        return score_work(teacher, QUERIES, PASSAGES, 10, 300).tokens

    multi_vector = {"query_expansion": {"strategy": "fixed", "length": 3}, "document_length": 6, "max_seq_length": 9}
    assert tokens(sentence_bert_config=multi_vector) == 10 * 3 + 300 * (5 + 6 + 3) / 3
    assert tokens(sentence_bert_config={"max_seq_length": 4}) == 10 * (4 + 3) / 2 + 300 * (4 + 4 + 3) / 3
    assert tokens(sentence_bert_config={}) == 10 * (4 + 3) / 2 + 300 * (5 + 8 + 3) / 3
    pylate = {"query_length": 3, "document_length": 7}
    assert tokens(config_sentence_transformers=pylate) == 10 * 3 + 300 * (5 + 7 + 3) / 3


def test_a_server_costs_nothing_here() -> None:
    teacher = HttpTeacher(url="http://127.0.0.1:1/score", api="vllm_score")
    assert score_work(teacher, QUERIES, PASSAGES, 10, 300) == Work(300, 0.0, 0.0)


def test_training_and_indexing(tiny_bert: Path) -> None:
    student = LateInteractionStudent(start=PretrainedStudent(model=str(tiny_bert)), query_tokens=8, passage_tokens=6)
    train = TrainSettings(steps=100, batch_size=4)
    found = train_work(train, student, MixSettings(n_way=3), QUERIES, PASSAGES)
    assert found.items == 400
    assert found.tokens == 400 * 8 + 1200 * (5 + 6 + 3) / 3
    passages = 400 * sum(TINY.train(n) for n in (5.0, 6.0, 3.0))
    assert found.operations == pytest.approx(400 * TINY.train(8.0) + passages)
    plain = student.model_copy(update={"query_expansion": False})
    assert train_work(train, plain, MixSettings(n_way=3), QUERIES, PASSAGES).tokens == 400 * 3.5 + 1200 * 14 / 3
    single = SingleVectorStudent(start=student.start, query_tokens=8, passage_tokens=6)
    assert train_work(train, single, MixSettings(n_way=3), QUERIES, PASSAGES) == train_work(
        train, plain, MixSettings(n_way=3), QUERIES, PASSAGES
    )
    indexed = index_work(student, 30, PASSAGES)
    assert (indexed.items, indexed.tokens) == (30, 140.0)
    assert indexed.operations == pytest.approx(10 * sum(TINY.forward(n) for n in (5.0, 6.0, 3.0)))


def test_a_tokenizer_that_is_not_made_yet_says_so() -> None:
    student = LateInteractionStudent(start=FreshStudent())
    with pytest.raises(ModelError, match="made by the job itself"):
        index_work(student, 30, PASSAGES)


def test_translation(tiny_bert: Path, tmp_path: Path) -> None:
    config = MarianConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=50,
        pad_token_id=0,
    )
    config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    translator = TransformersTranslator(model=str(tmp_path), beam_size=3)
    found = translate_work(translator, PASSAGES, {"de": 6, "zh": 3})
    shape = Seq2SeqShape(1, 2, 16, 16, 32, gated=False, vocabulary=50)
    assert (found.items, found.tokens) == (9, 3 * (5 + 8 + 3))
    assert found.operations == pytest.approx(3 * sum(shape.translate(n, n, 3) for n in (5.0, 8.0, 3.0)))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 4, "intermediate_size": 8}'
    )
    with pytest.raises(ModelError, match=f"'{tmp_path}' has no tokenizer files; save its tokenizer beside it"):
        score_work(CrossEncoderTeacher(model=str(tmp_path)), QUERIES, PASSAGES, 1, 1)
