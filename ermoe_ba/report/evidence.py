"""Figures of the evidence: planted regions beside the maps that should find them; curves; volumes.

Shapes: T tokens, S steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ermoe_ba.report.drawing import ACCENT, FAINT, INK, OLDER, YOUNGER, style, to_png
from ermoe_ba.report.slices import AXIAL, CORONAL, SAGITTAL, Plane, cut
from ermoe_ba.space import Array, Volume

DPI = 110
# In the order of the curves of a panel; told apart by line style as well.
LINES = ((ACCENT, "-"), (OLDER, "--"), (YOUNGER, "-."), (INK, ":"), (FAINT, "-"))


@dataclass(frozen=True)
class PlantedRow:
    """One planted cohort: where the effect lies, and what maps make of it.

    Parameters
    ----------
    name : str
        Of the cohort.
    planted : Volume
        Above 0 where the effect was planted.
    maps : dict
        Title to importance on the same grid, 0 or more.
    """

    name: str
    planted: Volume
    maps: dict[str, Volume]


def draw_planted(rows: Sequence[PlantedRow], brain: Volume) -> bytes:
    """Draw maps over the brain, the planted region as an outline.

    Parameters
    ----------
    rows : sequence of PlantedRow
        At least one; all with maps of the same titles.
    brain : Volume
        Grey values behind the maps, on the same grid.

    Returns
    -------
    bytes
        PNG: a row a cohort, three slices through the middle of the planted region for each map;
        each map has a colour scale of its own, from 0 to its 99.5th percentile in the brain.
    """
    titles = list(rows[0].maps)
    with style():
        figure = Figure(
            figsize=(1.5 * 3 * len(titles), 1.75 * len(rows)), layout="constrained", dpi=DPI
        )
        axes = figure.subplots(len(rows), 3 * len(titles), squeeze=False)
        for line, row in enumerate(rows):
            middle = np.argwhere(row.planted.data > 0).mean(axis=0).round().astype(int)
            # A region of two halves has its middle between them, where it is not.
            middle[0] = int(np.median(np.argwhere(row.planted.data > 0)[:, 0]))
            planes = [Plane(axis, int(middle[axis])) for axis in (SAGITTAL, CORONAL, AXIAL)]
            for place, title in enumerate(titles):
                values = row.maps[title].data
                top = float(np.percentile(values[brain.data > 0], 99.5)) or 1.0
                for column, plane in enumerate(planes):
                    ax = axes[line, 3 * place + column]
                    ax.imshow(cut(brain.data, plane), cmap="gray", interpolation="nearest")
                    part = cut(values, plane)
                    # Voxels without a value are not drawn: the brain shows through.
                    ax.imshow(
                        np.where(part < 0.1 * top, np.nan, part),
                        cmap="inferno",
                        vmin=0,
                        vmax=top,
                        alpha=0.75,
                    )
                    outline = cut(row.planted.data, plane) > 0
                    if outline.any() and not outline.all():
                        ax.contour(outline, levels=[0.5], colors="cyan", linewidths=0.7)
                    ax.axis("off")
                axes[0, 3 * place + 1].set_title(title, fontsize=10)
            axes[line, 0].set_title(row.name, fontsize=10, loc="left")
        return to_png(figure)


def draw_curves(table: pd.DataFrame) -> bytes:
    """Draw insertion and deletion curves.

    Parameters
    ----------
    table : DataFrame
        Columns ``cohort``, ``method``, ``share``, ``insertion`` and ``deletion``.

    Returns
    -------
    bytes
        PNG: a column a cohort; insertion above, deletion below.
    """
    cohorts = list(dict.fromkeys(table["cohort"]))
    with style():
        figure = Figure(figsize=(2.9 * len(cohorts), 5.6), layout="constrained", dpi=DPI)
        axes = figure.subplots(2, len(cohorts), squeeze=False, sharex=True, sharey=True)
        for column, cohort in enumerate(cohorts):
            some = table[table["cohort"] == cohort]
            for line, kind in enumerate(("insertion", "deletion")):
                ax = axes[line, column]
                for (method, curve), (colour, dashes) in zip(
                    some.groupby("method", sort=False), LINES, strict=False
                ):
                    ax.plot(
                        curve["share"],
                        curve[kind],
                        color=colour,
                        linestyle=dashes,
                        label=str(method).replace("_", " "),
                    )
                ax.axhline(0, color=FAINT, linewidth=0.6)
            axes[0, column].set_title(cohort.replace("_", " "), fontsize=10)
            axes[1, column].set_xlabel("share of tokens")
        axes[0, 0].set_ylabel("fidelity, shown first")
        axes[1, 0].set_ylabel("fidelity, taken away first")
        axes[1, -1].legend(frameon=False, fontsize=8)
        return to_png(figure)


def draw_concordance(table: pd.DataFrame) -> bytes:
    """Draw how contributions of regions follow age and volume.

    Parameters
    ----------
    table : DataFrame
        As `ermoe_ba.concordance.concordance_table` returns it.

    Returns
    -------
    bytes
        PNG: a line a region; years a year on the left, correlations on the right.
    """
    ordered = table.sort_values("years_on_age")
    level: Array = np.arange(len(ordered))
    with style():
        figure = Figure(figsize=(9.0, 1.2 + 0.26 * len(ordered)), layout="constrained", dpi=DPI)
        slopes, likeness = figure.subplots(1, 2, sharey=True)
        slopes.barh(level, ordered["years_on_age"], color=ACCENT)
        slopes.set_xlabel("years contributed by a year of age")
        slopes.set_yticks(level, [str(name).replace("_", " ") for name in ordered["region"]])
        likeness.scatter(ordered["years_on_volume"], level, color=FAINT, marker="o", label="plain")
        likeness.scatter(
            ordered["years_on_volume_given_age"], level, color=OLDER, marker="D", label="given age"
        )
        likeness.axvline(0, color=FAINT, linewidth=0.8)
        likeness.set(xlim=(-1, 1), xticks=[-1, -0.5, 0, 0.5, 1])
        likeness.set_xlabel("correlation of years and volume")
        slopes.margins(y=0.01)
        likeness.legend(frameon=False, fontsize=8)
        return to_png(figure)
