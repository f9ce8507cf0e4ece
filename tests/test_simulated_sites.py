"""Simulated sites: what a site does to a head, and what sites are drawn from."""

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.config import from_plain
from ermoe_ba.simulated_sites import SimulatedSite, SiteRanges, SiteTrial, Step, StepRange
from ermoe_ba.space import SpatialGrid, Volume

GRID = SpatialGrid((9, 12, 15), np.diag([3.0, 2.0, 2.5, 1.0]), "scan")


def _block(first: int, last: int, value: float) -> Volume:
    data = np.zeros(GRID.shape, np.float32)
    data[first:last, first : last + 2, first : last + 4] = value
    return Volume(data, GRID)


def test_steps_are_made_in_their_order() -> None:
    """Of 50 and 25: squared 50 and 12.5, less a fifth of 50 then 40 and 2.5.

    The other way round 40 and 15, squared relative to 40 then 40 and 5.625.
    """
    head = _block(2, 7, 50.0)
    head.data[3, 4:6, 4:6] = 25.0
    square = Step(change="bend_contrast", amount=2.0)
    lower = Step(change="offset_values", amount=0.2)
    for steps, darker in (((square, lower), 2.5), ((lower, square), 5.625)):
        scanned = SimulatedSite(name="s", steps=steps).scan(head, head, np.random.default_rng(0))
        assert scanned.data.max() == pytest.approx(40.0)
        np.testing.assert_allclose(scanned.data[3, 4:6, 4:6], darker, rtol=1e-5)


def test_an_extracted_brain_ends_one_voxel_inside_the_cavity() -> None:
    head, cavity = _block(0, 9, 80.0), _block(2, 7, 1.0)
    site = SimulatedSite(name="s", steps=(), extracted=True)
    found = site.scan(head, cavity, np.random.default_rng(0)).data
    np.testing.assert_array_equal(found, _block(3, 6, 80.0).data)


def test_the_cavity_is_found_on_the_grid_of_the_site() -> None:
    """Every other slice along the first axis: of the voxels 3, 4 and 5, number 4 is left."""
    head, cavity = _block(0, 9, 80.0), _block(2, 7, 1.0)
    steps = (Step(change="take_slices", amount=0),)
    site = SimulatedSite(name="s", steps=steps, extracted=True)
    found = site.scan(head, cavity, np.random.default_rng(0))
    assert np.flatnonzero(found.data.any(axis=(1, 2))).tolist() == [2]


def test_an_unknown_change_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of .*add_noise.*; found 'polish'"):
        Step(change="polish", amount=1)


RANGES = SiteRanges(
    steps=(
        StepRange(change="blur", low=1.0, high=3.0, share=0.5),
        StepRange(change="add_noise", low=0.0, high=0.04, share=1.0),
        StepRange(change="add_bias", low=0.1, high=0.1, share=0.0),
    ),
    extracted_share=0.25,
)


def test_sites_are_drawn_from_their_ranges_by_their_shares() -> None:
    rng = np.random.default_rng(6)
    sites = [RANGES.draw("s", rng) for _ in range(2000)]
    amounts = {"blur": [], "add_noise": []}
    for site in sites:
        for step in site.steps:
            amounts[step.change].append(step.amount)
    # Standard errors of the shares: 0.011 and 0.010.
    assert len(amounts["blur"]) / 2000 == pytest.approx(0.5, abs=0.04)
    assert len(amounts["add_noise"]) == 2000
    assert np.mean([site.extracted for site in sites]) == pytest.approx(0.25, abs=0.04)
    assert 1.0 <= min(amounts["blur"]) < 1.05
    assert 2.95 < max(amounts["blur"]) <= 3.0
    assert np.mean(amounts["add_noise"]) == pytest.approx(0.02, abs=0.001)


def test_a_share_moves_no_other_amount() -> None:
    rarer = SiteRanges(
        steps=(StepRange(change="blur", low=1.0, high=3.0, share=0.0), *RANGES.steps[1:]),
        extracted_share=0.25,
    )
    drawn, less = (ranges.draw("s", np.random.default_rng(9)) for ranges in (RANGES, rarer))
    assert drawn.steps[-1] == less.steps[-1]


def test_everybody_is_scanned_by_named_sites_or_by_one_of_their_own() -> None:
    """Ages 60, 20, 40, 40, 30 of a, b, d, c, e: in order b, e, c, d, a; every second is named."""
    trial = SiteTrial(every=2, seed=3, site=(), drawn=RANGES)
    age_of = pd.Series({"a": 60.0, "b": 20.0, "d": 40.0, "c": 40.0, "e": 30.0})
    named, drawn = trial.numbered(age_of)
    assert named == {"b": 0, "c": 2, "a": 4}
    assert drawn == {"e": 1, "d": 3}
    assert trial.numbered(age_of.iloc[::-1]) == (named, drawn)


def test_every_scan_has_a_generator_of_its_own() -> None:
    trial = SiteTrial(every=2, seed=3, site=(), drawn=RANGES)
    first = [trial.generator(n, place).random() for n in range(3) for place in range(3)]
    again = [trial.generator(n, place).random() for n in range(3) for place in range(3)]
    assert first == again
    assert len(set(first)) == 9


def test_a_trial_reads_from_plain_values_and_leaves_some_people() -> None:
    plain = {
        "every": 3,
        "seed": 1,
        "site": [{"name": "s", "steps": [{"change": "blur", "amount": 2}], "extracted": True}],
        "drawn": {"extracted_share": 0.1, "steps": []},
    }
    trial = from_plain(SiteTrial, plain)
    step = Step(change="blur", amount=2.0)
    assert trial.site == (SimulatedSite(name="s", steps=(step,), extracted=True),)
    with pytest.raises(ValueError, match="every must be at least 2; found 1"):
        from_plain(SiteTrial, plain | {"every": 1})
