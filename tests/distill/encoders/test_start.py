import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distill.encoders.checkpoints import load_encoder, load_late_interaction, save_encoder
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.encoders.settings import FreshStudent, LateInteractionStudent, PretrainedStudent
from distill.encoders.start import start_student, train_tokenizer
from tests.tiny_students import late_interaction, save_backbone

TEXTS = ["The waggle dance of honey bees", "Der Tanz der Bienen", "蜜蜂的摇摆舞", "رقص زنبورها"] * 5


def test_a_tokenizer_covers_what_it_was_trained_on() -> None:
    tokenizer = train_tokenizer(TEXTS, 200)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[unused0]", "[unused1]"]) == [0, 1, 2]
    for text in TEXTS[:4]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.tokenize("ＷＡＧＧＬＥ") == tokenizer.tokenize("waggle")
    assert tokenizer.tokenize("蜜蜂") == ["蜜", "蜂"]


def test_a_fresh_student_depends_on_seed_and_texts_alone() -> None:
    settings = LateInteractionStudent(start=FreshStudent(vocabulary=200, layers=1, hidden=32), dim=8, query_tokens=8)

    def weight(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)
        return start_student(settings, TEXTS, seed).encode_queries(["bees"])

    assert torch.equal(weight(1), weight(1))
    assert not torch.allclose(weight(1), weight(2))


def test_a_checkpoint_keeps_its_projection_and_takes_the_lengths(tiny_student: Path) -> None:
    settings = LateInteractionStudent(
        start=PretrainedStudent(model=str(tiny_student)), dim=99, query_tokens=12, passage_tokens=20
    )
    student = start_student(settings, [], 0)
    assert isinstance(student, LateInteractionEncoder)
    source = load_late_interaction(tiny_student)
    assert torch.equal(student.projection.weight, source.projection.weight)
    assert (student.settings.dim, student.settings.query_tokens, student.settings.passage_tokens) == (16, 12, 20)


def test_equal_texts_give_equal_tokenizers() -> None:
    """The trainer alone does not see to that; 110 pieces are few enough for ties to matter."""
    tokenizers = [train_tokenizer(TEXTS, 110) for _ in range(5)]
    assert len({tokenizer.backend_tokenizer.to_str() for tokenizer in tokenizers}) == 1


def test_query_expansion_is_that_of_the_settings(tiny_student: Path, tiny_bert: Path) -> None:
    for start in (PretrainedStudent(model=str(tiny_student)), PretrainedStudent(model=str(tiny_bert)), FreshStudent()):
        for expansion in (True, False):
            settings = LateInteractionStudent(start=start, query_expansion=expansion)
            student = start_student(settings, TEXTS, 0)
            assert isinstance(student, LateInteractionEncoder)
            assert student.settings.query_expansion is expansion


def test_the_skip_list_is_that_of_the_marker_mode(tmp_path: Path) -> None:
    """XLM-R's first piece of '.' is the bare word start; its token of that name is the stop itself."""
    start = PretrainedStudent(model=str(save_backbone(tmp_path / "xlmr", "xlmr")))

    def skipped(**settings: Any) -> list[str]:
        student = start_student(LateInteractionStudent(start=start, **settings), [], 0)
        assert isinstance(student, LateInteractionEncoder)
        return student.skipped_tokens

    assert sorted(skipped()) == sorted(string.punctuation)
    assert skipped(marker_mode="overwrite") == ["▁"]
    assert sorted(skipped(marker_mode="overwrite", skip_list="token")) == sorted(string.punctuation)
    assert skipped(skip_list="first_piece") == ["▁"]
    assert skipped(mask_punctuation=False) == []


def test_a_checkpoint_keeps_its_markers_and_skip_list(tmp_path: Path) -> None:
    wanted = EncoderSettings(
        dim=8, skip_list="token", skip_words=("bee",), query_marker="[Q] ", passage_marker="[D] ", marker_mode="insert"
    )
    save_encoder(late_interaction(save_backbone(tmp_path / "bert", "bert"), wanted), tmp_path / "start")
    settings = LateInteractionStudent(start=PretrainedStudent(model=str(tmp_path / "start")), query_tokens=12)
    student = start_student(settings, [], 0)
    assert isinstance(student, LateInteractionEncoder)
    assert student.settings == replace(wanted, query_tokens=12)


def test_dropout_is_that_of_the_settings_once_the_checkpoint_is_loaded(tiny_student: Path, tmp_path: Path) -> None:
    found = {}
    for dropout in (None, 0.0, 0.5):
        settings = LateInteractionStudent(start=PretrainedStudent(model=str(tiny_student)), dropout=dropout)
        save_encoder(start_student(settings, [], 0), tmp_path / str(dropout))
        backbone = load_encoder(tmp_path / str(dropout)).backbone
        found[dropout] = {module.p for module in backbone.modules() if isinstance(module, torch.nn.Dropout)}
    assert found == {None: {0.1}, 0.0: {0.0}, 0.5: {0.5}}
