"""Experts in their own orthonormal bases.

Shapes: B scans, T tokens, D hidden_size, E experts, R rank.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.orthogonal import (
    ORTHOGONAL_MAPS,
    orthonormal_columns,
    orthonormality_penalty,
)


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
    orthogonal : {"qr", "cayley", "penalty"}
        How the bases are kept orthonormal: exactly, or by a penalty on the loss.
    """

    def __init__(
        self,
        num_experts: int,
        hidden_size: int,
        rank: int,
        num_tokens: int,
        offset_scale: float,
        *,
        orthogonal: str = "qr",
    ) -> None:
        super().__init__()
        self.orthogonal = ORTHOGONAL_MAPS[orthogonal]
        basis = orthonormal_columns(torch.randn(num_experts, hidden_size, rank))
        self.raw_v_edr = nn.Parameter(self.orthogonal.weights(basis))
        # U starts at V: each expert begins as the projector on its own subspace.
        self.raw_u_edr = nn.Parameter(self.orthogonal.weights(basis))
        self.s_er = nn.Parameter(torch.ones(num_experts, rank))
        # Different from the start: equal offsets would tell nothing of who was chosen.
        self.offset_er = nn.Parameter(offset_scale * torch.randn(num_experts, rank))
        self.expert_readout_ed = nn.Parameter(torch.zeros(num_experts, hidden_size))
        self.position_readout_td = nn.Parameter(torch.zeros(num_tokens, hidden_size))

    def bases(self) -> tuple[Tensor, Tensor]:
        """Return the orthonormal U and V, each of shape (E, D, R).

        Returns
        -------
        Tensor, shape (E, D, R)
            U, the output bases.
        Tensor, shape (E, D, R)
            V, the input bases.
        """
        return self.orthogonal.bases(self.raw_u_edr), self.orthogonal.bases(self.raw_v_edr)

    @property
    def fill_most(self) -> bool:
        """Whether each basis is orthonormal and has more than half of all dimensions."""
        hidden_size, rank = self.raw_v_edr.shape[1:]
        return self.orthogonal.exact and 2 * rank > hidden_size

    def penalty(self) -> Tensor:
        """Return what the loss must add to keep the bases orthonormal: 0 for the exact maps.

        Returns
        -------
        Tensor, shape ()
            At least 0, of both bases.
        """
        if self.orthogonal.exact:
            return self.s_er.new_zeros(())
        return orthonormality_penalty(self.raw_u_edr) + orthonormality_penalty(self.raw_v_edr)

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
        read_ter = self._readouts(u_edr)
        # What does not depend on the scan is multiplied first: `within` of all tokens of a batch
        # would be as large as z again.
        says_bte = torch.einsum("bter,ter->bte", z_bter, read_ter * self.s_er)
        return says_bte + (read_ter * self.offset_er).sum(dim=-1)

    def read(self, x_btd: Tensor, u_edr: Tensor, v_edr: Tensor) -> Tensor:
        """Return what each expert says of each token, without projecting the tokens.

        ``x^T (V_e diag(s_e) U_e^T (w_e + q_t))``: the bracket does not depend on the scan, so that
        of B scans it takes the products of one. Differs from `forward` by rounding.

        Parameters
        ----------
        x_btd : Tensor
            Tokens.
        u_edr, v_edr : Tensor
            The experts' output and input bases.

        Returns
        -------
        Tensor, shape (B, T, E)
            As from `forward`.
        """
        read_ter = self._readouts(u_edr)
        read_ted = torch.einsum("ter,edr->ted", read_ter * self.s_er, v_edr)
        says_bte = torch.einsum("btd,ted->bte", x_btd, read_ted)
        return says_bte + (read_ter * self.offset_er).sum(dim=-1)

    def _readouts(self, u_edr: Tensor) -> Tensor:
        """Return the read-outs of each expert at each position in its output basis, (T, E, R)."""
        own_er = torch.einsum("ed,edr->er", self.expert_readout_ed, u_edr)
        return own_er + torch.einsum("td,edr->ter", self.position_readout_td, u_edr)

    def within(self, z_bter: Tensor) -> Tensor:
        """Return the experts' outputs in their own output bases, ``diag(s_e) z + m_e``.

        Parameters
        ----------
        z_bter : Tensor
            Tokens projected on the experts' input bases, V_e^T x.

        Returns
        -------
        Tensor, shape (B, T, E, R)
            Coordinates along U_e.
        """
        return z_bter * self.s_er + self.offset_er
