"""Rivals: each routing worked out by hand, and all of them behind one interface."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from quick_settings import AGE, OPTIMISER
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.content import TokenContent
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput
from ermoe_ba.model.rivals.activation_gate import ActivationGate
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.bias_gate import BiasGate
from ermoe_ba.model.rivals.cosine_gate import CosineGate
from ermoe_ba.model.rivals.expert_choice import ExpertChoiceGate
from ermoe_ba.model.rivals.gate import top_selected
from ermoe_ba.model.rivals.gated import GatedBrainAge, SubspaceBrainAge
from ermoe_ba.model.rivals.plain_residual import PlainResidual
from ermoe_ba.model.rivals.relu_gate import ReluGate
from ermoe_ba.model.rivals.roster import (
    DENSE,
    FORMS,
    ROUTERS,
    make_dense,
    make_gate,
    make_mixture,
    parameter_counts,
)
from ermoe_ba.model.rivals.sfcn import Sfcn
from ermoe_ba.model.rivals.soft_moe import SoftMoeBrainAge
from ermoe_ba.model.rivals.softmax_gate import SoftmaxGate
from ermoe_ba.model.rivals.transformer_tokens import TransformerTokens
from ermoe_ba.model.rivals.volume import CONVOLUTIONAL, VolumeNetwork
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig, train_age
from ermoe_ba.training.content_centre import content_spread
from ermoe_ba.training.probe import probe_routing

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
    described = _described(small_tokens)
    member.read_age(described)
    content = member.content(described)
    h = content + member.place_td + member.context(content)
    torch.testing.assert_close(seen[0], h)
    _, v = member.experts.bases()
    token = torch.einsum("btd,edr->bter", content + member.place_td, v)
    torch.testing.assert_close(seen[1], token * member.experts.s_er + member.experts.offset_er)


def _described(tokens: TokenGrid, num_scans: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_scans, len(tokens), len(FAMILIES), len(TISSUES))
    described = torch.rand(shape, generator=generator)
    described = described / described.sum(dim=-1, keepdim=True)
    return described * torch.tensor(list(FAMILIES.values()))[:, None]


def _centre(network: TokenContent, described: Tensor) -> None:
    """As `train_age` does before the first step."""
    network.location_tfc.copy_(described.mean(dim=0))
    network.spread_tfc.copy_(content_spread(described, 0.05, 12))
    network.baseline.fill_(48.0)
    network.scale.fill_(16.0)


@pytest.fixture
def make_rival(small_config: ModelConfig, small_tokens: TokenGrid) -> Callable[..., ErmoeBrainAge]:
    """Make a mixture whose read-outs no longer stand at zero, in evaluation mode."""

    def make(router: str) -> ErmoeBrainAge:
        torch.manual_seed(2)
        member = make_mixture(router, small_config, small_tokens)
        with torch.no_grad():
            for parameter in member.experts.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            member.reference_te.uniform_(-0.01, 0.01)
            _centre(member, _described(small_tokens))
        return member.eval()

    return make


@torch.no_grad()
@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_fills_the_one_output(
    router: str, make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    member, described = make_rival(router), _described(small_tokens)
    output = member.read_age(described)
    assert isinstance(output, ModelOutput)
    shape = (3, len(small_tokens), 5)
    for tensor in (
        output.contributions_bte,
        output.routing.scores_bte,
        output.routing.weights_bte,
        output.routing.selected_bte,
    ):
        assert tensor.shape == shape
    sums = output.baseline + output.contributions_bte.sum(dim=(1, 2))
    torch.testing.assert_close(output.age_b, sums, atol=1e-4, rtol=0)
    assert output.age_b.std() > 0.01
    assert (output.routing.weights_bte[~output.routing.selected_bte] == 0).all()
    served = output.routing.selected_bte.any(dim=-1)
    rescued = router in ("eigenbasis", "subspace", *FORMS)
    assert torch.equal(served, ~output.routing.fallback_bt) or rescued
    # Its own routing, given back, changes nothing; another's does.
    torch.testing.assert_close(member.read_age(described, output.routing).age_b, output.age_b)
    rolled = replace(output.routing, weights_bte=output.routing.weights_bte.roll(1, dims=2))
    assert (member.read_age(described, rolled).age_b - output.age_b).abs().max() > 1e-3


@pytest.mark.parametrize("orthogonal", ["qr", "cayley", "penalty"])
@pytest.mark.parametrize("router", ROUTERS)
def test_training_teaches_what_evaluation_says(
    router: str, orthogonal: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """With no token silenced, ages and gradients are alike; bases of three quarters of the space.

    In training, tokens may be read and routed by other, shorter sums.
    """
    torch.manual_seed(2)
    config = replace(small_config, rank=9, token_dropout=0.0)
    member = make_mixture(router, config, small_tokens, orthogonal)
    described = _described(small_tokens)
    with torch.no_grad():
        for parameter in member.experts.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        _centre(member, described)
    member, described = member.double(), described.double()
    told = []
    for training in (False, True):
        member.train(training).zero_grad()
        output = member.read_age(described)
        (output.age_b * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
        taught = [p.grad for p in member.parameters() if p.grad is not None]
        told.append([output.age_b, output.routing.scores_bte, output.routing.weights_bte, *taught])
    for found, expected in zip(*told, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-6)


def test_no_projection_of_every_token_is_kept_for_a_step(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Of 12 dimensions 9 lie in each basis: the other 3 are all that is kept of scans."""
    member = ErmoeBrainAge(replace(small_config, rank=9), small_tokens)
    described = _described(small_tokens)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[:2] == described.shape[:2]:
            kept.append(tensor[0, 0].numel())
        return tensor

    for training in (False, True):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            member.train(training).read_age(described)
        # Of five experts.
        assert max(kept) == 5 * (3 if training else 9)


@torch.no_grad()
@pytest.mark.parametrize("router", ROUTERS)
def test_no_router_looks_at_the_other_scans_of_a_batch(
    router: str, make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    member, described = make_rival(router), _described(small_tokens)
    together = member.read_age(described).age_b
    alone = torch.cat([member.read_age(described[b : b + 1]).age_b for b in range(3)])
    torch.testing.assert_close(alone, together, atol=1e-3, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("network", [*ROUTERS, "additive", "additive_mlp"])
def test_ages_are_linear_in_the_position_read_outs(
    network: str,
    make_rival: Callable[..., ErmoeBrainAge],
    small_config: ModelConfig,
    small_tokens: TokenGrid,
) -> None:
    """New read-outs move the age by ``scale * sum_t (q'_t - q_t) . phi_t``."""
    described = _described(small_tokens)
    if network in ROUTERS:
        model = make_rival(network)
        readout = model.experts.position_readout_td
    else:
        torch.manual_seed(0)
        model = make_dense(network, small_config, small_tokens).eval()
        assert isinstance(model, AdditiveReadout)
        _centre(model, described)
        model.shared_readout_d.normal_()
        readout = model.position_readout_td

    def ages() -> Tensor:
        output = model.read_age(described)
        return output if isinstance(output, Tensor) else output.age_b

    before, phi = ages(), model.readout_inputs(described)
    change = torch.randn_like(readout)
    readout.add_(change)
    expected = 16.0 * (phi * change).sum(dim=(1, 2))
    assert expected.abs().min() > 1e-2
    torch.testing.assert_close(ages() - before, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("router", ROUTERS)
def test_the_loss_reaches_all_that_is_trained(
    router: str, make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    member = make_rival(router)
    output = member.read_age(_described(small_tokens))
    member.after_step(output.routing.selected_bte)
    (functional.l1_loss(output.age_b, torch.zeros(3)) + member.auxiliary_loss(output)).backward()
    for name, parameter in member.named_parameters():
        trained = parameter.requires_grad and not name.startswith("stem.")
        assert (parameter.grad is not None) == trained, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_tokens_behind_a_transformer_tell_of_the_whole_brain(
    make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """One token is changed, routing is held: elsewhere the shipped form contributes as before."""
    described = _described(small_tokens, 1)
    changed = described.clone()
    changed[:, 0] = changed[:, 0].flip(-1)
    moved = {}
    for router in ("eigenbasis", "transformer_tokens"):
        member = make_rival(router)
        before = member.read_age(described)
        after = member.read_age(changed, before.routing)
        moved[router] = (after.contributions_bte - before.contributions_bte)[0].abs().sum(dim=1)
    assert moved["eigenbasis"][0] > 1e-3
    assert moved["eigenbasis"][1:].max() == 0
    assert (moved["transformer_tokens"] > 1e-6).all()


@torch.no_grad()
def test_the_blocks_see_content_at_its_place(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Blocks that add nothing leave the content; else it is what they make of it, less the place.

    Of a pre-norm block, the attention's last map and the perceptron's are all that is added.
    """
    member = TransformerTokens(small_config, small_tokens).eval()
    described = _described(small_tokens)
    plain = TokenContent.content(member, described)
    placed = plain + member.place_td
    torch.testing.assert_close(
        member.content(described), member.blocks[0](placed) - member.place_td
    )
    for layer in (member.blocks[0].self_attn.out_proj, member.blocks[0].linear2):
        layer.weight.zero_()
        layer.bias.zero_()
    torch.testing.assert_close(member.content(described), plain)


@torch.no_grad()
def test_the_plain_residual_by_hand(
    make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """The mean of x + sum_e w_e (U diag(s) V^T x + U m), with dense matrices, times one head."""
    member, described = make_rival("plain_residual"), _described(small_tokens)
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
    described, ages = _described(small_tokens), torch.tensor([30.0, 50.0, 64.0])
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
    described = _described(small_tokens, 64)
    given = make_mixture("softmax", small_config, small_tokens).read_age(described).routing
    ages = member.read_age(described, given).age_b
    kept = ages * len(small_tokens) * 0.75
    torch.testing.assert_close(kept, kept.round(), atol=1e-3, rtol=0)
    assert kept.std() > 0
    assert 0.7 < kept.mean() / len(small_tokens) < 0.8


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_start_at_a_ridge_regression_and_are_trained(
    form: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """With hardly any penalty, five scans are fitted by the first read-outs already."""
    torch.manual_seed(0)
    member = make_mixture(form, replace(small_config, token_dropout=0.0), small_tokens)
    described = _described(small_tokens, 5)[:, None].half()
    ages = torch.tensor([20.0, 30, 40, 50, 60])
    seen: list[Tensor] = []

    def look(_: int) -> None:
        with torch.no_grad():
            seen.append(member.read_age(described[:, 0].float()).age_b)

    config = _age_config(ridge_strength=1e-4, invariance=0.0, readout_length=0.7, num_epochs=2)
    history = train_age(member, described, ages.numpy(), config, seed=0, at_epoch=look)
    assert len(history) == 2 * 3
    torch.testing.assert_close(seen[0], ages, atol=0.1, rtol=0)
    assert (seen[1] - seen[0]).abs().max() > 1e-4


@torch.no_grad()
def test_scans_go_through_the_stem_of_every_rival(
    make_rival: Callable[..., ErmoeBrainAge], small_scans: Tensor
) -> None:
    member = make_rival("softmax")
    output = member(small_scans)
    torch.testing.assert_close(output.age_b, member.read_age(member.describe(small_scans)).age_b)


@pytest.mark.parametrize("backbone", DENSE)
def test_dense_networks_answer_with_an_age_and_learn(
    backbone: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    torch.manual_seed(0)
    network = make_dense(backbone, small_config, small_tokens)
    ages = torch.tensor([30.0, 50.0, 64.0])
    _centre(network, _described(small_tokens))
    age_b = network.read_age(_described(small_tokens))
    # Nothing is read out yet: the mean age of the training scans.
    torch.testing.assert_close(age_b.detach(), torch.full((3,), 48.0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    functional.l1_loss(network.read_age(_described(small_tokens)), ages).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("backbone", DENSE)
def test_dense_networks_are_as_large_as_the_mixtures_active_part(
    backbone: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    active, total = parameter_counts(ErmoeBrainAge(small_config, small_tokens))
    # Five experts of U, V (12 x 5), s and m (5) and w (12), three of them idle.
    assert total - active == 3 * (2 * 60 + 2 * 5 + 12)
    dense, all_of_it = parameter_counts(make_dense(backbone, small_config, small_tokens))
    assert dense == all_of_it
    # One hidden unit more or less: 12 weights in, 12 out, and at most a bias.
    assert abs(dense - active) <= 25 / 2


def test_routers_without_context_train_no_attention(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Queries and keys: twice 12 x 12 weights and 12 biases."""
    base = parameter_counts(ErmoeBrainAge(small_config, small_tokens))[0]
    for router in ("subspace", "activation"):
        assert parameter_counts(make_mixture(router, small_config, small_tokens))[0] == base - 312


@torch.no_grad()
def test_the_additive_read_out_by_hand(small_config: ModelConfig, small_tokens: TokenGrid) -> None:
    """With the identity for both maps, the mean over tokens of (w + q_t) . x_t."""
    network = AdditiveReadout(small_config, small_tokens, mlp_dim=12, linear=True).eval()
    network.up.weight.copy_(torch.eye(12))
    network.down.weight.copy_(torch.eye(12))
    network.shared_readout_d.normal_()
    network.position_readout_td.normal_()
    described = _described(small_tokens, 2)
    x = network.content(described)
    read = network.shared_readout_d + network.position_readout_td
    expected = torch.stack([(x[b] * read).sum() / len(small_tokens) for b in range(2)])
    torch.testing.assert_close(network.read_age(described), expected)


@pytest.mark.parametrize("name", list(CONVOLUTIONAL))
def test_convolutional_networks_answer_with_an_age(name: str) -> None:
    torch.manual_seed(0)
    network = VolumeNetwork(name, reduce=1)
    # Five halvings leave one voxel; unequal axes.
    scans = torch.rand(2, 32, 40, 36)
    age_b = network(scans)
    assert age_b.shape == (2,)
    age_b.sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


def test_sfcn_has_the_published_size() -> None:
    """27 weights a pair of channels, biases, norms, the last block and the read-out: 3 million."""
    pairs = 1 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 256
    channels = 32 + 64 + 128 + 256 + 256
    last = 256 * 64 + 64 + 2 * 64 + 64 + 1
    expected = 27 * pairs + 3 * channels + last
    assert sum(p.numel() for p in Sfcn().parameters()) == expected


def test_scans_are_averaged_before_convolutions() -> None:
    scan = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert VolumeNetwork("sfcn", reduce=2).reduced(scan).tolist() == [[[[3.5]]]]


def test_an_unknown_router_is_refused_by_name(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    with pytest.raises(ValueError, match=r"router must be one of .*found 'roulette'"):
        make_gate("roulette", small_config)


def _age_config(**changes: Any) -> AgeConfig:
    optimiser = replace(OPTIMISER, warmup_share=0.5)
    few = replace(AGE, num_variants=0, batch_size=2, weight_decay=0.1, optimiser=optimiser)
    return replace(few, **changes)


def test_training_moves_gates_and_what_follows_a_step(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    torch.manual_seed(0)
    member = make_mixture("loss_free_bias", small_config, small_tokens)
    gate = member.gate
    before = gate.logits.weight.detach().clone()
    config = _age_config(num_epochs=4)
    epochs: list[int] = []
    described = _described(small_tokens, 5)[:, None].half()
    ages = torch.tensor([20.0, 30, 40, 50, 60]).numpy()
    history = train_age(member, described, ages, config, seed=0, at_epoch=epochs.append)
    assert len(history) == 4 * 3
    assert epochs == [0, 1, 2, 3]
    assert (gate.logits.weight != before).any()
    # Each step moves a bias by a thousandth or not at all.
    steps = gate.bias_e / BiasGate.STEP
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert steps.abs().max() >= 1
