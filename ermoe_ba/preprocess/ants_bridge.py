"""Between the project's volumes (RAS+) and ANTsPy's images (LPS+)."""

import os
from typing import TYPE_CHECKING

import numpy as np

from ermoe_ba.space import SpatialGrid, Volume

if TYPE_CHECKING:
    # Imported where it is called: it takes a second to load, which brain extraction can hide.
    import ants

# ANTs reads it when it first computes. It adds up per thread, so that another number of threads
# gives another bias field; one thread is what every machine has.
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

# ITK's first two axes point the other way.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_ants(volume: Volume) -> "ants.ANTsImage":
    """Turn a volume into an ANTs image.

    Parameters
    ----------
    volume : Volume
        Three-dimensional.

    Returns
    -------
    ants.ANTsImage
        float32, at the same place in LPS+ coordinates.
    """
    import ants

    affine = RAS_TO_LPS @ volume.grid.affine
    spacing = volume.grid.voxel_sizes
    return ants.from_numpy(
        np.ascontiguousarray(volume.data, dtype=np.float32),
        origin=tuple(affine[:3, 3]),
        spacing=tuple(spacing),
        direction=affine[:3, :3] / spacing,
    )


def from_ants(image: "ants.ANTsImage", grid: SpatialGrid) -> Volume:
    """Turn an ANTs image into a volume.

    Parameters
    ----------
    image : ants.ANTsImage
        Its own origin and directions are not looked at.
    grid : SpatialGrid
        Which its voxels are known to lie on.

    Returns
    -------
    Volume of float32
        The image's values on that grid.
    """
    return Volume(np.asarray(image.numpy(), dtype=np.float32), grid)
