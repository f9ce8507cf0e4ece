"""Gates: each routing worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from rival_scans import age_config, random_descriptions
from torch import Tensor

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.rivals.activation_gate import ActivationGate
from ermoe_ba.model.rivals.bias_gate import BiasGate
from ermoe_ba.model.rivals.cosine_gate import CosineGate
from ermoe_ba.model.rivals.expert_choice import ExpertChoiceGate
from ermoe_ba.model.rivals.gate import top_selected
from ermoe_ba.model.rivals.gated import GatedBrainAge, SubspaceBrainAge
from ermoe_ba.model.rivals.relu_gate import ReluGate
from ermoe_ba.model.rivals.roster import (
    make_gate,
    make_mixture,
)
from ermoe_ba.model.rivals.soft_moe import SoftMoeBrainAge
from ermoe_ba.model.rivals.softmax_gate import SoftmaxGate
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import train_age

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _tokens(*rows: tuple[float, ...]) -> Tensor:
    """One scan of the given tokens."""
    return torch.tensor([rows])


def test_of_equal_scores_the_first_is_taken() -> None:
    assert top_selected(_tokens((0.5, 0.5, 0.5)), 2).tolist() == [[[True, True, False]]]


def test_softmax_keeps_the_shares_of_the_top() -> None:
    routing = SoftmaxGate(4, 3, top_k=2, balance=0.0).select(_tokens((0.5, 0.2, 0.3)).log())
    torch.testing.assert_close(routing.weights_bte, _tokens((0.5, 0.0, 0.3)))
    assert routing.selected_bte.tolist() == [[[True, False, True]]]


def test_the_balancing_loss_by_hand() -> None:
    """f = (1/2, 1/2, 0), P = (.35, .5, .15): 3 (.175 + .25) = 1.275 times alpha."""
    gate = SoftmaxGate(4, 3, top_k=1, balance=0.1)
    uneven = gate.select(_tokens((0.5, 0.3, 0.2), (0.2, 0.7, 0.1)).log())
    assert gate.auxiliary_loss(uneven).item() == pytest.approx(0.1275)
    even = gate.select(_tokens((0.6, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.6)).log())
    assert gate.auxiliary_loss(even).item() == pytest.approx(0.1)
    twice = SoftmaxGate(4, 2, top_k=2, balance=0.1)
    both = twice.select(_tokens((0.7, 0.3)).log())
    assert twice.auxiliary_loss(both).item() == pytest.approx(0.1)


def test_experts_choose_their_tokens() -> None:
    """Three experts, three tokens, one each: the first is taken twice, the second by nobody."""
    share = _tokens((0.5, 0.4, 0.1), (0.4, 0.3, 0.3), (0.2, 0.2, 0.6))
    routing = ExpertChoiceGate(4, 3, top_k=1).select(share.log())
    expected = _tokens((0.5, 0.4, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.6))
    torch.testing.assert_close(routing.weights_bte, expected)
    assert routing.fallback_bt.tolist() == [[False, True, False]]


def test_every_expert_takes_its_share_of_tokens() -> None:
    """2 x 10 / 4 = 5 tokens an expert, whatever the logits."""
    torch.manual_seed(0)
    gate = ExpertChoiceGate(6, 4, top_k=2)
    routing = gate(torch.randn(3, 10, 6), torch.zeros(()))
    assert (routing.selected_bte.sum(dim=1) == 5).all()


def test_a_bias_chooses_and_does_not_weigh() -> None:
    """(.6, .5, .4) less (.3, 0, 0): the first comes last; .5 and .4 share in 5 : 4."""
    gate = BiasGate(4, 3, top_k=2)
    gate.bias_e.copy_(torch.tensor([-0.3, 0.0, 0.0]))
    routing = gate.select(_tokens((0.6, 0.5, 0.4)).logit())
    torch.testing.assert_close(routing.weights_bte, _tokens((0.0, 5 / 9, 4 / 9)))


def test_the_bias_moves_by_one_step_towards_even_load() -> None:
    """Twice four tokens: the load above the mean goes down, the load below it up."""
    gate = BiasGate(4, 3, top_k=2)
    tokens = ((0.6, 0.5, 0.4), (0.6, 0.5, 0.4), (0.6, 0.4, 0.5), (0.1, 0.2, 0.3))
    gate.after_step(gate.select(_tokens(*tokens[:3], (0.3, 0.1, 0.2)).logit()).selected_bte)
    # Four tokens of two: 4, 2, 2 of 8.
    torch.testing.assert_close(gate.bias_e, torch.tensor([-0.001, 0.001, 0.001]))
    gate.bias_e.zero_()
    gate.after_step(gate.select(_tokens(*tokens).logit()).selected_bte)
    # 3, 3, 2 of 8.
    torch.testing.assert_close(gate.bias_e, torch.tensor([-0.001, -0.001, 0.001]))


def test_relu_takes_as_many_as_are_positive() -> None:
    """One token, f = (3, 0, 3) of an even load 1/3: 3 (.5 + .1) = 1.8 times the coefficient."""
    gate = ReluGate(4, 3, top_k=1)
    gate.coefficient.fill_(0.5)
    routing = gate.select(_tokens((0.5, -0.2, 0.1)))
    torch.testing.assert_close(routing.weights_bte, _tokens((0.5, 0.0, 0.1)))
    assert routing.selected_bte.tolist() == [[[True, False, True]]]
    assert gate.auxiliary_loss(routing).item() == pytest.approx(0.9)


def test_the_relu_coefficient_follows_the_sparsity() -> None:
    gate = ReluGate(4, 3, top_k=1)
    gate.coefficient.fill_(0.5)
    gate.after_step(gate.select(_tokens((0.5, -0.2, 0.1))).selected_bte)
    assert gate.coefficient.item() == pytest.approx(0.6)
    silent = gate.select(_tokens((-0.5, -0.2, -0.1)))
    assert silent.fallback_bt.all()
    gate.after_step(silent.selected_bte)
    gate.after_step(silent.selected_bte)
    assert gate.coefficient.item() == pytest.approx(0.5 / 1.2)


def test_experts_judge_by_their_own_activation() -> None:
    """Norms 5, 1 and 2: the first and the third, e^5 : e^2."""
    z = torch.tensor([[[[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]]]])
    routing = ActivationGate(top_k=2)(torch.zeros(()), z)
    first = 1 / (1 + math.exp(-3))
    torch.testing.assert_close(routing.weights_bte, _tokens((first, 0.0, 1 - first)))
    torch.testing.assert_close(routing.scores_bte, _tokens((5.0, 1.0, 2.0)))


def test_cosines_over_a_temperature_by_hand() -> None:
    """(3, 4) against (7, 0), (0, 1), (-2, 0): cosines .6, .8, -.6, over 1/2; length is nothing."""
    gate = CosineGate(2, 3, top_k=2, balance=0.0)
    with torch.no_grad():
        gate.reduce.weight.copy_(torch.eye(2))
        gate.logits.weight.copy_(torch.tensor([[7.0, 0.0], [0.0, 1.0], [-2.0, 0.0]]))
        share = torch.tensor([1.2, 1.6, -1.2]).softmax(dim=0)
        for length in (1.0, 10.0):
            routing = gate(length * _tokens((3.0, 4.0)), torch.zeros(()))
            torch.testing.assert_close(routing.scores_bte[0, 0], share)
            assert routing.selected_bte.tolist() == [[[True, True, False]]]


def test_slots_are_mixtures_by_hand(small_config: ModelConfig, small_tokens: TokenGrid) -> None:
    """Cosines 1 and 0, scaled by log 3: softmax (3/4, 1/4) over tokens and over slots."""
    config = replace(small_config, num_free_experts=2, regions=(), top_k=1)
    member = SoftMoeBrainAge(config, small_tokens)
    with torch.no_grad():
        # Two experts with one slot each, the second of another length.
        member.slots_epd = torch.nn.Parameter(torch.zeros(2, 1, 12))
        member.slots_epd[0, 0, 0], member.slots_epd[1, 0, 1] = 1.0, 5.0
        member.logit_scale.fill_(math.log(3))
        dispatch, combine = member.mixtures(_tokens((2.0, *[0.0] * 11), (0.0, 1.0, *[0.0] * 10)))
    expected = torch.tensor([[[[0.75], [0.25]], [[0.25], [0.75]]]])
    torch.testing.assert_close(dispatch, expected)
    torch.testing.assert_close(combine, expected)


@torch.no_grad()
def test_subspace_scores_are_the_share_of_length_inside(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Content (3, 0) at a place (0, 4), on five axes: .6, .8, 0, 0, 0; so for its opposite."""
    member = SubspaceBrainAge(small_config, small_tokens)
    member.place_td.zero_()
    member.place_td[:, 1] = 4.0
    content = torch.zeros(2, len(small_tokens), 12)
    content[0, :, 0], content[1, :, 0] = 3.0, -3.0
    v = torch.eye(12)[:5, :, None]
    z = torch.einsum("btd,edr->bter", content, v)
    regions = torch.zeros(2, len(small_tokens), len(small_config.regions))
    scores = member._route(content, z, v, regions).scores_bte
    expected = torch.tensor([0.6, 0.8, 0.0, 0.0, 0.0]).expand_as(scores)
    torch.testing.assert_close(scores, expected)


@torch.no_grad()
def test_gates_see_content_place_and_context(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """The experts' own terms hold the place as well: s V^T (content + place) + m."""
    member = make_mixture("softmax", small_config, small_tokens)
    assert isinstance(member, GatedBrainAge)
    seen: list[Tensor] = []
    member.gate.register_forward_pre_hook(lambda _, given: seen.extend(given))
    described = random_descriptions(small_tokens)
    member.read_age(described)
    content = member.content(described)
    h = content + member.place_td + member.context(content)
    torch.testing.assert_close(seen[0], h)
    _, v = member.experts.bases()
    token = torch.einsum("btd,edr->bter", content + member.place_td, v)
    torch.testing.assert_close(seen[1], token * member.experts.s_er + member.experts.offset_er)


def test_an_unknown_router_is_refused_by_name(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    with pytest.raises(ValueError, match=r"router must be one of .*found 'roulette'"):
        make_gate("roulette", small_config)


def test_training_moves_gates_and_what_follows_a_step(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    torch.manual_seed(0)
    member = make_mixture("loss_free_bias", small_config, small_tokens)
    gate = member.gate
    before = gate.logits.weight.detach().clone()
    config = age_config(num_epochs=4)
    epochs: list[int] = []
    described = random_descriptions(small_tokens, 5)[:, None].half()
    ages = torch.tensor([20.0, 30, 40, 50, 60]).numpy()
    history = train_age(member, described, ages, config, seed=0, at_epoch=epochs.append)
    assert len(history) == 4 * 3
    assert epochs == [0, 1, 2, 3]
    assert (gate.logits.weight != before).any()
    # Each step moves a bias by a thousandth or not at all.
    steps = gate.bias_e / BiasGate.STEP
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert steps.abs().max() >= 1
