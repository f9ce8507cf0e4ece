"""Acquisition: from tissues to the image that one scanner makes of them."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ermoe_ba.phantom.brain import Brain
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.space import Array, Volume

# Blur's full width at half maximum to its standard deviation.
FWHM = float(np.sqrt(8 * np.log(2)))
# Scanners store integers; white matter comes out at some hundreds.
LARGEST_VALUE = np.iinfo(np.int16).max
# On T1w images lesions are nearly as dark as grey matter: share of that contrast.
LESION_DARKNESS = 0.8
# One person's tissue differs a little from another's on the same scanner.
PERSONAL_CONTRAST_SD = 0.015
# Tissue is not uniform: share of the local signal, before the scanner's own blur.
TEXTURE_SD = 0.03

# Signal of the classes outside the cavity, SynthSeg's labels less 500, relative to white matter:
# vessels, eyes, muscle, mucosa, skin and fat, spinal cord, venous sinus, cortical bone, marrow. All
# others are soft tissue. Order of size of T1w images without fat suppression.
SOFT_TISSUE = 0.5
HEAD_SIGNAL = {2: 0.45, 6: 0.25, 7: 0.55, 9: 0.5, 11: 0.85, 12: 0.85, 14: 0.3, 15: 0.08, 16: 0.75}


@dataclass(frozen=True, kw_only=True)
class Site:
    """One scanner and its protocol. Signals are relative to white matter.

    Parameters
    ----------
    name : str
        As in the participants table.
    voxel_mm : tuple of float
        Voxel sizes.
    fluid, grey : float
        Signal of cerebrospinal fluid and of grey matter.
    bias_sd : float
        Spread of the logarithm of the coils' sensitivity over the head.
    noise_sd : float
        Of the real and the imaginary channel.
    blur_mm : float
        Full width at half maximum of the point spread.
    ghost : float
        Share of the signal that is seen again half a field of view away.
    scale : float
        Value of white matter in the file.
    """

    name: str
    voxel_mm: tuple[float, float, float]
    fluid: float
    grey: float
    bias_sd: float
    noise_sd: float
    blur_mm: float
    ghost: float
    scale: float


def draw_site(config: PhantomConfig, number: int) -> Site:
    """Draw one of the cohort's scanners.

    Ranges are those of T1w protocols in common use (MPRAGE and SPGR, 1.5 and 3 T) at about 2 mm.

    Parameters
    ----------
    config : PhantomConfig
        Settings of the cohort.
    number : int
        From 1.

    Returns
    -------
    Site
    """
    # Subjects count from 1: the index 0 is free for the scanners.
    rng = np.random.default_rng([config.seed, 0, number])
    sizes = [(2.0, 2.0, 2.0), (1.8, 1.9, 1.9), (2.2, 1.9, 1.9), (2.0, 2.1, 2.1)][(number - 1) % 4]
    return Site(
        name=f"site{number}",
        voxel_mm=sizes,
        fluid=float(rng.uniform(0.18, 0.32)),
        grey=float(rng.uniform(0.60, 0.72)),
        bias_sd=float(rng.uniform(0.04, 0.14)),
        noise_sd=float(rng.uniform(0.01, 0.03)),
        blur_mm=float(rng.uniform(0.8, 2.2)),
        ghost=float(rng.uniform(0.0, 0.015)),
        scale=float(rng.uniform(200.0, 1500.0)),
    )


def acquire(brain: Brain, lesions: Array, site: Site, rng: np.random.Generator) -> Volume:
    """Make the T1w image of one brain.

    Parameters
    ----------
    brain : Brain
        Its tissues.
    lesions : ndarray, shape (V,)
        Share of each drawn voxel that is a white matter lesion, 0 to 1.
    site : Site
        The scanner.
    rng : Generator
        Of this scan.

    Returns
    -------
    Volume
        int16 on the scan's grid.
    """
    grey, fluid = np.array([site.grey, site.fluid]) * np.exp(rng.normal(0, PERSONAL_CONTRAST_SD, 2))
    dark = np.float32(LESION_DARKNESS * (1 - grey))
    signal = brain.white * (1 - lesions * dark) + brain.grey * np.float32(grey)
    signal += brain.fluid * np.float32(fluid)
    if brain.head is not None:
        signal += _head_signal(brain.head) * (1 - brain.grey - brain.white - brain.fluid)
    signal *= 1 + TEXTURE_SD * rng.standard_normal(len(signal), dtype=np.float32)
    image = brain.spread_out(signal)
    image = gaussian_filter(image, site.blur_mm / FWHM / brain.grid.voxel_sizes, truncate=3.0)
    image += site.ghost * np.roll(image, image.shape[1] // 2, axis=1)
    image *= np.exp(_sensitivity(image.shape, site.bias_sd, rng))
    for channel in range(2):
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(site.noise_sd)
        # Rician: the magnitude of a signal whose two channels are both noisy.
        image = np.hypot(image, noise) if channel else image + noise
    return Volume(np.clip(image * site.scale, 0, LARGEST_VALUE).astype(np.int16), brain.grid)


def _head_signal(head: Array) -> Array:
    """Return the signal of the classes outside the cavity, shape (V,)."""
    table = np.full(256, SOFT_TISSUE, np.float32)
    table[0] = 0.0
    table[list(HEAD_SIGNAL)] = list(HEAD_SIGNAL.values())
    return table[head]


def _sensitivity(shape: tuple[int, ...], sd: float, rng: np.random.Generator) -> Array:
    """Draw the logarithm of a sensitivity: a quadratic over the field of view, shape as given."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    x, y, z = (axis.reshape([-1 if a == b else 1 for b in range(3)]) for a, axis in enumerate(axes))
    # Each of these has about unit variance over the cube: sqrt(3), sqrt(5)/2 (3 x^2 - 1), 3 x y.
    c = (rng.standard_normal(9) * sd / 3).astype(np.float32)
    root, half = np.float32(np.sqrt(3)), np.float32(np.sqrt(5) / 2)
    line = [root * c[a] * u + half * c[3 + a] * (3 * u**2 - 1) for a, u in enumerate((x, y, z))]
    return np.asarray(
        line[0] + line[1] + line[2] + 3 * (c[6] * x * y + c[7] * y * z + c[8] * x * z)
    )
