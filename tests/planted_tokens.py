"""Descriptions of scans with an effect of age that is planted at one token."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid


@dataclass(frozen=True)
class Planted:
    """Descriptions of scans whose age is in the ventricles of one token and nowhere else."""

    described: Tensor
    ages: Array
    token: int


def plant(tokens: TokenGrid, num_scans: int, seed: int) -> Planted:
    random = np.random.default_rng(seed)
    token = len(tokens) // 2
    shape = (num_scans, 1, len(tokens), len(FAMILIES), len(TISSUES))
    # Far below the floor of the spread: what varies by chance must not drown what is planted.
    described = random.uniform(0.099, 0.101, shape)
    ages = random.uniform(20, 80, num_scans)
    share = 0.1 + 0.6 * (ages - 20) / 60
    # A change of tissue shows in every family.
    described[:, 0, token, :, TISSUES.index("ventricles")] = share[:, None]
    described[:, :, :, 0] /= described[:, :, :, 0].sum(axis=-1, keepdims=True)
    described *= np.array(list(FAMILIES.values()))[:, None]
    return Planted(torch.as_tensor(described, dtype=torch.float32).half(), ages, token)
