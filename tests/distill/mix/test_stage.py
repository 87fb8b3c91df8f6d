from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from distill.mix.draws import training_order
from distill.mix.settings import MixSettings, NegativeSettings
from distill.mix.stage import mix
from distill.mix.texts import Texts
from distill.tables import CANDIDATES, PARTS, PASSAGES, QRELS, QUERIES, SCORES, TRANSLATIONS, TableError
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


def test_fewer_queries_are_drawn_by_their_ids_once_for_all_epochs(tmp_path: Path) -> None:
    """By SHA-256 of `7/queries/q0` and so on the order is q1 q4 q0 q2 q3; a number above that of the queries takes all."""
    workspace = LocalWorkspace(tmp_path, "mix", tables())
    mix(workspace, MixSettings(n_way=2, epochs=2, queries=3), "en", LANGUAGES, seed=7)
    ids = [row["query_id"] for row in workspace.output("examples").to_pylist()]
    assert sorted(ids[:3]) == sorted(ids[3:]) == ["q0", "q1", "q4"]
    assert workspace.notes["queries_not_drawn"] == 2
    every = run(tmp_path / "all", MixSettings(n_way=2, queries=9)).to_pylist()
    assert len(every) == 5


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
        alone = plain[pair[0]["query_id"]]
        ids, langs = pair[0]["passage_ids"], pair[0]["langs"]
        assert (ids[:3], langs[:3]) == (alone["passage_ids"], alone["langs"])
        assert len(set(ids)) == 6
        for row in pair:
            assert (row["passage_ids"], row["langs"]) == (ids, langs)
            assert row["passages"] == [f"{i} {lang}" for i, lang in zip(ids, langs, strict=True)]
            assert row["scores"] == [int(i[1:]) + 100.0 * int(row["query_id"][1:]) for i in ids]


def test_passages_of_a_group_are_drawn_once_and_evenly(tmp_path: Path) -> None:
    """Five queries draw 2 of 10 passages each: all ten, in every group, and each query draws each of them alike."""
    examples = run(tmp_path, MixSettings(n_way=2, group=5, epochs=400)).to_pylist()
    counts: Counter[tuple[str, str]] = Counter()
    for row, query in zip(examples, range(len(examples)), strict=True):
        assert sorted(row["passage_ids"]) == IDS
        own = row["passage_ids"][2 * (query % 5) : 2 * (query % 5) + 2]
        counts.update((row["query_id"], passage_id) for passage_id in own)
    # 400 draws of 2 of 10: 80 each, standard deviation 8
    assert len(counts) == 50
    assert max(abs(count - 80) for count in counts.values()) < 36


@pytest.mark.parametrize("sampling", ["random", "first"])
def test_where_candidates_do_not_suffice_a_passage_counts_once(tmp_path: Path, sampling: str) -> None:
    """Three queries want 4 passages each of ten: the third has two left, and the other two are there again without a score."""
    settings = MixSettings.model_validate({"n_way": 4, "group": 3, "sampling": sampling, "epochs": 5})
    for row in run(tmp_path, settings).to_pylist():
        ids, scores = row["passage_ids"], row["scores"]
        assert sorted(set(ids)) == IDS
        assert [score is None for score in scores] == [i in ids[:place] for place, i in enumerate(ids)]
        assert len(ids) == 12
        assert scores.count(None) == 2


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


# --- the student's query language, no teacher, other ways to draw ------------------------------------------------------


def test_the_student_reads_queries_in_a_language_of_its_own(tmp_path: Path) -> None:
    workspace = LocalWorkspace(tmp_path, "mix", tables())
    mix(workspace, MixSettings(n_way=2, query_lang="de"), "en", LANGUAGES, seed=7)
    [example] = workspace.output("examples").to_pylist()
    assert (example["query_id"], example["query"], example["query_lang"]) == ("q0", "Anfrage", "de")
    rejected = workspace.output("rejected").to_pylist()
    assert [(row["source"], row["id"], row["field"]) for row in rejected] == [
        ("queries", f"q{i}", "text") for i in range(1, 5)
    ]
    assert {row["reason"] for row in rejected} == {"no text in 'de', the language of mix.query_lang"}


def without_teacher(judged: dict[str, list[str]]) -> dict:
    """Candidates p0 to p9 of every query, best first; judgements of grade 2."""
    inputs = tables()
    inputs["select"] = {
        "candidates": CANDIDATES.from_rows(
            {"query_id": q, "passage_ids": IDS, "selector": "x"} for q in ("q3", "q0", "q4", "q1", "q2", "t0")
        )
    }
    inputs["sources"]["parts"] = PARTS.empty()
    inputs["sources"]["qrels"] = QRELS.from_rows(
        {"query_id": q, "passage_id": i, "relevance": 2} for q, ids in judged.items() for i in ids
    )
    del inputs["score"]
    return inputs


def test_without_a_teacher_candidates_are_the_selectors_and_scores_are_null(tmp_path: Path) -> None:
    judged = {"q0": ["p5"], "q1": ["p9", "p2"], "q2": ["p0"], "q3": ["p1"]}
    workspace = LocalWorkspace(tmp_path, "mix", without_teacher(judged))
    mix(workspace, MixSettings(n_way=4, epochs=10, negatives=NegativeSettings()), "en", LANGUAGES, 7, None)
    examples = workspace.output("examples").to_pylist()
    assert len(examples) == 40
    assert {str(row["scores"]) for row in examples} == {"[None, None, None, None]"}
    for row in examples:
        assert row["passage_ids"][0] in judged[row["query_id"]]
        assert not set(row["passage_ids"][1:]) & set(judged[row["query_id"]])
    assert {row["passage_ids"][0] for row in examples if row["query_id"] == "q1"} == {"p2", "p9"}
    [rejected] = workspace.output("rejected").to_pylist()
    assert (rejected["id"], rejected["reason"]) == (
        "q4",
        "mix.negatives needs a positive, but no passage is judged relevant to the query",
    )


def test_every_epoch_has_another_pair_of_a_query(tmp_path: Path) -> None:
    judged = {"q0": ["p5"], "q1": ["p9", "p2"], "q2": ["p0"], "q3": ["p1"], "q4": [f"p{i}" for i in range(9)]}
    settings = MixSettings(n_way=2, sampling="pairs", epochs=9, negatives=NegativeSettings())
    workspace = LocalWorkspace(tmp_path, "mix", without_teacher(judged))
    mix(workspace, settings, "en", LANGUAGES, 7, None)
    pairs: dict[str, list[tuple[str, ...]]] = {}
    for row in workspace.output("examples").to_pylist():
        pairs.setdefault(row["query_id"], []).append(tuple(row["passage_ids"]))
    assert {query: len(set(found)) for query, found in pairs.items()} == dict.fromkeys(judged, 9)
    assert sorted(pairs["q0"]) == [("p5", i) for i in IDS if i != "p5"]
    assert sorted(pairs["q4"]) == [(i, "p9") for i in IDS[:9]]
    assert not len(workspace.output("rejected"))


def test_a_group_masks_pairs_that_were_not_scored(tmp_path: Path) -> None:
    inputs = tables()
    rows = inputs["score"]["scores"].to_pylist()
    rows = [
        row | {"passage_ids": IDS[:3], "scores": [0.0, 1.0, 2.0]} if row["query_id"] == "q2" else row for row in rows
    ]
    inputs["score"]["scores"] = SCORES.from_rows(rows)
    examples = run(tmp_path, MixSettings(n_way=3, group=5, missing="mask"), inputs).to_pylist()
    [narrow] = [row for row in examples if row["query_id"] == "q2"]
    known = {"p0": 0.0, "p1": 1.0, "p2": 2.0}
    ids = narrow["passage_ids"]
    first = [i not in ids[:place] for place, i in enumerate(ids)]
    assert narrow["scores"] == [known.get(i) if once else None for i, once in zip(ids, first, strict=True)]
    assert None in [score for score, once in zip(narrow["scores"], first, strict=True) if once]
    for row in examples:
        if row["query_id"] != "q2":
            assert row["scores"] == [float(i[1:]) if once else None for i, once in zip(ids, first, strict=True)]


def test_a_curriculum_goes_over_all_epochs(tmp_path: Path) -> None:
    """With this beta the last queries of the last epoch draw the first candidates, in order of their places."""
    examples = run(tmp_path, MixSettings(n_way=2, sampling="beta", max_beta=1e9, epochs=30)).to_pylist()
    assert {frozenset(row["passage_ids"]) for row in examples[5:]} == {frozenset({"p0", "p1"})}
    assert {i for row in examples[:1] for i in row["passage_ids"]} != {"p0", "p1"}


def test_queries_of_a_block_share_places_through_the_stage(tmp_path: Path) -> None:
    examples = run(tmp_path, MixSettings(n_way=4, shared_draws=2)).to_pylist()
    drawn = [(row["passage_ids"], row["langs"]) for row in examples]
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3] != drawn[4]


def test_shards_do_not_change_the_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MixSettings(n_way=4, sampling="beta", max_beta=5, shared_draws=3, epochs=2)
    whole = run(tmp_path / "whole", settings)
    monkeypatch.setattr("distill.mix.stage._EXAMPLES_PER_SHARD", 2)
    assert run(tmp_path / "cut", settings).equals(whole)
    assert len(list((tmp_path / "cut/mix/examples").iterdir())) == 6


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"sampling": "pairs"}, "sampling 'pairs' with n_way 6: a positive and a negative are 2"),
        ({"sampling": "beta"}, "max_beta 1 with sampling 'beta': 'beta' needs one above 1"),
        ({"max_beta": 3}, "max_beta 3 with sampling 'random'"),
        ({"sampling": "first", "draw_from": 8}, "draw_from 8 with sampling 'first'"),
        ({"sampling": "pairs", "n_way": 2, "shared_draws": 2}, "shared_draws 2 with sampling 'pairs'"),
        ({"missing": "mask"}, "missing 'mask' with group 1"),
        ({"languages": ["de", "de"]}, "names a language twice"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        MixSettings.model_validate(settings)


def test_passages_that_were_translated_into_the_source_language_are_drawn(tmp_path: Path) -> None:
    """p3 has no English text in the source but one among the translations; p4 has none, and is not drawn."""
    inputs = tables()
    passages = [row for row in inputs["sources"]["passages"].to_pylist() if row["passage_id"] not in {"p3", "p4"}]
    made = {
        "passage_id": "p3",
        "source_lang": "de",
        "lang": "en",
        "title": "",
        "text": "p3 made",
        "translator": "x",
        "flags": [],
    }
    translations = [*inputs["translate"]["translations"].to_pylist(), made]
    scores = [
        row | {"passage_ids": [i for i in IDS if i != "p4"], "scores": [float(i) for i in range(9)]}
        for row in inputs["score"]["scores"].to_pylist()
    ]
    inputs["sources"] |= {"passages": PASSAGES.from_rows(passages), "parts": PARTS.empty()}
    inputs["translate"]["translations"] = TRANSLATIONS.from_rows(translations)
    inputs["score"]["scores"] = SCORES.from_rows(scores)
    workspace = LocalWorkspace(tmp_path, "mix", inputs)
    mix(workspace, MixSettings(n_way=6, epochs=40), "en", LANGUAGES, seed=1)
    assert {i for row in workspace.output("examples").to_pylist() for i in row["passage_ids"]} == set(IDS) - {"p4"}
    english = LocalWorkspace(tmp_path, "english", inputs)
    mix(english, MixSettings(n_way=9, strategy="single", language="en"), "en", ("en",), seed=1)
    texts = {text for row in english.output("examples").to_pylist() for text in row["passages"]}
    assert "p3 made" in texts
    assert len(texts) == 9
