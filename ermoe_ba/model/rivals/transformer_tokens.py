"""The read-out of the mixture on tokens that a transformer has mixed.

Shapes: B scans, T tokens, D hidden_size.
"""

from torch import Tensor

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.transformer import encoder_blocks
from ermoe_ba.tokens import TokenGrid

# A perceptron's width in those of a token, as in all sizes of the vision transformer (Dosovitskiy
# 2021, arXiv 2010.11929, table 1).
MLP_RATIO = 4


class TransformerTokens(ErmoeBrainAge):
    """The same experts, routing and additive read-out, behind blocks of a transformer.

    The content of a token is what the blocks make of it: it tells of the whole brain before any
    expert reads it. Contributions add up to the age as they do in `ErmoeBrainAge`, but the place
    they stand at is no longer where they come from.

    Parameters
    ----------
    config : ModelConfig
        As for `ErmoeBrainAge`.
    tokens : TokenGrid
        As for `ErmoeBrainAge`.
    orthogonal : str
        As for `ErmoeBrainAge`.
    num_layers : int
        Blocks, at least one.
    """

    def __init__(
        self, config: ModelConfig, tokens: TokenGrid, orthogonal: str = "qr", num_layers: int = 1
    ) -> None:
        super().__init__(config, tokens, orthogonal)
        self.blocks = encoder_blocks(config, MLP_RATIO * config.hidden_size, num_layers)

    def content(self, described_btfc: Tensor) -> Tensor:
        """Return the tokens' content after the blocks.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, T, D)
            Without the code of their place, which routing adds again.
        """
        y_btd = super().content(described_btfc) + self.place_td
        for block in self.blocks:
            y_btd = block(y_btd)
        return y_btd - self.place_td
