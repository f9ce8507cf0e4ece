"""Answers: what every method makes of networks, and how much of their ages hangs on it.

Shapes: B scans, D draws of a network, T tokens, F families of description, C tissue classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ermoe_ba.attribution.curves import FidelityCurves, fidelity_curves
from ermoe_ba.attribution.methods import METHODS
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array

# The curve of no method: what ranking buys is what it comes to beyond this.
RANDOM_ORDER = "random_order"


@dataclass(frozen=True)
class Answers:
    """What methods make of one network, or of its like in several folds and draws.

    Parameters
    ----------
    scans : int
        Number of scans that every method saw.
    mean_absolute : dict
        Method of `METHODS` to the mean over these scans of the absolute years (attention: shares)
        by token, shape (D, T).
    curves : dict
        Method, or `RANDOM_ORDER`, to insertion and deletion, means over folds and draws.
    """

    scans: int
    mean_absolute: dict[str, Array]
    curves: dict[str, FidelityCurves]


def ask(network: ErmoeBrainAge, described_btfc: Tensor, random_t: Array, num_steps: int) -> Answers:
    """Ask one network by all methods.

    Parameters
    ----------
    network : ErmoeBrainAge
        In evaluation mode.
    described_btfc : Tensor
        Scans that it was not trained on, as `ErmoeBrainAge.describe` returns them.
    random_t : ndarray, shape (T,)
        Ranks tokens by chance.
    num_steps : int
        Of insertion and deletion.

    Returns
    -------
    Answers
        Of one draw.
    """
    means = {
        name: method(network, described_btfc).abs().numpy().mean(axis=0)
        for name, method in METHODS.items()
    }
    curves = {
        name: fidelity_curves(network, described_btfc, ranking, num_steps)
        for name, ranking in {**means, RANDOM_ORDER: random_t}.items()
    }
    return Answers(len(described_btfc), {name: mean[None] for name, mean in means.items()}, curves)


def over_folds(folds: Sequence[Answers]) -> Answers:
    """Return the answers of networks that each saw scans of their own.

    Parameters
    ----------
    folds : sequence of Answers
        At least one, of equally many draws.

    Returns
    -------
    Answers
        Maps are means over all scans, curves over folds.
    """
    scans = [each.scans for each in folds]
    return Answers(
        scans=sum(scans),
        mean_absolute={
            name: np.average([each.mean_absolute[name] for each in folds], axis=0, weights=scans)
            for name in METHODS
        },
        curves=_mean_curves(folds),
    )


def over_draws(draws: Sequence[Answers]) -> Answers:
    """Return the answers of networks that differ by chance and saw the same scans.

    Parameters
    ----------
    draws : sequence of Answers
        At least one.

    Returns
    -------
    Answers
        Maps of every draw, one after the other; curves are means over draws.
    """
    return Answers(
        scans=draws[0].scans,
        mean_absolute={
            name: np.concatenate([each.mean_absolute[name] for each in draws]) for name in METHODS
        },
        curves=_mean_curves(draws),
    )


def _mean_curves(some: Sequence[Answers]) -> dict[str, FidelityCurves]:
    return {
        name: FidelityCurves(
            share_s=first.share_s,
            insertion_s=np.mean([each.curves[name].insertion_s for each in some], axis=0),
            deletion_s=np.mean([each.curves[name].deletion_s for each in some], axis=0),
        )
        for name, first in some[0].curves.items()
    }
