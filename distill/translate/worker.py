"""The worker of the translate stage: from a range of (passage, language) pairs to the tables of a shard."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from cluster.stored_table import StoredTable
from cluster.workspace import Shard
from distill.tables import (
    MISSING_TRANSLATIONS,
    REFERENCE_TRANSLATIONS,
    REJECTED,
    TRANSLATION_COUNTS,
    TRANSLATION_SAMPLES,
    TRANSLATIONS,
)
from distill.text import passage_text
from distill.translate.engines import Engines
from distill.translate.engines.interface import TranslationEngine, TranslatorError
from distill.translate.flags import EMPTY
from distill.translate.passages import PassageTranslator, SourcePassage, TranslatedPassage, Work
from distill.translate.settings import TranslateSettings

FROM = " from "
"""What stands between the two languages in the name of a column of `Pairs` whose passages are not in the source language."""
REFERENCE = " reference"
"""The end of the name of a column of `Pairs` whose passages are translated for the report only."""
RATIO_BIN = "length_ratio_bin:"
BINS_PER_OCTAVE = 10
_WINDOW = 20_000
_COLUMNS = ("passage_id", "title", "text")


@dataclass(frozen=True)
class Pair:
    """A passage and a language into which it is translated.

    Attributes:
        row: the passage's position in the tables of passages, one after the other.
        lang: the language.
        reference: true if the translation is for the report only.
        origin: the passage's own language; empty for the source language.
    """

    row: int
    lang: str
    reference: bool
    origin: str = ""


class Pairs:
    """All pairs of a stage in a fixed order: column by column, in each the rows that are true.

    Args:
        wanted: for each language a column of booleans, one for each passage; then perhaps columns whose names end in ` reference`, and
            those of passages in other languages, such as `en from de`.

    Cost: a bit for each passage and language.
    """

    def __init__(self, wanted: pa.Table) -> None:
        self._wanted = wanted
        counts = [int(column.to_numpy().sum()) for column in wanted.columns]
        self._ends = np.cumsum([0, *counts])
        self._rows: tuple[str, Int[np.ndarray, " N"]] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, stop: int) -> list[Pair]:
        """Return the pairs start to stop."""
        pairs = []
        for name, first, end in zip(self._wanted.column_names, self._ends, self._ends[1:], strict=False):
            low, high = max(start, int(first)), min(stop, int(end))
            if low < high:
                rows = self._true(name)[low - int(first) : high - int(first)]
                lang, _, origin = name.removesuffix(REFERENCE).partition(FROM)
                pairs += [Pair(int(row), lang, name.endswith(REFERENCE), origin) for row in rows]
        return pairs

    def first(self) -> Pair | None:
        """Return the first pair, or None without any."""
        return next(iter(self.read(0, 1)), None)

    def _true(self, name: str) -> Int[np.ndarray, " N"]:
        if self._rows is None or self._rows[0] != name:
            self._rows = (name, np.flatnonzero(self._wanted[name].to_numpy()))
        return self._rows[1]


class TranslateWorker:
    """A worker that translates ranges of pairs with engines that are loaded once.

    Args:
        settings: the translate stage.
        source_lang: the passages' language.
        languages: the languages of the job.
        passages: the tables of passages, read in parts: those in the source language, then perhaps those in others.
        wanted: the argument of `Pairs`.
        existing: translations that need no engine, written by the shard whose `args` have `existing`.
        rejected: rows of their files that could not be used, written by the same shard.
    """

    def __init__(
        self,
        settings: TranslateSettings,
        source_lang: str,
        languages: Sequence[str],
        passages: Sequence[StoredTable],
        wanted: pa.Table,
        existing: pa.Table,
        rejected: pa.Table,
    ) -> None:
        if settings.engine is None:
            raise TranslatorError("translate names no engine")
        self._settings = settings
        self._source_lang = source_lang
        self._languages = languages
        self._passages = passages
        self._pairs = Pairs(wanted)
        self._existing, self._rejected = existing, rejected
        device = "cuda" if settings.pool.num_gpus else "cpu"
        threads = max(1, int(settings.pool.num_cpus))
        self._engines = Engines(settings.engine, source_lang, device, threads)
        second = settings.second_engine
        self._fallback = Engines(second, source_lang, device, threads) if second else None
        self._translators: dict[str, PassageTranslator] = {}
        # Load now: the size of shards follows from the time of the first ones.
        if first := self._pairs.first():
            self._engine(first)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the translations of pairs start to stop, with counts, samples and rejected rows."""
        return self.without_rows(shard, {})

    def row_ids(self, shard: Shard) -> list[str]:
        """Return `passage language` of every pair."""
        passages = self._read(self._range(shard))
        return [f"{passage_id} {pair.lang}" for pair, (passage_id, _) in passages]

    def try_rows(self, shard: Shard, start: int, stop: int) -> None:
        """Translate pairs start to stop of `row_ids`."""
        self._translate(self._read(self._range(shard)[start:stop]))

    def without_rows(self, shard: Shard, lost: Mapping[int, str]) -> dict[str, pa.Table]:
        """Return the shard's tables; pairs in `lost` are in `rejected`, and, to keep ids aligned, without text in `translations`."""
        if shard.args.get("existing"):
            return _tables([], []) | {"translations": self._existing, "rejected": self._rejected}
        pairs = self._read(self._range(shard))
        good = [entry for index, entry in enumerate(pairs) if index not in lost]
        translated = self._translate(good)
        name = {
            key: self._engine(Pair(0, key[1], False, key[0])).name for key in _directions(pairs[i][0] for i in lost)
        }
        bad = [
            (*pairs[index], TranslatedPassage("", "", name[_direction(pairs[index][0])], (EMPTY,)))
            for index in sorted(lost)
        ]
        made = [(*entry, passage) for entry, passage in zip(good, translated.passages, strict=True)]
        tables = _tables([*made, *bad], self._rejections(pairs, lost), self._source_lang)
        tables["translation_counts"] = TRANSLATION_COUNTS.from_rows(_counts(made, translated.work))
        tables["translation_samples"] = TRANSLATION_SAMPLES.from_rows(_samples(made, self._settings.report.samples))
        return tables

    def _range(self, shard: Shard) -> list[Pair]:
        return [] if shard.args.get("existing") else self._pairs.read(shard.args["start"], shard.args["stop"])

    def _read(self, pairs: Sequence[Pair]) -> "list[tuple[Pair, tuple[str, SourcePassage]]]":
        """Return the pairs with id and texts of their passages; read the windows of the table in which any lies, one at a time."""
        texts: dict[int, tuple[str, SourcePassage]] = {}
        before = 0
        for table in self._passages:
            rows = sorted({pair.row - before for pair in pairs if 0 <= pair.row - before < len(table)})
            for window in sorted({row // _WINDOW for row in rows}):
                here = [row for row in rows if row // _WINDOW == window]
                part = table.read(here[0], here[-1] + 1, _COLUMNS).take([row - here[0] for row in here])
                for row, entry in zip(here, part.to_pylist(), strict=True):
                    texts[before + row] = (entry["passage_id"], SourcePassage(entry["title"], entry["text"]))
            before += len(table)
        return [(pair, texts[pair.row]) for pair in pairs]

    def _engine(self, pair: Pair) -> TranslationEngine:
        return self._engines.get(pair.lang, pair.origin)

    def _translator(self, origin: str) -> PassageTranslator:
        """Return the translator of passages in a language; they share their engines."""
        if origin not in self._translators:
            langs = (self._source_lang, *self._languages)
            self._translators[origin] = PassageTranslator(
                self._settings, origin or self._source_lang, langs, self._engines, self._fallback, origin
            )
        return self._translators[origin]

    def _translate(self, pairs: "Sequence[tuple[Pair, tuple[str, SourcePassage]]]") -> "_Translations":
        """Translate pairs, language by language; return the translations in the pairs' order and the work for each language."""
        groups: dict[tuple[str, str, bool], list[int]] = {}
        for index, (pair, _) in enumerate(pairs):
            groups.setdefault((*_direction(pair), pair.reference), []).append(index)
        passages: list[TranslatedPassage | None] = [None] * len(pairs)
        work: dict[tuple[str, str], list[Work]] = {}
        for (origin, lang, reference), indices in groups.items():
            translator = self._translator(origin)
            translator.work = Work()
            translated = translator.translate([pairs[index][1][1] for index in indices], lang)
            for index, passage in zip(indices, translated, strict=True):
                passages[index] = passage
            if not reference:
                work.setdefault((lang, self._engines.get(lang, origin).name), []).append(translator.work)
        return _Translations([passage for passage in passages if passage is not None], work)

    def _rejections(
        self, pairs: "Sequence[tuple[Pair, tuple[str, SourcePassage]]]", lost: Mapping[int, str]
    ) -> list[dict]:
        own = len(self._passages[0])
        return [
            {
                "source": "parallel" if pair.row >= own else "passages",
                "line": (pair.row - own if pair.row >= own else pair.row) + 1,
                "id": f"{passage_id} {pair.lang}",
                "field": "text",
                "reason": lost[index],
            }
            for index, (pair, (passage_id, _)) in enumerate(pairs)
            if index in lost
        ]


@dataclass(frozen=True)
class _Translations:
    passages: list[TranslatedPassage]
    work: Mapping[tuple[str, str], Sequence[Work]]


def _direction(pair: Pair) -> tuple[str, str]:
    return pair.origin, pair.lang


def _directions(pairs: Iterable[Pair]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(map(_direction, pairs)))


_Made = tuple[Pair, tuple[str, SourcePassage], TranslatedPassage]


def _tables(made: Sequence[_Made], rejected: Sequence[Mapping], source_lang: str = "") -> dict[str, pa.Table]:
    ordered = sorted(made, key=lambda entry: (entry[0].lang, entry[0].row))
    rows = [
        (
            pair.reference,
            {
                "passage_id": passage_id,
                "source_lang": pair.origin or source_lang,
                "lang": pair.lang,
                "title": passage.title,
                "text": passage.text,
                "translator": passage.translator,
                "flags": list(passage.flags),
            },
        )
        for pair, (passage_id, _), passage in ordered
    ]
    return {
        "translations": TRANSLATIONS.from_rows(row for reference, row in rows if not reference),
        "missing_translations": MISSING_TRANSLATIONS.from_rows(
            {"passage_id": row["passage_id"], "lang": row["lang"]}
            for reference, row in rows
            if not reference and EMPTY in row["flags"]
        ),
        "reference_translations": REFERENCE_TRANSLATIONS.from_rows(row for reference, row in rows if reference),
        "rejected": REJECTED.from_rows(rejected),
        "translation_counts": TRANSLATION_COUNTS.empty(),
        "translation_samples": TRANSLATION_SAMPLES.empty(),
    }


def _counts(made: Sequence[_Made], work: Mapping[tuple[str, str], Sequence[Work]]) -> list[dict]:
    """Return counts by language and translator; work is counted for the first engine."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for pair, (_, source), passage in made:
        if pair.reference:
            continue
        key = (pair.lang, passage.translator)
        counts[*key, "passages"] += 1
        for flag in passage.flags:
            counts[*key, flag] += 1
        if passage.flags:
            counts[*key, "flagged"] += 1
        if source.text and passage.text:
            counts[*key, f"{RATIO_BIN}{ratio_bin(len(passage.text) / len(source.text))}"] += 1
    for key, done in ((key, one) for key, every in work.items() for one in every):
        counts[*key, "sentences"] += done.sentences
        counts[*key, "distinct_sentences"] += done.translated
        counts[*key, "second"] += done.second
        counts[*key, "replaced"] += done.replaced
    return [
        {"lang": lang, "translator": name, "measure": measure, "value": float(count)}
        for (lang, name, measure), count in sorted(counts.items())
        if count
    ]


def ratio_bin(ratio: float) -> int:
    """Return the histogram bin of a ratio: bin k is around 2^(k / 10)."""
    return round(BINS_PER_OCTAVE * math.log2(ratio))


def _samples(made: Sequence[_Made], count: int) -> list[dict]:
    """Return of each language the first passages in a random order, and the first flagged ones."""
    groups: dict[tuple[str, bool], list[dict]] = {}
    for pair, (passage_id, source), passage in made:
        groups.setdefault((pair.lang, bool(passage.flags)), []).append(
            {
                "passage_id": passage_id,
                "lang": pair.lang,
                "source": passage_text(source.title, source.text),
                "translation": passage_text(passage.title, passage.text),
                "reference": "",
                "translator": passage.translator,
                "flags": list(passage.flags),
                "order": sample_order(passage_id, pair.lang),
            }
        )
    return [row for rows in groups.values() for row in sorted(rows, key=lambda row: row["order"])[:count]]


def sample_order(passage_id: str, lang: str) -> int:
    """Return a random number of 64 bits that depends on the passage and the language alone."""
    return int.from_bytes(hashlib.sha256(f"sample/{lang}/{passage_id}".encode()).digest()[:8])
