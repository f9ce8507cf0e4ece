"""How values become colours, on the still pictures and in the interactive view alike."""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb

from ermoe_ba.space import Array

# Just above white matter: fat and vessels at the rim would otherwise set the range.
BRIGHTEST_T1W = 1.2
# From this part of the colour scale on, weights hide the scan below; smaller ones let it through.
OPAQUE_WEIGHT = 0.25
# Ends of the scale of weights are multiples of this, so that most scans of a model share one.
WEIGHT_STEP = 0.2
# Okabe and Ito's palette but for black, told apart with any common colour-vision deficiency;
# opacity 0.75 lets the anatomy through.
EXPERT_COLOURS = tuple(
    (*(round(255 * part) for part in to_rgb(colour)), 191)
    for colour in ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
)


@dataclass(frozen=True)
class ColourScale:
    """Colours and opacities of the values from 0 to 1.

    Parameters
    ----------
    colours : str
        Name of one of matplotlib's colour maps.
    opacity : callable
        Gives the opacity (0 to 1) of each value.
    """

    colours: str
    opacity: Callable[[Array], Array]

    def paint(self, unit: Array) -> Array:
        """Colour values.

        Parameters
        ----------
        unit : ndarray, shape (...)
            From 0 to 1; others take the colour of the nearer end.

        Returns
        -------
        ndarray of uint8, shape (..., 4)
            Red, green, blue and opacity.
        """
        rgba = mpl.colormaps[self.colours](
            np.clip(unit, 0, 1), alpha=self.opacity(unit), bytes=True
        )
        return np.asarray(rgba)

    def ramp(self) -> Array:
        """Colour 256 values from 0 to 1.

        Returns
        -------
        ndarray of uint8, shape (256, 4)
            As from `paint`.
        """
        return self.paint(np.linspace(0, 1, 256))


def _weight_opacity(weight: Array) -> Array:
    return np.asarray(0.9 * np.clip(weight / OPAQUE_WEIGHT, 0, 1))


def _years_opacity(unit: Array) -> Array:
    # 0.5 is no contribution: the scan shows there, and fades out as the years grow.
    return np.asarray(np.clip(np.abs(unit - 0.5) * 2 * 1.5, 0, 0.95))


WEIGHTS = ColourScale("viridis", _weight_opacity)
CONTRIBUTIONS = ColourScale("PuOr_r", _years_opacity)


def symmetric_limit(per_ml: Array) -> float:
    """Return the end of a colour scale that a few extreme voxels do not stretch.

    Parameters
    ----------
    per_ml : ndarray
        Contributions in years per mL.

    Returns
    -------
    float
        99th percentile of the sizes that are not 0; 1 where all are.
    """
    found = np.abs(per_ml[per_ml != 0])
    limit = float(np.quantile(found, 0.99)) if found.size else 0.0
    # No contribution anywhere still needs a scale to be drawn on.
    return limit if limit > 0 else 1.0


def weight_limit(weights: Array) -> float:
    """Return the end of the colour scale that routing weights of all experts share.

    Parameters
    ----------
    weights : ndarray
        From 0 to 1.

    Returns
    -------
    float
        The first multiple of `WEIGHT_STEP` that none exceeds.
    """
    # Rounded first: 0.6 / 0.2 is a little more than 3.
    steps = int(np.ceil(round(float(weights.max(initial=0.0)) / WEIGHT_STEP, 6)))
    return round(max(1, steps) * WEIGHT_STEP, 6)
