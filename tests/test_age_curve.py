"""Tests of the curve from scores to ages."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ermoe_ba.model.age_curve import AgeCurve

BOUNDS = (10.0, 90.0)


def test_without_bounds_the_score_is_the_age_and_shares_are_years() -> None:
    curve = AgeCurve()
    shares = torch.tensor([[[1.0, 2.0], [3.0, -4.0]]])
    age_b, baseline, years = curve.parted(torch.tensor(40.0), shares)
    assert age_b.tolist() == [42.0]
    assert baseline.item() == 40.0
    assert torch.equal(years, shares)
    assert torch.equal(curve.score(age_b), age_b)
    assert not curve.state_dict()


def test_ages_by_hand() -> None:
    """With bounds 80 years apart about 50, a score of 50 + 20 ln 3 is three quarters of the way."""
    scores = torch.tensor([50.0, 50.0 + 20 * math.log(3), 50.0 - 20 * math.log(3)])
    ages = AgeCurve(BOUNDS)(scores)
    assert ages.tolist() == pytest.approx([50.0, 70.0, 30.0])
    assert AgeCurve(BOUNDS).score(ages).tolist() == pytest.approx(scores.tolist())


def test_slopes_by_hand() -> None:
    """4 h (1 - h) at a height h: a year a unit halfway, 3/4 at a quarter of the way."""
    curve, heights = AgeCurve(BOUNDS), torch.tensor([30.0, 50.0, 70.0])
    assert curve.slope(curve.score(heights)).tolist() == pytest.approx([0.75, 1.0, 0.75])


def test_the_mean_slope_is_the_rise_over_the_run() -> None:
    curve = AgeCurve(BOUNDS)
    first, last = curve.score(torch.tensor(30.0)), curve.score(torch.tensor(70.0))
    assert curve.mean_slope(first, last).item() == pytest.approx(40 / (40 * math.log(3)))
    assert curve.mean_slope(first, first).item() == pytest.approx(0.75)


@pytest.mark.parametrize("score", [-1e6, -300.0, 20.0, 89.9, 90.1, 400.0, 1e6])
def test_shares_of_any_size_are_parted(score: float) -> None:
    """No scan's score is that far off, but no map may hold what is no number either."""
    curve, baseline = AgeCurve(BOUNDS), torch.tensor(50.0)
    age_b, at_baseline, years = curve.parted(baseline, torch.tensor([[[score - 50.0, 0.0]]]))
    assert (at_baseline + years.sum()).item() == pytest.approx(age_b.item(), abs=1e-4)
    assert years[0, 0, 1] == 0


@given(st.floats(-400, 500))
def test_no_age_lies_beyond_the_bounds(score: float) -> None:
    assert BOUNDS[0] <= AgeCurve(BOUNDS)(torch.tensor(score)).item() <= BOUNDS[1]


@given(
    st.floats(20, 80),
    st.lists(st.floats(-20, 20), min_size=6, max_size=6),
    st.sampled_from([1.0, 1e-3, 1e-6, 0.0]),
)
def test_years_add_up_to_the_age_and_keep_the_shares_order(
    baseline: float, parts: list[float], size: float
) -> None:
    curve = AgeCurve(BOUNDS)
    shares = size * torch.tensor(parts).reshape(1, 3, 2)
    age_b, at_baseline, years = curve.parted(torch.tensor(baseline), shares)
    assert (at_baseline + years.sum()).item() == pytest.approx(age_b.item(), abs=1e-4)
    assert torch.equal(years.flatten().argsort(stable=True), shares.flatten().argsort(stable=True))


def test_a_line_moves_every_age_where_scores_move_with_it() -> None:
    curve, scores = AgeCurve(BOUNDS), torch.tensor([5.0, 40.0, 77.0])
    before = curve(scores)
    curve.move(-3.0, 1.2)
    assert curve(-3.0 + 1.2 * scores).tolist() == pytest.approx((-3.0 + 1.2 * before).tolist())


@pytest.mark.parametrize("age", [10.0, 90.0, 95.5, -1.0])
def test_ages_at_or_beyond_the_bounds_have_no_score(age: float) -> None:
    with pytest.raises(ValueError, match=r"between 10 and 90 years.*found") as told:
        AgeCurve(BOUNDS).score(torch.tensor([50.0, age]))
    assert f"{age:g}" in str(told.value)
