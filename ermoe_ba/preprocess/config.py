"""Every number of the preprocessing, and its identity."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version

from ermoe_ba.space import MODEL_GRID

# Raise it with any change of code that changes what comes out.
REVISION = 4


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Every number of the preprocessing; models are valid for the values they were trained with.

    Parameters
    ----------
    working_voxel_mm : float
        Edge of the voxels that scans are sampled to before all else, mm.
    working_shape : tuple of int
        Voxels of that box along each axis.
    stripped_ratio : float
        Foreground over brain; up to it, a scan counts as one without skull.
    brain_volume_ml : tuple of float
        Least and largest intracranial volume that is taken for one, mL.
    n4_shrink_factor : int
        Every how many voxels N4 fits the field.
    n4_iterations : tuple of int
        At most this many at each of N4's spline levels.
    n4_tolerance : float
        A level of N4 ends once the field changes less than this.
    affine_flatten_mm : float
        Standard deviation of the Gaussian that brains are flattened by before they are registered.
    affine_blur_mm : tuple of float
        Standard deviation of the Gaussian that both brains are blurred by, one a level.
    affine_steps : tuple of int
        Every how many voxels of the template a point is compared, one a level.
    affine_retry_below : float
        Correlation of the first level, -1 to 1, below which turned starts are tried as well.
    white_matter_certain : int
        Value of the template's white-matter map, 0 to 255, from which on a voxel is white matter.
    white_matter_tolerance : float
        Voxels whose ratio to the median differs from 1 by more have no say in what is left of the
        field.
    intensity_ceiling : float
        What brighter voxels are cut to, white matter being 1.
    """

    # N4 and the registration work at the resolution of the model grid: N4 takes 36 s at 1 mm and
    # 0.8 s at 2 mm, and neither needs detail that the model grid does not have.
    working_voxel_mm: float = 2.0
    # 192 x 224 x 192 mm: the largest heads' brains (about 160 x 205 x 165 mm) and a margin.
    working_shape: tuple[int, int, int] = (96, 112, 96)
    # The 144 heads of the training cohort measured 1.84 to 2.04; a brain that was extracted before
    # is its own foreground, near 1.
    stripped_ratio: float = 1.25
    # Intracranial volumes of adults run from about 1.0 to 2.0 L; microcephaly is not our subject.
    brain_volume_ml: tuple[float, float] = (700.0, 2500.0)
    # A second spline level of 30 iterations leaves less of a field than three levels of 30, 20 and
    # 20, and 3 % of noise moves it half as far, in less time; a shrink factor of 3 takes twice the
    # time for a tenth less.
    n4_shrink_factor: int = 4
    n4_iterations: tuple[int, ...] = (30, 30)
    n4_tolerance: float = 1e-4
    # A field of the coil is smoother, tissue is finer.
    affine_flatten_mm: float = 20.0
    # Blurred by 8 mm, starts up to 35 degrees off end at one place; the fine level then settles the
    # surface.
    affine_blur_mm: tuple[float, ...] = (8.0, 3.0)
    affine_steps: tuple[int, ...] = (4, 2)
    # Eight heads of the cohort reached 0.979 to 0.990 on the coarse level; turned by half a circle,
    # 0.952.
    affine_retry_below: float = 0.965
    # The ICBM maps reach 0.9 (230 of 255) in 258 mL of deep white matter.
    white_matter_certain: int = 230
    # Noise and texture of white matter are within 5 %, what a coil leaves after N4 within 10 %.
    white_matter_tolerance: float = 0.2
    # White matter is 1; fat and vessels are brighter and carry no age.
    intensity_ceiling: float = 1.5

    def identity(self) -> str:
        """Return a short hash of settings, revision, grid and the generation of brain masks.

        Returns
        -------
        str
            12 hexadecimal digits: what models and prepared scans are matched by.
        """
        content = {
            "config": asdict(self),
            "revision": REVISION,
            "grid": MODEL_GRID.describe(),
            "deepbet": version("deepbet").split(".")[0],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
