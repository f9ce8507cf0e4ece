"""Resampling: a marker lands where the affine sends it, and labels stay labels."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from ermoe_ba.resampling import resample
from ermoe_ba.space import SpatialGrid, Volume


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_marker_lands_where_the_affine_sends_it(oblique_grid: SpatialGrid, order: int) -> None:
    """Voxel (3, 1, 4) of the oblique grid: x = 1.2 * 3 - 2.4 + 10, y = 1.6 * 3 + 1.8 - 20, z = 46.

    That is (11.2, -13.4, 46) mm; the affine turns it by a right angle about z, (x, y) to (-y, x),
    and adds (1, 2, 3): (14.4, 13.2, 49).
    """
    data = np.zeros((5, 7, 9), dtype=np.float32)
    data[3, 1, 4] = 1.0
    turn = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], dtype=float)
    # A grid turned alike, one voxel further out, so that its voxels meet the scan's.
    outward = np.eye(4)
    outward[:3, 3] = -1
    grid = SpatialGrid((7, 9, 11), turn @ oblique_grid.affine @ outward, "elsewhere")
    np.testing.assert_allclose(grid.affine @ [4, 2, 5, 1], [14.4, 13.2, 49.0, 1.0])
    moved = resample(Volume(data, oblique_grid), grid, order=order, to_grid_space=turn)
    expected = np.zeros((7, 9, 11))
    expected[4, 2, 5] = 1.0
    assert moved.grid is grid
    np.testing.assert_allclose(moved.data, expected, atol=1e-5)


def test_half_a_voxel_between_two_gives_their_mean() -> None:
    data = np.zeros((5, 7, 9), dtype=np.float32)
    data[2, 3, 4], data[3, 3, 4] = 10.0, 20.0
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    grid = SpatialGrid((5, 7, 9), shifted, "scan")
    moved = resample(Volume(data, SpatialGrid((5, 7, 9), np.eye(4), "scan")), grid, order=1)
    np.testing.assert_allclose(moved.data[1:4, 3, 4], [5.0, 15.0, 10.0], rtol=1e-6)


def test_outside_the_scan_there_is_nothing() -> None:
    inner = SpatialGrid((5, 7, 9), np.eye(4), "scan")
    far = np.eye(4)
    far[0, 3] = 100.0
    moved = resample(
        Volume(np.ones((5, 7, 9)), inner), SpatialGrid((4, 4, 4), far, "scan"), order=1
    )
    assert not moved.data.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.int64])
def test_labels_stay_labels_through_a_turn(dtype: npt.DTypeLike) -> None:
    """Label maps that numpy wrote are often of 64 bits."""
    labels = np.array([0, 4, 47, 207])
    data = np.random.default_rng(1).choice(labels, (9, 11, 13)).astype(dtype)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    grid = SpatialGrid((15, 17, 19), np.diag([0.7, 0.7, 0.7, 1.0]), "template")
    moved = resample(
        Volume(data, SpatialGrid((9, 11, 13), np.eye(4), "scan")), grid, order=0, to_grid_space=turn
    )
    assert set(np.unique(moved.data)) == set(labels)
