"""What scans look like to a stem, and how far one lies from those that a model learnt from.

Shapes: N scans, T tokens, F families of description, C tissue classes, Q = F x C.
"""

from dataclasses import dataclass

import numpy as np

from ermoe_ba.space import Array


def look(described_tfc: Array) -> Array:
    """Return what a scan looks like to a stem: its description, averaged over the tokens.

    Parameters
    ----------
    described_tfc : ndarray, shape (T, F, C)
        As `ErmoeBrainAge.describe` returns it of one scan.

    Returns
    -------
    ndarray, shape (Q,)
        Share, intensity, contrast and border of each tissue in the whole brain.
    """
    mean_fc = np.asarray(described_tfc, dtype=np.float64).mean(axis=0)
    return np.asarray(mean_fc).ravel()


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """What the scans look like that a model learnt from, as one of its stems sees them.

    Parameters
    ----------
    mean_q : ndarray, shape (Q,)
        Mean look.
    precision_qq : ndarray, shape (Q, Q)
        Inverse of the looks' covariance.
    """

    mean_q: Array
    precision_qq: Array

    def distance(self, look_q: Array) -> float:
        """Return how far a scan lies from the others, as root mean square of standard deviations.

        The Mahalanobis distance divided by the root of Q. Of many scans whose numbers vary apart
        from each other it is near 1; below, where shrinkage takes numbers that go together for
        less alike than they are, as tissues of one brain do.

        Parameters
        ----------
        look_q : ndarray, shape (Q,)
            From `look`, of this stem.

        Returns
        -------
        float
            At least 0.
        """
        off_q = look_q - self.mean_q
        return float(np.sqrt(max(off_q @ self.precision_qq @ off_q, 0.0) / len(off_q)))


def fit_likeness(looks_nq: Array) -> Likeness:
    """Describe what scans look like.

    Parameters
    ----------
    looks_nq : ndarray, shape (N, Q)
        From `look`, of the scans that a stem's members learnt from, unchanged.

    Returns
    -------
    Likeness
        With the covariance shrunk after Ledoit and Wolf (2004,
        doi:10.1016/S0047-259X(03)00096-4), in units of standard deviations: there may be fewer
        scans than numbers of each.

    Raises
    ------
    ValueError
        If there are fewer than two scans.
    """
    # A slow import, for those alone who make a rule.
    from sklearn.covariance import LedoitWolf

    if len(looks_nq) < 2:
        raise ValueError(f"A covariance needs two scans or more; found {len(looks_nq)}.")
    mean_q, sd_q = looks_nq.mean(axis=0), looks_nq.std(axis=0)
    # What never varies has no unit of its own, nor is what rounding makes of it one.
    sd_q = np.where(np.ptp(looks_nq, axis=0) > 0, sd_q, 1.0)
    precision_qq = LedoitWolf(assume_centered=True).fit((looks_nq - mean_q) / sd_q).precision_
    return Likeness(mean_q=mean_q, precision_qq=precision_qq / np.outer(sd_q, sd_q))
