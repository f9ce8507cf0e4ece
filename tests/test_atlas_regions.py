"""Regions of an atlas that experts are tied to: shares by hand, and what cannot be placed."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tied_config import make_tied_config

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.checkpoint import token_grid
from ermoe_ba.config import changed, from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_volume
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.space import SpatialGrid, Volume
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.ablation_recipe import read_ablation
from ermoe_ba.training.atlas_regions import place_regions

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["make_tied_config"]
PIPELINES = Path(__file__).parents[1] / "pipelines"


@pytest.fixture
def tokens(oblique_grid: SpatialGrid) -> TokenGrid:
    """All 2 x 2 x 3 patches of 4 over 5 x 7 x 9 voxels; the first holds voxels 0-2, 0-3, 0-2."""
    return TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)


@pytest.fixture
def atlas(oblique_grid: SpatialGrid, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    """A pole on the right (1) and on the left (2), and something deep (7)."""
    dseg = np.zeros((5, 7, 9), dtype=np.int32)
    # 2 x 4 x 3 = 24 voxels of the first token.
    dseg[:2, :4, :3] = 1
    # 3 of the first token, and 1 of the last: voxels 3-4, 4-6, 7-8.
    dseg[2, 0, :3] = dseg[3, 4, 7] = 2
    dseg[4, 6, 8] = 7
    labels = pd.DataFrame(
        {"index": [1, 2, 7], "name": ["Pole", "Pole", "Deep"], "hemisphere": ["R", "L", "n/a"]}
    )
    made = Atlas(name="tiny", dseg=Volume(dseg, oblique_grid), labels=labels, licence="none")
    monkeypatch.setattr(
        "ermoe_ba.training.atlas_regions.load_atlas", {"tiny.nii.gz": made}.__getitem__
    )
    return made


@pytest.mark.parametrize(
    ("labels", "first", "last"),
    [
        (["Pole"], 27, 1),
        (["left pole"], 3, 1),
        (["Right Pole"], 24, 0),
        ([2], 3, 1),
        ([1, "deep"], 24, 1),
        (["pole", 7], 27, 2),
        # Told twice, by name and by number, a label counts once.
        ([1, "right pole"], 24, 0),
    ],
)
@pytest.mark.usefixtures("atlas")
def test_shares_of_the_voxels_of_each_token_by_hand(
    tokens: TokenGrid,
    make_tied_config: Callable[..., ModelConfig],
    labels: list[str | int],
    first: int,
    last: int,
) -> None:
    """Of 4 x 4 x 4 voxels a token, the padding included; tokens in C order."""
    config = make_tied_config(["part"], {"part": labels}, region_min_fraction=0.01)
    placed = place_regions(tokens, config)
    expected = np.zeros(12)
    expected[0], expected[11] = first / 64, last / 64
    np.testing.assert_array_equal(placed.region_shares["part"], expected)
    assert placed == tokens
    assert tokens.region_shares == {}


def test_an_atlas_may_be_a_file_with_its_table_beside_it(
    tmp_path: Path, small_config: ModelConfig
) -> None:
    """Patches of 8 over 91 voxels begin at -2: the seventh and later ones hold 46 and more.

    The region is the half of the template's brain from there on, so it fills of each such token
    what brain does, and of the others nothing.
    """
    path, brain = tmp_path / "halves_dseg.nii.gz", template("desc-brain_mask")
    beyond = np.arange(91)[:, None, None] >= 46
    write_volume(path, brain.same_grid(np.where(brain.data > 0, 1 + beyond, 0).astype(np.int16)))
    table = "index\tname\themisphere\n1\tHalf\tL\n2\tHalf\tR\n"
    path.with_name("halves_dseg.tsv").write_text(table, encoding="utf-8")
    plain = {"region_atlas": str(path), "region_labels": {"beyond": ["right half"]}}
    config = changed(small_config, {"regions": ["beyond"], "patch_size": 8, **plain})
    tokens = place_regions(token_grid(config), config)
    held = tokens.held_share(brain)
    expected = np.where(tokens.positions[:, 0] >= 6, held, 0.0)
    assert 0 < np.count_nonzero(expected) < len(tokens)
    np.testing.assert_array_equal(tokens.region_shares["beyond"], expected)
    missing = changed(config, {"region_atlas": str(tmp_path / "gone.nii.gz")})
    with pytest.raises(UsageError, match="There is no atlas"):
        place_regions(tokens, missing)


def test_no_atlas_is_read_where_no_expert_needs_one(
    tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region that is defined, and not named, has no expert."""
    monkeypatch.setattr(
        "ermoe_ba.training.atlas_regions.load_atlas", lambda _: pytest.fail("the atlas was read")
    )
    assert place_regions(tokens, make_tied_config(["csf"], {"part": [1]})) is tokens


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("poll", r"part: must name labels that the atlas tiny has .* found 'poll'. Near .*: pole"),
        ("left poll", "found 'left poll'. Near it are: pole"),
        ("left deep", "found 'left deep'. Near it are: deep"),
        (3, "found 3"),
    ],
)
@pytest.mark.usefixtures("atlas")
def test_a_label_that_the_atlas_has_not_is_refused(
    tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig], label: str | int, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        place_regions(tokens, make_tied_config(["part"], {"part": ["pole", label]}))


@pytest.mark.parametrize(("least", "refused"), [(1 / 64, False), (1.01 / 64, True)])
@pytest.mark.usefixtures("atlas")
def test_a_region_that_reaches_no_token_is_refused(
    tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig], least: float, refused: bool
) -> None:
    """One voxel of 64 is 0.0156 of a token."""
    config = make_tied_config(["deep"], {"deep": [7]}, region_min_fraction=least)
    if refused:
        with pytest.raises(UsageError, match=r"deep: must fill .* found 0\.0156 at most"):
            place_regions(tokens, config)
    else:
        assert place_regions(tokens, config).region_shares["deep"].max() == 1 / 64


@pytest.mark.usefixtures("atlas")
def test_a_region_outside_all_tokens_is_refused_where_no_fraction_is_asked_for(
    tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig]
) -> None:
    rest = replace(tokens, positions=tokens.positions[:11])
    config = make_tied_config(["deep"], {"deep": [7]}, region_min_fraction=0.0)
    with pytest.raises(UsageError, match="found 0 at most"):
        place_regions(rest, config)


def test_an_atlas_on_another_grid_is_refused(
    atlas: Atlas, small_tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig]
) -> None:
    with pytest.raises(ValueError, match="not on the token grid"):
        place_regions(small_tokens, make_tied_config(["part"], {"part": [1]}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"region_labels": {"part": ()}}, r"region_labels.part must name one .* found \[\]"),
        ({"region_labels": {"part": (1, 2, 1)}}, r"each once; found \[1, 2, 1\]"),
        ({"region_labels": {"csf": (1,)}}, "region_labels must .* names of their own, .* 'csf'"),
        ({"region_labels": {"free_2": (1,)}}, "found 'free_2'"),
        ({"region_labels": {"Left": (1,)}}, "found 'Left'"),
        (
            {"region_labels": {"deep": (1,)}, "region_tissues": {"deep": ("deep_grey",)}},
            "region_labels must give .* found 'deep'. Taken are .*'deep'",
        ),
        (
            {"region_labels": {"part": (1,)}, "region_atlas": None},
            r"together, .* \['part'\] and No",
        ),
        ({"region_atlas": "MUSEIXI"}, r"together, or neither; found \[\] and 'MUSEIXI'"),
        (
            {"region_labels": {"part": (1,)}, "regions": ("part", "part")},
            "Each region has one expert",
        ),
        ({"region_labels": {"part": (1,)}, "regions": ("parts",)}, "known are .*'part'"),
    ],
)
def test_a_shape_that_cannot_work_is_refused(
    small_config: ModelConfig, changes: dict[str, Any], says: str
) -> None:
    given = {"region_atlas": "tiny.nii.gz"} if "region_labels" in changes else {}
    with pytest.raises(ValueError, match=says):
        replace(small_config, **(given | changes))


def test_labels_of_an_atlas_are_names_or_numbers(
    make_tied_config: Callable[..., ModelConfig],
) -> None:
    config = make_tied_config(["csf", "part", "deep"], {"deep": [7], "part": ["Pole", 7]})
    assert config.region_labels == {"deep": (7,), "part": ("Pole", 7)}
    assert config.atlas_regions == ("part", "deep")
    assert config.tissues_of("part") == ()
    # Once more through plain values, as a model's card keeps them.
    assert from_plain(ModelConfig, json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(ValueError, match="region_labels"):
        make_tied_config(["part"], {"part": [1.5]})


def test_the_lobes_of_the_recipe_part_the_brain() -> None:
    """Each label lies in one region at most, both sides of it, and regions share tokens out."""
    recipe = read_ablation(PIPELINES / "ablation_regions.toml")
    configs = {row.name: recipe.model_of(row) for row in recipe.row}
    assert configs["tissues"] == recipe.base.model
    assert configs["no-regions"].num_experts == configs["tissues"].num_experts
    assert configs["no-regions-as-many"].num_experts == configs["lobes"].num_experts
    lobes = configs["lobes"]
    assert not [name for name in ("no-regions", "no-regions-as-many") if configs[name].regions]
    assert set(lobes.regions) == set(lobes.region_labels)
    said = [label for labels in lobes.region_labels.values() for label in labels]
    assert len(set(said)) == len(said)
    tokens = place_regions(token_grid(lobes), lobes)
    shares_tr = np.stack([tokens.region_shares[name] for name in lobes.regions], axis=1)
    assert (shares_tr.sum(axis=1) <= 1 + 1e-9).all()
    # Right and left of the middle, by the consensus of 144 people, to within a fifth.
    right = tokens.centres_mm[:, 0] > 0
    by_side = np.stack([shares_tr[right].sum(axis=0), shares_tr[~right].sum(axis=0)])
    np.testing.assert_allclose(by_side[0], by_side[1], rtol=0.2)
    # Where each lies: front and back, top and bottom, of the tokens' middle in mm.
    centre_rx = (shares_tr.T @ tokens.centres_mm) / shares_tr.sum(axis=0)[:, None]
    at = dict(zip(lobes.regions, centre_rx, strict=True))
    assert at["frontal"][1] > at["parietal"][1] > at["occipital"][1]
    assert at["cerebellum"][2] < at["temporal"][2] < at["parietal"][2]
