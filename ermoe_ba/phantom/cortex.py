"""Cortex: thinned or thickened in place, at its outer side, until its volume is as planned."""

import numpy as np
from scipy.special import expit, logit

from ermoe_ba.phantom.regions import REGIONS, Kind
from ermoe_ba.space import Array

# Voxels never count as all grey or all fluid: what is certain could not change.
LEAST_FRACTION = 0.01
# Newton's method ends when each region is this near, or after so many steps.
ENOUGH_VOXELS, NEWTON_STEPS = 0.5, 12

_CORTEX = np.array([False, *(region.kind is Kind.CORTEX for region in REGIONS)])


def thin_cortex(
    *, grey: Array, fluid: Array, owner: Array, planted: Array, near: Array
) -> tuple[Array, Array]:
    """Turn cortex into fluid, or fluid into cortex, until each region has its planted volume.

    In a voxel that both share, the logit of grey matter's part moves by the region's amount times
    how near fluid is. The amount is found by Newton's method, all regions at once.

    Parameters
    ----------
    grey, fluid : ndarray, shape (V,)
        Fractions.
    owner : ndarray of int, shape (V,)
        Cortical region, 0 for none.
    planted : ndarray, shape (regions,)
        Volumes in voxels.
    near : ndarray, shape (V,)
        How near fluid is, 0 to 1.

    Returns
    -------
    tuple of ndarray, shape (V,)
        Grey matter and fluid.
    """
    some = np.flatnonzero((owner > 0) & (grey + fluid > LEAST_FRACTION))
    owner, near, both = owner[some], near[some], (grey + fluid)[some]
    start = logit(np.clip(grey[some] / both, LEAST_FRACTION, 1 - LEAST_FRACTION))
    count = len(REGIONS) + 1
    target = np.concatenate([[0.0], planted])
    shift = np.zeros(count, np.float32)
    for _ in range(NEWTON_STEPS):
        part = expit(start - shift[owner] * near)
        excess = np.bincount(owner, both * part, count) - target
        if np.abs(excess[_CORTEX]).max() < ENOUGH_VOXELS:
            break
        slope = np.bincount(owner, both * part * (1 - part) * near, count)
        # Steps are bounded: far from the answer the slope says little.
        step = np.clip(excess / np.maximum(slope, 1e-6), -2.0, 2.0)
        shift += np.where(_CORTEX, step, 0.0).astype(np.float32)
    part = expit(start - shift[owner] * near)
    grey, fluid = grey.copy(), fluid.copy()
    grey[some], fluid[some] = both * part, both * (1 - part)
    return grey, fluid
