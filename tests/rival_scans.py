"""What tests of rivals share: descriptions, rivals of random weights, settings that are quick."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from quick_settings import AGE, OPTIMISER
from torch import Tensor

from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.content import TokenContent
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.roster import make_mixture
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


@pytest.fixture
def make_rival(small_config: ModelConfig, small_tokens: TokenGrid) -> Callable[..., ErmoeBrainAge]:
    """Make a mixture whose read-outs no longer stand at zero, in evaluation mode."""

    def make(router: str) -> ErmoeBrainAge:
        torch.manual_seed(2)
        member = make_mixture(router, small_config, small_tokens)
        with torch.no_grad():
            for parameter in member.experts.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            member.reference_te.uniform_(-0.01, 0.01)
            centre_network(member, random_descriptions(small_tokens))
        return member.eval()

    return make
