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


class ToRas(Transform):
    """Put the voxels in RAS+ order along straight axes; no value changes.

    What the header says of where the head lay, by a shift and a turn, moves to `scan_to_image`:
    nothing that follows can depend on it, so that one head with another origin, another order of
    axes or an oblique affine gives the same voxels to the last bit.
    """

    # Forms of a header keep seven digits: one scan saved with another form differs by 1e-5 mm. Over
    # 500 voxels, this rounding moves the far corner by at most 0.03 mm.
    DECIMALS = 4

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan in RAS+ order, its first voxel at 0."""
        image = state.image
        canonical = nib.as_closest_canonical(to_nibabel(image))
        data = np.asanyarray(canonical.dataobj)
        # Polar decomposition: the turn that is nearest, and sizes (and shears) along the own axes.
        turn, _ = polar(canonical.affine[:3, :3] / nib.affines.voxel_sizes(canonical.affine))
        straight = (turn.T @ canonical.affine[:3, :3]).round(self.DECIMALS)
        # Adding 0 turns -0 into 0: grids are compared by their bytes too.
        grid = SpatialGrid(data.shape, nib.affines.from_matvec(straight + 0.0), image.grid.space)
        moved = nib.affines.from_matvec(turn.T, -turn.T @ canonical.affine[:3, 3])
        return replace(state, t1w=Volume(data, grid), scan_to_image=moved)


class ToWorkingBox(Transform):
    """Bring scan and mask to a box of isotropic voxels around the brain.

    The box has one size for all scans and its middle in the middle of the brain mask, so that what
    follows does not depend on how much air or neck the field of view holds. Finer scans are first
    blurred as much as a voxel of the new size blurs: FWHM = sqrt(size^2 - voxel^2) along each axis,
    so that a 1 mm scan and a 2 mm scan of one head look alike.

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
        first = centre - self.size_mm * (np.array(self.shape) // 2)
        affine = nib.affines.from_matvec(np.eye(3) * self.size_mm, first)
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
        """Return the scan and its mask on the grid, and how far the header's axes were turned."""
        if state.image_to_template is None:
            raise ValueError("The scan is not registered yet: RegisterAffine must come first.")
        sample = partial(resample, grid=self.grid, to_grid_space=state.image_to_template)
        mask = state.mask.same_grid(state.mask.data.astype(np.float32))
        with ThreadPoolExecutor(max_workers=2) as pool:
            sampled = pool.submit(sample, state.image, order=3)
            mask = sample(mask, order=1)
        t1w = sampled.result()
        whole = state.image_to_template @ state.scan_to_image
        return replace(
            state,
            figures={**state.figures, "turn_degrees": turn_degrees(whole)},
            # Splines swing below zero beside the skull.
            t1w=t1w.same_grid(np.clip(t1w.data, 0.0, None).astype(np.float32)),
            scan_to_template=whole,
            brain_mask=mask.same_grid((mask.data >= 0.5).astype(np.uint8)),
        )


def turn_degrees(affine: Array) -> float:
    """Return by how much an affine turns, whatever it stretches.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Invertible.

    Returns
    -------
    float
        Angle of the nearest rotation about its own axis, 0 to 180 degrees. An affine that mirrors
        has at least 90.
    """
    turn, _ = polar(affine[:3, :3])
    # A rotation's trace is 1 + 2 cos(angle); a reflection's is at most 1. Rounding may leave it
    # beyond what a cosine can be.
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1.0) / 2.0, -1.0, 1.0))))
