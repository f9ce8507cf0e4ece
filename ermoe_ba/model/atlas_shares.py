"""How much of each token the regions of an atlas fill: known by its place, whatever the scan.

Shapes: B scans, T tokens, E regional experts.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.tokens import TokenGrid


class AtlasShares(nn.Module):
    """The shares of regions that an atlas gives, beside those that the stem sees.

    They are kept with the weights, so that a trained network needs no atlas; a network without such
    regions keeps nothing.

    Parameters
    ----------
    config : ModelConfig
        Names the regions.
    tokens : TokenGrid
        Knows their shares where the network is to be trained; where trained weights are to be read,
        it need not.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid) -> None:
        super().__init__()
        self.regions, self.columns = config.atlas_regions, config.regions
        share_te = None
        if self.regions:
            known = dict.fromkeys(config.regions, np.zeros(len(tokens)))
            known |= dict.fromkeys(self.regions, np.full(len(tokens), np.nan))
            known |= {name: tokens.region_shares.get(name, known[name]) for name in self.regions}
            columns = [known[name] for name in config.regions]
            share_te = torch.as_tensor(np.stack(columns, axis=1), dtype=torch.float32)
        self.register_buffer("share_te", share_te)
        self.share_te: Tensor | None

    def forward(self, tissue_bte: Tensor) -> Tensor:
        """Return how much of each token each regional expert's region fills.

        Parameters
        ----------
        tissue_bte : Tensor
            The same of regions that are made of tissues, as the stem sees them; 0 for the others.

        Returns
        -------
        Tensor, shape (B, T, E)
            0 to 1.

        Raises
        ------
        ValueError
            If the shares are not known.
        """
        share_te = self._known()
        # Each expert's share is 0 in one of the two.
        return tissue_bte if share_te is None else tissue_bte + share_te

    def placed(self, tokens: TokenGrid) -> TokenGrid:
        """Return tokens that know what these weights hold of an atlas, for a network like theirs.

        The atlas itself may be gone, or have changed since.

        Parameters
        ----------
        tokens : TokenGrid
            Of the network that the shares belong to.

        Returns
        -------
        TokenGrid
            The same tokens, with `region_shares`; as they were where no region is of an atlas.

        Raises
        ------
        ValueError
            If the shares are not known.
        """
        share_te = self._known()
        if share_te is None:
            return tokens
        by_name = dict(zip(self.columns, share_te.cpu().numpy().T, strict=True))
        return replace(tokens, region_shares={name: by_name[name] for name in self.regions})

    def _known(self) -> Tensor | None:
        """Return the shares, or None where no region is of an atlas."""
        if self.share_te is not None and self.share_te.isnan().any():
            raise ValueError(
                f"How much of each token {', '.join(self.regions)} fill must be known; found "
                "nothing of it. Make the network with tokens from `place_regions`, or read trained "
                "weights."
            )
        return self.share_te
