"""Charts of a cohort's predicted ages: how near they come, and what their intervals hold."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ermoe_ba.evaluation import Evaluation, OutOfFold
from ermoe_ba.evaluation.bootstrap import Estimate
from ermoe_ba.evaluation.run_record import RunRecord
from ermoe_ba.report.content import in_words
from ermoe_ba.report.drawing import ACCENT, FAINT, INK, OLDER, style, to_svg
from ermoe_ba.report.page import data_uri
from ermoe_ba.space import Array

# The two ways to set intervals, told apart by shape and fill as well as by colour.
_METHODS = {
    "constant": ("same width for all", "o", ACCENT, "white"),
    "local": ("by expected gap", "s", OLDER, OLDER),
}
_DASHED = (0, (4, 3))


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
        ax.plot(ends, ends, color=INK, linewidth=1, linestyle=_DASHED, label="both ages agree")
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
        ax.axhline(0, color=INK, linewidth=1, linestyle=_DASHED, label="no gap")
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
                100 * entry["nominal"], place - 0.4, place + 0.4, color=INK, linestyle=_DASHED
            )
        by_level.set_xticks(
            range(len(levels)), [f"{100 * entry['nominal']:.0f} %" for entry in levels]
        )
        by_level.set(xlabel="Asked for", ylabel="Measured coverage (%)", ylim=(None, 101))
        by_decade.axhline(100 * middle["nominal"], color=INK, linestyle=_DASHED, label="asked for")
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


def draw_experts(record: RunRecord) -> str:
    """Draw the error with the experts interfered with, as the run measured it.

    Parameters
    ----------
    record : RunRecord
        Whose metrics hold ``probe_mae`` and ``probe_mae_without_expert``, in years, and other such
        errors where known.

    Returns
    -------
    str
        SVG as data URI.
    """
    metrics = record.metrics
    bars = [
        (words, float(np.mean(metrics[key])))
        for key, words in (
            ("probe_mae_zeroed", "all experts silenced"),
            ("probe_mae_random_routing", "random routing"),
            ("probe_mae_other_subject_routing", "other people's routing"),
        )
        if key in metrics
    ]
    bars += [(f"without {name}", years) for name, years in errors_without_expert(record)]
    with style():
        figure = Figure(figsize=(7.2, 1.0 + 0.34 * len(bars)), layout="constrained")
        ax = figure.add_subplot()
        ax.barh(range(len(bars)), [years for _, years in bars], height=0.6, color=ACCENT)
        for place, (_, years) in enumerate(bars):
            ax.annotate(
                f"{years:.1f}", (years, place), (4, 0), textcoords="offset points", va="center"
            )
        ax.axvline(metrics["probe_mae"], color=INK, linestyle=_DASHED, label="left as it is")
        ax.set_yticks(range(len(bars)), [words for words, _ in bars])
        ax.invert_yaxis()
        ax.set_xlabel("MAE (years)")
        figure.legend(loc="outside lower center", frameon=False, fontsize=9)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def errors_without_expert(record: RunRecord) -> list[tuple[str, float]]:
    """Return the error without each expert.

    Parameters
    ----------
    record : RunRecord
        With ``probe_mae_without_expert`` among its metrics.

    Returns
    -------
    list of (str, float)
        Each expert's name, or number where it has none, and the MAE without it in years.

    Raises
    ------
    KeyError
        If that was not measured.
    """
    errors = record.metrics["probe_mae_without_expert"]
    named = len(record.expert_names) == len(errors)
    numbers = [f"expert {number}" for number in range(1, len(errors) + 1)]
    names = [in_words(name) for name in record.expert_names] if named else numbers
    return list(zip(names, map(float, errors), strict=True))


def draw_histories(evaluation: Evaluation) -> str:
    """Draw how training went: one panel a kind of figure, one line a training.

    Parameters
    ----------
    evaluation : Evaluation
        Whose record holds one history at least.

    Returns
    -------
    str
        SVG as data URI; steps across.
    """
    tables = evaluation.record.histories.values()
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    panels = {
        "Loss": [n for n in names if n == "loss"],
        "MAE (years)": [n for n in names if n.startswith("mae_")],
        "Expert load (share)": [n for n in names if "load" in n],
    }
    shown = {label: columns for label, columns in panels.items() if columns}
    looks = ("-", _DASHED, "-.", ":")
    with style():
        figure = Figure(figsize=(7.2, 2.6 * max(1, len(shown))), layout="constrained")
        axes = np.atleast_1d(figure.subplots(max(1, len(shown)), sharex=True))
        for ax, (label, columns) in zip(axes, shown.items(), strict=False):
            for number, column in enumerate(columns):
                look = {"linestyle": looks[number % 4], "color": f"C{number}"}
                for table in tables:
                    if column in table:
                        known = table.dropna(subset=[column])
                        ax.plot(known["step"], known[column], linewidth=0.9, alpha=0.6, **look)
                ax.plot([], [], label=column.replace("_", " "), **look)
            ax.set_ylabel(label)
            if len(columns) > 1:
                ax.legend(frameon=False, fontsize=8, ncols=2)
        axes[-1].set_xlabel("Step")
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
