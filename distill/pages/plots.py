"""The figures of reports, as inline SVG: no script, no font and no file from elsewhere.

Text is drawn as outlines, so that it looks the same everywhere; each number is also in a table of the report. Colours
are CSS variables of the page with a fall-back, so that the figures follow its light and dark themes.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib is given colours that occur nowhere else; `_to_svg` turns them into what the page defines.
_INK, _RULE, _PLAIN = "#010101", "#020202", "#030303"
_SYSTEM_INK = {"bm25": "#040404", "english_distillation": "#050505", "student": "#060606", "teacher": "#070707"}
_SERIES = tuple(f"#1{number}1{number}1{number}" for number in range(8))
_CSS = {
    _INK: "currentColor",
    _RULE: "var(--rule, #d5d8dc)",
    _PLAIN: "var(--plain, #56748f)",
    **{ink: f"var(--{system.replace('_', '-')}, #56748f)" for system, ink in _SYSTEM_INK.items()},
    **{ink: f"var(--series-{number}, #56748f)" for number, ink in enumerate(_SERIES)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "polyray",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "hatch.color": _INK,
}

Interval = tuple[float, float, float]
"""Mean, lower and upper end."""


def series_number(system: str, systems: Sequence[str]) -> int:
    """Return the number of a system's colour among the page's eight, `--series-0` and so on."""
    return list(systems).index(system) % len(_SERIES)


def _colour(system: str, order: Sequence[str] | None) -> str:
    return _SYSTEM_INK.get(system, _PLAIN) if order is None else _SERIES[series_number(system, order)]


def training_curves(logs: Mapping[str, pa.Table], names: Mapping[str, str], order: Sequence[str] | None = None) -> str:
    """Draw the loss by optimiser step for each system (TRAINING_LOG): each logged value faintly, and their running mean.

    Args:
        logs: system -> TRAINING_LOG.
        names: system -> its name in the legend.
        order: all systems in the order of the page's colours. If None, systems have colours of their own.
    """
    with _style():
        figure, axes = _figure(5.4, 3.2)
        for system, log in logs.items():
            steps, losses = (log.sort_by("step")[column].to_numpy() for column in ("step", "loss"))
            colour = _colour(system, order)
            axes.plot(steps, losses, color=colour, alpha=0.35, linewidth=0.8)
            axes.plot(
                steps,
                running_mean(losses, max(1, len(losses) // 15)),
                color=colour,
                linewidth=1.8,
                label=names.get(system, system),
            )
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss")
        axes.legend()
        return _to_svg(figure, "Training loss by optimiser step")


def score_distribution(scores: pa.Table) -> str:
    """Draw two histograms of a SCORES table: the raw scores, and each query's spread from worst to best candidate."""
    values = pc.list_flatten(scores["scores"]).to_numpy()
    with _style():
        figure, left = _figure(5.4, 3.2, columns=2)
        right = figure.axes[1]
        left.hist(values, bins=40, color=_PLAIN)
        left.set_xlabel("raw score")
        left.set_ylabel("pairs of query and passage")
        right.hist(spreads(scores), bins=30, color=_PLAIN)
        right.set_xlabel("best minus worst score")
        right.set_ylabel("queries")
        return _to_svg(figure, "Distribution of the teacher's scores")


def quality_bars(
    means: Mapping[str, Mapping[str, Interval]],
    collections: Sequence[str],
    names: Mapping[str, str],
    measure: str,
    order: Sequence[str] | None = None,
) -> str:
    """Draw grouped bars: one group for each collection, one bar for each system measured on it, with its interval.

    Args:
        means: system -> collection -> mean and interval.
        collections: order of the groups.
        names: system -> its name in the legend.
        measure: name of the vertical axis.
        order: all systems in the order of the page's colours, for an axis as long as the bars. If None, systems have colours of their own,
            and the axis goes from 0 to 1.
    """
    with _style():
        figure, axes = _figure(9.2, 3.4)
        axes.grid(visible=True, axis="y")
        width = 0.8 / max(1, len(means))
        for number, (system, measured) in enumerate(means.items()):
            shown = [name for name in collections if name in measured]
            lefts = [collections.index(name) + (number - (len(means) - 1) / 2) * width for name in shown]
            middle = np.array([measured[name][0] for name in shown])
            reach = np.abs(
                np.array([[measured[name][1], measured[name][2]] for name in shown]).reshape(-1, 2).T - middle
            )
            axes.bar(lefts, middle, width * 0.92, color=_colour(system, order), label=names.get(system, system))
            axes.errorbar(
                lefts, middle, yerr=reach, fmt="none", color=_INK, ecolor=_INK, elinewidth=0.9, capsize=2, capthick=0.9
            )
        axes.set_xticks(range(len(collections)), list(collections))
        if order is None:
            axes.set_ylim(0, 1)
        axes.set_ylabel(measure)
        axes.legend(ncols=min(len(means), 4), loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
        return _to_svg(figure, f"{measure} of every system by collection")


def fold_values(values: Mapping[str, Mapping[str, float]], names: Mapping[str, str], measure: str) -> str:
    """Draw a row of dots for each system, one for each fold, and a bar at their mean; a line joins the dots of a fold.

    Args:
        values: system -> fold -> value.
        names: system -> its name on the vertical axis.
        measure: name of the horizontal axis.
    """
    with _style():
        figure, axes = _figure(7.4, 0.9 + 0.34 * len(values))
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        for fold in dict.fromkeys(fold for by in values.values() for fold in by):
            shown = [(by[fold], row) for row, by in enumerate(values.values()) if fold in by]
            axes.plot(*zip(*shown, strict=True), color=_RULE, linewidth=0.8, zorder=1)
        for row, (system, by) in enumerate(values.items()):
            colour, dots = _colour(system, list(values)), list(by.values())
            axes.plot(dots, [row] * len(dots), linestyle="none", marker="o", markersize=5, color=colour)
            axes.plot([np.mean(dots)], [row], linestyle="none", marker="|", markersize=16, color=_INK)
        axes.set_yticks(range(len(values)), [names.get(system, system) for system in values])
        axes.margins(y=0.15)
        axes.invert_yaxis()
        axes.set_xlabel(measure)
        return _to_svg(figure, f"{measure} of every system by fold")


def teacher_scores(sample: np.ndarray, by_rank: Mapping[str, Sequence[float]], name: str) -> str:
    """Draw a teacher's raw scores: their histogram, and by the selector's ranks the median with the middle half and nine tenths.

    Args:
        sample: raw scores.
        by_rank: ranks -> the quantiles 5 %, 25 %, 50 %, 75 %, 95 %.
        name: the teacher, for screen readers.
    """
    with _style():
        figure, left = _figure(7.4, 3.2, columns=2)
        right = figure.axes[1]
        left.hist(sample, bins=60, color=_PLAIN)
        left.set_xlabel("raw score")
        left.set_ylabel("pairs of query and passage")
        columns = np.arange(len(by_rank))
        low, lower, middle, upper, high = np.array(list(by_rank.values()), dtype=np.float64).reshape(-1, 5).T
        right.vlines(columns, low, high, color=_PLAIN, linewidth=1)
        right.vlines(columns, lower, upper, color=_PLAIN, linewidth=7)
        right.plot(columns, middle, linestyle="none", marker="_", markersize=11, color=_INK)
        right.set_xticks(columns, list(by_rank))
        right.set_xlabel("rank given by the selector")
        right.set_ylabel("raw score")
        return _to_svg(figure, f"Raw scores of {name}")


def translation_lengths(quantiles: Mapping[str, Sequence[float]]) -> str:
    """Draw the length of translations relative to their sources by language: median, middle half, and all but the outer hundredths.

    Args:
        quantiles: language -> the quantiles 1 %, 25 %, 50 %, 75 %, 99 % of characters, translation to source.
    """
    with _style():
        figure, axes = _figure(5.4, 3.2)
        columns = np.arange(len(quantiles))
        low, lower, middle, upper, high = np.array(list(quantiles.values()), dtype=np.float64).reshape(-1, 5).T
        axes.vlines(columns, low, high, color=_PLAIN, linewidth=1)
        axes.vlines(columns, lower, upper, color=_PLAIN, linewidth=9)
        axes.plot(columns, middle, linestyle="none", marker="_", markersize=14, color=_INK)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(columns, list(quantiles))
        axes.set_xlim(-0.6, len(quantiles) - 0.4)
        axes.set_ylabel("characters, translation to source")
        return _to_svg(figure, "Length of translations relative to their sources")


def translation_flags(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Draw the share of flagged passages by language, one horizontal bar for each flag that occurs.

    Args:
        shares: language -> flag -> share of the passages, from 0 to 1.
    """
    flags = [flag for flag in next(iter(shares.values()), {}) if any(by[flag] for by in shares.values())]
    with _style():
        figure, axes = _figure(5.4, 0.9 + 0.16 * max(1, len(flags)) * len(shares))
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        height = 0.8 / max(1, len(flags))
        for number, flag in enumerate(flags):
            rows = np.arange(len(shares)) + (number - (len(flags) - 1) / 2) * height
            bars = axes.barh(rows, [100 * by[flag] for by in shares.values()], height * 0.9, color=_PLAIN)
            axes.bar_label(bars, [f" {flag}" if by[flag] else "" for by in shares.values()], color=_INK, fontsize=7)
        axes.set_yticks(range(len(shares)), list(shares))
        axes.margins(x=0.25)
        axes.invert_yaxis()
        axes.set_xlabel("flagged passages, %")
        return _to_svg(figure, "Flagged passages by language")


def stage_bars(seconds: Mapping[str, float], reused: Sequence[str]) -> str:
    """Draw horizontal bars of the seconds of each stage, in the order given; those of reused stages are hatched."""
    with _style():
        figure, axes = _figure(5.4, 0.9 + 0.24 * len(seconds))
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        bars = axes.barh(list(seconds), list(seconds.values()), color=_PLAIN)
        for stage, bar in zip(seconds, bars, strict=True):
            if stage in reused:
                bar.set(facecolor="none", edgecolor=_PLAIN, hatch="////", linewidth=1)
        axes.bar_label(bars, [f" {value:.3g}" for value in seconds.values()], color=_INK)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        return _to_svg(figure, "Seconds by stage")


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of each value and up to `window` - 1 values before it."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def spreads(scores: pa.Table) -> np.ndarray:
    """Return, for each query of a SCORES table with a candidate, its best score minus its worst."""
    lists = scores["scores"].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(lists).to_numpy()
    if not len(values):
        return np.zeros(0, dtype=np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])[lengths > 0]
    return np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)


def _style() -> AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def _figure(width: float, height: float, columns: int = 1) -> "tuple[Figure, Axes]":
    """Return a figure of that size in inches with a row of axes, and the first of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    for number in range(columns):
        figure.add_subplot(1, columns, number + 1)
    return figure, figure.axes[0]


def _to_svg(figure: "Figure", label: str) -> str:
    """Return the figure as an <svg> element: no metadata, fixed ids, the page's colours, a label for screen readers."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # A style element inside would apply to the whole page; the page's own style sheet says the same of figures.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    for ink, css in _CSS.items():
        svg = svg.replace(ink, css)
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1))  # pyright: ignore[reportOptionalMemberAccess]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    # Ids must be unique in the page, and two figures may have the same ones.
    prefix = re.sub(r"\W+", "-", label.lower()).strip("-")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    return svg.replace(
        "<svg ", f'<svg role="img" aria-label="{html.escape(label)}" style="width: {width / 72 * 96:.0f}px" ', 1
    ).strip()
