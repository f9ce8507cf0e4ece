"""The read-out of the mixture without its experts.

Shapes: B scans, T tokens, D hidden_size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.rivals.plain import DenseTokens
from ermoe_ba.tokens import TokenGrid


class AdditiveReadout(DenseTokens):
    """One map for all tokens, and one read-out a position: ``mean_t (w + q_t)^T f(x_t)``.

    With f linear, this is what remains of the mixture with one expert of full rank and no routing;
    otherwise f is a residual perceptron, ``f(x) = x + W_2 gelu(W_1 x)``.

    Parameters
    ----------
    config : ModelConfig
        Shape.
    tokens : TokenGrid
        Where the tokens lie.
    mlp_dim : int
        Width of the hidden layer.
    linear : bool
        Whether f is linear: ``W_2 W_1 x``.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid, mlp_dim: int, linear: bool) -> None:
        super().__init__(config, tokens)
        self.linear = linear
        self.up = nn.Linear(config.hidden_size, mlp_dim, bias=False)
        self.down = nn.Linear(mlp_dim, config.hidden_size, bias=False)
        self.shared_readout_d = nn.Parameter(torch.zeros(config.hidden_size))
        self.position_readout_td = nn.Parameter(torch.zeros(len(tokens), config.hidden_size))

    def standard_age(self, inputs: Tensor) -> Tensor:
        """Return standardised ages from described tokens.

        Parameters
        ----------
        inputs : Tensor
            As `describe` returns it, shape (B, T, F, C).

        Returns
        -------
        Tensor, shape (B,)
            Standard deviations from the training scans' mean.
        """
        y_btd = self._mapped(inputs)
        says_bt = (y_btd * (self.shared_readout_d + self.position_readout_td)).sum(dim=-1)
        return functional.dropout(says_bt, self.token_dropout, self.training).mean(dim=1)

    def readout_inputs(self, described_btfc: Tensor) -> Tensor:
        """Return what the position read-outs multiply, ``f(x_t) / T``.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, T, D)
            No token silenced.
        """
        y_btd = self._mapped(described_btfc)
        return y_btd / y_btd.shape[1]

    def _mapped(self, described_btfc: Tensor) -> Tensor:
        """Return f(x) for each token, shape (B, T, D)."""
        x_btd = self.content(described_btfc)
        up = self.up(x_btd)
        y_btd: Tensor = self.down(up if self.linear else functional.gelu(up))
        return y_btd if self.linear else x_btd + y_btd
