"""Figures of the evidence: they are pictures, and change with what they show."""

import io

import matplotlib.image as mpimg
import numpy as np
import pandas as pd
import pytest

from ermoe_ba.report.evidence import PlantedRow, draw_concordance, draw_curves, draw_planted
from ermoe_ba.space import Array, SpatialGrid, Volume

GRID = SpatialGrid((12, 14, 10), np.diag([2.0, 2.0, 2.0, 1.0]), "small")


def _pixels(png: bytes) -> Array:
    assert png.startswith(b"\x89PNG")
    return np.asarray(mpimg.imread(io.BytesIO(png)))


def _row(spot: tuple[int, int, int]) -> PlantedRow:
    planted, importance = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape)
    planted[3:6, 4:7, 4:7] = 1
    importance[spot] = 1.0
    maps = {"ideal": Volume(planted.astype(float), GRID), "trained": Volume(importance, GRID)}
    return PlantedRow("ventricles", Volume(planted, GRID), maps)


def test_a_map_is_drawn_where_it_lies() -> None:
    """In the slices through the planted region's middle voxel (4, 5, 5), and in no other."""
    brain = Volume(np.ones(GRID.shape), GRID)
    at, beside, nowhere = (
        _pixels(draw_planted([_row(spot)], brain)) for spot in ((4, 5, 5), (4, 9, 5), (9, 9, 9))
    )
    assert (at != beside).any()
    # What lies in none of the three planes leaves the picture as an empty map does.
    empty = _row((9, 9, 9))
    empty.maps["trained"].data[:] = 0
    np.testing.assert_array_equal(nowhere, _pixels(draw_planted([empty], brain)))


def test_every_cohort_has_a_column_of_curves() -> None:
    rows = [
        {"cohort": c, "method": m, "share": s, "insertion": s, "deletion": 1 - s}
        for c in ("ventricles", "cerebellum")
        for m in ("contribution", "random_order")
        for s in (0.0, 0.5, 1.0)
    ]
    table = pd.DataFrame(rows)
    two = _pixels(draw_curves(table))
    one = _pixels(draw_curves(table[table["cohort"] == "ventricles"]))
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=2)
    table.loc[0, "insertion"] = 0.5
    assert (_pixels(draw_curves(table)) != two).any()


def test_every_region_has_a_line() -> None:
    rows = [
        {
            "region": name,
            "years_on_age": 0.1 * n,
            "volume_on_age": 0.5,
            "years_on_volume": 0.8,
            "years_on_volume_given_age": 0.4,
        }
        for n, name in enumerate(("hippocampus", "lateral_ventricle", "insula"))
    ]
    table = pd.DataFrame(rows)
    three, two = _pixels(draw_concordance(table)), _pixels(draw_concordance(table[:2]))
    # 0.26 inches a line at 110 dots.
    assert three.shape[0] - two.shape[0] == pytest.approx(0.26 * 110, abs=2)
