"""Grids: an array's shape, its affine and the space it lives in, kept together as one value."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Affines pass through single precision in NIfTI headers, whose rounding at 100 mm is about 1e-5 mm.
AFFINE_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, eq=False)
class SpatialGrid:
    """A lattice of voxels in a named space.

    Parameters
    ----------
    shape : tuple of int
        Voxels along i, j, k.
    affine : ndarray, shape (4, 4)
        Maps voxel indices (ijk) to RAS+ coordinates (xyz) in mm.
    space : str
        Full name of the space, e.g. ``MNI152NLin2009aSym``, or ``scan`` for the scanner's own.

    Raises
    ------
    ValueError
        If the grid has other than three axes, or the affine another shape.
    """

    shape: tuple[int, int, int]
    affine: Array
    space: str

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise ValueError(f"An affine must have shape (4, 4); found {affine.shape}.")
        if len(self.shape) != 3:
            raise ValueError(f"A grid must have three axes; found shape {self.shape}.")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpatialGrid):
            return NotImplemented
        return (
            self.shape == other.shape
            and self.space == other.space
            and np.allclose(self.affine, other.affine, rtol=0.0, atol=AFFINE_TOLERANCE_MM)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.space))

    @property
    def voxel_sizes(self) -> Array:
        """Edge lengths of a voxel along i, j, k in mm, shape (3,)."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def describe(self) -> dict[str, Any]:
        """Return the grid as plain values for JSON.

        Returns
        -------
        dict
            ``shape``, ``affine`` (4 lists of 4, mm) and ``space``.
        """
        return {"shape": list(self.shape), "affine": self.affine.tolist(), "space": self.space}


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values together with the grid they were sampled on.

    Parameters
    ----------
    data : ndarray, shape (I, J, K) or (I, J, K, channels)
        Voxel values.
    grid : SpatialGrid
        Where they are.

    Raises
    ------
    ValueError
        If the first three axes of `data` are not those of `grid`.
    """

    data: Array
    grid: SpatialGrid

    def __post_init__(self) -> None:
        if self.data.shape[:3] != self.grid.shape or self.data.ndim > 4:
            raise ValueError(
                f"Data of shape {self.data.shape} do not lie on a grid of {self.grid.shape}."
            )

    def same_grid(self, data: Array) -> "Volume":
        """Return a volume of other values on this volume's grid.

        Parameters
        ----------
        data : ndarray, shape (I, J, K) or (I, J, K, channels)
            The other values.

        Returns
        -------
        Volume
            Of them; they are not copied.
        """
        return Volume(data, self.grid)


# The one grid on which everything is computed and written. Template: ICBM 152 non-linear 2009a,
# symmetric (the one that nilearn ships). Lattice: 91 x 109 x 91 at 2 mm, the one the field knows
# from FSL, here in RAS+ order.
TEMPLATE_SPACE = "MNI152NLin2009aSym"
MODEL_GRID = SpatialGrid(
    shape=(91, 109, 91),
    affine=np.array(
        [[2.0, 0, 0, -90], [0, 2.0, 0, -126], [0, 0, 2.0, -72], [0, 0, 0, 1.0]], dtype=np.float64
    ),
    space=TEMPLATE_SPACE,
)
