"""The network: exact contributions, routing that may look about, and ages that stay."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.attention import sincos_positions
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")


MakeMember = Callable[..., ErmoeBrainAge]


# How far the stem sees: two steps of two voxels, and one voxel of averaging.
REACH = 5


@torch.no_grad()
@pytest.mark.parametrize("bounds", [(), (20.0, 70.0)], ids=["straight", "curved"])
def test_the_age_is_the_baseline_plus_all_contributions(
    make_member: MakeMember,
    small_config: ModelConfig,
    small_scans: Tensor,
    bounds: tuple[float, ...],
) -> None:
    output = make_member(0, replace(small_config, age_bounds=bounds))(small_scans)
    sums = output.baseline + output.contributions_bte.sum(dim=(1, 2))
    torch.testing.assert_close(output.age_b, sums, atol=1e-4, rtol=0)
    # Shares of years, not of nothing.
    assert output.contributions_bte.abs().sum(dim=(1, 2)).min() > 1.0


@torch.no_grad()
def test_a_contribution_is_weight_times_what_the_expert_says_over_the_tokens(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    """Rebuilt with dense matrices: scale / T * w_te * a_e(x_t) less the reference."""
    member = make_member()
    described = member.describe(small_scans)
    output = member.read_age(described)
    x = member.embed(((described - member.location_tfc) / member.spread_tfc).flatten(2))
    u, v = member.experts.bases()
    for e in range(member.config.num_experts):
        dense = u[e] @ torch.diag(member.experts.s_er[e]) @ v[e].T
        read = member.experts.expert_readout_ed[e] + member.experts.position_readout_td
        says = torch.einsum("td,btd->bt", read, x @ dense.T + u[e] @ member.experts.offset_er[e])
        weighted = member.scale * output.routing.weights_bte[..., e] * says / x.shape[1]
        expected = weighted - member.reference_te[:, e]
        torch.testing.assert_close(output.contributions_bte[..., e], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_curve_bounds_ages_and_scales_a_scan_s_contributions_alike(
    make_member: MakeMember, small_config: ModelConfig, small_scans: Tensor
) -> None:
    """The same weights with and without: shares keep their proportions within a scan."""
    straight = make_member()(small_scans)
    member = make_member(0, replace(small_config, age_bounds=(20.0, 70.0)))
    curved = member(small_scans)
    torch.testing.assert_close(curved.age_b, member.curve(straight.age_b))
    assert (curved.age_b > 20).all()
    assert (curved.age_b < 70).all()
    ratio_bte = curved.contributions_bte / straight.contributions_bte
    for scan in ratio_bte:
        told = scan[scan.isfinite()]
        torch.testing.assert_close(told, told.mean().expand_as(told), rtol=1e-3, atol=0)
        assert 0 < told.mean() < 1


@torch.no_grad()
def test_centring_shares_on_a_cohort_moves_no_age(
    make_member: MakeMember, small_config: ModelConfig, small_scans: Tensor
) -> None:
    member = make_member(0, replace(small_config, age_bounds=(20.0, 70.0)))
    described = member.describe(small_scans)
    before = member.read_age(described).age_b
    member.refer_to(described)
    torch.testing.assert_close(member.read_age(described).age_b, before)
    assert member.shares(described)[0].mean(dim=0).abs().max() < 1e-5


@pytest.mark.parametrize("bounds", [(50.0,), (60.0, 40.0), (1.0, 2.0, 3.0)])
def test_bounds_are_a_lowest_and_a_highest_age(
    small_config: ModelConfig, bounds: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"age_bounds must be the lowest and the highest age"):
        replace(small_config, age_bounds=bounds)


@torch.no_grad()
def test_silenced_experts_leave_the_baseline(make_member: MakeMember, small_scans: Tensor) -> None:
    """No path leads around the experts."""
    member = make_member()
    for parameter in (member.experts.expert_readout_ed, member.experts.position_readout_td):
        parameter.zero_()
    member.reference_te.zero_()
    assert member(small_scans).age_b.tolist() == [48.5, 48.5]


@torch.no_grad()
def test_the_same_scan_gives_the_same_bits(make_member: MakeMember, small_scans: Tensor) -> None:
    member = make_member()
    first, second = member(small_scans), member(small_scans)
    assert torch.equal(first.age_b, second.age_b)
    assert torch.equal(first.contributions_bte, second.contributions_bte)


@torch.no_grad()
def test_a_scan_does_not_see_its_neighbour_in_the_batch(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    member = make_member()
    batch = member(small_scans)
    assert abs(batch.age_b[0] - batch.age_b[1]) > 1e-3
    for number in range(2):
        alone = member(small_scans[number : number + 1])
        torch.testing.assert_close(
            alone.contributions_bte[0], batch.contributions_bte[number], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(alone.age_b[0], batch.age_b[number], atol=1e-4, rtol=0)


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
def test_the_reference_takes_the_mean_out_of_the_shares_and_leaves_the_ages(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    member = make_member()
    described = member.describe(small_scans)
    before = member.read_age(described)
    member.refer_to(described)
    after = member.read_age(described)
    torch.testing.assert_close(after.age_b, before.age_b, atol=1e-4, rtol=0)
    assert before.contributions_bte.mean(dim=0).abs().max() > 1e-2
    assert after.contributions_bte.mean(dim=0).abs().max() < 1e-5


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
def test_renamed_experts_keep_ages_and_take_their_contributions_along(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    member = make_member()
    before = member(small_scans)
    order = torch.tensor([0, 1, 4, 2, 3])
    member.permute_experts(order)
    after = member(small_scans)
    torch.testing.assert_close(after.age_b, before.age_b, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        after.contributions_bte, before.contributions_bte[..., order], atol=1e-5, rtol=1e-4
    )
    assert torch.equal(after.routing.selected_bte, before.routing.selected_bte[..., order])
    assert not torch.equal(after.routing.selected_bte, before.routing.selected_bte)


def test_no_expert_can_be_lost_by_renaming(make_member: MakeMember) -> None:
    with pytest.raises(ValueError, match="must appear once"):
        make_member().permute_experts(torch.tensor([0, 1, 2, 2, 3]))


def test_regional_experts_cannot_be_renamed(make_member: MakeMember) -> None:
    member = make_member()
    before = {name: value.clone() for name, value in member.state_dict().items()}
    with pytest.raises(ValueError, match="tied to their regions"):
        member.permute_experts(torch.tensor([1, 0, 2, 3, 4]))
    with pytest.raises(ValueError, match="tied to their regions"):
        member.permute_experts(torch.tensor([0, 2, 1, 3, 4]))
    assert all(torch.equal(before[name], value) for name, value in member.state_dict().items())


@torch.no_grad()
def test_the_order_of_tokens_does_not_change_the_age(
    make_member: MakeMember, small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    """Turned round, each with its own place and read-out, the tokens tell the same."""
    member = make_member()
    turned_tokens = TokenGrid(small_tokens.grid, 4, small_tokens.positions[::-1].copy())
    turned = make_member(seed=1, tokens=turned_tokens)
    state = member.state_dict()
    for name in (
        "location_tfc",
        "spread_tfc",
        "place_td",
        "reference_te",
        "experts.position_readout_td",
    ):
        state[name] = state[name].flip(0)
    turned.load_state_dict(state)
    expected, found = member(small_scans), turned(small_scans)
    torch.testing.assert_close(found.age_b, expected.age_b, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.contributions_bte.flip(1), expected.contributions_bte, atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_tokens_are_silenced_in_training_only(
    make_member: MakeMember, small_config: ModelConfig, small_scans: Tensor
) -> None:
    member = make_member(config=replace(small_config, token_dropout=0.5))
    member.reference_te.zero_()
    described = member.describe(small_scans)
    whole = member.read_age(described).contributions_bte
    assert (whole.abs().sum(dim=2) > 0).all()
    member.train()
    torch.manual_seed(3)
    dropped = member.read_age(described).contributions_bte
    silent = (dropped == 0).all(dim=2)
    assert 0.2 < silent.float().mean() < 0.8
    # Half are silent, so the others speak twice as loud: the expected age stays.
    torch.testing.assert_close(dropped[~silent], 2 * whole[~silent])
    member.eval()
    assert torch.equal(member.read_age(described).contributions_bte, whole)


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


def test_position_codes_tell_all_tokens_apart(small_tokens: TokenGrid) -> None:
    """Width 15 holds two wavelengths of three axes, 12 channels; the other three are empty."""
    codes = sincos_positions(small_tokens.centres_mm, 15)
    assert codes.shape == (len(small_tokens), 15)
    assert (codes[:, 12:] == 0).all()
    assert codes.abs().max() <= 1
    # One wavelength of 40 mm: 10 mm along the first axis is a quarter turn.
    quarter = sincos_positions(np.array([[10.0, 0.0, 0.0]]), 6)
    torch.testing.assert_close(quarter, torch.tensor([[1.0, 0, 0, 0, 1, 1]]), atol=1e-6, rtol=0)
    distances = torch.cdist(codes, codes) + torch.eye(len(codes))
    assert distances.min() > 0.1
