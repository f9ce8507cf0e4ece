"""Growth: how much a region must be made to grow or shrink for its volume to be as planned.

Growth is asked for as a logarithm, one number a region. Where it is above 0, its exponential less 1
is the source that the region's velocity has; where it is below, it is the sink itself.
"""

import numpy as np

from ermoe_ba.phantom.flow import LEAST_SQUARINGS
from ermoe_ba.phantom.regions import REGIONS, Kind
from ermoe_ba.space import Array

# A region that shrinks stays within its sources, exp(-source); one that grows leaves them, and
# grows by what flows out, 1 + source. On the template blurred edges leave this share of either.
# Ventricles and the caudate are narrow: blurred edges cost them more of a sink.
RESPONSE, NARROW_RESPONSE = 0.6, 0.45
# Bounds of the logarithm of growth: a source of 15, and a sink of 4.
GROWTH_RANGE = -4.0, 2.8

CORTEX = np.array([region.kind is Kind.CORTEX for region in REGIONS])
_NARROW = np.array(
    [region.kind is Kind.VENTRICLE or region.pair == "caudate" for region in REGIONS]
)


def first_growth(wanted: Array) -> Array:
    """Return the growth that changes the logarithm of volume as wanted, shape (regions,)."""
    growing = np.log1p(np.expm1(np.maximum(wanted, 0)) / RESPONSE)
    return np.where(wanted > 0, growing, wanted / np.where(_NARROW, NARROW_RESPONSE, RESPONSE))


def squarings(growth: Array) -> int:
    """Return how often to halve time so that no source adds more than its voxel in one step."""
    return max(LEAST_SQUARINGS, int(np.ceil(np.log2(np.expm1(max(growth.max(), 0)) + 1e-6))))


def response(growth: Array) -> Array:
    """Return the slope of the logarithm of volume on the growth asked for, shape (regions,)."""
    flown_out = RESPONSE * np.expm1(np.maximum(growth, 0))
    growing = (RESPONSE + flown_out) / (1 + flown_out)
    return np.where(growth > 0, growing, np.where(_NARROW, NARROW_RESPONSE, RESPONSE))


def sources(growth: Array) -> Array:
    """Return the divergence of velocity within each region, shape (regions,)."""
    return np.where(growth > 0, np.expm1(growth), growth)
