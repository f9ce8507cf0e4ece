"""Descriptions that rivals read, and settings that train them in moments."""

from dataclasses import replace
from typing import Any

import torch
from quick_settings import AGE, OPTIMISER
from torch import Tensor

from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.model.content import TokenContent
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig
from ermoe_ba.training.content_centre import content_spread


def random_descriptions(tokens: TokenGrid, num_scans: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_scans, len(tokens), len(FAMILIES), len(TISSUES))
    described = torch.rand(shape, generator=generator)
    described = described / described.sum(dim=-1, keepdim=True)
    return described * torch.tensor(list(FAMILIES.values()))[:, None]


def centre_network(network: TokenContent, described: Tensor) -> None:
    """As `train_age` does before the first step."""
    network.location_tfc.copy_(described.mean(dim=0))
    network.spread_tfc.copy_(content_spread(described, 0.05, 12))
    network.baseline.fill_(48.0)
    network.scale.fill_(16.0)


def age_config(**changes: Any) -> AgeConfig:
    optimiser = replace(OPTIMISER, warmup_share=0.5)
    few = replace(AGE, num_variants=0, batch_size=2, weight_decay=0.1, optimiser=optimiser)
    return replace(few, **changes)
