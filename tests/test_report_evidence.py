"""Figures of the evidence: they are pictures, and change with what they show."""

import io

import matplotlib.image as mpimg
import numpy as np
import pandas as pd
import pytest

from ermoe_ba.report.evidence import PlantedRow, draw_concordance, draw_curves, draw_planted
from ermoe_ba.report.evidence_checks import draw_emergence, draw_experts_used, draw_sanity
from ermoe_ba.space import Array, SpatialGrid, Volume

ENDS = ("", "_least", "_most")
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


def test_a_growth_is_drawn_where_it_stands() -> None:
    rows = [
        {"cohort": cohort, "change": change, "mae": 4.0 + lost, "mae_lost": lost}
        for cohort in ("ventricles", "cerebellum")
        for change, lost in (("without_csf", 0.5), ("random_routing", 0.2), ("zeroed", 6.0))
    ]
    table = pd.DataFrame(rows)
    two, one = _pixels(draw_experts_used(table)), _pixels(draw_experts_used(table[:3]))
    # Half an inch a cohort at 110 dots.
    assert two.shape[0] - one.shape[0] == pytest.approx(0.5 * 110, abs=2)
    table.loc[0, "mae_lost"] = 0.3
    assert (_pixels(draw_experts_used(table)) != two).any()


def test_marks_are_drawn_beside_what_must_reach_them() -> None:
    row = {"enrichment": 2.0, "token_auc": 0.7, "like_trained": 0.5}
    ends = {f"{name}_{end}": row[name] for name in row for end in ("least", "most")}
    networks = ("trained", "shuffled_ages", "untrained")
    table = pd.DataFrame([{"cohort": "hippocampus", "network": n, **row, **ends} for n in networks])
    three, four, other = (
        _pixels(draw_sanity(table, enrichment_ratio=ratio, token_auc=auc))
        for ratio, auc in ((3.0, 0.9), (4.0, 0.9), (3.0, 0.8))
    )
    assert three.shape == four.shape == other.shape
    assert (three != four).any()
    assert (three != other).any()


def test_experts_that_chance_tells_nothing_of_have_no_mark() -> None:
    figures = {f"{n}{end}": 0.1 for n in ("region", "tissue", "place") for end in ENDS}
    chance = {f"chance_{name}": 0.01 for name in figures}
    none = dict.fromkeys(chance, np.nan)
    free = {"experts": "free_experts", "networks": 5, **figures}
    both = pd.DataFrame([{**free, **chance}, {**free, "experts": "regional_experts", **none}])
    drawn = _pixels(draw_emergence(both))
    assert drawn.shape[0] - _pixels(draw_emergence(both[:1])).shape[0] == pytest.approx(55, abs=2)
    assert (_pixels(draw_emergence(both.assign(chance_place_most=0.05))) != drawn).any()
