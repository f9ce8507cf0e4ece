"""Maps of chance keep what makes a map smooth, and p values mean what they say."""

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from ermoe_ba.maps.surrogates import MoranSurrogates
from ermoe_ba.space import Array

# Places of an ellipsoid, as tokens of 16 mm in a brain; three unequal axes.
SHAPE = (8, 10, 7)


def _places() -> Array:
    centre = (np.array(SHAPE) - 1) / 2
    ijk = np.argwhere(np.ones(SHAPE))
    return np.asarray(ijk[(((ijk - centre) / (centre + 0.5)) ** 2).sum(axis=1) < 1])


PLACES = _places()
CENTRES_MM = PLACES * 16.0
NULL = MoranSurrogates(CENTRES_MM)


def _smooth(rng: np.random.Generator, tokens: float, count: int) -> Array:
    """Gaussian fields, stationary on the ellipsoid: the margins of a larger one are cut off."""
    large = rng.normal(size=(count, *(3 * n for n in SHAPE)))
    smooth = gaussian_filter(large, tokens, axes=(1, 2, 3)) if tokens else large
    middle = (slice(None), *(slice(n, 2 * n) for n in SHAPE))
    return np.asarray(smooth[middle][:, *PLACES.T].T)


def _moran(values_t: Array) -> float:
    apart = np.linalg.norm(CENTRES_MM[:, None] - CENTRES_MM[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    centred = values_t - values_t.mean()
    return float(centred @ (1 / apart) @ centred / (centred @ centred) / (1 / apart).sum())


def test_a_surrogate_is_as_smooth_as_its_map_and_another_map() -> None:
    rng = np.random.default_rng(0)
    maps = _smooth(rng, 1.5, 2) + np.array([3.0, -1.0])
    drawn = NULL.draw(maps, rng)
    np.testing.assert_allclose(drawn.mean(axis=0), maps.mean(axis=0))
    np.testing.assert_allclose(drawn.std(axis=0), maps.std(axis=0))
    for number in range(2):
        assert _moran(drawn[:, number]) == pytest.approx(_moran(maps[:, number]), rel=1e-6)
        assert abs(np.corrcoef(drawn[:, number], maps[:, number])[0, 1]) < 0.9
    # Joint signs: how the two maps go together stays as well.
    expected = np.corrcoef(maps.T)[0, 1]
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(expected, abs=1e-9)


def test_weights_that_sum_to_one_do_so_in_every_surrogate() -> None:
    rng = np.random.default_rng(1)
    shares = np.exp(_smooth(rng, 1.0, 3))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(NULL.draw(shares, rng).sum(axis=1), 1.0)


@pytest.mark.parametrize("tokens", [0.0, 0.7, 1.5])
def test_smooth_maps_of_chance_have_uniform_p_values(tokens: float) -> None:
    """White noise, and fields whose correlation reaches about 2 and 4 tokens.

    300 independent maps: one p value each of a region near the middle and of one at the edge.
    """
    rng = np.random.default_rng(2)
    maps = _smooth(rng, tokens, 300)
    middle, edge = CENTRES_MM.mean(axis=0), CENTRES_MM[0]
    near = np.stack([np.linalg.norm(CENTRES_MM - c, axis=1) < 35 for c in (middle, edge)])
    contrasts = near / near.sum(axis=1, keepdims=True)
    p = NULL.p_values(contrasts, maps, 199, rng)
    for of_region in p:
        assert stats.kstest(of_region, "uniform").pvalue > 0.01
        # Of 300, 15 are expected below 0.05; 4 and 29 lie three standard deviations away.
        assert 4 <= np.count_nonzero(of_region <= 0.05) <= 29


def test_a_planted_region_is_found_in_a_smooth_map() -> None:
    rng = np.random.default_rng(3)
    inside = np.linalg.norm(CENTRES_MM - CENTRES_MM[len(CENTRES_MM) // 3], axis=1) < 30
    background = _smooth(rng, 1.5, 1)[:, 0]
    planted = background / background.std() + 4.0 * inside
    contrasts = np.stack([inside / inside.sum(), np.roll(inside, 100) / inside.sum()])
    p = NULL.p_values(contrasts, planted[:, None], 999, rng)[:, 0]
    assert p[0] < 0.01 < p[1]


def test_a_constant_counts_neither_in_the_map_nor_in_the_contrast() -> None:
    rng = np.random.default_rng(4)
    maps, row = _smooth(rng, 1.0, 1), rng.random((1, len(PLACES)))
    plain = NULL.p_values(row, maps, 99, np.random.default_rng(5))
    moved = NULL.p_values(row + 2.0, maps + 7.0, 99, np.random.default_rng(5))
    np.testing.assert_array_equal(plain, moved)


def test_a_flat_map_is_never_remarkable() -> None:
    flat = np.ones((len(PLACES), 1))
    row = np.eye(len(PLACES))[:1]
    assert NULL.p_values(row, flat, 50, np.random.default_rng(0)).item() == 1.0


@pytest.mark.parametrize("places", [np.eye(3), np.zeros((5, 3))], ids=["few", "one place"])
def test_places_that_are_no_lattice_are_refused(places: Array) -> None:
    with pytest.raises(ValueError, match="four places"):
        MoranSurrogates(places)
