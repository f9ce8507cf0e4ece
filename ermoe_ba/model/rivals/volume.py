"""Convolutional networks on whole volumes.

Shapes: B scans, N training scans, I J K voxels.
"""

from monai.networks.nets import DenseNet121, resnet18
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.rivals.plain import PlainNetwork
from ermoe_ba.model.rivals.sfcn import Sfcn


def _densenet121() -> nn.Module:
    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=1)


def _resnet18() -> nn.Module:
    # As published, the first convolution halves each axis; MONAI's default, at six times the cost,
    # does not.
    return resnet18(spatial_dims=3, n_input_channels=1, num_classes=1, conv1_t_stride=2)


CONVOLUTIONAL = {"sfcn": Sfcn, "densenet121": _densenet121, "resnet18": _resnet18}


class VolumeNetwork(PlainNetwork):
    """A network that is given the preprocessed scan and sees no tissue, token or expert.

    Parameters
    ----------
    name : {"sfcn", "densenet121", "resnet18"}
        Which: the simple fully convolutional network, or MONAI's DenseNet121 (Huang 2017, arXiv
        1608.06993) or ResNet-18 (He 2016, arXiv 1512.03385; in three dimensions Hara 2018).
    reduce : int
        The scan is averaged over cubes of that edge first: 1 for the model grid, 2 for half its
        resolution, an eighth of the cost.
    age_bounds : tuple of float
        As in `ModelConfig`.
    """

    # As the stem of the mixture shifts intensities: about zero mean in the brain.
    OFFSET = 0.7

    def __init__(self, name: str, reduce: int, age_bounds: tuple[float, ...] = ()) -> None:
        super().__init__(age_bounds)
        self.reduce = reduce
        self.network = CONVOLUTIONAL[name]()

    def forward(self, t1w_bijk: Tensor) -> Tensor:
        """Return ages of scans on the model grid.

        Parameters
        ----------
        t1w_bijk : Tensor
            Intensities, white matter 1.

        Returns
        -------
        Tensor, shape (B,)
            In years.
        """
        return self.read_age(self.reduced(t1w_bijk))

    def reduced(self, t1w_bijk: Tensor) -> Tensor:
        """Return scans as the network is trained on them, averaged over cubes.

        Parameters
        ----------
        t1w_bijk : Tensor
            Intensities on the model grid, white matter 1.

        Returns
        -------
        Tensor, shape (B, I / reduce, J / reduce, K / reduce)
            Rounded down.
        """
        return functional.avg_pool3d(t1w_bijk[:, None], self.reduce)[:, 0]

    def standard_age(self, inputs: Tensor) -> Tensor:
        """Return standardised ages from reduced scans.

        Parameters
        ----------
        inputs : Tensor
            From `reduced`.

        Returns
        -------
        Tensor, shape (B,)
            Standard deviations from the training scans' mean.
        """
        age_b: Tensor = self.network(inputs[:, None] - self.OFFSET)[:, 0]
        return age_b
