"""Nine people whose descriptions are drawn, and quick settings of the age stage for them."""

from dataclasses import replace

import numpy as np
import torch
from quick_settings import AGE as QUICK_AGE
from quick_settings import OPTIMISER
from torch import Tensor

from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.tokens import TokenGrid

AGE = replace(QUICK_AGE, batch_size=3, optimiser=replace(OPTIMISER, warmup_share=0.5))
AGES = np.linspace(20.0, 80.0, 9)


def draw_descriptions(tokens: TokenGrid) -> Tensor:
    """Draw what a stem tells of each and of a changed copy: (9, 2, tokens, families, tissues)."""
    random = np.random.default_rng(11)
    shape = (len(AGES), 2, len(tokens), len(FAMILIES), len(TISSUES))
    return torch.as_tensor(random.uniform(0.05, 0.15, shape), dtype=torch.float32).half()
