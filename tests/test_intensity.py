"""One intensity scale: white matter is 1, and what shows none is refused."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from scan_states import GRID, SHAPE, state_of, white_matter

from ermoe_ba.errors import ScanError
from ermoe_ba.preprocess import ScanState
from ermoe_ba.preprocess.intensity import NormaliseIntensity
from ermoe_ba.space import SpatialGrid, Volume


def _brain() -> npt.NDArray[np.uint8]:
    brain = np.zeros(SHAPE, dtype=np.uint8)
    brain[3:13, 3:15, 3:17] = 1
    return brain


def _head(grey: float, white: float, noise: float = 0.0) -> ScanState:
    data = np.full(SHAPE, 0.2 * grey)
    data[_brain() > 0] = grey
    data[white_matter().data > 0] = white
    data += np.random.default_rng(1).normal(0.0, noise, SHAPE) if noise else 0.0
    return state_of(Volume(data.astype(np.float32), GRID), Volume(_brain(), GRID))


def _normalise() -> NormaliseIntensity:
    return NormaliseIntensity(white_matter(), certain=230, tolerance=0.2, ceiling=1.5)


def test_white_matter_becomes_one_and_the_rest_follows() -> None:
    result = _normalise()(_head(grey=60.0, white=80.0)).image
    assert result.data.dtype == np.float32
    np.testing.assert_allclose(result.data[white_matter().data > 0], 1.0)
    assert result.data[3, 3, 3] == pytest.approx(0.75)


def test_the_median_counts_so_that_a_bright_vessel_does_not() -> None:
    state = _head(grey=60.0, white=80.0)
    state.image.data[5:7, 5:7, 5:7] = 4000.0
    result = _normalise()(state).image
    assert result.data[8, 8, 8] == pytest.approx(1.0)
    assert result.data[5, 5, 5] == 1.5, "what is brighter than the ceiling is cut to it"


def test_ventricles_in_the_template_s_white_matter_do_not_count() -> None:
    """Fluid in four planes of ten, white of 75, 77 ... 85 in the others, whose median is 80.

    The median of all ten planes would be 76.
    """
    state = _head(grey=60.0, white=80.0)
    state.image.data[5:11, 5:13, 5:15] = [10.0] * 4 + [75.0, 77.0, 79.0, 81.0, 83.0, 85.0]
    result = _normalise()(state).image
    assert result.data[8, 8, 11] == pytest.approx(79 / 80)


@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_the_scanner_s_units_do_not_matter(scale: float) -> None:
    state = _head(grey=60.0, white=80.0, noise=5.0)
    scaled = dataclasses.replace(
        state, t1w=state.image.same_grid((state.image.data * scale).astype(np.float32))
    )
    one, other = _normalise()(state).image, _normalise()(scaled).image
    np.testing.assert_allclose(other.data, one.data, rtol=1e-5)


def test_a_smooth_field_over_white_matter_is_divided_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is the exponential of a polynomial of second degree goes wholly."""
    monkeypatch.setattr(NormaliseIntensity, "FEWEST_VOXELS", 100)
    state = _head(grey=60.0, white=80.0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    field = np.exp(0.1 * x - 0.08 * y * z + 0.06 * z**2)
    tilted = dataclasses.replace(
        state, t1w=state.image.same_grid((state.image.data * field).astype(np.float32))
    )
    result = _normalise()(tilted).image.data
    np.testing.assert_allclose(result[white_matter().data > 0], 1.0, rtol=1e-4)
    assert result[3, 3, 3] == pytest.approx(0.75, rel=1e-4)


def test_few_voxels_of_white_matter_fit_no_field() -> None:
    state = _head(grey=60.0, white=80.0)
    drift = np.exp(np.linspace(-0.1, 0.1, SHAPE[0]))[:, None, None]
    tilted = dataclasses.replace(state, t1w=state.image.same_grid(state.image.data * drift))
    result = _normalise()(tilted).image.data
    np.testing.assert_allclose(result[10, 8, 8] / result[5, 8, 8], drift[10] / drift[5], rtol=1e-5)


def test_beyond_one_voxel_of_rim_there_is_nothing() -> None:
    result = _normalise()(_head(grey=60.0, white=80.0)).image.data
    assert result[2, 8, 8] == pytest.approx(0.2 * 60 / 80)
    assert not result[:2].any()
    assert result[2, 2, 8] == 0.0, "the rim goes over faces, not over edges"


def test_values_below_zero_are_cut() -> None:
    state = _head(grey=60.0, white=80.0)
    state.image.data[4, 4, 4] = -50.0
    assert _normalise()(state).image.data[4, 4, 4] == 0.0


def test_intensities_on_another_grid_are_refused() -> None:
    state = _head(grey=60.0, white=80.0)
    elsewhere = SpatialGrid(SHAPE, GRID.affine, "scan")
    moved = state_of(Volume(state.image.data, elsewhere), Volume(state.mask.data, elsewhere))
    with pytest.raises(ValueError, match="ToGrid comes first"):
        _normalise()(moved)


def test_white_matter_darker_than_grey_is_refused() -> None:
    with pytest.raises(ScanError, match=r"sub-x_T1w\.nii\.gz.*brighter"):
        _normalise()(_head(grey=80.0, white=60.0))


def test_force_scales_another_contrast_by_what_should_be_white_matter() -> None:
    forced = NormaliseIntensity(white_matter(), certain=230, tolerance=0.2, ceiling=1.5, force=True)
    result = forced(_head(grey=80.0, white=60.0)).image.data
    assert np.median(result[white_matter().data >= 230]) == pytest.approx(1.0)
    good = _head(grey=60.0, white=80.0)
    np.testing.assert_array_equal(forced(good).image.data, _normalise()(good).image.data)


def test_white_matter_darker_than_grey_is_refused_in_a_noisy_scan_too() -> None:
    """T2 weighting: a few voxels out of hundreds are bright by chance, and are no white matter."""
    with pytest.raises(ScanError, match="brighter"):
        _normalise()(_head(grey=80.0, white=60.0, noise=10.0))


def test_a_brain_beside_the_template_s_white_matter_is_refused() -> None:
    state = _head(grey=60.0, white=80.0)
    aside = np.zeros(SHAPE, dtype=np.uint8)
    aside[:3] = 1
    with pytest.raises(ScanError, match="found 0 "):
        _normalise()(dataclasses.replace(state, brain_mask=Volume(aside, GRID)))


def test_no_brain_at_all_is_refused() -> None:
    state = _head(grey=60.0, white=80.0)
    nothing = Volume(np.zeros(SHAPE, dtype=np.uint8), GRID)
    with pytest.raises(ScanError, match="found 0 "):
        _normalise()(dataclasses.replace(state, brain_mask=nothing))
