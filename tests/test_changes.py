"""Changes to a head: what each must leave as it is, and what it must not."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ermoe_ba.changes import CHANGES
from ermoe_ba.intensity_changes import bright
from ermoe_ba.space import SpatialGrid, Volume


@pytest.fixture
def head() -> Volume:
    """An off-centre block on 20 x 24 x 28 voxels of 2 x 2.5 x 3 mm, stored P-S-R."""
    affine = np.array([[0, 0, 3.0, -40], [-2.0, 0, 0, 20], [0, 2.5, 0, -30], [0, 0, 0, 1]])
    data = np.zeros((20, 24, 28), np.float32)
    data[4:15, 6:20, 5:22] = 60
    data[5:9, 8:12, 6:10] = 100
    return Volume(data, SpatialGrid(data.shape, affine, "scan"))


def _change(name: str, head: Volume, amount: float) -> Volume:
    return CHANGES[name](head, amount, np.random.default_rng(0))


def _centre_mm(volume: Volume) -> np.ndarray:
    """Centre of brightness in the world."""
    index = np.array(np.nonzero(volume.data)).T
    values = volume.data[volume.data != 0]
    middle = (index * values[:, None]).sum(axis=0) / values.sum()
    return nib.affines.apply_affine(volume.grid.affine, middle)


@pytest.mark.parametrize("number", range(48))
def test_axes_are_reordered_and_nothing_moves(head: Volume, number: int) -> None:
    changed = _change("reorder_axes", head, number)
    np.testing.assert_allclose(_centre_mm(changed), _centre_mm(head), atol=1e-4)
    assert np.sort(changed.data, axis=None).tolist() == np.sort(head.data, axis=None).tolist()


def test_all_48_orders_differ(head: Volume) -> None:
    codes = {nib.aff2axcodes(_change("reorder_axes", head, n).grid.affine) for n in range(48)}
    assert len(codes) == 48


@pytest.mark.parametrize("name", ["tilt_header", "shift_origin"])
def test_the_header_moves_the_head_and_keeps_voxels_and_distances(head: Volume, name: str) -> None:
    changed = _change(name, head, 30.0)
    np.testing.assert_array_equal(changed.data, head.data)
    np.testing.assert_allclose(changed.grid.voxel_sizes, head.grid.voxel_sizes)
    assert np.linalg.det(changed.grid.affine) == pytest.approx(np.linalg.det(head.grid.affine))
    if name == "shift_origin":
        apart = changed.grid.affine[:3, 3] - head.grid.affine[:3, 3]
        assert np.linalg.norm(apart) == pytest.approx(30.0)
    else:
        turn = changed.grid.affine[:3, :3] @ np.linalg.inv(head.grid.affine[:3, :3])
        # The trace of a rotation is 1 + 2 cos.
        assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(np.deg2rad(30)))


def test_the_mirror_swaps_left_and_right_alone(head: Volume) -> None:
    np.testing.assert_allclose(
        _centre_mm(_change("mirror", head, 0)), _centre_mm(head) * [-1, 1, 1]
    )


def test_a_turned_head_stays_whole_about_the_middle(head: Volume) -> None:
    # Splines overshoot at sharp edges, which no head has.
    head = head.same_grid(gaussian_filter(head.data, 1.5))
    changed = _change("turn_head", head, 40.0)
    assert changed.data.sum() == pytest.approx(head.data.sum(), rel=0.02)
    middle = nib.affines.apply_affine(head.grid.affine, (np.array(head.grid.shape) - 1) / 2)
    before, after = (np.linalg.norm(_centre_mm(v) - middle) for v in (head, changed))
    assert after == pytest.approx(before, abs=0.3)
    # Of a circle that half a turn crosses, 40 degrees have the chord of sin 20 degrees.
    way, across = (
        np.linalg.norm(_centre_mm(v) - _centre_mm(head))
        for v in (changed, _change("turn_head", head, 180.0))
    )
    assert across > 5
    assert way == pytest.approx(np.sin(np.deg2rad(20)) * across, abs=0.1)


def test_thick_slices_have_the_size_and_keep_the_place(head: Volume) -> None:
    changed = _change("thicken_slices", head, 5.0)
    np.testing.assert_allclose(changed.grid.voxel_sizes, [1, 1, 5])
    assert nib.aff2axcodes(changed.grid.affine) == ("R", "A", "S")
    np.testing.assert_allclose(_centre_mm(changed), _centre_mm(head), atol=1.0)


def test_noise_has_the_stated_deviation(head: Volume) -> None:
    """Where the signal is strong, Rician noise is nearly normal."""
    difference = (_change("add_noise", head, 0.05).data - head.data)[head.data > 0]
    assert difference.std() == pytest.approx(0.05 * bright(head), rel=0.05)


def test_halves_share_no_voxel_and_make_the_whole(head: Volume) -> None:
    even, odd = (_change("take_slices", head, first) for first in (0, 1))
    whole = np.empty_like(head.data)
    whole[0::2], whole[1::2] = even.data, odd.data
    np.testing.assert_array_equal(whole, head.data)
    for half, first in ((even, 0), (odd, 1)):
        np.testing.assert_allclose(
            nib.affines.apply_affine(half.grid.affine, [3, 0, 0]),
            nib.affines.apply_affine(head.grid.affine, [6 + first, 0, 0]),
        )


def test_empty_voxels_around_move_nothing(head: Volume) -> None:
    found = _change("surround", head, 0.5)
    before = np.rint(0.5 * np.array(head.data.shape)).astype(int)
    i, j, k = (slice(n, n + size) for n, size in zip(before, head.data.shape, strict=True))
    np.testing.assert_array_equal(found.data[i, j, k], head.data)
    assert found.data.sum() == head.data.sum()
    # The first voxel of the head is where it was.
    there = found.grid.affine @ [*before, 1]
    np.testing.assert_allclose(there, head.grid.affine @ [0, 0, 0, 1], atol=1e-9)


def test_one_voxel_is_damaged_and_no_other(head: Volume) -> None:
    found = _change("damage_voxel", head, -100.0)
    i, j, k = np.nonzero(found.data != head.data)
    assert [i.item(), j.item(), k.item()] == [size // 2 for size in head.data.shape]
    assert found.data[i, j, k] == pytest.approx(-100 * bright(head), rel=1e-6)


def test_a_cut_takes_the_top_away_and_blanking_keeps_the_shape(head: Volume) -> None:
    # The block reaches from the 7th to the 20th voxel of 2.5 mm; 10 mm are four of them.
    cut = _change("cut_top", head, 10.0)
    assert cut.data.shape == (28, 20, 16)
    assert cut.data[..., -1].any()
    blanked = _change("blank_top", head, 10.0)
    assert blanked.grid == head.grid
    assert blanked.data[:, 16:].max() == 0
    np.testing.assert_allclose(blanked.data[:, :16], head.data[:, :16], atol=1e-3)


def test_inverting_turns_the_order_of_tissues_round_and_keeps_air_dark(head: Volume) -> None:
    changed = _change("invert", head, 0)
    assert (changed.data[head.data == 0] == 0).all()
    assert changed.data[head.data == 100].max() < changed.data[head.data == 60].min()


def test_a_ghost_lies_half_a_field_of_view_away(head: Volume) -> None:
    changed = _change("ghost", head, 0.25)
    np.testing.assert_allclose(changed.data - head.data, 0.25 * np.roll(head.data, 10, axis=0))


def test_motion_of_nothing_changes_nothing(head: Volume) -> None:
    np.testing.assert_allclose(_change("move_head", head, 0.0).data, head.data, atol=1e-3)
    assert np.abs(_change("move_head", head, 5.0).data - head.data).max() > 5


def test_a_ball_is_round_and_an_empty_image_is_noise(head: Volume) -> None:
    ball = _change("ball", head, 15.0)
    volume = (ball.data > 0.5 * bright(head)).sum() * head.grid.voxel_volume_ml
    assert volume == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.05)
    assert _change("empty", head, 0.1).data.std() > 0


def test_values_are_multiplied_and_lowered_by_what_is_asked(head: Volume) -> None:
    """The brightness is 100: more than 2 % of what is not 0 has that value."""
    assert bright(head) == 100
    np.testing.assert_allclose(_change("scale_values", head, 1e6).data, 1e6 * head.data)
    np.testing.assert_allclose(_change("offset_values", head, 0.1).data, head.data - 10)


def test_a_blur_spreads_a_point_alike_along_every_axis(head: Volume) -> None:
    """A Gaussian's full width at half maximum is the root of 8 ln 2 standard deviations."""
    point = np.zeros_like(head.data)
    middle = (10, 12, 14)
    point[middle] = 1000
    blurred = _change("blur", head.same_grid(point), 8.0).data
    assert blurred.sum() == pytest.approx(1000, rel=1e-3)
    for axis, size in enumerate(head.grid.voxel_sizes):
        away = size * (np.arange(head.grid.shape[axis]) - middle[axis])
        share = blurred.sum(axis=tuple({0, 1, 2} - {axis})) / blurred.sum()
        assert share @ away**2 == pytest.approx(8.0**2 / (8 * np.log(2)), rel=0.01)


def test_a_bias_lies_about_one_and_within_its_strength(head: Volume) -> None:
    biased = _change("add_bias", head, 0.5)
    ratio = biased.data[head.data > 0] / head.data[head.data > 0]
    assert np.exp(-0.5) < ratio.min() < 1 < ratio.max() < np.exp(0.5)


def test_bending_keeps_air_and_the_brightest_and_the_order() -> None:
    """Of 100 and 60 with a brightness of 100: 60 becomes 100 * 0.6^2 = 36, or 100 * sqrt(0.6)."""
    data = np.full((10, 12, 14), 60, np.float32)
    data[:4], data[8:] = 100, -5
    head = Volume(data, SpatialGrid(data.shape, np.diag([3.0, 2.0, 2.5, 1.0]), "scan"))
    for exponent, middle in ((2.0, 36.0), (0.5, 100 * np.sqrt(0.6)), (1.0, 60.0)):
        changed = _change("bend_contrast", head, exponent).data
        np.testing.assert_allclose(changed[[0, 5, 9], 0, 0], [100, middle, 0], rtol=1e-5)
