"""Flows: they do not fold, undo each other, and are looked up where they lead."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ermoe_ba.phantom.flow import Flow, compose, exponential, jacobian_determinant
from ermoe_ba.phantom.sampling import Places, interpolation_matrix, nearest, sample_separably
from ermoe_ba.space import Array

# A flow's lattice of 20 x 26 x 16 voxels: half of this, three unequal axes.
FINE = (40, 52, 32)


def _everywhere(flow: Flow) -> Array:
    return np.arange(int(np.prod(flow.shape)))


def _interior(field: Array, margin: int = 4) -> Array:
    return field[..., margin:-margin, margin:-margin, margin:-margin]


def test_nothing_moves_without_velocity_and_all_alike_with_a_constant_one() -> None:
    flow = Flow(FINE)
    still = np.zeros((3, *flow.shape), np.float32)
    np.testing.assert_array_equal(exponential(still, _everywhere(flow), squarings=3), 0.0)
    drift = still + np.array([0.5, -0.25, 1.0], np.float32).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(exponential(drift, _everywhere(flow), squarings=3), drift, rtol=1e-5)


def test_a_flow_and_its_reverse_undo_each_other() -> None:
    flow = Flow(FINE)
    velocity = flow.random(np.random.default_rng(0), [(0.6, 3.0)])
    there = exponential(velocity, _everywhere(flow), squarings=4)
    back = exponential(-velocity, _everywhere(flow), squarings=4)
    moved = np.indices(flow.shape) + there
    returned = there + np.stack([map_coordinates(b, moved, order=1, mode="nearest") for b in back])
    # Left are linear interpolation and 16 steps of time: a twentieth of the way, at most.
    assert np.abs(_interior(there)).max() > 1.0
    assert np.abs(_interior(returned)).max() < 0.05 * np.abs(there).max()
    assert jacobian_determinant(there).min() > 0


def test_random_flows_have_the_spread_asked_for_and_no_divergence() -> None:
    flow = Flow((80, 104, 64))
    # Variances of independent parts add up: 1.2^2 + 1.6^2 = 2^2.
    scales = [(1.2, 2.0), (1.6, 3.0)]
    fields = [flow.random(np.random.default_rng(s), scales) for s in range(4)]
    assert np.std(fields) == pytest.approx(2.0, rel=0.1)
    slopes = np.stack([np.gradient(fields[0][axis], axis=axis) for axis in range(3)])
    assert _interior(slopes.sum(axis=0)).std() < 0.1 * _interior(slopes).std()


def _outflow(v: Array, low: tuple[int, int, int], high: tuple[int, int, int]) -> float:
    """What flows out through the faces of a box, by the trapezoid rule."""
    out = 0.0
    for axis in range(3):
        box = [slice(a, b + 1) for a, b in zip(low, high, strict=True)]
        for end, sign in ((low[axis], -1), (high[axis], 1)):
            face = [*box]
            face[axis] = slice(end, end + 1)
            weights = np.ones(v[axis][tuple(face)].shape)
            for other in range(3):
                if other != axis:
                    for edge in (0, -1):
                        index = [slice(None)] * 3
                        index[other] = slice(edge, None) if edge else slice(0, 1)
                        weights[tuple(index)] *= 0.5
            out += sign * float((v[axis][tuple(face)] * weights).sum())
    return out


def test_what_flows_out_of_a_box_is_what_its_sources_give() -> None:
    flow = Flow((60, 52, 32))
    source = np.zeros(flow.shape, np.float32)
    source[8:12, 10:14, 6:9] = 0.5
    # As much is lost elsewhere: nothing is left over for the periodic box to swallow.
    source[22:26, 10:14, 6:9] = -0.5
    low, high = (3, 4, 2), (16, 20, 13)
    given = 0.5 * 4 * 4 * 3
    # Gauss: through the faces of a box that holds the blurred source.
    assert _outflow(flow.from_sources(source), low, high) == pytest.approx(given, rel=0.03)


def test_composing_looks_the_second_up_where_the_first_leads() -> None:
    shape = (9, 8, 7)
    x = np.indices(shape)[0]
    first = np.stack([np.full(shape, 1.5), np.zeros(shape), np.zeros(shape)]).astype(np.float32)
    then = np.stack([0.5 * x, np.zeros(shape), 2.0 * x]).astype(np.float32)
    active = np.flatnonzero(x.ravel() < 5)
    found = compose(first, then, active)
    looked_up, added = x < 5, x >= 5
    # 1.5 + 0.5 (x + 1.5), 2 (x + 1.5); and just the sums elsewhere.
    np.testing.assert_allclose(found[0][looked_up], (0.5 * x + 2.25)[looked_up], rtol=1e-6)
    np.testing.assert_allclose(found[2][looked_up], (2.0 * x + 3.0)[looked_up], rtol=1e-6)
    np.testing.assert_allclose(found[0][added], (1.5 + 0.5 * x)[added], rtol=1e-6)


def test_jacobians_of_a_stretch_are_the_product_of_its_factors() -> None:
    grid = np.indices((5, 6, 7)).astype(float)
    factors = np.array([1.5, 0.5, 2.0]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(jacobian_determinant(grid * (factors - 1)), 1.5 * 0.5 * 2.0)
    # A shear keeps volumes: x moves by 3 y.
    shear = np.stack([3 * grid[1], 0 * grid[0], 0 * grid[0]])
    np.testing.assert_allclose(jacobian_determinant(shear), 1.0)


def test_interpolation_reproduces_a_slope_on_three_unequal_axes() -> None:
    positions = [np.array([0.0, 0.25, 2.9]), np.array([1.0, 1.5]), np.array([0.0, 3.5, 4.0, 0.5])]
    shape = (4, 3, 5)
    matrices = [interpolation_matrix(p, n) for p, n in zip(positions, shape, strict=True)]
    centres = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    field = 1.0 * centres[0] + 10.0 * centres[1] - 5.0 * centres[2]
    x, y, z = np.meshgrid(*positions, indexing="ij")
    found = sample_separably(field, (matrices[0], matrices[1], matrices[2]))
    np.testing.assert_allclose(found, x + 10 * y - 5 * z, rtol=1e-5)


def test_places_sample_as_scipy_does_inside_and_take_the_edge_beyond() -> None:
    rng = np.random.default_rng(4)
    fields = rng.standard_normal((2, 6, 5, 9)).astype(np.float32)
    where = rng.uniform(-2, 10, (3, 500)).astype(np.float32)
    expected = [map_coordinates(f, where, order=1, mode="nearest") for f in fields]
    np.testing.assert_allclose(Places(where, (6, 5, 9)).sample(fields), expected, atol=2e-6)
    at = nearest(np.array([[1.4], [3.6], [20.0]]), (6, 5, 9))
    np.testing.assert_array_equal(at, np.ravel_multi_index(([1], [4], [8]), (6, 5, 9)))
