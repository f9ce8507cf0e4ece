"""The report as one HTML file that can be read anywhere, with no request to any other place."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ermoe_ba.io import write_text
from ermoe_ba.report.charts import VISIBLE_YEARS, draw_age_chart, draw_years_chart
from ermoe_ba.report.content import ReportContent, in_words, percent, signed
from ermoe_ba.report.experts import expert_rows, model_worth
from ermoe_ba.report.figures import (
    draw_contributions,
    draw_quality_control,
    draw_routing_weights,
)
from ermoe_ba.report.page import data_uri, environment, inline
from ermoe_ba.report.viewer import describe, pack, shown_maps

STYLES = ("report.css", "viewer.css")
# In the order in which they name each other.
SCRIPTS = (
    "sorting.js",
    "regions.js",
    "volumes.js",
    "slices.js",
    "projections.js",
    "surface.js",
    "viewer.js",
    "report.js",
)

# Quality remarks of the preprocessing in full sentences; others are shown with spaces for
# underscores, so that a new one is never lost.
FLAGS_IN_WORDS = {
    "brain_already_extracted": "The scan came without skull; its own outline was kept as the brain "
    "mask.",
    "registration_doubtful": "The scan resembles the template less than those of the training "
    "cohort: look at Figure 1 before you use the age.",
    "resolution_low": "The voxels are coarser, or the slices thicker, than those of the training "
    "cohort: ages move by years.",
    "several_heads": "There is another brain in the image: whose age this is, nothing tells.",
    "brain_volume_low": "The brain is smaller than those of the training cohort.",
    "brain_volume_high": "The brain is larger than those of the training cohort.",
    "contrast_low": "Grey and white matter differ less than on the scans of the training cohort.",
    "contrast_high": "Grey and white matter differ more than on the scans of the training cohort.",
    "contrast_to_noise_low": "There is less contrast for the noise than in the training cohort: "
    "look for noise and motion.",
    "noisy": "White matter is less even than in the training cohort: look for noise and motion.",
    "entropy_low": "Intensities are spread as noise, motion and ghosts spread them.",
    "entropy_high": "Intensities are more even than those of a brain in the training cohort.",
    "unlike_training": "The brain lies far from those that the model was trained on.",
    "interval_widened": "The tissue looks unlike that of the scans that the model learnt from: its "
    "prediction interval was widened.",
    "mirrored_look": "Left and right look swapped: check the header's orientation.",
    "mask_touches_border": "The brain mask reaches the end of the image: it may be cut.",
    "orientation_doubtful": "The head lay turned by more than 45 degrees against its header: the "
    "header's orientation looks wrong.",
    "qform_sform_disagree": "The two orientations of the header disagree; the sform was used.",
    "age_outside_training": "The chronological age lies outside those of the training cohort.",
}
# What the column ``seen_in_training`` means for this scan.
SEEN_IN_WORDS = {
    "yes": "The model was trained on this very scan: its age is not out of fold, and how near it "
    "comes says nothing of other scans.",
    "name": "The model was trained on a participant of this name: if it is the same person, the "
    "age is not out of fold.",
}
# Name, unit and decimals of the figures that the preprocessing measures.
QUALITY_FIGURES = {
    "brain_volume_ml": ("Brain volume (intracranial)", " mL", 0),
    "voxel_edge_mm": ("Longest edge of the voxels", " mm", 1),
    "second_brain_ml": ("Another brain in the image", " mL", 0),
    "template_correlation": ("Correlation with the template", "", 3),
    "turn_degrees": ("Turn of the head against its header", "°", 0),
    "flat_end_cm2": ("Brain at the end of the image", " cm²", 1),
    "form_disagreement_mm": ("Disagreement of qform and sform", " mm", 2),
    "white_grey_contrast": ("Contrast of white and grey matter", "", 3),
    "cnr": ("Contrast-to-noise ratio", "", 2),
    "snr_white_matter": ("Signal-to-noise ratio of white matter", "", 1),
    "efc": ("Entropy focus criterion", "", 3),
    "training_distance": ("Distance from the training cohort", "", 2),
    "description_distance": ("Distance from what the model learnt from", "", 2),
    "side_score": ("Likeness of left and right to the cohort's", "", 2),
}
# What the interactive view says of one scan, beside what it says of any brain.
VIEWER_WORDS = {
    "figure": 4,
    "title": "The maps over the scan.",
    "years": "Contribution",
    "sum": "Contributions, summed over the brain and added to the baseline, give the predicted "
    "age.",
    "brain": "this brain",
}
# Rows of the region table that go to paper; the file holds them all.
PRINTED_ROWS = 32


@dataclass(frozen=True)
class RegionRow:
    """One line of the region table, numbers not yet turned into text.

    Parameters
    ----------
    expert, label, region, hemisphere : str
        Names; `label` is the region's number in the atlas.
    numbers : tuple of float
        Volume (mL), mean weight, load share, contribution (years).
    """

    expert: str
    label: str
    region: str
    hemisphere: str
    numbers: tuple[float, float, float, float]


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report on one scan, whole or not at all.

    Parameters
    ----------
    path : Path
        Where the HTML file shall stand.
    content : ReportContent
        What it shows.

    Raises
    ------
    ValueError
        If the volumes do not lie on a RAS+ grid.
    OSError
        If the file cannot be written.
    """
    write_text(path, render(content))


def render(content: ReportContent) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    content : ReportContent
        What it shows.

    Returns
    -------
    str
        One document with its styles, script and images inside.
    """
    templates, maps = environment(), shown_maps(content)
    templates.filters["number"] = _number
    return templates.get_template("report.html.j2").render(
        content=content,
        **inline(STYLES, SCRIPTS),
        told=describe(content, maps),
        volumes=data_uri("application/gzip", pack(content, maps)),
        maps=maps,
        words=VIEWER_WORDS,
        experts=expert_rows(content),
        owed=model_worth(content).of_all,
        predicted_age=content.predicted_age,
        interval=content.interval,
        widening=_widening(content),
        chronological_age=content.number("chronological_age"),
        gap=content.number("brain_age_gap"),
        gap_within_interval=_gap_within_interval(content),
        coverage=percent(content.coverage),
        remarks=_remarks(content),
        quality=_quality(content),
        provenance=_provenance(content),
        regions=_region_rows(content),
        printed_rows=PRINTED_ROWS,
        training_error=_training_error(content),
        sums_up=abs(
            content.predicted_age - content.baseline_years - sum(content.expert_years.values())
        )
        < VISIBLE_YEARS,
        images={
            "quality": data_uri("image/png", draw_quality_control(content)),
            "age": data_uri("image/svg+xml", draw_age_chart(content).encode()),
            "routing": data_uri("image/png", draw_routing_weights(content)),
            "contributions": data_uri("image/png", draw_contributions(content)),
            "years": data_uri("image/svg+xml", draw_years_chart(content).encode()),
        },
    )


def _number(value: float, decimals: int, signs: bool = False) -> str:
    """Write a number for a table; the minus as a minus, unknown as n/a."""
    if not math.isfinite(value):
        return "n/a"
    return signed(value, decimals) if signs else f"{value:.{decimals}f}".replace("-", "−")


def _remarks(content: ReportContent) -> list[str]:
    """Return what the reader must know first: status, flags, training, ages out of range."""
    remarks = []
    status = content.row.get("status")
    if status not in (None, "", "n/a", "ok"):
        remarks.append(f"Status: {in_words(str(status))}.")
    flags = str(content.row.get("qc_flags") or "")
    remarks += [
        FLAGS_IN_WORDS.get(flag, f"{in_words(flag)}.")
        for flag in map(str.strip, re.split(r"[,;|]", flags))
        # NaN is what pandas makes of n/a.
        if flag not in ("", "n/a", "none", "nan")
    ]
    seen = str(content.row.get("seen_in_training"))
    remarks += [SEEN_IN_WORDS[seen]] if seen in SEEN_IN_WORDS else []
    if len(content.training_ages):
        low, high = float(np.min(content.training_ages)), float(np.max(content.training_ages))
        for name in ("chronological_age", "predicted_age"):
            age = content.number(name)
            if age is not None and not low <= age <= high:
                remarks.append(
                    f"The {in_words(name).lower()} of {age:.1f} years lies outside the ages of "
                    f"the training participants ({low:.1f} to {high:.1f}): neither the estimate "
                    "nor its interval has been tested there."
                )
    return remarks


def _quality(content: ReportContent) -> list[tuple[str, str]]:
    shown = []
    for name, value in content.figures.items():
        words, unit, decimals = QUALITY_FIGURES.get(name, (in_words(name), "", 3))
        shown.append((words, _number(value, decimals) + unit))
    return shown


def _provenance(content: ReportContent) -> list[tuple[str, str]]:
    """Return what made the result: the row's own columns first, then the rest."""
    columns = ("participant_id", "session_id", "input", "model_id", "preprocessing_id")
    shown = [
        (in_words(name.removesuffix("_id")), str(content.row[name]))
        for name in columns
        if content.row.get(name) not in (None, "", "n/a")
    ]
    seconds = content.number("seconds")
    if seconds is not None:
        shown.append(("Computing time", f"{seconds:.1f} s"))
    told = {value for _, value in shown}
    return shown + [
        (name, value) for name, value in content.provenance.items() if value not in told
    ]


def _region_rows(content: ReportContent) -> list[RegionRow]:
    table = content.regions.sort_values("load_share", ascending=False, kind="stable")
    return [
        RegionRow(
            expert=in_words(str(record["expert"])),
            label=str(record["index"]),
            region=str(record["region"]),
            hemisphere=str(record["hemisphere"]),
            numbers=(
                float(record["volume_ml"]),
                float(record["mean_weight"]),
                float(record["load_share"]),
                float(record["contribution_years"]),
            ),
        )
        for record in table.to_dict("records")
    ]


def _gap_within_interval(content: ReportContent) -> bool | None:
    """Tell whether the interval holds the chronological age; None where either is unknown."""
    age, interval = content.number("chronological_age"), content.interval
    return None if age is None or interval is None else interval[0] <= age <= interval[1]


def _widening(content: ReportContent) -> float | None:
    """Return by what the interval was widened; None where it was not."""
    factor = content.number("interval_widening")
    return None if factor is None or factor <= 1.0 else factor


def _training_error(content: ReportContent) -> float | None:
    """Return the mean absolute error of the training participants in years."""
    if not len(content.training_ages):
        return None
    return float(np.mean(np.abs(content.training_predictions - content.training_ages)))
