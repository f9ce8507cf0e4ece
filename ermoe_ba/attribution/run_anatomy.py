"""What the experts of a run know of anatomy, and what another router's would.

Shapes: N scans, T tokens, E experts, C tissue classes, R regions.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ermoe_ba.attribution.out_of_fold import OutOfFold
from ermoe_ba.space import Array
from ermoe_ba.specialisation import shared_information, shuffled

# Of these figures. 1: of routing weights averaged over the folds, which no network has. 2: of rival
# routers that learnt the ages in the order of splits.tsv, which may be another than the scans'.
REVISION = 3


def information(weights_nte: Array, fractions_ntc: Array, share_tr: Array) -> dict[str, float]:
    """Return what an expert's name tells of region, tissue and place.

    Parameters
    ----------
    weights_nte : ndarray
        Routing weights of the experts in question, of one network: experts of two have nothing
        but their numbers in common.
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


def over_networks(told: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean and the range of figures that networks have each.

    Parameters
    ----------
    told : sequence of dict
        Of one network each, from `information`; at least one.

    Returns
    -------
    dict
        ``networks``, their number; each figure's mean by its own name, the least and the greatest
        as ``<figure>_least`` and ``<figure>_most``.
    """
    figures: dict[str, float] = {"networks": len(told)}
    for name in told[0]:
        values = [each[name] for each in told]
        figures[name] = float(np.mean(values))
        figures |= {f"{name}_least": min(values), f"{name}_most": max(values)}
    return figures


def emergence(
    seen: OutOfFold, scans_n: Array, share_tr: Array, seed: int, starts: int | None = None
) -> dict[str, dict[str, float]]:
    """Return what the experts of a run know of anatomy, regional and free ones apart.

    Network by network, each on the test scans of its own fold: two networks that were begun apart
    agree on no free expert's number, and averages of their weights would be of no network.

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
    starts : int, optional
        The first so many networks of each fold; all of them where not given.

    Returns
    -------
    dict
        Experts to figures, from `over_networks`: ``free_experts``, ``regional_experts``,
        ``all_experts``; and the first and the last again as ``…_random_routing``, where each
        token's weights were dealt out among all experts at random: what is left is chance.
    """
    fold_n = seen.table["fold"].to_numpy()
    networks: list[tuple[Array, Array]] = []
    for fold in np.unique(fold_n[scans_n]):
        within_n = scans_n & (fold_n == fold)
        weights_mnte = np.moveaxis(seen.weights_nmte[within_n, :starts], 1, 0)
        networks.extend((weights_nte, seen.fractions_ntc[within_n]) for weights_nte in weights_mnte)
    return one_by_one(networks, len(seen.config.regions), share_tr, seed)


def one_by_one(
    networks: Iterable[tuple[Array, Array]], regional: int, share_tr: Array, seed: int
) -> dict[str, dict[str, float]]:
    """Return what the experts of networks of one shape know of anatomy.

    Parameters
    ----------
    networks : iterable of (ndarray, ndarray)
        Of each, its routing weights and the tissue fractions of the same scans, as for
        `information`; at least one.
    regional : int
        How many of its experts, the first ones, are tied to regions; 0 where all are free.
    share_tr : ndarray
        Share of each token's brain in each region.
    seed : int
        Of the random routing.

    Returns
    -------
    dict
        As `emergence`; of networks without regional experts, ``all_experts`` and
        ``all_experts_random_routing`` alone.
    """
    experts = {"all_experts": slice(None)}
    if regional:
        free = {"free_experts": slice(regional, None), "regional_experts": slice(None, regional)}
        experts = free | experts
    rng = np.random.default_rng(seed)
    told: dict[str, list[dict[str, float]]] = {}
    for weights_nte, fractions_ntc in networks:
        chance_nte = shuffled(weights_nte, rng)
        routings = {name: weights_nte[..., which] for name, which in experts.items()}
        for name in (name for name in experts if name != "regional_experts"):
            routings[f"{name}_random_routing"] = chance_nte[..., experts[name]]
        for name, routing in routings.items():
            told.setdefault(name, []).append(information(routing, fractions_ntc, share_tr))
    return {name: over_networks(figures) for name, figures in told.items()}
