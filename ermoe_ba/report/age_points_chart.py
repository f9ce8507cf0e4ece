"""Draws a cohort's ages and intervals over those of the people that its model was trained on."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ermoe_ba.report.age_points import ABOVE, AgePoints
from ermoe_ba.report.drawing import ACCENT, DASHED, FAINT, INK, OLDER, style, to_svg
from ermoe_ba.report.page import data_uri
from ermoe_ba.space import Array

# Up to so many points are stored as shapes, sharp at any size; more of them as pixels, so that the
# picture does not grow with the cohort.
MAX_SHAPES = 400
# Pixels an inch of what is stored as such: more than the page shows on a common screen.
DPI = 150
# Areas of points, in square points: of a cohort of up to `MAX_SHAPES`, and as a share of that of
# the largest cohorts, whose points would hide each other.
AREA, SMALLEST = 18.0, 0.3


def draw_age_points(points: AgePoints) -> str:
    """Draw predicted against chronological ages, and beside them those of unknown age.

    Parameters
    ----------
    points : AgePoints
        With a predicted age at least; each point is drawn where it says.

    Returns
    -------
    str
        SVG as data URI, ages in years.

    Raises
    ------
    ValueError
        If no row has a predicted age.
    """
    if not points.drawable:
        raise ValueError("A chart of ages must have a predicted age; found none. Leave it out.")
    with style():
        figure = Figure(figsize=points.size, dpi=DPI)
        square = _add_panel(figure, points, points.square)
        strip = _add_panel(figure, points, points.strip)
        if square is not None:
            _fill_square(square, points)
        if strip is not None:
            _fill_strip(strip, points, alone=square is None)
        # Of both panels, each kind of mark once, in one order.
        handles = {
            words: mark
            for ax in figure.axes
            for mark, words in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        shown = [words for words in points.legend.values() if words in handles]
        legend = figure.legend(
            [handles[words] for words in shown],
            shown,
            loc="lower center",
            frameon=False,
            fontsize=9,
            borderaxespad=0.2,
            labelspacing=0.3,
        )
        for mark in legend.legend_handles:
            if mark is not None:
                # One line is as faint as one of thousands that add up.
                mark.set_alpha(max(0.5, mark.get_alpha() or 1.0))
        return data_uri("image/svg+xml", to_svg(figure).encode())


def _add_panel(figure: Figure, points: AgePoints, box: tuple[float, float] | None) -> Axes | None:
    """Add the axes of a panel, whose ages go up, where there is one."""
    if box is None:
        return None
    width, height = points.size
    below = height - ABOVE - points.height
    ax = figure.add_axes((box[0] / width, below / height, box[1] / width, points.height / height))
    low, high = points.range
    ages = [
        age for age in ax.yaxis.get_major_locator().tick_values(low, high) if low <= age <= high
    ]
    names = [f"{age:g}" for age in ages]
    if points.bottom < low:
        ages, names = [*ages, points.row], [*names, "none"]
    ax.set_yticks(ages, names)
    ax.set_ylim(points.bottom, high)
    return ax


def _fill_square(ax: Axes, points: AgePoints) -> None:
    low, high = points.range
    many = len(points.predicted) > MAX_SHAPES
    ax.plot([low, high], [low, high], color=INK, linewidth=1, linestyle=DASHED)
    if points.training is not None:
        ax.scatter(
            *points.training,
            s=16,
            # Hollow, to be told from the cohort's in any colours; over the points of a large one.
            facecolors="white" if many else "none",
            edgecolors=INK if many else FAINT,
            linewidths=0.8,
            rasterized=len(points.training[0]) > MAX_SHAPES,
            label=points.legend.get("training"),
            zorder=4 if many else 2.5,
        )
    _plot(ax, points, points.known, low + (high - low) * points.across)
    ax.set(
        xlim=(low, high),
        xlabel="Chronological age (years); dashed: both ages agree",
        ylabel="Predicted age (years), uncorrected",
    )


def _fill_strip(ax: Axes, points: AgePoints, *, alone: bool) -> None:
    _plot(ax, points, ~points.known, points.across)
    number = int((~points.known).sum())
    ax.set(xlim=(0, 1), xticks=[], xlabel=f"Age not known\n(n = {number:,})")
    if alone:
        ax.set_ylabel("Predicted age (years), uncorrected")
    else:
        ax.tick_params(left=False, labelleft=False)
        ax.spines["left"].set_visible(False)
        ax.set_facecolor("#f4f6f8")


def _plot(ax: Axes, points: AgePoints, rows: Array, across: Array) -> None:
    """Plot intervals and points of some rows (bool, shape (n,)) at their places across."""
    many = len(rows) > MAX_SHAPES
    ends = rows & points.with_interval
    if ends.any():
        ax.vlines(
            across[ends],
            points.lower[ends],
            points.upper[ends],
            color=ACCENT,
            linewidth=0.9,
            # So many lie over each other that the points would drown.
            alpha=float(np.clip(30 / points.with_interval.sum(), 0.01, 0.6)),
            rasterized=many,
            label=points.legend["interval"],
        )
    area = AREA * float(np.clip(MAX_SHAPES / len(rows), SMALLEST, 1))
    there = ~points.without_age
    for kind, chosen, marker, colour, share in (
        ("plain", there & ~points.flagged, "o", ACCENT, 1),
        ("flagged", there & points.flagged, "D", OLDER, 1),
        # A cross has less ink.
        ("none", points.without_age, "X", INK, 2),
    ):
        if (rows & chosen).any():
            ax.scatter(
                across[rows & chosen],
                points.up[rows & chosen],
                s=area * share,
                marker=marker,
                color=colour,
                edgecolors="white",
                # Among thousands, there would be more of the edges than of the points.
                linewidths=0 if many else 0.4,
                rasterized=many,
                # A point on the edge is whole.
                clip_on=False,
                label=points.legend[kind],
                zorder=3,
            )
