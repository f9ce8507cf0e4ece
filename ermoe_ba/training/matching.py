"""Which expert of one member is which of another."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from ermoe_ba.space import Array


def matched_order(reference_te: Array, weights_te: Array, num_regional: int) -> list[int]:
    """Return the order of a member's experts that resembles a reference most.

    Regional experts stay; the free ones are matched by the correlation of their mean routing
    weights over tokens (Hungarian method).

    Parameters
    ----------
    reference_te, weights_te : ndarray, shape (T, E)
        Mean routing weights over the same scans.
    num_regional : int
        The first so many experts are regional.

    Returns
    -------
    list of int
        ``order[e]`` is the member's expert that becomes expert e.
    """
    free = slice(num_regional, None)
    # An expert that never varies has no correlation: it matches whoever is left.
    with np.errstate(invalid="ignore"):
        likeness = np.corrcoef(reference_te[:, free].T, weights_te[:, free].T)
    count = reference_te.shape[1] - num_regional
    _, chosen = linear_sum_assignment(-np.nan_to_num(likeness[:count, count:]))
    return [*range(num_regional), *(num_regional + int(c) for c in chosen)]
