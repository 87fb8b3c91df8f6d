from pathlib import Path

import torch

from distill.encoder import LateInteractionEncoder
from distill.settings.train import FreshStudent, PretrainedStudent, StudentSettings
from distill.students import start_student, train_tokenizer

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
    settings = StudentSettings(start=FreshStudent(vocabulary=200, layers=1, hidden=32), dim=8, query_tokens=8)

    def weight(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)
        return start_student(settings, TEXTS, seed).encode_queries(["bees"])

    assert torch.equal(weight(1), weight(1))
    assert not torch.allclose(weight(1), weight(2))


def test_a_checkpoint_keeps_its_projection_and_takes_the_lengths(tiny_student: Path) -> None:
    settings = StudentSettings(
        start=PretrainedStudent(model=str(tiny_student)), dim=99, query_tokens=12, passage_tokens=20
    )
    student = start_student(settings, [], 0)
    source = LateInteractionEncoder.load(tiny_student)
    assert torch.equal(student.projection.weight, source.projection.weight)
    assert (student.settings.dim, student.settings.query_tokens, student.settings.passage_tokens) == (16, 12, 20)


def test_equal_texts_give_equal_tokenizers() -> None:
    """The trainer alone does not see to that; 110 pieces are few enough for ties to matter."""
    tokenizers = [train_tokenizer(TEXTS, 110) for _ in range(5)]
    assert len({tokenizer.backend_tokenizer.to_str() for tokenizer in tokenizers}) == 1


def test_query_expansion_is_that_of_the_settings(tiny_student: Path, tiny_bert: Path) -> None:
    for start in (PretrainedStudent(model=str(tiny_student)), PretrainedStudent(model=str(tiny_bert)), FreshStudent()):
        for expansion in (True, False):
            settings = StudentSettings(start=start, query_expansion=expansion)
            assert start_student(settings, TEXTS, 0).settings.query_expansion is expansion
