"""Charts of ages: where the scan stands among others, and what its predicted age is the sum of."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ermoe_ba.report.content import ReportContent, in_words, percent, signed
from ermoe_ba.report.drawing import ACCENT, DASHED, FAINT, INK, OLDER, YOUNGER, style, to_svg

# Below this many years a difference is rounding in a table of one decimal.
VISIBLE_YEARS = 0.05
# Contributions are drawn on a scale of at least this many years.
SMALLEST_RANGE_YEARS = 10.0


def draw_age_chart(content: ReportContent) -> str:
    """Draw the scan among the training participants.

    Parameters
    ----------
    content : ReportContent
        Its ages of the scan and of the training participants.

    Returns
    -------
    str
        SVG: chronological age across, predicted age up, both in years.
    """
    predicted, interval = content.predicted_age, content.interval
    chronological = content.number("chronological_age")
    ages, others = content.training_ages, content.training_predictions
    shown = [predicted, *(interval or ()), *ages, *others]
    if chronological is not None:
        shown.append(chronological)
    low, high = float(np.floor(min(shown) / 5) * 5), float(np.ceil(max(shown) / 5) * 5)
    with style():
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        ax = figure.add_subplot()
        # Large cohorts would make the SVG heavy: points are stored as pixels, the rest as lines.
        ax.scatter(
            ages,
            others,
            s=16,
            color=FAINT,
            alpha=0.6,
            linewidths=0,
            rasterized=True,
            label=f"training participants, left out when predicted (n = {len(ages):,})",
        )
        ax.plot(
            [low, high],
            [low, high],
            color=INK,
            linewidth=1,
            linestyle=DASHED,
            label="predicted = chronological",
        )
        if interval is not None:
            ax.axhspan(
                *interval,
                color=ACCENT,
                alpha=0.14,
                linewidth=0,
                label=f"{percent(content.coverage)} interval of this scan",
            )
        ax.axhline(
            predicted,
            color=ACCENT,
            linewidth=2,
            label=f"this scan, predicted {predicted:.1f} years",
        )
        if chronological is not None:
            ax.plot(
                [chronological],
                [predicted],
                marker="D",
                markersize=10,
                color=ACCENT,
                markeredgecolor="white",
                markeredgewidth=1.5,
                linestyle="none",
                label=f"this scan, aged {chronological:.1f} years",
            )
        ax.set(
            xlim=(low, high),
            ylim=(low, high),
            aspect="equal",
            xlabel="Chronological age (years)",
            ylabel="Predicted age (years)",
        )
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2)
        return to_svg(figure)


def draw_years_chart(content: ReportContent) -> str:
    """Draw the sum: baseline, each expert's years, predicted age.

    A row for the remainder appears where they do not add up (the age was corrected afterwards),
    so that the chart never shows a sum that is none.

    Parameters
    ----------
    content : ReportContent
        Its baseline, its experts' years and its predicted age.

    Returns
    -------
    str
        SVG: one line per summand, age in years across.
    """
    steps = [(in_words(name), content.expert_years[name]) for name in content.expert_names]
    rest = content.predicted_age - content.baseline_years - sum(years for _, years in steps)
    if abs(rest) >= VISIBLE_YEARS:
        steps.append(("Outside the experts", rest))
    rows = len(steps) + 2
    with style():
        figure = Figure(figsize=(7.2, 0.9 + 0.42 * rows), layout="constrained")
        ax = figure.add_subplot()
        _mark(ax, 0, content.baseline_years, FAINT)
        reached = content.baseline_years
        for line, (_, years) in enumerate(steps, start=1):
            ax.plot([reached, reached], [line - 1, line], color=FAINT, linewidth=1, zorder=1)
            ax.barh(
                line,
                years,
                left=reached,
                height=0.56,
                color=OLDER if years > 0 else YOUNGER,
                zorder=2,
            )
            reached += years
            # Beyond the bar's end on the side that it points to, where nothing else is drawn.
            ax.annotate(
                signed(years),
                (reached, line),
                xytext=(5 if years >= 0 else -5, 0),
                textcoords="offset points",
                ha="left" if years >= 0 else "right",
                va="center",
            )
        ax.plot([reached, reached], [rows - 2, rows - 1], color=FAINT, linewidth=1, zorder=1)
        _mark(ax, rows - 1, content.predicted_age, ACCENT)
        names = ["Baseline", *(name for name, _ in steps), "Predicted age"]
        ax.set_yticks(range(rows), labels=names)
        for text in ax.get_yticklabels():
            text.set_parse_math(False)
        ax.set_ylim(rows - 0.4, -0.6)
        # Room for the numbers beyond the bars, and no zoom on shares too small to matter.
        reach = [content.baseline_years + sum(y for _, y in steps[:n]) for n in range(rows - 1)]
        middle = (min(reach) + max(reach)) / 2
        half = max(0.64 * (max(reach) - min(reach)), SMALLEST_RANGE_YEARS / 2)
        ax.set_xlim(middle - half, middle + half)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x", color="#e3e7eb", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.set_xlabel("Age (years)")
        return to_svg(figure)


def _mark(ax: Axes, line: int, years: float, colour: str) -> None:
    ax.plot([years], [line], marker="D", markersize=9, color=colour, linestyle="none", zorder=3)
    ax.annotate(
        f"{years:.1f}",
        (years, line),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold",
    )
