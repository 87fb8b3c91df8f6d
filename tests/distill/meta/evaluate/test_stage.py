from pathlib import Path

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ir_measures import AP
from torch.nn import functional

from distill.encoders.checkpoints import load_encoder
from distill.meta.evaluate.stage import evaluate
from distill.meta.settings import MetaEvaluateSettings
from distill.meta.sources.folds import Fold, source_articles
from distill.tables import TableError
from tests.distill.meta.samples import questions, save_single_vector, sentence_pairs
from tests.workspaces import LocalWorkspace

FOLD = Fold(1, 3, 7)


@pytest.fixture(scope="module")
def single(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    save_single_vector(tiny_bert, folder / "start")
    return folder


def evaluated(
    tmp_path: Path,
    checkpoint: Path,
    fold: Fold = FOLD,
    settings: MetaEvaluateSettings | None = None,
    tables: dict[str, pa.Table] | None = None,
) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, "evaluate", {"meta_sources": tables or questions()})
    workspace._inputs["start"] = str(checkpoint.parent)
    kind = "similarity" if tables and "sentence_pairs" in tables else "retrieval"
    settings = settings or MetaEvaluateSettings(texts_per_shard=5, depth=4)
    evaluate(workspace, settings, kind, fold, "meta_sources", "start", checkpoint.name)
    return workspace


def expected_precision(checkpoint: Path, fold: Fold, depth: int) -> dict[str, float]:
    """By brute force and ir_measures, which divides by all answers: as many as languages, so fewer than the depth."""
    source, encoder = questions(), load_encoder(checkpoint)
    articles = source_articles(source["questions"], source["answers"])
    asked, given = (fold.tested(source[name], articles) for name in ("questions", "answers"))
    vectors = encoder.encode_passages(given["text"].to_pylist())
    run, qrels = {}, {}
    for row in asked.to_pylist():
        [query] = encoder.encode_queries([row["text"]])
        scores = [float((query @ passage.T).amax(1).sum()) for passage in vectors]
        run[row["question_id"]] = dict(zip(given["answer_id"].to_pylist(), scores, strict=True))
        mine = source["answered"].filter(pc.equal(source["answered"]["xling_id"], row["xling_id"]))
        qrels[row["question_id"]] = dict.fromkeys(mine["answer_id"].to_pylist(), 1)
    return {value.query_id: value.value for value in ir_measures.iter_calc([AP @ depth], qrels, run)}


@pytest.mark.parametrize("fold", [FOLD, Fold(0, None, 7)], ids=["cross-validation", "own split"])
@pytest.mark.parametrize("kind", ["single", "late"])
def test_precision_is_that_of_brute_force(
    tmp_path: Path, single: Path, tiny_student: Path, kind: str, fold: Fold
) -> None:
    checkpoint = single / "start" if kind == "single" else tiny_student
    workspace = evaluated(tmp_path, checkpoint, fold)
    rows = workspace.output("question_precision")
    found = dict(zip(rows["question_id"].to_pylist(), rows["value"].to_pylist(), strict=True))
    expected = expected_precision(checkpoint, fold, 4)
    # Two articles of two questions in two languages.
    assert len(expected) == 8
    assert found == pytest.approx(expected)
    assert 0 < np.mean(list(found.values())) < 1
    assert workspace.facts == {"questions": 8, "candidates": 12}


def test_folds_hold_out_every_question_once(tmp_path: Path, single: Path) -> None:
    seen = []
    for number in range(3):
        workspace = evaluated(tmp_path / str(number), single / "start", Fold(number, 3, 7))
        seen += workspace.output("question_precision")["question_id"].to_pylist()
    assert sorted(seen) == sorted(questions()["questions"]["question_id"].to_pylist())


def test_shards_do_not_matter(tmp_path: Path, single: Path) -> None:
    parts = [
        evaluated(tmp_path / str(size), single / "start", settings=MetaEvaluateSettings(texts_per_shard=size, depth=4))
        for size in (1, 100)
    ]
    one, other = (part.output("question_precision").sort_by("question_id") for part in parts)
    assert one["question_id"] == other["question_id"]
    np.testing.assert_allclose(one["value"].to_numpy(), other["value"].to_numpy())
    assert [len(part.computed) for part in parts] == [20 + 8, 1 + 1]


def test_languages_of_questions_and_pool(tmp_path: Path, single: Path) -> None:
    workspace = evaluated(tmp_path, single / "start", settings=MetaEvaluateSettings(languages=("de",)))
    assert set(workspace.output("question_precision")["lang"].to_pylist()) == {"de"}
    assert workspace.facts == {"questions": 4, "candidates": 6}
    with pytest.raises(TableError, match=r"meta_sources has nothing in fr \(evaluate.languages\); it has de, en"):
        evaluated(tmp_path / "fr", single / "start", settings=MetaEvaluateSettings(languages=("de", "fr")))


def test_questions_without_an_answer_in_the_pool_are_counted(tmp_path: Path, single: Path) -> None:
    tables = questions()
    tables["answered"] = tables["answered"].filter(pc.starts_with(tables["answered"]["answer_id"], "en"))
    tables["answered"] = tables["answered"].filter(pc.not_equal(tables["answered"]["xling_id"], "x2-0"))
    workspace = evaluated(tmp_path, single / "start", Fold(0, None, 7), tables=tables)
    assert workspace.facts == {"unanswered_questions": 2, "questions": 6, "candidates": 12}
    tables["answered"] = tables["answered"].slice(0, 0)
    with pytest.raises(TableError, match="fold 0 holds out no question that one of its 12 candidates answers"):
        evaluated(tmp_path / "none", single / "start", Fold(0, None, 7), tables=tables)


def test_a_source_without_a_split_needs_folds(tmp_path: Path, single: Path) -> None:
    tables = questions()
    for name in ("questions", "answers"):
        place = tables[name].schema.get_field_index("split")
        tables[name] = tables[name].set_column(place, "split", pa.array([""] * len(tables[name])))
    with pytest.raises(TableError, match=r"the source has no split of its own; set tasks.folds"):
        evaluated(tmp_path, single / "start", Fold(0, None, 7), tables=tables)


# --- sentence pairs --------------------------------------------------------------------------------------------------


def test_pairs_in_all_languages(tmp_path: Path, single: Path) -> None:
    workspace = evaluated(tmp_path, single / "start", Fold(0, None, 7), tables=sentence_pairs())
    rows = workspace.output("pair_similarity").to_pylist()
    assert [(row["pair_id"], row["first_lang"], row["second_lang"]) for row in rows] == [
        (f"test/{number}", one, other) for number in range(3) for one in ("de", "en") for other in ("de", "en")
    ]
    encoder = load_encoder(single / "start")
    source = {(row["pair_id"], row["lang"]): row for row in sentence_pairs()["sentence_pairs"].to_pylist()}
    for row in rows:
        first = encoder.encode_passages([source[row["pair_id"], row["first_lang"]]["first"]])[0]
        second = encoder.encode_passages([source[row["pair_id"], row["second_lang"]]["second"]])[0]
        assert row["value"] == pytest.approx(functional.cosine_similarity(first, second).item(), abs=1e-5)
        assert row["score"] == int(row["pair_id"][-1]) / 4
    # 6 texts of pairs by 5: a pair of two languages has four.
    assert workspace.computed == [0, 1]


def test_late_interaction_is_between_minus_one_and_one(tmp_path: Path, tiny_student: Path) -> None:
    workspace = evaluated(tmp_path, tiny_student, Fold(0, None, 7), tables=sentence_pairs())
    values = workspace.output("pair_similarity")["value"].to_numpy()
    encoder = load_encoder(tiny_student)
    source = {(row["pair_id"], row["lang"]): row for row in sentence_pairs()["sentence_pairs"].to_pylist()}
    one = encoder.encode_passages([source["test/0", "de"]["first"]])[0]
    other = encoder.encode_passages([source["test/0", "en"]["second"]])[0]
    assert values[1] == pytest.approx((one @ other.T).amax(1).mean().item(), abs=1e-5)
    assert np.abs(values).max() <= 1


def test_no_test_pairs(tmp_path: Path, single: Path) -> None:
    tables = sentence_pairs()
    tables["sentence_pairs"] = tables["sentence_pairs"].filter(pc.not_equal(tables["sentence_pairs"]["split"], "test"))
    with pytest.raises(TableError, match="no sentence pair is held out for the test"):
        evaluated(tmp_path, single / "start", Fold(0, None, 7), tables=tables)
