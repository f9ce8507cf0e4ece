"""Insertion and deletion: how much of a network's ages hangs on the tokens that a map ranks first.

Shapes: B scans, T tokens, S steps, F families of description, C tissue classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array


@dataclass(frozen=True)
class FidelityCurves:
    """How near ages come to those of the whole scans while tokens are shown or taken away.

    Fidelity is ``1 - sum_b |age - age_whole| / sum_b |age_average - age_whole|``: 1 where the ages
    are those of the whole scans, 0 where they are as far away as the average brain's.

    Parameters
    ----------
    share_s : ndarray, shape (S + 1,)
        Share of the tokens changed, 0 to 1.
    insertion_s, deletion_s : ndarray, shape (S + 1,)
        Fidelity where so many tokens, those ranked first, are shown in the average brain, and are
        replaced by the average brain's.
    """

    share_s: Array
    insertion_s: Array
    deletion_s: Array

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve: the higher, the better the map's first tokens."""
        return float(np.trapezoid(self.insertion_s, self.share_s))

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve: the lower, the better the map's first tokens."""
        return float(np.trapezoid(self.deletion_s, self.share_s))


@torch.no_grad()
def fidelity_curves(
    model: ErmoeBrainAge, described_btfc: Tensor, importance_t: Array, num_steps: int
) -> FidelityCurves:
    """Show and take away tokens in the order of a map.

    Insertion and deletion after Petsiuk 2018 (arXiv 1806.07421), for ages in place of class
    probabilities, and one order for all scans: a map of where the age is read.

    Parameters
    ----------
    model : ErmoeBrainAge
        In evaluation mode.
    described_btfc : Tensor
        Scans, as `ErmoeBrainAge.describe` returns them; they must not all have the age of the
        average brain.
    importance_t : ndarray, shape (T,)
        Tokens with higher values come first; equal ones in their own order.
    num_steps : int
        S, from 1 to T; tokens are changed in so many steps of nearly equal size.

    Returns
    -------
    FidelityCurves

    Raises
    ------
    ValueError
        If `num_steps` is out of range, or no scan's age differs from the average brain's.
    """
    num_tokens = described_btfc.shape[1]
    if not 1 <= num_steps <= num_tokens:
        raise ValueError(f"num_steps must lie between 1 and {num_tokens}; found {num_steps}.")
    order = torch.as_tensor(np.argsort(-importance_t, kind="stable").copy())
    average = model.location_tfc.expand_as(described_btfc)
    whole = model.read_age(described_btfc).age_b
    most = float((model.read_age(average).age_b - whole).abs().sum())
    if most == 0:
        raise ValueError("Some scan's age must differ from that of the average brain; none does.")
    counts = np.linspace(0, num_tokens, num_steps + 1).round().astype(int)

    def fidelity(start: Tensor, end: Tensor, count: int) -> float:
        changed = start.clone()
        changed[:, order[:count]] = end[:, order[:count]]
        return 1.0 - float((model.read_age(changed).age_b - whole).abs().sum()) / most

    return FidelityCurves(
        share_s=counts / num_tokens,
        insertion_s=np.array([fidelity(average, described_btfc, n) for n in counts]),
        deletion_s=np.array([fidelity(described_btfc, average, n) for n in counts]),
    )
