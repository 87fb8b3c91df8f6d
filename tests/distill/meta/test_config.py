"""The configuration of meta-learning: what contradicts is said before anything runs, and each system has the transfers of its mode."""

from typing import Any

import pytest
from pydantic import ValidationError

from distill.meta.config import MetaConfig

CHAIN = ("el_el-el_ar-el_ar,el,hi", "hi_hi-hi_ar-hi_ar,hi,el")
PAIRS = {"type": "sentence_pairs", "train": "a", "dev": "b", "test": "c"}


def config(**values: Any) -> MetaConfig:
    return MetaConfig.model_validate({"languages": ["el", "hi", "ar"], **values})


def transfers(found: MetaConfig) -> dict[str, list[str]]:
    return {
        system: [str(transfer) for transfer in found.tasks.wanted_transfers(found.languages, mode)]
        for system, mode in found.modes.items()
    }


def test_named_transfers_reach_the_baselines_by_their_mode() -> None:
    named = [*CHAIN, "el_el-el_ar", "hi_hi-hi_ar", "el_ar-el_ar,el", "hi_ar-hi_ar,hi"]
    found = config(tasks={"transfers": named}, baselines=["fine_tune", "maml"], baseline_modes=["mono_bi", "trans"])
    assert transfers(found) == {
        "maml_align": list(CHAIN),
        "fine_tune": list(CHAIN),
        "maml_mono_bi": named[2:4],
        "maml_trans": named[2:],
    }


def test_a_baselines_mode_without_transfers_is_said() -> None:
    with pytest.raises(
        ValidationError, match=r"tasks.transfers names no transfer of mode mono_bi, which a system of the job has"
    ):
        config(tasks={"transfers": CHAIN}, baselines=["maml"])
    one = [*CHAIN, "el_el-el_ar", "hi_hi-hi_ar"]
    with pytest.raises(
        ValidationError, match=r"mode trans needs transfers of all its modes: .* lacks a_b-a_b,a \(bi_multi\)"
    ):
        config(tasks={"transfers": one}, baselines=["maml"], baseline_modes=["trans"])
    with pytest.raises(ValidationError, match=r"transfer 'el_el-el_ar' is of mode mono_bi; mode mono_bi_multi needs"):
        config(tasks={"transfers": ["el_el-el_ar"]}, baselines=[])


def test_languages_are_those_of_the_transfers() -> None:
    """What training saw and what results call seen are the same."""
    with pytest.raises(ValidationError, match=r"mono_bi_multi name hi, which languages \['el', 'ar'\] does not hold"):
        config(languages=["el", "ar"], tasks={"transfers": CHAIN}, baselines=[])
    with pytest.raises(
        ValidationError, match=r"languages names de, and no transfer of mode mono_bi_multi in tasks.transfers does"
    ):
        config(languages=["el", "de", "ar", "hi"], tasks={"transfers": CHAIN}, baselines=[])
    named = [*CHAIN, "el_el-el_ar"]
    with pytest.raises(
        ValidationError, match=r"languages names hi, and no transfer of mode mono_bi in tasks.transfers does"
    ):
        config(tasks={"transfers": named}, baselines=["maml"])


@pytest.mark.parametrize("source", [{"type": "bundled"}, PAIRS], ids=["questions", "sentence pairs"])
def test_sets_with_more_languages_than_items_are_refused_at_once(source: dict[str, str]) -> None:
    assert config(source=source, tasks={"shots": 1, "queries": 3})
    with pytest.raises(
        ValidationError,
        match=r"set 'el_hi,el,ar' has 3 candidate languages, and tasks.queries is 2; raise it to 3, so that each occurs in every task",
    ):
        config(source=source, tasks={"shots": 1, "queries": 2})
    named = ["el_el,hi,ar-el_ar-el_ar,el", "el_el-el_ar-el_ar,el,hi"]
    with pytest.raises(ValidationError, match=r"is multi_bi_multi, and no such mode exists"):
        config(source=source, tasks={"transfers": named}, baselines=[])


def test_a_mode_of_a_baseline_is_checked_too() -> None:
    """The main system's chain fits two queries of two languages, mono_multi's two as well; one query fits neither."""
    values = {"method": "maml", "tasks": {"mode": "mono_bi", "shots": 1, "queries": 1}, "baselines": ["maml"]}
    assert config(**values, baseline_modes=["mono_mono"])
    with pytest.raises(ValidationError, match=r"set 'el_hi,el' has 2 candidate languages, and tasks.queries is 1"):
        config(**values, baseline_modes=["mono_multi"])
