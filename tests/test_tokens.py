"""Patches cover the whole grid, tokens are those with brain, and values find their way back."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume
from ermoe_ba.tokens import TokenGrid


def _everywhere(shape: tuple[int, int, int], patch_size: int) -> TokenGrid:
    grid = SpatialGrid(shape, np.eye(4), "scan")
    return TokenGrid.over(Volume(np.ones(shape, dtype=np.uint8), grid), patch_size, 0.0)


def test_padding_puts_the_odd_voxel_at_the_far_end() -> None:
    """5, 7, 9 at patches of 4: 3 are missing to 8, 1 to 8, 3 to 12."""
    assert _everywhere((5, 7, 9), 4).padding == ((1, 2), (0, 1), (1, 2))


def test_an_even_lack_is_shared_by_both_ends() -> None:
    assert _everywhere((6, 8, 10), 4).padding == ((1, 1), (0, 0), (1, 1))


def test_a_grid_that_the_patch_divides_is_not_padded() -> None:
    assert _everywhere((4, 8, 12), 4).padding == ((0, 0), (0, 0), (0, 0))


def test_the_lattice_covers_every_voxel() -> None:
    assert _everywhere((5, 7, 9), 4).lattice_shape == (2, 2, 3)
    assert _everywhere((5, 7, 9), 1).lattice_shape == (5, 7, 9)
    assert _everywhere((5, 7, 9), 20).lattice_shape == (1, 1, 1)


def test_patches_of_7_keep_the_last_coronal_planes_of_the_model_grid() -> None:
    """109 = 15 x 7 + 4: without padding four planes would be lost."""
    mask = Volume(np.ones(MODEL_GRID.shape, dtype=np.uint8), MODEL_GRID)
    tokens = TokenGrid.over(mask, 7, 0.0)
    assert tokens.lattice_shape == (13, 16, 13)
    assert tokens.padding == ((0, 0), (1, 2), (0, 0))
    assert (tokens.numbers.data > 0).all()


def test_a_pooled_value_is_the_mean_of_its_patch(oblique_grid: SpatialGrid) -> None:
    """Patch 4 of 5 x 7 x 9: lattice (0, 0, 0) holds voxels 0-2, 0-3, 0-2, so 36 of 64."""
    tokens = TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)
    pooled = tokens.pool(np.ones((5, 7, 9)))
    assert pooled[0, 0, 0] == 36 / 64
    # Voxels 3-4, 4-6, 3-6: 2 x 3 x 4.
    assert pooled[1, 1, 1] == 24 / 64
    marker = np.zeros((5, 7, 9), dtype=np.uint8)
    marker[3, 4, 7] = 255
    expected = np.zeros((2, 2, 3))
    expected[1, 1, 2] = 255 / 64
    np.testing.assert_array_equal(tokens.pool(marker), expected)


def test_tokens_hold_all_of_a_mask_that_they_cover(oblique_grid: SpatialGrid) -> None:
    """Voxels of 2 x 3 x 4 mm; the first token of 5 x 7 x 9 holds 3 x 4 x 3 of them."""
    tokens = TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)
    held = tokens.held_ml(Volume(np.full((5, 7, 9), 7), oblique_grid))
    assert held[0] == pytest.approx(36 * 0.024)
    assert held.sum() == pytest.approx(5 * 7 * 9 * 0.024)
    with pytest.raises(ValueError, match="not on the token grid"):
        tokens.held_ml(Volume(np.ones((5, 7, 9)), SpatialGrid((5, 7, 9), np.eye(4), "scan")))


def test_a_patch_needs_more_than_the_fraction_not_just_as_much(
    oblique_grid: SpatialGrid,
) -> None:
    mask = np.zeros((4, 8, 12), dtype=np.uint8)
    mask[0, 0, 0] = 1
    mask[:2, 4:, 4:8] = 1
    volume = Volume(mask, SpatialGrid((4, 8, 12), oblique_grid.affine, "scan"))
    assert TokenGrid.over(volume, 4, 0.0).positions.tolist() == [[0, 0, 0], [0, 1, 1]]
    assert TokenGrid.over(volume, 4, 1 / 64).positions.tolist() == [[0, 1, 1]]
    assert TokenGrid.over(volume, 4, 0.49).positions.tolist() == [[0, 1, 1]]
    with pytest.raises(ValueError, match=r"more than 0\.5"):
        TokenGrid.over(volume, 4, 0.5)


def test_tokens_stand_in_c_order() -> None:
    tokens = _everywhere((5, 7, 9), 4)
    assert len(tokens) == 12
    flat = np.ravel_multi_index(tuple(tokens.positions.T), (2, 2, 3))
    np.testing.assert_array_equal(flat, np.arange(12))


def test_a_mask_of_any_positive_value_counts_as_brain(oblique_grid: SpatialGrid) -> None:
    """255 in one voxel of 64 is a sixty-fourth of brain, not four."""
    mask = np.zeros((5, 7, 9), dtype=np.uint8)
    mask[2, 2, 2] = 255
    with pytest.raises(ValueError, match="No patch"):
        TokenGrid.over(Volume(mask, oblique_grid), 4, 0.1)


def test_a_mask_without_brain_gives_no_tokens(oblique_grid: SpatialGrid) -> None:
    with pytest.raises(ValueError, match="No patch"):
        TokenGrid.over(Volume(np.zeros((5, 7, 9)), oblique_grid), 4, 0.0)


@pytest.mark.parametrize("patch_size", [0, -4])
def test_a_patch_has_a_size(oblique_grid: SpatialGrid, patch_size: int) -> None:
    with pytest.raises(ValueError, match=str(patch_size)):
        TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), patch_size, 0.0)


def test_centres_lie_where_the_oblique_affine_puts_them(oblique_grid: SpatialGrid) -> None:
    """Patch (0, 0, 0) starts at voxel (-1, 0, -1): its centre is voxel (0.5, 1.5, 0.5).

    x = 1.2 * 0.5 - 2.4 * 1.5 + 10 = 7, y = 1.6 * 0.5 + 1.8 * 1.5 - 20 = -16.5, z = 4 * 0.5 + 30.
    One patch on along i is 4 voxels on: (4.8, 6.4, 0) mm; along j (-9.6, 7.2, 0), along k 16 mm.
    """
    tokens = TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)
    centres = tokens.centres_mm.reshape(2, 2, 3, 3)
    np.testing.assert_allclose(centres[0, 0, 0], [7.0, -16.5, 32.0])
    np.testing.assert_allclose(centres[1, 0, 0], [11.8, -10.1, 32.0])
    np.testing.assert_allclose(centres[0, 1, 0], [-2.6, -9.3, 32.0])
    np.testing.assert_allclose(centres[0, 0, 2], [7.0, -16.5, 64.0])


def test_single_voxels_as_patches_have_the_voxels_centres(oblique_grid: SpatialGrid) -> None:
    mask = np.zeros((5, 7, 9))
    mask[3, 1, 8] = 1
    tokens = TokenGrid.over(Volume(mask, oblique_grid), 1, 0.0)
    expected = oblique_grid.affine @ [3, 1, 8, 1]
    np.testing.assert_allclose(tokens.centres_mm, [expected[:3]])


def _values(tokens: TokenGrid) -> npt.NDArray[np.float64]:
    # Quarters: means of equal quarters are exact in binary.
    return (np.arange(len(tokens)) + 1) / 4


def _means(tokens: TokenGrid, volume: Volume) -> npt.NDArray[np.float64]:
    """Over each token's voxels: padding, which `pool` counts as 0, is none of them."""
    inside = tokens.pool(np.ones(tokens.grid.shape))
    return (tokens.pool(volume.data) / inside)[tuple(tokens.positions.T)]


def test_values_come_back_from_the_volume_where_the_grid_is_not_padded(
    oblique_grid: SpatialGrid,
) -> None:
    grid = SpatialGrid((4, 8, 12), oblique_grid.affine, "scan")
    tokens = TokenGrid.over(Volume(np.ones(grid.shape), grid), 4, 0.0)
    values = _values(tokens)
    np.testing.assert_array_equal(_means(tokens, tokens.to_volume(values)), values)


def test_values_come_back_from_the_volume_at_a_padded_border_too(
    oblique_grid: SpatialGrid,
) -> None:
    """A token's mean is over its voxels; there are none outside the grid."""
    tokens = TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)
    values = _values(tokens)
    np.testing.assert_allclose(_means(tokens, tokens.to_volume(values)), values, rtol=1e-12)


def test_a_mask_on_another_grid_is_refused(oblique_grid: SpatialGrid) -> None:
    tokens = TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)
    affine = oblique_grid.affine.copy()
    affine[2, 3] += 1.0
    for grid in (
        SpatialGrid((5, 7, 9), affine, "scan"),
        SpatialGrid((5, 7, 9), oblique_grid.affine, "MNI152NLin2009aSym"),
    ):
        with pytest.raises(ValueError, match="not on the token grid"):
            tokens.held_ml(Volume(np.ones((5, 7, 9)), grid))


@pytest.mark.parametrize("number", [0, 1, 11, 13])
def test_each_token_needs_its_value(number: int) -> None:
    with pytest.raises(ValueError, match=f"12 tokens; found {number} values"):
        _everywhere((5, 7, 9), 4).to_volume(np.ones(number))


def test_channels_are_spread_each_as_one_map_would_be() -> None:
    tokens = _everywhere((5, 7, 9), 4)
    values = np.random.default_rng(1).random((12, 3)).astype(np.float32)
    volume = tokens.to_volume(values)
    assert volume.data.shape == (5, 7, 9, 3)
    assert volume.data.dtype == np.float32
    for channel in range(3):
        alone = tokens.to_volume(values[:, channel])
        np.testing.assert_array_equal(volume.data[..., channel], alone.data)


def test_voxels_have_the_number_of_the_token_in_whose_patch_they_lie(
    oblique_grid: SpatialGrid,
) -> None:
    """Brain in voxels (0, 0, 0) and (4, 6, 8): patches from -1 to 2 and 3 to 6, cut to the grid."""
    mask = np.zeros((5, 7, 9))
    mask[0, 0, 0] = mask[4, 6, 8] = 1
    numbers = TokenGrid.over(Volume(mask, oblique_grid), 4, 0.0).numbers
    expected = np.zeros((5, 7, 9), dtype=np.int32)
    expected[:3, :4, :3] = 1
    expected[3:, 4:, 7:] = 2
    assert numbers.data.dtype == np.int32
    assert numbers.grid is oblique_grid
    np.testing.assert_array_equal(numbers.data, expected)


def test_token_grids_are_equal_where_grid_patch_and_tokens_are(oblique_grid: SpatialGrid) -> None:
    mask = np.ones((5, 7, 9))
    tokens = TokenGrid.over(Volume(mask, oblique_grid), 4, 0.0)
    same = TokenGrid.over(Volume(mask * 2, oblique_grid), 4, 0.0)
    assert tokens == same
    assert hash(tokens) == hash(same)
    mask[:3] = 0
    assert tokens != TokenGrid.over(Volume(mask, oblique_grid), 4, 0.0)
    assert tokens != TokenGrid(oblique_grid, 5, tokens.positions)
    other = SpatialGrid((5, 7, 9), oblique_grid.affine, "elsewhere")
    assert tokens != TokenGrid(other, 4, tokens.positions)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 11)] * 3),
    patch_size=st.integers(1, 6),
    seed=st.integers(0, 2**16),
    density=st.sampled_from([0.02, 0.3, 1.0]),
)
def test_every_voxel_of_a_token_has_the_token_s_value_and_no_other_has_one(
    shape: tuple[int, int, int], patch_size: int, seed: int, density: float
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    mask.flat[seed % mask.size] = True
    grid = SpatialGrid(shape, np.eye(4), "scan")
    tokens = TokenGrid.over(Volume(mask, grid), patch_size, 0.0)
    spread = tokens.to_volume(np.arange(1, len(tokens) + 1)).data
    # By hand, voxel by voxel: how far the padding shifts it, and which patch it is in then.
    shift = [(-n % patch_size) // 2 for n in shape]
    number = {tuple(position): n for n, position in enumerate(tokens.positions.tolist(), start=1)}
    for voxel in np.ndindex(shape):
        patch = tuple((v + s) // patch_size for v, s in zip(voxel, shift, strict=True))
        assert spread[voxel] == number.get(patch, 0)
        assert spread[voxel] or not mask[voxel], "with fraction 0 no brain voxel is left out"


def test_a_lattice_of_patches_lies_where_the_patches_do(small_tokens: TokenGrid) -> None:
    """A patch's middle on the lattice is the middle of its voxels on the grid."""
    values = np.arange(1.0, len(small_tokens) + 1)
    lattice = small_tokens.to_lattice(values)
    assert lattice.grid.shape == small_tokens.lattice_shape
    np.testing.assert_allclose(lattice.grid.voxel_sizes, [8.0, 12.0, 16.0])
    ijk = np.argwhere(lattice.data > 0)
    world = ijk @ lattice.grid.affine[:3, :3].T + lattice.grid.affine[:3, 3]
    np.testing.assert_allclose(world, small_tokens.centres_mm)
    np.testing.assert_array_equal(lattice.data[tuple(ijk.T)], values)


def test_tokens_are_known_again_by_their_lattice(small_tokens: TokenGrid) -> None:
    occupied = small_tokens.to_lattice(np.ones(len(small_tokens)))
    assert TokenGrid.from_lattice(occupied, small_tokens.grid) == small_tokens


def test_what_is_no_lattice_of_patches_is_refused(small_tokens: TokenGrid) -> None:
    occupied = small_tokens.to_lattice(np.ones(len(small_tokens)))
    affine = occupied.grid.affine.copy()
    affine[0, 3] += 1.0
    moved = Volume(occupied.data, SpatialGrid(occupied.grid.shape, affine, occupied.grid.space))
    with pytest.raises(ValueError, match="must lie on the grid"):
        TokenGrid.from_lattice(moved, small_tokens.grid)
    with pytest.raises(ValueError, match="at least one token"):
        TokenGrid.from_lattice(occupied.same_grid(occupied.data * 0), small_tokens.grid)


def test_every_voxel_has_its_own_or_the_nearest_token(small_tokens: TokenGrid) -> None:
    own, nearest = small_tokens.numbers.data, small_tokens.nearest.data
    assert (own == 0).any()
    np.testing.assert_array_equal(nearest[own > 0], own[own > 0])
    held = np.argwhere(own > 0)
    for ijk in np.argwhere(own == 0)[::37]:
        apart = ((held - ijk) ** 2).sum(axis=1)
        closest = held[apart == apart.min()]
        assert nearest[tuple(ijk)] in own[tuple(closest.T)]
