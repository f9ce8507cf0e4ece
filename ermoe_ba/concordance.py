"""Concordance of the years that regions contribute with their volumes.

Shapes: N scans, R regions, T tokens.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ermoe_ba.space import Array


def region_years(years_nt: Array, share_tr: Array) -> Array:
    """Return the years that regions contribute.

    Parameters
    ----------
    years_nt : ndarray, shape (N, T)
        Years that each token contributes.
    share_tr : ndarray, shape (T, R)
        Share of each token's brain that lies in each region, 0 to 1.

    Returns
    -------
    ndarray, shape (N, R)
        Years; the sum over regions is the sum over tokens where these cover the brain.
    """
    return np.asarray(years_nt @ share_tr)


def concordance_table(
    years_nr: Array,
    volumes_nr: Array,
    ages_n: Array,
    names: tuple[str, ...],
    expected: Mapping[str, int],
) -> pd.DataFrame:
    """Hold contributions of regions against their volumes.

    Parameters
    ----------
    years_nr : ndarray, shape (N, R)
        Years that each region contributes.
    volumes_nr : ndarray, shape (N, R)
        Volumes of the regions as shares of the intracranial volume.
    ages_n : ndarray, shape (N,)
        Chronological ages in years.
    names : tuple of str
        Of the regions.
    expected : mapping
        Region to the sign by which its volume is known to change with age, 1 or -1; not every
        region need have one.

    Returns
    -------
    DataFrame
        One row a region: ``years_on_age`` (slope of its years on age, years a year),
        ``volume_on_age`` (correlation of volume and age), ``years_on_volume`` (correlation), and
        ``years_on_volume_given_age`` (partial correlation: age and its square taken out of both,
        so that what is left cannot be two consequences of age); ``as_expected``, whether this last
        one has the expected sign: a region that grows with age should make older where it is
        large, one that shrinks where it is small. None where no sign is stated.

    Raises
    ------
    ValueError
        If shapes do not fit, there are fewer than five scans, or a sign is of none of the regions.
    """
    if not years_nr.shape == volumes_nr.shape == (len(ages_n), len(names)):
        raise ValueError(
            f"Expected {len(ages_n)} scans of {len(names)} regions; found years "
            f"{years_nr.shape} and volumes {volumes_nr.shape}."
        )
    if unknown := sorted(set(expected) - set(names)):
        raise ValueError(
            f"Signs must be of the regions {', '.join(names)}; found {', '.join(unknown)}."
        )
    if len(ages_n) < 5:
        raise ValueError(f"At least five scans are needed; found {len(ages_n)}.")
    rows = []
    for name, years, volume in zip(names, years_nr.T, volumes_nr.T, strict=True):
        given_age = float(np.corrcoef(_without(ages_n, years), _without(ages_n, volume))[0, 1])
        rows.append(
            {
                "region": name,
                "years_on_age": float(np.polyfit(ages_n, years, 1)[0]),
                "volume_on_age": float(np.corrcoef(volume, ages_n)[0, 1]),
                "years_on_volume": float(np.corrcoef(years, volume)[0, 1]),
                "years_on_volume_given_age": given_age,
                "as_expected": given_age * expected[name] > 0 if name in expected else None,
            }
        )
    return pd.DataFrame(rows)


def _without(ages_n: Array, values_n: Array) -> Array:
    """Return what a parabola of age leaves of values."""
    return np.asarray(values_n - np.polyval(np.polyfit(ages_n, values_n, 2), ages_n))
