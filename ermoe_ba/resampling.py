"""Sampling a volume on another grid."""

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from ermoe_ba.space import Array, SpatialGrid, Volume


def resample(
    volume: Volume, grid: SpatialGrid, *, order: int, to_grid_space: Array | None = None
) -> Volume:
    """Sample a volume on another grid by splines.

    Parameters
    ----------
    volume : Volume
        Shape (I, J, K).
    grid : SpatialGrid
        Where to sample; outside the volume the value is 0.
    order : {0, 1, 3}
        Spline order: 0 for labels, 1 for masks and fields, 3 for intensities.
    to_grid_space : ndarray, shape (4, 4), optional
        Affine from the volume's space to the grid's, mm to mm; identity by default.

    Returns
    -------
    Volume
        On `grid`.
    """
    shift = np.eye(4) if to_grid_space is None else to_grid_space
    data = volume.data
    # nibabel wants to be told before it makes an image of 64-bit integers.
    moved = nib.Nifti1Image(data, shift @ volume.grid.affine, dtype=data.dtype)
    result = resample_from_to(moved, (grid.shape, grid.affine), order=order)
    return Volume(np.asanyarray(result.dataobj), grid)
