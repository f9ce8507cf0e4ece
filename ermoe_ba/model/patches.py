"""The patches that are tokens, and what the tissue in them looks like.

Shapes: B scans, I J K voxels, T tokens, F families of description, C tissue classes, V voxels of a
patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import FAMILIES
from ermoe_ba.model.stem import local_mean
from ermoe_ba.tokens import TokenGrid


class PatchTokens(nn.Module):
    """The patches that are tokens: cut out of a volume as one box, then patch by patch.

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
        self.register_buffer(
            "positions_xt", torch.as_tensor((tokens.positions - low).T), persistent=False
        )
        self.positions_xt: Tensor

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

    def windows(self, bordered_bcijk: Tensor, reach: int) -> Tensor:
        """Cut the tokens out of a box, each with some voxels around it.

        Parameters
        ----------
        bordered_bcijk : Tensor
            Values on the box and on a border of `reach` voxels around it.
        reach : int
            Voxels around each token.

        Returns
        -------
        Tensor, shape (B, T, C, W, W, W)
            With ``W = patch_size + 2 reach``.
        """
        edge = self.patch_size + 2 * reach
        lattice = bordered_bcijk
        for axis in (2, 3, 4):
            lattice = lattice.unfold(axis, edge, self.patch_size)
        i, j, k = self.positions_xt
        return lattice.permute(0, 2, 3, 4, 1, 5, 6, 7)[:, i, j, k]

    def gather(self, box_bcijk: Tensor) -> Tensor:
        """Cut the tokens out of a box.

        Parameters
        ----------
        box_bcijk : Tensor
            Values on the box.

        Returns
        -------
        Tensor, shape (B, T, C, V)
            The voxels of each token, in C order.
        """
        return self.windows(box_bcijk, 0).flatten(3)

    def describe(self, tissue_btcv: Tensor, t1w_bijk: Tensor) -> Tensor:
        """Describe each token: how much of each tissue it holds, and what that tissue looks like.

        The families, averaged over the token's voxels, with p_c the probability of tissue c and I
        the intensity: ``fraction`` p_c; ``intensity`` p_c I; ``contrast`` p_c sd(I), the standard
        deviation over 3 x 3 x 3 voxels; ``border`` p_c (1 - p_c), where tissues meet or mix.

        Parameters
        ----------
        tissue_btcv : Tensor
            Probabilities of the tissue classes in the tokens' voxels.
        t1w_bijk : Tensor
            Intensities on the box, white matter 1.

        Returns
        -------
        Tensor, shape (B, T, F, C)
            The families in the order of `FAMILIES`.
        """
        image = t1w_bijk[:, None]
        variance = local_mean(image.square(), 3) - local_mean(image, 3).square()
        # Rounding can leave a variance of nothing a little below 0.
        looks = torch.cat([image, variance.clamp_min(0.0).sqrt()], dim=1)
        looks_btlv = self.gather(looks)
        fraction = tissue_btcv.mean(dim=-1)
        intensity, contrast = (looks_btlv @ tissue_btcv.mT / tissue_btcv.shape[-1]).unbind(dim=2)
        border = fraction - tissue_btcv.square().mean(dim=-1)
        families = {
            "fraction": fraction,
            "intensity": intensity,
            "contrast": contrast,
            "border": border,
        }
        return torch.stack([families[name] for name in FAMILIES], dim=2)
