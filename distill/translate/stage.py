"""The translate stage: passages in every target language, under the ids of their sources.

Translations that exist are used first: those that came with the source (`parallel`), and those of the configured files and ir_datasets ids,
as the papers use neuMARCO. An engine, if one is configured, translates what they lack. Every pair of passage and language then has one row,
however doubtful; one that has no text is also listed in `missing_translations`, and no later stage uses it.

A passage without a text in the source language has its versions here too, as documents to search; `settings.elsewhere` says whether it is
also translated.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.locations import SourceError, find_all
from cluster.stored_table import StoredTable
from cluster.workspace import Shard, Workspace, planned_shards, row_shards
from distill.formats.rows import BATCH_ROWS, PASSAGE_ROWS, PassageParser, Rejects, batches
from distill.formats.text import read_passages
from distill.sources.checks import check_unique
from distill.sources.intake import keep, translations
from distill.sources.ir_datasets import IR_PASSAGE, ir_passages, load_ir_dataset
from distill.tables import MISSING_TRANSLATIONS, STRING, STRINGS, TRANSLATIONS
from distill.text import is_blank
from distill.translate.elsewhere import Elsewhere, find_elsewhere
from distill.translate.settings import PrecomputedTranslator, TranslateSettings


def translate(
    workspace: Workspace,
    settings: TranslateSettings,
    source_lang: str,
    languages: tuple[str, ...],
    max_rejected: float = 0.01,
) -> None:
    """Write the tables translations, missing_translations and rejected, and where an engine is used the translation report.

    What the settings name comes first: it replaces a parallel passage of the same id and language, which is counted.
    Translations of ids that the source does not have are counted and left out, since a translated collection
    (neuMARCO) may hold more than a job uses. An empty one of a text is counted and is missing: an engine, if there is one, makes it.
    A translation that equals its source is flagged `copied`. Passages without a text in the source language are counted by language, and
    keep the texts that came with the source.

    Raises:
        SourceError: the settings name files that have an id twice in one language, or a language lacks a larger share of its passages than
            `settings.max_missing`.

    Cost: for translations that exist one pass over their files on one core, and the memory of the tables `passages`, `parallel` and
    `translations`; for an engine a bit for each passage and language here, and a shard's texts in each actor.
    """
    existing = _existing(workspace, settings, source_lang, languages, max_rejected)
    if settings.engine is None:
        _write_existing(workspace, settings, existing, source_lang, languages)
    else:
        _translate_rest(workspace, settings, source_lang, languages, existing)
    used = _targets(settings, source_lang, languages)
    unused = sorted({*settings.existing.files, *settings.existing.ir_datasets} - set(used))
    workspace.note(
        **{name: dict(counts) for name, counts in existing.notes.counts.items()},
        **({"unused_languages": unused} if unused else {}),
    )
    _note_elsewhere(workspace, existing.elsewhere, settings, source_lang)
    _check_missing(workspace, existing.count(settings), settings)


@dataclass(frozen=True)
class Existing:
    """The translations that need no engine.

    Attributes:
        passage_ids: the source's passages in the source language.
        elsewhere: its passages in other languages only.
        table: their translations (TRANSLATIONS), flagged.
        parallel: those of them that came with the source.
        rejects: rows of files that could not be used.
        notes: what was counted.
    """

    passage_ids: pa.ChunkedArray
    elsewhere: Elsewhere
    table: pa.Table
    parallel: pa.Table
    rejects: Rejects
    notes: "Notes"

    def count(self, settings: TranslateSettings) -> int:
        """Return how many passages should exist in every language."""
        return len(self.passage_ids) + (len(self.elsewhere.rows) if settings.elsewhere == "translate" else 0)


def _targets(settings: TranslateSettings, source_lang: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Return the languages that passages are translated into."""
    return (source_lang, *languages) if settings.elsewhere == "translate" else tuple(languages)


def _existing(
    workspace: Workspace, settings: TranslateSettings, source_lang: str, languages: tuple[str, ...], max_rejected: float
) -> Existing:
    ids = workspace.input("sources", "passages", ["passage_id"])["passage_id"]
    parallel = workspace.input("sources", "parallel")
    elsewhere = find_elsewhere(parallel, ids, languages)
    every = pa.chunked_array([*ids.chunks, elsewhere.ids], STRING)
    rejects = Rejects(max_rejected)
    notes = Notes()
    named = [TRANSLATIONS.empty()]
    for lang in _targets(settings, source_lang, languages):
        known = elsewhere.ids if lang == source_lang else every.combine_chunks()
        found = _named(settings.existing, lang, source_lang, known, rejects, notes)
        named.append(_not_in(found, elsewhere.versions, notes, "originals_kept"))
    named = pa.concat_tables(named)
    parallel = keep(parallel, pc.is_in(parallel["passage_id"], value_set=ids.combine_chunks()))
    parallel = _not_in(parallel, named, notes, "replaced_parallel")
    if len(named) or len(parallel):
        passages = workspace.input("sources", "passages", ["passage_id", "text"])
        originals = pa.concat_tables([passages, elsewhere.originals.select(["passage_id", "text"])])
        named, parallel = _flagged(named, originals, notes), _flagged(parallel, originals, notes)
    merged = TRANSLATIONS.check(pa.concat_tables([named, parallel, elsewhere.versions]), "translate")
    return Existing(ids, elsewhere, merged, parallel, rejects, notes)


def _write_existing(
    workspace: Workspace,
    settings: TranslateSettings,
    existing: Existing,
    source_lang: str,
    languages: tuple[str, ...],
) -> None:
    """Write the tables of a stage without an engine."""
    missing = _missing(existing.table, existing.passage_ids, languages)
    if settings.elsewhere == "translate":
        ids = pa.chunked_array([existing.elsewhere.ids])
        lacking = _missing(existing.table, ids, (source_lang, *languages))
        missing = pa.concat_tables([missing, lacking])
    workspace.write("translations", existing.table)
    workspace.write("missing_translations", MISSING_TRANSLATIONS.check(missing, "translate"))
    workspace.write("rejected", existing.rejects.table())


def _translate_rest(
    workspace: Workspace,
    settings: TranslateSettings,
    source_lang: str,
    languages: tuple[str, ...],
    existing: Existing,
) -> None:
    """Translate the texts that do not exist by an engine, in shards, and write the report."""
    from distill.translate.report import write_report
    from distill.translate.worker import Pairs, TranslateWorker

    wanted = _wanted(existing, languages, settings.report.references)
    tables = ["passages"]
    if settings.elsewhere == "translate" and len(existing.elsewhere.rows):
        wanted = _with_elsewhere(wanted, existing, (source_lang, *languages))
        tables.append("parallel")
    folder = workspace.input_folder("sources")
    arguments = {
        "settings": settings,
        "source_lang": source_lang,
        "languages": languages,
        "passages": [StoredTable.open(workspace.filesystem, f"{folder}/{name}") for name in tables],
        "wanted": wanted,
        "existing": existing.table,
        "rejected": existing.rejects.table(),
    }
    count = len(Pairs(wanted))
    actors = settings.pool
    if settings.passages_per_shard:
        shards = row_shards(count, settings.passages_per_shard)
    else:
        shards = planned_shards(
            workspace, count, settings.shard_seconds, TranslateWorker, arguments, actors, unit="passages"
        )
    # What exists is one more shard, so that it is written once however often the stage is started.
    shards.append(Shard(len(shards), {"existing": True}))
    workspace.map_shards(shards, TranslateWorker, arguments, actors, unit="passages")
    write_report(workspace, settings.report, existing.parallel)


def _wanted(existing: Existing, languages: tuple[str, ...], references: int) -> pa.Table:
    """Return for each language the passages without a translation, and those with a parallel text that are translated for the report."""
    from distill.translate.worker import REFERENCE, sample_order

    ids = existing.passage_ids
    columns: dict[str, pa.Array] = {}
    for lang in languages:
        have = existing.table["passage_id"].filter(pc.equal(existing.table["lang"], lang)).combine_chunks()
        columns[lang] = pc.invert(pc.is_in(ids, value_set=have))
    for lang in languages:
        known = existing.parallel["passage_id"].filter(pc.equal(existing.parallel["lang"], lang)).to_pylist()
        chosen = sorted(known, key=lambda passage_id, lang=lang: sample_order(passage_id, lang))[:references]
        if chosen:
            columns[lang + REFERENCE] = pc.is_in(ids, value_set=pa.array(chosen, STRING))
    return pa.table(columns)


def _with_elsewhere(wanted: pa.Table, existing: Existing, targets: Sequence[str]) -> pa.Table:
    """Return the columns of `Pairs` over the source's passages and, after them, its parallel ones."""
    own, others = len(existing.passage_ids), existing.elsewhere.parallel
    columns = {name: np.concatenate([wanted[name].to_numpy(), np.zeros(others, bool)]) for name in wanted.column_names}
    more = existing.elsewhere.wanted(existing.table, targets)
    return pa.table(columns | {name: np.concatenate([np.zeros(own, bool), rows]) for name, rows in more.items()})


class Notes:
    """Counts for the manifest, by language.

    Attributes:
        counts: `replaced_parallel`, `originals_kept`, `unknown_ids`, `other_languages`, `empty`, `copied`; only what occurs.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}

    def count(self, fact: str, langs: pa.ChunkedArray) -> None:
        """Count rows by their languages."""
        for entry in langs.value_counts().to_pylist():
            self.counts.setdefault(fact, Counter())[entry["values"]] += entry["counts"]


def _named(
    by: PrecomputedTranslator, lang: str, source_lang: str, known: pa.Array, rejects: Rejects, notes: Notes
) -> pa.Table:
    """Return the translations into one language that the settings name, of the passages `known`."""
    files = [file for path in by.files.get(lang, ()) for file in find_all(path)]
    tables = [PASSAGE_ROWS.empty_table()]
    for file in files:
        rows, parse = read_passages(file, by.fields, lang, keep_empty=True)
        tables += batches(file.name, rows, parse, PASSAGE_ROWS, rejects)
    if lang in by.ir_datasets:
        name = f"ir_datasets:{by.ir_datasets[lang]}"
        rows = ir_passages(name, load_ir_dataset(by.ir_datasets[lang], "docs"))
        tables += batches(name, rows, PassageParser(IR_PASSAGE, lang, keep_empty=True), PASSAGE_ROWS, rejects)
    rows = pa.concat_tables(tables)
    in_lang = pc.equal(rows["lang"], lang)
    notes.count("other_languages", rows["lang"].filter(pc.invert(in_lang)))
    rows = keep(rows, in_lang)
    exists = pc.is_in(rows["passage_id"], value_set=known)
    notes.count("unknown_ids", rows["lang"].filter(pc.invert(exists)))
    rows = keep(rows, exists)
    check_unique(rows, ("passage_id", "lang"), "translation")
    return translations(rows, source_lang)


def _not_in(texts: pa.Table, others: pa.Table, notes: Notes, fact: str) -> pa.Table:
    """Return the texts of which `others` has no version in their language; count the rest under `fact`."""
    kept = [texts.slice(0, 0)]
    for lang in pc.unique(texts["lang"]).to_pylist():
        rows = keep(texts, pc.equal(texts["lang"], lang))
        ids = others["passage_id"].filter(pc.equal(others["lang"], lang)).combine_chunks()
        replaced = pc.is_in(rows["passage_id"], value_set=ids)
        notes.count(fact, rows["lang"].filter(replaced))
        kept.append(keep(rows, pc.invert(replaced)))
    return pa.concat_tables(kept)


def _flagged(table: pa.Table, passages: pa.Table, notes: Notes) -> pa.Table:
    """Remove empty translations, and flag `copied` where a translation is its source."""
    # 64-bit offsets: the texts of a large collection are more than 2 GB, which taking from them must not overflow.
    originals = passages["text"].cast(pa.large_string()).combine_chunks()
    positions = pc.index_in(table["passage_id"], value_set=passages["passage_id"].combine_chunks())
    tables = [table.slice(0, 0)]
    start = 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        original = originals.take(positions.slice(start, len(batch)).combine_chunks())
        start += len(batch)
        text = batch["text"].cast(pa.large_string())
        blank = _blank(text)
        # A passage that is all title has no text to translate.
        empty = pc.and_(blank, pc.invert(_blank(original)))
        copied = pc.and_(pc.equal(text, original), pc.invert(blank))
        notes.count("empty", pa.chunked_array([batch["lang"].filter(empty)]))
        notes.count("copied", pa.chunked_array([batch["lang"].filter(copied)]))
        flags = pa.array([["copied"] if each else [] for each in copied.to_pylist()], STRINGS)
        rows = pa.Table.from_batches([batch]).set_column(
            batch.num_columns - 1, TRANSLATIONS.schema.field("flags"), flags
        )
        tables.append(keep(rows, pc.invert(empty)))
    return pa.concat_tables(tables)


def _blank(texts: pa.Array) -> pa.Array:
    return pa.array([is_blank(text) for text in texts.to_pylist()], pa.bool_())


def _missing(table: pa.Table, passage_ids: pa.ChunkedArray, languages: tuple[str, ...]) -> pa.Table:
    tables = [MISSING_TRANSLATIONS.empty()]
    for lang in languages:
        have = table["passage_id"].filter(pc.equal(table["lang"], lang)).combine_chunks()
        lost = passage_ids.filter(pc.invert(pc.is_in(passage_ids, value_set=have)))
        columns = {"passage_id": lost, "lang": pa.repeat(pa.scalar(lang, STRING), len(lost))}
        tables.append(pa.table(columns, schema=MISSING_TRANSLATIONS.schema))
    return pa.concat_tables(tables)


def _note_elsewhere(workspace: Workspace, elsewhere: Elsewhere, settings: TranslateSettings, source_lang: str) -> None:
    by_language = elsewhere.count()
    if not by_language:
        return
    workspace.note(only_elsewhere=by_language)
    if settings.elsewhere == "leave_out":
        workspace.note(
            warning=f"{len(elsewhere.rows)} passages have no text in '{source_lang}' ({_shown(by_language)}): they are documents to "
            "search, but the student is not trained on them; translate.elsewhere can translate them"
        )


def _check_missing(workspace: Workspace, passages: int, settings: TranslateSettings) -> None:
    """Note how many passages lack a text in each language; raise SourceError where their share is too large."""
    langs = workspace.output("missing_translations")["lang"]
    by_language = {entry["values"]: entry["counts"] for entry in langs.value_counts().to_pylist()}
    if by_language:
        workspace.note(
            missing=by_language, warning=f"missing translations of {passages} passages: {_shown(by_language)}"
        )
    lacking = {lang: count for lang, count in by_language.items() if count > settings.max_missing * passages}
    if not lacking:
        return
    message = f"of {passages} passages more than translate.max_missing {settings.max_missing} lack a translation: {_shown(lacking)};"
    if settings.engine is None:
        message += (
            " name files or data sets that have them in translate.by, or an engine in translate.fallback, leave the language out, or raise"
            " the limit"
        )
    else:
        message += " the engine's are empty, look at translation_report.html; use another model, leave the language out, or raise the limit"
    raise SourceError(message)


def _shown(by_language: dict[str, int]) -> str:
    return ", ".join(f"{lang} {count}" for lang, count in by_language.items())
