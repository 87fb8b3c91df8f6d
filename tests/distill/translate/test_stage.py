"""The translate stage with precomputed translations: what is merged, counted, flagged and refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.locations import SourceError
from distill.formats.settings import PassageFields
from distill.sources.settings import BundledSource
from distill.sources.stage import ingest
from distill.tables import MISSING_TRANSLATIONS, PASSAGES, REJECTED, TRANSLATIONS
from distill.translate.settings import PrecomputedTranslator, TranslateSettings
from distill.translate.stage import translate
from tests.workspaces import LocalWorkspace


def passages(*texts: str) -> pa.Table:
    """English passages p1, p2 ... with these texts."""
    ids = [f"p{number}" for number in range(1, len(texts) + 1)]
    return PASSAGES.from_rows(
        {"passage_id": name, "doc_id": name, "lang": "en", "title": "", "text": text}
        for name, text in zip(ids, texts, strict=True)
    )


def parallel(*rows: tuple[str, str, str]) -> pa.Table:
    """Parallel passages of (id, language, text)."""
    return TRANSLATIONS.from_rows(
        {
            "passage_id": name,
            "source_lang": "en",
            "lang": lang,
            "title": "",
            "text": text,
            "translator": "source",
            "flags": [],
        }
        for name, lang, text in rows
    )


def run(
    tmp_path: Path,
    source: dict[str, pa.Table],
    languages: tuple[str, ...] = ("de",),
    by: PrecomputedTranslator | None = None,
    max_missing: float = 0.0,
) -> LocalWorkspace:
    workspace = LocalWorkspace(tmp_path, "translate", {"sources": source})
    settings = TranslateSettings(by=by or PrecomputedTranslator(), max_missing=max_missing)
    translate(workspace, settings, "en", languages)
    TRANSLATIONS.check(workspace.output("translations"))
    MISSING_TRANSLATIONS.check(workspace.output("missing_translations"))
    REJECTED.check(workspace.output("rejected"))
    return workspace


def short(workspace: LocalWorkspace) -> list[tuple[Any, ...]]:
    rows = workspace.output("translations").to_pylist()
    return sorted((row["passage_id"], row["lang"], row["text"], row["translator"], row["flags"]) for row in rows)


def jsonl(path: Path, *rows: tuple[str, str]) -> str:
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in rows), encoding="utf-8")
    return str(path)


def test_bundled_translations_pass_through(tmp_path: Path) -> None:
    sources = LocalWorkspace(tmp_path, "sources")
    languages = ("de", "fr", "es", "zh", "fa", "ru")
    ingest(sources, BundledSource(), "en", languages, 0.0)
    workspace = LocalWorkspace(tmp_path, "translate", {"sources": sources})
    translate(workspace, TranslateSettings(max_missing=0.0), "en", languages)
    assert workspace.output("translations").sort_by(
        [("passage_id", "ascending"), ("lang", "ascending")]
    ) == sources.output("parallel").sort_by([("passage_id", "ascending"), ("lang", "ascending")])
    assert len(workspace.output("missing_translations")) == 0
    assert workspace.facts == {}


def test_files_are_merged_and_replace_parallel_passages(tmp_path: Path) -> None:
    source = {"passages": passages("one", "two"), "parallel": parallel(("p1", "de", "eins"), ("p2", "de", "zwei"))}
    file = jsonl(tmp_path / "de.jsonl", ("p2", "zwo"))
    workspace = run(tmp_path, source, by=PrecomputedTranslator(files={"de": (file,)}))
    assert short(workspace) == [("p1", "de", "eins", "source", []), ("p2", "de", "zwo", file, [])]
    assert workspace.facts == {"replaced_parallel": {"de": 1}}


def test_missing_translations_are_listed_and_noted(tmp_path: Path) -> None:
    source = {
        "passages": passages("one", "two", "three"),
        "parallel": parallel(("p1", "de", "eins"), ("p3", "fa", "سه")),
    }
    workspace = run(tmp_path, source, ("de", "fa"), max_missing=0.7)
    missing = workspace.output("missing_translations").to_pylist()
    assert [(row["passage_id"], row["lang"]) for row in missing] == [
        ("p2", "de"),
        ("p3", "de"),
        ("p1", "fa"),
        ("p2", "fa"),
    ]
    assert workspace.facts["missing"] == {"de": 2, "fa": 2}
    assert workspace.warnings == ["missing translations of 3 passages: de 2, fa 2"]


def test_too_many_missing_in_one_language_are_an_error(tmp_path: Path) -> None:
    """One language may not be missing because the others are complete. What is missing is written all the same."""
    complete = [("p1", lang, "x") for lang in ("de", "fr", "es")] + [("p2", lang, "y") for lang in ("de", "fr", "es")]
    source = {"passages": passages("one", "two"), "parallel": parallel(*complete, ("p1", "fa", "x"))}
    message = (
        r"^of 2 passages more than translate\.max_missing 0\.25 lack a translation: fa 1, ru 2; name files or data sets"
    )
    with pytest.raises(SourceError, match=message):
        run(tmp_path, source, ("de", "fr", "es", "fa", "ru"), max_missing=0.25)
    workspace = run(tmp_path, source, ("de", "fr", "es", "fa"), max_missing=0.5)
    assert len(workspace.output("missing_translations")) == 1


def test_empty_translations_are_missing_and_copies_are_flagged(tmp_path: Path) -> None:
    source = {
        "passages": passages("one", "two", "GPS", ""),
        "parallel": parallel(("p1", "de", " \u3000"), ("p3", "de", "GPS"), ("p4", "de", "")),
    }
    file = jsonl(tmp_path / "de.jsonl", ("p2", ""))
    workspace = run(tmp_path, source, by=PrecomputedTranslator(files={"de": (file,)}), max_missing=0.5)
    # p4 has no text to translate, only a title.
    assert short(workspace) == [("p3", "de", "GPS", "source", ["copied"]), ("p4", "de", "", "source", [])]
    missing = workspace.output("missing_translations")["passage_id"].to_pylist()
    assert missing == ["p1", "p2"]
    assert workspace.facts["empty"] == {"de": 2}
    assert workspace.facts["copied"] == {"de": 1}


def test_unknown_ids_other_languages_and_unused_files_are_counted(tmp_path: Path) -> None:
    """A translated collection may hold more than the job uses."""
    file = tmp_path / "all.jsonl"
    rows = [("p1", "de", "eins"), ("p9", "de", "neun"), ("p8", "de", "acht"), ("p1", "it", "uno")]
    file.write_text("".join(json.dumps({"pid": p, "code": c, "body": t}) + "\n" for p, c, t in rows))
    by = PrecomputedTranslator(
        files={"de": (str(file),), "it": ("not-read.jsonl",)}, fields=PassageFields(id="pid", lang="code", text="body")
    )
    workspace = run(tmp_path, {"passages": passages("one"), "parallel": parallel(("p7", "de", "x"))}, by=by)
    assert short(workspace) == [("p1", "de", "eins", str(file), []), ("p7", "de", "x", "source", [])]
    assert workspace.facts == {
        "unknown_ids": {"de": 2},
        "other_languages": {"it": 1},
        "unused_languages": ["it"],
        "only_elsewhere": {"de": 1},
    }


def test_an_id_twice_is_an_error(tmp_path: Path) -> None:
    first, second = jsonl(tmp_path / "a.jsonl", ("p1", "eins")), jsonl(tmp_path / "b.jsonl", ("p1", "ein"))
    message = r"^translation more than once: passage_id 'p1' lang 'de' in \S+a\.jsonl line 1 and \S+b\.jsonl line 1;"
    source = {"passages": passages("one"), "parallel": TRANSLATIONS.empty()}
    with pytest.raises(SourceError, match=message):
        run(tmp_path, source, by=PrecomputedTranslator(files={"de": (first, second)}))


def test_bad_rows_are_rejected_up_to_a_share(tmp_path: Path) -> None:
    file = tmp_path / "de.tsv"
    file.write_text("p1\teins\nbroken\n")
    source = {"passages": passages("one"), "parallel": TRANSLATIONS.empty()}
    settings = TranslateSettings(by=PrecomputedTranslator(files={"de": (str(file),)}), max_missing=0.0)
    workspace = LocalWorkspace(tmp_path, "translate", {"sources": source})
    translate(workspace, settings, "en", ("de",), max_rejected=0.5)
    assert [(row["source"], row["line"]) for row in workspace.output("rejected").to_pylist()] == [(str(file), 2)]
    with pytest.raises(
        SourceError, match=r"de\.tsv: 1 of 2 rows rejected, more than max_rejected 0\.01: line 2: 1 column"
    ):
        translate(workspace, settings, "en", ("de",))


@pytest.fixture
def german() -> Iterator[str]:
    """The id of a data set of ir_datasets that is a real one on a local file."""
    import ir_datasets

    name = "polyray-test/translations"
    yield name
    ir_datasets.registry._registered.pop(name, None)


def test_ir_datasets_translations(tmp_path: Path, german: str) -> None:
    import ir_datasets

    (tmp_path / "de.tsv").write_text("0\tnull\n1\t\n2\tzwei\n3\tdrei\n")
    ir_datasets.registry.register(german, ir_datasets.create_dataset(docs_tsv=tmp_path / "de.tsv"))
    rows = [{"passage_id": str(n), "doc_id": str(n), "lang": "en", "title": "", "text": f"t{n}"} for n in range(3)]
    source = {"passages": PASSAGES.from_rows(rows), "parallel": TRANSLATIONS.empty()}
    workspace = run(tmp_path, source, by=PrecomputedTranslator(ir_datasets={"de": german}), max_missing=0.4)
    origin = f"ir_datasets:{german}"
    assert short(workspace) == [("0", "de", "null", origin, []), ("2", "de", "zwei", origin, [])]
    assert workspace.facts["unknown_ids"] == {"de": 1}
    assert workspace.facts["empty"] == {"de": 1}


def test_flags_do_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.formats.rows.BATCH_ROWS", 3)
    texts = [f"text {number}" for number in range(10)]
    rows = [(f"p{number + 1}", "de", text if number % 4 == 0 else f"de {text}") for number, text in enumerate(texts)]
    workspace = run(tmp_path, {"passages": passages(*texts), "parallel": parallel(*reversed(rows))})
    flagged = [row[0] for row in short(workspace) if row[4] == ["copied"]]
    assert sorted(flagged) == ["p1", "p5", "p9"]
    assert len(short(workspace)) == 10


def test_passages_without_a_source_text_stay_as_documents(tmp_path: Path) -> None:
    """f1 and f2 are in other languages only, f2 in one that is none of the job's; p1 is also in one that is none of them."""
    versions = [("f1", "zh", "y"), ("f2", "ko", "z"), ("f1", "de", "x"), ("p1", "ko", "k"), ("p1", "de", "eins")]
    source = {"passages": passages("one"), "parallel": parallel(*versions)}
    workspace = run(tmp_path, source, ("de",))
    kept = [
        (row["passage_id"], row["lang"], row["source_lang"]) for row in workspace.output("translations").to_pylist()
    ]
    assert sorted(kept) == [
        ("f1", "de", "de"), ("f1", "zh", "zh"), ("f2", "ko", "ko"), ("p1", "de", "en"), ("p1", "ko", "en"),
    ]  # fmt: skip
    assert workspace.facts == {"only_elsewhere": {"de": 1, "ko": 1}}
    (warning,) = workspace.warnings
    assert warning == (
        "2 passages have no text in 'en' (de 1, ko 1): they are documents to search, but the student is not trained on them; "
        "translate.elsewhere can translate them"
    )


def test_a_collection_without_source_passages_needs_none(tmp_path: Path) -> None:
    workspace = run(tmp_path, {"passages": PASSAGES.empty(), "parallel": parallel(("f1", "de", "x"))})
    assert short(workspace) == [("f1", "de", "x", "source", [])]
    assert workspace.facts == {"only_elsewhere": {"de": 1}}


def test_files_translate_passages_into_the_source_language(tmp_path: Path) -> None:
    """f1 has an original and a translation into English; a file's German version does not replace the original. p1 is in English."""
    english = jsonl(tmp_path / "en.jsonl", ("f1", "bees"), ("p1", "not read"))
    german = jsonl(tmp_path / "de.jsonl", ("f1", "worse"), ("p1", "eins"))
    source = {"passages": passages("one"), "parallel": parallel(("f1", "de", "Bienen"), ("f2", "de", "Brücke"))}
    workspace = LocalWorkspace(tmp_path, "translate", {"sources": source})
    by = PrecomputedTranslator(files={"en": (english,), "de": (german,)})
    translate(workspace, TranslateSettings(by=by, max_missing=0.4, elsewhere="translate"), "en", ("de",))
    assert short(workspace) == [
        ("f1", "de", "Bienen", "source", []),
        ("f1", "en", "bees", english, []),
        ("f2", "de", "Brücke", "source", []),
        ("p1", "de", "eins", german, []),
    ]
    assert workspace.output("missing_translations").to_pylist() == [{"passage_id": "f2", "lang": "en"}]
    assert workspace.facts["unknown_ids"] == {"en": 1}
    assert workspace.facts["originals_kept"] == {"de": 1}
    with pytest.raises(
        SourceError, match=r"of 3 passages more than translate.max_missing 0.3 lack a translation: en 1;"
    ):
        translate(workspace, TranslateSettings(by=by, max_missing=0.3, elsewhere="translate"), "en", ("de",))
