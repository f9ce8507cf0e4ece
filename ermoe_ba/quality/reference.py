"""What the brains of the training cohort look like, in cells of 10 mm: centre, spread and sides.

Shapes: N scans, C cells in the brain, H cells of the left half that have a partner on the right,
K principal components.
"""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.ndimage import uniform_filter

from ermoe_ba.assets import PACKAGE, template
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_whole
from ermoe_ba.space import MODEL_GRID, Array, Volume

REFERENCE_FILE = PACKAGE / "quality" / "cohort.safetensors"
# Edge of a cell in voxels: odd, so that cells centred on every fifth voxel of the 91 from left to
# right lie as mirror images about the middle one, which is the template's plane of symmetry.
CELL = 5
_LATTICE = (slice(0, None, CELL), slice(CELL // 2, None, CELL), slice(0, None, CELL))
# Components of the cohort's variation that are told apart; of the rest only the size counts. With
# 8 to 20, the largest distances left out one by one stood as far from the others.
COMPONENTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Mean and covariance of the cohort's cells, and how its left halves differ from its right.

    Parameters
    ----------
    mean_c : ndarray, shape (C,)
        Mean intensity of each cell; white matter is 1.
    components_kc : ndarray, shape (K, C)
        Orthonormal directions of the largest variation.
    variance_k : ndarray, shape (K,)
        Variance along them.
    rest_variance : ndarray, shape (1,)
        Mean variance along all other directions.
    side_h : ndarray, shape (H,)
        Mean difference, left less right.
    weight_h : ndarray, shape (H,)
        Weight of each difference in `side_score`.
    """

    mean_c: Array
    components_kc: Array
    variance_k: Array
    rest_variance: Array
    side_h: Array
    weight_h: Array

    def training_distance(self, cells: Array) -> float:
        """Return how far a scan lies from the cohort, as root mean square of standard deviations.

        The Mahalanobis distance under the covariance of probabilistic principal components
        (Tipping and Bishop 1999), divided by the root of the number of cells: near 1 for a scan
        like the cohort's.

        Parameters
        ----------
        cells : ndarray
            From `cell_means`.

        Returns
        -------
        float
            At least 0.
        """
        off = cells[inside_cells()] - self.mean_c
        along_k = self.components_kc @ off
        rest = float(off @ off - along_k @ along_k)
        squared = float((along_k**2 / self.variance_k).sum()) + rest / float(self.rest_variance[0])
        return float(np.sqrt(squared / len(off)))

    def side_score(self, cells: Array) -> float:
        """Return how much a scan's two sides differ as the cohort's do.

        1 is the cohort's mean, 0 a brain of two equal sides, and the mirror image of a scan has its
        score with the other sign. What it reads is the torque of the human brain (the right frontal
        and left occipital lobe reach further), which an affine registration does not take out.

        Parameters
        ----------
        cells : ndarray
            From `cell_means`.

        Returns
        -------
        float
            Of either sign.
        """
        return float(_sides(cells) @ self.weight_h / (self.side_h @ self.weight_h))


def cell_means(t1w: Volume, brain_mask: Volume) -> Array:
    """Return the mean intensity of a brain in cells of 10 mm, counting 0 outside the brain.

    Parameters
    ----------
    t1w, brain_mask : Volume
        A preprocessed scan on `MODEL_GRID`; white matter is 1.

    Returns
    -------
    ndarray, shape (19, 22, 19)
        Cells from left to right, back to front and below to above.

    Raises
    ------
    ValueError
        If the scan lies on another grid.
    """
    if not t1w.grid == brain_mask.grid == MODEL_GRID:
        raise ValueError("Cells are those of the model grid: the scan must lie on it.")
    brain = np.where(brain_mask.data > 0, t1w.data, 0.0).astype(np.float32)
    return np.asarray(uniform_filter(brain, CELL)[_LATTICE])


@cache
def inside_cells() -> Array:
    """Return which cells hold more template brain than not, shape (19, 22, 19), bool.

    Returns
    -------
    ndarray of bool, shape (19, 22, 19)
        In the order of `cell_means`.
    """
    brain = (template("desc-brain_mask").data > 0).astype(np.float32)
    return np.asarray(uniform_filter(brain, CELL)[_LATTICE] >= 0.5)


def _sides(cells: Array) -> Array:
    """Return left less right of each pair of cells, shape (H,)."""
    half = len(cells) // 2
    return np.asarray((cells - cells[::-1])[:half][inside_cells()[:half]])


def fit_reference(cells_n: Array) -> Reference:
    """Describe a cohort.

    Parameters
    ----------
    cells_n : ndarray, shape (N, 19, 22, 19)
        From `cell_means`.

    Returns
    -------
    Reference
        Of the cohort.

    Raises
    ------
    ValueError
        If there are not more scans than components.
    """
    if len(cells_n) <= COMPONENTS + 1:
        raise ValueError(f"More than {COMPONENTS + 1} scans are due; found {len(cells_n)}.")
    inside_nc = cells_n[:, inside_cells()].astype(np.float64)
    mean_c = inside_nc.mean(axis=0)
    _, spread, directions = np.linalg.svd(inside_nc - mean_c, full_matrices=False)
    variance = spread**2 / (len(cells_n) - 1)
    others = inside_nc.shape[1] - COMPONENTS
    sides_nh = np.stack([_sides(cells) for cells in cells_n]).astype(np.float64)
    side_h, sd_h = sides_nh.mean(axis=0), sides_nh.std(axis=0)
    return Reference(
        mean_c=mean_c,
        components_kc=directions[:COMPONENTS],
        variance_k=variance[:COMPONENTS],
        rest_variance=np.array([variance[COMPONENTS:].sum() / others]),
        side_h=side_h,
        # Fisher's weights with a diagonal covariance; the median keeps cells at the rim, which hold
        # next to nothing and vary as little, from counting beyond measure.
        weight_h=side_h / (sd_h**2 + np.median(sd_h) ** 2),
    )


def save_reference(path: Path, reference: Reference) -> None:
    """Write a reference as safetensors of single precision, whole or not at all.

    Parameters
    ----------
    path : Path
        Where to.
    reference : Reference
        What it shall hold.
    """
    arrays = {
        field.name: np.ascontiguousarray(getattr(reference, field.name), dtype=np.float32)
        for field in fields(Reference)
    }
    write_whole(path, lambda partial: save_file(arrays, partial))


def load_reference(path: Path = REFERENCE_FILE) -> Reference:
    """Read a reference.

    Parameters
    ----------
    path : Path
        As `save_reference` wrote it.

    Returns
    -------
    Reference
        In double precision.

    Raises
    ------
    UsageError
        If the file is missing, damaged or of other arrays.
    """
    try:
        arrays = load_file(path)
        return Reference(**{name: array.astype(np.float64) for name, array in arrays.items()})
    except (OSError, SafetensorError, TypeError) as error:
        raise UsageError(f"{path}: must hold the quality reference; found {error}.") from error
