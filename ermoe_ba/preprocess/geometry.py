"""Steps that move voxels: into RAS+ order, into a box around the brain, onto the model grid."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
from monai.transforms import Transform
from nibabel.processing import smooth_image
from scipy.linalg import polar

from ermoe_ba.io import to_nibabel
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.resampling import resample
from ermoe_ba.space import Array, SpatialGrid, Volume

# Headers keep four decimals of a millimetre here: a smaller turn is their rounding.
STRAIGHT = 1e-3


def own_axes(grid: SpatialGrid) -> Array:
    """Return the rotation from the world's axes to a grid's own.

    Parameters
    ----------
    grid : SpatialGrid
        In RAS+ order.

    Returns
    -------
    ndarray, shape (3, 3)
        The rotation nearest to the affine (polar decomposition); exactly the identity for a grid
        along the world's axes.
    """
    rotation, _ = polar(grid.affine[:3, :3] / grid.voxel_sizes)
    straight = np.eye(3)
    return straight if np.abs(rotation - straight).max() < STRAIGHT else rotation


class ToRas(Transform):
    """Reorder and flip the axes so that they run right, anterior, superior; no value changes."""

    # Over 500 voxels, rounding moves the far corner by at most 0.03 mm.
    DECIMALS = 4

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan in RAS+ order."""
        image = state.image
        canonical = nib.as_closest_canonical(to_nibabel(image))
        data = np.asanyarray(canonical.dataobj)
        # Forms of a header keep seven digits: one scan saved with another form differs by 1e-5 mm.
        affine = canonical.affine.round(self.DECIMALS)
        return replace(state, t1w=Volume(data, SpatialGrid(data.shape, affine, image.grid.space)))


class ToWorkingBox(Transform):
    """Bring scan and mask to a box of isotropic voxels around the brain, along the scan's axes.

    The box has one size for all scans and its middle in the middle of the brain mask, so that what
    follows does not depend on how much air or neck the field of view holds: bias correction and
    registration answer to the borders of their image; and the scan's own axes, so that an oblique
    header turns no voxel. Finer scans are first blurred as much as a
    voxel of the new size blurs: FWHM = sqrt(size^2 - voxel^2) along each axis, so that a 1 mm scan
    and a 2 mm scan of one head look alike.

    Parameters
    ----------
    size_mm : float
        Edge of the new voxels.
    shape : tuple of int
        Voxels of the box along its axes, the nearest to right, anterior, superior.
    """

    def __init__(self, size_mm: float, shape: tuple[int, int, int]) -> None:
        self.size_mm = size_mm
        self.shape = shape

    def _box(self, mask: Volume) -> SpatialGrid:
        """Return the box; one of its voxels lies on the scan's voxel in the middle of the brain."""
        inside = [np.flatnonzero(mask.data.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        middle = [(int(found[0]) + int(found[-1])) // 2 for found in inside]
        centre = nib.affines.apply_affine(mask.grid.affine, middle)
        axes = own_axes(mask.grid) * self.size_mm
        affine = nib.affines.from_matvec(axes, centre - axes @ (np.array(self.shape) // 2))
        return SpatialGrid(self.shape, affine, mask.grid.space)

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan and its mask in the box."""
        box = self._box(state.mask)
        sizes = state.image.grid.voxel_sizes
        fwhm = np.sqrt(np.clip(self.size_mm**2 - sizes**2, 0.0, None))

        def move(volume: Volume) -> Volume:
            real = volume.same_grid(volume.data.astype(np.float32))
            smooth = real.same_grid(np.asanyarray(smooth_image(to_nibabel(real), fwhm).dataobj))
            return resample(smooth, box, order=1)

        # Filters work outside the interpreter's lock, so scan and mask move side by side.
        with ThreadPoolExecutor(max_workers=2) as pool:
            t1w, mask = pool.map(move, (state.image, state.mask))
        half = mask.same_grid((mask.data >= 0.5).astype(np.uint8))
        return replace(state, t1w=t1w, brain_mask=half)


class ToGrid(Transform):
    """Sample scan and mask on a grid through the affine found by registration.

    Parameters
    ----------
    grid : SpatialGrid
        The model grid.
    """

    def __init__(self, grid: SpatialGrid) -> None:
        self.grid = grid

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan and its mask on the grid."""
        if state.scan_to_template is None:
            raise ValueError("The scan is not registered yet: RegisterAffine must come first.")
        sample = partial(resample, grid=self.grid, to_grid_space=state.scan_to_template)
        mask = state.mask.same_grid(state.mask.data.astype(np.float32))
        with ThreadPoolExecutor(max_workers=2) as pool:
            sampled = pool.submit(sample, state.image, order=3)
            mask = sample(mask, order=1)
        t1w = sampled.result()
        return replace(
            state,
            t1w=t1w.same_grid(t1w.data.astype(np.float32)),
            brain_mask=mask.same_grid((mask.data >= 0.5).astype(np.uint8)),
        )
