"""How well a measurement agrees with its own repetition.

Shapes: N subjects, K repetitions.
"""

import numpy as np

from ermoe_ba.space import Array


def agreement_icc(values_nk: Array) -> float:
    """Return ICC(2,1): two-way random effects, absolute agreement, single measurement.

    ``(MSR - MSE) / (MSR + (K - 1) MSE + K (MSC - MSE) / N)`` with the mean squares of subjects,
    repetitions and the rest (Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420).

    Parameters
    ----------
    values_nk : ndarray, shape (N, K)
        One row a subject; any unit.

    Returns
    -------
    float
        1 where repetitions agree and subjects differ.

    Raises
    ------
    ValueError
        If there are not two subjects with two repetitions each, or a value is not finite.
    """
    _check(values_nk)
    n, k = values_nk.shape
    grand = values_nk.mean()
    rows, columns = values_nk.mean(axis=1), values_nk.mean(axis=0)
    subjects = k * ((rows - grand) ** 2).sum() / (n - 1)
    repetitions = n * ((columns - grand) ** 2).sum() / (k - 1)
    rest = ((values_nk - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return float((subjects - rest) / (subjects + (k - 1) * rest + k * (repetitions - rest) / n))


def within_subject_sd(values_nk: Array) -> float:
    """Return the standard deviation of one subject's repetitions, in the unit of the values.

    The root of the mean variance within subjects (Bland and Altman 1996,
    doi:10.1136/bmj.312.7047.1654); it counts a shift between repetitions as error.

    Parameters
    ----------
    values_nk : ndarray, shape (N, K)
        One row a subject.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    ValueError
        As `agreement_icc`.
    """
    _check(values_nk)
    return float(np.sqrt(values_nk.var(axis=1, ddof=1).mean()))


def _check(values_nk: Array) -> None:
    if values_nk.ndim != 2 or min(values_nk.shape) < 2 or not np.isfinite(values_nk).all():
        raise ValueError(
            "Reliability needs finite values of at least two subjects with two repetitions; found "
            f"shape {values_nk.shape}."
        )
