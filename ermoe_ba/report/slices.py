"""Slices of a RAS+ grid as a person sees them: left on the left, the top of the head on top."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ermoe_ba.space import AFFINE_TOLERANCE_MM, Array, SpatialGrid, Volume

# Axis across which a slice is cut.
SAGITTAL, CORONAL, AXIAL = 0, 1, 2
# What lies at the left and right edges of a drawn slice of each kind.
EDGES = {SAGITTAL: ("P", "A"), CORONAL: ("L", "R"), AXIAL: ("L", "R")}
# A sagittal slice nearer to the middle than this shows both hemispheres' rims.
MIDLINE_MM = 4
# Voxels of air around the brains, for letters and for masks that are too large.
MARGIN = 6

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Plane:
    """One slice of a grid.

    Parameters
    ----------
    axis : int
        Axis across which it is cut: `SAGITTAL`, `CORONAL` or `AXIAL`.
    index : int
        Voxel index along that axis.
    """

    axis: int
    index: int

    def coordinate_mm(self, grid: SpatialGrid) -> float:
        """Return where the slice lies along its axis.

        Parameters
        ----------
        grid : SpatialGrid
            RAS+.

        Returns
        -------
        float
            RAS+ coordinate in mm.
        """
        return float(grid.affine[self.axis, self.axis] * self.index + grid.affine[self.axis, 3])

    def label(self, grid: SpatialGrid) -> str:
        """Say where the slice lies, a sagittal one with its hemisphere.

        Parameters
        ----------
        grid : SpatialGrid
            RAS+.

        Returns
        -------
        str
            Such as ``x = −20 mm (L)``.
        """
        mm = round(self.coordinate_mm(grid))
        sign = "−" if mm < 0 else ""
        side = " (R)" if mm > MIDLINE_MM else " (L)" if mm < -MIDLINE_MM else ""
        side = side if self.axis == SAGITTAL else ""
        return f"{'xyz'[self.axis]} = {sign}{abs(mm)} mm{side}"


def require_ras(grid: SpatialGrid) -> None:
    """Check that the axes of a grid run to the Right, to the front (A) and up (S).

    Parameters
    ----------
    grid : SpatialGrid
        Of what is to be drawn.

    Raises
    ------
    ValueError
        If they do not: the sides would be drawn under the wrong letters.
    """
    axes = grid.affine[:3, :3]
    off_diagonal = axes - np.diag(np.diag(axes))
    if np.abs(off_diagonal).max() > AFFINE_TOLERANCE_MM or np.diag(axes).min() <= 0:
        raise ValueError(f"Only RAS+ grids can be drawn; found the axes {axes.tolist()}.")


def cut(data: Array, plane: Plane) -> Array:
    """Return a slice in the order of a picture.

    Parameters
    ----------
    data : ndarray, shape (I, J, K)
        Values in RAS+ order.
    plane : Plane
        Which slice.

    Returns
    -------
    ndarray, shape (rows, columns)
        Row 0 on top. Columns run from left to right (coronal and axial: the left of the person is
        on the left, the neurological convention) or from back to front (sagittal).
    """
    # A view of one slice: `take` would first copy a volume that is not contiguous.
    return np.asarray(np.moveaxis(data, plane.axis, 0)[plane.index].T[::-1])


def bounding_box(mask: Array, margin: int) -> Box:
    """Return the smallest box around all voxels of a mask, widened by a margin of voxels.

    Parameters
    ----------
    mask : ndarray of bool, shape (I, J, K)
        At least one voxel.
    margin : int
        Voxels on each side, as far as the mask's own shape reaches.

    Returns
    -------
    Box
    """
    found = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        low = max(0, int(inside[0]) - margin)
        found.append(slice(low, min(mask.shape[axis], int(inside[-1]) + 1 + margin)))
    return found[0], found[1], found[2]


def shown_box(brain_mask: Volume, template: Volume) -> Box:
    """Return the part of the grid that holds both brains, the scan's and the template's.

    Parameters
    ----------
    brain_mask : Volume
        Of the scan, above 0 inside.
    template : Volume
        The template's brain on the same grid, above 0 inside.

    Returns
    -------
    Box
        With a margin of `MARGIN` voxels.

    Raises
    ------
    ValueError
        If the grid is not RAS+.
    """
    require_ras(brain_mask.grid)
    return bounding_box((brain_mask.data > 0) | (template.data > 0), MARGIN)


def through(mask: Array, axis: int, fractions: Sequence[float]) -> list[Plane]:
    """Return slices at fractions of a mask's extent along an axis.

    Parameters
    ----------
    mask : ndarray of bool, shape (I, J, K)
        At least one voxel.
    axis : int
        Axis across which slices are cut.
    fractions : sequence of float
        From 0, the first slice with a voxel of the mask, to 1, the last.

    Returns
    -------
    list of Plane
        One for each fraction.
    """
    extent = bounding_box(mask, 0)[axis]
    last = extent.stop - 1
    return [Plane(axis, round(extent.start + f * (last - extent.start))) for f in fractions]


class Montage:
    """Slices laid out in rows, to be drawn as one picture.

    Parameters
    ----------
    box : tuple of slice
        The part of the grid that is shown.
    rows : sequence of sequences of Plane
        Slices of each row, from left to right.
    header : int
        Empty lines above each row, for text (in voxels).
    """

    # In voxels: empty lines below each row, for text, and empty columns between slices.
    FOOTER, GAP = 9, 4

    def __init__(self, box: Box, rows: Sequence[Sequence[Plane]], header: int = 0) -> None:
        self.box = box
        extents = [axis.stop - axis.start for axis in box]
        # Columns and rows of a cut slice, after its own axis is gone.
        sizes = [
            [tuple(n for axis, n in enumerate(extents) if axis != plane.axis) for plane in row]
            for row in rows
        ]
        width = max(sum(w for w, _ in row) + self.GAP * (len(row) + 1) for row in sizes)
        # Of each slice: plane, top, left, height, width; of each row: where its pictures start.
        self.cells: list[list[tuple[Plane, int, int, int, int]]] = []
        self.tops: list[int] = []
        top = 0
        for row, row_sizes in zip(rows, sizes, strict=True):
            top += header
            height = max(h for _, h in row_sizes)
            # The spare width goes between the slices, so that rows are flush on both sides.
            spare = (width - sum(w for w, _ in row_sizes)) / (len(row) + 1)
            left, cells = spare, []
            for plane, (w, h) in zip(row, row_sizes, strict=True):
                # Bottoms are flush, so that the text below stands in one line.
                cells.append((plane, top + height - h, round(left), h, w))
                left += w + spare
            self.cells.append(cells)
            self.tops.append(top)
            top += height + self.FOOTER
        self.shape = (top, width)

    def fill(self, volumes: Sequence[Array]) -> Array:
        """Lay out slices of one volume per row.

        Parameters
        ----------
        volumes : sequence of ndarray, shape (I, J, K)
            The volume that each row shows.

        Returns
        -------
        ndarray, shape (height, width)
            float32, row 0 on top; 0 between the slices.
        """
        picture = np.zeros(self.shape, dtype=np.float32)
        for cells, volume in zip(self.cells, volumes, strict=True):
            shown = volume[self.box]
            for plane, top, left, height, width in cells:
                inside = Plane(plane.axis, plane.index - (self.box[plane.axis].start or 0))
                picture[top : top + height, left : left + width] = cut(shown, inside)
        return picture
