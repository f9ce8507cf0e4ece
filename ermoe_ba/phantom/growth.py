"""Growth: how much regions must be made to grow or shrink for their volumes to be as planned.

Growth is asked for as a logarithm, one number a region. Where it is above 0, its exponential less 1
is the source that the region's velocity has; where it is below, it is the sink itself.
"""

from dataclasses import dataclass

import numpy as np

from ermoe_ba.phantom.flow import LEAST_SQUARINGS
from ermoe_ba.phantom.regions import REGIONS, Kind
from ermoe_ba.space import Array

# Bounds of the logarithm of growth: a source of 9, and a sink of 4.
GROWTH_RANGE = -4.0, 2.3
# Newton's method on the model: it ends long before.
MODEL_STEPS = 8
# No step changes a growth by more.
LARGEST_STEP = 1.0
# Share of a region's own answer below which it counts as this: a region of a few voxels loses
# nearly all of its source to its neighbours, and would ask for more than there is room for.
LEAST_ANSWER = 0.15

MOVED = np.array([region.kind is not Kind.CORTEX for region in REGIONS])


def sources(growth: Array) -> Array:
    """Return the divergence of velocity within each region.

    Parameters
    ----------
    growth : ndarray, shape (regions,)
        Logarithm of growth.

    Returns
    -------
    ndarray, shape (regions,)
        ``exp(growth) - 1`` above 0, else the growth itself.
    """
    return np.where(growth > 0, np.expm1(growth), growth)


def squarings(growth: Array) -> int:
    """Return how often to halve time: no step shall double a volume, nor take half of it.

    Parameters
    ----------
    growth : ndarray, shape (regions,)
        Logarithm of growth.

    Returns
    -------
    int
        At least `LEAST_SQUARINGS`.
    """
    strongest = max(float(sources(growth).max()), -2 * float(growth.min()))
    return max(LEAST_SQUARINGS, int(np.ceil(np.log2(max(strongest, 1.0)))))


@dataclass(frozen=True)
class Response:
    """How volumes answer to sources.

    A region that shrinks stays within its sink, and falls to exp(-answer); one that grows leaves
    its source, and grows by what flows out, 1 + answer. What neighbours do adds to the logarithm.

    Parameters
    ----------
    matrix : ndarray, shape (regions, regions)
        Slope of the logarithm of a row's volume on a column's source, at rest. Only what moves
        counts (`MOVED`).
    """

    matrix: Array

    def __post_init__(self) -> None:
        matrix = np.where(MOVED[:, None] & MOVED[None, :], self.matrix, 0.0)
        own = np.where(MOVED, np.maximum(np.diag(matrix), LEAST_ANSWER), 1.0)
        np.fill_diagonal(matrix, own)
        object.__setattr__(self, "matrix", matrix)

    def predict(self, growth: Array) -> Array:
        """Return the change of the logarithm of volume that growth brings.

        Parameters
        ----------
        growth : ndarray, shape (regions,)
            Logarithm of growth.

        Returns
        -------
        ndarray, shape (regions,)
            Of each region, as the class says.
        """
        source, own = sources(growth), np.diag(self.matrix)
        alone = own * source
        return np.asarray(
            self.matrix @ source - alone + np.where(alone > 0, np.log1p(np.abs(alone)), alone)
        )

    def step(self, growth: Array, missing: Array) -> Array:
        """Return the growth that should also bring what is missing.

        Parameters
        ----------
        growth : ndarray, shape (regions,)
            Asked for so far.
        missing : ndarray, shape (regions,)
            Logarithm of planned by present volume; cortex is left alone.

        Returns
        -------
        ndarray, shape (regions,)
            Within `GROWTH_RANGE`.
        """
        own, rises = np.diag(self.matrix), growth > 0
        slope = self.matrix.copy()
        np.fill_diagonal(slope, np.where(rises, own / (1 + own * sources(growth)), own))
        # From the source to its logarithm.
        slope *= np.where(rises, np.exp(growth), 1.0)
        low, high = GROWTH_RANGE
        # What has come to its bound stays there: its neighbours must not be pulled further for it.
        bound = ~MOVED | ((growth <= low) & (missing < 0)) | ((growth >= high) & (missing > 0))
        slope[bound] = np.eye(len(REGIONS))[bound]
        change = np.linalg.solve(slope, np.where(bound, 0.0, missing))
        change = np.clip(change, -LARGEST_STEP, LARGEST_STEP)
        return np.asarray(np.clip(growth + change, low, high))

    def first(self, wanted: Array) -> Array:
        """Return the growth that changes the logarithm of volume as wanted, by Newton's method.

        Parameters
        ----------
        wanted : ndarray, shape (regions,)
            Change of the logarithm of volume.

        Returns
        -------
        ndarray, shape (regions,)
            Logarithm of growth, within `GROWTH_RANGE`.
        """
        growth = np.zeros(len(REGIONS))
        for _ in range(MODEL_STEPS):
            growth = self.step(growth, wanted - self.predict(growth))
        return growth
