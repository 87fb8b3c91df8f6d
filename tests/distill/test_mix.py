from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from distill.mix import Texts, draw_examples, draw_languages, draw_passages, mix, training_order
from distill.settings.train import MixSettings
from distill.tables import PASSAGES, QUERIES, SCORES, TRANSLATIONS, TableError
from tests.workspaces import LocalWorkspace

LANGUAGES = ("de", "fr", "zh")
IDS = [f"p{i}" for i in range(10)]


def tables(missing: tuple[tuple[str, str], ...] = (), candidates: int = 10) -> dict:
    passages = [{"passage_id": i, "doc_id": i, "lang": "en", "title": "T", "text": f"{i} en"} for i in IDS]
    translations = [
        {
            "passage_id": i, "source_lang": "en", "lang": lang, "title": "", "text": f"{i} {lang}", "translator": "x", "flags": [],
        }
        for lang in reversed(LANGUAGES)
        for i in reversed(IDS)
        if (i, lang) not in missing
    ]  # fmt: skip
    queries = [{"query_id": f"q{i}", "lang": "en", "text": f"query {i}", "split": "train"} for i in range(5)]
    queries.append({"query_id": "q0", "lang": "de", "text": "Anfrage", "split": "train"})
    queries.append({"query_id": "t0", "lang": "en", "text": "held out", "split": "test"})
    scores = [
        {
            "query_id": q,
            "passage_ids": IDS[:candidates],
            "scores": [float(i) for i in range(candidates)],
            "teacher": "t",
        }
        for q in ("t0", "q4", "q3", "q2", "q1", "q0")
    ]
    return {
        "sources": {"passages": PASSAGES.from_rows(passages), "queries": QUERIES.from_rows(queries)},
        "translate": {"translations": TRANSLATIONS.from_rows(translations)},
        "score": {"scores": SCORES.from_rows(scores)},
    }


def run(
    tmp_path: Path, settings: MixSettings, inputs: dict | None = None, languages: tuple[str, ...] = LANGUAGES
) -> pa.Table:
    workspace = LocalWorkspace(tmp_path, "mix", inputs or tables())
    mix(workspace, settings, "en", languages, seed=7)
    return workspace.output("examples")


def test_languages_of_each_strategy() -> None:
    [mixed] = draw_languages("mix_passages", 60, LANGUAGES, Random(0))
    assert set(mixed) == set(LANGUAGES)
    [entry] = draw_languages("mix_entries", 6, LANGUAGES, Random(0))
    assert len(set(entry)) == 1
    assert draw_languages("round_robin", 2, LANGUAGES, Random(0)) == [["de", "de"], ["fr", "fr"], ["zh", "zh"]]
    assert draw_languages("single", 2, ("fa",), Random(0)) == [["fa", "fa"]]


def test_languages_are_drawn_evenly_and_independently() -> None:
    random = Random(3)
    counts = Counter(lang for _ in range(2000) for lang in draw_languages("mix_passages", 6, LANGUAGES, random)[0])
    # 12,000 draws of probability 1/3: standard deviation 52
    assert all(abs(count - 4000) < 260 for count in counts.values())


def test_passages_are_drawn_from_all_candidates_without_repeats() -> None:
    counts: Counter[int] = Counter()
    for seed in range(3000):
        drawn = draw_passages(50, 6, Random(seed))
        assert len(set(drawn)) == 6
        counts.update(drawn)
    # 18,000 draws over 50: 360 each, standard deviation 18.8; "first n" would leave most at 0
    assert min(counts[i] for i in range(50)) > 260
    assert max(counts.values()) < 460


def test_an_example_is_a_function_of_seed_epoch_and_query() -> None:
    def draw(query: str, seed: int, epoch: int) -> list[dict]:
        return draw_examples(query, IDS, [0.0] * 10, MixSettings(), LANGUAGES, seed, epoch)

    assert draw("q", 1, 0) == draw("q", 1, 0)
    others = [draw("q", 1, 0), draw("q", 1, 1), draw("q", 2, 0), draw("r", 1, 0)]
    assert len({str(example) for example in others}) == 4


def test_scores_and_texts_follow_their_ids(tmp_path: Path) -> None:
    examples = run(tmp_path, MixSettings(n_way=4, epochs=3)).to_pylist()
    assert len(examples) == 15
    assert [row["position"] for row in examples] == list(range(15))
    for row in examples:
        assert row["scores"] == [float(i.removeprefix("p")) for i in row["passage_ids"]]
        assert row["passages"] == [f"{i} {lang}" for i, lang in zip(row["passage_ids"], row["langs"], strict=True)]
        assert row["query"] == f"query {row['query_id'].removeprefix('q')}"


def test_every_training_query_once_an_epoch_and_no_other(tmp_path: Path) -> None:
    ids = [row["query_id"] for row in run(tmp_path, MixSettings(n_way=2, epochs=2)).to_pylist()]
    assert sorted(ids[:5]) == sorted(ids[5:]) == ["q0", "q1", "q2", "q3", "q4"]
    assert ids[:5] == training_order(["q0", "q1", "q2", "q3", "q4"], 7, 0)
    assert ids[:5] != ids[5:]


def test_round_robin_repeats_the_entry_in_every_language(tmp_path: Path) -> None:
    rows = run(tmp_path, MixSettings(strategy="round_robin", n_way=3)).to_pylist()
    assert len(rows) == 15
    for start in range(0, 15, 3):
        entry = rows[start : start + 3]
        assert [set(row["langs"]) for row in entry] == [{"de"}, {"fr"}, {"zh"}]
        assert entry[0]["passage_ids"] == entry[1]["passage_ids"] == entry[2]["passage_ids"]
        assert entry[0]["scores"] == entry[2]["scores"]


def test_the_source_language_reads_the_passages_themselves(tmp_path: Path) -> None:
    rows = run(tmp_path, MixSettings(strategy="single", language="en", n_way=2), languages=("en",)).to_pylist()
    assert rows[0]["passages"] == [f"T {i} en" for i in rows[0]["passage_ids"]]


def test_a_group_shares_its_passages_with_each_querys_own_scores(tmp_path: Path) -> None:
    inputs = tables()
    rows = [
        row | {"scores": [i + 100.0 * int(row["query_id"][1:]) for i in range(10)]}
        for row in inputs["score"]["scores"].to_pylist()
    ]
    inputs["score"]["scores"] = SCORES.from_rows(rows)
    plain = {row["query_id"]: row for row in run(tmp_path / "plain", MixSettings(n_way=3), inputs).to_pylist()}
    grouped = run(tmp_path / "grouped", MixSettings(n_way=3, group=2), inputs).to_pylist()
    order = [row["query_id"] for row in grouped]
    assert order == training_order([f"q{i}" for i in range(5)], 7, 0, group=2)
    assert order[5] == order[0]
    assert [row["position"] for row in grouped] == list(range(6))
    for first in (0, 2, 4):
        pair = grouped[first : first + 2]
        ids = [i for row in pair for i in plain[row["query_id"]]["passage_ids"]]
        langs = [lang for row in pair for lang in plain[row["query_id"]]["langs"]]
        for row in pair:
            assert (row["passage_ids"], row["langs"]) == (ids, langs)
            assert row["passages"] == [f"{i} {lang}" for i, lang in zip(ids, langs, strict=True)]
            assert row["scores"] == [int(i[1:]) + 100.0 * int(row["query_id"][1:]) for i in ids]


def test_a_group_without_all_scores_names_the_pair(tmp_path: Path) -> None:
    inputs = tables()
    rows = inputs["score"]["scores"].to_pylist()
    rows = [row | {"passage_ids": IDS[:3], "scores": [0.0] * 3} if row["query_id"] == "q2" else row for row in rows]
    inputs["score"]["scores"] = SCORES.from_rows(rows)
    with pytest.raises(TableError, match=r"but query 'q2' has none for passage 'p[3-9]'; raise select.by.top_k"):
        run(tmp_path, MixSettings(n_way=3, group=5, epochs=4), inputs)


def test_draws_come_from_the_head_if_asked(tmp_path: Path) -> None:
    rows = run(tmp_path, MixSettings(n_way=3, draw_from=4, epochs=20)).to_pylist()
    assert {i for row in rows for i in row["passage_ids"]} == {"p0", "p1", "p2", "p3"}


def test_a_passage_that_lacks_a_language_is_never_drawn(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "mix", tables(missing=(("p3", "fr"),)))
    mix(workspace, MixSettings(n_way=6, epochs=40), "en", LANGUAGES, seed=1)
    drawn = {i for row in workspace.output("examples").to_pylist() for i in row["passage_ids"]}
    assert drawn == set(IDS) - {"p3"}
    assert workspace.facts["candidates_left_out"] == 5
    assert workspace.warnings == ["5 candidates lack a translation and were not drawn"]


def test_queries_with_too_few_candidates_are_rejected_by_id(tmp_path: Path) -> None:
    inputs = tables()
    rows = inputs["score"]["scores"].to_pylist()
    rows = [row | {"passage_ids": ["p1"], "scores": [1.0]} if row["query_id"] == "q2" else row for row in rows]
    inputs["score"]["scores"] = SCORES.from_rows(rows)
    workspace = LocalWorkspace(tmp_path, "mix", inputs)
    mix(workspace, MixSettings(n_way=2), "en", LANGUAGES, seed=1)
    assert {row["query_id"] for row in workspace.output("examples").to_pylist()} == {"q0", "q1", "q3", "q4"}
    [rejected] = workspace.output("rejected").to_pylist()
    assert (rejected["id"], rejected["reason"]) == (
        "q2",
        "1 candidates with a text in every mixed language, n_way is 2",
    )


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no training query has 11 candidates with texts in de, fr, zh"):
        run(tmp_path, MixSettings(n_way=11))


def test_a_missing_text_is_named() -> None:
    inputs = tables(missing=(("p3", "fr"),))
    texts = Texts(inputs["sources"]["passages"], inputs["translate"]["translations"], ("fr", "de"))
    assert texts.read(["p3", "p4"], ["de", "fr"]) == ["p3 de", "p4 fr"]
    with pytest.raises(TableError, match="passage 'p3' has no text in 'fr'"):
        texts.read(["p3"], ["fr"])
    with pytest.raises(TableError, match=r"1 scored passages do not exist in the source, among them \['x'\]"):
        texts.complete(["x"])
