"""Shape: one subject's brain, with every region at its planted volume."""

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter, map_coordinates
from scipy.sparse import coo_array, csr_array
from scipy.spatial.transform import Rotation

from ermoe_ba.phantom.anatomy import FULL, Anatomy
from ermoe_ba.phantom.brain import Brain
from ermoe_ba.phantom.cortex import thin_cortex
from ermoe_ba.phantom.flow import (
    COARSE,
    Flow,
    exponential,
    interpolation_matrix,
    jacobian_determinant,
    sample_separably,
)
from ermoe_ba.phantom.growth import CORTEX, GROWTH_RANGE, first_growth, response, sources, squarings
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.space import Array, SpatialGrid

# Individual shape: two scales of random flow, SD of the displacement and width of the blur, in mm.
# Between healthy heads, lobes differ by some millimetres, and gyri by more than a smooth flow says.
SHAPES_MM = ((2.0, 22.0), (1.0, 9.0))
# Proportions of heads: SD of the logarithm of length, breadth and height (cephalic index 79 +- 4).
PROPORTIONS_SD = 0.025
# How heads lie in the scanner's coordinates: spread of each angle and each shift.
TURN_SD_DEG, SHIFT_SD_MM = 4.0, 6.0
# How far growth is made up for by the fluid and cortex around, SD in mm.
BALANCE_MM = 14.0
# Rounds of correction of the flow: planted volumes are met to about a percent after these.
CORRECTIONS = 4
# Below this the deformation comes near to folding.
LEAST_JACOBIAN = 0.001
# Cortex thins where fluid is near: width (SD, voxels) of "near", and the share of fluid there at
# which half of the full rate is reached.
PIAL_WIDTH, PIAL_HALF = 1.0, 0.1


def _log(fractions: Array) -> Array:
    """Return logarithms; a region that an anatomy lacks counts as a millionth of the cavity."""
    return np.asarray(np.log(np.maximum(fractions, 1e-6)))


class Shaper:
    """Shapes subjects from one anatomy.

    Parameters
    ----------
    anatomy : Anatomy
        The brain to start from.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy
        self._flow = Flow(anatomy.grid.shape)
        self._mm = float(anatomy.grid.voxel_sizes[0])
        free = anatomy.solid == 0
        white = np.where(free, anatomy.white, 0).astype(np.float32) / FULL
        # Share of each voxel of the flow's lattice that a region's source fills.
        count = len(REGIONS) + 1
        blocks = np.arange(self._flow.coarsen(white).size).reshape(self._flow.shape)
        for axis in range(3):
            blocks = blocks.repeat(COARSE, axis=axis)
        parts = [
            coo_array(
                (share.ravel() / COARSE**3, (blocks.ravel(), owner.ravel())),
                shape=(blocks.max() + 1, count),
            )
            for share, owner in (
                ((~free).astype(np.float32), anatomy.solid),
                (white, anatomy.deep),
            )
        ]
        self._shares = csr_array(parts[0] + parts[1])[:, 1:]
        self._shares.eliminate_zeros()
        self._active = self._flow.coarsen(anatomy.drawn) > 0
        self._inner = self._flow.coarsen(anatomy.cavity) > 0
        give = np.where(free, anatomy.grey + anatomy.fluid.astype(np.int16), 0) / FULL
        self._give = self._flow.coarsen(give)
        self._width = BALANCE_MM / self._mm / COARSE
        self._reach = np.maximum(self._flow.blur(self._give, self._width), 1e-3)
        # Corrections measure volumes by nearest voxels, which is quick. What linear sampling finds
        # there on average is known beforehand: a blur by 1/8, 3/4, 1/8 along each axis.
        soft = anatomy.white.astype(np.float32)
        for axis in range(3):
            soft = correlate1d(soft, [0.125, 0.75, 0.125], axis=axis)
        self._cavity = anatomy.cavity
        self._nearest = anatomy.solid, np.where(free, anatomy.deep, 0), np.where(free, soft, 0)

    def shape(
        self,
        planted_ml: Array,
        intracranial_ml: float,
        voxel_mm: tuple[float, float, float],
        rng: np.random.Generator,
    ) -> Brain:
        """Shape one brain.

        Parameters
        ----------
        planted_ml : ndarray, shape (regions,)
            Volumes to reach.
        intracranial_ml : float
            Volume of the cavity.
        voxel_mm : tuple of float
            Voxel sizes of the scan.
        rng : Generator
            Of the individual shape.

        Returns
        -------
        Brain
        """
        grid, positions = self._scan_grid(intracranial_ml, voxel_mm, rng)
        drawn = np.ix_(
            *(
                np.clip(np.rint(p).astype(int), 0, n - 1)
                for p, n in zip(positions, self.anatomy.grid.shape, strict=True)
            )
        )
        inside = self.anatomy.drawn[drawn]
        for axis, (p, n) in enumerate(zip(positions, self.anatomy.grid.shape, strict=True)):
            beyond = (p < -0.5) | (p > n - 0.5)
            np.moveaxis(inside, axis, 0)[beyond] = False
        voxels = np.flatnonzero(inside)
        start = np.stack(
            [p.astype(np.float32)[i] for p, i in zip(positions, np.nonzero(inside), strict=True)]
        )
        i, j, k = (
            interpolation_matrix(p, n) for p, n in zip(positions, self._flow.shape, strict=True)
        )

        def follow(displacement: Array) -> Array:
            moved = (sample_separably(d * COARSE, (i, j, k)) for d in displacement)
            return np.asarray(start + np.stack([d.ravel()[voxels] for d in moved]))

        individual: Array = np.sum(
            [
                self._flow.random(rng, sd / self._mm / COARSE, width / self._mm / COARSE)
                for sd, width in SHAPES_MM
            ],
            axis=0,
        )
        log_targets = np.log(planted_ml / intracranial_ml)
        wanted = np.where(CORTEX, 0.0, log_targets - _log(self.anatomy.region_fractions))
        growth = np.clip(first_growth(wanted), *GROWTH_RANGE)
        for _ in range(CORRECTIONS):
            displacement = self._displacement(individual, growth)
            now = _log(self._fractions(follow(displacement)))
            growth += np.where(CORTEX, 0.0, log_targets - now) / response(growth)
            growth = np.clip(growth, *GROWTH_RANGE)
        displacement = self._displacement(individual, growth)
        while (smallest := self._smallest_jacobian(displacement)) < LEAST_JACOBIAN:
            # Rare (the largest ventricles): better short of the plan than folded. What grows most
            # comes nearest to folding, and gives way first.
            size = np.abs(growth)
            growth = np.where(size > 0.5 * size.max(), 0.85 * growth, growth)
            displacement = self._displacement(individual, growth)
        return self._brain(grid, voxels, follow(displacement), planted_ml, smallest)

    def _displacement(self, individual: Array, growth: Array) -> Array:
        """Return where the content of each voxel came from, less where it is: pulling back."""
        velocity = -individual - self._velocity(growth)
        return exponential(velocity, self._active, squarings=squarings(growth))

    def _smallest_jacobian(self, displacement: Array) -> float:
        return float(jacobian_determinant(displacement)[self._inner].min())

    def _scan_grid(
        self, intracranial_ml: float, voxel_mm: tuple[float, float, float], rng: np.random.Generator
    ) -> tuple[SpatialGrid, list[Array]]:
        """Lay the scan's grid over the anatomy; return it with its positions there by axis."""
        proportions = rng.normal(0.0, PROPORTIONS_SD, 3)
        scale = (intracranial_ml / self.anatomy.cavity_ml) ** (1 / 3)
        scale = scale * np.exp(proportions - proportions.mean())
        sizes = np.asarray(voxel_mm)
        shape = tuple(
            int(np.ceil(n * self._mm * s / v))
            for n, s, v in zip(self.anatomy.grid.shape, scale, sizes, strict=True)
        )
        steps = sizes / (self._mm * scale)
        shift = rng.uniform(-0.5, 0.5, 3)
        positions = [
            (np.arange(count) - (count - 1) / 2 + off) * step + (n - 1) / 2
            for count, off, step, n in zip(
                shape, shift, steps, self.anatomy.grid.shape, strict=True
            )
        ]
        # Where the scanner's own coordinates lie about the head: turned and shifted a little.
        turn = Rotation.from_euler("xyz", rng.normal(0.0, TURN_SD_DEG, 3), degrees=True)
        affine = np.eye(4)
        affine[:3, :3] = turn.as_matrix() * sizes
        centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        affine[:3, 3] = rng.normal(0.0, SHIFT_SD_MM, 3) - centre
        return SpatialGrid((shape[0], shape[1], shape[2]), affine, "scan"), positions

    def _velocity(self, growth: Array) -> Array:
        """Return the velocity by which regions grow (log of volume) and surroundings give way."""
        wanted = (self._shares @ sources(growth).astype(np.float32)).reshape(self._flow.shape)
        # Each source is made up for nearby, in proportion to what can give way; the two blurs are
        # one another's adjoint, so that nothing is left over in total.
        owed = self._give * self._flow.blur(wanted / self._reach, self._width)
        owed *= wanted.sum() / owed.sum() if abs(owed.sum()) > 1e-3 else 0.0
        return self._flow.from_sources(wanted - owed)

    def _at(self, where: Array) -> Array:
        """Return flat indices of the voxels nearest to positions, shape (V,)."""
        shape = self.anatomy.grid.shape
        i, j, k = (
            np.clip(np.rint(w), 0, n - 1).astype(np.int32)
            for w, n in zip(where, shape, strict=True)
        )
        return np.asarray((i * shape[1] + j) * shape[2] + k)

    def _fractions(self, where: Array) -> Array:
        """Measure solids and white matter by their nearest voxels, as shares of the cavity."""
        at, count = self._at(where), len(REGIONS) + 1
        solid, deep, white = (values.ravel()[at] for values in self._nearest)
        total = np.bincount(solid, minlength=count) + np.bincount(deep, white, count) / FULL
        return np.asarray(total[1:] / self._cavity.ravel()[at].sum())

    def _brain(
        self,
        grid: SpatialGrid,
        voxels: Array,
        where: Array,
        planted_ml: Array,
        smallest_jacobian: float,
    ) -> Brain:
        anatomy, at = self.anatomy, self._at(where)
        grey, white, fluid = (
            map_coordinates(values, where, order=1, output=np.float32) / np.float32(FULL)
            for values in (anatomy.grey, anatomy.white, anatomy.fluid)
        )
        solid, cortex, deep = (
            values.ravel()[at] for values in (anatomy.solid, anatomy.cortex, anatomy.deep)
        )
        voxel_ml = grid.voxel_volume_ml
        whole = np.zeros(grid.shape, np.float32)
        whole.ravel()[voxels] = fluid
        near = gaussian_filter(whole, PIAL_WIDTH, truncate=3.0).ravel()[voxels]
        grey, fluid = thin_cortex(
            grey=grey,
            fluid=fluid,
            owner=np.where(solid > 0, 0, cortex),
            planted=planted_ml / voxel_ml,
            near=near / (near + PIAL_HALF),
        )
        free, count = solid == 0, len(REGIONS) + 1
        cavity = grey + white + fluid
        realised = np.bincount(solid, cavity, count)
        realised[0] = 0
        realised += np.bincount(cortex[free], grey[free], count)
        realised += np.bincount(deep[free], white[free], count)
        return Brain(
            grid=grid,
            voxels=voxels,
            grey=grey,
            white=white,
            fluid=fluid,
            solid=solid,
            cortex=cortex,
            deep=deep,
            head=None if anatomy.head is None else anatomy.head.ravel()[at],
            realised_ml=realised[1:] * voxel_ml,
            intracranial_ml=float(cavity.sum() * voxel_ml),
            smallest_jacobian=smallest_jacobian,
        )
