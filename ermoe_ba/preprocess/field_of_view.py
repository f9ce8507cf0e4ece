"""Whether the image ends before the brain does."""

import numpy as np

from ermoe_ba.space import Array, Volume

# How deep the end of the brain is looked at. A brain's outermost millimetres are caps, whose area
# grows with depth; a cut brain is as wide at its end as it was there.
SLAB_MM = 3.0


def flat_end_cm2(image: Volume, mask: Volume) -> float:
    """Return the area of the brain where the image ends.

    Where zeros (or another constant background) pad the image, it ends where they begin.

    Parameters
    ----------
    image : Volume
        Shape (I, J, K), any unit.
    mask : Volume
        1 in the brain, on the same grid.

    Returns
    -------
    float
        Square centimetres: over the six ends of the image, the largest mean area of brain in the
        outermost 3 mm. 0 where the brain ends before the image does.

    Raises
    ------
    ValueError
        If image and mask lie on different grids.
    """
    if image.grid != mask.grid:
        raise ValueError("Image and mask must lie on one grid.")
    brain, sizes = mask.data > 0, image.grid.voxel_sizes
    shown = image.data != image.data.flat[0]
    largest = 0.0
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        ends = np.flatnonzero(shown.any(axis=others))
        if not ends.size:
            continue
        area = float(np.prod(sizes[list(others)]) / 100.0)
        areas = brain.sum(axis=others) * area
        depth = max(1, round(SLAB_MM / float(sizes[axis])))
        for run in (areas[ends[0] : ends[-1] + 1], areas[ends[0] : ends[-1] + 1][::-1]):
            largest = max(largest, _at_end(run, depth))
    return largest


def _at_end(areas: Array, depth: int) -> float:
    """Return the mean of the first areas, or 0 where the brain does not reach the first voxel.

    It counts as reaching it from the second: extraction shuns the outermost voxel.
    """
    found = np.flatnonzero(areas)
    if not found.size or found[0] > 1:
        return 0.0
    return float(areas[found[0] : found[0] + depth].mean())
