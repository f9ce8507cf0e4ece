"""Specialisation: what an expert's name tells of where in the brain it is at work.

Shapes: T tokens, E experts, R parts of the brain (regions or tissues).
"""

import numpy as np
from scipy.stats import entropy

from ermoe_ba.space import Array


def shared_information(weights_te: Array, parts_tr: Array) -> float:
    """Return how much of the uncertainty about the part of the brain an expert's name removes.

    ``I(E; R) / H(E)`` with ``p(e, r) = sum_t w_te v_tr``: a place is drawn, and an expert by its
    routing weight there. With volumes, every unit of the brain is as likely; with each token's
    shares, every token is, however little brain it holds. Relative to the experts' own entropy, the
    most that they could tell; 1 where each part has experts of its own, 0 where experts do not
    care.

    Parameters
    ----------
    weights_te : ndarray, shape (T, E)
        Routing weights, 0 or more; tokens that these experts do not serve count for nothing.
    parts_tr : ndarray, shape (T, R)
        Volume of each part in each token, or share of the token that it takes, 0 or more.

    Returns
    -------
    float
        0 to 1; 0 for a single expert.

    Raises
    ------
    ValueError
        If shapes do not fit, something is negative, or no expert serves any part.
    """
    if weights_te.ndim != 2 or parts_tr.ndim != 2 or len(weights_te) != len(parts_tr):
        raise ValueError(
            f"Both need one row a token; found shapes {weights_te.shape} and {parts_tr.shape}."
        )
    if (weights_te < 0).any() or (parts_tr < 0).any():
        raise ValueError("Weights and volumes must be 0 or more.")
    joint = np.asarray(weights_te.T @ parts_tr, dtype=np.float64)
    if not joint.sum() > 0:
        raise ValueError("Some expert must serve some part; none does.")
    joint /= joint.sum()
    by_expert, by_part = joint.sum(axis=1), joint.sum(axis=0)
    uncertainty = float(entropy(by_expert))
    if uncertainty == 0.0:
        return 0.0
    told = uncertainty + float(entropy(by_part)) - float(entropy(joint.ravel()))
    return max(0.0, told) / uncertainty


def shuffled(weights: Array, rng: np.random.Generator) -> Array:
    """Return routing weights whose experts are drawn anew at each token: routing by chance.

    Parameters
    ----------
    weights : ndarray, shape (..., E)
        Routing weights of tokens, of one scan or of several.
    rng : Generator
        Of the draw.

    Returns
    -------
    ndarray, shape (..., E)
        The weights of each token dealt out among its experts anew.
    """
    return np.asarray(rng.permuted(weights, axis=-1))
