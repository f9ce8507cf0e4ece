"""Pictures of the brain: quality control, routing weights, contributions to the age."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ermoe_ba.report.colours import (
    BRIGHTEST_T1W,
    CONTRIBUTIONS,
    WEIGHTS,
    symmetric_limit,
    weight_limit,
)
from ermoe_ba.report.content import MappedBrain, ReportContent, in_words, signed
from ermoe_ba.report.drawing import style, to_png
from ermoe_ba.report.experts import model_worth
from ermoe_ba.report.slices import (
    AXIAL,
    CORONAL,
    EDGES,
    SAGITTAL,
    Montage,
    Plane,
    shown_box,
    through,
)
from ermoe_ba.space import Array

# Voxels of 2 mm stay larger than a pixel; at 120 the report took a quarter longer.
WIDTH_INCH, DPI = 10.0, 88
# Room below the picture for a line of text, and for a colour bar with two.
LINE_INCH, BAR_INCH = 0.35, 0.72
# Orange and sky blue of Okabe and Ito's palette; the line style tells them apart as well.
SCAN_OUTLINE, TEMPLATE_OUTLINE = "#e69f00", "#56b4e9"
# What the colour bar of one scan's contributions says.
CONTRIBUTION_LABEL = (
    "Contribution (years per mL): purple = younger, orange = older than the baseline"
)
# The grey over which colour bars are laid: that of a typical voxel below a map.
MID_GREY = 0.5
# No eye tells neighbouring steps apart, and files are a quarter smaller than with 256.
GREY_LEVELS = 64
EVENLY = (0.14, 0.32, 0.5, 0.68, 0.86)


def draw_quality_control(content: ReportContent) -> bytes:
    """Draw the scan with its brain outline and the template's.

    Parameters
    ----------
    content : ReportContent
        Its T1w image, brain mask and template.

    Returns
    -------
    bytes
        PNG: rows of five sagittal, coronal and axial slices.
    """
    box, rows = shown_box(content.brain_mask, content.template), _three_rows(content)
    montage = Montage(box, rows)
    with style():
        figure, ax = _canvas(montage, content, LINE_INCH)
        for volume, colour, line in (
            (content.template, TEMPLATE_OUTLINE, "dashed"),
            (content.brain_mask, SCAN_OUTLINE, "solid"),
        ):
            outline = montage.fill([volume.data > 0] * 3)
            ax.contour(outline, levels=[0.5], colors=colour, linewidths=1.1, linestyles=line)
        handles = [
            Line2D([], [], color=SCAN_OUTLINE, label="brain mask of this scan"),
            Line2D([], [], color=TEMPLATE_OUTLINE, linestyle="--", label="brain of the template"),
        ]
        figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False)
        return to_png(figure)


def draw_routing_weights(content: ReportContent) -> bytes:
    """Draw each expert's routing weight over the scan.

    Parameters
    ----------
    content : ReportContent
        Its T1w image and its experts.

    Returns
    -------
    bytes
        PNG: one row of slices per expert, all on one colour scale from 0 to `weight_limit`; above
        each, what the model owes to the expert.
    """
    brain = content.brain_mask.data > 0
    planes = [
        *through(brain, AXIAL, (0.32, 0.5, 0.7)),
        *through(brain, CORONAL, (0.35, 0.6)),
        # One slice through each hemisphere.
        *through(brain, SAGITTAL, (0.3, 0.7)),
    ]
    count = len(content.expert_names)
    montage = Montage(shown_box(content.brain_mask, content.template), [planes] * count, header=14)
    weights = [content.experts.data[..., e] for e in range(count)]
    limit, worth = weight_limit(content.experts.data), model_worth(content)
    # Means over tokens only: outside them no expert has a weight.
    tokens = content.experts.data.sum(axis=-1) > 0
    with style():
        figure, ax = _canvas(montage, content, BAR_INCH)
        ax.imshow(WEIGHTS.paint(montage.fill(weights) / limit), interpolation="nearest")
        for top, name, weight in zip(montage.tops, content.expert_names, weights, strict=True):
            mean = float(weight[tokens].mean()) if tokens.any() else 0.0
            ax.text(
                2,
                top - 2,
                f"{in_words(name)}: mean weight {mean:.2f}, "
                f"{signed(content.expert_years[name])} years; {worth.in_short(name)}",
                color="white",
                fontsize=10,
                fontweight="bold",
                va="bottom",
                parse_math=False,
            )
        _add_bar(figure, WEIGHTS.ramp(), (0.0, limit), "Routing weight")
        return to_png(figure)


def draw_contributions(content: MappedBrain, label: str = CONTRIBUTION_LABEL) -> bytes:
    """Draw where the model finds years.

    Parameters
    ----------
    content : MappedBrain
        Its T1w image and contributions.
    label : str
        What the colour bar says of the contributions by millilitre.

    Returns
    -------
    bytes
        PNG: rows of axial, coronal and sagittal slices; orange older, purple younger.
    """
    per_ml = content.contributions.data / content.t1w.grid.voxel_volume_ml
    limit = symmetric_limit(per_ml)
    rows = _three_rows(content)[::-1]
    montage = Montage(shown_box(content.brain_mask, content.template), rows)
    with style():
        figure, ax = _canvas(montage, content, BAR_INCH)
        unit = montage.fill([per_ml] * 3) / (2 * limit) + 0.5
        ax.imshow(CONTRIBUTIONS.paint(unit), interpolation="nearest")
        _add_bar(
            figure,
            CONTRIBUTIONS.ramp(),
            (-limit, limit),
            label,
        )
        return to_png(figure)


def _three_rows(content: MappedBrain) -> list[list[Plane]]:
    brain = content.brain_mask.data > 0
    return [through(brain, axis, EVENLY) for axis in (SAGITTAL, CORONAL, AXIAL)]


def _canvas(montage: Montage, content: MappedBrain, below_inch: float) -> tuple[Figure, Axes]:
    """Draw the grey slices with letters for the sides and room for a legend below."""
    height, width = montage.shape
    picture_inch = WIDTH_INCH * height / width
    total = picture_inch + below_inch
    figure = Figure(figsize=(WIDTH_INCH, total), dpi=DPI)
    ax = figure.add_axes((0.0, below_inch / total, 1.0, picture_inch / total))
    ax.set_axis_off()
    ax.imshow(
        montage.fill([content.t1w.data] * len(montage.cells)),
        cmap=mpl.colormaps["gray"].resampled(GREY_LEVELS),
        vmin=0,
        vmax=BRIGHTEST_T1W,
        interpolation="bilinear",
        # Interpolated colours would be of more levels than these.
        interpolation_stage="data",
    )
    for row, cells in enumerate(montage.cells):
        planes = [cell[0] for cell in cells]
        for plane, top, left, h, w in cells:
            middle = top + h / 2
            for letter, side, x in zip(
                EDGES[plane.axis], ("left", "right"), (left, left + w), strict=True
            ):
                letters = ax.text(x, middle, letter, color="white", fontsize=9, fontweight="bold")
                letters.set(ha=side, va="center")
            # Rows of the same slices share the line below the last of them.
            if planes in [[cell[0] for cell in below] for below in montage.cells[row + 1 :]]:
                continue
            ax.text(
                left + w / 2,
                top + h + 7,
                plane.label(content.t1w.grid),
                color="#c9d1d9",
                fontsize=7.5,
                ha="center",
                va="bottom",
            )
    return figure, ax


def _add_bar(figure: Figure, ramp: Array, ends: tuple[float, float], label: str) -> None:
    """Add a colour bar, over grey as the map itself is."""
    height = figure.get_figheight()
    ax = figure.add_axes((0.3, 0.5 / height, 0.4, 0.14 / height))
    rgb, alpha = ramp[:, :3] / 255, ramp[:, 3:] / 255
    opaque = alpha * rgb + (1 - alpha) * MID_GREY
    ax.imshow(opaque[None], aspect="auto", extent=(*ends, 0, 1))
    ax.set(yticks=[], xlabel=label)
    ax.xaxis.labelpad = 2
    # More labels than these run into each other.
    ax.locator_params(axis="x", nbins=5)
    for spine in ax.spines.values():
        spine.set_visible(False)
