"""Experts in their own orthonormal bases.

Shapes: B scans, T tokens, D hidden_size, E experts, R rank.
"""

import torch
from torch import Tensor, nn


def orthonormal_columns(raw_edr: Tensor) -> Tensor:
    """Return orthonormal columns that span what the given columns span.

    Thin QR with the signs fixed so that the diagonal of R is positive, which makes the factor
    unique and smooth in the input (Gram-Schmidt in effect; max |Q^T Q - I| below 1e-5).

    Parameters
    ----------
    raw_edr : Tensor
        Any matrices of full column rank, R <= D.

    Returns
    -------
    Tensor, shape (E, D, R)
        Matrices Q with Q^T Q = I.
    """
    q, r = torch.linalg.qr(raw_edr)
    sign_er = torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))
    sign_er = torch.where(sign_er == 0, torch.ones_like(sign_er), sign_er)
    return q * sign_er[:, None, :]


class EigenExperts(nn.Module):
    """Affine experts ``W_e x + b_e``, with ``W_e = U_e diag(s_e) V_e^T`` and ``b_e = U_e m_e``.

    Expert e says of token x at position t ``a_e(x) = (w_e + q_t)^T U_e (diag(s_e) V_e^T x + m_e)``,
    where w_e is the expert's own read-out and q_t the position's, shared by all experts (ERMoE,
    arXiv 2511.10971, for the reparameterisation; offset and position-aware read-out are this
    project's). The offset m_e makes an expert a prototype: that a token comes to it says something
    of age already, before the token's own values are read.

    Parameters
    ----------
    num_experts, hidden_size, rank, num_tokens : int
        E, D, R and T.
    offset_scale : float
        Standard deviation of the offsets that training starts from.
    """

    def __init__(
        self,
        num_experts: int,
        hidden_size: int,
        rank: int,
        num_tokens: int,
        offset_scale: float,
    ) -> None:
        super().__init__()
        raw = orthonormal_columns(torch.randn(num_experts, hidden_size, rank))
        self.raw_v_edr = nn.Parameter(raw.clone())
        # U starts at V: each expert begins as the projector on its own subspace.
        self.raw_u_edr = nn.Parameter(raw.clone())
        self.s_er = nn.Parameter(torch.ones(num_experts, rank))
        # Different from the start: equal offsets would tell nothing of who was chosen.
        self.offset_er = nn.Parameter(offset_scale * torch.randn(num_experts, rank))
        self.expert_readout_ed = nn.Parameter(torch.zeros(num_experts, hidden_size))
        self.position_readout_td = nn.Parameter(torch.zeros(num_tokens, hidden_size))

    def bases(self) -> tuple[Tensor, Tensor]:
        """Return the orthonormal U and V, each of shape (E, D, R)."""
        return orthonormal_columns(self.raw_u_edr), orthonormal_columns(self.raw_v_edr)

    def forward(self, z_bter: Tensor, u_edr: Tensor) -> Tensor:
        """Return what each expert says of each token.

        Parameters
        ----------
        z_bter : Tensor
            Tokens projected on the experts' input bases, V_e^T x: made for the scores, used again.
        u_edr : Tensor
            The experts' output bases.

        Returns
        -------
        Tensor, shape (B, T, E)
            a_e(x_t), before routing weights, in units of the age scale.
        """
        own_er = torch.einsum("ed,edr->er", self.expert_readout_ed, u_edr)
        shared_ter = torch.einsum("td,edr->ter", self.position_readout_td, u_edr)
        return torch.einsum("bter,ter->bte", self.within(z_bter), own_er + shared_ter)

    def within(self, z_bter: Tensor) -> Tensor:
        """Return the experts' outputs in their own output bases, ``diag(s_e) z + m_e``."""
        return z_bter * self.s_er + self.offset_er
