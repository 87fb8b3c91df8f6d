"""The translate stage: passages in every target language, under the ids of their sources.

Translations are precomputed, as the papers use neuMARCO: those that came with the source (`parallel`), and those of
the configured files and ir_datasets ids. A passage that lacks one is listed in `missing_translations`.
"""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from distill import readers
from distill.config import PrecomputedTranslator, TranslateSettings
from distill.readers import PASSAGE_ROWS, PassageParser, Rejects, SourceError
from distill.sources import IR_PASSAGE, check_unique, ir_passages, keep, load_ir_dataset, translations
from distill.tables import MISSING_TRANSLATIONS, STRING, STRINGS, TRANSLATIONS
from distill.workspace import Workspace


def translate(
    workspace: Workspace,
    settings: TranslateSettings,
    source_lang: str,
    languages: tuple[str, ...],
    max_rejected: float = 0.01,
) -> None:
    """Write the tables translations, missing_translations and rejected, from `parallel` and what `settings` names.

    What the settings name comes first: it replaces a parallel passage of the same id and language, which is counted.
    Translations of ids that the source does not have are counted and left out, since a translated collection
    (neuMARCO) may hold more than a job uses. An empty translation of a text is counted and is missing. A translation
    that equals its source is flagged `copied`.

    A `SourceError`: the same id twice in one language in what the settings name, and a language that lacks a larger
    share of its passages than `settings.max_missing`.

    Cost: one pass over the files on one core; memory that of the tables `passages`, `parallel` and `translations`.
    """
    passages = workspace.input("sources", "passages", ["passage_id", "text"])
    rejects = Rejects(max_rejected)
    notes = Notes()
    named = pa.concat_tables(
        [
            TRANSLATIONS.empty(),
            *(_named(settings.by, lang, source_lang, passages, rejects, notes) for lang in languages),
        ]
    )
    parallel = workspace.input("sources", "parallel")
    parallel = keep(parallel, pc.is_in(parallel["lang"], value_set=pa.array(languages, STRING)))
    parallel = _known(parallel, passages, notes)
    merged = pa.concat_tables([named, _not_in(parallel, named, notes)])
    merged = _flagged(merged, passages, notes)
    missing = _missing(merged, passages, languages)
    workspace.write("translations", TRANSLATIONS.check(merged, "translate"))
    workspace.write("missing_translations", MISSING_TRANSLATIONS.check(missing, "translate"))
    workspace.write("rejected", rejects.table())
    unused = sorted({*settings.by.files, *settings.by.ir_datasets} - set(languages))
    workspace.note(
        **{name: dict(counts) for name, counts in notes.counts.items()},
        **({"unused_languages": unused} if unused else {}),
    )
    if len(missing):
        by_language = _by_language(missing)
        workspace.note(
            missing=by_language, warning=f"missing translations of {len(passages)} passages: {_shown(by_language)}"
        )
    _check_missing(missing, len(passages), settings.max_missing)


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
    """The translations into one language that the settings name, of passages that exist."""
    places = [place for path in by.files.get(lang, ()) for place in readers.find_all(path)]
    tables = [PASSAGE_ROWS.empty_table()]
    for place in places:
        rows, parse = readers.read_passages(place, by.fields, lang, keep_empty=True)
        tables += readers.batches(place.name, rows, parse, PASSAGE_ROWS, rejects)
    if lang in by.ir_datasets:
        name = f"ir_datasets:{by.ir_datasets[lang]}"
        rows = ir_passages(name, load_ir_dataset(by.ir_datasets[lang], "docs"))
        tables += readers.batches(name, rows, PassageParser(IR_PASSAGE, lang, keep_empty=True), PASSAGE_ROWS, rejects)
    found = pa.concat_tables(tables)
    in_lang = pc.equal(found["lang"], lang)
    notes.count("other_languages", found["lang"].filter(pc.invert(in_lang)))
    found = _known(keep(found, in_lang), passages, notes)
    check_unique(found, ("passage_id", "lang"), "translation")
    return translations(found, source_lang)


def _known(table: pa.Table, passages: pa.Table, notes: Notes) -> pa.Table:
    known = pc.is_in(table["passage_id"], value_set=passages["passage_id"].combine_chunks())
    notes.count("unknown_ids", table["lang"].filter(pc.invert(known)))
    return keep(table, known)


def _not_in(parallel: pa.Table, named: pa.Table, notes: Notes) -> pa.Table:
    """The parallel passages that no named translation replaces."""
    kept = [parallel.slice(0, 0)]
    for lang in pc.unique(parallel["lang"]).to_pylist():
        rows = keep(parallel, pc.equal(parallel["lang"], lang))
        ids = named["passage_id"].filter(pc.equal(named["lang"], lang)).combine_chunks()
        replaced = pc.is_in(rows["passage_id"], value_set=ids)
        notes.count("replaced_parallel", rows["lang"].filter(replaced))
        kept.append(keep(rows, pc.invert(replaced)))
    return pa.concat_tables(kept)


def _flagged(table: pa.Table, passages: pa.Table, notes: Notes) -> pa.Table:
    """Without the empty translations, and with `copied` where a translation is its source."""
    # 64-bit offsets: the texts of a large collection are more than 2 GB, which taking from them must not overflow.
    originals = passages["text"].cast(pa.large_string()).combine_chunks()
    positions = pc.index_in(table["passage_id"], value_set=passages["passage_id"].combine_chunks())
    tables = [table.slice(0, 0)]
    start = 0
    for batch in table.to_batches(max_chunksize=readers.BATCH_ROWS):
        original = originals.take(positions.slice(start, len(batch)).combine_chunks())
        start += len(batch)
        text = batch["text"].cast(pa.large_string())
        blank = pc.equal(pc.utf8_trim_whitespace(text), "")
        # A passage that is all title has no text to translate.
        empty = pc.and_(blank, pc.not_equal(pc.utf8_trim_whitespace(original), ""))
        copied = pc.and_(pc.equal(text, original), pc.invert(blank))
        notes.count("empty", pa.chunked_array([batch["lang"].filter(empty)]))
        notes.count("copied", pa.chunked_array([batch["lang"].filter(copied)]))
        flags = pa.array([["copied"] if each else [] for each in copied.to_pylist()], STRINGS)
        rows = pa.Table.from_batches([batch]).set_column(
            batch.num_columns - 1, TRANSLATIONS.schema.field("flags"), flags
        )
        tables.append(keep(rows, pc.invert(empty)))
    return pa.concat_tables(tables)


def _missing(table: pa.Table, passages: pa.Table, languages: tuple[str, ...]) -> pa.Table:
    tables = [MISSING_TRANSLATIONS.empty()]
    for lang in languages:
        have = table["passage_id"].filter(pc.equal(table["lang"], lang)).combine_chunks()
        lost = passages["passage_id"].filter(pc.invert(pc.is_in(passages["passage_id"], value_set=have)))
        columns = {"passage_id": lost, "lang": pa.repeat(pa.scalar(lang, STRING), len(lost))}
        tables.append(pa.table(columns, schema=MISSING_TRANSLATIONS.schema))
    return pa.concat_tables(tables)


def _by_language(missing: pa.Table) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in missing["lang"].value_counts().to_pylist()}


def _shown(by_language: dict[str, int]) -> str:
    return ", ".join(f"{lang} {count}" for lang, count in by_language.items())


def _check_missing(missing: pa.Table, passages: int, limit: float) -> None:
    lacking = {lang: count for lang, count in _by_language(missing).items() if count > limit * passages}
    if lacking:
        message = (
            f"of {passages} passages more than translate.max_missing {limit} lack a translation: {_shown(lacking)};"
            " name files or data sets that have them in translate.by, leave the language out, or raise the limit"
        )
        raise SourceError(message)
