"""Regions that real label maps and tokens share: the phantom's, both sides of a pair together.

Shapes: T tokens, R regions.
"""

from pathlib import Path

import numpy as np

from ermoe_ba.errors import ScanError
from ermoe_ba.io import read_volume
from ermoe_ba.phantom.anatomy import muse_regions
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.space import Array, Volume
from ermoe_ba.tokens import TokenGrid

# Names of the regions, in the order of all arrays here.
PAIRS = tuple(dict.fromkeys(region.pair for region in REGIONS))
# Number of a pair, from 1, for each of the phantom's indices; 0 for what is no region, which is all
# that comes after them.
_PAIR_OF = np.zeros(256, dtype=np.int64)
_PAIR_OF[[region.index for region in REGIONS]] = [1 + PAIRS.index(r.pair) for r in REGIONS]


def token_shares(tokens: TokenGrid, muse: Volume, brain_mask: Volume) -> Array:
    """Return which share of each token's brain lies in each region.

    Parameters
    ----------
    tokens : TokenGrid
        Where the tokens lie.
    muse : Volume
        MUSE labels on their grid.
    brain_mask : Volume
        Above 0 in the brain, on the same grid; labels outside it do not count.

    Returns
    -------
    ndarray, shape (T, R)
        0 to 1; rows add up to at most 1, and to 0 in tokens without brain.
    """
    numbers = _PAIR_OF[muse_regions(muse.data)] * (brain_mask.data > 0)
    brain_ml = tokens.held_ml(brain_mask)
    held_ml = [
        tokens.held_ml(muse.same_grid((numbers == n).astype(np.uint8)))
        for n in range(1, len(PAIRS) + 1)
    ]
    whole = np.where(brain_ml > 0, brain_ml, 1.0)[:, None]
    return np.asarray(np.stack(held_ml, axis=1) / whole)


def relative_volumes(path: Path) -> Array:
    """Return the volumes of the regions in a scan, relative to its intracranial volume.

    Parameters
    ----------
    path : Path
        MUSE label map in the space of its scan; what is above 0 is the intracranial volume.

    Returns
    -------
    ndarray, shape (R,)
        Shares from 0 to 1.

    Raises
    ------
    ScanError
        If the file cannot be read or has no label.
    """
    labels = np.rint(read_volume(path, "scan").data).astype(np.int64)
    inside = np.count_nonzero(labels > 0)
    if not inside:
        raise ScanError(
            path,
            must_hold="a label map must have a label",
            found="nothing but 0",
            remedy="Give the map of the same scan.",
        )
    counts = np.bincount(_PAIR_OF[muse_regions(labels)].ravel(), minlength=len(PAIRS) + 1)
    return np.asarray(counts[1:] / inside)
