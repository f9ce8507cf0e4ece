"""What a token holds: the description of its tissue, as a vector.

Shapes: B scans, T tokens, F families of description, C tissue classes, D hidden_size.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.config import FAMILIES, TISSUES


class TokenContent(nn.Module):
    """A network whose tokens say what they add to the cohort's mean, by one linear map for all.

    The centre and the spread of the descriptions are the training cohort's; `train_age` sets them.
    """

    def hold_content(self, num_tokens: int, hidden_size: int) -> None:
        """Make what content is computed with.

        Parameters
        ----------
        num_tokens, hidden_size : int
            T and D.
        """
        shape = (num_tokens, len(FAMILIES), len(TISSUES))
        self.register_buffer("location_tfc", torch.zeros(shape))
        self.register_buffer("spread_tfc", torch.ones(shape))
        self.embed = nn.Linear(shape[1] * shape[2], hidden_size, bias=False)
        # Lengths and angles of the content are kept: no direction starts with an advantage.
        nn.init.orthogonal_(self.embed.weight)
        self.location_tfc: Tensor
        self.spread_tfc: Tensor

    def content(self, described_btfc: Tensor) -> Tensor:
        """Return the tokens' content, what they add to the cohort's mean, shape (B, T, D)."""
        unlike = (described_btfc - self.location_tfc) / self.spread_tfc
        content: Tensor = self.embed(unlike.flatten(2))
        return content
