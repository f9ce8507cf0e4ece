"""The read-out of the mixture without its experts.

Shapes: B scans, T tokens, K cells, C tissue classes, D hidden_size, F mlp_dim.
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
        Width F of the hidden layer.
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
        """Return standardised ages from the cells, shape (B,)."""
        x_btd = self.content(inputs)
        if self.linear:
            y_btd = self.down(self.up(x_btd))
        else:
            y_btd = x_btd + self.down(functional.gelu(self.up(x_btd)))
        says_bt = (y_btd * (self.shared_readout_d + self.position_readout_td)).sum(dim=-1)
        return functional.dropout(says_bt, self.token_dropout, self.training).mean(dim=1)
