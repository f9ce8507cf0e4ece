"""Anatomies: brains at rest, from which subjects are shaped."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, generate_binary_structure

from ermoe_ba.assets import template
from ermoe_ba.phantom.regions import REGIONS, SOLIDS, SULCAL_CSF_INDEX, Kind, indices
from ermoe_ba.space import Array, SpatialGrid, Volume

# Fractions are stored as 0 to 255.
FULL = 255
# Room around the cavity for its deformation, in voxels.
MARGIN = 4
# Voxels at the ventricles' wall that hold both white matter and fluid look like grey matter to a
# tissue classifier; within this distance (voxels) they are white.
EPENDYMA = 2.0


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One brain as fractions of tissue and as regions, on a grid of even axes.

    Every voxel of the cavity either belongs to a solid region, or its grey matter to a cortical
    region, its white matter to a white one and its fluid to the sulci. So the regions' volumes and
    the sulcal fluid add up to the cavity's.

    Parameters
    ----------
    name : str
        Where it comes from.
    grid : SpatialGrid
        In template space.
    grey, white, fluid : ndarray of uint8, shape (I, J, K)
        Fractions, 0 to 255; they add up to 255 inside the cavity and to 0 outside.
    solid, cortex, deep : ndarray of uint8, shape (I, J, K)
        Index of the solid region (0 for none), of the cortical region that grey matter here would
        belong to, and of the white one.
    head : ndarray of uint8, shape (I, J, K), or None
        Class of tissue outside the cavity, 0 for air; None where it is not known.
    """

    name: str
    grid: SpatialGrid
    grey: Array
    white: Array
    fluid: Array
    solid: Array
    cortex: Array
    deep: Array
    head: Array | None = None

    @cached_property
    def cavity(self) -> Array:
        """Voxels of the cavity, boolean, shape (I, J, K)."""
        return (self.grey | self.white | self.fluid) > 0

    @cached_property
    def drawn(self) -> Array:
        """Voxels that may hold something after deformation, boolean, shape (I, J, K)."""
        return binary_dilation(self.filled, iterations=MARGIN - 1)

    @cached_property
    def filled(self) -> Array:
        """Voxels that hold something, or lie beside one that does, boolean, shape (I, J, K)."""
        what = self.cavity if self.head is None else self.cavity | (self.head > 0)
        return binary_dilation(what, generate_binary_structure(3, 3))

    def labels(self) -> Array:
        """Return the commonest content of each voxel as a region's index.

        Returns
        -------
        ndarray of uint8, shape (I, J, K)
            0 outside the cavity.
        """
        sulci = np.full_like(self.cortex, SULCAL_CSF_INDEX)
        return commonest(
            np.stack([self.fluid, self.grey, self.white]),
            np.stack([sulci, self.cortex, self.deep]),
            self.solid,
            self.cavity,
        )

    @property
    def cavity_ml(self) -> float:
        """Volume of the cavity in template space."""
        return float(self.cavity.sum() * self.grid.voxel_volume_ml)


def commonest(content: Array, owner: Array, solid: Array, inside: Array) -> Array:
    """Return which region most of each voxel belongs to.

    Parameters
    ----------
    content : ndarray, shape (3, ...)
        Fractions of fluid, grey and white matter.
    owner : ndarray of uint8, shape (3, ...)
        The region that each of them belongs to.
    solid : ndarray of uint8, shape (...)
        Solid region, 0 for none; it comes before all.
    inside : ndarray of bool, shape (...)
        The cavity.

    Returns
    -------
    ndarray of uint8, shape (...)
        0 outside the cavity.
    """
    most = np.take_along_axis(owner, content.argmax(axis=0)[None], axis=0)[0]
    return np.where(inside, np.where(solid > 0, solid, most), 0).astype(np.uint8)


def even_box(mask: Volume, margin: int) -> tuple[tuple[slice, slice, slice], SpatialGrid]:
    """Return the box around a mask whose axes are even, and the grid of what it cuts out.

    Parameters
    ----------
    mask : Volume
        Above 0 inside.
    margin : int
        Voxels around it, fewer where the grid ends.

    Returns
    -------
    tuple of slice
        To cut arrays with.
    SpatialGrid
        Of the cut.
    """
    slices = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero((mask.data > 0).any(axis=others))
        low = max(0, int(inside[0]) - margin)
        high = min(mask.data.shape[axis], int(inside[-1]) + 1 + margin)
        if (high - low) % 2:
            low, high = (low, high + 1) if high < mask.data.shape[axis] else (low + 1, high)
        slices.append(slice(low, high))
    box = (slices[0], slices[1], slices[2])
    affine = mask.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    shape = mask.data[box].shape
    return box, SpatialGrid((shape[0], shape[1], shape[2]), affine, mask.grid.space)


def nearest_label(labels: Array, allowed: list[int]) -> Array:
    """Return for every voxel the nearest of some labels.

    Parameters
    ----------
    labels : ndarray, shape (I, J, K)
        At least one of `allowed` must occur.
    allowed : list of int
        Labels that count.

    Returns
    -------
    ndarray of uint8, shape (I, J, K)
    """
    where = distance_transform_edt(
        ~np.isin(labels, allowed), return_distances=False, return_indices=True
    )
    return np.asarray(labels[tuple(where)], dtype=np.uint8)


def nearest_distance(mask: Array) -> Array:
    """Return how far each voxel is from a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (I, J, K)
        At least one voxel.

    Returns
    -------
    ndarray, shape (I, J, K)
        In voxels, 0 inside.
    """
    distance: Array = np.empty(mask.shape)
    distance_transform_edt(~mask, distances=distance)
    return distance


def muse_regions(labels: Array) -> Array:
    """Turn MUSE labels into the phantom's indices.

    Parameters
    ----------
    labels : ndarray of int
        MUSE labels, any shape; from 256 on they count as no region.

    Returns
    -------
    ndarray of uint8
        Of the same shape: a region's index, sulcal fluid's, or 0 where neither.
    """
    table = np.zeros(256, np.uint8)
    for region in REGIONS:
        table[list(region.muse)] = region.index
    # Cortical fluid (1), and what MUSE puts into the cavity but into no region.
    table[[1, 46, 69]] = SULCAL_CSF_INDEX
    return np.asarray(table[np.where(labels < len(table), labels, 0)])


def template_anatomy(atlas: Volume) -> Anatomy:
    """Make the anatomy that the package can make by itself.

    Tissue comes from the ICBM 2009a maps, regions from the atlas: each voxel takes the nearest
    label that fits its tissue.

    Parameters
    ----------
    atlas : Volume
        MUSE labels on the model grid.

    Returns
    -------
    Anatomy
    """
    mask = template("desc-brain_mask")
    box, grid = even_box(mask, MARGIN)
    inside = mask.data[box] > 0
    grey = np.where(inside, template("label-GM_probseg").data[box], 0).astype(np.int16)
    white = np.where(inside, template("label-WM_probseg").data[box], 0).astype(np.int16)
    regions = muse_regions(atlas.data[box])
    fluid = np.where(inside, np.maximum(FULL - grey - white, 0), 0)
    ventricles, tissue = (
        indices(Kind.VENTRICLE),
        indices(*(kind for kind in Kind if kind != Kind.VENTRICLE)),
    )
    wet = fluid > FULL // 2
    fitting = np.where(
        wet,
        nearest_label(regions, [*ventricles, SULCAL_CSF_INDEX]),
        nearest_label(regions, tissue),
    )
    solid = np.where(inside & np.isin(fitting, indices(*SOLIDS)), fitting, 0).astype(np.uint8)
    wall = nearest_distance(np.isin(solid, ventricles)) <= EPENDYMA
    wall &= (solid == 0) & inside
    white[wall] += grey[wall]
    grey[wall] = 0
    return Anatomy(
        name="MNI152NLin2009aSym",
        grid=grid,
        grey=grey.astype(np.uint8),
        white=white.astype(np.uint8),
        fluid=np.where(inside, FULL - grey - white, 0).astype(np.uint8),
        solid=solid,
        cortex=nearest_label(regions, indices(Kind.CORTEX)),
        deep=nearest_label(regions, indices(Kind.WHITE)),
    )
