"""Units of a scan: one array whatever scale, offset, padding and air the file has."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scan_states import state_of

from ermoe_ba.preprocess.intensity import ToUnits
from ermoe_ba.space import SpatialGrid, Volume


@pytest.mark.parametrize("scale", [1e-3, 0.37, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -50.0])
def test_units_end_at_the_same_whole_numbers(scale: float, offset: float) -> None:
    """Values 0 to 100: the 99th percentile of 1 ... 100 is 100 (the next higher), which is 4096."""
    values = np.arange(101.0).reshape(1, 1, 101)
    grid = SpatialGrid((1, 1, 101), np.eye(4), "scan")
    scan = Volume(((values + offset) * scale).astype(np.float32), grid)
    result = ToUnits()(state_of(scan)).image
    np.testing.assert_array_equal(result.data, np.rint(values * 4096 / 100))
    assert result.data.dtype == np.float32


def _units(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    grid = SpatialGrid((len(values), 1, 1), np.eye(4), "scan")
    data = values.astype(np.float32).reshape(-1, 1, 1)
    return np.asarray(ToUnits()(state_of(Volume(data, grid))).image.data).ravel()


# Air at 0, and tissue of 1 to 200.
_HEAD = np.concatenate([np.zeros(150), np.arange(1.0, 201.0)])


@pytest.mark.parametrize("offset", [-1000.0, -200.0, -128.0, -50.0, 5.0, 100.0, 1000.0])
def test_an_offset_changes_no_unit(offset: float) -> None:
    np.testing.assert_array_equal(_units(_HEAD + offset), _units(_HEAD))


@pytest.mark.parametrize("value", [-1.0, -30.0, -3000.0, -32768.0])
@pytest.mark.parametrize("count", [1, 2])
def test_a_few_voxels_below_the_air_lift_nothing(value: float, count: int) -> None:
    """Of 202 voxels that are not 0, the third lowest is the 1st percentile, and above 0 here."""
    spoilt = _HEAD.copy()
    spoilt[:count] = value
    np.testing.assert_array_equal(_units(spoilt), _units(_HEAD))


@pytest.mark.parametrize("padding", [-1000.0, -1024.0, -32768.0, -6.0])
@pytest.mark.parametrize("air", [0.0, -2.0, 3.0], ids=["zeros", "swings", "noise"])
def test_padding_far_below_the_air_lifts_nothing(padding: float, air: float) -> None:
    """2 % of 199, the 99th percentile of what is not padded, are 4: air lies within, -6 beyond."""
    head = _HEAD.copy()
    head[:100] = np.linspace(0.0, air, 100)
    padded = np.concatenate([head, np.full(200, padding)])
    found = _units(padded)
    np.testing.assert_array_equal(found[: len(head)], _units(head))
    assert not found[len(head) :].any()


def test_what_lies_hardly_below_the_air_is_no_padding() -> None:
    """A background of -3 beside tissue of up to 200 is read as it always was: as a shift."""
    found = _units(np.where(_HEAD == 0, -3.0, _HEAD))
    np.testing.assert_array_equal(found, np.rint(np.where(_HEAD, _HEAD + 3, 0) * 4096 / 202))


def test_a_background_that_was_shifted_with_its_brain_is_no_padding() -> None:
    """Tissue of 51 to 200 in zeros, less 50: one value below 0, but no air near it either way."""
    brain = np.concatenate([np.zeros(150), np.arange(60.0, 201.0)])
    np.testing.assert_array_equal(_units(brain - 50.0), _units(brain))


def test_two_values_of_which_one_is_0_show_what_they_did() -> None:
    np.testing.assert_array_equal(_units(np.array([-1000.0, 0.0, 0.0])), [0, 4096, 4096])


def test_a_brain_of_mean_0_keeps_its_dark_half() -> None:
    """Standardised without its background, which stays 0: half of the brain lies below."""
    brain = np.arange(-100.0, 101.0)
    found = _units(np.concatenate([np.zeros(300), brain]))[300:]
    assert (np.diff(found) > 0).sum() > 190


@pytest.mark.parametrize(("lowest", "expected"), [(3.0, 3.0), (5.0, 0.0)])
def test_the_noise_of_air_is_no_offset(lowest: float, expected: float) -> None:
    """2 % of 200, the 99th percentile, are 4."""
    scan = np.concatenate([np.arange(lowest, 190.0), np.full(100, 200.0)])
    assert _units(scan)[0] == np.rint(expected * 4096 / 200)


def test_a_single_bright_voxel_is_cut_and_moves_no_other() -> None:
    """The largest of 201 values lies above the percentile: it counts as one voxel, not by size."""
    bright = [_units(np.append(_HEAD, value)) for value in (1e4, 1e9, 3e38)]
    for found in bright:
        assert found[-1] == 16 * 4096
        np.testing.assert_array_equal(found[:-1], bright[0][:-1])


def test_padding_changes_no_unit() -> None:
    values = np.random.default_rng(2).gamma(2.0, 100.0, (6, 7, 8)).astype(np.float32)
    wide = np.pad(values, 5)
    plain = ToUnits()(state_of(Volume(values, SpatialGrid(values.shape, np.eye(4), "scan"))))
    padded = ToUnits()(state_of(Volume(wide, SpatialGrid(wide.shape, np.eye(4), "scan"))))
    np.testing.assert_array_equal(padded.image.data[5:-5, 5:-5, 5:-5], plain.image.data)
