from typing import Any, get_args

import pytest
from pydantic import ValidationError

from distill.train.loss_settings import AnyLoss, InfoNceLoss, KlLoss, RelevanceMarginLoss
from distill.train.settings import TrainSettings


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"margin": "distributed", "in_batch": True}, "in_batch does nothing with margin 'distributed' in batch"),
        ({"margin": "adaptive", "tau": 0.2}, "tau does nothing with margin 'adaptive'"),
        ({"margin": "adaptive", "alignment": "equation"}, "alignment does nothing with margin 'adaptive'"),
        (
            {"margin": "static", "alignment": "equation", "detach_targets": True},
            "alignment and detach_targets do nothing with margin 'static'",
        ),
    ],
)
def test_what_a_margin_does_not_read_is_refused(settings: dict[str, Any], names: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RelevanceMarginLoss.model_validate(settings)
    them = "them" if " and " in names else "it"
    assert f"Value error, {names}; leave {them} out, or choose another" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alignment": "equation", "detach_targets": True},
        {"margin": "static", "tau": 0.6, "in_batch": True, "alignment": "equation"},
        {"margin": "adaptive", "in_batch": True, "alignment": "equation", "detach_targets": True},
    ],
)
def test_what_a_margin_reads_is_taken_and_comes_back_from_a_dump(settings: dict[str, Any]) -> None:
    loss = RelevanceMarginLoss.model_validate(settings)
    assert RelevanceMarginLoss.model_validate(loss.model_dump()) == loss
    assert {name: getattr(loss, name) for name in settings} == settings


def test_a_language_loss_alone_is_refused() -> None:
    with pytest.raises(ValidationError, match="'language' found using 'type' does not match any of the expected tags"):
        TrainSettings.model_validate({"loss": {"type": "language"}})
    losses = [{"type": "language"}, {"type": "language", "weight": 2}]
    with pytest.raises(ValidationError, match="a language loss alone says nothing of relevance"):
        TrainSettings.model_validate({"loss": {"type": "sum", "losses": losses}})


def test_every_loss_says_what_it_is_in_words() -> None:
    texts = [kind().words for kind in get_args(AnyLoss)]
    assert len(set(texts)) == len(texts) == 6
    assert InfoNceLoss(across_workers=True).words.endswith("all passages of the batch on all workers")
    assert KlLoss(direction="student_teacher", teacher_scale=2).words == (
        "KL(student ‖ teacher) over the passages of an example, on raw scores times 2 (teacher) and 1 (student)"
    )
