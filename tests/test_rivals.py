"""Rivals: all mixtures behind one interface, and what each of them promises."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from rival_scans import age_config, centre_network, make_rival, random_descriptions
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.content import TokenContent
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.roster import FORMS, ROUTERS, make_dense, make_mixture, parameter_counts
from ermoe_ba.model.rivals.transformer_tokens import TransformerTokens
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import train_age

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["make_rival"]


@torch.no_grad()
@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_fills_the_one_output(
    router: str, make_rival: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    member, described = make_rival(router), random_descriptions(small_tokens)
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
    # Whom nobody is eligible for, the best free expert serves, or nobody does.
    assert torch.equal(served, ~output.routing.fallback_bt | rescued)
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
    described = random_descriptions(small_tokens)
    with torch.no_grad():
        for parameter in member.experts.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        centre_network(member, described)
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
    described = random_descriptions(small_tokens)
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
    member, described = make_rival(router), random_descriptions(small_tokens)
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
    described = random_descriptions(small_tokens)
    if network in ROUTERS:
        model = make_rival(network)
        readout = model.experts.position_readout_td
    else:
        torch.manual_seed(0)
        model = make_dense(network, small_config, small_tokens).eval()
        assert isinstance(model, AdditiveReadout)
        centre_network(model, described)
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
    output = member.read_age(random_descriptions(small_tokens))
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
    described = random_descriptions(small_tokens, 1)
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
    described = random_descriptions(small_tokens)
    plain = TokenContent.content(member, described)
    placed = plain + member.place_td
    torch.testing.assert_close(
        member.content(described), member.blocks[0](placed) - member.place_td
    )
    for layer in (member.blocks[0].self_attn.out_proj, member.blocks[0].linear2):
        layer.weight.zero_()
        layer.bias.zero_()
    torch.testing.assert_close(member.content(described), plain)


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_start_at_a_ridge_regression_and_are_trained(
    form: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """With hardly any penalty, five scans are fitted by the first read-outs already."""
    torch.manual_seed(0)
    member = make_mixture(form, replace(small_config, token_dropout=0.0), small_tokens)
    described = random_descriptions(small_tokens, 5)[:, None].half()
    ages = torch.tensor([20.0, 30, 40, 50, 60])
    seen: list[Tensor] = []

    def look(_: int) -> None:
        with torch.no_grad():
            seen.append(member.read_age(described[:, 0].float()).age_b)

    config = age_config(ridge_strength=1e-4, invariance=0.0, readout_length=0.7, num_epochs=2)
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


def test_routers_without_context_train_no_attention(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Queries and keys: twice 12 x 12 weights and 12 biases."""
    base = parameter_counts(ErmoeBrainAge(small_config, small_tokens))[0]
    for router in ("subspace", "activation"):
        assert parameter_counts(make_mixture(router, small_config, small_tokens))[0] == base - 312
