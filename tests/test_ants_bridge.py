"""Between RAS+ and ITK: voxels lie where they lay, there and back."""

import ants
import numpy as np

from ermoe_ba.preprocess.ants_bridge import from_ants, to_ants
from ermoe_ba.space import SpatialGrid, Volume


def test_an_ants_image_has_its_voxels_where_the_volume_has_them(
    oblique_grid: SpatialGrid,
) -> None:
    data = np.random.default_rng(1).random((5, 7, 9)).astype(np.float32)
    image = to_ants(Volume(data, oblique_grid))
    for voxel in [(0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 8), (3, 1, 5)]:
        x, y, z, _ = oblique_grid.affine @ [*voxel, 1]
        lps = ants.transform_index_to_physical_point(image, voxel)
        np.testing.assert_allclose(lps, [-x, -y, z], atol=1e-4)
        assert image[voxel] == data[voxel]


def test_a_volume_comes_back_from_ants(oblique_grid: SpatialGrid) -> None:
    data = np.random.default_rng(1).random((5, 7, 9)).astype(np.float32)
    volume = from_ants(to_ants(Volume(data, oblique_grid)), oblique_grid)
    np.testing.assert_array_equal(volume.data, data)
