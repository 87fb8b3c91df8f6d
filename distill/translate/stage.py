"""The translate stage: passages in every target language, under the ids of their sources.

Translations that exist are used first: those that came with the source (`parallel`), and those of the configured files and ir_datasets ids,
as the papers use neuMARCO. An engine, if one is configured, translates what they lack. Every pair of passage and language then has one row,
however doubtful; one that has no text is also listed in `missing_translations`, and no later stage uses it.
"""

from collections import Counter
from dataclasses import dataclass

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
    A translation that equals its source is flagged `copied`.

    Raises:
        SourceError: the settings name files that have an id twice in one language, or a language lacks a larger share of its passages than
            `settings.max_missing`.

    Cost: for translations that exist one pass over their files on one core, and the memory of the tables `passages`, `parallel` and
    `translations`; for an engine a bit for each passage and language here, and a shard's texts in each actor.
    """
    existing = _existing(workspace, settings, source_lang, languages, max_rejected)
    if settings.engine is None:
        _write_existing(workspace, existing, languages)
    else:
        _translate_rest(workspace, settings, source_lang, languages, existing)
    unused = sorted({*settings.existing.files, *settings.existing.ir_datasets} - set(languages))
    workspace.note(
        **{name: dict(counts) for name, counts in existing.notes.counts.items()},
        **({"unused_languages": unused} if unused else {}),
    )
    _check_missing(workspace, len(existing.passage_ids), settings)


@dataclass(frozen=True)
class Existing:
    """The translations that need no engine.

    Attributes:
        passage_ids: the source's passages.
        table: their translations (TRANSLATIONS), flagged.
        parallel: those of them that came with the source.
        rejects: rows of files that could not be used.
        notes: what was counted.
    """

    passage_ids: pa.ChunkedArray
    table: pa.Table
    parallel: pa.Table
    rejects: Rejects
    notes: "Notes"


def _existing(
    workspace: Workspace, settings: TranslateSettings, source_lang: str, languages: tuple[str, ...], max_rejected: float
) -> Existing:
    ids = workspace.input("sources", "passages", ["passage_id"])
    rejects = Rejects(max_rejected)
    notes = Notes()
    named = pa.concat_tables(
        [
            TRANSLATIONS.empty(),
            *(_named(settings.existing, lang, source_lang, ids, rejects, notes) for lang in languages),
        ]
    )
    parallel = workspace.input("sources", "parallel")
    parallel = keep(parallel, pc.is_in(parallel["lang"], value_set=pa.array(languages, STRING)))
    parallel = _not_in(_known(parallel, ids, notes), named, notes)
    if len(named) or len(parallel):
        passages = workspace.input("sources", "passages", ["passage_id", "text"])
        named, parallel = _flagged(named, passages, notes), _flagged(parallel, passages, notes)
    merged = TRANSLATIONS.check(pa.concat_tables([named, parallel]), "translate")
    return Existing(ids["passage_id"], merged, parallel, rejects, notes)


def _write_existing(workspace: Workspace, existing: Existing, languages: tuple[str, ...]) -> None:
    """Write the tables of a stage without an engine."""
    missing = _missing(existing.table, existing.passage_ids, languages)
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
    arguments = {
        "settings": settings,
        "source_lang": source_lang,
        "languages": languages,
        "passages": StoredTable.open(workspace.filesystem, f"{workspace.input_folder('sources')}/passages"),
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


class Notes:
    """Counts for the manifest, by language.

    Attributes:
        counts: `replaced_parallel`, `unknown_ids`, `other_languages`, `empty`, `copied`; only what occurs.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}

    def count(self, fact: str, langs: pa.ChunkedArray) -> None:
        """Count rows by their languages."""
        for entry in langs.value_counts().to_pylist():
            self.counts.setdefault(fact, Counter())[entry["values"]] += entry["counts"]


def _named(
    by: PrecomputedTranslator, lang: str, source_lang: str, passages: pa.Table, rejects: Rejects, notes: Notes
) -> pa.Table:
    """Return the translations into one language that the settings name, of passages that exist."""
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
    rows = _known(keep(rows, in_lang), passages, notes)
    check_unique(rows, ("passage_id", "lang"), "translation")
    return translations(rows, source_lang)


def _known(table: pa.Table, passages: pa.Table, notes: Notes) -> pa.Table:
    known = pc.is_in(table["passage_id"], value_set=passages["passage_id"].combine_chunks())
    notes.count("unknown_ids", table["lang"].filter(pc.invert(known)))
    return keep(table, known)


def _not_in(parallel: pa.Table, named: pa.Table, notes: Notes) -> pa.Table:
    """Return the parallel passages that no named translation replaces."""
    kept = [parallel.slice(0, 0)]
    for lang in pc.unique(parallel["lang"]).to_pylist():
        rows = keep(parallel, pc.equal(parallel["lang"], lang))
        ids = named["passage_id"].filter(pc.equal(named["lang"], lang)).combine_chunks()
        replaced = pc.is_in(rows["passage_id"], value_set=ids)
        notes.count("replaced_parallel", rows["lang"].filter(replaced))
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
