"""Scans on other grids: RAS order, the box of working voxels, the model's grid."""

import dataclasses
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from scan_states import PATH, FloatArray, state_of
from scipy.spatial.transform import Rotation

from ermoe_ba.preprocess import ScanState
from ermoe_ba.preprocess.geometry import ToGrid, ToRas, ToWorkingBox, turn_degrees
from ermoe_ba.space import SpatialGrid, Volume


def _centre_of_mass_mm(volume: Volume) -> FloatArray:
    weights = np.asarray(volume.data, dtype=np.float64)
    ijk = (np.indices(weights.shape) * weights).reshape(3, -1).sum(axis=1) / weights.sum()
    return volume.grid.affine[:3, :3] @ ijk + volume.grid.affine[:3, 3]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flips", list(product([1, -1], repeat=3)), ids=str)
def test_ras_order_is_the_same_whatever_order_the_file_has(
    order: tuple[int, int, int], flips: tuple[int, int, int]
) -> None:
    """One head stored in each of the 48 ways: voxel values and grid must come out identical."""
    shape = (5, 7, 9)
    data = np.random.default_rng(1).random(shape).astype(np.float32)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix()
    grid = SpatialGrid(shape, turn @ np.diag([2.0, 3.0, 4.0, 1.0]), "scan")
    # Stored voxel s stands for canonical voxel c: c[order[n]] = s[n], counted from the far end
    # where flipped.
    to_canonical = np.zeros((4, 4))
    to_canonical[3, 3] = 1
    stored = data.transpose(order)
    for axis, (canonical_axis, flip) in enumerate(zip(order, flips, strict=True)):
        to_canonical[canonical_axis, axis] = flip
        if flip < 0:
            stored = np.flip(stored, axis)
            to_canonical[canonical_axis, 3] = shape[canonical_axis] - 1
    scan = Volume(stored, SpatialGrid(stored.shape, grid.affine @ to_canonical, "scan"))
    state = ToRas()(state_of(scan))
    np.testing.assert_array_equal(state.image.data, data)
    np.testing.assert_array_equal(state.image.grid.affine, np.diag([2.0, 3.0, 4.0, 1.0]))
    np.testing.assert_allclose(
        state.scan_to_image @ grid.affine, state.image.grid.affine, atol=1e-4
    )


def test_the_model_grid_gets_scan_and_mask_through_one_affine() -> None:
    """A cube that is its own mask stays its own mask, moved by 6 mm or three voxels."""
    data = np.zeros((15, 17, 19), dtype=np.float32)
    data[5:9, 6:10, 7:11] = 1.0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    scan = Volume(data, SpatialGrid(data.shape, affine, "scan"))
    grid = SpatialGrid((20, 21, 22), affine, "template")
    shift = np.eye(4)
    shift[0, 3] = 6.0
    state = dataclasses.replace(
        state_of(scan, scan.same_grid(data.astype(np.uint8))),
        image_to_template=shift,
        scan_to_image=np.diag([1.0, 1.0, 1.0, 1.0]) + np.outer([0, 1, 0, 0], [0, 0, 0, 5.0]),
    )
    result = ToGrid(grid)(state)
    expected = np.zeros(grid.shape)
    expected[8:12, 6:10, 7:11] = 1
    assert result.image.grid is grid
    assert result.mask.data.dtype == np.uint8
    np.testing.assert_array_equal(result.mask.data, expected)
    np.testing.assert_allclose(result.image.data, expected, atol=1e-4)
    assert result.scan_to_template is not None
    np.testing.assert_allclose(result.scan_to_template @ [1, 2, 3, 1], [7, 7, 3, 1])


def test_steps_say_which_step_must_come_first() -> None:
    scan = Volume(np.ones((5, 7, 9)), SpatialGrid((5, 7, 9), np.eye(4), "scan"))
    with pytest.raises(ValueError, match="RegisterAffine must come first"):
        ToGrid(scan.grid)(state_of(scan, scan))
    with pytest.raises(ValueError, match="ExtractBrain must come first"):
        ToWorkingBox(2.0, (8, 8, 8))(state_of(scan))
    with pytest.raises(ValueError, match="LoadT1w must come first"):
        ToRas()(ScanState(path=PATH))


def _in_a_box(mask_box: tuple[slice, slice, slice], shape: tuple[int, int, int]) -> ScanState:
    """A scan of 2 mm voxels with values of its own, its brain in a part of it."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-7.3, 1.9, 4.4]
    values = np.random.default_rng(5).random(shape, dtype=np.float32)
    scan = Volume(values, SpatialGrid(shape, affine, "scan"))
    mask = np.zeros(shape, dtype=np.uint8)
    mask[mask_box] = 1
    return state_of(scan, scan.same_grid(mask))


def test_voxels_of_the_working_size_are_moved_and_not_changed() -> None:
    """The brain fills voxels 4-9, 5-10, 6-12: its middle 6, 7, 9 becomes the box's 6, 7, 8."""
    state = _in_a_box((slice(4, 10), slice(5, 11), slice(6, 13)), (14, 16, 18))
    result = ToWorkingBox(2.0, (12, 14, 16))(state)
    assert result.image.grid.shape == (12, 14, 16)
    np.testing.assert_allclose(result.image.data, state.image.data[:12, :14, 1:17], atol=1e-6)
    np.testing.assert_array_equal(result.mask.data, state.mask.data[:12, :14, 1:17])
    np.testing.assert_allclose(result.image.grid.affine[:3, 3], [-7.3, 1.9, 4.4 + 2.0])


@pytest.mark.parametrize("degrees", [0.0, 10.0, 45.0, 90.0, 179.0, 180.0])
def test_the_turn_of_an_affine_is_that_of_its_rotation(degrees: float) -> None:
    """Stretched before or after, unequally, and moved, it turns by as much."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([1.0, 2.0, 2.0]) / 3).as_matrix()
    stretch = turn @ np.diag([1.1, 0.8, 1.3]) @ turn.T
    affine = nib.affines.from_matvec(stretch @ turn, [30.0, -70.0, 5.0])
    # Near 0 and 180 degrees the cosine is flat: a last digit of it is 1e-6 degrees.
    assert turn_degrees(affine) == pytest.approx(degrees, abs=1e-5)
    mirrored = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    assert turn_degrees(mirrored) >= 90.0 - 1e-5


@pytest.mark.parametrize("degrees", [0.0, 8.0, 30.0, 44.0])
def test_where_a_header_puts_the_head_has_no_say(degrees: float) -> None:
    """Voxels and grid are those of the plain header to the bit; points come back to the scan."""
    shape = (5, 7, 9)
    values = np.random.default_rng(3).random(shape).astype(np.float32)
    plain = np.diag([1.0, 1.2, 0.9, 1.0])
    header = np.eye(4)
    header[:3, :3] = Rotation.from_rotvec([np.radians(degrees), 0, 0]).as_matrix()
    header[:3, 3] = [-88.1, 120.7, 60.3]
    results = [
        ToRas()(state_of(Volume(values, SpatialGrid(shape, affine, "scan"))))
        for affine in (plain, header @ plain)
    ]
    assert results[0].image.grid == results[1].image.grid
    np.testing.assert_array_equal(results[0].image.data, results[1].image.data)
    voxel = np.array([3.0, 1.0, 4.0, 1.0])
    np.testing.assert_allclose(
        results[1].scan_to_image @ header @ plain @ voxel,
        results[1].image.grid.affine @ voxel,
        atol=1e-4,
    )
    np.testing.assert_allclose(results[1].image.grid.affine, plain, atol=1e-4)


def test_air_around_the_head_changes_nothing() -> None:
    state = _in_a_box((slice(4, 10), slice(5, 11), slice(6, 13)), (14, 16, 18))
    air = ((3, 0), (2, 5), (0, 4))
    grid = state.image.grid
    affine = grid.affine.copy()
    affine[:3, 3] -= [2.0 * before for before, _ in air]
    wider = SpatialGrid((17, 23, 22), affine, "scan")
    padded = state_of(
        Volume(np.pad(state.image.data, air), wider), Volume(np.pad(state.mask.data, air), wider)
    )
    step = ToWorkingBox(2.0, (8, 8, 8))
    assert step(padded).image.grid == step(state).image.grid
    np.testing.assert_allclose(step(padded).image.data, step(state).image.data, atol=1e-6)


@pytest.mark.parametrize("voxel_mm", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.5), (1.0, 1.0, 4.0)], ids=str)
def test_a_marker_keeps_its_place_in_millimetres(
    voxel_mm: tuple[float, float, float],
) -> None:
    """A ball of 6 mm around a planted point; half a voxel off would be 1 mm."""
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = [-20.0, 13.0, 5.0]
    shape = tuple(int(n / mm) for n, mm in zip((40, 44, 48), voxel_mm, strict=True))
    grid = SpatialGrid((shape[0], shape[1], shape[2]), affine, "scan")
    point = affine[:3, :3] @ (np.array(shape) * [0.5, 0.45, 0.55]) + affine[:3, 3]
    ijk = np.indices(shape).reshape(3, -1)
    distance = np.linalg.norm(affine[:3, :3] @ ijk + affine[:3, 3:] - point[:, None], axis=0)
    ball = (distance.reshape(shape) < 6.0).astype(np.float32)
    scan = Volume(ball, grid)
    before = _centre_of_mass_mm(scan)
    result = ToWorkingBox(2.0, (32, 34, 36))(state_of(scan, scan.same_grid(ball.astype(np.uint8))))
    np.testing.assert_allclose(result.image.grid.affine[:3, :3], 2.0 * np.eye(3), atol=1e-5)
    assert result.mask.grid == result.image.grid
    assert result.image.grid.space == "scan"
    np.testing.assert_allclose(_centre_of_mass_mm(result.image), before, atol=0.1)
    np.testing.assert_allclose(_centre_of_mass_mm(result.mask), before, atol=0.6)
    # Smoothing and sampling keep the sum: voxels of 8 microlitres instead of the scan's.
    kept = result.image.data.sum() * result.image.grid.voxel_volume_ml
    assert kept == pytest.approx(ball.sum() * grid.voxel_volume_ml, rel=0.03)


def test_an_even_scan_stays_even_up_to_its_border() -> None:
    """Of 21, 23 and 25 voxels of 1 mm, the middle 10, 11, 12 is the box's 5, 6, 6."""
    shape = (21, 23, 25)
    scan = Volume(np.full(shape, 7.0, dtype=np.float32), SpatialGrid(shape, np.eye(4), "scan"))
    state = state_of(scan, scan.same_grid(np.ones(shape, dtype=np.uint8)))
    result = ToWorkingBox(2.0, (11, 12, 13))(state)
    # One plane of the box lies before the scan's first: 11 - 2 * 6 = -1 mm.
    np.testing.assert_allclose(result.image.data[:, 1:, :], 7.0, rtol=1e-5)
    assert not result.image.data[:, 0, :].any()


def test_headers_that_differ_in_the_seventh_digit_are_one() -> None:
    affine = np.diag([1.0, 1.0, 1.2, 1.0])
    affine[:3, 3] = [-90.0, -125.0, -71.0]
    noisy = affine + 7.4e-6 * np.array([[0, 1, 0, -1], [1, 0, -1, 1], [0, -1, 1, 1], [0, 0, 0, 0]])
    plain, other = (
        ToRas()(
            ScanState(
                path=PATH,
                t1w=Volume(np.ones((5, 7, 9)), SpatialGrid((5, 7, 9), a, "scan")),
            )
        )
        for a in (affine, noisy)
    )
    np.testing.assert_array_equal(plain.image.grid.affine, other.image.grid.affine)
