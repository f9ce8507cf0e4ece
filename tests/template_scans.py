"""The template's brain, for scans that are made of it."""

import numpy as np

from ermoe_ba.assets import template
from ermoe_ba.space import MODEL_GRID, Volume


def template_brain() -> Volume:
    return Volume((template("desc-brain_mask").data > 0).astype(np.uint8), MODEL_GRID)
