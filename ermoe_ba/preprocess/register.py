"""Affine registration of a brain to the template."""

from collections.abc import Iterator
from dataclasses import replace

import nibabel as nib
import numpy as np
from monai.transforms import Transform
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import Array, Volume

# Radius of a brain (mm). It gives the nine numbers of the matrix the unit of the shifts.
RADIUS_MM = 70.0
# Voxels around the template's brain that are compared as well, so that a brain that is too large
# stands out; 3 are 6 mm.
RIM = 3
# Iterations end where nothing moves by more than a ten-thousandth of a millimetre.
TOLERANCE = 1e-6
MAX_EVALUATIONS = 60


class RegisterAffine(Transform):
    """Find the 12-parameter affine from the scan to the template.

    Both brains are flattened (divided by their own mean within `flatten_mm`, so that a coil's field
    does not pull), blurred, and standardised on the points of the template's brain. What is
    minimised is ``1 - r``, with r their correlation, as the sum of squares it is:
    ``sum_i (m_i - f_i)^2 / 2N = 1 - r``, by least squares with a trust region (Branch 1999, in
    SciPy), first on coarse and then on fine points. From starts turned by up to 35 degrees it ends
    at one place; descent along the gradient stopped where a header turned by a tenth of a degree
    had moved ages by a third of a year.

    Parameters
    ----------
    brain : Volume
        The template's brain without skull, on the model grid.
    flatten_mm : float
        Standard deviation of the Gaussian that brains are flattened by.
    blur_mm : tuple of float
        Standard deviation of the Gaussian that both are blurred by, one a level.
    steps : tuple of int
        Every how many voxels of the template a point is compared, one a level.
    retry_below : float
        A correlation of the first level below it is no brain in place: starts turned by `RETRIES`
        are tried as well, and the best goes on.
    """

    # Degrees about each axis.
    RETRIES = (-50.0, 50.0, 100.0, -100.0, 180.0)

    def __init__(
        self,
        brain: Volume,
        flatten_mm: float,
        blur_mm: tuple[float, ...],
        steps: tuple[int, ...],
        retry_below: float,
    ) -> None:
        self.flatten_mm = flatten_mm
        self.retry_below = retry_below
        inside = brain.data > 0
        flat = flattened(brain, inside, flatten_mm)
        self.centre = nib.affines.apply_affine(brain.grid.affine, np.argwhere(inside).mean(axis=0))
        self.volume_ml = float(inside.sum() * brain.grid.voxel_volume_ml)
        self.levels = [
            (blur, FixedPoints(flat, inside, blur, step))
            for blur, step in zip(blur_mm, steps, strict=True)
        ]

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with its affine to the template; voxels stay where they are."""
        inside = state.mask.data > 0
        flat = flattened(state.image, inside, self.flatten_mm)
        moving = [MovingBrain(flat, blur) for blur, _ in self.levels]
        best, likeness = None, -1.0
        for start in self._starts(state.mask):
            if likeness >= self.retry_below:
                break
            found, alike = self._fit(moving[0], self.levels[0][1], start)
            if alike > likeness:
                best, likeness = found, alike
        assert best is not None
        for brain, (_, points) in zip(moving[1:], self.levels[1:], strict=True):
            best, likeness = self._fit(brain, points, best)
        return replace(
            state,
            image_to_template=np.linalg.inv(self._matrix(best)),
            figures={**state.figures, "template_correlation": likeness},
        )

    def _starts(self, mask: Volume) -> Iterator[Array]:
        """Yield poses: brains on each other by middle and size, then turned as well."""
        voxels = np.argwhere(mask.data > 0)
        centre = nib.affines.apply_affine(mask.grid.affine, voxels.mean(axis=0))
        size = (len(voxels) * mask.grid.voxel_volume_ml / self.volume_ml) ** (1 / 3)
        turns = [np.eye(3)]
        for degrees in self.RETRIES:
            turns += list(Rotation.from_rotvec(np.eye(3) * np.deg2rad(degrees)).as_matrix())
        for turn in turns:
            yield np.concatenate([(turn * size * RADIUS_MM).ravel(), centre - self.centre])

    def _matrix(self, pose: Array) -> Array:
        """Return a pose as the affine from the template to the scan."""
        linear = pose[:9].reshape(3, 3) / RADIUS_MM
        shift = self.centre + pose[9:] - linear @ self.centre
        return np.asarray(nib.affines.from_matvec(linear, shift))

    def _fit(
        self, moving: "MovingBrain", fixed: "FixedPoints", start: Array
    ) -> tuple[Array, float]:
        """Return the best pose from a start, and its correlation."""
        around = (fixed.points_n3 - self.centre) / RADIUS_MM

        def residuals(pose: Array) -> Array:
            values, _ = moving.at(nib.affines.apply_affine(self._matrix(pose), fixed.points_n3))
            return np.asarray((standardised(values)[0] - fixed.values_n) / np.sqrt(len(values)))

        def jacobian(pose: Array) -> Array:
            points = nib.affines.apply_affine(self._matrix(pose), fixed.points_n3)
            values, slopes_n3 = moving.at(points, slopes=True)
            score, spread = standardised(values)
            # d matrix[a, b] moves a point along a by its place along b.
            linear = (slopes_n3[:, :, None] * around[:, None, :]).reshape(-1, 9)
            change = np.concatenate([linear, slopes_n3], axis=1)
            # What changes the mean or the spread alone is standardised away.
            change -= change.mean(axis=0) + np.outer(score, score @ change / len(score))
            return np.asarray(change / (spread * np.sqrt(len(score))))

        # A function; type checkers take it for the module of the same name.
        found = least_squares(  # type: ignore[operator]
            residuals,
            start,
            jacobian,
            xtol=TOLERANCE,
            ftol=TOLERANCE**2,
            gtol=TOLERANCE**2,
            max_nfev=MAX_EVALUATIONS,
        )
        return found.x, float(1.0 - found.cost)


def flattened(brain: Volume, inside: Array, sigma_mm: float) -> Volume:
    """Return a brain divided by its own local mean: about 1 inside, 0 outside.

    Parameters
    ----------
    brain : Volume
        Intensities, shape (I, J, K).
    inside : ndarray of bool
        The brain's voxels.
    sigma_mm : float
        Standard deviation of the Gaussian that weighs the mean.

    Returns
    -------
    Volume
        float32.
    """
    sigma = sigma_mm / brain.grid.voxel_sizes
    # Beyond two standard deviations hardly any weight is left, and time grows with the reach.
    part = (np.where(inside, brain.data, 0).astype(np.float32), inside.astype(np.float32))
    value, weight = (gaussian_filter(p, sigma, truncate=2.0) for p in part)
    mean = np.where(inside, value, 1.0)
    flat = np.where(inside & (mean > 0), part[0] * weight / np.where(mean > 0, mean, 1.0), 0.0)
    return brain.same_grid(flat.astype(np.float32))


def standardised(values: Array) -> tuple[Array, float]:
    """Return values with mean 0 and mean square 1, and their standard deviation before.

    Parameters
    ----------
    values : ndarray, shape (N,)
        Any; equal values give zeros.

    Returns
    -------
    tuple of ndarray and float
        Both finite.
    """
    spread = float(values.std())
    # A brain that was moved out of the template altogether is flat there.
    spread = spread if spread > 0 else 1.0
    return (values - values.mean()) / spread, spread


class FixedPoints:
    """Points of the template, in mm, and its standardised values there.

    Parameters
    ----------
    flat : Volume
        The template's brain from `flattened`.
    inside : ndarray of bool
        Its voxels.
    blur_mm : float
        Standard deviation of the blur.
    step : int
        Every how many voxels a point lies.
    """

    def __init__(self, flat: Volume, inside: Array, blur_mm: float, step: int) -> None:
        blurred = gaussian_filter(flat.data, blur_mm / flat.grid.voxel_sizes)
        lattice = np.zeros(inside.shape, dtype=bool)
        lattice[::step, ::step, ::step] = True
        near = binary_dilation(inside, iterations=RIM) & lattice
        self.points_n3 = nib.affines.apply_affine(flat.grid.affine, np.argwhere(near))
        self.values_n, _ = standardised(blurred[near].astype(np.float64))


class MovingBrain:
    """A blurred brain and its slopes, to be read anywhere.

    Parameters
    ----------
    flat : Volume
        The scan's brain from `flattened`, axes along the world's.
    blur_mm : float
        Standard deviation of the blur.
    """

    def __init__(self, flat: Volume, blur_mm: float) -> None:
        sizes = flat.grid.voxel_sizes
        self.to_voxels = np.linalg.inv(flat.grid.affine)
        self.blurred = gaussian_filter(flat.data, blur_mm / sizes)
        # Along the voxels' axes, then turned into millimetres of space.
        self.slopes = np.gradient(self.blurred)

    def at(self, points_n3: Array, *, slopes: bool = False) -> tuple[Array, Array]:
        """Return values, and where asked for slopes, at points.

        Parameters
        ----------
        points_n3 : ndarray, shape (N, 3)
            RAS+ coordinates of the scan in mm.
        slopes : bool
            Whether slopes are wanted.

        Returns
        -------
        ndarray, shape (N,)
            Values, 0 outside the image.
        ndarray, shape (N, 3)
            Slopes per mm along the coordinates; of shape (0, 3) where not asked for.
        """
        voxels = nib.affines.apply_affine(self.to_voxels, points_n3).T
        values = map_coordinates(self.blurred, voxels, order=1).astype(np.float64)
        if not slopes:
            return values, np.empty((0, 3))
        along = [map_coordinates(slope, voxels, order=1) for slope in self.slopes]
        return values, np.stack(along, axis=1).astype(np.float64) @ self.to_voxels[:3, :3]
