"""Acquisition: what a scanner makes of tissues, each of its faults alone and of a known amount."""

from dataclasses import replace

import numpy as np
import pytest

from ermoe_ba.phantom.acquisition import (
    LESION_DARKNESS,
    PERSONAL_CONTRAST_SD,
    TEXTURE_SD,
    Site,
    acquire,
)
from ermoe_ba.phantom.brain import Brain
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.space import Array, SpatialGrid

# Three unequal axes, and unequal voxels.
SHAPE, VOXEL_MM = (30, 44, 36), (1.5, 1.0, 1.25)
# A scanner without a fault; its integers are fine enough for a thousandth.
FAULTLESS = Site(
    name="s",
    voxel_mm=VOXEL_MM,
    fluid=0.2,
    grey=0.7,
    bias_sd=0.0,
    noise_sd=0.0,
    blur_mm=0.0,
    ghost=0.0,
    scale=10_000.0,
)


def _all_white(where: Array) -> Brain:
    """White matter in some voxels, nothing in the others."""
    voxels = np.flatnonzero(where)
    nothing = np.zeros(len(voxels), np.float32)
    none = np.zeros(len(voxels), np.uint8)
    return Brain(
        grid=SpatialGrid(SHAPE, np.diag([*VOXEL_MM, 1.0]), "scan"),
        to_anatomy=np.eye(4),
        voxels=voxels,
        grey=nothing,
        white=nothing + 1,
        fluid=nothing,
        solid=none,
        cortex=none,
        deep=none,
        head=None,
        realised_ml=np.zeros(len(REGIONS)),
        intracranial_ml=0.0,
        smallest_jacobian=1.0,
    )


def _image(brain: Brain, site: Site, seed: int = 0, lesion: float = 0.0) -> Array:
    lesions = np.full(len(brain.voxels), lesion, np.float32)
    image = acquire(brain, lesions, site, np.random.default_rng(seed))
    return np.asarray(image.data, dtype=np.float64) / site.scale


@pytest.fixture
def full() -> Brain:
    return _all_white(np.ones(SHAPE, dtype=bool))


def test_without_a_fault_white_matter_has_the_scanner_s_value(full: Brain) -> None:
    """Its texture deviates by 3 %; of 47,520 voxels, the mean by a seventh of a thousandth."""
    image = _image(full, FAULTLESS)
    assert image.mean() == pytest.approx(1.0, abs=1e-3)
    assert image.std() == pytest.approx(TEXTURE_SD, rel=0.02)


def test_a_lesion_takes_most_of_the_contrast_to_grey_matter(full: Brain) -> None:
    """Grey matter has 0.7 of the signal, give or take what people differ by."""
    ratio = _image(full, FAULTLESS, lesion=1.0).mean() / _image(full, FAULTLESS).mean()
    spread = LESION_DARKNESS * 0.7 * PERSONAL_CONTRAST_SD
    assert ratio == pytest.approx(1 - LESION_DARKNESS * 0.3, abs=4 * spread)


def test_noise_is_rician() -> None:
    """Of air, the length of two normal numbers is their deviation times the root of pi / 2."""
    brain = _all_white(np.arange(SHAPE[1])[None, :, None] * np.ones(SHAPE) < 10)
    image = _image(brain, replace(FAULTLESS, noise_sd=0.04))
    assert image[:, 10:].mean() == pytest.approx(0.04 * np.sqrt(np.pi / 2), rel=0.02)
    # Of tissue, the texture's deviation and the noise's.
    assert image[:, :10].std() == pytest.approx(np.hypot(TEXTURE_SD, 0.04), rel=0.03)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blur_has_its_width_in_millimetres_along_every_axis(axis: int) -> None:
    """A plane of one voxel becomes a Gaussian, cut at 3 deviations: a 37th of its variance less."""
    middle = SHAPE[axis] // 2
    brain = _all_white(np.indices(SHAPE)[axis] == middle)
    image = _image(brain, replace(FAULTLESS, blur_mm=6.0))
    # Away from the plane's edges.
    inner = image[tuple(slice(None) if n == axis else slice(12, -12) for n in range(3))]
    share = inner.mean(axis=tuple({0, 1, 2} - {axis}))
    away = VOXEL_MM[axis] * (np.arange(SHAPE[axis]) - middle)
    variance = share @ away**2 / share.sum()
    assert variance == pytest.approx(6.0**2 / (8 * np.log(2)), rel=0.05)


def test_a_ghost_lies_half_a_field_of_view_away() -> None:
    brain = _all_white(np.indices(SHAPE)[1] < 10)
    image = _image(brain, replace(FAULTLESS, ghost=0.1))
    plain = _image(brain, FAULTLESS)
    half = SHAPE[1] // 2
    np.testing.assert_allclose(image[:, half : half + 10], 0.1 * plain[:, :10], atol=2e-4)
    np.testing.assert_array_equal(image[:, :10], plain[:, :10])


def test_the_coils_sensitivity_has_the_spread_asked_for(full: Brain) -> None:
    """Nine coefficients a scan: of sixty scans the mean square is known to six in a hundred."""
    wanted, squares = 0.15, []
    for seed in range(60):
        plain = _image(full, FAULTLESS, seed)
        field = np.log(_image(full, replace(FAULTLESS, bias_sd=wanted), seed) / plain)
        squares.append(np.mean(field**2))
        # A quadratic: from voxel to voxel it hardly changes.
        assert np.abs(np.diff(field, axis=0)).max() < wanted
    assert np.sqrt(np.mean(squares)) == pytest.approx(wanted, rel=0.12)
