"""Routing by eigenbasis score, worked by hand: who is eligible, who is taken, with what weight."""

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ermoe_ba.config import changed, from_plain
from ermoe_ba.model.config import REGIONS, ModelConfig
from ermoe_ba.model.orthogonal import complement_columns, orthonormal_columns
from ermoe_ba.model.routing import (
    EigenbasisRouter,
    cosines,
    cosines_by_complement,
    standardise,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Low enough for every expert to be eligible, whatever the scores.
NO_THRESHOLD = -100.0


def _router(**changes: Any) -> EigenbasisRouter:
    """One regional expert and two free ones."""
    given_: dict[str, Any] = {
        "num_regional": 1,
        "num_free": 2,
        "top_k": 2,
        "threshold": -0.5,
        "region_min_fraction": 0.25,
        "temperature": 0.5,
        "bias_step": 0.01,
    }
    return EigenbasisRouter(**{**given_, **changes})


def _all_free(**changes: Any) -> EigenbasisRouter:
    return _router(**{"num_regional": 0, "num_free": 3, "threshold": NO_THRESHOLD, **changes})


def _tokens(*rows: tuple[float, ...]) -> Tensor:
    """One scan with a row a token; a token without regional experts has the empty row."""
    return torch.tensor([rows])


def test_two_tokens_and_three_experts_by_hand() -> None:
    """Token one: scores .9, .3, 0; mean .4, deviations .5, -.1, -.4, their mean square .14.

    Standardised 1.336, -.267, -1.069: the third is below -.5. The region fills half of the token,
    so the regional expert may serve. Weights: softmax(.9 / .5, .3 / .5) = 1 / (1 + e^-1.2) and the
    rest. Token two: .6, -.2, .2 stand at 1.225, -1.225, 0; the region fills a tenth only, so the
    best expert may not serve, and the third remains alone.
    """
    scores = _tokens((0.9, 0.3, 0.0), (0.6, -0.2, 0.2))
    deviation_1, deviation_2 = math.sqrt(0.14), math.sqrt(0.32 / 3)
    torch.testing.assert_close(
        standardise(scores),
        _tokens(
            (0.5 / deviation_1, -0.1 / deviation_1, -0.4 / deviation_1),
            (0.4 / deviation_2, -0.4 / deviation_2, 0.0),
        ),
    )
    routing = _router().select(scores, _tokens((0.5,), (0.1,)))
    assert routing.selected_bte.tolist() == [[[True, True, False], [False, False, True]]]
    assert routing.fallback_bt.tolist() == [[False, False]]
    first = 1 / (1 + math.exp(-1.2))
    torch.testing.assert_close(
        routing.weights_bte, _tokens((first, 1 - first, 0.0), (0.0, 0.0, 1.0))
    )
    assert torch.equal(routing.scores_bte, scores)


def test_a_lower_temperature_sharpens_the_weights() -> None:
    """softmax(.9 / .1, .3 / .1) = 1 / (1 + e^-6)."""
    routing = _router(temperature=0.1).select(_tokens((0.9, 0.3, 0.0)), _tokens((0.5,)))
    assert routing.weights_bte[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-6)))


def test_where_nobody_is_eligible_the_best_free_expert_serves() -> None:
    """.8, -.5, -.3 have mean 0: at a threshold of 0 the regional one alone passes, out of place."""
    routing = _router(threshold=0.0).select(_tokens((0.8, -0.5, -0.3)), _tokens((0.0,)))
    assert routing.fallback_bt.tolist() == [[True]]
    assert routing.selected_bte.tolist() == [[[False, False, True]]]
    assert routing.weights_bte.tolist() == [[[0.0, 0.0, 1.0]]]


def test_a_threshold_beyond_all_scores_makes_every_token_fall_back() -> None:
    """Three standardised scores cannot exceed the root of 2."""
    scores = _tokens((0.9, 0.1, 0.3), (-0.2, 0.7, 0.6))
    routing = _router(threshold=1.5).select(scores, _tokens((1.0,), (1.0,)))
    assert routing.fallback_bt.all()
    assert routing.selected_bte.tolist() == [[[False, False, True], [False, True, False]]]


def test_equal_scores_stand_at_the_mean_and_meet_a_threshold_of_zero() -> None:
    """0.25 is exact in binary: no rounding decides."""
    scores = _tokens((0.25, 0.25, 0.25))
    assert standardise(scores).tolist() == [[[0.0, 0.0, 0.0]]]
    routing = _all_free(threshold=0.0).select(scores, torch.zeros(1, 1, 0))
    assert not routing.fallback_bt.any()
    assert routing.selected_bte.sum() == 2


def test_fewer_eligible_than_k_means_fewer_selected() -> None:
    """.9, 0, 0 stand at 1.414, -.707, -.707."""
    routing = _all_free(threshold=0.0, top_k=3).select(
        _tokens((0.9, 0.0, 0.0)), torch.zeros(1, 1, 0)
    )
    assert routing.selected_bte.tolist() == [[[True, False, False]]]
    assert not routing.fallback_bt.any()


@pytest.mark.parametrize(("fraction", "serves"), [(0.25, True), (0.2499, False)])
def test_a_regional_expert_serves_from_its_least_fraction_on(fraction: float, serves: bool) -> None:
    routing = _router(threshold=NO_THRESHOLD, top_k=1).select(
        _tokens((0.9, 0.3, 0.0)), _tokens((fraction,))
    )
    assert routing.selected_bte[0, 0].tolist() == [serves, not serves, False]


def test_one_of_k_gives_the_best_expert_the_whole_weight() -> None:
    routing = _all_free(top_k=1).select(_tokens((0.1, 0.5, 0.4)), torch.zeros(1, 1, 0))
    assert routing.weights_bte.tolist() == [[[0.0, 1.0, 0.0]]]


def test_k_of_all_experts_is_the_softmax_over_all() -> None:
    """Scores 0, ln 2 and ln 4 at temperature 1 weigh as 1 : 2 : 4."""
    scores = _tokens((0.0, math.log(2), math.log(4)))
    routing = _all_free(top_k=3, temperature=1.0).select(scores, torch.zeros(1, 1, 0))
    torch.testing.assert_close(routing.weights_bte, _tokens((1 / 7, 2 / 7, 4 / 7)))


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
    router = _router(
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
    router, scores = _all_free(), _tokens((0.5, 0.4, 0.3))
    nowhere = torch.zeros(1, 1, 0)
    assert router.select(scores, nowhere).selected_bte.tolist() == [[[True, True, False]]]
    router.bias_e.copy_(torch.tensor([0.0, 0.0, 0.25]))
    routing = router.select(scores, nowhere)
    assert routing.selected_bte.tolist() == [[[True, False, True]]]
    first = 1 / (1 + math.exp(-0.4))
    torch.testing.assert_close(routing.weights_bte, _tokens((first, 0.0, 1 - first)))
    assert torch.equal(routing.scores_bte, scores)


def test_the_selection_bias_cannot_make_an_expert_eligible() -> None:
    """It chooses among the eligible: the regional expert stays out where its region is not."""
    router = _router(threshold=NO_THRESHOLD)
    router.bias_e.copy_(torch.tensor([1.0, 0.0, 0.0]))
    routing = router.select(_tokens((0.9, 0.3, 0.0)), _tokens((0.1,)))
    assert routing.selected_bte.tolist() == [[[False, True, True]]]


def test_the_selection_bias_has_no_gradient_and_leaves_that_of_the_scores() -> None:
    router, plain = _all_free(), _all_free()
    router.bias_e.copy_(torch.tensor([0.02, 0.01, 0.0]))
    assert not list(router.parameters())
    gradients = []
    for each in (router, plain):
        scores = _tokens((0.5, 0.4, 0.3)).requires_grad_()
        each.select(scores, torch.zeros(1, 1, 0)).weights_bte[..., 0].sum().backward()
        assert scores.grad is not None
        gradients.append(scores.grad)
    assert router.bias_e.grad is None
    assert gradients[0].abs().sum() > 0
    assert torch.equal(*gradients)


def test_the_bias_follows_the_load_by_one_step() -> None:
    """Loads 3/4, 2/4, 1/4 with mean 2/4: down, unmoved, up."""
    router = _all_free()
    selected = torch.tensor([[[1, 1, 0], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]]).bool()
    router.follow_load(selected)
    torch.testing.assert_close(router.bias_e, torch.tensor([-0.01, 0.0, 0.01]))
    router.follow_load(selected)
    torch.testing.assert_close(router.bias_e, torch.tensor([-0.02, 0.0, 0.02]))


def test_the_bias_stops_at_half_the_range_of_the_scores() -> None:
    router = _all_free(bias_step=0.7)
    for _ in range(2):
        router.follow_load(torch.tensor([[[1, 1, 0], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]]).bool())
    assert router.bias_e.tolist() == [-1.0, 0.0, 1.0]


def test_without_a_step_the_bias_stays_zero() -> None:
    router = _all_free(bias_step=0.0)
    router.follow_load(torch.tensor([[[True, False, False]]]))
    assert router.bias_e.tolist() == [0.0, 0.0, 0.0]


def test_scores_are_cosines_in_each_experts_basis() -> None:
    """(3, 4) and (4, 3): 24 / 25; (1, 0) and (0, 2): 0; (1, 2) and (-2, -4): -1."""
    z = torch.tensor([[[[3.0, 4.0], [1.0, 0.0], [1.0, 2.0]]]])
    context = torch.tensor([[[[4.0, 3.0], [0.0, 2.0], [-2.0, -4.0]]]])
    routing = _all_free(top_k=1)(z, context, torch.zeros(1, 1, 0))
    torch.testing.assert_close(routing.scores_bte, _tokens((0.96, 0.0, -1.0)))
    assert routing.weights_bte.tolist() == [[[1.0, 0.0, 0.0]]]


def test_cosines_and_their_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    x, y, upstream = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4)
    gradients = []
    for cosine in (cosines, lambda a, b: functional.cosine_similarity(a, b, dim=-1)):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        value = cosine(a, b)
        value.backward(upstream)
        gradients.append((value.detach(), a.grad, b.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)
    # Two vectors by hand: (3, 4) and (4, 3) make 24 / 25.
    assert cosines(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])).item() == pytest.approx(0.96)


def test_cosines_by_what_lies_outside_by_hand() -> None:
    """(3, 4) and (4, 3) in the plane of two axes, whatever they are along the third: 24 / 25.

    A vector of no length scores 0, and so does one that lies outside but for rounding.
    """
    third = torch.tensor([[[0.0], [0.0], [1.0]]])
    x = torch.tensor([[[3.0, 4.0, 12.0], [0.0, 0.0, 0.0], [0.0, 0.0, 7.0]]], requires_grad=True)
    y = torch.tensor([[[4.0, 3.0, -1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]])
    found = cosines_by_complement(x, y, third)
    torch.testing.assert_close(found, _tokens((0.96,), (0.0,), (0.0,)))
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("rank", [4, 7, 9])
def test_cosines_by_complement_are_those_of_projections(rank: int) -> None:
    torch.manual_seed(0)
    raw, x, y = torch.randn(3, 10, rank), torch.randn(2, 6, 10), torch.randn(2, 6, 10)
    basis = orthonormal_columns(raw)
    expected = cosines(*(torch.einsum("btd,edr->bter", each, basis) for each in (x, y)))
    found = cosines_by_complement(x, y, complement_columns(basis))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_gradient_of_cosines_by_complement_is_that_of_their_differences() -> None:
    """To tokens, contexts and the weights that the bases come from."""
    torch.manual_seed(0)
    shapes = ((2, 2, 4), (2, 2, 4), (2, 4, 3))
    given_ = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def scores(x_btd: Tensor, y_btd: Tensor, raw_edr: Tensor) -> Tensor:
        outside_edk = complement_columns(orthonormal_columns(raw_edr))
        return cosines_by_complement(x_btd, y_btd, outside_edk)

    assert torch.autograd.gradcheck(scores, tuple(given_))


def test_a_token_that_projects_on_nothing_scores_zero() -> None:
    z = torch.tensor([[[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]])
    routing = _all_free()(z, z, torch.zeros(1, 1, 0))
    torch.testing.assert_close(routing.scores_bte, _tokens((0.0, 1.0, 1.0)))


def test_square_bases_score_all_alike_and_narrow_ones_do_not() -> None:
    """A rotation keeps cosines: with rank = hidden_size there is nothing to route by."""
    torch.manual_seed(0)
    x, context = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    cosines = torch.nn.functional.cosine_similarity(x, context, dim=-1)
    spread = {}
    for rank in (6, 3):
        basis = orthonormal_columns(torch.randn(3, 6, rank))
        z, c = (torch.einsum("btd,edr->bter", y, basis) for y in (x, context))
        scores = _all_free()(z, c, torch.zeros(1, 4, 0)).scores_bte
        spread[rank] = (scores - cosines[..., None]).abs().amax().item()
    assert spread[6] < 1e-5
    assert spread[3] > 0.1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patch_size": 1}, "patch_size must be at least 2; found 1"),
        ({"patch_size": 0}, "at least 2; found 0"),
        ({"num_heads": 0}, "num_heads must be at least 1; found 0"),
        ({"num_heads": -2}, "num_heads must be at least 1; found -2"),
        ({"stem_hidden": 0}, "stem_hidden must be at least 1; found 0"),
        ({"regions": ("csf", "csf")}, "one expert"),
        ({"temperature": 0.0}, "temperature must be above 0, and finite; found 0.0"),
        ({"temperature": math.inf}, "temperature must be above 0, and finite; found inf"),
        ({"temperature": math.nan}, "temperature must be above 0, and finite; found nan"),
        ({"token_dropout": 1.0}, "token_dropout must be 0 or more, and less than 1; found 1.0"),
        ({"token_dropout": math.nan}, "token_dropout must be 0 or more"),
        ({"token_min_brain": 5.0}, "token_min_brain must be 0 or more, and less than 1; found 5.0"),
        ({"token_min_brain": -0.1}, "token_min_brain must be 0 or more"),
        ({"region_min_fraction": 2.0}, "region_min_fraction must lie between 0 and 1; found 2.0"),
        ({"region_min_fraction": -0.5}, "region_min_fraction must lie between 0 and 1"),
        ({"region_min_fraction": math.nan}, "region_min_fraction must lie between 0 and 1"),
        ({"score_threshold": math.nan}, "score_threshold must be finite; found nan"),
        ({"score_threshold": -math.inf}, "score_threshold must be finite; found -inf"),
        ({"bias_step": -1.0}, "bias_step must be 0 or more, and finite; found -1.0"),
        ({"offset_scale": -1.0}, "offset_scale must be 0 or more, and finite; found -1.0"),
        ({"offset_scale": math.nan}, "offset_scale must be 0 or more, and finite; found nan"),
        ({"place_scale": -2.0}, "place_scale must be 0 or more, and finite; found -2.0"),
        ({"place_scale": math.inf}, "place_scale must be 0 or more, and finite; found inf"),
        ({"compression": math.nan}, "compression must lie between 0 and 1; found nan"),
        ({"age_bounds": (0.0, math.inf)}, r"age_bounds must be .* finite, .* found \[0.0, inf\]"),
        ({"age_bounds": (math.nan, 100.0)}, "age_bounds must be"),
        ({"rank": 12}, "all experts would score the same"),
        ({"rank": 13}, "rank must lie between 1 and hidden_size - 1 = 11; found 13"),
        ({"rank": 0}, "found 0"),
        ({"num_free_experts": 0}, "num_free_experts must be at least 1, .* fallback; found 0"),
        ({"top_k": 0}, "top_k must lie between 1 and 5; found 0"),
        ({"top_k": 6}, "found 6"),
        ({"regions": ("grey_matter", "appendix")}, r"Unknown regions \['appendix'\]"),
        ({"region_tissues": {"csf": ("cortex",)}}, "names of their own, .* found 'csf'"),
        ({"region_tissues": {"free_1": ("cortex",)}}, "names of their own, .* found 'free_1'"),
        ({"region_tissues": {"Deep grey": ("deep_grey",)}}, "found 'Deep grey'"),
        ({"region_tissues": {"deep": ()}}, r"region_tissues.deep must name one .* found \[\]"),
        ({"region_tissues": {"deep": ("thalamus",)}}, r"deep_grey, .* found \['thalamus'\]"),
        ({"region_tissues": {"deep": ("cortex", "cortex")}}, "each once"),
        (
            {"regions": ("limbic",), "region_tissues": {"deep": ("deep_grey",)}},
            "known are .*'deep'",
        ),
        ({"num_heads": 5}, "hidden_size must be a multiple of num_heads = 5; found 12"),
    ],
)
def test_a_shape_that_cannot_work_is_refused(
    small_config: ModelConfig, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        replace(small_config, **changes)


def test_a_recipe_may_define_regions(small_config: ModelConfig) -> None:
    """As TOML gives them; regions that are defined and not named have no expert."""
    tissues = {"inner": ["deep_grey", "medial_temporal"], "hindbrain": ["brain_stem"]}
    config = changed(small_config, {"regions": ["csf", "inner"], "region_tissues": tissues})
    assert config.expert_names == ("csf", "inner", "free_1", "free_2", "free_3")
    assert config.tissues_of("inner") == ("deep_grey", "medial_temporal")
    assert config.tissues_of("csf") == REGIONS["csf"]
    # Once more through plain values, as a model's card keeps them.
    assert from_plain(ModelConfig, json.loads(json.dumps(asdict(config)))) == config
    assert small_config.region_tissues == {}


def test_regional_experts_come_first_by_name(small_config: ModelConfig) -> None:
    assert small_config.num_experts == 5
    assert small_config.expert_names == ("grey_matter", "csf", "free_1", "free_2", "free_3")
