import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.fs as pafs
import pytest

from cluster.locations import SourceError
from distill.meta.settings import BundledQuestions, LareqaQuestions, QuestionFiles, SentencePairFiles
from distill.meta.sources.stage import ingest
from distill.sources import corpus
from tests.distill.meta.samples import write_lines
from tests.workspaces import LocalWorkspace


def taken(tmp_path: Path, source: Any, max_rejected: float = 0.0) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, "sources")
    ingest(workspace, source, max_rejected)
    return workspace


def rows(workspace: LocalWorkspace, table: str) -> list[dict[str, Any]]:
    return workspace.output(table).to_pylist()


# --- bundled ---------------------------------------------------------------------------------------------------------


def test_the_bundled_questions(tmp_path: Path) -> None:
    workspace = taken(tmp_path, BundledQuestions())
    questions, answers = workspace.output("questions"), workspace.output("answers")
    assert len(questions) == len(answers) == 240 * 7
    assert len(pc.unique(questions["article"])) == 60
    first = questions.filter(pc.equal(questions["question_id"], "nature-01-a.question_de")).to_pylist()
    passage = corpus.rows()[0]
    assert first == [
        {
            "question_id": "nature-01-a.question_de",
            "xling_id": "nature-01-a.question",
            "lang": "de",
            "text": passage["queries"]["question"]["de"],
            "article": "nature-01",
            "split": "",
        }
    ]
    [answer] = answers.filter(pc.equal(answers["answer_id"], "nature-01-a_fa")).to_pylist()
    assert answer["text"] == f"{passage['title']['fa']} {passage['text']['fa']}"
    answered = workspace.output("answered")
    mine = answered.filter(pc.equal(answered["xling_id"], "nature-01-a.question"))["answer_id"].to_pylist()
    assert mine == sorted(f"nature-01-a_{lang}" for lang in corpus.LANGUAGES)
    siblings = sum(len(row["partially_relevant"]["question"]) for row in corpus.rows())
    assert len(answered) == (240 + siblings) * 7
    assert not len(workspace.output("rejected"))


# --- LAReQA ----------------------------------------------------------------------------------------------------------

CONTEXTS = {"en": "One bee. Two bees. A hive.", "de": "Eine Biene. Zwei Bienen. Ein Stock."}
BREAKS = {"en": [[0, 8], [9, 18], [19, 26]], "de": [[0, 11], [12, 24], [25, 35]]}


def paragraph(lang: str, asked: dict[str, int]) -> dict[str, Any]:
    qas = [
        {"id": name, "question": f"{name} {lang}?", "answers": [{"text": "x", "answer_start": start}]}
        for name, start in asked.items()
    ]
    return {"context": CONTEXTS[lang], "qas": qas, "sentence_breaks": BREAKS[lang]}


def lareqa(folder: Path, files: dict[str, list[dict[str, Any]]]) -> LareqaQuestions:
    folder.mkdir(exist_ok=True)
    for lang, data in files.items():
        (folder / f"{lang}.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return LareqaQuestions(path=str(folder))


def parallel() -> dict[str, list[dict[str, Any]]]:
    return {
        "en": [
            {"title": "Bees", "paragraphs": [paragraph("en", {"q1": 4, "q2": 9}), paragraph("en", {"q3": 25})]},
            {"title": "Hives", "paragraphs": [paragraph("en", {"q4": 0})]},
        ],
        "de": [
            {"title": "Bienen", "paragraphs": [paragraph("de", {"q1": 5, "q2": 20}), paragraph("de", {"q3": 30})]},
            {"paragraphs": [paragraph("de", {"q4": 10})]},
        ],
    }


def test_lareqa_by_hand(tmp_path: Path) -> None:
    workspace = taken(tmp_path, lareqa(tmp_path / "xquad-r", parallel()))
    asked = {row["question_id"]: row for row in rows(workspace, "questions")}
    assert list(asked) == ["q1_de", "q1_en", "q2_de", "q2_en", "q3_de", "q3_en", "q4_de", "q4_en"]
    assert asked["q2_de"]["text"] == "q2 de?"
    assert {name: row["article"] for name, row in asked.items() if name[-2:] == "de"} == {
        "q1_de": "Bees", "q2_de": "Bees", "q3_de": "Bees", "q4_de": "Hives",
    }  # fmt: skip
    texts = {row["answer_id"]: row["text"] for row in rows(workspace, "answers")}
    assert len(texts) == 18
    assert [texts[f"de_0_1_{i}"] for i in range(3)] == ["Eine Biene.", "Zwei Bienen.", "Ein Stock."]
    assert texts["en_1_0_2"] == "A hive."
    assert [(row["xling_id"], row["answer_id"]) for row in rows(workspace, "answered")] == [
        ("q1", "de_0_0_0"), ("q1", "en_0_0_0"), ("q2", "de_0_0_1"), ("q2", "en_0_0_1"),
        ("q3", "de_0_1_2"), ("q3", "en_0_1_2"), ("q4", "de_1_0_0"), ("q4", "en_1_0_0"),
    ]  # fmt: skip
    assert workspace.warnings == []


def test_lareqa_candidates_with_their_paragraph(tmp_path: Path) -> None:
    source = lareqa(tmp_path / "xquad-r", parallel()).model_copy(update={"context": True})
    texts = {row["answer_id"]: row["text"] for row in rows(taken(tmp_path, source), "answers")}
    assert texts["en_0_0_1"] == f"Two bees.{CONTEXTS['en']}"


def test_articles_that_share_a_question_are_one(tmp_path: Path) -> None:
    """Files that do not hold the same articles in the same order, as MLQA-R's: positions say nothing, shared questions do."""
    files = parallel()
    files["de"] = [
        {"title": "Nur hier", "paragraphs": [paragraph("de", {"q9": 0})]},
        {"title": "Stöcke", "paragraphs": [paragraph("de", {"q4": 0})]},
        {"title": "Nur hier", "paragraphs": [paragraph("de", {"q8": 0})]},
    ]
    workspace = taken(tmp_path, lareqa(tmp_path / "mlqa-r", files))
    found = {row["question_id"]: row["article"] for row in rows(workspace, "questions")}
    assert found == {
        "q1_en": "Bees", "q2_en": "Bees", "q3_en": "Bees", "q4_de": "Hives", "q4_en": "Hives", "q8_de": "Nur hier", "q9_de": "Nur hier",
    }  # fmt: skip
    assert [warning.partition("differ: ")[2] for warning in workspace.warnings] == [
        "articles by language: de 3, en 2",
        "de lacks 3 of 6 questions, among them q1, q2, q3",
        "en lacks 2 of 6 questions, among them q8, q9",
    ]


def test_what_lareqa_files_get_wrong_is_rejected_with_its_place(tmp_path: Path) -> None:
    files = parallel()
    first, second = files["en"][0]["paragraphs"]
    first["qas"][0]["answers"][0]["answer_start"] = 8
    first["qas"][1]["question"] = " "
    second["sentence_breaks"] = [[0, 8], [7, 18]]
    workspace = taken(tmp_path, lareqa(tmp_path / "xquad-r", files), max_rejected=0.9)
    found = [(row["line"], row["id"], row["field"], row["reason"]) for row in rows(workspace, "rejected")]
    assert found == [
        (1, "q1", "data[0].paragraphs[0].qas[0].answers", "answer_start 8 lies in no sentence"),
        (1, "", "data[0].paragraphs[0].qas[1].question", "is missing, empty or no text"),
        (2, "", "data[0].paragraphs[1].qas[0]", "its paragraph was rejected"),
        (
            2,
            "",
            "data[0].paragraphs[1].sentence_breaks[1]",
            "[7, 18], expected [start, end] after 8, within the context",
        ),
    ]
    assert [row["question_id"] for row in rows(workspace, "questions")] == ["q1_de", "q2_de", "q3_de", "q4_de", "q4_en"]


def test_files_that_are_no_lareqa(tmp_path: Path) -> None:
    folder = tmp_path / "xquad-r"
    source = lareqa(folder, {})
    (folder / "en.json").write_text("[]")
    with pytest.raises(SourceError, match=r"en\.json is not of LAReQA's layout: an object with `data`"):
        taken(tmp_path, source)
    (folder / "en.json").write_text("{")
    with pytest.raises(SourceError, match=r"en\.json cannot be read: Expecting property name"):
        taken(tmp_path, source)
    (folder / "readme.md").write_text("")
    with pytest.raises(
        SourceError, match=r"readme\.md is no file of LAReQA's layout, whose folders hold only \{language\}\.json"
    ):
        taken(tmp_path, source)


# --- question files --------------------------------------------------------------------------------------------------

QUESTION_ROWS = [
    {"query_id": "1_en", "xling_id": "1", "lang": "en", "text": "Why?", "article": 0, "part": "train"},
    {"query_id": "1_de", "xling_id": "1", "lang": "de", "text": "Warum?", "article": 0, "part": "train"},
    {"query_id": "2_en", "xling_id": "2", "lang": "en", "text": "How?", "article": "Bee dance", "part": "test"},
]
CANDIDATE_ROWS = [
    {"cand_id": "en0", "lang": "en", "sentence": "So.", "article": 0, "part": "train"},
    {"cand_id": "de0", "lang": "de", "sentence": "Darum.", "article": 0, "part": "train"},
    {"cand_id": "en1", "lang": "en", "sentence": "Thus.", "article": "Bee dance", "part": "test"},
]
QREL_LINES = ["1_en 0 en0 1", "1_en 0 de0 2", "2_en 0 en1 1", "1_de 0 en0 0"]


def question_files(
    folder: Path,
    asked: list[Any] = QUESTION_ROWS,
    given: list[Any] = CANDIDATE_ROWS,
    qrels: list[Any] = QREL_LINES,
    split_field: str | None = "part",
) -> QuestionFiles:
    return QuestionFiles(
        questions=write_lines(folder / "questions.jsonl", asked),
        candidates=write_lines(folder / "candidates.jsonl", given),
        qrels=write_lines(folder / "qrels.txt", qrels),
        split_field=split_field,
    )


def test_question_files(tmp_path: Path) -> None:
    """One version of a question is judged, both are answered; grade 0 answers nothing; splits and articles are the files'."""
    workspace = taken(tmp_path, question_files(tmp_path))
    assert [row["question_id"] for row in rows(workspace, "questions")] == ["1_de", "1_en", "2_en"]
    assert [(row["article"], row["split"]) for row in rows(workspace, "questions")] == [
        ("0", "train"), ("0", "train"), ("Bee dance", "test"),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in rows(workspace, "answered")] == [("1", "de0"), ("1", "en0"), ("2", "en1")]
    assert [row["answer_id"] for row in rows(workspace, "answers")] == ["de0", "en0", "en1"]
    assert workspace.facts == {"languages": ["de", "en"], "articles": 2, "questions": 2}


def test_without_a_split_field_there_is_no_split(tmp_path: Path) -> None:
    workspace = taken(tmp_path, question_files(tmp_path, split_field=None))
    assert {row["split"] for table in ("questions", "answers") for row in rows(workspace, table)} == {""}


def test_bad_rows_are_rejected_and_what_hangs_on_them(tmp_path: Path) -> None:
    first = QUESTION_ROWS[0]
    asked: list[Any] = [*QUESTION_ROWS, {**first, "query_id": "3", "xling_id": "3", "text": " "}, "{"]
    asked.append({**first, "query_id": 4, "xling_id": 4, "lang": "English"})
    asked.append({**QUESTION_ROWS[0], "query_id": "5", "xling_id": "5"})
    given = [*CANDIDATE_ROWS, {**CANDIDATE_ROWS[0], "cand_id": "bad", "part": "later"}]
    workspace = taken(tmp_path, question_files(tmp_path, asked, given, [*QREL_LINES, "3 0 en0 1", "1_en 0 bad 1"]), 0.7)
    found = [
        (row["source"].rpartition("/")[2], row["line"], row["id"], row["field"], row["reason"])
        for row in rows(workspace, "rejected")
    ]
    assert found == [
        ("questions.jsonl", 4, "3", "text", "is empty"),
        ("questions.jsonl", 5, "", "", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("questions.jsonl", 6, "4", "lang", "'English' is no language code (en, zh, pt-BR)"),
        ("candidates.jsonl", 4, "bad", "part", "'later', expected train, dev, test"),
        ("qrels.txt", 5, "3", "question", "'3' was rejected, so its judgement is too"),
        ("qrels.txt", 6, "1_en", "candidate", "'bad' was rejected, so its judgement is too"),
        ("questions.jsonl", 7, "5", "", "no candidate answers the question"),
    ]
    assert [row["question_id"] for row in rows(workspace, "questions")] == ["1_de", "1_en", "2_en"]
    with pytest.raises(SourceError, match=r"questions\.jsonl: 3 of 7 rows rejected, more than max_rejected 0\.1"):
        taken(tmp_path, question_files(tmp_path, asked, given), 0.1)


MOVED, LATER = ({**QUESTION_ROWS[1], **changed} for changed in ({"article": 1}, {"part": "dev"}))
FAULTS: dict[str, dict[str, Any]] = {
    r"question more than once: question_id '1_en' in .*line 1 and .*line 4": {
        "asked": [*QUESTION_ROWS, QUESTION_ROWS[0]]
    },
    r"version of a question more than once: xling_id '1' lang 'en'": {
        "asked": [*QUESTION_ROWS, {**QUESTION_ROWS[0], "query_id": "x"}]
    },
    r"candidate more than once: answer_id 'en0'": {"given": [*CANDIDATE_ROWS, CANDIDATE_ROWS[0]]},
    r"1 questions have versions of different articles, among them '1': '0' in en \(.*line 1\), '1' in de": {
        "asked": [QUESTION_ROWS[0], MOVED, QUESTION_ROWS[2]]
    },
    r"different splits, among them '1'": {"asked": [QUESTION_ROWS[0], LATER, QUESTION_ROWS[2]]},
    r"1 answers are of another article than their question, among them 'de0' \('0'\) of question '2' \('Bee dance'; .*line 5\)": {
        "qrels": [*QREL_LINES, "2_en 0 de0 1"]
    },
    r"1 of 4 judgements are of questions or candidates .*: question '7' \(line 5\)": {
        "qrels": [*QREL_LINES, "7 0 de0 1"]
    },
    r"1 of 4 judgements are .*: candidate 'no' \(line 5\)": {"qrels": [*QREL_LINES, "2_en 0 no 1"]},
    r"3 of 3 rows rejected, more than max_rejected 0\.0: line 1: no candidate answers": {"qrels": []},
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_of_a_whole_source(tmp_path: Path, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        taken(tmp_path, question_files(tmp_path, **FAULTS[message]))


def test_missing_files_and_fields(tmp_path: Path) -> None:
    source = question_files(tmp_path)
    with pytest.raises(SourceError, match=r"nowhere\.jsonl does not exist"):
        taken(tmp_path, source.model_copy(update={"candidates": str(tmp_path / "nowhere.jsonl")}))
    with pytest.raises(SourceError, match=r"qrels\.txt is of no known format; names end in \.jsonl or \.jsonl\.gz"):
        taken(tmp_path, source.model_copy(update={"candidates": source.qrels}))
    with pytest.raises(SourceError, match=r"questions\.jsonl line 1: no field 'fold'; it has 'query_id', 'xling_id'"):
        taken(tmp_path, source.model_copy(update={"split_field": "fold"}))


# --- sentence pairs --------------------------------------------------------------------------------------------------


def pair_files(folder: Path, **changed: list[Any]) -> SentencePairFiles:
    first = {
        "id": 0,
        "score": 5,
        "s1": {"en": "A plane.", "de": "Ein Flugzeug."},
        "s2": {"en": "A jet.", "de": "Ein Jet."},
    }
    second = {**first, "id": 1, "score": 1.25}
    files = {
        split: write_lines(folder / f"{split}.jsonl", changed.get(split, [first, second]))
        for split in ("train", "dev", "test")
    }
    return SentencePairFiles.model_validate(files)


def test_sentence_pairs(tmp_path: Path) -> None:
    found = rows(taken(tmp_path, pair_files(tmp_path)), "sentence_pairs")
    assert [(row["pair_id"], row["lang"], row["score"], row["split"]) for row in found] == [
        (f"{split}/{number}", lang, score, split)
        for split in ("dev", "test", "train")
        for number, score in ((0, 1.0), (1, 0.25))
        for lang in ("de", "en")
    ]
    assert (found[0]["first"], found[0]["second"]) == ("Ein Flugzeug.", "Ein Jet.")


def test_bad_sentence_pairs(tmp_path: Path) -> None:
    sides = {"s1": {"en": "A.", "de": "B."}, "s2": {"en": "C."}}
    bad = [
        {"id": 0, "score": 4, **sides},
        {"id": 1, "score": -0.5, "s1": {"en": "A."}, "s2": {"en": "C."}},
        {"id": 2, "score": True, "s1": {"en": "A."}, "s2": {"en": "C."}},
        {"id": 3, "score": 1, "s1": "A.", "s2": {"en": "C."}},
        {"id": 4, "score": 1, "s1": {"en": " "}, "s2": {"en": "C."}},
    ]
    workspace = taken(tmp_path, pair_files(tmp_path, dev=bad), 0.9)
    found = [(row["line"], row["id"], row["field"], row["reason"]) for row in rows(workspace, "rejected")]
    assert found == [
        (1, "0", "s2", "has no sentence in de, which the other side has"),
        (2, "1", "score", "-0.5, expected a number from 0 to 5 (source.max_score)"),
        (3, "2", "score", "True, expected a number from 0 to 5 (source.max_score)"),
        (4, "3", "s1", "expected an object of sentences by language"),
        (5, "4", "s1", "is empty in en"),
    ]
    with pytest.raises(SourceError, match=r"sentence pair more than once: pair_id 'dev/0' lang 'en'"):
        taken(tmp_path, pair_files(tmp_path, dev=[bad[0] | {"s1": {"en": "A."}}] * 2))
    with pytest.raises(SourceError, match=r"dev\.jsonl line 1: no field 's2'; it has 'id', 'score', 's1'"):
        taken(tmp_path, pair_files(tmp_path, dev=[{"id": 0, "score": 1, "s1": {}}]))
    with pytest.raises(SourceError, match=r"test\.jsonl holds no sentence pair"):
        taken(tmp_path, pair_files(tmp_path, test=[]))


def scored(folder: Path, scores: dict[str, list[float]], **settings: Any) -> SentencePairFiles:
    files = {
        split: write_lines(
            folder / f"{split}.jsonl",
            [{"id": i, "score": score, "s1": {"en": "A."}, "s2": {"en": "C."}} for i, score in enumerate(found)],
        )
        for split, found in scores.items()
    }
    return SentencePairFiles.model_validate({**files, **settings})


def test_scores_of_another_scale(tmp_path: Path) -> None:
    """From 0 to 1 with the highest score 5, a pair of equal sentences would be trained as a fifth alike."""
    fine = {"train": [0, 2.5, 4.8], "dev": [5.0], "test": [2.51]}
    found = rows(taken(tmp_path, scored(tmp_path, fine)), "sentence_pairs")
    assert {row["pair_id"]: row["score"] for row in found} == {
        "train/0": 0.0, "train/1": 0.5, "train/2": pytest.approx(0.96), "dev/0": 1.0, "test/0": pytest.approx(0.502),
    }  # fmt: skip
    low = fine | {"dev": [0.25, 1.0]}
    message = (
        r"the highest score of \S+dev\.jsonl is 1 and source\.max_score 5, by which scores are divided: "
        r"its pairs count as at most 0\.2 of 1 alike"
    )
    with pytest.raises(SourceError, match=message + r"; set source\.max_score to the highest score"):
        taken(tmp_path, scored(tmp_path, low))
    workspace = taken(tmp_path / "set", scored(tmp_path, low, max_score=5))
    assert len(rows(workspace, "sentence_pairs")) == 6
    [warning] = workspace.warnings
    assert re.fullmatch(message, warning)
    assert not taken(tmp_path / "one", scored(tmp_path, {split: [0.25, 1.0] for split in fine}, max_score=1)).warnings


def test_a_score_above_the_scale(tmp_path: Path) -> None:
    above = {"train": [5.0], "dev": [5.0, 4.0, 5.5], "test": [5.0]}
    with pytest.raises(
        SourceError,
        match=r"dev\.jsonl line 3: the score 5\.5 is above source\.max_score 5, by which scores are divided",
    ):
        taken(tmp_path, scored(tmp_path, above), 1.0)


# --- object stores ---------------------------------------------------------------------------------------------------


def test_files_in_an_object_store(s3_bucket: str, tmp_path: Path) -> None:
    filesystem, root = pafs.FileSystem.from_uri(s3_bucket)
    put = {"xquad-r/en.json": json.dumps({"data": parallel()["en"]}).encode()}
    for name, found in (("questions", QUESTION_ROWS), ("candidates", CANDIDATE_ROWS)):
        put[f"{name}.jsonl.gz"] = gzip.compress("\n".join(map(json.dumps, found)).encode())
    put["qrels"] = "\n".join(QREL_LINES).encode()
    for name, content in put.items():
        with filesystem.open_output_stream(f"{root}/meta/{name}", compression=None) as stream:
            stream.write(content)
    base = f"{s3_bucket}/meta"
    files = QuestionFiles(
        questions=f"{base}/questions.jsonl.gz", candidates=f"{base}/candidates.jsonl.gz", qrels=f"{base}/qrels"
    )
    assert len(rows(taken(tmp_path / "files", files), "answered")) == 3
    assert len(rows(taken(tmp_path / "lareqa", LareqaQuestions(path=f"{base}/xquad-r")), "questions")) == 4
