"""Routing inside the network: what it looks at, whom regions let serve, what a step teaches it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")
MakeMember = Callable[..., ErmoeBrainAge]
# How far the stem sees: two steps of two voxels, and one voxel of averaging.
REACH = 5


@torch.no_grad()
def test_a_brain_and_its_opposite_are_routed_differently(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    """The place's code tells them apart; without it every cosine is the same."""
    member = make_member()
    deviation = member.describe(small_scans) - member.location_tfc
    both = [member.location_tfc + deviation, member.location_tfc - deviation]

    def apart() -> float:
        one, other = (member.read_age(b).routing.scores_bte for b in both)
        return float((one - other).abs().max())

    member.context.query.weight.zero_()
    member.context.key.weight.zero_()
    assert apart() > 0.1
    member.place_td.zero_()
    assert apart() < 1e-4


@torch.no_grad()
def test_with_routing_held_contributions_change_only_within_the_stems_reach(
    make_member: MakeMember, small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    member, scan = make_member(), small_scans[:1]
    before = member(scan)
    changed_token = 0
    low = np.array([low for low, _ in small_tokens.padding])
    starts = small_tokens.positions * 4 - low
    mark = torch.zeros(small_tokens.grid.shape, dtype=torch.bool)
    region = tuple(slice(max(s, 0), s + 4) for s in starts[changed_token])
    mark[region] = True
    changed = member.describe(torch.where(mark, scan + 0.7, scan))
    after = member.read_age(changed, before.routing)
    gap = np.abs(starts - starts[changed_token]) - 3
    near = (gap <= REACH).all(axis=1)
    differs = (after.contributions_bte != before.contributions_bte).any(dim=2)[0].numpy()
    assert not near.all()
    assert differs[changed_token]
    # The neighbours' windows reach into the changed token.
    assert differs.sum() > 1
    assert not differs[~near].any()


@torch.no_grad()
def test_own_routing_may_look_at_the_whole_brain(
    make_member: MakeMember, small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    """The counterpart: without held routing the context carries a change to far tokens."""
    member, scan = make_member(), small_scans[:1]
    changed = scan.clone()
    changed[:, :, :3] += 0.7
    far = small_tokens.positions[:, 1] >= 3
    before, after = member(scan), member(changed)
    scores = (before.routing.scores_bte - after.routing.scores_bte)[0, far]
    assert scores.abs().max() > 1e-4


@torch.no_grad()
def test_given_routing_is_taken(make_member: MakeMember, small_scans: Tensor) -> None:
    member = make_member()
    described = member.describe(small_scans)
    output = member.read_age(described)
    weights = torch.zeros_like(output.routing.weights_bte)
    weights[..., 3] = 1.0
    member.reference_te.zero_()
    rerouted = member.read_age(described, replace(output.routing, weights_bte=weights))
    assert rerouted.contributions_bte[..., [0, 1, 2, 4]].abs().max() == 0
    assert rerouted.contributions_bte[..., 3].abs().min() > 0


@torch.no_grad()
def test_regional_experts_serve_where_their_region_is(
    make_member: MakeMember, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Every second token all cortex, the others all ventricle."""
    # The k of all experts, whatever their scores: the region alone decides.
    config = replace(small_config, top_k=5, score_threshold=-100.0)
    member = make_member(config=config)
    classes = torch.full((len(small_tokens),), TISSUES.index("ventricles"))
    classes[::2] = TISSUES.index("cortex")
    described = torch.zeros(1, len(small_tokens), len(FAMILIES), len(TISSUES))
    described[:, :, 0] = functional.one_hot(classes, len(TISSUES))
    selected = member.read_age(described).routing.selected_bte[0]
    assert selected[::2].unique(dim=0).tolist() == [[True, False, True, True, True]]
    assert selected[1::2].unique(dim=0).tolist() == [[False, True, True, True, True]]


@torch.no_grad()
def test_an_expert_of_a_defined_region_serves_where_its_tissues_are(
    make_member: MakeMember, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """A fifth is due: an eighth of each of two tissues are a quarter, of one alone too little."""
    config = replace(
        small_config,
        regions=("inner", "csf"),
        region_tissues={"inner": ("deep_grey", "medial_temporal")},
        top_k=5,
        score_threshold=-100.0,
    )
    described = torch.zeros(1, len(small_tokens), len(FAMILIES), len(TISSUES))
    for tissue, share in (("deep_grey", 0.125), ("cortex", 0.75)):
        described[0, :, 0, TISSUES.index(tissue)] = share
    described[0, ::2, 0, TISSUES.index("medial_temporal")] = 0.125
    described[0, 1::2, 0, TISSUES.index("outside")] = 0.125
    selected = make_member(config=config).read_age(described).routing.selected_bte[0]
    assert selected[::2].unique(dim=0).tolist() == [[True, False, True, True, True]]
    assert selected[1::2].unique(dim=0).tolist() == [[False, False, True, True, True]]


@torch.no_grad()
def test_after_a_step_the_bias_follows_the_load(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    member = make_member()
    member.router.bias_e.zero_()
    selected = member(small_scans).routing.selected_bte
    load = selected.float().mean(dim=(0, 1))
    member.after_step(selected)
    torch.testing.assert_close(member.router.bias_e, 0.01 * torch.sign(load.mean() - load))
