"""How tokens are shared out among experts.

Shapes: B scans, T tokens, E experts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Load:
    """Who serves how many tokens, and how evenly.

    Parameters
    ----------
    share_e : Tensor
        Share of the tokens that each expert serves, 0 to 1; as a token may be served by several,
        they may sum to more than 1.
    gini : Tensor, scalar
        As from `load_gini`.
    entropy : Tensor, scalar
        As from `load_entropy`.
    dead_experts : Tensor of int, scalar
        Experts that serve no token.
    fallback_share : Tensor, scalar
        Share of the tokens that no expert was eligible for.
    """

    share_e: Tensor
    gini: Tensor
    entropy: Tensor
    dead_experts: Tensor
    fallback_share: Tensor

    @classmethod
    def of(cls, selected_bte: Tensor, fallback_bt: Tensor) -> "Load":
        """Count who serves whom.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Selected experts.
        fallback_bt : Tensor of bool
            Tokens that no expert was eligible for.

        Returns
        -------
        Load
            Over all tokens of all scans.
        """
        share_e = selected_bte.float().mean(dim=(0, 1))
        return cls(
            share_e,
            load_gini(share_e),
            load_entropy(share_e),
            (share_e == 0).sum(),
            fallback_bt.float().mean(),
        )


def load_gini(share_e: Tensor) -> Tensor:
    """Return the Gini coefficient of expert load: 0 where all are equal.

    ``G = sum_ij |l_i - l_j| / (2 E sum_i l_i)``.

    Parameters
    ----------
    share_e : Tensor
        Share of tokens that each expert serves, 0 or more.

    Returns
    -------
    Tensor, scalar
        From 0 to 1 - 1 / E; not a number where nobody serves.
    """
    differences = (share_e[:, None] - share_e[None, :]).abs().sum()
    return differences / (2 * len(share_e) * share_e.sum())


def load_entropy(share_e: Tensor) -> Tensor:
    """Return the entropy of expert load relative to even load: 1 where all are equal.

    ``H = -sum_e p_e log p_e / log E`` with ``p = l / sum l``; 1 for a single expert.

    Parameters
    ----------
    share_e : Tensor
        Share of tokens that each expert serves, 0 or more.

    Returns
    -------
    Tensor, scalar
        From 0 to 1; not a number where nobody serves.
    """
    if len(share_e) == 1:
        return torch.ones_like(share_e[0])
    part_e = share_e / share_e.sum()
    return -torch.xlogy(part_e, part_e).sum() / torch.log(torch.tensor(float(len(share_e))))
