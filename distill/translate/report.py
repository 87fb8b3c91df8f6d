"""The translation report: what is doubtful, how good translations are where parallel texts tell, and samples to read."""

import importlib.metadata
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from cluster.atomic import write_bytes
from cluster.errors import how_to_install
from cluster.stored_table import StoredTable
from cluster.workspace import Workspace
from distill.pages import plots
from distill.pages.page import page
from distill.tables import TRANSLATION_REPORT, TRANSLATION_SAMPLES
from distill.translate.engines.interface import TranslatorError
from distill.translate.flags import FLAGS
from distill.translate.languages import base
from distill.translate.settings import TranslationReportSettings
from distill.translate.worker import BINS_PER_OCTAVE, RATIO_BIN

PAGE = "translation_report.html"
QUANTILES = {"q01": 0.01, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q99": 0.99}
_ROWS_AT_ONCE = 2000
_DOUBTFUL_SHARE = 0.1
_BLEU_TOKENIZERS = {"zh": "zh", "yue": "zh", "wuu": "zh"}
_UNSEGMENTED = frozenset({"ja", "th", "lo", "km", "my", "bo", "dz", "ko"})


@dataclass(frozen=True)
class Quality:
    """Agreement of translations with parallel texts.

    Attributes:
        bleu: corpus BLEU, 0 to 100.
        chrf: corpus chrF (chrF2), 0 to 100.
        references: number of passages.
        signature: sacrebleu's description of what BLEU was computed how.
    """

    bleu: float
    chrf: float
    references: int
    signature: str


@dataclass(frozen=True)
class LanguageReport:
    """Figures on the translations of one translator into one language.

    Attributes:
        lang: the language.
        translator: the engine.
        counts: passages, flags and work by measure.
        ratios: quantiles of the ratio of characters by name; empty where nothing has any.
        quality: None where there are no parallel texts.
    """

    lang: str
    translator: str
    counts: Mapping[str, float]
    ratios: Mapping[str, float]
    quality: Quality | None = None

    @property
    def passages(self) -> int:
        """How many passages it translated."""
        return int(self.counts.get("passages", 0))

    def share(self, flag: str) -> float:
        """Return the share of its passages with a flag, or `flagged`."""
        return self.counts.get(flag, 0) / self.passages if self.passages else 0.0

    def measures(self) -> dict[str, float]:
        """Return every figure by its name in the table."""
        figures = {name: float(self.counts.get(name, 0)) for name in ("passages", "flagged", *FLAGS)}
        figures |= {name: value for name, value in self.counts.items() if name not in figures}
        figures |= {f"length_ratio_{name}": value for name, value in self.ratios.items()}
        if self.quality:
            figures |= {
                "bleu": self.quality.bleu,
                "chrf": self.quality.chrf,
                "references": float(self.quality.references),
            }
        return figures


def write_report(workspace: Workspace, settings: TranslationReportSettings, parallel: pa.Table) -> None:
    """Write the table `translation_report` and the page `translation_report.html` of a stage whose shards are done, and note the figures.

    Args:
        workspace: the translate stage.
        settings: what to show.
        parallel: TRANSLATIONS that came with the source.

    Cost: reads the shards' counts and samples, not the translations; BLEU and chrF take some milliseconds a passage.
    """
    reports = language_reports(workspace.output("translation_counts"))
    translated = workspace.output("reference_translations")
    reports = with_quality(reports, translated, parallel)
    rows = [
        {"lang": report.lang, "translator": report.translator, "measure": measure, "value": value}
        for report in reports
        for measure, value in report.measures().items()
    ]
    workspace.write("translation_report", TRANSLATION_REPORT.from_rows(rows))
    samples = choose_samples(
        StoredTable.open(workspace.filesystem, f"{workspace.folder}/translation_samples"), settings.samples
    )
    samples = _with_references(samples, parallel)
    write_bytes(workspace.filesystem, f"{workspace.folder}/{PAGE}", translation_page(reports, samples).encode())
    workspace.note(translation_report={f"{r.lang} {r.translator}": r.measures() for r in reports})
    doubtful = [report for report in reports if report.share("flagged") > _DOUBTFUL_SHARE]
    if doubtful:
        shown = ", ".join(f"{report.lang} {report.share('flagged'):.0%}" for report in doubtful)
        workspace.note(warning=f"many translations are flagged: {shown}; see {PAGE} in {workspace.location}")


def language_reports(counts: pa.Table) -> list[LanguageReport]:
    """Add up the TRANSLATION_COUNTS of all shards, by language and translator."""
    sums = counts.group_by(["lang", "translator", "measure"]).aggregate([("value", "sum")])
    counted: dict[tuple[str, str], dict[str, float]] = {}
    for row in sums.sort_by([("lang", "ascending"), ("translator", "ascending"), ("measure", "ascending")]).to_pylist():
        counted.setdefault((row["lang"], row["translator"]), {})[row["measure"]] = row["value_sum"]
    reports = []
    for (lang, translator), measures in counted.items():
        bins = {int(name.removeprefix(RATIO_BIN)): n for name, n in measures.items() if name.startswith(RATIO_BIN)}
        plain = {name: n for name, n in measures.items() if not name.startswith(RATIO_BIN)}
        reports.append(LanguageReport(lang, translator, plain, _quantiles(bins)))
    return reports


def _quantiles(bins: Mapping[int, float]) -> dict[str, float]:
    """Return quantiles of a histogram of ratios whose bin k is around 2^(k / 10)."""
    total = sum(bins.values())
    quantiles = {}
    for name, quantile in QUANTILES.items() if total else ():
        seen = 0.0
        for number in sorted(bins):
            seen += bins[number]
            if seen >= quantile * total:
                quantiles[name] = 2 ** (number / BINS_PER_OCTAVE)
                break
    return quantiles


def with_quality(reports: Sequence[LanguageReport], translated: pa.Table, parallel: pa.Table) -> list[LanguageReport]:
    """Return the reports with BLEU and chrF of `translated` (REFERENCE_TRANSLATIONS) against `parallel` (TRANSLATIONS).

    A translator that made nothing but these gets a report as well.
    """
    references = _texts(parallel, translated)
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in translated.select(["passage_id", "lang", "text", "translator"]).to_pylist():
        reference = references.get((row["passage_id"], row["lang"]), "")
        if reference.strip():
            pairs.setdefault((row["lang"], row["translator"]), []).append((row["text"], reference))
    known = {(report.lang, report.translator): report for report in reports}
    for key in pairs:
        known.setdefault(key, LanguageReport(*key, {}, {}))
    return [
        replace(report, quality=quality([a for a, _ in pairs[key]], [b for _, b in pairs[key]], key[0]))
        if key in pairs
        else report
        for key, report in sorted(known.items())
    ]


def quality(translations: Sequence[str], references: Sequence[str], lang: str) -> Quality:
    """Measure BLEU and chrF of translations against one reference each, by sacrebleu.

    BLEU's words are those of mteval's 13a tokenizer, for Chinese sacrebleu's own, and characters in other scripts without spaces.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise TranslatorError(
            f"BLEU and chrF need sacrebleu: {how_to_install('mt')}; or set translate.report.references to 0"
        ) from error
    tokenizer = _BLEU_TOKENIZERS.get(base(lang), "char" if base(lang) in _UNSEGMENTED else "13a")
    bleu = BLEU(tokenize=tokenizer)
    overlap = bleu.corpus_score(list(translations), [list(references)])
    chrf = CHRF().corpus_score(list(translations), [list(references)])
    return Quality(overlap.score, chrf.score, len(references), str(bleu.get_signature()))


def choose_samples(table: StoredTable, count: int) -> list[dict]:
    """Return the first `count` TRANSLATION_SAMPLES of each language of all shards, flagged and others apart, in the samples' order."""
    best: dict[tuple[str, bool], list[dict]] = {}
    for start in range(0, len(table), _ROWS_AT_ONCE):
        part = TRANSLATION_SAMPLES.check(table.read(start, start + _ROWS_AT_ONCE), "translate")
        for row in part.to_pylist():
            best.setdefault((row["lang"], bool(row["flags"])), []).append(row)
        for key, rows in best.items():
            best[key] = sorted(rows, key=lambda row: row["order"])[:count]
    return [row for key in sorted(best) for row in best[key]]


def _with_references(samples: Sequence[dict], parallel: pa.Table) -> list[dict]:
    texts = _texts(
        parallel,
        pa.table({name: pa.array([row[name] for row in samples], pa.string()) for name in ("passage_id", "lang")}),
    )
    return [row | {"reference": texts.get((row["passage_id"], row["lang"]), "")} for row in samples]


def _texts(parallel: pa.Table, wanted: pa.Table) -> dict[tuple[str, str], str]:
    """Return the parallel texts of some passages, by passage and language."""
    near = parallel.filter(pc.is_in(parallel["passage_id"], value_set=wanted["passage_id"].combine_chunks()))
    ids, langs = near["passage_id"].to_pylist(), near["lang"].to_pylist()
    texts = (unicodedata.normalize("NFC", text) for text in near["text"].to_pylist())
    return dict(zip(zip(ids, langs, strict=True), texts, strict=True))


def translation_page(reports: Sequence[LanguageReport], samples: Iterable[Mapping[str, object]]) -> str:
    """Return the report as one self-contained HTML page; all text is escaped."""
    from markupsafe import Markup

    labels = _labels(reports)
    ratios = {labels[i]: list(r.ratios.values()) for i, r in enumerate(reports) if r.ratios}
    shares = {labels[i]: {flag: r.share(flag) for flag in FLAGS} for i, r in enumerate(reports) if r.passages}
    figures = [plots.translation_lengths(ratios)] if ratios else []
    figures += [plots.translation_flags(shares)] if any(any(by.values()) for by in shares.values()) else []
    return page(
        "translate/report.html.j2",
        reports=reports,
        flags=FLAGS,
        figures=[Markup(figure) for figure in figures],  # noqa: S704 - drawn here, labels are escaped
        samples=list(samples),
        measured=[report for report in reports if report.quality],
        sacrebleu=importlib.metadata.version("sacrebleu") if any(report.quality for report in reports) else "",
    )


def _labels(reports: Sequence[LanguageReport]) -> list[str]:
    """Return the name of each report in figures: the language, numbered where it has several translators."""
    langs = [report.lang for report in reports]
    return [
        lang if langs.count(lang) == 1 else f"{lang} ({langs[: index + 1].count(lang)})"
        for index, lang in enumerate(langs)
    ]
