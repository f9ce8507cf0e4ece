"""The recipe that leaves one stabiliser out at a time does so, and says of each what is true."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ermoe_ba.config import changed
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.content import LENGTH_FLOOR
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.routing import EigenbasisRouter, cosines
from ermoe_ba.training.ablation_recipe import AblationRecipe, read_ablation

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OFF: dict[str, dict[str, Any]] = {
    "no-selection-bias": {"bias_step": 0.0},
    "no-place": {"place_scale": 0.0},
    "flat-weights": {"temperature": 1.0},
    "no-threshold": {"score_threshold": -2.5},
    "raw-threshold": {"standardise_scores": False},
    "raw-threshold-half": {"standardise_scores": False, "score_threshold": 0.5},
    "no-fallback": {"free_fallback": False},
    "raw-threshold-half-no-fallback": {
        "standardise_scores": False,
        "score_threshold": 0.5,
        "free_fallback": False,
    },
    "no-region-fraction": {"region_min_fraction": 0.0},
    "no-offset": {"offset_scale": 0.0},
    "no-centring": {"centre_content": False},
    "no-token-dropout": {"token_dropout": 0.0},
    "no-compression": {"compression": 0.0},
    "no-age-bounds": {"age_bounds": ()},
}


@pytest.fixture(scope="module")
def recipe() -> AblationRecipe:
    return read_ablation(Path(__file__).parents[1] / "pipelines" / "ablation_stabilisers.toml")


def test_each_row_leaves_out_one_stabiliser_that_the_shipped_shape_has(
    recipe: AblationRecipe,
) -> None:
    shipped = asdict(recipe.base.model)
    others = {row.name: row for row in recipe.row if row.name != recipe.ablation.reference}
    assert set(others) == set(OFF)
    for name, settings in OFF.items():
        assert all(shipped[setting] != value for setting, value in settings.items())
        assert asdict(recipe.model_of(others[name])) == shipped | settings
        assert recipe.age_of(others[name]) == recipe.base.age


def _router(recipe: AblationRecipe, name: str) -> EigenbasisRouter:
    """The row's router, for tokens that may go to all experts at once."""
    config = recipe.model_of(next(row for row in recipe.row if row.name == name))
    return EigenbasisRouter.of(replace(config, top_k=config.num_experts))


def test_without_a_threshold_scores_refuse_nobody(recipe: AblationRecipe) -> None:
    """The lowest of five: one at -1, four at 1, which stands at -1.6 / sqrt(.64) = -2."""
    scores, everywhere = torch.tensor([[[-1.0, 1, 1, 1, 1]]]), torch.ones(1, 1, 3)
    assert not _router(recipe, "ermoe").select(scores, everywhere).selected_bte[0, 0, 0]
    assert _router(recipe, "no-threshold").select(scores, everywhere).selected_bte.all()


def test_without_a_least_fraction_regions_refuse_nobody(recipe: AblationRecipe) -> None:
    equal, nowhere = torch.zeros(1, 1, 5), torch.zeros(1, 1, 3)
    shipped = _router(recipe, "ermoe").select(equal, nowhere).selected_bte
    assert shipped.tolist() == [[[False, False, False, True, True]]]
    assert _router(recipe, "no-region-fraction").select(equal, nowhere).selected_bte.all()


def test_flat_weights_differ_by_a_bounded_factor(recipe: AblationRecipe) -> None:
    """Cosines of 1 and -1: e^2 at a temperature of 1, e^20 at a tenth."""
    scores = torch.tensor([[[0.0, 0, 0, 1, -1]]])
    for name, power in (("flat-weights", 2), ("ermoe", 20)):
        router = _router(recipe, name)
        router.threshold = -2.5
        weights = router.select(scores, torch.zeros(1, 1, 3)).weights_bte[0, 0]
        assert (weights[3] / weights[4]).item() == pytest.approx(math.exp(power), rel=1e-3)


def test_a_raw_threshold_asks_the_same_cosine_of_every_token(recipe: AblationRecipe) -> None:
    """Of .6, .5, .4, .3, .2 two reach a half; standardised, none but the last two fall below -.5.

    Their mean is .4, their standard deviation the root of .02, .141: they stand at 1.41, .71, 0,
    -.71, -1.41. Of cosines all below a half, nobody reaches it; all of them stand above -.5 raw.
    """
    scores, everywhere = torch.tensor([[[0.2, 0.3, 0.4, 0.5, 0.6]]]), torch.ones(1, 1, 3)
    expected = {
        "ermoe": [False, False, True, True, True],
        "raw-threshold": [True] * 5,
        "raw-threshold-half": [False, False, False, True, True],
    }
    for name, selected in expected.items():
        routing = _router(recipe, name).select(scores, everywhere)
        assert routing.selected_bte.tolist() == [[selected]], name
        assert not routing.fallback_bt.any()
        torch.testing.assert_close(routing.weights_bte.sum(dim=-1), torch.ones(1, 1))
    half = _router(recipe, "raw-threshold-half").select(scores - 0.2, everywhere)
    assert half.fallback_bt.tolist() == [[True]]
    assert half.selected_bte.tolist() == [[[False, False, False, False, True]]]


def test_without_a_fallback_nobody_serves_where_nobody_is_eligible(recipe: AblationRecipe) -> None:
    """Token one: nobody reaches a half. Token two: two do, softmax of .9 / .1 and .7 / .1."""
    scores = torch.tensor([[[0.1, 0.2, 0.3, 0.2, 0.4], [0.1, 0.2, 0.3, 0.7, 0.9]]])
    scores.requires_grad_()
    nowhere = torch.zeros(1, 2, 3)
    routing = _router(recipe, "raw-threshold-half-no-fallback").select(scores, nowhere)
    assert routing.fallback_bt.tolist() == [[True, False]]
    assert routing.selected_bte[0, 0].tolist() == [False] * 5
    assert routing.weights_bte[0, 0].tolist() == [0.0] * 5
    first = 1 / (1 + math.exp(-2))
    expected = torch.tensor([0.0, 0, 0, 1 - first, first])
    torch.testing.assert_close(routing.weights_bte[0, 1], expected)
    # What is learnt from such a token is nothing, and is a number.
    routing.weights_bte[..., 4].sum().backward()
    slope = first * (1 - first) / 0.1
    found = torch.zeros(1, 2, 5)
    found[0, 1, 3:] = torch.tensor([-slope, slope])
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, found)
    # Where somebody is eligible, the option changes nothing, to the bit.
    for each in ("raw-threshold-half", "raw-threshold-half-no-fallback"):
        second = _router(recipe, each).select(scores[:, 1:], nowhere[:, 1:])
        assert torch.equal(second.weights_bte, routing.weights_bte[:, 1:])


@torch.no_grad()
def test_a_token_that_nobody_serves_adds_nothing(
    small_config: ModelConfig, make_member: Callable[..., ErmoeBrainAge], small_scans: Tensor
) -> None:
    """No cosine reaches 2: all that is left is the baseline and what scans are compared with."""
    off = {"standardise_scores": False, "score_threshold": 2.0, "free_fallback": False}
    member = make_member(config=changed(small_config, off))
    output = member(small_scans)
    assert output.routing.fallback_bt.all()
    assert not output.routing.selected_bte.any()
    left = (member.baseline - member.reference_te.sum()).expand(2)
    torch.testing.assert_close(output.age_b, left)
    served = make_member(config=changed(small_config, off | {"free_fallback": True}))(small_scans)
    assert (served.age_b - left).abs().min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("compression", [0.0, 0.25])
def test_content_without_its_centre_holds_the_cohort_s_mean(
    small_config: ModelConfig, make_member: Callable[..., ErmoeBrainAge], compression: float
) -> None:
    """A token as the cohort's mean has no content, and its whole description without the centre."""
    config = changed(small_config, {"compression": compression})
    centred, whole = (
        make_member(config=changed(config, {"centre_content": centre})) for centre in (True, False)
    )
    usual = centred.location_tfc[None]
    assert (centred.unlike(usual) == 0).all()
    ratio = usual / whole.spread_tfc
    length = ratio.square().sum(dim=(2, 3), keepdim=True) / config.hidden_size
    expected = ratio * (length + LENGTH_FLOOR) ** (-compression / 2) if compression else ratio
    torch.testing.assert_close(whole.unlike(usual), expected)
    # What all scans share makes them alike: means of .05 to .15 have a mean square of .0108, noise
    # of .02 one of .0004, and .0108 / .0112 is .96. Without them thousands of numbers are noise.
    scans = usual + 0.02 * torch.randn(6, *usual.shape[1:])
    alike, unlike = (
        cosines(each.unlike(scans[:3]).flatten(1), each.unlike(scans[3:]).flatten(1)).abs()
        for each in (whole, centred)
    )
    assert alike.min() > 0.9
    assert unlike.max() < 0.1
