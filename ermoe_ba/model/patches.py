"""The patches that are tokens, and what the tissue in them looks like.

Shapes: B scans, I J K voxels, T tokens, F families of description, C tissue classes.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import FAMILIES
from ermoe_ba.model.stem import local_mean
from ermoe_ba.tokens import TokenGrid


class PatchTokens(nn.Module):
    """The patches that are tokens: cut out of a volume as one box, then pooled patch by patch.

    Parameters
    ----------
    tokens : TokenGrid
        Which patches are tokens.
    """

    def __init__(self, tokens: TokenGrid) -> None:
        super().__init__()
        self.patch_size = tokens.patch_size
        # torch pads the last axis first.
        self.padding = [n for pair in reversed(tokens.padding) for n in pair]
        low, high = tokens.positions.min(axis=0), tokens.positions.max(axis=0) + 1
        self.voxels = tuple(
            slice(int(a), int(b))
            for a, b in zip(low * self.patch_size, high * self.patch_size, strict=True)
        )
        flat = np.ravel_multi_index(tuple((tokens.positions - low).T), tuple(high - low))
        self.register_buffer("index_t", torch.as_tensor(flat), persistent=False)
        self.index_t: Tensor

    def box(self, volumes: Tensor) -> Tensor:
        """Return the smallest box of whole patches that holds all tokens.

        Parameters
        ----------
        volumes : Tensor, shape (..., I, J, K)
            On the model grid; patches that reach beyond it are filled with 0.

        Returns
        -------
        Tensor, shape (..., I', J', K')
            The box, each edge a multiple of the patch.
        """
        padded = functional.pad(volumes, self.padding)
        i, j, k = self.voxels
        return padded[..., i, j, k]

    def pool(self, box_bcijk: Tensor) -> Tensor:
        """Average a box's values over the tokens.

        Parameters
        ----------
        box_bcijk : Tensor
            Values on the box.

        Returns
        -------
        Tensor, shape (B, T, C)
            Mean in each token.
        """
        patches = functional.avg_pool3d(box_bcijk, self.patch_size)
        return patches.flatten(2)[..., self.index_t].transpose(1, 2)

    def describe(self, tissue_bcijk: Tensor, t1w_bijk: Tensor) -> Tensor:
        """Describe each token: how much of each tissue it holds, and what that tissue looks like.

        The families, averaged over the token's voxels, with p_c the probability of tissue c and I
        the intensity: ``fraction`` p_c; ``intensity`` p_c I; ``contrast`` p_c sd(I), the standard
        deviation over 3 x 3 x 3 voxels; ``border`` p_c (1 - p_c), where tissues meet or mix.

        Parameters
        ----------
        tissue_bcijk : Tensor
            Probabilities of the tissue classes on the box.
        t1w_bijk : Tensor
            Intensities on the box, white matter 1.

        Returns
        -------
        Tensor, shape (B, T, F, C)
            The families in the order of `FAMILIES`.
        """
        image = t1w_bijk[:, None]
        variance = local_mean(image.square(), 3) - local_mean(image, 3).square()
        families = {
            "fraction": lambda: tissue_bcijk,
            "intensity": lambda: tissue_bcijk * image,
            # Rounding can leave a variance of nothing a little below 0.
            "contrast": lambda: tissue_bcijk * variance.clamp_min(0.0).sqrt(),
            "border": lambda: tissue_bcijk * (1.0 - tissue_bcijk),
        }
        # One family at a time: together they would take four times the memory of the stem's output.
        return torch.stack([self.pool(families[name]()) for name in FAMILIES], dim=2)
