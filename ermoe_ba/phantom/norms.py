"""Norms: how large each region is at each age, and how far healthy adults differ.

Fitted by ``pipelines/fit_phantom_norms.py`` to the iSTAGING centiles of cognitively normal adults
aged 21 to 93 years (Pomponio et al., NeuroImage 208, 2020; published by NiChart under the SBIA
licence 1.1, see ``NORMS_LICENSE.txt`` beside the coefficients).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.polynomial import polynomial

from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.space import Array

NORMS_FILE = Path(__file__).parent / "norms.tsv"
# The ages that the centiles cover. Beyond them curves go on straight: a quartic would not.
FIRST_AGE, LAST_AGE = 21.0, 93.0

# How residual volumes of two regions correlate, age taken out: of the two sides of one region, of
# two regions of one kind; of any others not at all (0.01). Means over 137 adults of the IXI data
# set (MUSE label maps divided by intracranial volume, logarithm, quadratic in age taken out).
PAIR_CORRELATION, KIND_CORRELATION = 0.78, 0.25


def age_units(age: Array) -> Array:
    """Return ages as −1 at the first age of the norms and 1 at the last.

    Parameters
    ----------
    age : ndarray
        Years, any shape.

    Returns
    -------
    ndarray
        Of the same shape.
    """
    return np.asarray((age - FIRST_AGE) / (LAST_AGE - FIRST_AGE) * 2 - 1)


@dataclass(frozen=True)
class Norms:
    """Volumes by age: log-normal, the median a quartic of age in the logarithm.

    Parameters
    ----------
    curves : ndarray, shape (5, regions)
        Coefficients of ``log(volume / intracranial volume)``, of rising powers of `age_units`.
    spreads : ndarray, shape (2, regions)
        Coefficients of the standard deviation of that logarithm, likewise.
    cavity : dict
        Sex (``F``, ``M``) to mean and standard deviation of the logarithm of the intracranial
        volume in mL.
    """

    curves: Array
    spreads: Array
    cavity: dict[str, tuple[float, float]]

    def log_fraction(self, age: Array) -> Array:
        """Return medians of ``log(volume / intracranial volume)``.

        Parameters
        ----------
        age : ndarray, shape (...)
            Years.

        Returns
        -------
        ndarray, shape (..., regions)
        """
        age = np.asarray(age, dtype=float)
        inside = np.clip(age, FIRST_AGE, LAST_AGE)
        level = polynomial.polyval(age_units(inside), self.curves)
        return np.asarray(np.moveaxis(level, 0, -1) + self.slope(age) * (age - inside)[..., None])

    def slope(self, age: Array) -> Array:
        """Return by how much the medians of `log_fraction` change a year.

        Parameters
        ----------
        age : ndarray, shape (...)
            Years; beyond the norms' ages the slope is that at their end.

        Returns
        -------
        ndarray, shape (..., regions)
            Natural logarithm a year.
        """
        t = age_units(np.clip(np.asarray(age, dtype=float), FIRST_AGE, LAST_AGE))
        by_unit = polynomial.polyval(t, polynomial.polyder(self.curves))
        return np.asarray(np.moveaxis(by_unit, 0, -1) * 2 / (LAST_AGE - FIRST_AGE))

    def spread(self, age: Array) -> Array:
        """Return standard deviations of `log_fraction` among people.

        Parameters
        ----------
        age : ndarray, shape (...)
            Years; beyond the norms' ages the spread is that at their end.

        Returns
        -------
        ndarray, shape (..., regions)
            Of the natural logarithm.
        """
        t = age_units(np.clip(np.asarray(age, dtype=float), FIRST_AGE, LAST_AGE))
        return np.asarray(np.moveaxis(polynomial.polyval(t, self.spreads), 0, -1))

    def residual_spread(self, age: Array, gap_sd: float) -> Array:
        """Return the spread that is left when people of one biological age are compared.

        Parameters
        ----------
        age : ndarray, shape (...)
            Years.
        gap_sd : float
            Standard deviation of the gaps in years, which explain the rest of the spread.

        Returns
        -------
        ndarray, shape (..., regions)
            At least half of `spread`: a region does not tell the age by itself.
        """
        spread = self.spread(age)
        explained = (self.slope(age) * gap_sd) ** 2
        return np.asarray(np.sqrt(np.maximum(spread**2 - explained, (spread / 2) ** 2)))


@cache
def load_norms() -> Norms:
    """Return the norms of `REGIONS`, in their order.

    Returns
    -------
    Norms
        Of `NORMS_FILE`, one for all callers.
    """
    table = pd.read_csv(NORMS_FILE, sep="\t", index_col="region")
    rows = table.loc[[region.name for region in REGIONS]].to_numpy(dtype=float).T
    cavity = {}
    for sex in ("F", "M"):
        mean, spread = table.loc[f"intracranial_{sex}", ["c0", "s0"]].to_numpy(dtype=float)
        cavity[sex] = float(mean), float(spread)
    return Norms(rows[:5], rows[5:], cavity)


@cache
def residual_correlation() -> Array:
    """Return how regions vary together at one age, shape (regions, regions).

    Returns
    -------
    ndarray, shape (regions, regions)
        Symmetric, 1 on the diagonal.
    """
    same_pair = np.array([[a.pair == b.pair for b in REGIONS] for a in REGIONS])
    same_kind = np.array([[a.kind == b.kind for b in REGIONS] for a in REGIONS])
    matrix = np.where(same_kind, KIND_CORRELATION, 0.0)
    matrix[same_pair] = PAIR_CORRELATION
    np.fill_diagonal(matrix, 1.0)
    return matrix
