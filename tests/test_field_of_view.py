"""The end of the image: a brain that is cut there has a flat end, of a known area."""

import numpy as np
import pytest

from ermoe_ba.preprocess.field_of_view import flat_end_cm2
from ermoe_ba.space import SpatialGrid, Volume


def _block(first: tuple[int, int, int], last: tuple[int, int, int]) -> tuple[Volume, Volume]:
    """A brain of 1 in a head of 5 that fills a grid of 2 x 3 x 1.5 mm voxels."""
    grid = SpatialGrid((12, 14, 16), np.diag([2.0, 3.0, 1.5, 1.0]), "scan")
    brain = np.zeros(grid.shape, np.uint8)
    brain[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = 1
    image = np.full(grid.shape, 5, np.int16)
    image[0, 0, 0] = 0
    return Volume(image, grid), Volume(brain, grid)


def test_a_brain_inside_the_image_has_no_flat_end() -> None:
    assert flat_end_cm2(*_block((2, 2, 2), (9, 11, 13))) == 0.0


def test_the_area_of_a_cut_is_in_square_centimetres() -> None:
    # 8 voxels of 2 mm by 10 of 3 mm, at the upper end: 16 x 30 mm.
    assert flat_end_cm2(*_block((2, 2, 2), (9, 11, 15))) == pytest.approx(4.8)
    # The larger of two: above 8 of 2 mm by 12 of 3 mm; in front 8 of 2 mm by 14 of 1.5 mm.
    assert flat_end_cm2(*_block((2, 2, 2), (9, 13, 15))) == pytest.approx(max(5.76, 3.36))


def test_the_area_is_the_mean_of_the_outermost_3_mm_from_the_second_voxel_on() -> None:
    """Planes of 1.5 mm: two of them count, of 8 x 10 voxels of 6 square mm or of half as many."""
    image, brain = _block((2, 2, 2), (9, 11, 15))
    brain.data[2:6, :, 15] = 0
    assert flat_end_cm2(image, brain) == pytest.approx((2.4 + 4.8) / 2)
    # Extraction shuns the outermost plane: without it, the two below count.
    brain.data[:, :, 15] = 0
    assert flat_end_cm2(image, brain) == pytest.approx(4.8)
    brain.data[:, :, 14] = 0
    assert flat_end_cm2(image, brain) == 0.0


def test_zeros_end_an_image_as_its_border_does() -> None:
    image, brain = _block((2, 2, 2), (9, 11, 12))
    image.data[:, :, 13:] = 0
    assert flat_end_cm2(image, brain) == pytest.approx(4.8)


def test_image_and_mask_of_two_grids_have_no_common_end() -> None:
    image, _ = _block((2, 2, 2), (9, 11, 13))
    with pytest.raises(ValueError, match="one grid"):
        flat_end_cm2(image, Volume(np.zeros((5, 5, 5), np.uint8), MODEL_GRID_LIKE))


MODEL_GRID_LIKE = SpatialGrid((5, 5, 5), np.eye(4), "scan")
