"""Registration: a planted affine is found again, wherever it starts and whatever the coil did."""

import dataclasses
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from scan_states import FloatArray, state_of
from scipy.spatial.transform import Rotation

from ermoe_ba.assets import template
from ermoe_ba.preprocess import ScanState
from ermoe_ba.preprocess.geometry import ToGrid, ToRas
from ermoe_ba.preprocess.register import MovingBrain, RegisterAffine, flattened, standardised
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume


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
    state = ToRas()(state_of(scan))
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
    state = ToRas()(state_of(Volume(brain.data.astype(np.float32), header)))
    mask = state.image.same_grid((state.image.data > 0).astype(np.uint8))
    settled = _register()(dataclasses.replace(state, brain_mask=mask))
    found = ToGrid(MODEL_GRID)(settled).figures
    assert found["template_correlation"] > 0.99
    assert found["turn_degrees"] == pytest.approx(180.0, abs=1.0)


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
    return state_of(scan.same_grid(scan.data.astype(np.float32)), mask)


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
