"""Maps and region tables add up to what the tokens say."""

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.atlas import Atlas
from ermoe_ba.maps import contribution_map, expert_map, region_table
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.tables import REGION_COLUMNS
from ermoe_ba.tokens import TokenGrid


def _years(tokens: TokenGrid) -> Array:
    """Positive and negative, different for each token."""
    return np.random.default_rng(0).normal(0.0, 1.0, len(tokens)) + 0.1


def _weights(tokens: TokenGrid) -> Array:
    raw = np.random.default_rng(1).uniform(0.1, 1.0, (len(tokens), 3))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def _numbers(tokens: TokenGrid) -> Array:
    """Token of each voxel counted from 1; 0 where there is none."""
    return tokens.to_volume(np.arange(1, len(tokens) + 1)).data


def test_years_on_voxels_add_up_to_those_of_their_token(
    small_tokens: TokenGrid, small_brain: Volume
) -> None:
    years = _years(small_tokens)
    data = contribution_map(years, small_tokens, small_brain).data
    assert data.sum(dtype=np.float64) == pytest.approx(years.sum(), abs=1e-5)
    numbers = _numbers(small_tokens)
    for number, expected in enumerate(years, start=1):
        assert data[numbers == number].sum() == pytest.approx(expected, abs=1e-5)


def test_years_lie_in_the_scans_brain_evenly(small_tokens: TokenGrid, small_brain: Volume) -> None:
    data = contribution_map(_years(small_tokens), small_tokens, small_brain).data
    numbers = _numbers(small_tokens)
    assert (data[small_brain.data == 0] == 0).all()
    assert (data[numbers == 0] == 0).all()
    for number in range(1, len(small_tokens) + 1):
        assert len(np.unique(data[(numbers == number) & (small_brain.data > 0)])) == 1


def test_a_token_without_brain_in_this_scan_keeps_its_years(
    small_tokens: TokenGrid, small_brain: Volume
) -> None:
    numbers, years = _numbers(small_tokens), _years(small_tokens)
    lost = numbers == 3
    scan = small_brain.same_grid(np.where(lost, 0, small_brain.data))
    data = contribution_map(years, small_tokens, scan).data
    assert data.sum(dtype=np.float64) == pytest.approx(years.sum(), abs=1e-5)
    np.testing.assert_allclose(data[lost], years[2] / lost.sum(), rtol=1e-5)
    # The other tokens do not spill out of the brain for its sake.
    assert (data[(scan.data == 0) & ~lost] == 0).all()


def test_weights_sum_to_one_in_the_brain_and_are_zero_outside(
    small_tokens: TokenGrid, small_brain: Volume
) -> None:
    # A scan's brain reaches beyond the template's: some of its voxels belong to no token.
    wide = small_brain.data.copy()
    wide[:, 8, 5] = 1
    wide[0, 0, 0] = 1
    assert ((wide > 0) & (small_tokens.numbers.data == 0)).sum() > 1
    data = expert_map(_weights(small_tokens), small_tokens, small_brain.same_grid(wide)).data
    assert data.dtype == np.float32
    np.testing.assert_allclose(data.sum(axis=-1), wide, atol=1e-6)


def test_a_voxel_has_its_tokens_weights(small_tokens: TokenGrid, small_brain: Volume) -> None:
    weights, numbers = _weights(small_tokens), _numbers(small_tokens)
    data = expert_map(weights, small_tokens, small_brain).data
    inside = (small_brain.data > 0) & (numbers > 0)
    np.testing.assert_allclose(data[inside], weights[numbers[inside] - 1], rtol=1e-6)


def test_a_voxel_beyond_the_tokens_has_the_nearest_ones_weights() -> None:
    """One row of voxels: tokens at 0-1 and 4-5; voxel 2 is nearer to the first, 7 to the second."""
    grid = SpatialGrid((8, 2, 2), np.eye(4), "row")
    tokens = TokenGrid(grid, 2, np.array([[0, 0, 0], [2, 0, 0]]))
    brain = Volume(np.ones(grid.shape, dtype=np.uint8), grid)
    data = expert_map(np.array([[0.75, 0.25], [0.5, 0.5]]), tokens, brain).data
    assert data[:, 0, 0, 0].tolist() == [0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5]


# Voxels of 2 x 3 x 4 mm: 0.024 ml.
TINY = SpatialGrid((2, 3, 4), np.diag([2.0, 3.0, 4.0, 1.0]), "tiny")


def _atlas(dseg: Array) -> Atlas:
    labels = pd.DataFrame(
        {"index": [5, 9, 12], "name": ["five", "nine", "twelve"], "hemisphere": ["L", "R", "n/a"]}
    )
    return Atlas(name="tiny", dseg=Volume(dseg, TINY), labels=labels, licence="none")


def _tiny() -> tuple[Volume, dict[str, Volume], Atlas, Volume]:
    """Region 5 has two brain voxels, 9 one, 12 none; one brain voxel has no label."""
    dseg = np.zeros(TINY.shape, dtype=np.int32)
    dseg[0, 0], dseg[0, 1], dseg[1, 0] = 5, 9, 12
    brain = np.zeros(TINY.shape, dtype=np.uint8)
    weight = np.zeros(TINY.shape, dtype=np.float32)
    for voxel, value in {(0, 0, 0): 0.25, (0, 0, 1): 0.75, (0, 1, 0): 1.0, (1, 2, 3): 0.5}.items():
        brain[voxel], weight[voxel] = 1, value
    years_a = np.zeros(TINY.shape, dtype=np.float32)
    # The first lies outside the brain: a token that the scan's brain does not reach.
    for voxel, value in {(0, 0, 3): 2.0, (0, 1, 0): -1.0, (1, 2, 3): 0.5}.items():
        years_a[voxel] = value
    experts = np.stack([weight, brain - weight], axis=-1).astype(np.float32)
    contributions = {"a": Volume(years_a, TINY), "b": Volume(-4 * years_a, TINY)}
    return Volume(experts, TINY), contributions, _atlas(dseg), Volume(brain, TINY)


def test_a_region_table_by_hand() -> None:
    """Load of a: .25 + .75 + 1 + .5 = 2.5; of b: .75 + .25 + 0 + .5 = 1.5."""
    table = region_table(*_tiny())
    assert table.columns.tolist() == list(REGION_COLUMNS)
    assert table["expert"].tolist() == ["a"] * 4 + ["b"] * 4
    assert table["index"].tolist() == [5, 9, 12, 0] * 2
    assert table["region"].tolist() == ["five", "nine", "twelve", "unlabelled"] * 2
    assert table["hemisphere"].tolist() == ["L", "R", "n/a", "n/a"] * 2
    np.testing.assert_allclose(table["volume_ml"], [0.048, 0.024, 0.0, 0.024] * 2)
    np.testing.assert_allclose(table["mean_weight"], [0.5, 1.0, np.nan, 0.5, 0.5, 0.0, np.nan, 0.5])
    np.testing.assert_allclose(
        table["load_share"], [0.4, 0.4, 0.0, 0.2, 1 / 1.5, 0.0, 0.0, 0.5 / 1.5]
    )
    # In the mean of four voxels a weighs 0.625, b 0.375.
    ratio = [0.5 / 0.625, 1 / 0.625, np.nan, 0.5 / 0.625, 0.5 / 0.375, np.nan, np.nan, 0.5 / 0.375]
    np.testing.assert_allclose(table["enrichment_log2"], np.log2(ratio))
    np.testing.assert_allclose(
        table["contribution_years"], [2.0, -1.0, 0.0, 0.5, -8.0, 4.0, 0.0, -2.0]
    )


def test_an_unused_expert_has_no_load_anywhere() -> None:
    experts, contributions, atlas, brain = _tiny()
    silent = experts.data.copy()
    silent[..., 1] = 0
    table = region_table(experts.same_grid(silent), contributions, atlas, brain)
    assert (table.loc[table["expert"] == "b", "load_share"] == 0).all()
    assert table.loc[table["expert"] == "b", "enrichment_log2"].isna().all()


def test_a_region_table_adds_up_on_a_padded_grid(
    small_tokens: TokenGrid, small_brain: Volume
) -> None:
    dseg = np.zeros(small_brain.grid.shape, dtype=np.int32)
    dseg[:5], dseg[5:, :9], dseg[9:, 9:, 4:] = 5, 9, 12
    atlas = Atlas(
        name="small",
        dseg=small_brain.same_grid(dseg),
        labels=_atlas(np.zeros(TINY.shape, dtype=np.int32)).labels,
        licence="none",
    )
    years = {n: _years(small_tokens) * by for n, by in zip("abc", (1, 2, -3), strict=True)}
    maps = {name: contribution_map(y, small_tokens, small_brain) for name, y in years.items()}
    experts = expert_map(_weights(small_tokens), small_tokens, small_brain)
    groups = region_table(experts, maps, atlas, small_brain).groupby("expert")
    brain_ml = small_brain.data.sum() * small_brain.grid.voxel_volume_ml
    for name, rows in groups:
        assert rows["load_share"].sum() == pytest.approx(1.0)
        assert rows["contribution_years"].sum() == pytest.approx(years[name].sum(), abs=1e-4)
        assert rows["volume_ml"].sum() == pytest.approx(brain_ml)
        assert rows["mean_weight"].between(0, 1).all()
    # Weights sum to one in every voxel, so their means do in every region.
    means = groups.obj.groupby("index")["mean_weight"].sum()
    np.testing.assert_allclose(means, 1.0, rtol=1e-6)


@pytest.mark.parametrize("which", ["experts", "atlas", "brain"])
def test_another_grid_is_refused(which: str) -> None:
    experts, contributions, atlas, brain = _tiny()
    elsewhere = SpatialGrid(TINY.shape, np.diag([2.0, 3.0, 4.5, 1.0]), "tiny")
    if which == "experts":
        experts = Volume(experts.data, elsewhere)
    elif which == "brain":
        brain = Volume(brain.data, elsewhere)
    else:
        atlas = Atlas(
            name="x", dseg=Volume(atlas.dseg.data, elsewhere), labels=atlas.labels, licence=""
        )
    with pytest.raises(ValueError, match="one grid"):
        region_table(experts, contributions, atlas, brain)
