"""Masked tokens: they are worth nothing, as if the network had never had them."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid

PIPELINES = Path(__file__).parents[1] / "pipelines"


@pytest.fixture
def masked_age(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    monkeypatch.syspath_prepend(str(PIPELINES))
    found: Callable[..., Tensor] = importlib.import_module("masked_age").masked_age
    return found


@torch.no_grad()
@pytest.mark.parametrize("of_atlas", [False, True])
def test_masked_tokens_are_as_good_as_none(
    make_member: Callable[..., ErmoeBrainAge],
    small_config: ModelConfig,
    small_tokens: TokenGrid,
    masked_age: Callable[..., Tensor],
    of_atlas: bool,
) -> None:
    """A network over every second token, its weights cut from those of the whole one.

    An atlas region fills tokens in turns of three, so that half of both kinds is left.
    """
    config = small_config
    tokens = small_tokens
    if of_atlas:
        labels = {"part": ("a label",)}
        config = replace(
            config, regions=("csf", "part"), region_labels=labels, region_atlas="tiny.nii.gz"
        )
        share_t = np.where(np.arange(len(tokens)) % 3 == 0, 1.0, 0.0)
        tokens = replace(tokens, region_shares={"part": share_t})
    whole = make_member(config=config, tokens=tokens)
    # Tokens that are left out would take their reference with them.
    whole.reference_te.zero_()
    inside = torch.arange(len(tokens)) % 2 == 0
    torch.manual_seed(4)
    scans = torch.rand(3, len(tokens), len(FAMILIES), len(TISSUES)).double()
    whole = whole.double()
    everywhere = torch.ones_like(inside)
    torch.testing.assert_close(masked_age(whole, scans, everywhere), whole.read_age(scans).age_b)
    part_tokens = TokenGrid(tokens.grid, tokens.patch_size, tokens.positions[inside.numpy()])
    part = ErmoeBrainAge(config, part_tokens).double().eval()
    part.load_state_dict(
        {
            name: value[inside] if name.split("_")[-1] in ("tfc", "td", "te") else value
            for name, value in whole.state_dict().items()
        }
    )
    expected = part.read_age(scans[:, inside]).age_b
    torch.testing.assert_close(masked_age(whole, scans, inside), expected)
    assert (masked_age(whole, scans, everywhere) - expected).abs().min() > 0.01
