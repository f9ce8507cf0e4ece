"""Steps that change values: bias-field correction and one intensity scale for all scanners."""

from dataclasses import replace

import numpy as np
from monai.transforms import Transform
from scipy.ndimage import binary_dilation

from ermoe_ba.errors import RefusedScanError
from ermoe_ba.preprocess.ants_bridge import from_ants, to_ants
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import Array, Volume


class ToUnits(Transform):
    """Bring intensities to whole numbers on one scale, whatever the scanner's units.

    What stands for no signal becomes 0 (see `_zero`), and the percentile `PERCENTILE` of what lies
    above it becomes 4096. Rounding hides the last digits of a file's number format, which any later
    step could answer to; scanners tell hardly more than 4096 levels.
    """

    LEVELS = 4096
    # Of the voxels above the lowest, so that padding with it changes nothing.
    PERCENTILE = 99.0
    # Times the percentile; what is brighter is cut to it. The 144 heads of the training cohort end
    # at 3.1. Splines would carry a single voxel of a million times as much through a whole brain.
    BRIGHTEST = 16.0
    # Of the voxels that are not 0. One voxel of -32768, which an overflow leaves, would otherwise
    # lift a head until white and grey matter look alike.
    LOW = 1.0
    # Share of `PERCENTILE` up to which a lowest value is the noise of air, and no shift.
    AIR = 0.02

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with whole numbers from 0 upwards, as float32."""
        image = state.image
        data = image.data.astype(np.float64)
        lifted = np.clip(data - self._zero(data), 0.0, None)
        # "higher" is a value of the scan itself: no interpolation between two.
        unit = np.percentile(lifted[lifted > 0], self.PERCENTILE, method="higher")
        levels = np.minimum(np.rint(lifted * (self.LEVELS / unit)), self.BRIGHTEST * self.LEVELS)
        return replace(state, t1w=image.same_grid(levels.astype(np.float32)))

    def _zero(self, data: Array) -> float:
        """Return the value that stands for no signal: 0, unless all values were shifted.

        Where values are negative, it is the percentile `LOW`: a shift takes the air below 0, and
        with it far more voxels; a few are swings of a spline beside the skull, or damaged. Where
        all of that is one value, and the next begins at air (`_pads`), it is padding: the others
        decide.
        """
        lowest = float(data.min())
        if lowest < 0.0:
            low = min(float(np.percentile(data[data != 0], self.LOW, method="lower")), 0.0)
            others = data[data > lowest]
            return self._zero(others) if low == lowest and self._pads(lowest, others) else low
        if lowest == 0.0 or lowest <= self.AIR * np.percentile(data, self.PERCENTILE):
            return 0.0
        return lowest

    def _pads(self, lowest: float, others: Array) -> bool:
        """Tell whether the lowest value lies far below a scan whose own air is at 0.

        So does -1000, the air of CT, around a head of MR. Taken for a shift, it would lift the
        whole head towards one grey.
        """
        air = self.AIR * float(np.percentile(others, self.PERCENTILE))
        return lowest < -air < 0.0 and abs(float(others.min())) <= air


class CorrectBias(Transform):
    """Divide out the slow intensity drift of the coil by N4 (Tustison 2010), fitted in the brain.

    On the model grid: how the head lies in the image then has no say in where N4 puts its knots.

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
        # A scale of 100 keeps N4's histogram bins meaningful whatever the scanner's units.
        scale = 100.0 / max(float(np.percentile(image.data[state.mask.data > 0], 99)), 1e-30)
        scaled = image.same_grid((image.data * scale).astype(np.float32))
        corrected = ants.n4_bias_field_correction(
            to_ants(scaled),
            mask=to_ants(state.mask),
            shrink_factor=self.shrink_factor,
            convergence=self.convergence,
        )
        return replace(state, t1w=from_ants(corrected, image.grid))


class NormaliseIntensity(Transform):
    """Divide by the intensity of white matter, so that white matter is 1 everywhere in every scan.

    White matter is where the registered template says it is with near certainty, and where the
    scan is brighter than its brain's median (which removes ventricles that reach into it). Its
    median is the first divisor. The second is what N4 leaves of the coil's field, a polynomial of
    second degree in space fitted to the logarithm of white matter: of a field of +-35 %, N4 alone
    left 1.3 to 1.8 % (standard deviation over the brain, two heads), both together 0.4 to 0.6 %.

    Parameters
    ----------
    white_matter : Volume
        The template's white-matter probability, 0 to 255, on the model grid.
    certain : int
        Voxels at or above this value count as white matter.
    tolerance : float
        Voxels whose ratio to the median differs from 1 by more have no say in the polynomial:
        lesions, and edges that were blurred.
    ceiling : float
        Values above it (vessels, fat) are cut to it.
    force : bool
        Scale a scan without T1 contrast all the same, by the median of all that should be white
        matter.
    """

    DEGREE = 2
    # The template's certain white matter has some 30,000 voxels; ten coefficients need far fewer.
    FEWEST_VOXELS = 1000

    def __init__(
        self,
        white_matter: Volume,
        certain: int,
        tolerance: float,
        ceiling: float,
        *,
        force: bool = False,
    ) -> None:
        self.white_matter = white_matter
        self.certain = certain
        self.tolerance = tolerance
        self.ceiling = ceiling
        self.force = force

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with values from 0 to the ceiling, zero outside brain and its rim."""
        image, brain = state.image, state.mask.data > 0
        if image.grid != self.white_matter.grid:
            raise ValueError("Intensities are normalised on the model grid: ToGrid comes first.")
        due = brain & (self.white_matter.data >= self.certain)
        values = image.data[due]
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
        scaled = np.where(rim, image.data / level, 0.0)
        white = due & (np.abs(scaled - 1.0) <= self.tolerance)
        if white.sum() >= self.FEWEST_VOXELS:
            scaled[rim] /= self._field(scaled, white, rim)
        scaled = np.clip(scaled, 0.0, self.ceiling)
        return replace(state, t1w=image.same_grid(scaled.astype(np.float32)))

    def _field(self, scaled: Array, white: Array, at: Array) -> Array:
        """Return the polynomial fitted to white matter, at the voxels of a mask."""
        # From -1 to 1, so that powers stay alike in size.
        axes = [np.linspace(-1.0, 1.0, n) for n in scaled.shape]
        powers = np.indices((self.DEGREE + 1,) * 3).reshape(3, -1).T
        powers = powers[powers.sum(axis=1) <= self.DEGREE]

        def terms(mask: Array) -> Array:
            places = [axis[index] for axis, index in zip(axes, np.nonzero(mask), strict=True)]
            columns = [
                np.prod([x**n for x, n in zip(places, power, strict=True)], axis=0)
                for power in powers
            ]
            return np.stack(columns, axis=1)

        weights, *_ = np.linalg.lstsq(terms(white), np.log(scaled[white]), rcond=None)
        return np.asarray(np.exp(terms(at) @ weights))
