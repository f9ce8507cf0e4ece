"""The read-out of the selected experts alone, for `speed.py`; no recipe itself.

Shapes: T tokens, D hidden_size, E experts, R rank.
"""

import torch
from torch import Tensor

from ermoe_ba.model.experts import EigenExperts


def sorted_readout(
    experts: EigenExperts, z_ter: Tensor, u_edr: Tensor, selected_te: Tensor
) -> Tensor:
    """Return what the selected experts say of one scan: tokens sorted, one product an expert.

    Parameters
    ----------
    experts : EigenExperts
        Any.
    z_ter : Tensor
        Tokens projected on the experts' input bases.
    u_edr : Tensor
        The experts' output bases.
    selected_te : Tensor of bool
        Which experts serve which tokens.

    Returns
    -------
    Tensor, shape (T, E)
        As from `EigenExperts.forward`, and 0 for experts not selected.
    """
    expert, token = selected_te.T.nonzero(as_tuple=True)
    readout = experts.expert_readout_ed[expert] + experts.position_readout_td[token]
    groups = readout.split(selected_te.sum(dim=0).tolist())
    read = torch.cat([group @ u_dr for group, u_dr in zip(groups, u_edr, strict=True)])
    within = z_ter[token, expert] * experts.s_er[expert] + experts.offset_er[expert]
    says_te = torch.zeros_like(z_ter[..., 0])
    return says_te.index_put((token, expert), (read * within).sum(dim=-1))
