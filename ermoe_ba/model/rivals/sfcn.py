"""The simple fully convolutional network.

Shapes: B scans, I J K voxels.
"""

from torch import Tensor, nn


class Sfcn(nn.Module):
    """Six convolutions, five halvings, one mean: SFCN (Peng 2021, Med Image Anal 68:101871).

    Blocks of 3 x 3 x 3 convolution, batch norm, max pooling and ReLU with 32, 64, 128, 256 and 256
    channels, a 1 x 1 x 1 block with 64, average pooling, dropout of one half, and a linear layer.
    The published network answers with a distribution over age bins; here it answers with one
    number, for the loss that all rivals share.
    """

    CHANNELS = (32, 64, 128, 256, 256)
    LAST_CHANNELS = 64
    DROPOUT = 0.5

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for after in self.CHANNELS:
            layers += [
                nn.Conv3d(before, after, 3, padding=1),
                nn.BatchNorm3d(after),
                nn.MaxPool3d(2),
                nn.ReLU(),
            ]
            before = after
        layers += [
            nn.Conv3d(before, self.LAST_CHANNELS, 1),
            nn.BatchNorm3d(self.LAST_CHANNELS),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Dropout(self.DROPOUT),
            nn.Linear(self.LAST_CHANNELS, 1),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, image_bxijk: Tensor) -> Tensor:
        """Return one number a scan.

        Parameters
        ----------
        image_bxijk : Tensor
            Images of one channel, shape (B, 1, I, J, K).

        Returns
        -------
        Tensor, shape (B, 1)
            Unbounded.
        """
        answer_b1: Tensor = self.layers(image_bxijk)
        return answer_b1
