"""Attribution: ways of asking that must agree where the network is additive; curves by hand."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from ermoe_ba.attribution.curves import fidelity_curves
from ermoe_ba.attribution.methods import (
    METHODS,
    attention_rollout,
    captum_gradients,
    contributions,
    integrated_gradients,
    occlusion,
)
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def described(small_tokens: TokenGrid) -> Tensor:
    """Three scans of small differences from a cohort's mean."""
    torch.manual_seed(3)
    return 0.1 + 0.05 * torch.randn(3, len(small_tokens), len(FAMILIES), len(TISSUES))


@pytest.fixture
def additive(make_member: Callable[..., ErmoeBrainAge], small_config: ModelConfig) -> ErmoeBrainAge:
    """One expert serves all tokens: the age is a sum of what they say, each for itself."""
    member = make_member(config=replace(small_config, regions=(), num_free_experts=1, top_k=1))
    member.refer_to(member.location_tfc[None])
    return member


def test_where_tokens_act_alone_all_ways_give_their_contributions(
    additive: ErmoeBrainAge, described: Tensor
) -> None:
    """The average brain contributes 0 here, and content enters linearly: one answer is right."""
    expected = contributions(additive, described)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(occlusion(additive, described), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        integrated_gradients(additive, described), expected, atol=1e-4, rtol=0
    )


def test_where_routing_looks_around_occlusion_is_another_question(
    make_member: Callable[..., ErmoeBrainAge], described: Tensor
) -> None:
    member = make_member()
    member.refer_to(member.location_tfc[None])
    difference = occlusion(member, described) - contributions(member, described)
    assert difference.abs().max() > 1e-2


def test_contributions_and_baseline_are_the_age(
    make_member: Callable[..., ErmoeBrainAge], described: Tensor
) -> None:
    member = make_member()
    with torch.no_grad():
        age = member.read_age(described).age_b
    total = contributions(member, described).sum(dim=1) + member.baseline
    torch.testing.assert_close(total, age)


def test_attention_that_does_not_choose_is_even(
    make_member: Callable[..., ErmoeBrainAge], described: Tensor
) -> None:
    member = make_member()
    with torch.no_grad():
        assert attention_rollout(member, described).std(dim=1).min() > 0
        for parameter in member.context.query.parameters():
            parameter.zero_()
    rollout = attention_rollout(member, described)
    num_tokens = described.shape[1]
    torch.testing.assert_close(rollout, torch.full((3, num_tokens), 1 / num_tokens))


def test_attention_weights_are_those_of_the_context(
    make_member: Callable[..., ErmoeBrainAge], described: Tensor
) -> None:
    """Weights times values, head by head, is what the fused attention gives."""
    member = make_member()
    with torch.no_grad():
        content = member.content(described)
        weights = member.context.weights(content)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        values = content.unflatten(-1, (weights.shape[1], -1)).transpose(1, 2)
        context = (weights @ values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(context, member.context(content))


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match=r"ermoe_ba\[evidence\]"):
        captum_gradients()


def test_every_way_gives_one_value_a_scan_and_token(
    make_member: Callable[..., ErmoeBrainAge], described: Tensor
) -> None:
    member = make_member()
    for method in METHODS.values():
        years = method(member, described)
        assert years.shape == described.shape[:2]
        assert torch.isfinite(years).all()
        assert not years.requires_grad


def _sum_of(years: list[list[float]]) -> tuple[SimpleNamespace, Tensor]:
    """Return a network whose age is the sum of its tokens, and scans of given years a token."""
    scans = torch.tensor(years)[:, :, None, None]
    model = SimpleNamespace(
        location_tfc=torch.zeros(scans.shape[1:]),
        read_age=lambda described: SimpleNamespace(age_b=50 + described.sum(dim=(1, 2, 3))),
    )
    return model, scans


def test_curves_of_a_sum_by_hand() -> None:
    """Tokens of 4, 2, 1 and 1 years: 8 in all, of which 0, 4, 6, 7 and 8 are shown."""
    model, scans = _sum_of([[2.0, 4.0, 1.0, 1.0]])
    curves = fidelity_curves(model, scans, np.array([2.0, 4.0, 1.0, 1.0]), 4)
    np.testing.assert_allclose(curves.share_s, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curves.insertion_s, np.array([0, 4, 6, 7, 8]) / 8)
    np.testing.assert_allclose(curves.deletion_s, np.array([8, 4, 2, 1, 0]) / 8)
    # Trapezia a quarter wide.
    assert curves.insertion_area == pytest.approx((0 / 2 + 4 + 6 + 7 + 8 / 2) / 8 / 4)
    assert curves.deletion_area == pytest.approx((8 / 2 + 4 + 2 + 1 + 0 / 2) / 8 / 4)


def test_the_worst_order_exchanges_the_areas() -> None:
    """Of a sum, what is shown and what is taken away make up the whole."""
    model, scans = _sum_of([[2.0, 4.0, 1.0, 1.0]])
    importance = np.array([2.0, 4.0, 1.0, 1.0])
    best = fidelity_curves(model, scans, importance, 4)
    worst = fidelity_curves(model, scans, -importance, 4)
    assert worst.insertion_area < best.insertion_area
    np.testing.assert_allclose(best.insertion_s + best.deletion_s, 1.0)


def test_scans_are_weighed_by_how_far_they_are_from_the_average() -> None:
    """Ages off by 3 - 2 and 5 - 4 after the first token, of 3 + 5 before: 1 - 2 / 8."""
    model, scans = _sum_of([[2.0, 1.0], [-4.0, -1.0]])
    curves = fidelity_curves(model, scans, np.array([1.0, 0.0]), 2)
    np.testing.assert_allclose(curves.insertion_s, [0, 0.75, 1])


def test_steps_must_fit_and_something_must_be_explained() -> None:
    model, scans = _sum_of([[2.0, 1.0]])
    for steps in (0, 3):
        with pytest.raises(ValueError, match="between 1 and 2"):
            fidelity_curves(model, scans, np.ones(2), steps)
    with pytest.raises(ValueError, match="none does"):
        fidelity_curves(model, 0 * scans, np.ones(2), 1)
