"""Changes to the intensities of a head: rescaled, degraded, or put in something else's place."""

import numpy as np
from nibabel.processing import smooth_image
from scipy.ndimage import rotate, shift

from ermoe_ba.io import to_nibabel
from ermoe_ba.space import Volume


def bright(volume: Volume) -> float:
    """Return the scan's brightness, the unit of noise: the 98th percentile of what is not 0.

    Parameters
    ----------
    volume : Volume
        The scan, in whatever unit.

    Returns
    -------
    float
        In that unit; 1 where nothing is above 0.
    """
    shown = volume.data[volume.data > 0]
    return float(np.percentile(shown, 98)) if shown.size else 1.0


def scale_values(volume: Volume, factor: float) -> Volume:
    """Multiply all intensities.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    factor : float
        Above 0.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    return volume.same_grid((volume.data * np.float64(factor)).astype(np.float32))


def offset_values(volume: Volume, share: float) -> Volume:
    """Lower all intensities by a share of the brightness, so that some are negative, or raise them.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    share : float
        Of the brightness (`bright`), -1 to 1; below 0 intensities are raised.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    return volume.same_grid((volume.data - share * bright(volume)).astype(np.float32))


def damage_voxel(volume: Volume, factor: float) -> Volume:
    """Give the voxel in the middle of the image a value that no tissue has.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    factor : float
        Times the brightness (`bright`); any number.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    data = volume.data.astype(np.float32)
    i, j, k = (size // 2 for size in data.shape)
    data[i, j, k] = factor * bright(volume)
    return volume.same_grid(data)


def add_noise(volume: Volume, share: float, rng: np.random.Generator) -> Volume:
    """Add Rician noise; `share` is the deviation of each channel relative to the brightness.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    share : float
        Standard deviation of each of the two channels as a share of the brightness (`bright`), at
        least 0.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Volume
        float32, on the same grid: ``sqrt((value + real)^2 + imaginary^2)``, both normal
        (Gudbjartsson and Patz 1995).
    """
    sd = share * bright(volume)
    real, imaginary = rng.normal(0, sd, (2, *volume.data.shape))
    return volume.same_grid(np.hypot(volume.data + real, imaginary).astype(np.float32))


def add_bias(volume: Volume, strength: float) -> Volume:
    """Darken from one corner of the image to the other by a factor of ``exp(2 strength)``.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    strength : float
        From one corner to the other, the values change from ``exp(-strength)`` to ``exp(strength)``
        times what they were.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.data.shape), indexing="ij")
    field = np.exp(strength * (axes[0] - axes[1] + axes[2]) / 3)
    return volume.same_grid((volume.data * field).astype(np.float32))


def bend_contrast(volume: Volume, exponent: float) -> Volume:
    """Raise intensities, relative to the brightness, to a power: above 1 grey matter darkens.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    exponent : float
        Above 0; 1 changes nothing.

    Returns
    -------
    Volume
        float32, on the same grid; negative values become 0.
    """
    unit = bright(volume)
    shares = np.clip(volume.data, 0, None) / np.float64(unit)
    return volume.same_grid((unit * shares**exponent).astype(np.float32))


def blur(volume: Volume, fwhm_mm: float) -> Volume:
    """Blur by a Gaussian of this full width at half maximum.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    fwhm_mm : float
        Full width at half maximum in mm, at least 0.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    smooth = smooth_image(to_nibabel(volume.same_grid(volume.data.astype(np.float32))), fwhm_mm)
    return volume.same_grid(np.asanyarray(smooth.dataobj))


def invert(volume: Volume, _: float) -> Volume:
    """Turn the contrast of the head upside down; air stays 0.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    _ : float
        Of no use here: there is one way.

    Returns
    -------
    Volume
        float32, on the same grid: what is above 0 is taken from the 99.9th percentile, and stays
        above 0.
    """
    top = float(np.percentile(volume.data, 99.9))
    flipped = np.where(volume.data > 0, np.clip(top - volume.data, 1e-3 * top, None), 0)
    return volume.same_grid(flipped.astype(np.float32))


def ghost(volume: Volume, share: float) -> Volume:
    """Add the image moved by half the field of view along the first axis.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    share : float
        Of the image that is added to itself, at least 0.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    moved = np.roll(volume.data, volume.data.shape[0] // 2, axis=0)
    return volume.same_grid((volume.data + share * moved).astype(np.float32))


def move_head(volume: Volume, degrees: float) -> Volume:
    """Let the head nod and sink during the scan: blocks of k-space lines alternate between poses.

    Sixteen blocks, the middle ones (the image's brightness) at rest, every other one turned by
    `degrees` and moved.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    degrees : float
        Turn in the plane of the first two axes; half as many voxels along each is the shift.

    Returns
    -------
    Volume
        float32, not negative, on the same grid.
    """
    turned = rotate(volume.data.astype(np.float32), degrees, axes=(0, 1), reshape=False, order=1)
    other = shift(turned, (degrees / 2, degrees / 2, 0), order=1)
    space, elsewhere = (np.fft.fftshift(np.fft.fftn(v), axes=0) for v in (volume.data, other))
    block = np.arange(len(space)) * 16 // len(space)
    spoilt = (block % 2 == 1) & (np.abs(block - 7.5) > 1)
    space[spoilt] = elsewhere[spoilt]
    image = np.abs(np.fft.ifftn(np.fft.ifftshift(space, axes=0)))
    return volume.same_grid(image.astype(np.float32))


def empty(volume: Volume, share: float, rng: np.random.Generator) -> Volume:
    """Leave nothing but noise.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    share : float
        Standard deviation of the noise as `add_noise` takes it; there is no head, so that the
        brightness is 1.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Volume
        float32, on the same grid.
    """
    return add_noise(volume.same_grid(np.zeros_like(volume.data, np.float32)), share, rng)


def ball(volume: Volume, radius_mm: float, rng: np.random.Generator) -> Volume:
    """Put an even ball in the place of the head, as scanners are tested with.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    radius_mm : float
        About the middle of the image, above 0.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Volume
        float32, on the same grid, as bright as the head was, with noise of 2 % of that.
    """
    centre = (np.array(volume.data.shape) - 1) / 2
    offsets = np.indices(volume.data.shape) - centre.reshape(3, 1, 1, 1)
    away = np.sqrt(((offsets * volume.grid.voxel_sizes.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
    inside = volume.same_grid(np.where(away < radius_mm, bright(volume), 0).astype(np.float32))
    return add_noise(inside, 0.02, rng)
