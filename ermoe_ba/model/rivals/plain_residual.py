"""Experts behind an ordinary residual, which an age can take without them.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.rivals.transformer_tokens import TransformerTokens
from ermoe_ba.tokens import TokenGrid


class PlainResidual(TransformerTokens):
    """A transformer with a layer of experts: ``age = curve(baseline + scale h^T mean_t(y_t))``.

    ``y_t = x_t + sum_e w_te (W_e x_t + b_e)``, with the tokens x_t, the experts and the routing of
    `TransformerTokens`, and one linear head h on the mean token, as V-MoE has (Riquelme 2021, arXiv
    2106.05974; its last norm is left out, so that the experts' part can be told from the rest). The
    head reads the residual x_t as well as the experts. What the experts add are the contributions;
    the baseline that is returned is each scan's own: the age that the residual alone gives.

    Parameters
    ----------
    config : ModelConfig
        As for `ErmoeBrainAge`.
    tokens : TokenGrid
        As for `ErmoeBrainAge`.
    orthogonal : str
        As for `ErmoeBrainAge`.
    num_layers : int
        As for `TransformerTokens`.
    """

    def __init__(
        self, config: ModelConfig, tokens: TokenGrid, orthogonal: str = "qr", num_layers: int = 1
    ) -> None:
        super().__init__(config, tokens, orthogonal, num_layers)
        # The head: one read-out for all positions and all experts, at their one mean place.
        self.experts.position_readout_td = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.experts.expert_readout_ed.requires_grad_(False)
        self.positions_tx = self.positions_tx.mean(dim=0, keepdim=True)

    def score_without_experts(self, described_btfc: Tensor) -> Tensor:
        """Return the score that the residual alone gives.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B,)
            In training, tokens are silenced on this path as often as on that of the experts.
        """
        says_bt = self.content(described_btfc) @ self.experts.position_readout_td[0]
        # Else training would prefer this path.
        heard_bt = functional.dropout(says_bt, self.config.token_dropout, self.training)
        return self.baseline + self.scale * heard_bt.mean(dim=1)

    def readout_inputs(self, described_btfc: Tensor) -> Tensor:
        """Return what the head multiplies, ``mean_t(y_t)``.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, 1, D)
            No token silenced.
        """
        added_b1d = super().readout_inputs(described_btfc).sum(dim=1, keepdim=True)
        return added_b1d + self.content(described_btfc).mean(dim=1, keepdim=True)
