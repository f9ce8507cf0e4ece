"""Each step of the preprocessing does to voxels, millimetres and values what it says."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Any

import ants
import cc3d
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import torch
from deepbet import BrainExtraction
from monai.transforms import Compose, Transform
from scipy.spatial.transform import Rotation

from ermoe_ba.assets import template
from ermoe_ba.errors import RefusedScanError, ScanError
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState, pipeline
from ermoe_ba.preprocess import config as settings
from ermoe_ba.preprocess.ants_bridge import from_ants, to_ants
from ermoe_ba.preprocess.brain import ExtractBrain, FirstLook
from ermoe_ba.preprocess.geometry import ToGrid, ToRas, ToWorkingBox, turn_degrees
from ermoe_ba.preprocess.intensity import NormaliseIntensity, ToUnits
from ermoe_ba.preprocess.register import MovingBrain, RegisterAffine, flattened, standardised
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume

FloatArray = npt.NDArray[np.float64]
WriteHead = Callable[..., Path]

PATH = Path("sub-x_T1w.nii.gz")


def _state(t1w: Volume, brain_mask: Volume | None = None) -> ScanState:
    return ScanState(path=PATH, t1w=t1w, brain_mask=brain_mask)


def _centre_of_mass_mm(volume: Volume) -> FloatArray:
    weights = np.asarray(volume.data, dtype=np.float64)
    ijk = (np.indices(weights.shape) * weights).reshape(3, -1).sum(axis=1) / weights.sum()
    return volume.grid.affine[:3, :3] @ ijk + volume.grid.affine[:3, 3]


# From the file


@pytest.mark.parametrize(
    ("sizes", "shape", "edge"),
    [
        ((0.5, 0.5, 6.0), (190, 200, 20), 6.0),
        ((5.0, 1.0, 1.0), (20, 96, 96), 5.0),
        ((2.0000001, 2.0, 1.9999999), (50, 50, 50), 2.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_the_longest_edge_of_a_voxel_is_measured_however_the_slices_lie(
    write_head: WriteHead,
    sizes: tuple[float, float, float],
    shape: tuple[int, int, int],
    edge: float,
    degrees: float,
) -> None:
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    scan = write_head(shape=shape, affine=nib.affines.from_matvec(turn @ np.diag(sizes)))
    assert pipeline.LoadT1w()(ScanState(path=scan)).figures["voxel_edge_mm"] == edge


# Into RAS+ order


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flips", list(product([1, -1], repeat=3)), ids=str)
def test_ras_order_is_the_same_whatever_order_the_file_has(
    order: tuple[int, int, int], flips: tuple[int, int, int]
) -> None:
    """One head stored in each of the 48 ways: voxel values and grid must come out identical."""
    shape = (5, 7, 9)
    data = np.random.default_rng(1).random(shape).astype(np.float32)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix()
    grid = SpatialGrid(shape, turn @ np.diag([2.0, 3.0, 4.0, 1.0]), "scan")
    # Stored voxel s stands for canonical voxel c: c[order[n]] = s[n], counted from the far end
    # where flipped.
    to_canonical = np.zeros((4, 4))
    to_canonical[3, 3] = 1
    stored = data.transpose(order)
    for axis, (canonical_axis, flip) in enumerate(zip(order, flips, strict=True)):
        to_canonical[canonical_axis, axis] = flip
        if flip < 0:
            stored = np.flip(stored, axis)
            to_canonical[canonical_axis, 3] = shape[canonical_axis] - 1
    scan = Volume(stored, SpatialGrid(stored.shape, grid.affine @ to_canonical, "scan"))
    state = ToRas()(_state(scan))
    np.testing.assert_array_equal(state.image.data, data)
    np.testing.assert_array_equal(state.image.grid.affine, np.diag([2.0, 3.0, 4.0, 1.0]))
    np.testing.assert_allclose(
        state.scan_to_image @ grid.affine, state.image.grid.affine, atol=1e-4
    )


# Onto another grid


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_marker_lands_where_the_affine_sends_it(oblique_grid: SpatialGrid, order: int) -> None:
    """Voxel (3, 1, 4) of the oblique grid: x = 1.2 * 3 - 2.4 + 10, y = 1.6 * 3 + 1.8 - 20, z = 46.

    That is (11.2, -13.4, 46) mm; the affine turns it by a right angle about z, (x, y) to (-y, x),
    and adds (1, 2, 3): (14.4, 13.2, 49).
    """
    data = np.zeros((5, 7, 9), dtype=np.float32)
    data[3, 1, 4] = 1.0
    turn = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], dtype=float)
    # A grid turned alike, one voxel further out, so that its voxels meet the scan's.
    outward = np.eye(4)
    outward[:3, 3] = -1
    grid = SpatialGrid((7, 9, 11), turn @ oblique_grid.affine @ outward, "elsewhere")
    np.testing.assert_allclose(grid.affine @ [4, 2, 5, 1], [14.4, 13.2, 49.0, 1.0])
    moved = resample(Volume(data, oblique_grid), grid, order=order, to_grid_space=turn)
    expected = np.zeros((7, 9, 11))
    expected[4, 2, 5] = 1.0
    assert moved.grid is grid
    np.testing.assert_allclose(moved.data, expected, atol=1e-5)


def test_half_a_voxel_between_two_gives_their_mean() -> None:
    data = np.zeros((5, 7, 9), dtype=np.float32)
    data[2, 3, 4], data[3, 3, 4] = 10.0, 20.0
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    grid = SpatialGrid((5, 7, 9), shifted, "scan")
    moved = resample(Volume(data, SpatialGrid((5, 7, 9), np.eye(4), "scan")), grid, order=1)
    np.testing.assert_allclose(moved.data[1:4, 3, 4], [5.0, 15.0, 10.0], rtol=1e-6)


def test_outside_the_scan_there_is_nothing() -> None:
    inner = SpatialGrid((5, 7, 9), np.eye(4), "scan")
    far = np.eye(4)
    far[0, 3] = 100.0
    moved = resample(
        Volume(np.ones((5, 7, 9)), inner), SpatialGrid((4, 4, 4), far, "scan"), order=1
    )
    assert not moved.data.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.int64])
def test_labels_stay_labels_through_a_turn(dtype: npt.DTypeLike) -> None:
    """Label maps that numpy wrote are often of 64 bits."""
    labels = np.array([0, 4, 47, 207])
    data = np.random.default_rng(1).choice(labels, (9, 11, 13)).astype(dtype)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    grid = SpatialGrid((15, 17, 19), np.diag([0.7, 0.7, 0.7, 1.0]), "template")
    moved = resample(
        Volume(data, SpatialGrid((9, 11, 13), np.eye(4), "scan")), grid, order=0, to_grid_space=turn
    )
    assert set(np.unique(moved.data)) == set(labels)


def test_the_model_grid_gets_scan_and_mask_through_one_affine() -> None:
    """A cube that is its own mask stays its own mask, moved by 6 mm or three voxels."""
    data = np.zeros((15, 17, 19), dtype=np.float32)
    data[5:9, 6:10, 7:11] = 1.0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    scan = Volume(data, SpatialGrid(data.shape, affine, "scan"))
    grid = SpatialGrid((20, 21, 22), affine, "template")
    shift = np.eye(4)
    shift[0, 3] = 6.0
    state = dataclasses.replace(
        _state(scan, scan.same_grid(data.astype(np.uint8))),
        image_to_template=shift,
        scan_to_image=np.diag([1.0, 1.0, 1.0, 1.0]) + np.outer([0, 1, 0, 0], [0, 0, 0, 5.0]),
    )
    result = ToGrid(grid)(state)
    expected = np.zeros(grid.shape)
    expected[8:12, 6:10, 7:11] = 1
    assert result.image.grid is grid
    assert result.mask.data.dtype == np.uint8
    np.testing.assert_array_equal(result.mask.data, expected)
    np.testing.assert_allclose(result.image.data, expected, atol=1e-4)
    assert result.scan_to_template is not None
    np.testing.assert_allclose(result.scan_to_template @ [1, 2, 3, 1], [7, 7, 3, 1])


def test_steps_say_which_step_must_come_first() -> None:
    scan = Volume(np.ones((5, 7, 9)), SpatialGrid((5, 7, 9), np.eye(4), "scan"))
    with pytest.raises(ValueError, match="RegisterAffine must come first"):
        ToGrid(scan.grid)(_state(scan, scan))
    with pytest.raises(ValueError, match="ExtractBrain must come first"):
        ToWorkingBox(2.0, (8, 8, 8))(_state(scan))
    with pytest.raises(ValueError, match="LoadT1w must come first"):
        ToRas()(ScanState(path=PATH))


# Brain extraction


class _BrightIsBrain:
    """In deepbet's place: a brain wherever it is bright; keeps the shapes that it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.bbox_model = FirstLook(lambda image: torch.cat([-image, image], dim=1))

    def run_model(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self.seen.append(data.shape)
        self.bbox_model(torch.from_numpy(data > 50).float()[None, None])
        return (data > 50).astype(np.float32)

    def postprocess(self, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Keep the largest part, as deepbet does."""
        parts = cc3d.connected_components(mask)
        return parts == np.bincount(parts[mask]).argmax()


def _head_in(border: int, voxel_mm: float) -> ScanState:
    """A bright cube of 48 mm in a dim one of 80 mm, which is so many voxels from all six ends."""
    half, brain = round(40 / voxel_mm), round(24 / voxel_mm)
    n = 2 * (half + border)
    away = np.abs(np.indices((n, n, n)) + 0.5 - n / 2).max(axis=0)
    data = np.where(away < brain, 100, np.where(away < half, 10, 0)).astype(np.float32)
    grid = SpatialGrid(data.shape, np.diag([*[voxel_mm] * 3, 1]), "scan")
    return _state(Volume(data, grid))


@pytest.mark.parametrize(("border", "seen"), [(0, 40), (3, 46), (4, 48), (5, 48), (30, 48)])
def test_no_more_than_8_mm_of_padding_have_a_say_in_the_brain(
    monkeypatch: pytest.MonkeyPatch, border: int, seen: int
) -> None:
    """Of voxels of 2 mm, the head fills 40 along each axis, and 4 are 8 mm."""
    network = _BrightIsBrain()
    monkeypatch.setattr(ExtractBrain, "_network", network)
    state = _head_in(border, 2.0)
    result = ExtractBrain(1.25, (100.0, 200.0), "cpu")(state)
    assert network.seen == [(seen, seen, seen)]
    # The brain lies where it lay, and is all of it: 48 mm cubed.
    np.testing.assert_array_equal(result.mask.data, state.image.data == 100)
    assert result.figures["brain_volume_ml"] == pytest.approx(4.8**3)
    assert result.figures["second_brain_ml"] == 0.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_brain_beside_the_one_that_is_found_is_measured(
    monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    """Cubes of 48 and 40 mm side by side: 110.592 mL are the brain, and 64 mL another."""
    monkeypatch.setattr(ExtractBrain, "_network", _BrightIsBrain())
    one = _head_in(10, 2.0).image
    other = np.where(one.data == 100, 10, one.data)
    middle = one.grid.shape[0] // 2
    other[(slice(middle - 10, middle + 10),) * 3] = 100
    data = np.concatenate([other, one.data], axis=axis)
    both = Volume(data, SpatialGrid(data.shape, one.grid.affine, "scan"))
    figures = ExtractBrain(1.25, (100.0, 200.0), "cpu")(_state(both)).figures
    assert figures["brain_volume_ml"] == pytest.approx(4.8**3)
    assert figures["second_brain_ml"] == pytest.approx(4.0**3)


def test_deepbet_tells_of_its_first_look_and_answers_as_it_would() -> None:
    """The template's brain alone, and one above the other."""
    step = ExtractBrain(1.25, (700.0, 2500.0), "cpu")
    brain = template("desc-brain_T1w").data.astype(np.float32)
    for times, share in ((1, False), (2, True)):
        shown = np.concatenate([brain] * times, axis=2)
        found = step._network.run_model(shown.copy())
        assert (step._network.bbox_model.second_share > 0.1) == share
        np.testing.assert_array_equal(found, BrainExtraction(no_gpu=True).run_model(shown.copy()))


def test_an_image_that_is_even_shows_all_of_it_and_no_brain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _BrightIsBrain()
    monkeypatch.setattr(ExtractBrain, "_network", network)
    even = _state(Volume(np.zeros((4, 5, 6), np.float32), SpatialGrid((4, 5, 6), np.eye(4), "s")))
    with pytest.raises(RefusedScanError, match="0 mL that look like one"):
        ExtractBrain(1.25, (100.0, 200.0), "cpu")(even)
    assert network.seen == [(4, 5, 6)]


# To isotropic voxels


def _in_a_box(mask_box: tuple[slice, slice, slice], shape: tuple[int, int, int]) -> ScanState:
    """A scan of 2 mm voxels with values of its own, its brain in a part of it."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-7.3, 1.9, 4.4]
    values = np.random.default_rng(5).random(shape, dtype=np.float32)
    scan = Volume(values, SpatialGrid(shape, affine, "scan"))
    mask = np.zeros(shape, dtype=np.uint8)
    mask[mask_box] = 1
    return _state(scan, scan.same_grid(mask))


def test_voxels_of_the_working_size_are_moved_and_not_changed() -> None:
    """The brain fills voxels 4-9, 5-10, 6-12: its middle 6, 7, 9 becomes the box's 6, 7, 8."""
    state = _in_a_box((slice(4, 10), slice(5, 11), slice(6, 13)), (14, 16, 18))
    result = ToWorkingBox(2.0, (12, 14, 16))(state)
    assert result.image.grid.shape == (12, 14, 16)
    np.testing.assert_allclose(result.image.data, state.image.data[:12, :14, 1:17], atol=1e-6)
    np.testing.assert_array_equal(result.mask.data, state.mask.data[:12, :14, 1:17])
    np.testing.assert_allclose(result.image.grid.affine[:3, 3], [-7.3, 1.9, 4.4 + 2.0])


@pytest.mark.parametrize("tilted", ["header", "head"])
def test_a_tilt_of_45_degrees_is_found_whether_header_or_head_is_tilted(tilted: str) -> None:
    """The template itself, tilted, must come to lie on the template."""
    brain = template("desc-brain_T1w")
    values = brain.data.astype(np.float32)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([np.radians(45.0), 0.0, 0.0]).as_matrix()
    if tilted == "header":
        # The voxels lie as in the template; the header says they are tilted.
        scan = Volume(values, SpatialGrid(brain.grid.shape, turn @ brain.grid.affine, "scan"))
        expected = np.linalg.inv(turn)
    else:
        # The field of view is tilted and the head straight.
        grid = SpatialGrid(brain.grid.shape, turn @ brain.grid.affine, "scan")
        scan = resample(Volume(values, brain.grid), grid, order=1, to_grid_space=np.eye(4))
        scan = Volume(np.asarray(scan.data, dtype=np.float32), grid)
        expected = np.eye(4)
    state = ToRas()(_state(scan))
    brain_mask = state.image.same_grid((state.image.data > 0).astype(np.uint8))
    settled = _register()(dataclasses.replace(state, brain_mask=brain_mask))
    assert settled.image_to_template is not None
    found = settled.image_to_template @ settled.scan_to_image
    for corner in product([-40.0, 40.0], [-60.0, 20.0], [-30.0, 50.0], [1.0]):
        np.testing.assert_allclose(
            found @ np.linalg.inv(expected) @ np.array(corner), corner, atol=0.5, err_msg=tilted
        )


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["about x", "about y", "about z"])
def test_a_header_that_is_wrong_by_half_a_turn_is_measured(axis: int) -> None:
    """The template itself lies right; its header says otherwise by 180 degrees."""
    brain = template("desc-brain_T1w")
    turn = np.diag([-1.0, -1.0, -1.0, 1.0])
    turn[axis, axis] = 1.0
    header = SpatialGrid(brain.grid.shape, turn @ brain.grid.affine, "scan")
    state = ToRas()(_state(Volume(brain.data.astype(np.float32), header)))
    mask = state.image.same_grid((state.image.data > 0).astype(np.uint8))
    settled = _register()(dataclasses.replace(state, brain_mask=mask))
    found = ToGrid(MODEL_GRID)(settled).figures
    assert found["template_correlation"] > 0.99
    assert found["turn_degrees"] == pytest.approx(180.0, abs=1.0)


@pytest.mark.parametrize("degrees", [0.0, 10.0, 45.0, 90.0, 179.0, 180.0])
def test_the_turn_of_an_affine_is_that_of_its_rotation(degrees: float) -> None:
    """Stretched before or after, unequally, and moved, it turns by as much."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([1.0, 2.0, 2.0]) / 3).as_matrix()
    stretch = turn @ np.diag([1.1, 0.8, 1.3]) @ turn.T
    affine = nib.affines.from_matvec(stretch @ turn, [30.0, -70.0, 5.0])
    # Near 0 and 180 degrees the cosine is flat: a last digit of it is 1e-6 degrees.
    assert turn_degrees(affine) == pytest.approx(degrees, abs=1e-5)
    mirrored = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    assert turn_degrees(mirrored) >= 90.0 - 1e-5


def _register() -> RegisterAffine:
    return RegisterAffine(template("desc-brain_T1w"), 20.0, (8.0, 3.0), (4, 2), 0.965)


def _template_seen_through(affine: FloatArray) -> ScanState:
    """The template's brain where an affine from the template to the scan puts it."""
    brain = template("desc-brain_T1w")
    values = Volume(brain.data.astype(np.float32), brain.grid)
    scan = resample(
        values,
        SpatialGrid(brain.grid.shape, brain.grid.affine, "scan"),
        order=1,
        to_grid_space=affine,
    )
    mask = scan.same_grid((scan.data > 0).astype(np.uint8))
    return _state(scan.same_grid(scan.data.astype(np.float32)), mask)


def test_a_planted_affine_is_found_again() -> None:
    """Turned, stretched unequally and moved: corners of the brain come back to within 0.5 mm."""
    planted = np.eye(4)
    turn = Rotation.from_euler("xyz", [8, -6, 10], degrees=True).as_matrix()
    planted[:3, :3] = turn @ np.diag([1.04, 0.95, 1.02])
    planted[:3, 3] = [3.0, -5.0, 4.0]
    found = _register()(_template_seen_through(planted)).image_to_template
    assert found is not None
    for corner in product([-40.0, 40.0], [-60.0, 20.0], [-30.0, 50.0], [1.0]):
        np.testing.assert_allclose(found @ planted @ np.array(corner), corner, atol=0.5)


def test_it_ends_at_one_place_from_wherever_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    state = _template_seen_through(np.diag([1.05, 0.97, 1.02, 1.0]))
    plain = _register()(state).image_to_template
    poses = RegisterAffine._starts

    def turned(self: RegisterAffine, mask: Volume) -> Iterator[FloatArray]:
        turn = Rotation.from_rotvec([0.3, -0.2, 0.25]).as_matrix()
        for pose in poses(self, mask):
            moved = (turn @ pose[:9].reshape(3, 3)).ravel()
            yield np.concatenate([moved, pose[9:] + np.array([6.0, -4.0, 5.0])])

    monkeypatch.setattr(RegisterAffine, "_starts", turned)
    np.testing.assert_allclose(_register()(state).image_to_template, plain, atol=1e-4)


def test_a_field_of_the_coil_does_not_pull_the_brain() -> None:
    state = _template_seen_through(np.eye(4))
    drift = np.exp(np.linspace(-0.35, 0.35, state.image.grid.shape[0]))[:, None, None]
    pulled = dataclasses.replace(state, t1w=state.image.same_grid(state.image.data * drift))
    plain, other = (_register()(s).image_to_template for s in (state, pulled))
    assert plain is not None
    assert other is not None
    corner = np.array([60.0, 60.0, 60.0, 1.0])
    np.testing.assert_allclose(other @ corner, plain @ corner, atol=0.5)


def test_the_likeness_of_the_template_to_itself_is_one() -> None:
    figures = _register()(_template_seen_through(np.eye(4))).figures
    assert figures["template_correlation"] == pytest.approx(1.0, abs=1e-3)


def test_the_slopes_are_those_of_the_residuals() -> None:
    """Against differences, on a smooth brain: a sign or an axis could be wrong."""
    brain = template("desc-brain_T1w")
    moving = MovingBrain(Volume(brain.data.astype(np.float32), brain.grid), 12.0)
    points = np.array([[-31.0, 12.0, 8.0], [22.0, -40.0, 30.0], [5.0, 33.0, -11.0]])
    _, slopes = moving.at(points, slopes=True)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 2.0
        ahead, behind = moving.at(points + step)[0], moving.at(points - step)[0]
        np.testing.assert_allclose(slopes[:, axis], (ahead - behind) / 4.0, rtol=0.05, atol=0.02)


def test_equal_values_are_standardised_without_division_by_zero() -> None:
    values, spread = standardised(np.full(4, 3.0))
    np.testing.assert_array_equal(values, 0.0)
    assert spread == 1.0
    values, spread = standardised(np.array([1.0, 3.0]))
    np.testing.assert_array_equal(values, [-1.0, 1.0])
    assert spread == 1.0


def test_a_flattened_brain_is_one_where_it_was_even() -> None:
    grid = SpatialGrid((12, 14, 16), np.diag([2.0, 2.0, 2.0, 1.0]), "scan")
    inside = np.zeros(grid.shape, dtype=bool)
    inside[3:9, 4:10, 5:12] = True
    flat = flattened(Volume(np.where(inside, 7.0, 90.0), grid), inside, 6.0)
    np.testing.assert_allclose(flat.data[inside], 1.0, rtol=1e-5)
    assert not flat.data[~inside].any()


# One array whatever header and units


@pytest.mark.parametrize("degrees", [0.0, 8.0, 30.0, 44.0])
def test_where_a_header_puts_the_head_has_no_say(degrees: float) -> None:
    """Voxels and grid are those of the plain header to the bit; points come back to the scan."""
    shape = (5, 7, 9)
    values = np.random.default_rng(3).random(shape).astype(np.float32)
    plain = np.diag([1.0, 1.2, 0.9, 1.0])
    header = np.eye(4)
    header[:3, :3] = Rotation.from_rotvec([np.radians(degrees), 0, 0]).as_matrix()
    header[:3, 3] = [-88.1, 120.7, 60.3]
    results = [
        ToRas()(_state(Volume(values, SpatialGrid(shape, affine, "scan"))))
        for affine in (plain, header @ plain)
    ]
    assert results[0].image.grid == results[1].image.grid
    np.testing.assert_array_equal(results[0].image.data, results[1].image.data)
    voxel = np.array([3.0, 1.0, 4.0, 1.0])
    np.testing.assert_allclose(
        results[1].scan_to_image @ header @ plain @ voxel,
        results[1].image.grid.affine @ voxel,
        atol=1e-4,
    )
    np.testing.assert_allclose(results[1].image.grid.affine, plain, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 0.37, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -50.0])
def test_units_end_at_the_same_whole_numbers(scale: float, offset: float) -> None:
    """Values 0 to 100: the 99th percentile of 1 ... 100 is 100 (the next higher), which is 4096."""
    values = np.arange(101.0).reshape(1, 1, 101)
    grid = SpatialGrid((1, 1, 101), np.eye(4), "scan")
    scan = Volume(((values + offset) * scale).astype(np.float32), grid)
    result = ToUnits()(_state(scan)).image
    np.testing.assert_array_equal(result.data, np.rint(values * 4096 / 100))
    assert result.data.dtype == np.float32


def _units(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    grid = SpatialGrid((len(values), 1, 1), np.eye(4), "scan")
    data = values.astype(np.float32).reshape(-1, 1, 1)
    return np.asarray(ToUnits()(_state(Volume(data, grid))).image.data).ravel()


# Air at 0, and tissue of 1 to 200.
_HEAD = np.concatenate([np.zeros(150), np.arange(1.0, 201.0)])


@pytest.mark.parametrize("offset", [-1000.0, -200.0, -128.0, -50.0, 5.0, 100.0, 1000.0])
def test_an_offset_changes_no_unit(offset: float) -> None:
    np.testing.assert_array_equal(_units(_HEAD + offset), _units(_HEAD))


@pytest.mark.parametrize("value", [-1.0, -30.0, -3000.0, -32768.0])
@pytest.mark.parametrize("count", [1, 2])
def test_a_few_voxels_below_the_air_lift_nothing(value: float, count: int) -> None:
    """Of 202 voxels that are not 0, the third lowest is the 1st percentile, and above 0 here."""
    spoilt = _HEAD.copy()
    spoilt[:count] = value
    np.testing.assert_array_equal(_units(spoilt), _units(_HEAD))


@pytest.mark.parametrize("padding", [-1000.0, -1024.0, -32768.0, -6.0])
@pytest.mark.parametrize("air", [0.0, -2.0, 3.0], ids=["zeros", "swings", "noise"])
def test_padding_far_below_the_air_lifts_nothing(padding: float, air: float) -> None:
    """2 % of 199, the 99th percentile of what is not padded, are 4: air lies within, -6 beyond."""
    head = _HEAD.copy()
    head[:100] = np.linspace(0.0, air, 100)
    padded = np.concatenate([head, np.full(200, padding)])
    found = _units(padded)
    np.testing.assert_array_equal(found[: len(head)], _units(head))
    assert not found[len(head) :].any()


def test_what_lies_hardly_below_the_air_is_no_padding() -> None:
    """A background of -3 beside tissue of up to 200 is read as it always was: as a shift."""
    found = _units(np.where(_HEAD == 0, -3.0, _HEAD))
    np.testing.assert_array_equal(found, np.rint(np.where(_HEAD, _HEAD + 3, 0) * 4096 / 202))


def test_a_background_that_was_shifted_with_its_brain_is_no_padding() -> None:
    """Tissue of 51 to 200 in zeros, less 50: one value below 0, but no air near it either way."""
    brain = np.concatenate([np.zeros(150), np.arange(60.0, 201.0)])
    np.testing.assert_array_equal(_units(brain - 50.0), _units(brain))


def test_two_values_of_which_one_is_0_show_what_they_did() -> None:
    np.testing.assert_array_equal(_units(np.array([-1000.0, 0.0, 0.0])), [0, 4096, 4096])


def test_a_brain_of_mean_0_keeps_its_dark_half() -> None:
    """Standardised without its background, which stays 0: half of the brain lies below."""
    brain = np.arange(-100.0, 101.0)
    found = _units(np.concatenate([np.zeros(300), brain]))[300:]
    assert (np.diff(found) > 0).sum() > 190


@pytest.mark.parametrize(("lowest", "expected"), [(3.0, 3.0), (5.0, 0.0)])
def test_the_noise_of_air_is_no_offset(lowest: float, expected: float) -> None:
    """2 % of 200, the 99th percentile, are 4."""
    scan = np.concatenate([np.arange(lowest, 190.0), np.full(100, 200.0)])
    assert _units(scan)[0] == np.rint(expected * 4096 / 200)


def test_a_single_bright_voxel_is_cut_and_moves_no_other() -> None:
    """The largest of 201 values lies above the percentile: it counts as one voxel, not by size."""
    bright = [_units(np.append(_HEAD, value)) for value in (1e4, 1e9, 3e38)]
    for found in bright:
        assert found[-1] == 16 * 4096
        np.testing.assert_array_equal(found[:-1], bright[0][:-1])


def test_padding_changes_no_unit() -> None:
    values = np.random.default_rng(2).gamma(2.0, 100.0, (6, 7, 8)).astype(np.float32)
    wide = np.pad(values, 5)
    plain = ToUnits()(_state(Volume(values, SpatialGrid(values.shape, np.eye(4), "scan"))))
    padded = ToUnits()(_state(Volume(wide, SpatialGrid(wide.shape, np.eye(4), "scan"))))
    np.testing.assert_array_equal(padded.image.data[5:-5, 5:-5, 5:-5], plain.image.data)


def test_air_around_the_head_changes_nothing() -> None:
    state = _in_a_box((slice(4, 10), slice(5, 11), slice(6, 13)), (14, 16, 18))
    air = ((3, 0), (2, 5), (0, 4))
    grid = state.image.grid
    affine = grid.affine.copy()
    affine[:3, 3] -= [2.0 * before for before, _ in air]
    wider = SpatialGrid((17, 23, 22), affine, "scan")
    padded = _state(
        Volume(np.pad(state.image.data, air), wider), Volume(np.pad(state.mask.data, air), wider)
    )
    step = ToWorkingBox(2.0, (8, 8, 8))
    assert step(padded).image.grid == step(state).image.grid
    np.testing.assert_allclose(step(padded).image.data, step(state).image.data, atol=1e-6)


@pytest.mark.parametrize("voxel_mm", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.5), (1.0, 1.0, 4.0)], ids=str)
def test_a_marker_keeps_its_place_in_millimetres(
    voxel_mm: tuple[float, float, float],
) -> None:
    """A ball of 6 mm around a planted point; half a voxel off would be 1 mm."""
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = [-20.0, 13.0, 5.0]
    shape = tuple(int(n / mm) for n, mm in zip((40, 44, 48), voxel_mm, strict=True))
    grid = SpatialGrid((shape[0], shape[1], shape[2]), affine, "scan")
    point = affine[:3, :3] @ (np.array(shape) * [0.5, 0.45, 0.55]) + affine[:3, 3]
    ijk = np.indices(shape).reshape(3, -1)
    distance = np.linalg.norm(affine[:3, :3] @ ijk + affine[:3, 3:] - point[:, None], axis=0)
    ball = (distance.reshape(shape) < 6.0).astype(np.float32)
    scan = Volume(ball, grid)
    before = _centre_of_mass_mm(scan)
    result = ToWorkingBox(2.0, (32, 34, 36))(_state(scan, scan.same_grid(ball.astype(np.uint8))))
    np.testing.assert_allclose(result.image.grid.affine[:3, :3], 2.0 * np.eye(3), atol=1e-5)
    assert result.mask.grid == result.image.grid
    assert result.image.grid.space == "scan"
    np.testing.assert_allclose(_centre_of_mass_mm(result.image), before, atol=0.1)
    np.testing.assert_allclose(_centre_of_mass_mm(result.mask), before, atol=0.6)
    # Smoothing and sampling keep the sum: voxels of 8 microlitres instead of the scan's.
    kept = result.image.data.sum() * result.image.grid.voxel_volume_ml
    assert kept == pytest.approx(ball.sum() * grid.voxel_volume_ml, rel=0.03)


def test_an_even_scan_stays_even_up_to_its_border() -> None:
    """Of 21, 23 and 25 voxels of 1 mm, the middle 10, 11, 12 is the box's 5, 6, 6."""
    shape = (21, 23, 25)
    scan = Volume(np.full(shape, 7.0, dtype=np.float32), SpatialGrid(shape, np.eye(4), "scan"))
    state = _state(scan, scan.same_grid(np.ones(shape, dtype=np.uint8)))
    result = ToWorkingBox(2.0, (11, 12, 13))(state)
    # One plane of the box lies before the scan's first: 11 - 2 * 6 = -1 mm.
    np.testing.assert_allclose(result.image.data[:, 1:, :], 7.0, rtol=1e-5)
    assert not result.image.data[:, 0, :].any()


def test_headers_that_differ_in_the_seventh_digit_are_one() -> None:
    affine = np.diag([1.0, 1.0, 1.2, 1.0])
    affine[:3, 3] = [-90.0, -125.0, -71.0]
    noisy = affine + 7.4e-6 * np.array([[0, 1, 0, -1], [1, 0, -1, 1], [0, -1, 1, 1], [0, 0, 0, 0]])
    plain, other = (
        ToRas()(
            ScanState(
                path=PATH,
                t1w=Volume(np.ones((5, 7, 9)), SpatialGrid((5, 7, 9), a, "scan")),
            )
        )
        for a in (affine, noisy)
    )
    np.testing.assert_array_equal(plain.image.grid.affine, other.image.grid.affine)


# Between RAS+ and ITK


def test_an_ants_image_has_its_voxels_where_the_volume_has_them(
    oblique_grid: SpatialGrid,
) -> None:
    data = np.random.default_rng(1).random((5, 7, 9)).astype(np.float32)
    image = to_ants(Volume(data, oblique_grid))
    for voxel in [(0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 8), (3, 1, 5)]:
        x, y, z, _ = oblique_grid.affine @ [*voxel, 1]
        lps = ants.transform_index_to_physical_point(image, voxel)
        np.testing.assert_allclose(lps, [-x, -y, z], atol=1e-4)
        assert image[voxel] == data[voxel]


def test_a_volume_comes_back_from_ants(oblique_grid: SpatialGrid) -> None:
    data = np.random.default_rng(1).random((5, 7, 9)).astype(np.float32)
    volume = from_ants(to_ants(Volume(data, oblique_grid)), oblique_grid)
    np.testing.assert_array_equal(volume.data, data)


# One intensity scale

SHAPE = (16, 18, 20)
GRID = SpatialGrid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]), "template")


def _brain() -> npt.NDArray[np.uint8]:
    brain = np.zeros(SHAPE, dtype=np.uint8)
    brain[3:13, 3:15, 3:17] = 1
    return brain


def _white() -> Volume:
    white = np.zeros(SHAPE, dtype=np.uint8)
    white[5:11, 5:13, 5:15] = 255
    return Volume(white, GRID)


def _head(grey: float, white: float, noise: float = 0.0) -> ScanState:
    data = np.full(SHAPE, 0.2 * grey)
    data[_brain() > 0] = grey
    data[_white().data > 0] = white
    data += np.random.default_rng(1).normal(0.0, noise, SHAPE) if noise else 0.0
    return _state(Volume(data.astype(np.float32), GRID), Volume(_brain(), GRID))


def _normalise() -> NormaliseIntensity:
    return NormaliseIntensity(_white(), certain=230, tolerance=0.2, ceiling=1.5)


def test_white_matter_becomes_one_and_the_rest_follows() -> None:
    result = _normalise()(_head(grey=60.0, white=80.0)).image
    assert result.data.dtype == np.float32
    np.testing.assert_allclose(result.data[_white().data > 0], 1.0)
    assert result.data[3, 3, 3] == pytest.approx(0.75)


def test_the_median_counts_so_that_a_bright_vessel_does_not() -> None:
    state = _head(grey=60.0, white=80.0)
    state.image.data[5:7, 5:7, 5:7] = 4000.0
    result = _normalise()(state).image
    assert result.data[8, 8, 8] == pytest.approx(1.0)
    assert result.data[5, 5, 5] == 1.5, "what is brighter than the ceiling is cut to it"


def test_ventricles_in_the_template_s_white_matter_do_not_count() -> None:
    """Fluid in four planes of ten, white of 75, 77 ... 85 in the others, whose median is 80.

    The median of all ten planes would be 76.
    """
    state = _head(grey=60.0, white=80.0)
    state.image.data[5:11, 5:13, 5:15] = [10.0] * 4 + [75.0, 77.0, 79.0, 81.0, 83.0, 85.0]
    result = _normalise()(state).image
    assert result.data[8, 8, 11] == pytest.approx(79 / 80)


@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_the_scanner_s_units_do_not_matter(scale: float) -> None:
    state = _head(grey=60.0, white=80.0, noise=5.0)
    scaled = dataclasses.replace(
        state, t1w=state.image.same_grid((state.image.data * scale).astype(np.float32))
    )
    one, other = _normalise()(state).image, _normalise()(scaled).image
    np.testing.assert_allclose(other.data, one.data, rtol=1e-5)


def test_a_smooth_field_over_white_matter_is_divided_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is the exponential of a polynomial of second degree goes wholly."""
    monkeypatch.setattr(NormaliseIntensity, "FEWEST_VOXELS", 100)
    state = _head(grey=60.0, white=80.0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    field = np.exp(0.1 * x - 0.08 * y * z + 0.06 * z**2)
    tilted = dataclasses.replace(
        state, t1w=state.image.same_grid((state.image.data * field).astype(np.float32))
    )
    result = _normalise()(tilted).image.data
    np.testing.assert_allclose(result[_white().data > 0], 1.0, rtol=1e-4)
    assert result[3, 3, 3] == pytest.approx(0.75, rel=1e-4)


def test_few_voxels_of_white_matter_fit_no_field() -> None:
    state = _head(grey=60.0, white=80.0)
    drift = np.exp(np.linspace(-0.1, 0.1, SHAPE[0]))[:, None, None]
    tilted = dataclasses.replace(state, t1w=state.image.same_grid(state.image.data * drift))
    result = _normalise()(tilted).image.data
    np.testing.assert_allclose(result[10, 8, 8] / result[5, 8, 8], drift[10] / drift[5], rtol=1e-5)


def test_beyond_one_voxel_of_rim_there_is_nothing() -> None:
    result = _normalise()(_head(grey=60.0, white=80.0)).image.data
    assert result[2, 8, 8] == pytest.approx(0.2 * 60 / 80)
    assert not result[:2].any()
    assert result[2, 2, 8] == 0.0, "the rim goes over faces, not over edges"


def test_values_below_zero_are_cut() -> None:
    state = _head(grey=60.0, white=80.0)
    state.image.data[4, 4, 4] = -50.0
    assert _normalise()(state).image.data[4, 4, 4] == 0.0


def test_intensities_on_another_grid_are_refused() -> None:
    state = _head(grey=60.0, white=80.0)
    elsewhere = SpatialGrid(SHAPE, GRID.affine, "scan")
    moved = _state(Volume(state.image.data, elsewhere), Volume(state.mask.data, elsewhere))
    with pytest.raises(ValueError, match="ToGrid comes first"):
        _normalise()(moved)


def test_white_matter_darker_than_grey_is_refused() -> None:
    with pytest.raises(ScanError, match=r"sub-x_T1w\.nii\.gz.*brighter"):
        _normalise()(_head(grey=80.0, white=60.0))


def test_force_scales_another_contrast_by_what_should_be_white_matter() -> None:
    forced = NormaliseIntensity(_white(), certain=230, tolerance=0.2, ceiling=1.5, force=True)
    result = forced(_head(grey=80.0, white=60.0)).image.data
    assert np.median(result[_white().data >= 230]) == pytest.approx(1.0)
    good = _head(grey=60.0, white=80.0)
    np.testing.assert_array_equal(forced(good).image.data, _normalise()(good).image.data)


def test_white_matter_darker_than_grey_is_refused_in_a_noisy_scan_too() -> None:
    """T2 weighting: a few voxels out of hundreds are bright by chance, and are no white matter."""
    with pytest.raises(ScanError, match="brighter"):
        _normalise()(_head(grey=80.0, white=60.0, noise=10.0))


def test_a_brain_beside_the_template_s_white_matter_is_refused() -> None:
    state = _head(grey=60.0, white=80.0)
    aside = np.zeros(SHAPE, dtype=np.uint8)
    aside[:3] = 1
    with pytest.raises(ScanError, match="found 0 "):
        _normalise()(dataclasses.replace(state, brain_mask=Volume(aside, GRID)))


def test_no_brain_at_all_is_refused() -> None:
    state = _head(grey=60.0, white=80.0)
    nothing = Volume(np.zeros(SHAPE, dtype=np.uint8), GRID)
    with pytest.raises(ScanError, match="found 0 "):
        _normalise()(dataclasses.replace(state, brain_mask=nothing))


# The whole of it


class _Fail(Transform):  # type: ignore[misc]
    def __call__(self, state: ScanState) -> ScanState:
        raise ValueError("a defect of ours")


@pytest.fixture
def preprocessor(monkeypatch: pytest.MonkeyPatch) -> Preprocessor:
    """Neither atlas nor network weights: the steps after loading are cut off."""
    monkeypatch.setattr(pipeline, "template", lambda _suffix: _white())
    whole = Preprocessor(PreprocessConfig())
    whole.steps = Compose(list(whole.steps.transforms[:2]))
    return whole


def test_a_scan_is_loaded_and_put_in_ras_order(
    preprocessor: Preprocessor, write_head: WriteHead
) -> None:
    affine = np.diag([-5.0, 5.0, 5.0, 1.0])
    path = write_head("las.nii.gz", affine=affine)
    state = preprocessor(path)
    np.testing.assert_array_equal(state.image.data, nib.load(path).get_fdata()[::-1])
    assert state.path == path


def test_the_reason_to_refuse_a_scan_reaches_the_caller_unwrapped(
    preprocessor: Preprocessor, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.nii.gz"
    with pytest.raises(ScanError, match=r"absent\.nii\.gz") as caught:
        preprocessor(absent)
    assert caught.value.found == "no file of that name"


def test_a_defect_is_not_taken_for_a_bad_scan(
    preprocessor: Preprocessor, write_head: WriteHead
) -> None:
    preprocessor.steps = Compose([*preprocessor.steps.transforms, _Fail()])
    with pytest.raises(RuntimeError, match="_Fail") as caught:
        preprocessor(write_head())
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_same_settings_have_the_same_identity() -> None:
    identity = PreprocessConfig().identity()
    assert identity == PreprocessConfig().identity()
    assert identity == PreprocessConfig(working_voxel_mm=2.0).identity()
    assert len(identity) == 12


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(PreprocessConfig)])
def test_any_other_setting_gives_another_identity(name: str) -> None:
    config = PreprocessConfig()
    value = getattr(config, name)
    other = (value[0] + 1, *value[1:]) if isinstance(value, tuple) else value + 1
    changed = dataclasses.replace(config, **{name: other})
    assert changed.identity() != config.identity()


def test_another_revision_of_the_code_gives_another_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = PreprocessConfig().identity()
    monkeypatch.setattr(settings, "REVISION", settings.REVISION + 1)
    assert PreprocessConfig().identity() != before
