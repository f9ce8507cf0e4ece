"""Changes that a brain's age must survive: another mask, another position, another scanner."""

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
)
from scipy.ndimage import binary_erosion
from torch import Tensor

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.space import Array


def jitter_mask(t1w: Array, brain: Array, random: np.random.Generator) -> Array:
    """Cut a scan by a mask a little smaller than its own, as another brain extraction would.

    The mask alone was measured to move predictions by years in models that knew one kind only.

    Parameters
    ----------
    t1w : ndarray, shape (I, J, K)
        Intensities, zero beyond the rim of the brain.
    brain : ndarray of bool, shape (I, J, K)
        The brain mask, without the rim.
    random : Generator
        Draws one of four: as it is (half of the draws), without the rim, eroded by one voxel, or
        eroded in patches.

    Returns
    -------
    ndarray
        Intensities inside the mask drawn, 0 outside.
    """
    kind = random.choice(4, p=[0.5, 0.2, 0.15, 0.15])
    if kind == 0:
        return t1w
    if kind == 1:
        return t1w * brain
    eroded = binary_erosion(brain)
    if kind == 3:
        # Patches of 8 voxels (16 mm): some of the surface eroded, some not.
        coarse = random.random(tuple(-(-n // 8) for n in brain.shape)) < 0.5
        patches = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)
        i, j, k = brain.shape
        eroded = np.where(patches[:i, :j, :k], eroded, brain)
    return np.asarray(t1w * eroded)


class ScanVariants:
    """Whole scans as another session might have given them.

    Small affine errors are those of registration (about 1 mm and 2 %); contrast, bias and noise
    those of scanners; the flip exchanges left and right, in which ageing is nearly symmetric.

    Parameters
    ----------
    seed : int
        Of all draws.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.change = Compose(
            [
                RandFlip(prob=0.5, spatial_axis=0),
                RandAffine(
                    prob=0.8,
                    rotate_range=(0.02, 0.02, 0.02),
                    translate_range=(0.5, 0.5, 0.5),
                    scale_range=(0.015, 0.015, 0.015),
                    mode="bilinear",
                    padding_mode="zeros",
                ),
                # Along each axis on its own: slices of 3 mm blur as 0.6 voxels do, of 4 mm as 0.8.
                RandGaussianSmooth(
                    prob=0.5, sigma_x=(0.0, 0.8), sigma_y=(0.0, 0.8), sigma_z=(0.0, 0.8)
                ),
                RandBiasField(prob=0.3, coeff_range=(0.0, 0.03)),
                RandAdjustContrast(prob=0.3, gamma=(0.9, 1.1)),
                RandGaussianNoise(prob=0.5, std=0.03),
            ]
        )
        self.change.set_random_state(seed)

    def __call__(self, scan: PreparedScan) -> Tensor:
        """Return one variant of a scan's intensities, shape (I, J, K)."""
        t1w = jitter_mask(scan.t1w.data, scan.brain_mask.data > 0, self.random)
        changed = self.change(torch.as_tensor(t1w)[None])
        return torch.as_tensor(changed.as_tensor()[0], dtype=torch.float32)
