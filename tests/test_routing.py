"""Routing by eigenbasis score, worked by hand: who is eligible, who is taken, with what weight."""

import math

import pytest
import torch
from hand_router import NO_THRESHOLD, all_free, make_router, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ermoe_ba.model.routing import standardise

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_two_tokens_and_three_experts_by_hand() -> None:
    """Token one: scores .9, .3, 0; mean .4, deviations .5, -.1, -.4, their mean square .14.

    Standardised 1.336, -.267, -1.069: the third is below -.5. The region fills half of the token,
    so the regional expert may serve. Weights: softmax(.9 / .5, .3 / .5) = 1 / (1 + e^-1.2) and the
    rest. Token two: .6, -.2, .2 stand at 1.225, -1.225, 0; the region fills a tenth only, so the
    best expert may not serve, and the third remains alone.
    """
    scores = tokens_of((0.9, 0.3, 0.0), (0.6, -0.2, 0.2))
    deviation_1, deviation_2 = math.sqrt(0.14), math.sqrt(0.32 / 3)
    torch.testing.assert_close(
        standardise(scores),
        tokens_of(
            (0.5 / deviation_1, -0.1 / deviation_1, -0.4 / deviation_1),
            (0.4 / deviation_2, -0.4 / deviation_2, 0.0),
        ),
    )
    routing = make_router().select(scores, tokens_of((0.5,), (0.1,)))
    assert routing.selected_bte.tolist() == [[[True, True, False], [False, False, True]]]
    assert routing.fallback_bt.tolist() == [[False, False]]
    first = 1 / (1 + math.exp(-1.2))
    torch.testing.assert_close(
        routing.weights_bte, tokens_of((first, 1 - first, 0.0), (0.0, 0.0, 1.0))
    )
    assert torch.equal(routing.scores_bte, scores)


def test_a_lower_temperature_sharpens_the_weights() -> None:
    """softmax(.9 / .1, .3 / .1) = 1 / (1 + e^-6)."""
    routing = make_router(temperature=0.1).select(tokens_of((0.9, 0.3, 0.0)), tokens_of((0.5,)))
    assert routing.weights_bte[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-6)))


def test_where_nobody_is_eligible_the_best_free_expert_serves() -> None:
    """.8, -.5, -.3 have mean 0: at a threshold of 0 the regional one alone passes, out of place."""
    routing = make_router(threshold=0.0).select(tokens_of((0.8, -0.5, -0.3)), tokens_of((0.0,)))
    assert routing.fallback_bt.tolist() == [[True]]
    assert routing.selected_bte.tolist() == [[[False, False, True]]]
    assert routing.weights_bte.tolist() == [[[0.0, 0.0, 1.0]]]


def test_a_threshold_beyond_all_scores_makes_every_token_fall_back() -> None:
    """Three standardised scores cannot exceed the root of 2."""
    scores = tokens_of((0.9, 0.1, 0.3), (-0.2, 0.7, 0.6))
    routing = make_router(threshold=1.5).select(scores, tokens_of((1.0,), (1.0,)))
    assert routing.fallback_bt.all()
    assert routing.selected_bte.tolist() == [[[False, False, True], [False, True, False]]]


def test_equal_scores_stand_at_the_mean_and_meet_a_threshold_of_zero() -> None:
    """0.25 is exact in binary: no rounding decides."""
    scores = tokens_of((0.25, 0.25, 0.25))
    assert standardise(scores).tolist() == [[[0.0, 0.0, 0.0]]]
    routing = all_free(threshold=0.0).select(scores, torch.zeros(1, 1, 0))
    assert not routing.fallback_bt.any()
    assert routing.selected_bte.sum() == 2


def test_fewer_eligible_than_k_means_fewer_selected() -> None:
    """.9, 0, 0 stand at 1.414, -.707, -.707."""
    routing = all_free(threshold=0.0, top_k=3).select(
        tokens_of((0.9, 0.0, 0.0)), torch.zeros(1, 1, 0)
    )
    assert routing.selected_bte.tolist() == [[[True, False, False]]]
    assert not routing.fallback_bt.any()


@pytest.mark.parametrize(("fraction", "serves"), [(0.25, True), (0.2499, False)])
def test_a_regional_expert_serves_from_its_least_fraction_on(fraction: float, serves: bool) -> None:
    routing = make_router(threshold=NO_THRESHOLD, top_k=1).select(
        tokens_of((0.9, 0.3, 0.0)), tokens_of((fraction,))
    )
    assert routing.selected_bte[0, 0].tolist() == [serves, not serves, False]


def test_one_of_k_gives_the_best_expert_the_whole_weight() -> None:
    routing = all_free(top_k=1).select(tokens_of((0.1, 0.5, 0.4)), torch.zeros(1, 1, 0))
    assert routing.weights_bte.tolist() == [[[0.0, 1.0, 0.0]]]


def test_k_of_all_experts_is_the_softmax_over_all() -> None:
    """Scores 0, ln 2 and ln 4 at temperature 1 weigh as 1 : 2 : 4."""
    scores = tokens_of((0.0, math.log(2), math.log(4)))
    routing = all_free(top_k=3, temperature=1.0).select(scores, torch.zeros(1, 1, 0))
    torch.testing.assert_close(routing.weights_bte, tokens_of((1 / 7, 2 / 7, 4 / 7)))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    top_k=st.integers(1, 5),
    threshold=st.floats(-2, 2),
    temperature=st.sampled_from([0.02, 0.1, 1.0]),
)
def test_weights_sum_to_one_over_one_to_k_rightful_experts(
    seed: int, top_k: int, threshold: float, temperature: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    router = make_router(
        num_regional=2,
        num_free=3,
        top_k=top_k,
        threshold=threshold,
        temperature=temperature,
    )
    router.bias_e.copy_(torch.rand(5, generator=random) - 0.5)
    scores = torch.rand(2, 6, 5, generator=random) * 2 - 1
    region = torch.rand(2, 6, 2, generator=random)
    routing = router.select(scores, region)
    torch.testing.assert_close(routing.weights_bte.sum(dim=-1), torch.ones(2, 6))
    assert (routing.weights_bte[~routing.selected_bte] == 0).all()
    count = routing.selected_bte.sum(dim=-1)
    assert (count >= 1).all()
    assert (count <= top_k).all()
    assert (count[routing.fallback_bt] == 1).all()
    assert (region[routing.selected_bte[..., :2]] >= 0.25).all()
    chosen = routing.selected_bte & ~routing.fallback_bt[..., None]
    assert (standardise(scores)[chosen] >= threshold).all()


def test_the_selection_bias_changes_who_is_selected_and_not_how_they_weigh() -> None:
    """.3 + .25 overtakes .4; the weights come from .5 and .3: 1 / (1 + e^(-.2 / .5))."""
    router, scores = all_free(), tokens_of((0.5, 0.4, 0.3))
    nowhere = torch.zeros(1, 1, 0)
    assert router.select(scores, nowhere).selected_bte.tolist() == [[[True, True, False]]]
    router.bias_e.copy_(torch.tensor([0.0, 0.0, 0.25]))
    routing = router.select(scores, nowhere)
    assert routing.selected_bte.tolist() == [[[True, False, True]]]
    first = 1 / (1 + math.exp(-0.4))
    torch.testing.assert_close(routing.weights_bte, tokens_of((first, 0.0, 1 - first)))
    assert torch.equal(routing.scores_bte, scores)


def test_the_selection_bias_cannot_make_an_expert_eligible() -> None:
    """It chooses among the eligible: the regional expert stays out where its region is not."""
    router = make_router(threshold=NO_THRESHOLD)
    router.bias_e.copy_(torch.tensor([1.0, 0.0, 0.0]))
    routing = router.select(tokens_of((0.9, 0.3, 0.0)), tokens_of((0.1,)))
    assert routing.selected_bte.tolist() == [[[False, True, True]]]


def test_the_selection_bias_has_no_gradient_and_leaves_that_of_the_scores() -> None:
    router, plain = all_free(), all_free()
    router.bias_e.copy_(torch.tensor([0.02, 0.01, 0.0]))
    assert not list(router.parameters())
    gradients = []
    for each in (router, plain):
        scores = tokens_of((0.5, 0.4, 0.3)).requires_grad_()
        each.select(scores, torch.zeros(1, 1, 0)).weights_bte[..., 0].sum().backward()
        assert scores.grad is not None
        gradients.append(scores.grad)
    assert router.bias_e.grad is None
    assert gradients[0].abs().sum() > 0
    assert torch.equal(*gradients)


def test_the_bias_follows_the_load_by_one_step() -> None:
    """Loads 3/4, 2/4, 1/4 with mean 2/4: down, unmoved, up."""
    router = all_free()
    selected = torch.tensor([[[1, 1, 0], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]]).bool()
    router.follow_load(selected)
    torch.testing.assert_close(router.bias_e, torch.tensor([-0.01, 0.0, 0.01]))
    router.follow_load(selected)
    torch.testing.assert_close(router.bias_e, torch.tensor([-0.02, 0.0, 0.02]))


def test_the_bias_stops_at_half_the_range_of_the_scores() -> None:
    router = all_free(bias_step=0.7)
    for _ in range(2):
        router.follow_load(torch.tensor([[[1, 1, 0], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]]).bool())
    assert router.bias_e.tolist() == [-1.0, 0.0, 1.0]


def test_without_a_step_the_bias_stays_zero() -> None:
    router = all_free(bias_step=0.0)
    router.follow_load(torch.tensor([[[True, False, False]]]))
    assert router.bias_e.tolist() == [0.0, 0.0, 0.0]
