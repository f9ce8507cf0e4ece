"""Learning from ages with the stem: all of a member learns, and at a rate of 0 nothing does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quick_settings import AGE
from tiny_study import make_scan

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.ermoe import ErmoeBrainAge

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# A fixture, which pytest finds by name.
__all__ = ["make_scan"]


def test_the_stem_learns_as_well_as_the_experts(
    recipe_names: Callable[[str], dict[str, Any]],
    make_member: Callable[..., ErmoeBrainAge],
    make_scan: Callable[[str, float], PreparedScan],
) -> None:
    scans = [make_scan(f"{n:02}", n / 4) for n in range(4)]
    train_on = recipe_names("end_to_end_trial")["train_on"]
    before = {name: p.detach().clone() for name, p in make_member().named_parameters()}
    for rate, moves in ((0.01, True), (0.0, False)):
        member = make_member()
        config = replace(AGE, optimiser=replace(AGE.optimiser, learning_rate=rate))
        train_on(member, scans, np.linspace(30.0, 60.0, 4), config, seed=1)
        for name in ("stem.classes.weight", "experts.position_readout_td", "embed.weight"):
            after = dict(member.named_parameters())[name]
            assert after.equal(before[name]) is not moves, name
