from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.session import Session
from cluster.stages import Runner, Stage, StageRun
from cluster.storage import open_storage, read_table
from distill.meta.settings import Kind, TaskSettings
from distill.meta.sources.folds import Fold
from distill.meta.tasks.stage import make_tasks
from distill.meta.tasks.transfers import MODES, Mode, derived
from distill.tables import ANSWER_VECTORS, QUESTION_VECTORS, RETRIEVAL_TASKS, SIMILARITY_TASKS, TableError
from tests.parallel_sources import LANGUAGES, answering, parallel_pairs, parallel_questions
from tests.workspaces import LocalWorkspace

FOLD = Fold(0, 3, 5)
TABLE: dict[Kind, str] = {"retrieval": "retrieval_tasks", "similarity": "similarity_tasks"}


def run(
    folder: Path,
    settings: TaskSettings,
    tables: Mapping[str, pa.Table] | None = None,
    *,
    kind: Kind = "retrieval",
    fold: Fold = FOLD,
    seed: int = 7,
    vectors: Mapping[str, pa.Table] | None = None,
) -> list[dict[str, Any]]:
    if tables is None:
        tables = parallel_questions() if kind == "retrieval" else {"sentence_pairs": parallel_pairs()}
    inputs: dict[str, Any] = {"meta_sources": tables, **({"meta_vectors": vectors} if vectors else {})}
    workspace = LocalWorkspace(folder, "tasks", inputs)
    transfers = settings.wanted_transfers(LANGUAGES)
    make_tasks(workspace, settings, transfers, fold, seed, kind, vectors="meta_vectors" if vectors else None)
    table = workspace.output(TABLE[kind])
    (RETRIEVAL_TASKS if kind == "retrieval" else SIMILARITY_TASKS).check(table)
    return table.to_pylist()


def holding_out_not(article: str) -> Fold:
    """A fold that trains on an article."""
    articles = [f"A{i}" for i in range(6)]
    return next(fold for fold in (Fold(i, 3, 5) for i in range(3)) if article not in fold.held_out(articles))


def sets_of(row: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The triplets or pairs of each set of a task."""
    lists = {name: values for name, values in row.items() if isinstance(values, list)}
    items = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    return [[item for item in items if item["sets"] == number] for number in range(max(row["sets"]) + 1)]


def number(row_id: str) -> int:
    return int(row_id[1:3])


# --- languages and triplets


@pytest.mark.parametrize("mode", MODES)
def test_sets_have_the_languages_of_their_transfer(tmp_path: Path, mode: Mode) -> None:
    settings = TaskSettings(mode=mode, tasks=24, shots=2, queries=3)
    rows = run(tmp_path, settings)
    assert [row["position"] for row in rows] == list(range(24))
    made = [str(transfer) for transfer in derived(mode, LANGUAGES)]
    if mode == "trans":
        expected = [made[t % 3] for t in range(12)] + [made[3 + t % 3] for t in range(12)]
    else:
        expected = [made[t % len(made)] for t in range(24)]
    assert [row["transfer"] for row in rows] == expected
    for row in rows:
        sets = sets_of(row)
        assert [len(one) for one in sets] == [2, 3, 3][: len(sets)]
        assert len(sets) == (3 if mode == "mono_bi_multi" else 2)
        for one, notation in zip(sets, row["transfer"].split("-"), strict=True):
            asked, read = notation.split("_")
            assert {item["question_langs"] for item in one} == {asked}
            assert {item["positive_langs"] for item in one} == set(read.split(","))


def test_triplets_hold_a_question_what_answers_it_and_what_does_not(tmp_path: Path) -> None:
    rows = run(tmp_path, TaskSettings(mode="mono_bi_multi", tasks=200))
    second = 0
    for row in rows:
        items = [item for one in sets_of(row) for item in one]
        questions = [number(item["question_ids"]) for item in items]
        assert len(set(questions)) == 9
        for item, question in zip(items, questions, strict=True):
            positive, negative = number(item["positive_ids"]), number(item["negative_ids"])
            lang = item["positive_langs"]
            assert item["questions"] == f"question {question:02d} {item['question_langs']}"
            assert item["question_ids"] == f"q{question:02d}_{item['question_langs']}"
            assert item["positive_ids"] == f"a{positive:02d}_{lang}"
            assert item["positives"] == f"answer {positive:02d} {lang}"
            assert item["negatives"] == f"answer {negative:02d} {lang}"
            assert item["negative_ids"] == f"a{negative:02d}_{lang}"
            assert positive in answering(question)
            assert negative not in answering(question)
            second += positive != question
    # of 1,800 questions every fifth has two answers, and half of their draws are the second
    assert 120 < second < 240


def test_no_triplet_holds_a_text_twice(tmp_path: Path) -> None:
    """Candidates share three texts in each language: no negative has its positive's text."""
    tables = parallel_questions()
    rows = tables["answers"].to_pylist()
    texts = [f"{row['lang']} {position % 3}" for position, row in enumerate(rows)]
    answers = pa.Table.from_pylist(
        [row | {"text": text} for row, text in zip(rows, texts, strict=True)], schema=tables["answers"].schema
    )
    found = run(tmp_path, TaskSettings(mode="mixed", tasks=60), {**tables, "answers": answers})
    pairs = [pair for row in found for pair in zip(row["positives"], row["negatives"], strict=True)]
    assert len(pairs) == 60 * 6
    assert all(positive != negative for positive, negative in pairs)


def test_all_training_questions_and_negatives_are_drawn(tmp_path: Path) -> None:
    tables = parallel_questions()
    held_out = set(FOLD.held_out(tables["questions"]["article"].to_pylist()))
    trained = {q for q in range(30) if f"A{q // 5}" not in held_out}
    assert len(trained) == 20
    rows = run(tmp_path, TaskSettings(mode="mono_bi", tasks=300))
    for place in range(2):
        items = [item for row in rows for item in sets_of(row)[place]]
        assert {number(item["question_ids"]) for item in items} == trained
        assert {number(item["negative_ids"]) for item in items} == trained


def test_no_held_out_article_is_in_a_task(tmp_path: Path) -> None:
    tables = parallel_questions()
    articles = tables["questions"]["article"].to_pylist()
    for fold in (Fold(i, 3, 5) for i in range(3)):
        rows = run(tmp_path / str(fold.number), TaskSettings(tasks=60), fold=fold)
        used = {
            f"A{number(i) // 5}"
            for row in rows
            for name in ("question_ids", "positive_ids", "negative_ids")
            for i in row[name]
        }
        assert used == set(articles) - set(fold.held_out(articles))


def test_a_source_with_a_split_of_its_own_gives_its_training_rows(tmp_path: Path) -> None:
    tables = parallel_questions()
    for name in ("questions", "answers"):
        splits = ["train" if article < "A3" else "test" for article in tables[name]["article"].to_pylist()]
        place = tables[name].column_names.index("split")
        tables[name] = tables[name].set_column(place, tables[name].schema.field("split"), pa.array(splits))
    rows = run(tmp_path, TaskSettings(tasks=60), tables, fold=Fold(0, None, 5))
    assert {number(i) for row in rows for i in row["question_ids"]} == set(range(15))
    assert {number(i) for row in rows for i in row["negative_ids"]} == set(range(15))


# --- determinism


def shuffled(tables: Mapping[str, pa.Table], seed: int) -> dict[str, pa.Table]:
    order = np.random.default_rng(seed)
    return {name: table.take(order.permutation(len(table))) for name, table in tables.items()}


@pytest.mark.parametrize("kind", ["retrieval", "similarity"])
def test_tasks_depend_on_neither_shards_nor_the_order_of_rows(tmp_path: Path, kind: Kind) -> None:
    settings = TaskSettings(tasks=50, shots=2)
    tables = parallel_questions() if kind == "retrieval" else {"sentence_pairs": parallel_pairs()}
    expected = run(tmp_path / "a", settings, tables, kind=kind)
    cut = settings.model_copy(update={"tasks_per_shard": 7})
    assert run(tmp_path / "b", cut, shuffled(tables, 1), kind=kind) == expected
    # more tasks begin with the same ones
    assert run(tmp_path / "c", settings.model_copy(update={"tasks": 60}), tables, kind=kind)[:50] == expected


def test_tasks_by_vectors_depend_on_neither_shards_nor_the_order_of_rows(tmp_path: Path) -> None:
    settings = TaskSettings(mode="mixed", tasks=40, query_set="similar", negatives="semi_hard")
    tables = parallel_questions()
    vectors = random_vectors(tables)
    expected = run(tmp_path / "a", settings, tables, vectors=vectors)
    cut = settings.model_copy(update={"tasks_per_shard": 7})
    assert run(tmp_path / "b", cut, shuffled(tables, 1), vectors=shuffled(vectors, 2)) == expected


def test_seed_and_fold_change_the_draws(tmp_path: Path) -> None:
    settings = TaskSettings(tasks=20)
    rows = run(tmp_path / "a", settings)
    assert run(tmp_path / "b", settings, seed=8) != rows
    # the same pairs in either fold
    first, second = (run(tmp_path / f"fold{i}", settings, kind="similarity", fold=Fold(i, None, 5)) for i in range(2))
    assert [row["transfer"] for row in first] == [row["transfer"] for row in second]
    assert first != second


# --- vectors


def random_vectors(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    random = np.random.default_rng(11)
    made = {}
    for name, contract in (("question", QUESTION_VECTORS), ("answer", ANSWER_VECTORS)):
        ids = tables[f"{name}s"][f"{name}_id"].to_pylist()
        vectors = random.standard_normal((len(ids), 4)).astype(np.float32).tolist()
        made[f"{name}_vectors"] = contract.from_rows(
            {f"{name}_id": i, "count": 1, "vectors": vector} for i, vector in zip(ids, vectors, strict=True)
        )
    return made


def question_angle(question: int) -> float:
    """In degrees; no two differences are equal."""
    return question + question**2 / 77


def answer_angle(answer: int) -> float:
    return 3.01 * answer


def angle_vectors(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Vectors in the directions of `question_angle` and `answer_angle`, the same in every language."""
    made = {}
    for name, contract, angle in (
        ("question", QUESTION_VECTORS, question_angle),
        ("answer", ANSWER_VECTORS, answer_angle),
    ):
        ids = tables[f"{name}s"][f"{name}_id"].to_pylist()
        angles = [np.deg2rad(0 if i.startswith("x") else angle(number(i))) for i in ids]
        made[f"{name}_vectors"] = contract.from_rows(
            {f"{name}_id": i, "count": 1, "vectors": [np.cos(a), np.sin(a)]} for i, a in zip(ids, angles, strict=True)
        )
    return made


def nearest_questions(question: int, others: list[int], count: int) -> list[int]:
    return sorted(others, key=lambda other: abs(question_angle(other) - question_angle(question)))[:count]


def by_angle(tmp_path: Path, **settings: Any) -> tuple[list[dict[str, Any]], list[int]]:
    """Tasks by `angle_vectors`, and the training questions."""
    tables = parallel_questions()
    held_out = set(FOLD.held_out(tables["questions"]["article"].to_pylist()))
    rows = run(tmp_path, TaskSettings(tasks=60, **settings), tables, vectors=angle_vectors(tables))
    return rows, [q for q in range(30) if f"A{q // 5}" not in held_out]


@pytest.mark.parametrize("which", ["hard", "semi_hard", "easy"])
def test_negatives_are_by_the_questions_vectors(tmp_path: Path, which: str) -> None:
    rows, trained = by_angle(tmp_path, mode="bi_multi", negatives=which)
    for row in rows:
        for one in sets_of(row):
            for item in one:
                question, positive = number(item["question_ids"]), number(item["positive_ids"])
                apart = {
                    i: abs(answer_angle(i) - question_angle(question)) for i in trained if i not in answering(question)
                }
                if which == "semi_hard":
                    less = {
                        i: angle
                        for i, angle in apart.items()
                        if angle > abs(answer_angle(positive) - question_angle(question))
                    }
                    # where none is less like it than the positive, the least like it
                    expected = min(less.values()) if less else max(apart.values())
                else:
                    expected = min(apart.values()) if which == "hard" else max(apart.values())
                assert apart[number(item["negative_ids"])] == expected


def test_similar_questions_are_neighbours_of_the_support_sets(tmp_path: Path) -> None:
    rows, trained = by_angle(tmp_path, mode="mono_bi_multi", query_set="similar", neighbours=4)
    for row in rows:
        asked = [[number(item["question_ids"]) for item in one] for one in sets_of(row)]
        used = set(asked[0])
        for one in asked[1:]:
            like = set()
            for support in asked[0]:
                like |= set(nearest_questions(support, [q for q in trained if q not in used], 4))
            assert set(one) <= like
            used |= set(one)
        assert len(used) == 9


def test_in_another_language_a_similar_set_holds_the_support_sets_translations(tmp_path: Path) -> None:
    rows, trained = by_angle(tmp_path, mode="mono_mono", query_set="similar", shots=2, queries=4, neighbours=4)
    for row in rows:
        support, query = sets_of(row)
        first = [number(item["question_ids"]) for item in support]
        found = [number(item["question_ids"]) for item in query]
        assert found[:2] == first
        assert {item["question_langs"] for item in query} != {item["question_langs"] for item in support}
        others = [q for q in trained if q not in first]
        assert set(found[2:]) <= {q for s in first for q in nearest_questions(s, others, 4)}
        assert len(set(found)) == 4


def test_vectors_are_needed_where_they_are_used(tmp_path: Path) -> None:
    assert not TaskSettings().needs_vectors
    assert TaskSettings(negatives="easy").needs_vectors
    similar = TaskSettings(query_set="similar")
    assert similar.needs_vectors
    with pytest.raises(ValueError, match="query sets 'similar' and negatives 'random' need vectors"):
        run(tmp_path, similar)
    tables = parallel_questions()
    vectors = random_vectors(tables)
    vectors["answer_vectors"] = vectors["answer_vectors"].slice(1)
    with pytest.raises(TableError, match=r"meta_vectors: answer_vectors: 1 of answer_id do not exist"):
        run(tmp_path / "b", similar, tables, vectors=vectors, fold=holding_out_not("A0"))


# --- faults


def test_a_transfer_that_cannot_be_filled_is_refused_before_any_task(tmp_path: Path) -> None:
    tables = parallel_questions()
    french = pc.and_(pc.equal(tables["answers"]["lang"], "fr"), pc.not_equal(tables["answers"]["article"], "A0"))
    few = {**tables, "answers": tables["answers"].filter(pc.invert(french))}
    fold = holding_out_not("A0")
    with pytest.raises(
        TableError,
        match=rf"meta_sources, fold {fold.number}: transfer 'en_en-en_fr': a task with its set 'en_fr' needs 6 training questions in "
        r"'en' with candidates in 'fr' that answer them; there are 5\.",
    ):
        run(tmp_path, TaskSettings(mode="mono_bi"), few, fold=fold)
    assert not (tmp_path / "tasks" / "retrieval_tasks").exists()
    with pytest.raises(TableError, match=r"transfer 'de_de-de_hi' needs 'hi', and no training candidate"):
        run(tmp_path, TaskSettings(mode="mono_bi", transfers=("de_de-de_hi",)))


def test_a_question_without_any_other_answer_is_not_drawn(tmp_path: Path) -> None:
    tables = parallel_questions()
    lost = pa.array(["a12_fr", "a22_fr"])
    answers = tables["answers"].filter(pc.invert(pc.is_in(tables["answers"]["answer_id"], value_set=lost)))
    rows = run(tmp_path, TaskSettings(mode="mono_bi", tasks=300), {**tables, "answers": answers}, fold=Fold(0, 6, 1))
    queries = [sets_of(row)[1] for row in rows if row["transfer"] == "en_en-en_fr"]
    french = {number(item["question_ids"]) for one in queries for item in one}
    assert french
    assert not french & {12, 22}


# --- sentence pairs


@pytest.mark.parametrize("mode", MODES)
def test_pairs_are_of_their_splits_and_languages(tmp_path: Path, mode: Mode) -> None:
    rows = run(tmp_path, TaskSettings(mode=mode, tasks=24, shots=8, queries=4), kind="similarity")
    for row in rows:
        sets = sets_of(row)
        assert [len(one) for one in sets] == [8, 4, 4][: len(sets)]
        ids = [item["pair_ids"] for one in sets for item in one]
        assert len(set(ids)) == len(ids)
        for place, (one, notation) in enumerate(zip(sets, row["transfer"].split("-"), strict=True)):
            asked, read = notation.split("_")
            assert {item["first_langs"] for item in one} == {asked}
            assert {item["second_langs"] for item in one} == set(read.split(","))
            for item in one:
                split, i = item["pair_ids"].split("/")
                assert split == ("dev" if place else "train")
                assert item["firsts"] == f"first {split} {i} {asked}"
                assert item["seconds"] == f"second {split} {i} {item['second_langs']}"
                assert item["scores"] == pytest.approx(int(i) / 10)


def test_languages_of_a_set_take_turns(tmp_path: Path) -> None:
    settings = TaskSettings(transfers=("de_de-de_en-de_en,de,fr",), tasks=40, shots=2, queries=7)
    starts = set()
    for row in run(tmp_path, settings.model_copy(update={"queries": 4}), kind="similarity"):
        langs = [item["second_langs"] for item in sets_of(row)[2]]
        turn = ["en", "de", "fr"]
        start = turn.index(langs[0])
        starts.add(start)
        assert langs == [turn[(start + i) % 3] for i in range(4)]
    assert starts == {0, 1, 2}


def test_pairs_have_no_similar_sets_or_hard_negatives(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"set tasks.query_set and tasks.negatives to random"):
        run(tmp_path, TaskSettings(query_set="similar"), kind="similarity")


# --- actors


def test_actors_make_the_same_tasks(ray_session: None, tmp_path: Path) -> None:
    settings = TaskSettings(mode="mixed", tasks=30, tasks_per_shard=8, query_set="similar", negatives="hard")
    tables = parallel_questions()
    vectors = random_vectors(tables)
    expected = run(tmp_path / "here", settings, tables, vectors=vectors)

    def written(name: str, contents: Mapping[str, pa.Table]) -> Stage:
        def write(workspace: StageRun) -> None:
            for table, rows in contents.items():
                workspace.write(table, rows)

        return Stage(name, 1, write, {}, uses_ray=False)

    def made(workspace: StageRun) -> None:
        make_tasks(workspace, settings, derived("mixed", LANGUAGES), FOLD, 7, "retrieval", vectors="meta_vectors")

    inputs = (written("meta_sources", tables), written("meta_vectors", vectors))
    subject = Stage("tasks_mixed_0", 1, made, {}, inputs, rows="retrieval_tasks")
    runner = Runner(str(tmp_path / "store"), Session(), progress=False)
    results = [runner.run(stage) for stage in (*inputs, subject)]
    assert results[-1].manifest["shards"] == {"total": 4, "computed": 4}
    filesystem, root = open_storage(runner.storage)
    found = read_table(filesystem, f"{root}/{subject.folder}/retrieval_tasks")
    assert found.to_pylist() == expected
