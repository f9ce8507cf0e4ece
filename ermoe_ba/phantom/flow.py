"""Flows: smooth velocity fields, and the invertible deformations that follow from them.

A deformation is the exponential of a stationary velocity field (Arsigny et al., MICCAI 2006), by
scaling and squaring. A region grows where the field has sources: ``v = grad(phi)`` with
``laplace(phi) = sources``, solved by FFT. Fields live on a lattice of every second voxel.
"""

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from ermoe_ba.space import Array

# Voxels of the anatomy's grid to one of the flow's, along each axis.
COARSE = 2
# 2^3 = 8 steps: individual displacements of some millimetres are then far below a voxel in each.
LEAST_SQUARINGS = 3
# Padding in voxels of the flow's lattice: sources shall not feel their periodic images.
PADDING = 8
# Width (SD) of a source's edge in voxels of the flow's lattice.
SOURCE_BLUR = 0.6


class Flow:
    """Velocity fields on a box.

    Parameters
    ----------
    shape : tuple of int
        Of the anatomy's grid, I, J, K, each even.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = (shape[0] // COARSE, shape[1] // COARSE, shape[2] // COARSE)
        self._padded = [fft.next_fast_len(n + 2 * PADDING, real=True) for n in self.shape]
        last = len(self._padded) - 1
        axes = [
            2 * np.pi * (fft.rfftfreq(n) if axis == last else fft.fftfreq(n))
            for axis, n in enumerate(self._padded)
        ]
        self._k = [
            k.reshape([-1 if axis == other else 1 for other in range(3)]).astype(np.float32)
            for axis, k in enumerate(axes)
        ]
        self._k2 = self._k[0] ** 2 + self._k[1] ** 2 + self._k[2] ** 2

    def coarsen(self, fine: Array) -> Array:
        """Average blocks of the anatomy's grid; shape (I, J, K) to (I/2, J/2, K/2)."""
        i, j, k = self.shape
        return np.asarray(
            fine.reshape(i, COARSE, j, COARSE, k, COARSE).mean(axis=(1, 3, 5), dtype=np.float32)
        )

    def _forward(self, field: Array) -> Array:
        return np.asarray(fft.rfftn(field, self._padded))

    def _back(self, spectrum: Array) -> Array:
        i, j, k = self.shape
        return np.asarray(fft.irfftn(spectrum, self._padded)[:i, :j, :k], dtype=np.float32)

    def blur(self, field: Array, sd: float) -> Array:
        """Blur a field on the flow's lattice; `sd` in its voxels."""
        return self._back(self._forward(field) * np.exp(-self._k2 * (sd**2 / 2)))

    def from_sources(self, sources: Array) -> Array:
        """Return the curl-free velocity whose divergence is given.

        Parameters
        ----------
        sources : ndarray, shape (I/2, J/2, K/2)
            Growth of the logarithm of volume per unit of time.

        Returns
        -------
        ndarray, shape (3, I/2, J/2, K/2)
            Velocity in voxels of the flow's lattice.
        """
        spectrum = self._forward(sources) * np.exp(-self._k2 * (SOURCE_BLUR**2 / 2))
        potential = np.divide(-spectrum, self._k2, out=np.zeros_like(spectrum), where=self._k2 > 0)
        return np.stack([self._back(1j * k * potential) for k in self._k])

    def random(self, rng: np.random.Generator, sd: float, smoothness: float) -> Array:
        """Draw a smooth velocity field without divergence: it changes shapes, not volumes.

        Parameters
        ----------
        rng : Generator
            Where the numbers come from.
        sd : float
            Standard deviation of each component in voxels of the flow's lattice.
        smoothness : float
            Width (SD) of the blur that makes noise a field, in voxels of that lattice.

        Returns
        -------
        ndarray, shape (3, I/2, J/2, K/2)
        """
        low_pass = np.exp(-self._k2 * (smoothness**2 / 2))
        noise = rng.standard_normal((3, *self._padded), dtype=np.float32)
        spectra = [self._forward(component) * low_pass for component in noise]
        along = sum(k * s for k, s in zip(self._k, spectra, strict=True))
        # Helmholtz: what runs along the wave vector is the divergence.
        along = np.divide(along, self._k2, out=np.zeros_like(spectra[0]), where=self._k2 > 0)
        field = np.stack([self._back(s - k * along) for k, s in zip(self._k, spectra, strict=True)])
        # Of white noise so blurred, the variance is known; two of three parts pass the projection.
        variance = 2 / 3 / (2 * np.sqrt(np.pi) * smoothness) ** 3
        return field * np.float32(sd / np.sqrt(variance))


def exponential(velocity: Array, active: Array, *, squarings: int) -> Array:
    """Return the displacement after unit time of a stationary velocity.

    Parameters
    ----------
    velocity : ndarray, shape (3, i, j, k)
        In voxels of its lattice.
    active : ndarray of bool, shape (i, j, k)
        Where the displacement is wanted. Elsewhere, in air, it is the velocity itself: that halves
        the cost.
    squarings : int
        Time is halved so often, and the displacement doubled as often by composition.

    Returns
    -------
    ndarray, shape (3, i, j, k)
        Where each voxel moves, less where it was.
    """
    displacement = velocity / np.float32(2**squarings)
    identity = np.stack(np.nonzero(active)).astype(np.float32)
    for _ in range(squarings):
        there = displacement[:, active]
        moved = identity + there
        doubled = displacement * 2
        doubled[:, active] = there + np.stack(
            [
                map_coordinates(component, moved, order=1, mode="nearest", output=np.float32)
                for component in displacement
            ]
        )
        displacement = doubled
    return displacement


def jacobian_determinant(displacement: Array) -> Array:
    """Return by how much a displacement scales volumes locally; above 0 where nothing folds.

    Parameters
    ----------
    displacement : ndarray, shape (3, i, j, k)
        In voxels of its lattice.

    Returns
    -------
    ndarray, shape (i, j, k)
        From central differences.
    """
    (a, b, c), (d, e, f), (g, h, i) = (np.gradient(component) for component in displacement)
    a, e, i = a + 1, e + 1, i + 1
    # Written out: a general determinant of so many small matrices takes ten times longer.
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def interpolation_matrix(positions: Array, count: int) -> Array:
    """Return the matrix that samples a coarse axis linearly at positions of the fine one.

    Parameters
    ----------
    positions : ndarray, shape (n,)
        In voxels of the anatomy's grid; a coarse voxel c is centred at ``2 c + 0.5``.
    count : int
        Voxels of the coarse axis.

    Returns
    -------
    ndarray, shape (n, count)
        Two neighbours in each row; the end values beyond the ends.
    """
    coarse = np.clip((positions - (COARSE - 1) / 2) / COARSE, 0, count - 1)
    low = np.minimum(coarse.astype(int), count - 2)
    matrix = np.zeros((len(positions), count), np.float32)
    rows = np.arange(len(positions))
    matrix[rows, low] = 1 - (coarse - low)
    matrix[rows, low + 1] = coarse - low
    return matrix


def sample_separably(field: Array, matrices: tuple[Array, Array, Array]) -> Array:
    """Sample a coarse field, shape (i, j, k), on the lattice that three matrices give."""
    for matrix in matrices:
        # Each product takes the first axis and puts the new one last: three restore the order.
        field = np.tensordot(field, matrix, axes=(0, 1))
    return np.asarray(field)
