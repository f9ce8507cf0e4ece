"""Steps that move voxels: into RAS+ order, to isotropic voxels, onto the model grid."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
from monai.transforms import Transform
from nibabel.processing import resample_to_output, smooth_image

from ermoe_ba.io import to_nibabel
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.resampling import resample
from ermoe_ba.space import SpatialGrid, Volume


def _volume(image: nib.Nifti1Image, space: str) -> Volume:
    data = np.asanyarray(image.dataobj)
    return Volume(data, SpatialGrid(data.shape, image.affine, space))


class ToRas(Transform):
    """Reorder and flip the axes so that they run right, anterior, superior; no value changes."""

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan in RAS+ order."""
        canonical = nib.as_closest_canonical(to_nibabel(state.image))
        return replace(state, t1w=_volume(canonical, state.image.grid.space))


class ToIsotropic(Transform):
    """Bring scan and mask to isotropic voxels along the axes of the world.

    Finer scans are first blurred as much as a voxel of the new size blurs:
    FWHM = sqrt(size^2 - voxel^2) along each axis, so that a 1 mm scan and a 2 mm scan of one head
    look alike. A scan that already has such voxels is not touched.

    Parameters
    ----------
    size_mm : float
        Edge of the new voxels.
    """

    # Voxel sizes are rounded in headers; a hundredth of a voxel over 100 voxels is one voxel.
    TOLERANCE = 1e-3

    def __init__(self, size_mm: float) -> None:
        self.size_mm = size_mm

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan and its mask on the isotropic grid."""
        grid = state.image.grid
        aligned = np.allclose(
            grid.affine[:3, :3], np.eye(3) * self.size_mm, rtol=0, atol=self.TOLERANCE
        )
        if aligned:
            return state
        fwhm = np.sqrt(np.clip(self.size_mm**2 - grid.voxel_sizes**2, 0.0, None))
        sizes = (self.size_mm,) * 3

        def move(volume: Volume) -> Volume:
            real = volume.same_grid(volume.data.astype(np.float32))
            smooth = smooth_image(to_nibabel(real), fwhm)
            return _volume(resample_to_output(smooth, sizes, order=1), grid.space)

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
