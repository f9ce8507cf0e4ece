"""Grids are values: equal where they mean the same voxels, and nobody changes one in passing."""

import numpy as np
import pytest

from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume


def _moved(grid: SpatialGrid, mm: float) -> SpatialGrid:
    affine = grid.affine.copy()
    affine[1, 3] += mm
    return SpatialGrid(grid.shape, affine, grid.space)


def test_grids_that_differ_by_rounding_are_equal(oblique_grid: SpatialGrid) -> None:
    other = _moved(oblique_grid, 0.0009)
    assert other == oblique_grid
    assert hash(other) == hash(oblique_grid)


def test_single_precision_keeps_a_grid_equal(oblique_grid: SpatialGrid) -> None:
    affine = (oblique_grid.affine + np.pi).astype(np.float32)
    exact = SpatialGrid(oblique_grid.shape, oblique_grid.affine + np.pi, "scan")
    assert SpatialGrid(oblique_grid.shape, affine, "scan") == exact


def test_grids_a_hundredth_of_a_millimetre_apart_differ(oblique_grid: SpatialGrid) -> None:
    assert _moved(oblique_grid, 0.01) != oblique_grid


def test_the_tolerance_does_not_grow_with_the_distance_from_the_origin(
    oblique_grid: SpatialGrid,
) -> None:
    far = _moved(oblique_grid, 1e6)
    assert _moved(far, 0.01) != far


def test_the_same_lattice_in_another_space_is_another_grid(oblique_grid: SpatialGrid) -> None:
    assert SpatialGrid(oblique_grid.shape, oblique_grid.affine, "elsewhere") != oblique_grid


def test_the_same_affine_with_other_axes_is_another_grid(oblique_grid: SpatialGrid) -> None:
    assert SpatialGrid((7, 5, 9), oblique_grid.affine, oblique_grid.space) != oblique_grid


def test_a_grid_equals_nothing_but_grids(oblique_grid: SpatialGrid) -> None:
    assert oblique_grid != oblique_grid.describe()
    assert oblique_grid != oblique_grid.shape


def test_an_affine_cannot_be_written_to(oblique_grid: SpatialGrid) -> None:
    with pytest.raises(ValueError, match="read-only"):
        oblique_grid.affine[0, 3] = 1.0


def test_a_grid_does_not_follow_the_array_it_was_made_from() -> None:
    affine = np.eye(4)
    grid = SpatialGrid((5, 7, 9), affine, "scan")
    affine[0, 3] = 7.0
    assert grid.affine[0, 3] == 0.0


def test_an_affine_must_be_four_by_four() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        SpatialGrid((5, 7, 9), np.eye(3), "scan")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 9, 1)])
def test_a_grid_must_have_three_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="three axes"):
        SpatialGrid(shape, np.eye(4), "scan")


def test_voxel_sizes_are_lengths_along_the_voxel_axes(oblique_grid: SpatialGrid) -> None:
    np.testing.assert_allclose(oblique_grid.voxel_sizes, [2.0, 3.0, 4.0])


def test_a_voxel_of_2_by_3_by_4_mm_holds_24_microlitres(oblique_grid: SpatialGrid) -> None:
    assert oblique_grid.voxel_volume_ml == pytest.approx(0.024)


def test_a_flip_leaves_the_volume_positive() -> None:
    assert SpatialGrid(
        (5, 7, 9), np.diag([-2.0, 3.0, 4.0, 1.0]), "scan"
    ).voxel_volume_ml == pytest.approx(0.024)


def test_a_sheared_voxel_holds_base_times_height() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[0, 1] = 1.5
    assert SpatialGrid((5, 7, 9), affine, "scan").voxel_volume_ml == pytest.approx(0.024)


def test_a_description_makes_the_same_grid_again(oblique_grid: SpatialGrid) -> None:
    described = oblique_grid.describe()
    again = SpatialGrid(tuple(described["shape"]), described["affine"], described["space"])
    assert again == oblique_grid


@pytest.mark.parametrize("shape", [(7, 5, 9), (5, 7), (5, 7, 9, 2, 2), ()])
def test_data_of_another_shape_do_not_lie_on_a_grid(
    oblique_grid: SpatialGrid, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="do not lie on a grid"):
        Volume(np.zeros(shape), oblique_grid)


def test_a_volume_may_have_channels(oblique_grid: SpatialGrid) -> None:
    assert Volume(np.zeros((5, 7, 9, 2)), oblique_grid).data.shape == (5, 7, 9, 2)


def test_other_values_stay_on_the_grid(oblique_grid: SpatialGrid) -> None:
    volume = Volume(np.zeros((5, 7, 9)), oblique_grid)
    other = volume.same_grid(np.ones((5, 7, 9)))
    assert other.grid is oblique_grid
    assert other.data.sum() == 315
    with pytest.raises(ValueError, match="do not lie on a grid"):
        volume.same_grid(np.ones((9, 7, 5)))


def test_the_model_grid_is_centred_on_the_midline_and_holds_the_origin() -> None:
    """45 voxels either side of x = 0; (0, 0, 0) mm is voxel (45, 63, 36), as FSL's lattice has."""
    first, last = MODEL_GRID.affine[0, 3], MODEL_GRID.affine[0, 3] + 2 * (MODEL_GRID.shape[0] - 1)
    assert first == -last
    np.testing.assert_allclose(MODEL_GRID.affine @ [45, 63, 36, 1], [0, 0, 0, 1])
    np.testing.assert_allclose(MODEL_GRID.voxel_sizes, 2.0)
