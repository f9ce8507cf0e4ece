"""The voxel stem: what tissue each voxel is.

Shapes: B scans, N boxes of them, I J K voxels, V voxels of a box, C tissue classes, H hidden.
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
    # Voxels from a voxel to the edge of its windows.
    NEAR_REACH = WINDOW // 2
    FAR_REACH = FAR_STEP * NEAR_REACH
    # Voxels computed at a time: their hidden layers then stay in the processor's cache.
    BATCH_VOXELS = 8192
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

    def pictures(self, t1w_bijk: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two pictures that the windows look at.

        Parameters
        ----------
        t1w_bijk : Tensor
            Intensities, white matter 1.

        Returns
        -------
        Tensor, shape (B, 1, I + 2 NEAR_REACH, J + 2 NEAR_REACH, K + 2 NEAR_REACH)
            The scan with a border as wide as the near window reaches.
        Tensor, shape (B, 1, I + 2 FAR_REACH, J + 2 FAR_REACH, K + 2 FAR_REACH)
            The averaged scan, with that of the far window.
        """
        image = t1w_bijk[:, None] - self.OFFSET
        averaged = local_mean(image, self.FAR_MEAN)
        near = functional.pad(image, (self.NEAR_REACH,) * 6, value=-self.OFFSET)
        return near, functional.pad(averaged, (self.FAR_REACH,) * 6, value=-self.OFFSET)

    def forward(self, near_nijk: Tensor, far_nijk: Tensor, coordinates_nxijk: Tensor) -> Tensor:
        """Return the logits of the tissue classes at every voxel of some boxes.

        Parameters
        ----------
        near_nijk, far_nijk : Tensor
            What `pictures` returns, or N boxes out of it with their borders, of one channel.
        coordinates_nxijk : Tensor
            Coordinates of each voxel, -1 to 1 over the grid, three channels.

        Returns
        -------
        Tensor, shape (N, C, I, J, K)
            Logits.
        """
        at_once = max(1, self.BATCH_VOXELS // coordinates_nxijk[0, 0].numel())
        parts = (x.split(at_once) for x in (near_nijk, far_nijk, coordinates_nxijk))
        logits_ncv = torch.cat([self._logits(*part) for part in zip(*parts, strict=True)])
        return logits_ncv.unflatten(2, coordinates_nxijk.shape[2:])

    def _logits(self, near_nijk: Tensor, far_nijk: Tensor, coordinates_nxijk: Tensor) -> Tensor:
        near = functional.conv3d(near_nijk, self._kernel(self.near), self.near.bias)
        far = functional.conv3d(far_nijk, self._kernel(self.far), dilation=self.FAR_STEP)
        seen = (near + far).flatten(2)
        hidden = functional.gelu(_pointwise(self.place, coordinates_nxijk.flatten(2), seen))
        hidden = functional.gelu(_pointwise(self.middle, hidden, self.middle.bias[:, None]))
        return _pointwise(self.classes, hidden, self.classes.bias[:, None])

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
    """Return the mean over cubes of an odd edge, edge values repeated.

    One axis after the other: 9 values a voxel in place of 27.

    Parameters
    ----------
    image : Tensor, shape (B, 1, I, J, K)
        Any values.
    size : int
        Edge of the cubes in voxels, odd.

    Returns
    -------
    Tensor, shape (B, 1, I, J, K)
        In the unit of the image.
    """
    total = functional.pad(image, (size // 2,) * 6, mode="replicate")
    for axis in (-3, -2, -1):
        length = total.shape[axis] - size + 1
        shifted = [total.narrow(axis, start, length) for start in range(size)]
        total = sum(shifted[1:], shifted[0])
    return total / size**3


def _pointwise(layer: nn.Linear, x_nhv: Tensor, plus: Tensor) -> Tensor:
    """Return the layer's weights times the channels of each voxel, plus something."""
    # `weight @ x` would lay all voxels out anew; a batch of products reads them where they are.
    return torch.baddbmm(plus, layer.weight.expand(len(x_nhv), -1, -1), x_nhv)


def grid_coordinates(shape: tuple[int, int, int]) -> Tensor:
    """Return voxel coordinates.

    Parameters
    ----------
    shape : tuple of int
        I, J and K.

    Returns
    -------
    Tensor, shape (3, I, J, K)
        From -1 to 1 along each axis.
    """
    axes = [torch.linspace(-1.0, 1.0, n) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
