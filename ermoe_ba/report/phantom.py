"""Pictures of a phantom cohort: brains by age, volumes against norms, realised against planted."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from ermoe_ba.phantom.norms import load_norms
from ermoe_ba.phantom.regions import REGIONS, Kind
from ermoe_ba.report.drawing import ACCENT, FAINT, INK, OLDER, YOUNGER, style, to_png
from ermoe_ba.report.slices import AXIAL, CORONAL, SAGITTAL, Plane, cut
from ermoe_ba.space import Array, Volume

# Where each slice lies, as a share of the scan's extent: through the lateral ventricles and basal
# ganglia, the thalami and hippocampi, and just beside the midline.
SLICES = ((AXIAL, 0.49), (AXIAL, 0.60), (CORONAL, 0.47), (SAGITTAL, 0.515))
# Brightest share of voxels above the grey scale's end.
CLIPPED = 0.3
# Shown in the figures of volumes: one of each kind of change.
SHOWN = (
    "lateral_ventricle_L",
    "third_ventricle",
    "hippocampus_L",
    "thalamus_L",
    "caudate_L",
    "putamen_L",
    "frontal_cortex_L",
    "temporal_cortex_L",
    "insula_L",
    "frontal_white_L",
    "brain_stem",
    "cerebellum_L",
)
ROWS, COLUMNS = 3, 4
KIND_COLOURS = {
    Kind.VENTRICLE: ACCENT,
    Kind.NUCLEUS: OLDER,
    Kind.HINDBRAIN: FAINT,
    Kind.WHITE: INK,
    Kind.CORTEX: YOUNGER,
}
DPI = 110
# Regions of at least this volume are held to the plan one by one.
LARGE_ML = 3.0


def draw_lifespan(scans: Sequence[tuple[float, Volume]]) -> bytes:
    """Draw scans in columns.

    Parameters
    ----------
    scans : sequence of (float, Volume)
        Age in years and the T1w scan, axes about to the right, front and top.

    Returns
    -------
    bytes
        PNG: two axial, a coronal and a sagittal slice of each.
    """
    with style():
        figure = Figure(figsize=(1.9 * len(scans), 8.2), layout="constrained", dpi=DPI)
        axes = figure.subplots(len(SLICES), len(scans), squeeze=False)
        for column, (age, scan) in enumerate(scans):
            data = scan.data
            brightest = np.percentile(data[data > 0.1 * data.max()], 100 - CLIPPED)
            for row, (axis, share) in enumerate(SLICES):
                index = round(share * (data.shape[axis] - 1))
                sizes = np.delete(scan.grid.voxel_sizes, axis)
                ax = axes[row, column]
                ax.imshow(
                    cut(data, Plane(axis, index)),
                    cmap="gray",
                    vmin=0,
                    vmax=brightest,
                    aspect=float(sizes[1] / sizes[0]),
                    interpolation="bicubic",
                )
                ax.axis("off")
            axes[0, column].set_title(f"{age:.0f} years")
        return to_png(figure)


def _panels(title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(12.5, 8.5), layout="constrained", dpi=DPI)
    figure.suptitle(title, fontsize=12)
    return figure, list(figure.subplots(ROWS, COLUMNS).ravel())


def _title(name: str) -> str:
    """Say a region's name in words: ``hippocampus_L`` becomes ``Hippocampus, left``."""
    plain = name.removesuffix("_L").removesuffix("_R").replace("_", " ").capitalize()
    side = {"_L": ", left", "_R": ", right"}.get(name[-2:], "")
    return plain + side


def _percent(table: pd.DataFrame, name: str) -> Array:
    """Return realised volumes as per cent of the cavity, shape (n,)."""
    return np.asarray(100 * table[f"realised_{name}_ml"] / table["realised_intracranial_ml"])


def draw_trajectories(table: pd.DataFrame) -> bytes:
    """Draw realised volumes by age over the norms' centiles.

    Parameters
    ----------
    table : DataFrame
        Participants table of a phantom cohort.

    Returns
    -------
    bytes
        PNG: a panel a region; the bands hold 50 and 90 % of healthy adults.
    """
    norms = load_norms()
    ages = np.linspace(table["age"].min(), table["age"].max(), 80)
    level, spread = norms.log_fraction(ages), norms.spread(ages)
    names = [region.name for region in REGIONS]
    with style():
        figure, axes = _panels("Volume, % of the cavity, by age (bands: 5, 25, 75, 95 % of norms)")
        for ax, name in zip(axes, SHOWN, strict=True):
            n = names.index(name)
            for share, alpha in ((0.95, 0.15), (0.75, 0.25)):
                width = norm.ppf(share) * spread[:, n]
                low, high = (100 * np.exp(level[:, n] + sign * width) for sign in (-1, 1))
                ax.fill_between(ages, low, high, color=ACCENT, alpha=alpha, linewidth=0)
            ax.plot(ages, 100 * np.exp(level[:, n]), color=ACCENT, linewidth=1.5)
            ax.scatter(table["age"], _percent(table, name), s=5, color=OLDER, alpha=0.6)
            ax.set_title(_title(name), fontsize=10)
            ax.set_ylim(bottom=0)
        for ax in axes[-COLUMNS:]:
            ax.set_xlabel("age (years)")
        return to_png(figure)


def draw_agreement(table: pd.DataFrame) -> bytes:
    """Draw realised against planted volumes of all regions.

    Parameters
    ----------
    table : DataFrame
        Participants table of a phantom cohort.

    Returns
    -------
    bytes
        PNG: both axes in millilitres, logarithmic; a colour a kind of region.
    """
    with style():
        figure = Figure(figsize=(6.5, 6.2), layout="constrained", dpi=DPI)
        ax = figure.add_subplot()
        for kind, colour in KIND_COLOURS.items():
            names = [region.name for region in REGIONS if region.kind is kind]
            planted = table[[f"planted_{name}_ml" for name in names]].to_numpy().ravel()
            realised = table[[f"realised_{name}_ml" for name in names]].to_numpy().ravel()
            ax.scatter(planted, realised, s=3, color=colour, alpha=0.4, label=kind.value)
        # The limit that agreement is asked for; below it lie slits and nuclei of a few voxels.
        ax.axvline(LARGE_ML, color=FAINT, linewidth=0.8, linestyle=":")
        ends = np.array([0.1, 200.0])
        ax.plot(ends, ends, color=INK, linewidth=0.8)
        ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        ax.set(xlabel="planted volume (mL)", ylabel="realised volume (mL)")
        for handle in ax.legend(frameon=False, markerscale=4).legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
        return to_png(figure)


def draw_decades(phantom: pd.DataFrame, real: pd.DataFrame) -> bytes:
    """Draw distributions of simulated and real volumes by decade of age.

    Parameters
    ----------
    phantom : DataFrame
        Participants table of a phantom cohort.
    real : DataFrame
        Likewise, columns ``age``, ``realised_<region>_ml`` and ``realised_intracranial_ml``.

    Returns
    -------
    bytes
        PNG: a panel a region; boxes hold half of each group, whiskers reach 5 and 95 %.
    """
    decades = sorted(set((real["age"] // 10 * 10).astype(int)))
    with style():
        figure, axes = _panels("Volume, % of the cavity, by decade: phantom (orange), real (blue)")
        for ax, name in zip(axes, SHOWN, strict=True):
            for table, offset, colour in ((phantom, -0.18, OLDER), (real, 0.18, ACCENT)):
                values = _percent(table, name)
                decade = (table["age"] // 10 * 10).astype(int).to_numpy()
                ax.boxplot(
                    [values[decade == d] for d in decades],
                    positions=np.arange(len(decades)) + offset,
                    widths=0.3,
                    whis=(5, 95),
                    showfliers=False,
                    patch_artist=True,
                    boxprops={"facecolor": colour, "alpha": 0.5, "edgecolor": colour},
                    medianprops={"color": INK},
                    manage_ticks=False,
                )
            ax.set_xticks(np.arange(len(decades)), [f"{d}s" for d in decades])
            ax.set_title(_title(name), fontsize=10)
            ax.set_ylim(bottom=0)
        return to_png(figure)
