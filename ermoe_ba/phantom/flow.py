"""Flows: smooth velocity fields, and the invertible deformations that follow from them.

A deformation is the exponential of a stationary velocity field (Arsigny et al., MICCAI 2006), by
scaling and squaring. A region grows where the field has sources: ``v = grad(phi)`` with
``laplace(phi) = sources``, solved by FFT. Fields live on a lattice of every second voxel.
"""

from collections.abc import Sequence

import numpy as np
from scipy import fft

from ermoe_ba.phantom.sampling import Places
from ermoe_ba.space import Array

# Voxels of the anatomy's grid to one of the flow's, along each axis.
COARSE = 2
# 2^2 = 4 steps: individual displacements of some millimetres are then below a voxel in each.
LEAST_SQUARINGS = 2
# Padding in voxels of the flow's lattice, all round. Sources are made up for within centimetres, so
# that their periodic images are hardly felt; random fields must not be alike at opposite ends.
SOURCE_PADDING, RANDOM_PADDING = 2, 8
# Width (SD) of a source's edge in voxels of the flow's lattice.
SOURCE_BLUR = 0.6


def _inverse(values: Array) -> Array:
    """Return 1 / values, and 0 where they are 0: a mean has no slope."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _wave_numbers(size: Sequence[int]) -> list[Array]:
    """Return the wave numbers of `scipy.fft.rfftn` by axis, radians a voxel, ready to broadcast."""
    return [
        (2 * np.pi * (fft.rfftfreq(n) if axis == len(size) - 1 else fft.fftfreq(n)))
        .reshape([-1 if axis == other else 1 for other in range(len(size))])
        .astype(np.float32)
        for axis, n in enumerate(size)
    ]


class Flow:
    """Velocity fields on a box.

    Parameters
    ----------
    shape : tuple of int
        Of the anatomy's grid, I, J, K, each even.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = (shape[0] // COARSE, shape[1] // COARSE, shape[2] // COARSE)
        self._padded = [fft.next_fast_len(n + 2 * SOURCE_PADDING, real=True) for n in self.shape]
        self._k = _wave_numbers(self._padded)
        i2, j2, k2 = (k**2 for k in self._k)
        edge = np.exp(-(i2 + j2 + k2) * (SOURCE_BLUR**2 / 2))
        # Velocity is the slope of a potential, which is -s / k^2.
        self._to_potential = np.complex64(-1j) * edge * _inverse(i2 + j2 + k2)

    def coarsen(self, fine: Array) -> Array:
        """Average blocks of the anatomy's grid.

        Parameters
        ----------
        fine : ndarray, shape (I, J, K)
            On that grid.

        Returns
        -------
        ndarray of float32, shape (I/2, J/2, K/2)
            On the lattice of the flow.
        """
        i, j, k = self.shape
        return np.asarray(
            fine.reshape(i, COARSE, j, COARSE, k, COARSE).mean(axis=(1, 3, 5), dtype=np.float32)
        )

    def from_sources(self, sources: Array) -> Array:
        """Return the curl-free velocity whose divergence is given.

        Parameters
        ----------
        sources : ndarray, shape (i, j, k)
            Growth of the logarithm of volume per unit of time.

        Returns
        -------
        ndarray, shape (3, i, j, k)
            Velocity in voxels of the flow's lattice.
        """
        potential = fft.rfftn(sources, self._padded) * self._to_potential
        return self._in_box([k * potential for k in self._k], self._padded)

    def _in_box(self, spectra: Sequence[Array], size: Sequence[int]) -> Array:
        """Return fields of which the spectra on a padded lattice are given, shape (c, i, j, k)."""
        i, j, k = self.shape
        return np.stack([fft.irfftn(part, size)[:i, :j, :k] for part in spectra])

    def random(self, rng: np.random.Generator, scales: Sequence[tuple[float, float]]) -> Array:
        """Draw a smooth velocity field without divergence: it changes shapes, not volumes.

        Parameters
        ----------
        rng : Generator
            Where the numbers come from.
        scales : sequence of (float, float)
            What the field is the sum of: standard deviation of each component, and width (SD) of
            the blur that makes noise a field; both in voxels of the flow's lattice.

        Returns
        -------
        ndarray, shape (3, i, j, k)
        """
        size = [fft.next_fast_len(n + 2 * RANDOM_PADDING, real=True) for n in self.shape]
        # The fields are smooth: noise on every second voxel holds all the waves that remain.
        half = [n // 2 for n in size]
        waves = [
            k * np.float32(few / many)
            for k, few, many in zip(_wave_numbers(half), half, size, strict=True)
        ]
        k2 = waves[0] ** 2 + waves[1] ** 2 + waves[2] ** 2
        # Independent Gaussian fields add up to one whose power is the sum of theirs: one draw is
        # enough. Of white noise so blurred, the variance is known; two of three parts pass the
        # projection.
        power = sum(
            sd**2 * 1.5 * (2 * np.sqrt(np.pi) * width) ** 3 * np.exp(-k2 * width**2)
            for sd, width in scales
        )
        amplitude = np.sqrt(power * np.prod(size) / np.prod(half), dtype=np.float32)
        noise = rng.standard_normal((3, *half), dtype=np.float32)
        low = [fft.rfftn(component) * amplitude for component in noise]
        # Helmholtz: what runs along the wave vector is the divergence.
        along = sum(k * s for k, s in zip(waves, low, strict=True)) * _inverse(k2)
        places = np.ix_(
            *(np.rint(fft.fftfreq(few, 1 / few)).astype(int) for few in half[:2]),
            np.arange(half[2] // 2 + 1),
        )
        spectra = np.zeros((3, size[0], size[1], size[2] // 2 + 1), np.complex64)
        for whole, k, part in zip(spectra, waves, low, strict=True):
            whole[places] = part - k * along
        return self._in_box(list(spectra), size)


def exponential(velocity: Array, active: Array, *, squarings: int) -> Array:
    """Return the displacement after unit time of a stationary velocity.

    Parameters
    ----------
    velocity : ndarray, shape (3, i, j, k)
        In voxels of its lattice.
    active : ndarray of int, shape (n,)
        Flat indices of the voxels where the displacement is wanted. Elsewhere, in air, it is the
        velocity itself: that halves the cost.
    squarings : int
        Time is halved so often, and the displacement doubled as often by composition.

    Returns
    -------
    ndarray, shape (3, i, j, k)
        Where each voxel moves, less where it was.
    """
    displacement = velocity / np.float32(2**squarings)
    for _ in range(squarings):
        displacement = compose(displacement, displacement, active)
    return displacement


def compose(first: Array, then: Array, active: Array) -> Array:
    """Return the displacement that two make one after the other.

    Parameters
    ----------
    first, then : ndarray, shape (3, i, j, k)
        In voxels of their lattice.
    active : ndarray of int, shape (n,)
        Flat indices of the voxels where the second is looked up; elsewhere, in air, the two are
        just added.

    Returns
    -------
    ndarray, shape (3, i, j, k)
        ``first(x) + then(x + first(x))``.
    """
    lattice = first.shape[1:]
    there = first.reshape(3, -1).take(active, axis=1)
    where = np.stack(np.unravel_index(active, lattice)).astype(np.float32) + there
    result = first + then
    result.reshape(3, -1)[:, active] = there + Places(where, lattice).sample(then)
    return result


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
