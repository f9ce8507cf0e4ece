"""The plain residual: by hand, without its experts, and as it is silenced."""

from collections.abc import Callable

import pytest
import torch
from rival_scans import make_rival, random_descriptions

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.plain_residual import PlainResidual
from ermoe_ba.model.rivals.roster import make_mixture
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.probe import probe_routing

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["make_rival"]


@torch.no_grad()
def test_the_plain_residual_by_hand(
    make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """The mean of x + sum_e w_e (U diag(s) V^T x + U m), with dense matrices, times one head."""
    member, described = make_rival("plain_residual"), random_descriptions(small_tokens)
    member.reference_te.zero_()
    member.experts.expert_readout_ed.zero_()
    output = member.read_age(described)
    x, experts = member.content(described), member.experts
    u, v = experts.bases()
    y = x.clone()
    for e in range(5):
        says = x @ (u[e] @ torch.diag(experts.s_er[e]) @ v[e].T).T + u[e] @ experts.offset_er[e]
        y += output.routing.weights_bte[..., e : e + 1] * says
    expected = 48.0 + 16.0 * y.mean(dim=1) @ experts.position_readout_td[0]
    torch.testing.assert_close(output.age_b, expected, atol=1e-4, rtol=1e-4)
    residual = 48.0 + 16.0 * x.mean(dim=1) @ experts.position_readout_td[0]
    torch.testing.assert_close(output.baseline, residual, atol=1e-4, rtol=1e-4)
    # Shares that are centred on a cohort move no age.
    member.refer_to(described)
    centred = member.read_age(described)
    torch.testing.assert_close(centred.age_b, expected, atol=1e-4, rtol=1e-4)
    assert centred.contributions_bte.mean(dim=0).abs().max() < 1e-5


@torch.no_grad()
def test_zeroed_experts_leave_an_age_to_the_plain_residual_alone(
    make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """What the probe says of silenced experts is what zeroed ones answer."""
    described, ages = random_descriptions(small_tokens), torch.tensor([30.0, 50.0, 64.0])
    for router in ("eigenbasis", "plain_residual"):
        member = make_rival(router)
        member.reference_te.zero_()
        probe = probe_routing([member], [described], ages, seed=0)
        # What silences the experts of either form, and touches no residual.
        for weights in (member.experts.s_er, member.experts.offset_er):
            weights.zero_()
        output = member.read_age(described)
        assert output.contributions_bte.abs().max() == 0
        torch.testing.assert_close(output.age_b, output.baseline.expand(3))
        assert probe["mae_zeroed"] == pytest.approx([(output.age_b - ages).abs().mean().item()])
        if router == "eigenbasis":
            assert output.age_b.tolist() == [48.0] * 3
        else:
            assert output.age_b.std() > 0.01
            assert probe["mae_zeroed"] != pytest.approx(probe["mae"])


@torch.no_grad()
def test_the_plain_residual_silences_its_tokens_as_often_as_its_experts(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """A head on the one channel that is 1 in all tokens: kept tokens count 1 / (1 - 0.25) each."""
    torch.manual_seed(0)
    member = PlainResidual(small_config, small_tokens)
    member.content = lambda _: torch.ones(64, len(small_tokens), 12)  # type: ignore[method-assign]
    member.experts.s_er.zero_()
    member.experts.offset_er.zero_()
    member.experts.position_readout_td[0, 0] = 1.0
    described = random_descriptions(small_tokens, 64)
    given = make_mixture("softmax", small_config, small_tokens).read_age(described).routing
    ages = member.read_age(described, given).age_b
    kept = ages * len(small_tokens) * 0.75
    torch.testing.assert_close(kept, kept.round(), atol=1e-3, rtol=0)
    assert kept.std() > 0
    assert 0.7 < kept.mean() / len(small_tokens) < 0.8
