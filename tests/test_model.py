"""The network: exact contributions, experts that may be renamed, and ages that stay."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ermoe_ba.model.attention import sincos_positions
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")
MakeMember = Callable[..., ErmoeBrainAge]


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
