"""The drift of the coil over a brain: most of it is taken out, whatever the scanner's units."""

import numpy as np
import pytest
from scan_states import state_of

from ermoe_ba.assets import template
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.preprocess.intensity import CorrectBias
from ermoe_ba.space import Array, Volume

CONFIG = PreprocessConfig()
BRAIN = template("desc-brain_T1w")
INSIDE = BRAIN.data > 0
# From the left to the right, it falls to less than a half.
FIELD = np.broadcast_to(
    np.exp(np.linspace(0.4, -0.4, BRAIN.grid.shape[0]))[:, None, None], BRAIN.grid.shape
)


def _log_corrected(data: Array) -> Array:
    """Return the logarithm of corrected intensities of the template's brain."""
    step = CorrectBias(CONFIG.n4_shrink_factor, CONFIG.n4_iterations, CONFIG.n4_tolerance)
    mask = BRAIN.same_grid(INSIDE.astype(np.uint8))
    state = state_of(Volume(data.astype(np.float32), BRAIN.grid), mask)
    return np.log(np.asarray(step(state).image.data[INSIDE], dtype=np.float64))


@pytest.fixture(scope="module")
def corrected() -> Array:
    """Corrected intensities of the brain under the field."""
    return _log_corrected(BRAIN.data * FIELD)


def test_most_of_a_field_is_taken_out(corrected: Array) -> None:
    """Of its spread, a third at most is left beside what N4 makes of the brain without a field."""
    left = corrected - _log_corrected(BRAIN.data)
    assert left.std() < np.log(FIELD[INSIDE]).std() / 3


def test_a_thousandth_of_the_intensities_ends_where_they_do(corrected: Array) -> None:
    np.testing.assert_allclose(_log_corrected(BRAIN.data * FIELD / 1000), corrected, atol=1e-3)
