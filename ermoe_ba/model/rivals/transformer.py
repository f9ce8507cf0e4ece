"""The dense transformer on the same tokens.

Shapes: B scans, T tokens, D hidden_size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.attention import sincos_positions
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.rivals.plain import DenseTokens
from ermoe_ba.tokens import TokenGrid


class DenseTransformer(DenseTokens):
    """Pre-norm blocks of attention and perceptron, the mean token, one linear read-out.

    A vision transformer (Dosovitskiy 2021, arXiv 2010.11929) whose patches are the tissue tokens,
    with the learned place codes of the mixture and its token dropout, here of whole tokens before
    the first block. The pooling is the mean, as V-MoE's.

    Parameters
    ----------
    config : ModelConfig
        Shape.
    tokens : TokenGrid
        Where the tokens lie.
    mlp_dim : int
        Width of the perceptrons.
    num_layers : int
        Blocks.
    """

    def __init__(
        self, config: ModelConfig, tokens: TokenGrid, mlp_dim: int, num_layers: int
    ) -> None:
        super().__init__(config, tokens)
        position_td = sincos_positions(tokens.centres_mm, config.hidden_size)
        self.place_td = nn.Parameter(config.place_scale * position_td)
        self.blocks = encoder_blocks(config, mlp_dim, num_layers)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.readout = nn.Linear(config.hidden_size, 1)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

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
        y_btd = self.content(inputs) + self.place_td
        keep = functional.dropout(
            torch.ones_like(y_btd[..., :1]), self.token_dropout, self.training
        )
        y_btd = y_btd * keep
        for block in self.blocks:
            y_btd = block(y_btd)
        age_b: Tensor = self.readout(self.norm(y_btd).mean(dim=1))[:, 0]
        return age_b


def encoder_blocks(config: ModelConfig, mlp_dim: int, num_layers: int) -> nn.ModuleList:
    """Return pre-norm blocks of attention and perceptron.

    Parameters
    ----------
    config : ModelConfig
        Gives D and the number of heads.
    mlp_dim : int
        Width of the perceptrons.
    num_layers : int
        Blocks.

    Returns
    -------
    ModuleList
        Each from tokens of shape (B, T, D) to such tokens.
    """
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            config.hidden_size,
            config.num_heads,
            mlp_dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        for _ in range(num_layers)
    )
