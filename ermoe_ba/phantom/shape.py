"""Shape: one subject's brain, with every region at its planted volume."""

import nibabel as nib
import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.spatial.transform import Rotation

from ermoe_ba.phantom.anatomy import FULL, Anatomy
from ermoe_ba.phantom.brain import Brain
from ermoe_ba.phantom.cortex import thin_cortex
from ermoe_ba.phantom.flow import COARSE, Flow, jacobian_determinant
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.phantom.sampling import Places, interpolation_matrix, nearest, sample_separably
from ermoe_ba.phantom.stage import Stages
from ermoe_ba.space import Array, SpatialGrid

# Individual shape: two scales of random flow, SD of the displacement and width of the blur, in mm.
# Between healthy heads, lobes differ by some millimetres, and gyri by more than a smooth flow says.
SHAPES_MM = ((2.0, 22.0), (1.0, 9.0))
# Proportions of heads: SD of the logarithm of length, breadth and height (cephalic index 79 +- 4).
PROPORTIONS_SD = 0.025
# How heads lie in the scanner's coordinates: spread of each angle and each shift.
TURN_SD_DEG, SHIFT_SD_MM = 4.0, 6.0
# Rounds of correction of the flow: planted volumes are met to about a percent after these.
CORRECTIONS = 2
# Below this the deformation comes near to folding.
LEAST_JACOBIAN = 0.001
# Cortex thins where fluid is near: width (SD, voxels) of "near", and the share of fluid there at
# which half of the full rate is reached.
PIAL_WIDTH, PIAL_HALF = 1.0, 0.1


def _log_ratio(planned: Array, present: Array) -> Array:
    """Return logarithms of ratios; a region that an anatomy lacks counts as a millionth."""
    return np.asarray(np.log(planned / np.maximum(present, 1e-6)))


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
        self._stages = Stages(anatomy, self._flow)
        self._mm = float(anatomy.grid.voxel_sizes[0])
        self._inner = self._flow.coarsen(anatomy.cavity) > 0
        # Corrections measure volumes by nearest voxels, which is quick. What linear sampling finds
        # there on average is known beforehand: a blur by 1/8, 3/4, 1/8 along each axis.
        soft = anatomy.white.astype(np.float32) / FULL
        for axis in range(3):
            soft = correlate1d(soft, [0.125, 0.75, 0.125], axis=axis)
        free = anatomy.solid == 0
        self._owner = np.where(anatomy.cavity, np.where(free, anatomy.deep, anatomy.solid), 0)
        self._part = np.where(free, soft, 1).astype(np.float32)

    def shape(
        self,
        planted_ml: Array,
        intracranial_ml: float,
        voxel_mm: tuple[float, float, float],
        rng: np.random.Generator,
        variation: float,
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
        variation : float
            As `PhantomConfig.shape_variation`.

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
            interpolation_matrix((p - (COARSE - 1) / 2) / COARSE, n)
            for p, n in zip(positions, self._flow.shape, strict=True)
        )

        def follow(displacement: Array) -> Array:
            moved = (sample_separably(d * COARSE, (i, j, k)) for d in displacement)
            return np.asarray(start + np.stack([d.ravel()[voxels] for d in moved]))

        lattice_mm = self._mm * COARSE
        individual = self._flow.random(
            rng, [(variation * sd / lattice_mm, width / lattice_mm) for sd, width in SHAPES_MM]
        )
        planted = planted_ml / intracranial_ml
        stage = self._stages.nearest(planted)
        growth = stage.response.first(_log_ratio(planted, stage.fractions))
        for _ in range(CORRECTIONS):
            now = self._fractions(follow(stage.displacement(individual, growth)))
            growth = stage.response.step(growth, _log_ratio(planted, now))
        displacement = stage.displacement(individual, growth)
        while (smallest := self._smallest_jacobian(displacement)) < LEAST_JACOBIAN:
            # Rare (the largest ventricles): better short of the plan than folded. What grows most
            # comes nearest to folding, and gives way first.
            size = np.abs(growth)
            growth = np.where(size > 0.5 * size.max(), 0.85 * growth, growth)
            displacement = stage.displacement(individual, growth)
        return self._brain(
            grid,
            voxels,
            follow(displacement),
            planted_ml,
            smallest,
            to_anatomy=self._to_anatomy(grid, positions),
        )

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

    def _to_anatomy(self, grid: SpatialGrid, positions: list[Array]) -> Array:
        """Return the affine from the scan's coordinates to the anatomy's, mm to mm."""
        steps = np.diag([float(along[1] - along[0]) for along in positions])
        voxels = nib.affines.from_matvec(steps, [float(along[0]) for along in positions])
        return np.asarray(self.anatomy.grid.affine @ voxels @ np.linalg.inv(grid.affine))

    def _fractions(self, where: Array) -> Array:
        """Measure solids and white matter by their nearest voxels, as shares of the cavity."""
        at, count = nearest(where, self.anatomy.grid.shape), len(REGIONS) + 1
        owner = self._owner.ravel()[at]
        total = np.bincount(owner, self._part.ravel()[at], count)
        return np.asarray(total[1:] / np.count_nonzero(owner))

    def _brain(
        self,
        grid: SpatialGrid,
        voxels: Array,
        where: Array,
        planted_ml: Array,
        smallest_jacobian: float,
        *,
        to_anatomy: Array,
    ) -> Brain:
        anatomy, shape = self.anatomy, self.anatomy.grid.shape
        at = nearest(where, shape)
        some = np.flatnonzero(anatomy.filled.ravel()[at])
        voxels, where, at = voxels[some], where[:, some], at[some]
        tissues = np.stack([anatomy.grey, anatomy.white, anatomy.fluid])
        grey, white, fluid = Places(where, shape).sample(tissues) / np.float32(FULL)
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
            to_anatomy=to_anatomy,
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
