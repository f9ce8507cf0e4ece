"""Recipes of ablations: what a row may change, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ablation_place import MASKED, RECIPE, Place, place

from ermoe_ba.atlas import Atlas
from ermoe_ba.errors import UsageError
from ermoe_ba.space import Volume
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.ablation_network import train_unit
from ermoe_ba.training.ablation_recipe import read_ablation
from ermoe_ba.training.change_config import CHANGES, USUAL
from ermoe_ba.training.recipe import read_recipe

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["place"]


@pytest.mark.parametrize("setting", ["patch_size", "stem_hidden", "token_min_brain"])
def test_a_row_cannot_have_another_stem(place: Place, setting: str) -> None:
    recipe = place.recipe()
    row = replace(recipe.row[0], model={setting: 4})
    with pytest.raises(ValueError, match=f"none may set {setting}"):
        replace(recipe, row=(row, *recipe.row[1:]))


TIED = """
[[row]]
name = "tied"
router = "subspace"
model = { regions = ["part"], region_atlas = "tiny", region_labels = { part = ["spot"] } }
"""


def test_a_row_may_tie_experts_to_regions_of_an_atlas(
    place: Place, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The region fills the whole of one token: its expert serves that, and no other."""
    number = len(small_tokens) // 2
    dseg = (small_tokens.numbers.data == number + 1).astype(np.int32)
    labels = pd.DataFrame({"index": [1], "name": ["Spot"], "hemisphere": ["n/a"]})
    atlas = Atlas(name="tiny", dseg=Volume(dseg, small_tokens.grid), labels=labels, licence="none")
    monkeypatch.setattr("ermoe_ba.training.atlas_regions.load_atlas", {"tiny": atlas}.__getitem__)
    with pytest.raises(UsageError, match=r"region_labels.part: must name .* found 'dot'"):
        place.ablation(RECIPE + TIED.replace('"spot"', '"dot"'))
    assert not (place.folder / "out").exists()
    # Of four experts all may serve, by their score as well.
    more = "model = { top_k = 4, score_threshold = -9.0, "
    recipe = place.recipe(RECIPE + TIED.replace("model = { ", more))
    unit = train_unit(recipe, recipe.row[-1], place.fold(recipe), 1)
    assert unit.routes is not None
    assert unit.routes.num_regional == 1
    expected = np.arange(len(small_tokens)) == number
    served = unit.routes.selected_bte[:, :, 0]
    np.testing.assert_array_equal(served, np.broadcast_to(expected, served.shape))


def test_a_row_changes_its_own_settings_alone(place: Place) -> None:
    recipe = place.recipe()
    ermoe, softmax, additive = recipe.row
    assert recipe.model_of(ermoe) == recipe.base.model
    assert recipe.model_of(softmax) == replace(recipe.base.model, top_k=1)
    assert recipe.age_of(softmax) == recipe.base.age
    assert recipe.age_of(additive) == replace(recipe.base.age, num_epochs=4)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('router = "softmax"', 'router = "roulette"', "router must be one of eigenbasis"),
        ('backbone = "additive"', 'backbone = "giant"', "backbone must be one of experts"),
        ('name = "ermoe"', 'name = "ermoe"\northogonal = "svd"', "must be one of qr"),
        ('name = "ermoe"', 'name = "er/moe"', "letters, digits and hyphens"),
        ('name = "ermoe"', 'name = "softmax"', "a name of its own"),
        ('reference = "additive"', 'reference = "dense"', "reference must be a row"),
        ("top_k = 1", "top_k = 6", "top_k must lie between 1 and 5"),
        ("top_k = 1", "topk = 1", "topk"),
        ("num_epochs = 4", "num_epoch = 4", "num_epoch"),
        ("folds = [0, 1]", "folds = [0, 2]", "folds must lie between 0 and 1"),
        ("seeds = [1, 2]", "seeds = []", "seeds must be one or more"),
        ("seeds = [1, 2]", "seeds = [2, 2]", "each once"),
        ("resamples = 200", "resamples = 0", "resamples must be at least 1"),
        (
            'name = "ermoe"',
            'name = "ermoe"\nharmonise = "combat"',
            "is for ridge and gpr",
        ),
        ('name = "ermoe"', 'name = "ermoe"\nharmonise = "magic"', "one of none, combat"),
        ('name = "ermoe"', 'name = "ermoe"\npretrain = { dream = {} }', "dream"),
        ("age = { num_epochs = 4 }", f"pretrain = {MASKED}", "pretrain is for mixtures"),
        ("confidence = 0.9", "confidence = 90.0", "confidence must lie between 0 and 1"),
        ("resamples", 'moved_by = ["mask", "wind"]\nresamples', "which are mask.*found wind"),
        ("num_epochs = 4", "changes = { flip = { probability = 2 } }", "between 0 and 1; found 2"),
        ("base.toml", "none.toml", "none.toml"),
        ("[ablation]", "[ablations]", "ablation"),
        ("seeds", "seed", "seed"),
    ],
)
def test_a_wrong_recipe_is_refused(place: Place, old: str, new: str, says: str) -> None:
    assert old in RECIPE
    with pytest.raises(UsageError, match=says):
        place.recipe(RECIPE.replace(old, new, 1))


def test_the_shipped_recipes_can_be_read() -> None:
    pipelines = Path(__file__).parents[1] / "pipelines"
    recipe = read_ablation(pipelines / "ablation.toml")
    assert len(recipe.ablation.seeds) >= 3
    routers = {row.router for row in recipe.row if row.backbone == "experts"}
    from ermoe_ba.model.rivals.roster import ROUTERS

    assert routers == set(ROUTERS)
    for path in pipelines.glob("ablation*.toml"):
        other = read_ablation(path)
        if path.stem != "ablation_phantom":
            assert other.base == recipe.base, path
        told = [
            (replace(row, name="any"), other.model_of(row), other.age_of(row)) for row in other.row
        ]
        # A row that says the same as another would compare a network with itself.
        assert all(one not in told[:number] for number, one in enumerate(told)), path
    before = read_ablation(pipelines / "ablation_stages.toml")
    assert [list(before.pretrain_of(row).stages()) for row in before.row] == [
        [],
        ["masked"],
        ["volumes"],
        ["phantom"],
    ]
    # Every change stands in a row of its own: left out where it is made, made where it is not.
    by_change = read_ablation(pipelines / "ablation_changes.toml")
    alone = {row.name: by_change.age_of(row).changes for row in by_change.row}
    for name in CHANGES:
        usual = getattr(USUAL, name)
        found = alone[f"no-{name}" if usual.probability else f"with-{name}"]
        assert getattr(found, name).probability == (0 if usual.probability else 0.5)
        assert replace(found, **{name: usual}) == USUAL
    assert by_change.ablation.moved_by == CHANGES


def test_the_phantom_s_rows_are_those_of_the_table_on_people() -> None:
    """Of the same shape as well; both recipes ask for the phantom's own label maps."""
    pipelines = Path(__file__).parents[1] / "pipelines"
    simulated = read_ablation(pipelines / "ablation_phantom.toml")
    people = read_ablation(pipelines / "ablation.toml")
    known = {row.name: row for row in people.row}
    assert [row for row in simulated.row if row != known[row.name]] == []
    assert simulated.base.model == people.base.model
    smoke = read_recipe(pipelines / "smoke.toml").run
    for name in ("labels", "label_table", "t1w"):
        assert getattr(simulated.base.run, name) == getattr(smoke, name)
