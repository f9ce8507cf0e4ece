"""Lesions: white matter hyperintensities, dark on T1w images, that grow with age."""

import numpy as np
from scipy.ndimage import gaussian_filter

from ermoe_ba.phantom.brain import Brain
from ermoe_ba.phantom.regions import Kind, indices
from ermoe_ba.space import Array

# Caps and bands lie along the ventricles: how far they reach (SD, mm), and how much that counts
# against chance, which makes foci of some millimetres.
PERIVENTRICULAR_MM, PERIVENTRICULAR_WEIGHT = 4.0, 3.0
FOCUS_MM = 2.5
EDGE_MM = 1.2
# Only voxels that are white matter throughout: the cortex stays intact.
LEAST_WHITE = 0.9


def draw_lesions(brain: Brain, lesion_ml: float, rng: np.random.Generator) -> Array:
    """Place lesions of a given volume.

    Parameters
    ----------
    brain : Brain
        Where there is white matter, and where the ventricles are.
    lesion_ml : float
        Volume.
    rng : Generator
        Of their places.

    Returns
    -------
    ndarray of float32, shape (V,)
        Share of each drawn voxel that is lesion, 0 to 1; they add up to the volume.
    """
    sizes = brain.grid.voxel_sizes
    ventricle = np.isin(brain.solid, indices(Kind.VENTRICLE)).astype(np.float32)
    near = gaussian_filter(
        brain.spread_out(ventricle), PERIVENTRICULAR_MM / sizes, truncate=2.0
    ).ravel()[brain.voxels]
    noise = rng.standard_normal(brain.grid.shape, dtype=np.float32)
    foci = gaussian_filter(noise, FOCUS_MM / sizes, truncate=2.0).ravel()[brain.voxels]
    possible = np.flatnonzero((brain.solid == 0) & (brain.white > LEAST_WHITE))
    score = (foci / foci.std() + PERIVENTRICULAR_WEIGHT * near)[possible]
    count = min(round(lesion_ml / brain.grid.voxel_volume_ml), len(possible))
    lesions = np.zeros(len(brain.voxels), np.float32)
    if count:
        lesions[possible[np.argpartition(-score, count - 1)[:count]]] = 1.0
    # Lesions fade into what is around them.
    soft = gaussian_filter(brain.spread_out(lesions), EDGE_MM / sizes, truncate=3.0)
    return soft.ravel()[brain.voxels]
