"""A small report's content, which several tests show: an ellipsoid of a brain, two regions."""

import dataclasses
import re
from html import unescape

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.report import ReportContent
from ermoe_ba.space import SpatialGrid, Volume

# Unequal axes: a swapped pair cannot go unseen.
SHAPE = (22, 30, 26)
AFFINE = np.array([[4.0, 0, 0, -42], [0, 4.0, 0, -60], [0, 0, 4.0, -40], [0, 0, 0, 1.0]])
GRID = SpatialGrid(SHAPE, AFFINE, "MNI152NLin2009aSym")
NAMES = ("grey_matter", "csf", "free_1")


def ellipsoid():
    i, j, k = np.indices(SHAPE)
    return ((i - 10.5) / 8) ** 2 + ((j - 14.5) / 12) ** 2 + ((k - 12.5) / 9) ** 2 < 1


def content(**changes):
    brain = ellipsoid()
    weights = np.zeros((*SHAPE, 3), dtype=np.float32)
    weights[brain] = (0.6, 0.3, 0.1)
    years = np.zeros(SHAPE, dtype=np.float32)
    years[brain] = 0.001
    regions = pd.DataFrame(
        [
            (expert, index, region, side, 12.5, 0.4, 0.01 * (index + rank), -0.25)
            for rank, expert in enumerate(NAMES)
            for index, region, side in ((3, "Putamen", "L"), (7, "Vermis & tonsil", "n/a"))
        ],
        columns=[
            "expert",
            "index",
            "region",
            "hemisphere",
            "volume_ml",
            "mean_weight",
            "load_share",
            "contribution_years",
        ],
    )
    ages = np.linspace(20, 80, 31)
    values = {
        "name": "sub-test",
        "row": {
            "participant_id": "test",
            "session_id": None,
            "input": "/data/sub-test_T1w.nii.gz",
            "status": "ok",
            "predicted_age": 52.34,
            "predicted_age_lower": 41.26,
            "predicted_age_upper": 63.44,
            "chronological_age": 48.0,
            "brain_age_gap": 4.34,
            "qc_flags": "",
            "model_id": "model-7",
            "preprocessing_id": "abc123",
            "seconds": 12.0,
        },
        "t1w": Volume(brain.astype(np.float32) * 0.9, GRID),
        "brain_mask": Volume(brain.astype(np.uint8), GRID),
        "atlas": Volume(np.where(brain, np.where(np.indices(SHAPE)[0] < 11, 3, 7), 0), GRID),
        "template": Volume(np.roll(brain, 1, axis=0).astype(np.uint8) * 200, GRID),
        "experts": Volume(weights, GRID),
        "expert_names": NAMES,
        "contributions": Volume(years, GRID),
        "baseline_years": 46.0,
        "expert_years": {"grey_matter": 7.0, "csf": -1.0, "free_1": 0.34},
        "expert_load": {"grey_matter": 0.6, "csf": 0.3, "free_1": 0.1},
        "model_mae": 5.0,
        "mae_without_expert": {"grey_matter": 6.13, "csf": 5.09, "free_1": 4.2},
        "regions": regions,
        "training_ages": ages,
        "training_predictions": ages + 5 * np.cos(ages),
        "figures": {"brain_volume_ml": 1432.4, "template_correlation": 0.9123},
        "provenance": {"ermoe_ba": "0.1.0"},
        "limits": ("Trained on one scanner.",),
        "coverage": 0.9,
    }
    return ReportContent(**(values | changes))


def with_row(**changes):
    base = content()
    return dataclasses.replace(base, row=base.row | changes)


def text_of(html):
    """Return what a reader sees, white space folded."""
    body = html.split("<body>")[1]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body.split("<script>")[0])).split())


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures out where only words are looked at: they take most of the time."""
    for name in ("quality_control", "routing_weights", "contributions"):
        monkeypatch.setattr(f"ermoe_ba.report.html.draw_{name}", lambda content: b"")
    for name in ("age_chart", "years_chart"):
        monkeypatch.setattr(f"ermoe_ba.report.html.draw_{name}", lambda content: "")
