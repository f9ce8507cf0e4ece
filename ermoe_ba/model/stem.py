"""The voxel stem: what tissue each voxel is.

Shapes: B scans, I J K voxels, C tissue classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import TISSUES


class VoxelStem(nn.Module):
    """From a voxel's neighbourhood to its tissue class, by one small network at every voxel.

    A voxel is seen through two windows of 5 x 5 x 5 samples: its neighbours (10 mm), and every
    second voxel of the locally averaged scan (18 mm), together with its coordinates. What the stem
    says of a voxel therefore depends on nothing farther than 10 mm from it: contributions that are
    read from its output stay local.

    Parameters
    ----------
    hidden : int
        Width of the two hidden layers.
    """

    # Samples along each edge of a window.
    WINDOW = 5
    # The far window takes every second voxel, each the mean of its 3 x 3 x 3 neighbours.
    FAR_STEP = 2
    FAR_MEAN = 3
    # Planes computed at a time: their hidden layers then stay in the processor's cache.
    SLAB = 8
    # Intensities are shifted to about zero mean in the brain (white matter is 1, CSF about 0.4).
    OFFSET = 0.7

    def __init__(self, hidden: int) -> None:
        super().__init__()
        samples = self.WINDOW**3
        self.near = nn.Linear(samples, hidden)
        self.far = nn.Linear(samples, hidden, bias=False)
        self.place = nn.Linear(3, hidden, bias=False)
        self.middle = nn.Linear(hidden, hidden)
        self.classes = nn.Linear(hidden, len(TISSUES))

    def forward(self, t1w_bijk: Tensor, coordinates_xijk: Tensor) -> Tensor:
        """Return the logits of the tissue classes at every voxel.

        Parameters
        ----------
        t1w_bijk : Tensor
            Intensities, white matter 1.
        coordinates_xijk : Tensor
            Coordinates of each voxel, -1 to 1 over the grid, three channels.

        Returns
        -------
        Tensor, shape (B, C, I, J, K)
            Logits.
        """
        image = t1w_bijk[:, None] - self.OFFSET
        reach, edge = self.WINDOW // 2, -self.OFFSET
        near = functional.pad(image, (reach,) * 6, value=edge)
        far_reach = self.FAR_STEP * reach
        far = functional.pad(local_mean(image, self.FAR_MEAN), (far_reach,) * 6, value=edge)
        planes = t1w_bijk.shape[1]
        logits = [
            self._slab(
                near[:, :, start : start + self.SLAB + 2 * reach],
                far[:, :, start : start + self.SLAB + 2 * far_reach],
                coordinates_xijk[:, start : start + self.SLAB],
            )
            for start in range(0, planes, self.SLAB)
        ]
        return torch.cat(logits, dim=2)

    def _slab(self, near_bijk: Tensor, far_bijk: Tensor, coordinates_xijk: Tensor) -> Tensor:
        """Return the logits of some planes, whose windows the two pictures reach around."""
        near = functional.conv3d(near_bijk, self._kernel(self.near), self.near.bias)
        far = functional.conv3d(far_bijk, self._kernel(self.far), dilation=self.FAR_STEP)
        place = functional.conv3d(coordinates_xijk[None], self.place.weight[:, :, None, None, None])
        hidden = functional.gelu(near + far + place)
        hidden = functional.gelu(_pointwise(hidden, self.middle))
        return _pointwise(hidden, self.classes)

    def of_samples(self, near_ns: Tensor, far_ns: Tensor, coordinates_nx: Tensor) -> Tensor:
        """Return the logits of single voxels, the same as `forward` gives there.

        Parameters
        ----------
        near_ns, far_ns : Tensor, shape (N, 125)
            Intensities in the two windows of each voxel.
        coordinates_nx : Tensor, shape (N, 3)
            Coordinates of each voxel.

        Returns
        -------
        Tensor, shape (N, C)
            Logits.
        """
        hidden = self.near(near_ns - self.OFFSET) + self.far(far_ns - self.OFFSET)
        hidden = functional.gelu(hidden + self.place(coordinates_nx))
        logits: Tensor = self.classes(functional.gelu(self.middle(hidden)))
        return logits

    def _kernel(self, layer: nn.Linear) -> Tensor:
        return layer.weight.unflatten(1, (1, *(self.WINDOW,) * 3))


def local_mean(image: Tensor, size: int) -> Tensor:
    """Return the mean over cubes of an odd edge, edge values repeated; shape (B, 1, I, J, K)."""
    padded = functional.pad(image, (size // 2,) * 6, mode="replicate")
    return functional.avg_pool3d(padded, size, stride=1)


def _pointwise(x_bhijk: Tensor, layer: nn.Linear) -> Tensor:
    """Apply a linear layer to the channels of each voxel."""
    return functional.conv3d(x_bhijk, layer.weight[:, :, None, None, None], layer.bias)


def grid_coordinates(shape: tuple[int, int, int]) -> Tensor:
    """Return voxel coordinates from -1 to 1 along each axis, shape (3, I, J, K)."""
    axes = [torch.linspace(-1.0, 1.0, n) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
