"""States of scans under preprocessing, which tests of several steps begin with."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ermoe_ba.preprocess import ScanState
from ermoe_ba.space import SpatialGrid, Volume

FloatArray = npt.NDArray[np.float64]
PATH = Path("sub-x_T1w.nii.gz")


def state_of(t1w: Volume, brain_mask: Volume | None = None) -> ScanState:
    return ScanState(path=PATH, t1w=t1w, brain_mask=brain_mask)


SHAPE = (16, 18, 20)
GRID = SpatialGrid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]), "template")


def white_matter() -> Volume:
    white = np.zeros(SHAPE, dtype=np.uint8)
    white[5:11, 5:13, 5:15] = 255
    return Volume(white, GRID)
