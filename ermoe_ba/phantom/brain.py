"""Brain: what a scan's voxels hold of one subject."""

from dataclasses import dataclass

import numpy as np

from ermoe_ba.phantom.anatomy import commonest
from ermoe_ba.phantom.regions import SULCAL_CSF_INDEX
from ermoe_ba.space import Array, SpatialGrid


@dataclass(frozen=True, kw_only=True)
class Brain:
    """One subject's brain on the scan's grid; arrays hold the drawn voxels only.

    Parameters
    ----------
    grid : SpatialGrid
        Of the scan.
    to_anatomy : ndarray, shape (4, 4)
        Affine from the scan's coordinates to those of the brain at rest, mm to mm: what a perfect
        affine registration would find.
    voxels : ndarray of int, shape (V,)
        Flat indices of the drawn voxels.
    grey, white, fluid : ndarray, shape (V,)
        Fractions, 0 to 1.
    solid, cortex, deep : ndarray of uint8, shape (V,)
        As in `Anatomy`.
    head : ndarray of uint8, shape (V,), or None
        As in `Anatomy`.
    realised_ml : ndarray, shape (regions,)
        Volumes as they came out.
    intracranial_ml : float
        Volume of the cavity as it came out.
    smallest_jacobian : float
        Of the deformation; above 0 where nothing folds.
    """

    grid: SpatialGrid
    to_anatomy: Array
    voxels: Array
    grey: Array
    white: Array
    fluid: Array
    solid: Array
    cortex: Array
    deep: Array
    head: Array | None
    realised_ml: Array
    intracranial_ml: float
    smallest_jacobian: float

    def spread_out(self, values: Array, dtype: type = np.float32) -> Array:
        """Return values of the drawn voxels on the whole grid, 0 elsewhere.

        Parameters
        ----------
        values : ndarray, shape (V,)
            Of the drawn voxels, in their order.
        dtype : type
            Of the result.

        Returns
        -------
        ndarray, shape (I, J, K)
            On `grid`.
        """
        whole: Array = np.zeros(self.grid.shape, dtype)
        whole.ravel()[self.voxels] = values
        return whole

    def labels(self) -> Array:
        """Return the commonest content of each drawn voxel as a region's index.

        Returns
        -------
        ndarray of uint8, shape (V,)
            0 where tissue and fluid fill at most half of a voxel.
        """
        content = np.stack([self.fluid, self.grey, self.white])
        owner = np.stack([np.full_like(self.cortex, SULCAL_CSF_INDEX), self.cortex, self.deep])
        return commonest(content, owner, self.solid, content.sum(axis=0) > 0.5)
