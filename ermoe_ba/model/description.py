"""What a scan looks like at each token: how much of each tissue, and of what kind.

Shapes: B scans, I J K voxels, T tokens, F families of description, C tissue classes.
"""

from torch import Tensor, nn

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.patches import PatchTokens
from ermoe_ba.model.stem import VoxelStem, grid_coordinates
from ermoe_ba.tokens import TokenGrid


class TokenDescription(nn.Module):
    """A network that looks at voxels with a stem, and at tissues token by token."""

    def hold_stem(self, tokens: TokenGrid, config: ModelConfig) -> None:
        """Make what scans are described with.

        Parameters
        ----------
        tokens : TokenGrid
            Where the T tokens lie.
        config : ModelConfig
            Shape of the network.
        """
        self.stem = VoxelStem(config.stem_hidden)
        self.patches = PatchTokens(tokens)
        coordinates = self.patches.box(grid_coordinates(tokens.grid.shape))
        coordinates_txijk = self.patches.windows(coordinates[None], 0)[0]
        self.register_buffer("coordinates_txijk", coordinates_txijk, persistent=False)
        self.coordinates_txijk: Tensor

    def describe(self, t1w_bijk: Tensor) -> Tensor:
        """Return how much of each tissue the tokens hold, and what it looks like.

        Parameters
        ----------
        t1w_bijk : Tensor
            Intensities on the model grid, white matter 1.

        Returns
        -------
        Tensor, shape (B, T, F, C)
            Families as in `FAMILIES`, tissues as in `TISSUES`.
        """
        box = self.patches.box(t1w_bijk)
        near, far = self.stem.pictures(box)
        # Token by token: less than half of the box's voxels lie in one.
        windows_n = (
            self.patches.windows(near, self.stem.NEAR_REACH),
            self.patches.windows(far, self.stem.FAR_REACH),
            self.coordinates_txijk.expand(len(box), *self.coordinates_txijk.shape),
        )
        logits_ncijk = self.stem(*(window.flatten(0, 1) for window in windows_n))
        logits_btcv = logits_ncijk.unflatten(0, (len(box), -1)).flatten(3)
        return self.patches.describe(logits_btcv.softmax(dim=2), box)
