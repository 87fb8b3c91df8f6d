from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from distill.measures.correlations import Sample
from distill.meta.evaluate.compare import compare
from distill.meta.evaluate.estimates import contributions, groups, languages_of
from distill.meta.settings import Kind, MetaEvaluateSettings
from distill.tables import PAIR_SIMILARITY, QUESTION_PRECISION, TableError
from tests.workspaces import LocalWorkspace

RANDOM = np.random.default_rng(5)
LANGS = ("de", "en", "th")


def precision(fold: int, gain: float, count: int = 30) -> dict[str, pa.Table]:
    """AP of questions in three languages; the last question of a fold lacks its Thai version."""
    random = np.random.default_rng(fold)
    rows = []
    for i in range(count):
        for lang in LANGS if i < count - 1 else LANGS[:2]:
            names = {"question_id": f"x{fold}-{i}-{lang}", "xling_id": f"x{fold}-{i}", "lang": lang}
            rows.append({**names, "value": random.random() / 2 + gain * random.random()})
    return {"question_precision": QUESTION_PRECISION.from_rows(rows)}


def similarity(noise: float, seed: int = 0) -> dict[str, pa.Table]:
    random, errors = np.random.default_rng(0), np.random.default_rng(seed)
    scores = random.integers(0, 6, 60) / 5
    rows = [
        {"pair_id": f"test/{i:02d}", "first_lang": one, "second_lang": other, "value": score + noise * errors.normal(), "score": score}
        for i, score in enumerate(scores)
        for one in ("de", "en")
        for other in ("de", "en")
    ]  # fmt: skip
    return {"pair_similarity": PAIR_SIMILARITY.from_rows(rows)}


def compared(
    tmp_path: Path,
    kind: Kind,
    stages: dict[str, dict[str, pa.Table]],
    systems: dict[str, dict[int, str]],
    seen: tuple[str, ...] = ("de", "en"),
    main: str = "maml_align",
) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, "compare", stages)
    compare(workspace, MetaEvaluateSettings(depth=20), kind, main, systems, seen)
    return workspace


def cells(workspace: LocalWorkspace) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    rows = workspace.output("meta_results").to_pylist()
    return {(row["system"], row["fold"], row["measure"], row["group"]): row for row in rows}


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalWorkspace, dict[str, dict[str, pa.Table]]]:
    stages = {
        f"evaluate_{name}_{fold}": precision(fold, gain)
        for name, gain in (("maml_align", 0.5), ("zero_shot", 0.1))
        for fold in (0, 1)
    }
    systems = {name: {fold: f"evaluate_{name}_{fold}" for fold in (0, 1)} for name in ("maml_align", "zero_shot")}
    return compared(tmp_path_factory.mktemp("compare"), "retrieval", stages, systems), stages


def values_of(table: pa.Table, lang: str) -> dict[str, float]:
    return {row["xling_id"]: row["value"] for row in table.to_pylist() if row["lang"] == lang}


def test_means_by_hand(retrieval: tuple) -> None:
    workspace, stages = retrieval
    found = cells(workspace)
    mean = {
        (fold, lang): np.mean(list(values_of(stages[f"evaluate_maml_align_{fold}"]["question_precision"], lang).values()))
        for fold in (0, 1) for lang in LANGS
    }  # fmt: skip
    for fold in (0, 1):
        for lang in LANGS:
            assert found["maml_align", str(fold), "AP@20", lang]["value"] == pytest.approx(mean[fold, lang])
        seen = (mean[fold, "de"] + mean[fold, "en"]) / 2
        assert found["maml_align", str(fold), "AP@20", "seen"]["value"] == pytest.approx(seen)
        assert found["maml_align", str(fold), "AP@20", "unseen"]["value"] == pytest.approx(mean[fold, "th"])
        every = np.mean([mean[fold, lang] for lang in LANGS])
        assert found["maml_align", str(fold), "AP@20", "mean"]["value"] == pytest.approx(every)
    whole = found["maml_align", "all", "AP@20", "mean"]
    assert whole["value"] == pytest.approx(np.mean(list(mean.values())))
    assert whole["low"] < whole["value"] < whole["high"]
    assert (
        whole["items"],
        found["maml_align", "all", "AP@20", "th"]["items"],
        found["maml_align", "0", "AP@20", "de"]["items"],
    ) == (60, 58, 30)
    assert len(found) == 2 * 3 * 6


def test_intervals_draw_the_versions_of_a_question_together(tmp_path: Path) -> None:
    """Three equal versions of each question say no more than one: the interval of their mean is that of one language."""
    base = precision(0, 0.5)["question_precision"].to_pylist()
    value = {row["xling_id"]: row["value"] for row in base if row["lang"] == "de"}
    rows = [{**row, "value": value[row["xling_id"]]} for row in base]
    stages = {"evaluate": {"question_precision": QUESTION_PRECISION.from_rows(rows)}}
    found = cells(compared(tmp_path, "retrieval", stages, {"zero_shot": {0: "evaluate"}}, main="zero_shot"))
    of_mean, of_one = (found["zero_shot", "0", "AP@20", group] for group in ("seen", "de"))
    assert (of_mean["low"], of_mean["high"]) == pytest.approx((of_one["low"], of_one["high"]))


def test_paired_tests_by_hand(retrieval: tuple) -> None:
    """The t-test over all folds' questions, each version weighted as in the results; Holm's factor is six for the smallest p."""
    workspace, stages = retrieval
    rows = {row["group"]: row for row in workspace.output("meta_comparisons").to_pylist()}
    assert list(rows) == ["de", "en", "th", "seen", "unseen", "mean"]
    sides = []
    for name in ("maml_align", "zero_shot"):
        parts = []
        for fold in (0, 1):
            by = {lang: values_of(stages[f"evaluate_{name}_{fold}"]["question_precision"], lang) for lang in LANGS}
            # 30 of the 60 questions are in each of the two folds, 29 of them in Thai, and a language is a third of the mean.
            weight = {lang: 60 / 2 / len(by[lang]) / 3 for lang in LANGS}
            parts += [sum(weight[lang] * by[lang][x] for lang in LANGS if x in by[lang]) for x in sorted(by["de"])]
        sides.append(parts)
    expected = stats.ttest_rel(*sides)
    assert rows["mean"]["p"] == pytest.approx(expected[1])
    interval = expected.confidence_interval(0.95)
    assert (rows["mean"]["low"], rows["mean"]["high"]) == pytest.approx((interval.low, interval.high))
    assert (rows["mean"]["items"], rows["th"]["items"]) == (60, 58)
    smallest = min(rows.values(), key=lambda row: row["p"])
    assert smallest["p_corrected"] == pytest.approx(min(1, 6 * smallest["p"]))
    found = cells(workspace)
    for group, row in rows.items():
        one, other = (found[name, "all", "AP@20", group]["value"] for name in ("maml_align", "zero_shot"))
        assert row["difference"] == pytest.approx(one - other), group


def values(fold: int, by_lang: dict[str, list[float]]) -> dict[str, pa.Table]:
    """AP of questions, by hand."""
    rows = [
        {"question_id": f"x{fold}-{i}-{lang}", "xling_id": f"x{fold}-{i}", "lang": lang, "value": value}
        for lang, row in by_lang.items()
        for i, value in enumerate(row)
    ]
    return {"question_precision": QUESTION_PRECISION.from_rows(rows)}


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> LocalWorkspace:
    """A fold of one question and a fold of three, one of which is in Thai, a language that the first fold lacks."""
    stages = {
        "a0": values(0, {"de": [0.9]}), "a1": values(1, {"de": [0.4, 0.5, 0.6], "th": [0.7]}),
        "b0": values(0, {"de": [0.1]}), "b1": values(1, {"de": [0.2, 0.3, 0.4], "th": [0.1]}),
    }  # fmt: skip
    systems = {"maml": {0: "a0", 1: "a1"}, "zero_shot": {0: "b0", 1: "b1"}}
    return compared(tmp_path_factory.mktemp("unequal"), "retrieval", stages, systems, seen=("de",), main="maml")


def test_folds_count_alike_whatever_their_size(unequal: LocalWorkspace) -> None:
    """German: (0.9 + 0.5) / 2 and (0.1 + 0.3) / 2, where all four questions alike would be 0.6 and 0.25; the mean is of its rows."""
    found = {key[0::3]: row["value"] for key, row in cells(unequal).items() if key[1] == "all"}
    assert found["maml", "de"] == pytest.approx(0.7)
    assert found["zero_shot", "de"] == pytest.approx(0.2)
    assert found["maml", "th"] == found["maml", "unseen"] == pytest.approx(0.7)
    assert found["zero_shot", "th"] == pytest.approx(0.1)
    assert found["maml", "mean"] == pytest.approx((0.7 + 0.7) / 2)
    assert found["zero_shot", "mean"] == pytest.approx((0.2 + 0.1) / 2)
    items = {key[3]: row["items"] for key, row in cells(unequal).items() if key[:2] == ("maml", "all")}
    assert items == {"de": 4, "th": 1, "seen": 4, "unseen": 1, "mean": 4}


def test_contributions_have_the_mean_of_the_results() -> None:
    """Fold 0 has two questions in German, fold 1 one in German and Thai: German is (0.3 + 0.9) / 2, Thai 0.1, the mean 0.35."""
    folds = {
        0: Sample.of([("a", "de", 0.2, None), ("b", "de", 0.4, None)]),
        1: Sample.of([("c", "de", 0.9, None), ("c", "th", 0.1, None), ("d", "th", 0.1, None)]),
    }
    found = contributions(folds, ("de",))
    # German is half of the mean and of two folds, so a question of the first weighs 1/8 and that of the second 1/4; Thai ones 1/4 each.
    assert found["mean"].tolist() == pytest.approx([4 * 0.2 / 8, 4 * 0.4 / 8, 4 * (0.9 + 0.1) / 4, 4 * 0.1 / 4])
    means = {"de": 0.6, "seen": 0.6, "th": 0.1, "unseen": 0.1, "mean": 0.35}
    assert {group: values.mean() for group, values in found.items()} == pytest.approx(means)
    assert {group: len(values) for group, values in found.items()} == {
        "de": 3,
        "seen": 3,
        "th": 2,
        "unseen": 2,
        "mean": 4,
    }


def test_comparisons_weigh_folds_as_the_results_do(unequal: LocalWorkspace) -> None:
    """The differences 0.8 and 0.2, 0.2, 0.2 weigh 4/2 and 4/6: 1.6 and 2/15 three times, of mean 1/2 and standard error 11/30."""
    rows = {row["group"]: row for row in unequal.output("meta_comparisons").to_pylist()}
    assert list(rows) == ["de", "seen", "mean"]  # one Thai question is no sample
    assert rows["de"]["difference"] == pytest.approx(0.5)
    assert rows["de"]["p"] == pytest.approx(2 * stats.t.sf(15 / 11, 3))
    margin = stats.t.ppf(0.975, 3) * 11 / 30
    assert (rows["de"]["low"], rows["de"]["high"]) == pytest.approx((0.5 - margin, 0.5 + margin))
    # Half of the German contributions, and for the first question of the second fold 4 / 2 times its Thai difference of 0.6.
    _, expected = stats.ttest_1samp([0.8, 1 / 15 + 1.2, 1 / 15, 1 / 15], 0)
    assert rows["mean"]["difference"] == pytest.approx(0.7 - 0.15)
    assert rows["mean"]["p"] == pytest.approx(expected)
    assert rows["mean"]["items"] == 4


def test_correlations_and_their_differences(tmp_path: Path) -> None:
    stages = {"a": similarity(0.2), "b": similarity(0.9, seed=1)}
    workspace = compared(tmp_path, "similarity", stages, {"maml_align": {0: "a"}, "fine_tune": {0: "b"}}, seen=("de",))
    found = cells(workspace)
    for pair in ("de-de", "de-en", "en-de", "en-en"):
        rows = [
            row
            for row in stages["b"]["pair_similarity"].to_pylist()
            if f"{row['first_lang']}-{row['second_lang']}" == pair
        ]
        values, scores = ([row[name] for row in rows] for name in ("value", "score"))
        for measure, reference in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
            cell = found["fine_tune", "0", measure, pair]
            assert cell["value"] == pytest.approx(reference(values, scores)[0])
            assert cell["low"] < cell["value"] < cell["high"]
            assert cell["items"] == 60
    seen, unseen = (found["fine_tune", "all", "pearson", group]["value"] for group in ("seen", "unseen"))
    pairs = {pair: found["fine_tune", "all", "pearson", pair]["value"] for pair in ("de-de", "de-en", "en-de", "en-en")}
    assert seen == pytest.approx(pairs.pop("de-de"))
    assert unseen == pytest.approx(np.mean(list(pairs.values())))
    rows = workspace.output("meta_comparisons").to_pylist()
    assert [(row["measure"], row["group"]) for row in rows] == [
        (measure, group) for measure in ("pearson", "spearman") for group in ("seen", "unseen", "mean")
    ]
    for row in rows:
        one, other = (found[name, "all", row["measure"], row["group"]]["value"] for name in ("maml_align", "fine_tune"))
        assert row["difference"] == pytest.approx(one - other)
        assert 0 < row["low"] < row["difference"] < row["high"]
        assert row["p"] < 0.01
        assert row["items"] == 60


def test_equal_systems_do_not_differ(tmp_path: Path) -> None:
    stages = {"a": similarity(0.2), "b": similarity(0.2)}
    workspace = compared(tmp_path, "similarity", stages, {"maml_align": {0: "a"}, "fine_tune": {0: "b"}})
    rows = workspace.output("meta_comparisons").to_pylist()
    assert {(row["difference"], row["p"], row["low"], row["high"]) for row in rows} == {(0, 1, 0, 0)}


def test_chance_is_not_significant(tmp_path: Path) -> None:
    """Systems of the same noise: the p-values of 40 comparisons are below 0.05 a few times at most, not most of the time."""
    stages = {f"s{seed}": similarity(0.6, seed) for seed in range(41)}
    systems = {f"s{seed}": {0: f"s{seed}"} for seed in range(41)}
    workspace = compared(tmp_path, "similarity", stages, systems, main="s0")
    rows = [row for row in workspace.output("meta_comparisons").to_pylist() if row["group"] == "mean"]
    centred = stats.norm.ppf(1 - np.array([row["p"] for row in rows if row["measure"] == "pearson"]) / 2)
    assert np.mean(centred) < 2
    assert sum(row["p_corrected"] < 0.05 for row in rows) <= 4


def test_a_constant_similarity_is_said(tmp_path: Path) -> None:
    table = similarity(0.2)["pair_similarity"]
    constant = table.set_column(3, table.schema.field("value"), pa.array([0.5] * len(table)))
    workspace = compared(
        tmp_path, "similarity", {"a": {"pair_similarity": constant}}, {"zero_shot": {0: "a"}}, main="zero_shot"
    )
    [warning] = workspace.warnings
    assert warning.startswith(
        "'zero_shot' gives all pairs of de-de, de-en, en-de the same similarity or all have one score: "
    )
    assert {cell["value"] for cell in cells(workspace).values()} == {0}
    assert not len(workspace.output("meta_comparisons"))


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    stages = {"a": precision(0, 0.5), "b": precision(0, 0.5, count=20), "c": precision(1, 0.5)}
    with pytest.raises(
        TableError, match=r"fold 0: 'fine_tune' and 'maml_align' were not evaluated on the same questions or pairs"
    ):
        compared(tmp_path, "retrieval", stages, {"maml_align": {0: "a"}, "fine_tune": {0: "b"}})
    stages = {"a": values(0, {"de": [0.9, 0.8]}), "b": values(0, {"en": [0.9, 0.8]})}
    with pytest.raises(TableError, match=r"fold 0: 'fine_tune' and 'maml_align' were not evaluated on the same"):
        compared(tmp_path, "retrieval", stages, {"maml_align": {0: "a"}, "fine_tune": {0: "b"}})
    stages = {"a": precision(0, 0.5), "c": precision(1, 0.5)}
    with pytest.raises(TableError, match=r"'fine_tune' was evaluated on the folds \[0, 1\], 'maml_align' on \[0\]"):
        compared(tmp_path, "retrieval", stages, {"maml_align": {0: "a"}, "fine_tune": {0: "a", 1: "c"}})
    with pytest.raises(TableError, match=r"system 'maml_align' was not evaluated; there are zero_shot"):
        compared(tmp_path, "retrieval", stages, {"zero_shot": {0: "a"}})


def test_groups_of_pairs() -> None:
    assert groups(("de", "th"), ("de",)) == {"de": [0], "th": [1], "seen": [0], "unseen": [1], "mean": [0, 1]}
    assert groups(("de-de", "de-th"), ("de", "th")) == {"de-de": [0], "de-th": [1], "seen": [0, 1], "mean": [0, 1]}
    assert groups(("de",), ()) == {"de": [0], "unseen": [0], "mean": [0]}
    assert languages_of("pt-BR-zh-Hant") == ["pt-BR", "zh-Hant"]
