"""Localisation: figures of three tokens by hand, and what holds of any map."""

import numpy as np
import pytest

from ermoe_ba.localisation import (
    enrichment,
    rank_agreement,
    slope_on_age,
    token_auc,
    voxel_auc,
)

# Three tokens with 4, 4 and 2 mL of brain; the region fills half of the first.
BRAIN = np.array([4.0, 4.0, 2.0])
REGION = np.array([2.0, 0.0, 0.0])
MAP = np.array([3.0, 1.0, 1.0])


def test_enrichment_by_hand() -> None:
    """3 of 5 lie in the first token, half of that in the region, which is a fifth of the brain."""
    assert enrichment(MAP, REGION, BRAIN) == pytest.approx((3 / 5 / 2) / (2 / 10))


def test_importance_that_follows_the_brain_is_not_enriched() -> None:
    assert enrichment(BRAIN, REGION, BRAIN) == pytest.approx(1.0)
    # All of it in the token that is half region: half, over a fifth.
    assert enrichment(np.array([1.0, 0, 0]), REGION, BRAIN) == pytest.approx(2.5)


def test_voxels_are_told_apart_by_hand() -> None:
    """Of 8 mL outside, 2 share the region's token (a tie, half) and 6 lie in lesser ones."""
    assert voxel_auc(MAP, REGION, BRAIN) == pytest.approx((6 + 2 / 2) / 8)
    assert voxel_auc(-MAP + 4, REGION, BRAIN) == pytest.approx((0 + 2 / 2) / 8)
    assert voxel_auc(np.ones(3), REGION, BRAIN) == pytest.approx(0.5)


def test_tokens_are_told_apart_by_hand() -> None:
    assert token_auc(MAP, REGION, BRAIN, 0.5) == 1.0
    # Equal to one of the two outside, below the other.
    assert token_auc(np.array([1.0, 1.0, 3.0]), REGION, BRAIN, 0.5) == pytest.approx(0.25)


def test_a_token_that_holds_too_little_is_neither() -> None:
    """The third holds a tenth: with a half asked for, its importance does not matter."""
    region = np.array([2.0, 0.0, 0.2])
    for third in (0.0, 99.0):
        assert token_auc(np.array([3.0, 1.0, third]), region, BRAIN, 0.5) == 1.0
    # With a tenth asked for it belongs: of two pairs, one is lost.
    assert token_auc(np.array([3.0, 1.0, 0.0]), region, BRAIN, 0.1) == pytest.approx(0.5)


def test_the_share_of_the_region_is_the_best_map_there_is() -> None:
    """No map tells voxels better than that which orders tokens by their share (Neyman-Pearson)."""
    rng = np.random.default_rng(0)
    brain = rng.uniform(1.0, 4.0, 30)
    region = brain * np.where(rng.random(30) < 0.4, rng.random(30), 0.0)
    best = voxel_auc(region / brain, region, brain)
    assert 0.5 < best < 1.0
    for _ in range(50):
        assert voxel_auc(rng.random(30), region, brain) <= best


def test_tokens_without_brain_do_not_count() -> None:
    more = [np.append(values, extra) for values, extra in ((MAP, 7.0), (REGION, 0.0), (BRAIN, 0.0))]
    assert enrichment(*more) == enrichment(MAP, REGION, BRAIN)
    assert voxel_auc(*more) == voxel_auc(MAP, REGION, BRAIN)
    assert token_auc(*more, 0.5) == token_auc(MAP, REGION, BRAIN, 0.5)


@pytest.mark.parametrize(
    ("importance", "region", "brain", "message"),
    [
        (np.zeros(3), REGION, BRAIN, "above 0 somewhere"),
        (np.array([1.0, -1.0, 1.0]), REGION, BRAIN, "0 or more"),
        (MAP, np.zeros(3), BRAIN, "found it in none"),
        (MAP, BRAIN + 1, BRAIN, "within its brain"),
        (MAP[:2], REGION, BRAIN, "One value a token"),
    ],
)
def test_what_is_no_map_is_refused(
    importance: np.ndarray, region: np.ndarray, brain: np.ndarray, message: str
) -> None:
    for figure in (enrichment, voxel_auc, lambda m, r, b: token_auc(m, r, b, 0.5)):
        with pytest.raises(ValueError, match=message):
            figure(importance, region, brain)


def test_a_region_needs_an_outside() -> None:
    with pytest.raises(ValueError, match="outside the region"):
        voxel_auc(MAP, BRAIN, BRAIN)
    with pytest.raises(ValueError, match=r"0\.9 of the region"):
        token_auc(MAP, REGION, BRAIN, 0.9)


def test_slopes_by_hand_and_their_sum() -> None:
    """The first token adds a year in ten; the second does not care; the third loses two."""
    ages = np.array([20.0, 30.0, 40.0])
    years = np.array([[0.0, 5.0, 4.0], [1.0, 5.0, 2.0], [2.0, 5.0, 0.0]])
    slopes = slope_on_age(years, ages)
    np.testing.assert_allclose(slopes, [0.1, 0.0, -0.2])
    assert slopes.sum() == pytest.approx(np.polyfit(ages, years.sum(axis=1), 1)[0])


def test_ranks_by_hand() -> None:
    """One swap of neighbours among four: 1 - 6 * 2 / (4 * 15)."""
    one = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_agreement(one, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    assert rank_agreement(one, one**3) == pytest.approx(1.0)
    assert rank_agreement(one, -one) == pytest.approx(-1.0)
    assert rank_agreement(one, np.ones(4)) == 0.0
