"""Figures of a preprocessed scan's quality: contrast, noise, entropy, likeness to the cohort.

Names and formulas are MRIQC's (Esteban 2017, doi:10.1371/journal.pone.0184661) where it has them,
measured inside the brain alone: the training cohort's air was removed with the faces, so that what
MRIQC reads from air (FBER, QI1, the air's share of CNR) can neither be learnt nor compared.
"""

import numpy as np

from ermoe_ba.assets import template
from ermoe_ba.quality.reference import Reference, cell_means
from ermoe_ba.space import Array, Volume

# Of 0 to 255. White matter where the template is all but certain, as in the preprocessing; the grey
# ribbon is thinner than the affine is exact, so that less must do.
WHITE_CERTAIN, GREY_CERTAIN = 230, 200
# A normal distribution's standard deviation over its median absolute deviation.
MAD_TO_SD = 1.4826


def measure_figures(t1w: Volume, brain_mask: Volume, reference: Reference) -> dict[str, float]:
    """Measure a preprocessed scan.

    Parameters
    ----------
    t1w, brain_mask : Volume
        On the model grid; white matter is 1.
    reference : Reference
        Of the training cohort.

    Returns
    -------
    dict
        ``white_grey_contrast``: (white - grey) / white, of medians; below 0 where grey is brighter.
        ``cnr``: (white - grey) / sqrt(sd_white^2 + sd_grey^2) (Magnotta 2006, without air).
        ``snr_white_matter``: median over standard deviation of white matter.
        ``efc``: entropy focus criterion of the brain (Atkinson 1997), 0 to 1; ghosts and motion
        spread the intensities.
        ``training_distance`` and ``side_score``: see `Reference`.

    Raises
    ------
    ValueError
        If the scan does not lie on the model grid.
    """
    cells = cell_means(t1w, brain_mask)
    brain = brain_mask.data > 0
    white = t1w.data[brain & (template("label-WM_probseg").data >= WHITE_CERTAIN)]
    grey = t1w.data[brain & (template("label-GM_probseg").data >= GREY_CERTAIN)]
    (white_level, white_sd), (grey_level, grey_sd) = _level(white), _level(grey)
    difference = white_level - grey_level
    return {
        "white_grey_contrast": _ratio(difference, white_level),
        "cnr": _ratio(difference, float(np.hypot(white_sd, grey_sd))),
        "snr_white_matter": _ratio(white_level, white_sd),
        "efc": entropy_focus(t1w.data[brain]),
        "training_distance": reference.training_distance(cells),
        "side_score": reference.side_score(cells),
    }


def entropy_focus(values: Array) -> float:
    """Return the entropy focus criterion, normalised to 1 where all values are equal.

    ``EFC = -sum(x/m ln(x/m)) / (sqrt(n) ln sqrt(n))`` with ``m = sqrt(sum(x^2))`` (Atkinson 1997,
    doi:10.1109/42.650886; normalised by its greatest value as in MRIQC).

    Parameters
    ----------
    values : ndarray, shape (n,)
        Intensities of at least 0; all zero gives 0.

    Returns
    -------
    float
        From 0, where one value holds everything, to 1.
    """
    size = float(np.sqrt((values.astype(np.float64) ** 2).sum()))
    if size == 0.0 or len(values) < 2:
        return 0.0
    share = values[values > 0].astype(np.float64) / size
    root = float(np.sqrt(len(values)))
    return float(-(share * np.log(share)).sum() / (root * np.log(root)))


def _level(values: Array) -> tuple[float, float]:
    """Return median and robust standard deviation; both 0 where the scan has no such voxel."""
    if not values.size:
        return 0.0, 0.0
    middle = np.median(values)
    return float(middle), float(MAD_TO_SD * np.median(np.abs(values - middle)))


def _ratio(above: float, below: float) -> float:
    """Divide; by 0 is 0, which is what a scan without that tissue has."""
    return above / below if below > 0 else 0.0
