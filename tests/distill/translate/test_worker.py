"""The translate stage with an engine: what exists comes first, ids stay aligned, shards resume, rows that kill are left out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.locations import SourceError
from cluster.session import Session
from cluster.settings import PoolSettings
from cluster.stages import Runner, Stage, StageRun
from distill.mix.texts import Texts
from distill.tables import (
    MISSING_TRANSLATIONS,
    REFERENCE_TRANSLATIONS,
    REJECTED,
    TRANSLATION_REPORT,
    TRANSLATIONS,
)
from distill.text import with_text
from distill.translate.settings import (
    CTranslate2Translator,
    FlagSettings,
    PrecomputedTranslator,
    TranslateSettings,
    TranslationReportSettings,
)
from distill.translate.stage import translate
from distill.translate.worker import Pair, Pairs
from tests.distill.translate.checkpoints import save_marian
from tests.distill.translate.programs import dictionary, directions, prefix
from tests.distill.translate.test_stage import jsonl, parallel, passages
from tests.workspaces import LocalWorkspace

LENIENT = FlagSettings(length_ratios=dict.fromkeys(("de", "fr"), (0.01, 100.0)), min_characters=1000)


def run(
    tmp_path: Path,
    source: dict[str, pa.Table],
    name: str = "translate",
    languages: tuple[str, ...] = ("de",),
    **settings: Any,
) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, name, {"sources": source})
    given = {"by": dictionary(), "flags": LENIENT, "passages_per_shard": 2, "max_missing": 1.0, **settings}
    translate(workspace, TranslateSettings(**given), "en", languages)
    TRANSLATIONS.check(workspace.output("translations"))
    MISSING_TRANSLATIONS.check(workspace.output("missing_translations"))
    REJECTED.check(workspace.output("rejected"))
    return workspace


def short(workspace: LocalWorkspace, table: str = "translations") -> list[tuple[Any, ...]]:
    rows = workspace.output(table).to_pylist()
    return sorted((row["passage_id"], row["lang"], row["text"], row["translator"], row["flags"]) for row in rows)


def test_the_engine_translates_only_what_does_not_exist(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "de.jsonl", ("p3", "aus der Datei"), ("p5", ""))
    source = {
        "passages": passages("The bees dance.", "We see.", "They sing.", "They dance.", "The hive."),
        "parallel": parallel(("p1", "de", "von Menschen")),
    }
    log = tmp_path / "read"
    workspace = run(
        tmp_path, source, by=dictionary("", str(log)), precomputed=PrecomputedTranslator(files={"de": (file,)}),
        report=TranslationReportSettings(references=0),
    )  # fmt: skip
    assert short(workspace) == [
        ("p1", "de", "von Menschen", "source", []),
        ("p2", "de", "wir sehen.", "dictionary command", []),
        ("p3", "de", "aus der Datei", file, []),
        ("p4", "de", "sie tanzen.", "dictionary command", []),
        # What the file has of it is empty.
        ("p5", "de", "die Stock.", "dictionary command", []),
    ]
    assert sorted(log.read_text().splitlines()) == ["The hive.", "They dance.", "We see."]
    assert workspace.computed == [0, 1, 2]
    assert workspace.facts["empty"] == {"de": 1}
    assert len(workspace.output("missing_translations")) == 0


def test_precomputed_with_an_engine_for_the_rest(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "de.jsonl", ("p1", "eins"))
    source = {"passages": passages("one", "We see."), "parallel": TRANSLATIONS.empty()}
    by = PrecomputedTranslator(files={"de": (file,)})
    workspace = run(tmp_path, source, by=by, fallback=dictionary())
    assert short(workspace) == [("p1", "de", "eins", file, []), ("p2", "de", "wir sehen.", "dictionary command", [])]


def test_the_engine_translates_passages_that_exist_in_other_languages_only(tmp_path: Path) -> None:
    """f1 is in Chinese and German, and German comes first among the languages; f2 in Korean, f3 in all languages but English."""
    versions = [("f1", "zh", "hive"), ("f1", "de", "dance"), ("p1", "de", "eins"), ("f2", "ko", "sing")]
    versions += [("f3", "zh", "see"), ("f3", "de", "see")]
    source = {"passages": passages("one"), "parallel": parallel(*versions)}
    workspace = run(
        tmp_path, source, languages=("de", "zh"), by=directions(), elsewhere="translate",
        report=TranslationReportSettings(references=0),
    )  # fmt: skip
    made = [
        (row["passage_id"], row["source_lang"], row["lang"], row["text"])
        for row in workspace.output("translations").to_pylist()
        if row["translator"] != "source"
    ]
    assert sorted(made) == [
        ("f1", "de", "en", "de-en dance"),
        ("f2", "ko", "de", "ko-de sing"),
        ("f2", "ko", "en", "ko-en sing"),
        ("f2", "ko", "zh", "ko-zh sing"),
        ("f3", "de", "en", "de-en see"),
        ("p1", "en", "zh", "en-zh one"),
    ]
    assert len(workspace.output("translations")) == len(made) + len(versions)
    assert len(workspace.output("missing_translations")) == 0
    assert workspace.facts["only_elsewhere"] == {"de": 2, "ko": 1}
    left_out = run(tmp_path, source, "left_out", ("de", "zh"), by=directions())
    assert [row[:2] for row in short(left_out) if row[3] != "source"] == [("p1", "zh")]


def test_every_pair_has_one_row_whatever_is_doubtful(tmp_path: Path) -> None:
    texts = ["The bees dance.", "silent bees.", "copy bees.", "loop bees.", "cut bees."]
    workspace = run(tmp_path, {"passages": passages(*texts), "parallel": TRANSLATIONS.empty()}, languages=("de", "fr"))
    rows = short(workspace)
    assert [(row[0], row[1]) for row in rows] == [(f"p{i}", lang) for i in range(1, 6) for lang in ("de", "fr")]
    assert [row[4] for row in rows if row[1] == "fr"] == [[], ["empty"], ["copied"], ["repeated"], ["truncated"]]
    missing = workspace.output("missing_translations").to_pylist()
    assert missing == [{"passage_id": "p2", "lang": "de"}, {"passage_id": "p2", "lang": "fr"}]
    assert workspace.facts["missing"] == {"de": 1, "fr": 1}
    assert len(workspace.output("rejected")) == 0


def test_nothing_is_learnt_from_an_empty_translation(tmp_path: Path) -> None:
    source = {"passages": passages("The bees dance.", "silent bees."), "parallel": TRANSLATIONS.empty()}
    table = run(tmp_path, source).output("translations")
    assert len(table) == 2
    kept = with_text(table)
    assert kept["passage_id"].to_pylist() == ["p1"]
    assert with_text(table.slice(0, 1)).equals(table.slice(0, 1))
    assert len(with_text(table.slice(1, 1))) == 0
    assert Texts(source["passages"], kept, ["de"]).complete(["p1", "p2"]) == [True, False]


def test_too_many_empty_translations_are_an_error(tmp_path: Path) -> None:
    source = {"passages": passages("silent bees.", "We see."), "parallel": TRANSLATIONS.empty()}
    message = r"^of 2 passages more than translate\.max_missing 0\.4 lack a translation: de 1; the engine's are empty, look at"
    with pytest.raises(SourceError, match=message):
        run(tmp_path, source, max_missing=0.4)


def test_the_fallback_translates_what_is_flagged(tmp_path: Path) -> None:
    source = {"passages": passages("We see.", "copy bees.", "silent bees."), "parallel": TRANSLATIONS.empty()}
    workspace = run(tmp_path, source, fallback=prefix("die Bienen"))
    assert short(workspace) == [
        ("p1", "de", "wir sehen.", "dictionary command", []),
        ("p2", "de", "die Bienen", "prefix command", []),
        ("p3", "de", "die Bienen", "prefix command", []),
    ]
    report = {
        (row["translator"], row["measure"]): row["value"] for row in workspace.output("translation_report").to_pylist()
    }
    assert report["dictionary command", "passages"] == 1
    assert report["prefix command", "passages"] == 2
    assert report["dictionary command", "second"] == 2
    assert report["dictionary command", "replaced"] == 2


def test_what_comes_out_does_not_depend_on_shards(tmp_path: Path) -> None:
    source = {
        "passages": passages(*(f"The bees see {i}. They dance." for i in range(7))),
        "parallel": parallel(("p3", "de", "x")),
    }
    one = run(tmp_path / "a", source, passages_per_shard=100)
    many = run(tmp_path / "b", source, passages_per_shard=1)
    planned = run(tmp_path / "c", source, passages_per_shard=None, shard_seconds=0.2)
    assert short(one) == short(many) == short(planned)
    assert len(many.computed) == 6 + 1 + 1
    assert short(one, "reference_translations") == short(many, "reference_translations")


def test_a_stage_goes_on_from_its_shards(tmp_path: Path) -> None:
    log = tmp_path / "read"
    source = {"passages": passages(*(f"We see {i}." for i in range(6))), "parallel": TRANSLATIONS.empty()}
    run(tmp_path, source, by=dictionary("", str(log)))
    workspace = LocalWorkspace(tmp_path, "translate", {"sources": source})
    (Path(workspace.folder) / "_shards" / "00001.json").unlink()
    (Path(workspace.folder) / "translations" / "00001.parquet").unlink()
    again = run(tmp_path, source, by=dictionary("", str(log)))
    assert again.computed == [1]
    assert len(short(again)) == 6
    assert len(log.read_text().splitlines()) == 8


def test_passages_with_references_are_translated_for_the_report_alone(tmp_path: Path) -> None:
    source = {
        "passages": passages("The bees dance.", "We see.", "They sing.", "We dance."),
        "parallel": parallel(("p1", "de", "die Bienen tanzen."), ("p2", "de", "wir schauen."), ("p4", "de", " ")),
    }
    workspace = run(tmp_path, source, report=TranslationReportSettings(references=2))
    # A blank parallel text counts as none, so its passage is translated.
    assert [row[:2] for row in short(workspace)] == [("p1", "de"), ("p2", "de"), ("p3", "de"), ("p4", "de")]
    assert [row[3] for row in short(workspace)] == ["source", "source", "dictionary command", "dictionary command"]
    REFERENCE_TRANSLATIONS.check(workspace.output("reference_translations"))
    assert [row[:3] for row in short(workspace, "reference_translations")] == [
        ("p1", "de", "die Bienen tanzen."),
        ("p2", "de", "wir sehen."),
    ]
    TRANSLATION_REPORT.check(workspace.output("translation_report"))
    report = {row["measure"]: row["value"] for row in workspace.output("translation_report").to_pylist()}
    assert report["references"] == 2
    assert report["passages"] == 2
    from sacrebleu import corpus_bleu, corpus_chrf

    translated, references = ["die Bienen tanzen.", "wir sehen."], [["die Bienen tanzen.", "wir schauen."]]
    assert report["bleu"] == pytest.approx(corpus_bleu(translated, references).score)
    assert report["chrf"] == pytest.approx(corpus_chrf(translated, references).score)
    page = (Path(workspace.folder) / "translation_report.html").read_text()
    assert "wir schauen." in page
    assert "<svg" in page


def test_everything_exists(tmp_path: Path) -> None:
    source = {"passages": passages("one"), "parallel": parallel(("p1", "de", "eins"))}
    workspace = run(tmp_path, source, report=TranslationReportSettings(references=0))
    assert short(workspace) == [("p1", "de", "eins", "source", [])]
    assert "No engine had anything to translate." in (Path(workspace.folder) / "translation_report.html").read_text()


def test_pairs_are_numbered_language_by_language() -> None:
    wanted = pa.table(
        {"de": [True, False, True], "fr": [False, False, True], "ru": [False] * 3, "de reference": [False, True, False]}
    )
    pairs = Pairs(wanted)
    every = [Pair(0, "de", False), Pair(2, "de", False), Pair(2, "fr", False), Pair(1, "de", True)]
    assert len(pairs) == 4
    assert [pairs.read(i, i + 1)[0] for i in range(4)] == every
    assert pairs.read(1, 3) == every[1:3]
    assert pairs.read(0, 99) == every
    assert pairs.first() == every[0]
    assert Pairs(pa.table({"de": [False]})).first() is None


def test_pairs_of_passages_in_other_languages_say_which() -> None:
    """One English passage, then two rows in other languages."""
    wanted = pa.table(
        {"de": [True, False, False], "en from de": [False, True, False], "de from zh": [False, False, True]}
    )
    every = [Pair(0, "de", False), Pair(1, "en", False, "de"), Pair(2, "de", False, "zh")]
    assert Pairs(wanted).read(0, 9) == every


def _stage(tmp_path: Path, source: dict[str, pa.Table], settings: TranslateSettings, session: Session) -> Runner:
    def write(workspace: StageRun) -> None:
        for name, table in source.items():
            workspace.write(name, table)

    def translate_passages(workspace: StageRun) -> None:
        translate(workspace, settings, "en", ("de",))

    runner = Runner(str(tmp_path / "storage"), session, 0.5, progress=False)
    sources = Stage("sources", 1, write, {}, rows="passages", uses_ray=False)
    runner.run(sources)
    runner.run(Stage("translate", 1, translate_passages, settings.identity(), (sources,), rows="translations"))
    return runner


def _read(runner: Runner, table: str) -> pa.Table:
    from cluster.storage import open_storage, read_table

    filesystem, root = open_storage(runner.storage)
    return read_table(filesystem, f"{root}/{runner.results['translate'].stage.folder}/{table}")


def test_a_model_on_ray(tmp_path: Path, ray_session: None) -> None:
    """The whole of it: a checkpoint, converted on the actor, planned shards, report."""
    model = save_marian(tmp_path / "marian")
    by = CTranslate2Translator(model=str(model), cache=str(tmp_path / "cache"), length_factor=0.3, length_offset=8)
    source = {
        "passages": passages(*(f"The bees see flower {i}. They dance." for i in range(12))),
        "parallel": parallel(("p3", "de", "x")),
    }
    settings = TranslateSettings(by=by, max_missing=1.0, shard_seconds=1.0)
    runner = _stage(tmp_path, source, settings, Session("auto"))
    table = _read(runner, "translations")
    assert sorted(table["passage_id"].to_pylist()) == sorted(f"p{i}" for i in range(1, 13))
    assert set(table["translator"].to_pylist()) == {"source", f"{model} ctranslate2/int8"}
    assert (
        runner.results["translate"].manifest["notes"]["translation_report"][f"de {model} ctranslate2/int8"][
            "references"
        ]
        == 1
    )


def test_a_passage_that_kills_its_actor_is_left_out(tmp_path: Path, ray_session: None) -> None:
    texts = [f"We see {i}." for i in range(8)]
    texts[5] = "A deadly sentence."
    source = {"passages": passages(*texts), "parallel": TRANSLATIONS.empty()}
    settings = TranslateSettings(
        by=dictionary(str(tmp_path / "no-such-file")), max_missing=1.0, passages_per_shard=4, flags=LENIENT,
        pool=PoolSettings(max_restarts=1),
    )  # fmt: skip
    runner = _stage(tmp_path, source, settings, Session("auto"))
    rows = {row["passage_id"]: (row["text"], row["flags"]) for row in _read(runner, "translations").to_pylist()}
    assert len(rows) == 8
    assert rows["p6"] == ("", ["empty"])
    assert rows["p5"] == ("wir sehen 4.", [])
    assert [(row["id"], row["line"], row["field"]) for row in _read(runner, "rejected").to_pylist()] == [
        ("p6 de", 6, "text")
    ]
    assert _read(runner, "missing_translations").to_pylist() == [{"passage_id": "p6", "lang": "de"}]
