"""Steps that change values: bias-field correction and one intensity scale for all scanners."""

from dataclasses import replace

import numpy as np
from monai.transforms import Transform
from scipy.ndimage import binary_dilation

from ermoe_ba.errors import RefusedScanError
from ermoe_ba.preprocess.ants_bridge import from_ants, to_ants
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import Volume


class CorrectBias(Transform):
    """Divide out the slow intensity drift of the coil by N4 (Tustison 2010), fitted in the brain.

    Parameters
    ----------
    shrink_factor : int
        Every how many voxels the field is fitted.
    iterations : tuple of int
        At most this many at each of the spline levels.
    tolerance : float
        Stop a level once the field changes less than this.
    """

    def __init__(self, shrink_factor: int, iterations: tuple[int, ...], tolerance: float) -> None:
        self.shrink_factor = shrink_factor
        self.convergence = {"iters": list(iterations), "tol": tolerance}

    def __call__(self, state: ScanState) -> ScanState:
        """Return the corrected scan; intensities outside the brain are corrected as well."""
        import ants

        image = state.image
        # N4 takes logarithms: negative values (some scanners' offsets) are lifted to zero first.
        lifted = image.data - min(float(image.data.min()), 0.0)
        # A scale of 100 keeps N4's histogram bins meaningful whatever the scanner's units.
        scale = 100.0 / max(float(np.percentile(lifted[state.mask.data > 0], 99)), 1e-30)
        scaled = image.same_grid((lifted * scale).astype(np.float32))
        corrected = ants.n4_bias_field_correction(
            to_ants(scaled),
            mask=to_ants(state.mask),
            shrink_factor=self.shrink_factor,
            convergence=self.convergence,
        )
        return replace(state, t1w=from_ants(corrected, image.grid))


class NormaliseIntensity(Transform):
    """Divide by the median intensity of white matter, so that white matter is 1 in every scan.

    White matter is where the registered template says it is with near certainty, and where the
    scan is brighter than its brain's median (which removes ventricles that reach into it).

    Parameters
    ----------
    white_matter : Volume
        The template's white-matter probability, 0 to 255, on the model grid.
    certain : int
        Voxels at or above this value count as white matter.
    ceiling : float
        Values above it (vessels, fat) are cut to it.
    force : bool
        Scale a scan without T1 contrast all the same, by the median of all that should be white
        matter.
    """

    def __init__(
        self, white_matter: Volume, certain: int, ceiling: float, *, force: bool = False
    ) -> None:
        self.white_matter = white_matter
        self.certain = certain
        self.ceiling = ceiling
        self.force = force

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with values from 0 to the ceiling, zero outside brain and its rim."""
        image, brain = state.image, state.mask.data > 0
        if image.grid != self.white_matter.grid:
            raise ValueError("Intensities are normalised on the model grid: ToGrid comes first.")
        values = image.data[brain & (self.white_matter.data >= self.certain)]
        bright = values[values > np.median(image.data[brain])] if values.size else values
        # Where most of it is not brighter, a few voxels are by noise alone.
        enough = 2 * bright.size > values.size
        level = float(np.median(bright)) if enough else 0.0
        if self.force and level <= 0.0 and values.size:
            level = float(np.median(values))
        if level <= 0.0:
            raise RefusedScanError(
                state.path,
                must_hold="white matter must be brighter than the rest of the brain (T1 weighting)",
                found=f"{bright.size} of {values.size} voxels that are, where white matter is due",
                remedy="Give a T1-weighted scan, and check the orientation in its header.",
            )
        # One voxel of rim: partial volume at the brain's edge belongs to the picture.
        rim = binary_dilation(brain)
        scaled = np.where(rim, np.clip(image.data / level, 0.0, self.ceiling), 0.0)
        return replace(state, t1w=image.same_grid(scaled.astype(np.float32)))
