"""Copies of scans changed as a brain's age must survive: by mask, position and scanner."""

import math

import numpy as np
import torch
from monai.transforms import (
    Compose,
    Rand3DElastic,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
)
from scipy.ndimage import binary_erosion
from torch import Tensor

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.space import Array
from ermoe_ba.training.change_config import USUAL, ChangeConfig

# Of a change of the mask: cut at the rim, eroded by one voxel, eroded in patches.
MASK_KINDS = (0.4, 0.3, 0.3)


def jitter_mask(
    t1w: Array,
    brain: Array,
    random: np.random.Generator,
    probability: float = USUAL.mask.probability,
) -> Array:
    """Cut a scan by a mask a little smaller than its own, as another brain extraction would.

    Parameters
    ----------
    t1w : ndarray, shape (I, J, K)
        Intensities, zero beyond the rim of the brain.
    brain : ndarray of bool, shape (I, J, K)
        The brain mask, without the rim.
    random : Generator
        Draws one of four: as it is, without the rim, eroded by one voxel, or eroded in patches.
    probability : float
        Of any but the first; among themselves they are drawn by `MASK_KINDS`.

    Returns
    -------
    ndarray
        Intensities inside the mask drawn, 0 outside.
    """
    kind = random.choice(4, p=[1 - probability, *(probability * kind for kind in MASK_KINDS)])
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

    Parameters
    ----------
    seed : int
        Of all draws; those of a change do not depend on which others there are.
    config : ChangeConfig
        Which changes, and how large.
    """

    def __init__(self, seed: int, config: ChangeConfig = USUAL) -> None:
        self.random = np.random.default_rng(seed)
        self.mask = config.mask
        elastic, gain, affine = config.elastic, config.gain, config.affine
        warp = Rand3DElastic(
            prob=elastic.probability,
            sigma_range=(elastic.smoothness, elastic.smoothness),
            magnitude_range=(elastic_magnitude(elastic.displacement, elastic.smoothness),) * 2,
            mode="bilinear",
            padding_mode="zeros",
        )
        scale = RandScaleIntensity(factors=gain.share, prob=gain.probability)
        # At probability 0 a warp would sample every scan anew, if only at its own voxels.
        self.before = Compose([scale, warp] if elastic.probability > 0 else [scale])
        self.change = Compose(
            [
                RandFlip(prob=config.flip.probability, spatial_axis=0),
                RandAffine(
                    prob=affine.probability,
                    rotate_range=(affine.rotation,) * 3,
                    translate_range=(affine.translation,) * 3,
                    scale_range=(affine.scaling,) * 3,
                    mode="bilinear",
                    padding_mode="zeros",
                ),
                RandGaussianSmooth(
                    prob=config.blur.probability,
                    sigma_x=(0.0, config.blur.deviation),
                    sigma_y=(0.0, config.blur.deviation),
                    sigma_z=(0.0, config.blur.deviation),
                ),
                RandBiasField(
                    prob=config.bias.probability, coeff_range=(0.0, config.bias.coefficient)
                ),
                RandAdjustContrast(
                    prob=config.contrast.probability,
                    gamma=(1 - config.contrast.exponent, 1 + config.contrast.exponent),
                ),
                RandGaussianNoise(prob=config.noise.probability, std=config.noise.deviation),
            ]
        )
        # A composition hands seeds to its parts in their order, so the warp comes last of its own.
        self.before.set_random_state(seed)
        self.change.set_random_state(seed)

    def __call__(self, scan: PreparedScan) -> Tensor:
        """Return one variant of a scan's intensities, shape (I, J, K)."""
        brain = scan.brain_mask.data > 0
        t1w = jitter_mask(scan.t1w.data, brain, self.random, self.mask.probability)
        changed = self.change(self.before(torch.as_tensor(t1w)[None]))
        return torch.as_tensor(changed.as_tensor()[0], dtype=torch.float32)


def elastic_magnitude(displacement: float, smoothness: float) -> float:
    """Return the size of random displacements that have a given deviation once they are smoothed.

    Displacements are drawn evenly between ``-m`` and ``m`` at each voxel, whose deviation is
    ``m / sqrt(3)``, and convolved with a Gaussian g of deviation s; the sum of its squares over a
    lattice of three axes is ``(2 s sqrt(pi))^-3``.

    Parameters
    ----------
    displacement : float
        Wanted standard deviation, in voxels.
    smoothness : float
        s in voxels, one or more.

    Returns
    -------
    float
        m in voxels.
    """
    return displacement * math.sqrt(3.0) * (2.0 * smoothness * math.sqrt(math.pi)) ** 1.5
