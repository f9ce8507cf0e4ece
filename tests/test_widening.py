"""How intervals widen: distances by hand, slopes by counting, and what a folder may hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.likeness import Likeness, fit_likeness, look
from ermoe_ba.widening import (
    FLAG,
    WIDENING_FILE,
    Widening,
    conformal_slope,
    read_widening,
    save_widening,
)


def _rule(**changes: object) -> Widening:
    """Two stems that look at two numbers; the second counts the first number double."""
    values = {
        "model_id": "small-0123",
        "likeness_s": (
            Likeness(mean_q=np.array([1.0, 2.0]), precision_qq=np.diag([1.0, 4.0])),
            Likeness(mean_q=np.zeros(2), precision_qq=np.diag([4.0, 1.0])),
        ),
        "start": 1.25,
        "slope": 0.5,
        "provenance": {"cohort": "made up"},
    }
    return Widening(**(values | changes))  # type: ignore[arg-type]


def test_a_look_is_the_mean_over_tokens_family_by_family() -> None:
    described_tfc = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    # The tokens differ by 12 everywhere.
    np.testing.assert_array_equal(look(described_tfc), np.arange(12) + 6.0)


def test_distances_are_root_mean_squares_averaged_over_stems() -> None:
    # First stem: (3^2 + 4 * 2^2) / 2 = 12.5; second: (4 * 4^2 + 0) / 2 = 32.
    looks_sq = np.array([[4.0, 4.0], [4.0, 0.0]])
    assert _rule().distance(looks_sq) == pytest.approx((12.5**0.5 + 32**0.5) / 2)
    with pytest.raises(ValueError, match="zip"):
        _rule().distance(looks_sq[:1])


def test_the_width_stays_up_to_the_start_and_grows_evenly_beyond() -> None:
    rule = _rule()
    factors = [rule.factor(distance) for distance in (0.0, 1.25, 2.5, 3.75)]
    # Half a width for each further 1.25.
    assert factors == [1.0, 1.0, 1.5, 2.0]
    assert rule.limit.flag == FLAG
    assert [rule.limit.flags(distance) for distance in (1.25, 1.26)] == [False, True]


def test_looks_that_follow_one_another_are_told_from_looks_that_do_not() -> None:
    """Of two numbers that rise together, one rising alone is farther than both rising."""
    rng = np.random.default_rng(2)
    together = rng.normal(0, 1, 400)
    looks_nq = np.stack([together, 10 * together + rng.normal(0, 1, 400)], axis=1)
    looks_nq = np.column_stack([looks_nq, np.full(400, 3.0)])
    likeness = fit_likeness(looks_nq)
    np.testing.assert_allclose(likeness.mean_q, looks_nq.mean(axis=0))
    both, alone = np.array([2.0, 20.0, 3.0]), np.array([2.0, 0.0, 3.0])
    assert likeness.distance(both) < 2
    assert likeness.distance(alone) > 4


def test_scans_like_the_others_lie_near_one() -> None:
    """The mean square of distances under their own covariance is 1, whatever the units."""
    looks_nq = np.random.default_rng(5).normal(3, [1.0, 0.01, 40.0, 2.0], (400, 4))
    likeness = fit_likeness(looks_nq)
    assert np.mean([likeness.distance(one) ** 2 for one in looks_nq]) == pytest.approx(1, rel=0.02)


def test_units_do_not_count() -> None:
    looks_nq = np.random.default_rng(0).normal(0, 1, (30, 4))
    units = np.array([1.0, 1e-3, 50.0, 7.0])
    scan = np.array([1.0, -2.0, 0.5, 3.0])
    plain, scaled = fit_likeness(looks_nq), fit_likeness(looks_nq * units)
    assert scaled.distance(scan * units) == pytest.approx(plain.distance(scan))


def test_a_cohort_of_one_has_no_covariance() -> None:
    with pytest.raises(ValueError, match=r"two scans or more; found 1\."):
        fit_likeness(np.ones((1, 4)))


def test_the_slope_is_the_least_that_covers_enough() -> None:
    """Nine scans and four in five: ceil(10 * 0.8) = 8 of them, by hand.

    Half-width 10, start 1. Five lie inside. The others need (residual / 10 - 1) / (distance - 1):
    0.5 / 1, 1 / 4, 2 / 2 and 0.3 / 0.1, so that the eighth smallest is 1.
    """
    residuals = np.array([0, -3, 9.9, 10, 4, 15, -20, 30, 13])
    distances = np.array([1, 5, 1, 1, 9, 2, 5, 3, 1.1])
    given = {"half_width": 10.0, "start": 1.0}
    assert conformal_slope(residuals, distances, coverage=0.8, **given) == pytest.approx(1.0)
    assert conformal_slope(residuals, distances, coverage=0.5, **given) == 0.0
    assert conformal_slope(residuals, distances, coverage=0.9, **given) == pytest.approx(3.0)


def test_no_slope_reaches_scans_that_are_not_to_be_widened() -> None:
    residuals, distances = np.full(9, 20.0), np.full(9, 0.9)
    with pytest.raises(ValueError, match=r"90% of 9 scans; found 0\.0%"):
        conformal_slope(residuals, distances, half_width=10.0, start=1.0, coverage=0.9)
    # Too few for such a coverage, whatever they are.
    with pytest.raises(ValueError, match="found 100"):
        conformal_slope(residuals * 0, distances, half_width=10.0, start=1.0, coverage=0.95)


def test_new_scans_of_drawn_sites_are_covered_as_promised() -> None:
    """Split-conformal: at least the coverage in the mean over draws, whatever the errors are."""
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(400):
        distances = rng.gamma(8, 0.2, 60)
        residuals = rng.standard_t(4, 60) * 6 * distances
        slope = conformal_slope(
            residuals[:59], distances[:59], half_width=9.0, start=0.8, coverage=0.8
        )
        widened = 9.0 * _rule(start=0.8, slope=slope).factor(distances[59])
        covered.append(abs(residuals[59]) <= widened)
    # Standard error 0.02.
    assert 0.75 < np.mean(covered) < 0.88


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 0.0}, "start must be above 0"),
        ({"slope": -0.1}, "slope 0 or more"),
        ({"slope": np.inf}, "finite"),
        ({"likeness_s": ()}, "at least one stem"),
    ],
)
def test_rules_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _rule(**changes)


def test_a_rule_comes_back_and_any_change_of_it_shows(tmp_path: Path) -> None:
    rule = _rule()
    save_widening(tmp_path, rule)
    back = read_widening(tmp_path)
    assert back is not None
    assert (back.model_id, back.start, back.slope) == ("small-0123", 1.25, 0.5)
    assert back.provenance == rule.provenance
    assert back.identity == rule.identity
    looks_sq = np.array([[4.0, 4.0], [4.0, 0.0]])
    assert back.distance(looks_sq) == rule.distance(looks_sq)
    moved = (rule.likeness_s[0], replace(rule.likeness_s[1], mean_q=np.array([0.0, 0.1])))
    others = (_rule(start=1.26), _rule(slope=0.6), _rule(likeness_s=moved), _rule(model_id="b"))
    assert len({rule.identity, *(other.identity for other in others)}) == 5


def test_a_folder_without_a_rule_has_none(tmp_path: Path) -> None:
    assert read_widening(tmp_path) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_damaged_rule_is_refused_by_its_path(tmp_path: Path, damage: str) -> None:
    save_widening(tmp_path, _rule())
    path = tmp_path / WIDENING_FILE
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": whole[:-8], "other": whole.replace(b"slope", b"slape")}[damage]
    )
    with pytest.raises(UsageError, match="must hold how intervals widen") as caught:
        read_widening(tmp_path)
    assert str(path) in str(caught.value)
