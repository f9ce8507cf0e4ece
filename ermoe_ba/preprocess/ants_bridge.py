"""Between the project's volumes (RAS+) and ANTsPy's images and transforms (LPS+)."""

import os
from typing import TYPE_CHECKING

import numpy as np

from ermoe_ba.space import Array, SpatialGrid, Volume

if TYPE_CHECKING:
    # Imported where it is called: it takes a second to load, which brain extraction can hide.
    import ants

# ANTs reads both when it first computes. It jitters its sample points; without a seed it takes the
# clock. It adds up per thread, so that another number of threads gives another affine: ages of four
# heads moved by up to 0.5 years between one thread and two. One is what every machine has.
os.environ["ANTS_RANDOM_SEED"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

# ITK's first two axes point the other way.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_ants(volume: Volume) -> "ants.ANTsImage":
    """Return a three-dimensional volume as an ANTs image of float32."""
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
    """Return an ANTs image's values on the grid they are known to lie on."""
    return Volume(np.asarray(image.numpy(), dtype=np.float32), grid)


def affine_of(transform: "ants.ANTsTransform") -> Array:
    """Return an ITK affine as a 4 x 4 matrix between RAS+ coordinates (mm).

    ITK stores x -> A (x - c) + c + t in LPS+, with A and t as parameters and c fixed.
    """
    parameters = np.asarray(transform.parameters, dtype=np.float64)
    centre = np.asarray(transform.fixed_parameters, dtype=np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return np.asarray(RAS_TO_LPS @ matrix @ RAS_TO_LPS)
