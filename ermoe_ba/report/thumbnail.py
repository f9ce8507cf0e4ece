"""A scan at a glance: three slices with the outline of its brain mask, small enough for a table."""

import io

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imsave
from scipy.ndimage import binary_erosion

from ermoe_ba.report.colours import BRIGHTEST_T1W
from ermoe_ba.report.figures import SCAN_OUTLINE
from ermoe_ba.report.slices import AXIAL, CORONAL, SAGITTAL, bounding_box, require_ras, through
from ermoe_ba.space import Volume

# A little off the middle, where the falx would hide what a sagittal slice shows.
SAGITTAL_AT = 0.42
# Levels of grey: enough to judge a mask by, and a third of the bytes of 256.
LEVELS = 24


def draw_thumbnail(t1w: Volume, brain_mask: Volume) -> bytes:
    """Draw a sagittal, a coronal and an axial slice side by side.

    Parameters
    ----------
    t1w : Volume
        Shape (I, J, K) on a RAS+ grid; white matter is 1.
    brain_mask : Volume
        1 in the brain, on the same grid.

    Returns
    -------
    bytes
        PNG of one pixel a voxel; left is left. Empty where the mask is.

    Raises
    ------
    ValueError
        If the volumes do not lie on one RAS+ grid.
    """
    if t1w.grid != brain_mask.grid:
        raise ValueError("Image and mask must lie on one grid.")
    require_ras(t1w.grid)
    brain = brain_mask.data > 0
    if not brain.any():
        return b""
    box = bounding_box(brain, 3)
    planes = [
        plane
        for axis, at in ((SAGITTAL, SAGITTAL_AT), (CORONAL, 0.5), (AXIAL, 0.5))
        for plane in through(brain, axis, (at,))
    ]
    height = max(box[1].stop - box[1].start, box[2].stop - box[2].start)
    grey = np.round(np.clip(t1w.data / BRIGHTEST_T1W, 0, 1) * (LEVELS - 1)) / (LEVELS - 1)
    pictures = []
    for plane in planes:
        shown = tuple(part for axis, part in enumerate(box) if axis != plane.axis)
        values, inside = (np.moveaxis(v, plane.axis, 0)[plane.index][shown] for v in (grey, brain))
        picture = np.repeat(values[..., None], 3, axis=2)
        picture[inside & ~binary_erosion(inside)] = to_rgb(SCAN_OUTLINE)
        picture = picture.swapaxes(0, 1)[::-1]
        missing = height - len(picture)
        pictures.append(np.pad(picture, ((missing // 2, missing - missing // 2), (2, 2), (0, 0))))
    pixels = (np.hstack(pictures) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png")
    return buffer.getvalue()
