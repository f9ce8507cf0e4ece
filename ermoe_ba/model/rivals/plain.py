"""Networks that return an age and nothing else.

Shapes: B scans, N training scans, T tokens, K cells, C tissue classes, D hidden_size.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.config import TISSUES, ModelConfig
from ermoe_ba.model.stem import PatchTokens
from ermoe_ba.tokens import TokenGrid


class PlainNetwork(nn.Module):
    """What networks without experts have in common; each defines `standard_age`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("baseline", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self.baseline: Tensor
        self.scale: Tensor

    def standard_age(self, inputs: Tensor) -> Tensor:
        """Return ages in standard deviations from the training scans' mean, shape (B,)."""
        raise NotImplementedError

    def read_age(self, inputs: Tensor) -> Tensor:
        """Return ages in years, shape (B,), from what the network is trained on."""
        return self.baseline + self.scale * self.standard_age(inputs)

    @torch.no_grad()
    def calibrate(self, _: Tensor, ages_n: Tensor, __: float) -> None:
        """Take the ages of the training scans as origin and unit of the network's answer."""
        self.baseline.copy_(ages_n.mean())
        self.scale.copy_(ages_n.std())


class DenseTokens(PlainNetwork):
    """The tokens of the mixture of experts, embedded as it embeds them.

    Parameters
    ----------
    config : ModelConfig
        Shape.
    tokens : TokenGrid
        Where the tokens lie.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid) -> None:
        super().__init__()
        self.token_dropout = config.token_dropout
        shape = (len(tokens), PatchTokens.CELLS, len(TISSUES))
        self.register_buffer("location_tkc", torch.zeros(shape))
        self.register_buffer("spread_tkc", torch.ones(shape))
        self.embed = nn.Linear(shape[1] * shape[2], config.hidden_size, bias=False)
        self.location_tkc: Tensor
        self.spread_tkc: Tensor

    def content(self, cells_btkc: Tensor) -> Tensor:
        """Return the tokens' content, shape (B, T, D)."""
        x_btd: Tensor = self.embed(((cells_btkc - self.location_tkc) / self.spread_tkc).flatten(2))
        return x_btd

    @torch.no_grad()
    def calibrate(self, cells_ntkc: Tensor, ages_n: Tensor, spread_floor: float) -> None:
        """As `ErmoeBrainAge.calibrate`."""
        super().calibrate(cells_ntkc, ages_n, spread_floor)
        self.location_tkc.copy_(cells_ntkc.mean(dim=0))
        self.spread_tkc.copy_((cells_ntkc.var(dim=0) + spread_floor**2).sqrt())
