"""What a token holds: the description of its tissue, as a vector.

Shapes: B scans, T tokens, F families of description, C tissue classes, D hidden_size.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.tokens import TokenGrid

# Of a token's mean squared length: what is added before it is divided by, since a token as the
# cohort has it has no length. A tenth leaves tokens of usual length nearly as they are.
LENGTH_FLOOR = 0.1


class TokenContent(nn.Module):
    """A network whose tokens say what they add to the cohort's mean, by one map for all.

    The centre and the spread of the descriptions are the training cohort's; `train_age` sets them.
    """

    def hold_content(self, tokens: TokenGrid, config: ModelConfig) -> None:
        """Make what content is computed with.

        Parameters
        ----------
        tokens : TokenGrid
            Where the T tokens lie.
        config : ModelConfig
            Shape of the network.
        """
        self.compression = config.compression
        self.centred = config.centre_content
        shape = (len(tokens), len(FAMILIES), len(TISSUES))
        positions_tx = torch.as_tensor(tokens.positions, dtype=torch.float32)
        self.register_buffer("positions_tx", positions_tx, persistent=False)
        self.register_buffer("location_tfc", torch.zeros(shape))
        self.register_buffer("spread_tfc", torch.ones(shape))
        self.embed = nn.Linear(shape[1] * shape[2], config.hidden_size, bias=False)
        # Lengths and angles of the content are kept: no direction starts with an advantage.
        nn.init.orthogonal_(self.embed.weight)
        self.positions_tx: Tensor
        self.location_tfc: Tensor
        self.spread_tfc: Tensor

    def unlike(self, described_btfc: Tensor) -> Tensor:
        """Return how tokens differ from the cohort's mean, in its spread, compressed.

        ``x / (|x|^2 / D + 0.1)^(compression / 2)``, with x the difference over the spread, whose
        squared length is D in the mean. The years that a token can tell grow less than its
        difference: an old brain's ventricles are many spreads from the mean. As a scan's tokens
        are compressed one by one, contributions stay local. Without
        `ModelConfig.centre_content` the mean is not taken away.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, T, F, C)
            0 where a token is as the cohort's are in the mean.
        """
        unlike = described_btfc - self.location_tfc if self.centred else described_btfc
        unlike = unlike / self.spread_tfc
        if self.compression == 0:
            return unlike
        length_bt11 = unlike.square().sum(dim=(2, 3), keepdim=True) / self.embed.out_features
        return unlike * (length_bt11 + LENGTH_FLOOR) ** (-self.compression / 2)

    def content(self, described_btfc: Tensor) -> Tensor:
        """Return the tokens' content: what they add to the cohort's mean.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, T, D)
            0 where a token is as the cohort's are in the mean.
        """
        content: Tensor = self.embed(self.unlike(described_btfc).flatten(2))
        return content
