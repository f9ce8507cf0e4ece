"""Networks that return an age and nothing else.

Shapes: B scans.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.age_curve import AgeCurve
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.content import TokenContent
from ermoe_ba.tokens import TokenGrid


class PlainNetwork(nn.Module):
    """What networks without experts have in common; each defines `standard_age`.

    Parameters
    ----------
    age_bounds : tuple of float
        As in `ModelConfig`.
    """

    def __init__(self, age_bounds: tuple[float, ...]) -> None:
        super().__init__()
        self.curve = AgeCurve(age_bounds)
        self.register_buffer("baseline", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self.baseline: Tensor
        self.scale: Tensor

    def standard_age(self, inputs: Tensor) -> Tensor:
        """Return scores in standard deviations from the training scans' mean; each network's own.

        Parameters
        ----------
        inputs : Tensor
            What the network is trained on, one scan along the first axis.

        Returns
        -------
        Tensor, shape (B,)
            Without unit.
        """
        raise NotImplementedError

    def read_age(self, inputs: Tensor) -> Tensor:
        """Return ages from what the network is trained on.

        Parameters
        ----------
        inputs : Tensor
            As for `standard_age`.

        Returns
        -------
        Tensor, shape (B,)
            In years.
        """
        age_b: Tensor = self.curve(self.baseline + self.scale * self.standard_age(inputs))
        return age_b


class DenseTokens(PlainNetwork, TokenContent):
    """The tokens of the mixture of experts, embedded as it embeds them.

    Parameters
    ----------
    config : ModelConfig
        Shape.
    tokens : TokenGrid
        Where the tokens lie.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid) -> None:
        super().__init__(config.age_bounds)
        self.token_dropout = config.token_dropout
        self.hold_content(tokens, config)
