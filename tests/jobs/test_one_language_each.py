"""Whole jobs on collections whose documents exist in one language each."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs_small import SmallJob

QUICK = (
    ("train.steps", 2),
    ("train.checkpoint_every", 2),
    ("train.log_every", 1),
    ("select.by.top_k", 12),
    ("mix.n_way", 2),
)


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def articles(folder: Path) -> None:
    """60 articles, 20 of each of three languages, those in English in German too; queries in English, each about one of each language."""
    topics = ["bees", "bridge", "maps", "light", "river", "stone", "honey", "city", "sun", "clock"]
    passages, queries, judged = [], [], []
    for number in range(20):
        text = f"{topics[number % 10]} number {number} of the collection"
        passages += [
            {"id": f"en{number}", "lang": "en", "text": text},
            {"id": f"en{number}", "lang": "de", "text": f"de {text}"},
        ]
        passages += [{"id": f"{lang}{number}", "lang": lang, "text": f"{lang} {text}"} for lang in ("de", "ko")]
        split = "test" if number % 4 == 0 else "train"
        queries.append({"id": f"q{number}", "text": f"{topics[number % 10]} {number}", "split": split})
        judged += [f"q{number} 0 {lang}{number} 1\n" for lang in ("en", "de", "ko")]
    lines(folder / "passages.jsonl", passages)
    lines(folder / "queries.jsonl", queries)
    (folder / "judged.qrels").write_text("".join(judged))


def searched(folder: Path) -> None:
    """Documents in Korean and Japanese, each in one of them; the query of each is a document itself, under its id."""
    rows = [{"id": f"{lang}{n}", "lang": lang, "text": f"bees {n}"} for lang in ("ko", "ja") for n in range(6)]
    lines(folder / "passages.jsonl", rows)
    lines(folder / "queries.jsonl", [{"id": "ko0", "text": "bees 0"}, {"id": "ja1", "text": "bees 1"}])
    (folder / "judged.qrels").write_text("ko0 0 ko3 1\nko0 0 ja3 1\nja1 0 ja2 1\nja1 0 gone 1\n")


@pytest.fixture
def job(ray_session: None, tiny_cross_encoder: Path, tmp_path: Path) -> SmallJob:
    articles(tmp_path / "data")
    fields = {"lang": "lang"}
    overrides = (*QUICK, ("languages", ["de"]), ("source.languages", ["de", "ko"]), ("source.passage_fields", fields))
    return SmallJob(tmp_path, tiny_cross_encoder, overrides=overrides)


def test_articles_of_other_languages_are_searched_and_not_trained_on(job: SmallJob) -> None:
    said = job.run_here().done().out
    assert (
        "40 passages have no text in 'en' (de 20, ko 20): they are documents to search, but the student is not" in said
    )
    documents = job.table("index", "documents").to_pylist()
    assert len(documents) == 80
    trained = {i for row in job.table("mix", "examples").to_pylist() for i in row["passage_ids"]}
    assert trained <= {f"en{n}" for n in range(20)}
    measured = job.table("evaluate", "measurements").to_pylist()
    counts = {
        row["collection"]: len({r["query_id"] for r in measured if r["collection"] == row["collection"]})
        for row in measured
    }
    assert counts == {"en": 5, "de": 5, "ko": 5, "pooled": 5}


def test_articles_are_translated_into_the_source_language_and_trained_on(job: SmallJob, tmp_path: Path) -> None:
    rows = [{"id": f"{lang}{n}", "text": f"{lang} {n} in English"} for lang in ("de", "ko") for n in range(20)]
    lines(tmp_path / "en.jsonl", rows)
    lines(tmp_path / "de.jsonl", [{"id": f"ko{n}", "text": f"ko {n} auf Deutsch"} for n in range(20)])
    files = json.dumps({"en": [str(tmp_path / "en.jsonl")], "de": [str(tmp_path / "de.jsonl")]})
    arguments = ("--translate.elsewhere", "translate", "--translate.by.files", files)
    said = job.run_here(*arguments, "--until", "mix", "--select.by.top_k", "60").done().out
    assert "have no text in" not in said
    candidates = {i for row in job.table("select", "candidates").to_pylist() for i in row["passage_ids"]}
    assert len(candidates) == 60
    assert {len(row["passage_ids"]) for row in job.table("score", "scores").to_pylist()} == {60}
    trained = {i for row in job.table("mix", "examples").to_pylist() for i in row["passage_ids"]}
    assert trained & {f"ko{n}" for n in range(20)}


def test_a_collection_in_languages_that_are_not_the_jobs_is_evaluated(job: SmallJob, tmp_path: Path) -> None:
    searched(tmp_path / "searched")
    source = {
        "type": "files", "root": str(tmp_path / "searched"), "passages": ["passages.jsonl"], "queries": ["queries.jsonl"],
        "qrels": ["judged.qrels"], "passage_fields": {"lang": "lang"}, "languages": ["ko", "ja"], "split": "test",
        "drop_self_matches": True,
    }  # fmt: skip
    whole = SmallJob(
        job.folder, job.teacher, overrides=(*job.overrides, ("evaluate.source", source), ("max_rejected", 0.3))
    )
    said = whole.run_here().done().out
    assert "1 of 4 judgements are of queries or passages that exist nowhere and are left out" in said
    assert len(whole.table("index", "documents")) == 12
    run = whole.table("retrieve", "run").to_pylist()
    assert not [row for row in run if row["passage_id"].partition("@")[0] == row["query_id"]]
    measured = whole.table("evaluate", "measurements").to_pylist()
    queries = {(row["collection"], row["query_id"]) for row in measured}
    assert queries == {("ko", "ko0"), ("ja", "ko0"), ("ja", "ja1"), ("pooled", "ko0"), ("pooled", "ja1")}


def test_a_source_without_passages_in_the_source_language_is_refused_after_it_was_read(job: SmallJob) -> None:
    finished = job.run_here("--source_lang", "fr", "--source.languages", '["de", "ko"]')
    assert finished.code == 1
    assert "the source has no passage in 'fr' (source_lang), so that nothing can be trained on" in finished.err
    assert list(finished.reused) == ["sources"]
