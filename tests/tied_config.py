"""Shapes of networks whose experts are tied to regions of an atlas."""

from collections.abc import Callable
from typing import Any

import pytest

from ermoe_ba.config import changed
from ermoe_ba.model.config import ModelConfig


@pytest.fixture
def make_tied_config(small_config: ModelConfig) -> Callable[..., ModelConfig]:
    """As TOML gives it; every expert is eligible by its score, and a token may take all."""

    def make(regions: list[str], labels: dict[str, list[str | int]], **more: Any) -> ModelConfig:
        plain = {"regions": regions, "region_labels": labels, "region_atlas": "tiny.nii.gz"}
        top_k = len(regions) + small_config.num_free_experts
        return changed(small_config, plain | {"top_k": top_k, "score_threshold": -9.0} | more)

    return make
