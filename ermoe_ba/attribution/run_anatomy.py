"""What the experts of a run know of anatomy, and what another router's would.

Shapes: N scans, T tokens, E experts, C tissue classes, R regions.
"""

import numpy as np

from ermoe_ba.attribution.out_of_fold import OutOfFold
from ermoe_ba.space import Array
from ermoe_ba.specialisation import shared_information, shuffled


def information(weights_nte: Array, fractions_ntc: Array, share_tr: Array) -> dict[str, float]:
    """Return what an expert's name tells of region, tissue and place.

    Parameters
    ----------
    weights_nte : ndarray
        Routing weights of the experts in question.
    fractions_ntc : ndarray
        Share of each token in each tissue class.
    share_tr : ndarray
        Share of each token's brain in each region.

    Returns
    -------
    dict
        `shared_information`, 0 to 1: ``region`` and ``place`` (the token itself) of the mean
        routing, ``tissue`` of each scan's own.
    """
    experts, tissues = weights_nte.shape[-1], fractions_ntc.shape[-1]
    mean_te = weights_nte.mean(axis=0)
    return {
        "region": shared_information(mean_te, share_tr),
        "tissue": shared_information(
            weights_nte.reshape(-1, experts), fractions_ntc.reshape(-1, tissues)
        ),
        "place": shared_information(mean_te, np.eye(len(mean_te))),
    }


def emergence(
    seen: OutOfFold, scans_n: Array, share_tr: Array, seed: int
) -> dict[str, dict[str, float]]:
    """Return what the experts of a run know of anatomy, regional and free ones apart.

    Of each fold's first member: experts of an average would be of no network.

    Parameters
    ----------
    seen : OutOfFold
        The run.
    scans_n : ndarray of bool
        Which of its scans.
    share_tr : ndarray
        Share of each token's brain in each region.
    seed : int
        Of the random routing.

    Returns
    -------
    dict
        Experts to `information`: ``free_experts``, ``regional_experts``, ``all_experts``; and the
        first and the last again as ``…_random_routing``, where each token's weights were dealt out
        among all experts at random: what is left is chance.
    """
    weights_nte = seen.weights_nmte[scans_n, 0]
    fractions_ntc = seen.fractions_ntc[scans_n]
    regional = len(seen.config.regions)
    chance = shuffled(weights_nte, np.random.default_rng(seed))
    routings = {
        "free_experts": weights_nte[..., regional:],
        "regional_experts": weights_nte[..., :regional],
        "all_experts": weights_nte,
        "free_experts_random_routing": chance[..., regional:],
        "all_experts_random_routing": chance,
    }
    return {name: information(w, fractions_ntc, share_tr) for name, w in routings.items()}
