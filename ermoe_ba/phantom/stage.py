"""Stages: one anatomy with its ventricles as they are or wider, from where its regions grow.

A stationary flow cannot widen a slit tenfold: the sources stay where the slit was, and what leaves
them is pushed along without growing any more. So large changes are made in stages, each with its
sources where the regions have come to lie.
"""

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array

from ermoe_ba.phantom.anatomy import FULL, Anatomy
from ermoe_ba.phantom.flow import COARSE, SOURCE_BLUR, Flow, compose, exponential
from ermoe_ba.phantom.growth import MOVED, Response, sources, squarings
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.phantom.sampling import Places, interpolation_matrix, nearest, sample_separably
from ermoe_ba.space import Array

# How far growth is made up for by the fluid and cortex around, SD in mm.
BALANCE_MM = 14.0
# Each stage's lateral and third ventricles are so many times as large as those of the one before.
WIDER, WIDEST = 2.0, 3

LATERAL = np.array([region.pair == "lateral_ventricle" for region in REGIONS])
THIRD = np.array([region.pair == "third_ventricle" for region in REGIONS])


class Stage:
    """An anatomy, displaced, and the velocities that its regions can be given from there.

    Parameters
    ----------
    anatomy : Anatomy
        The brain at rest.
    flow : Flow
        Of its grid.
    displacement : ndarray, shape (3, i, j, k)
        Where the content of each voxel of the flow's lattice came from, less where it is.
    """

    def __init__(self, anatomy: Anatomy, flow: Flow, displacement: Array) -> None:
        self._anatomy, self._flow, self._displacement = anatomy, flow, displacement
        self._active = np.flatnonzero(flow.coarsen(anatomy.drawn) > 0)
        shares, give = self._shares()
        width = BALANCE_MM / float(anatomy.grid.voxel_sizes[0]) / COARSE
        reach = np.maximum(gaussian_filter(give, width, mode="constant"), 1e-3)
        # Each source is made up for nearby, in proportion to what can give way; the two blurs are
        # one another's adjoint, so that little is left over in total.
        owed = np.stack([give * gaussian_filter(s / reach, width, mode="constant") for s in shares])
        total = shares.sum(axis=(1, 2, 3))
        left = owed.sum(axis=(1, 2, 3))
        owed *= (total / np.maximum(left, 1e-3))[:, None, None, None]
        self._drive = (shares - owed).reshape(len(shares), -1)
        soft = np.stack([gaussian_filter(s, SOURCE_BLUR, mode="constant") for s in shares])
        answers = soft.reshape(len(shares), -1) @ self._drive.T / np.maximum(total, 1e-3)[:, None]
        matrix = np.zeros((len(REGIONS), len(REGIONS)))
        matrix[np.ix_(MOVED, MOVED)] = answers
        self.response = Response(matrix)
        self.fractions = np.zeros(len(REGIONS))
        self.fractions[MOVED] = total * COARSE**3 / anatomy.cavity.sum()

    def _shares(self) -> tuple[Array, Array]:
        """Return how much of each lattice voxel a region's source fills, and what can give way.

        Returns
        -------
        ndarray, shape (moved regions, i, j, k)
            0 to 1.
        ndarray, shape (i, j, k)
            Share of cortex and of fluid outside ventricles, 0 to 1.
        """
        anatomy, shape = self._anatomy, self._anatomy.grid.shape
        voxels = np.flatnonzero(anatomy.drawn)
        here = np.stack(np.unravel_index(voxels, shape))
        i, j, k = (
            interpolation_matrix((np.arange(n) - (COARSE - 1) / 2) / COARSE, n // COARSE)
            for n in shape
        )
        where = here + np.stack(
            [COARSE * sample_separably(d, (i, j, k)).ravel()[voxels] for d in self._displacement]
        )
        at = nearest(where, shape)
        solid, deep = anatomy.solid.ravel()[at], anatomy.deep.ravel()[at]
        tissues = np.stack([anatomy.white, anatomy.grey, anatomy.fluid])
        white, grey, fluid = Places(where.astype(np.float32), shape).sample(tissues) / FULL
        free = solid == 0
        block = np.ravel_multi_index(tuple(here // COARSE), self._flow.shape)
        owner, part = np.where(free, deep, solid), np.where(free, white, 1).astype(np.float32)
        size = (len(REGIONS) + 1, int(np.prod(self._flow.shape)))
        filled = coo_array((part / COARSE**3, (owner, block)), shape=size).toarray()[1:][MOVED]
        give = np.bincount(block, np.where(free, grey + fluid, 0), size[1]) / COARSE**3
        lattice = self._flow.shape
        return filled.reshape(-1, *lattice), give.reshape(lattice).astype(np.float32)

    def velocity(self, growth: Array) -> Array:
        """Return the velocity by which regions grow and their surroundings give way.

        Parameters
        ----------
        growth : ndarray, shape (regions,)
            Logarithm of growth; cortex does not move, whatever is asked.

        Returns
        -------
        ndarray, shape (3, i, j, k)
            In voxels of the flow's lattice.
        """
        source = np.where(MOVED, sources(growth), 0.0)[MOVED].astype(np.float32)
        return self._flow.from_sources((source @ self._drive).reshape(self._flow.shape))

    def displacement(self, individual: Array, growth: Array) -> Array:
        """Return where the content of each voxel came from at rest, less where it is.

        Parameters
        ----------
        individual : ndarray, shape (3, i, j, k)
            Velocity that makes a person's shape.
        growth : ndarray, shape (regions,)
            From this stage.

        Returns
        -------
        ndarray, shape (3, i, j, k)
            In voxels of the flow's lattice.
        """
        # Pulled back: what lies here came against the velocity.
        velocity = -individual - self.velocity(growth)
        back = exponential(velocity, self._active, squarings=squarings(growth))
        return compose(back, self._displacement, self._active)

    def next(self) -> "Stage":
        """Return the stage whose ventricles are wider by one step.

        Returns
        -------
        Stage
            Its lateral and third ventricles `WIDER` times as large as here.
        """
        growth = self.response.first(np.where(LATERAL | THIRD, np.log(WIDER), 0.0))
        still = np.zeros_like(self._displacement)
        return Stage(self._anatomy, self._flow, self.displacement(still, growth))


class Stages:
    """The stages of one anatomy, made when they are first asked for.

    Parameters
    ----------
    anatomy : Anatomy
        The brain at rest.
    flow : Flow
        Of its grid.
    """

    def __init__(self, anatomy: Anatomy, flow: Flow) -> None:
        self._made = [Stage(anatomy, flow, np.zeros((3, *flow.shape), np.float32))]

    def nearest(self, fractions: Array) -> Stage:
        """Return the stage whose lateral ventricles are nearest to planned ones.

        Ventricles that shrink stay within their sinks: no anatomy needs narrower stages.

        Parameters
        ----------
        fractions : ndarray, shape (regions,)
            Planned volumes as shares of the cavity.

        Returns
        -------
        Stage
            Made where it was not yet.
        """
        rest = max(float(self._made[0].fractions[LATERAL].sum()), 1e-6)
        steps = np.log(fractions[LATERAL].sum() / rest) / np.log(WIDER)
        number = int(np.clip(np.rint(steps), 0, WIDEST))
        while len(self._made) <= number:
            self._made.append(self._made[-1].next())
        return self._made[number]
