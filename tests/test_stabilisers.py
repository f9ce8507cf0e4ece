"""The recipe that leaves one stabiliser out at a time does so, and says of each what is true."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from ermoe_ba.model.routing import EigenbasisRouter
from ermoe_ba.training.ablation_recipe import AblationRecipe, read_ablation

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OFF = {
    "no-selection-bias": ("bias_step", 0.0),
    "no-place": ("place_scale", 0.0),
    "flat-weights": ("temperature", 1.0),
    "no-threshold": ("score_threshold", -2.5),
    "no-region-fraction": ("region_min_fraction", 0.0),
    "no-token-dropout": ("token_dropout", 0.0),
    "no-compression": ("compression", 0.0),
    "no-age-bounds": ("age_bounds", ()),
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
    for name, (setting, value) in OFF.items():
        assert shipped[setting] != value
        assert asdict(recipe.model_of(others[name])) == shipped | {setting: value}
        assert recipe.age_of(others[name]) == recipe.base.age


def _router(recipe: AblationRecipe, name: str) -> EigenbasisRouter:
    """The row's router, for tokens that may go to all experts at once."""
    config = recipe.model_of(next(row for row in recipe.row if row.name == name))
    return EigenbasisRouter(
        num_regional=len(config.regions),
        num_free=config.num_free_experts,
        top_k=config.num_experts,
        threshold=config.score_threshold,
        region_min_fraction=config.region_min_fraction,
        temperature=config.temperature,
        bias_step=config.bias_step,
    )


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
