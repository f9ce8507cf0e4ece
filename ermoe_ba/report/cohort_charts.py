"""Charts of a cohort's predicted ages: how near they come, and what their intervals hold."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ermoe_ba.evaluation import OutOfFold
from ermoe_ba.evaluation.bootstrap import Estimate
from ermoe_ba.report.drawing import ACCENT, DASHED, FAINT, INK, OLDER, style, to_svg
from ermoe_ba.report.page import data_uri
from ermoe_ba.space import Array

# The two ways to set intervals, told apart by shape and fill as well as by colour.
_METHODS = {
    "constant": ("same width for all", "o", ACCENT, "white"),
    "local": ("by expected gap", "s", OLDER, OLDER),
}


def draw_ages(rows: OutOfFold) -> str:
    """Draw predicted against chronological age, with repeated scans of a person joined.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    str
        SVG as data URI; both axes in years.
    """
    both = np.concatenate([rows.chronological, rows.predicted])
    ends = [float(np.floor(both.min() / 5) * 5), float(np.ceil(both.max() / 5) * 5)]
    with style():
        figure = Figure(figsize=(7.2, 6.2), layout="constrained")
        ax = figure.add_subplot()
        _join_people(ax, rows, rows.predicted)
        _points(ax, rows.chronological, rows.predicted)
        ax.plot(ends, ends, color=INK, linewidth=1, linestyle=DASHED, label="both ages agree")
        _line(ax, rows.chronological, rows.predicted)
        ax.set(
            xlim=ends,
            ylim=ends,
            aspect="equal",
            xlabel="Chronological age (years)",
            ylabel="Predicted age (years), out of fold, uncorrected",
        )
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=3)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def draw_gaps(rows: OutOfFold) -> str:
    """Draw the gap against chronological age.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    str
        SVG as data URI; both axes in years.
    """
    with style():
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        ax = figure.add_subplot()
        _join_people(ax, rows, rows.gap)
        _points(ax, rows.chronological, rows.gap)
        ax.axhline(0, color=INK, linewidth=1, linestyle=DASHED, label="no gap")
        _line(ax, rows.chronological, rows.gap)
        ax.set(xlabel="Chronological age (years)", ylabel="Brain age gap (years), uncorrected")
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=3)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def draw_coverage(intervals: dict[str, Any]) -> str:
    """Draw what share of ages the intervals hold: by level, and by decade at 90 %.

    Parameters
    ----------
    intervals : dict
        As `ermoe_ba.evaluation.prediction_intervals.interval_calibration` returns them, at least
        one level of each method.

    Returns
    -------
    str
        SVG as data URI; shares in per cent.
    """
    with style():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        by_level, by_decade = figure.subplots(1, 2, width_ratios=(2, 3))
        for shift, (method, (words, marker, colour, fill)) in zip(
            (-0.13, 0.13), _METHODS.items(), strict=True
        ):
            look: dict[str, Any] = {"fmt": marker, "color": colour, "mfc": fill, "capsize": 3}
            levels = intervals[method]
            places = np.arange(len(levels)) + shift
            value, reach = _with_reach([entry["coverage"] for entry in levels])
            by_level.errorbar(places, 100 * value, yerr=100 * reach, label=words, **look)
            middle = min(levels, key=lambda entry: abs(entry["nominal"] - 0.9))
            decades = middle["by_decade"]
            by_decade.plot(
                np.arange(len(decades)) + shift,
                [100 * group["coverage"] for group in decades],
                linestyle="none",
                marker=marker,
                color=colour,
                markerfacecolor=fill,
            )
        for place, entry in enumerate(levels):
            by_level.hlines(
                100 * entry["nominal"], place - 0.4, place + 0.4, color=INK, linestyle=DASHED
            )
        by_level.set_xticks(
            range(len(levels)), [f"{100 * entry['nominal']:.0f} %" for entry in levels]
        )
        by_level.set(xlabel="Asked for", ylabel="Measured coverage (%)", ylim=(None, 101))
        by_decade.axhline(100 * middle["nominal"], color=INK, linestyle=DASHED, label="asked for")
        by_decade.set_xticks(
            range(len(decades)), [f"{g['group']}s\nn = {g['num_rows']}" for g in decades]
        )
        by_decade.set(
            xlabel="Decade of chronological age",
            title=f"{100 * middle['nominal']:.0f} % intervals by decade",
            ylim=(min(70, by_decade.get_ylim()[0]), 102),
        )
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=3)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def draw_learning_curve(points: list[dict[str, Any]]) -> str:
    """Draw the error against the number of people trained on, which grows by doubling.

    Parameters
    ----------
    points : list of dict
        As `ermoe_ba.evaluation.learning_curve.learning_curve` returns them.

    Returns
    -------
    str
        SVG as data URI.
    """
    with style():
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        ax = figure.add_subplot()
        # Set apart by a hundredth, so that neither hides the other.
        for key, words, marker, colour, shift in (
            ("mae", "all people of the run", "o", ACCENT, 0.99),
            ("mae_common", "people whom all runs tested", "s", OLDER, 1.01),
        ):
            shown = [p for p in points if p[key] is not None]
            value, reach = _with_reach([p[key] for p in shown])
            ax.errorbar(
                [shift * p["num_train"] for p in shown],
                value,
                yerr=reach,
                marker=marker,
                color=colour,
                capsize=3,
                label=words,
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks([p["num_train"] for p in points], [f"{p['num_train']:.0f}" for p in points])
        ax.set(xlabel="People trained on", ylabel="MAE (years)", ylim=(0, None))
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def _with_reach(found: list[Estimate]) -> tuple[Array, Array]:
    """Return values, shape (n,), and how far their intervals reach down and up, shape (2, n)."""
    known = [[e["value"], e["lower"], e["upper"]] for e in found]
    value, low, high = np.array(known, dtype=float).reshape(-1, 3).T
    # Ends beyond the value by rounding would be lengths below 0.
    return value, np.clip([value - low, high - value], 0, None)


def _points(ax: Axes, across: Array, up: Array) -> None:
    # Large cohorts would make the SVG heavy: points are stored as pixels, the rest as lines.
    label = f"one scan each (n = {len(across):,})"
    ax.scatter(
        across, up, s=16, color=ACCENT, alpha=0.6, linewidths=0, rasterized=True, label=label
    )


def _line(ax: Axes, across: Array, up: Array) -> None:
    """Draw the least-squares line over the range of the points."""
    ends = np.array([across.min(), across.max()])
    heights = np.polyval(np.polyfit(across, up, 1), ends)
    ax.plot(ends, heights, color=OLDER, linewidth=2, label="line of best fit")


def _join_people(ax: Axes, rows: OutOfFold, up: Array) -> None:
    people = [own for own in rows.by_person() if len(own) > 1]
    if people:
        # One line with gaps: thousands of lines would be thousands of objects.
        across, heights = (
            np.concatenate([np.append(values[own], np.nan) for own in people])
            for values in (rows.chronological, up)
        )
        ax.plot(across, heights, color=FAINT, linewidth=0.8, zorder=1)
