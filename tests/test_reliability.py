"""Agreement of repetitions, against hand-worked and published values."""

import numpy as np
import pytest

from ermoe_ba.reliability import agreement_icc, within_subject_sd

# Six targets, four judges: the example of Shrout and Fleiss (1979), whose ICC(2,1) is 0.29.
JUDGES = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_the_published_example_is_met() -> None:
    assert agreement_icc(JUDGES) == pytest.approx(0.29, abs=0.005)


def test_perfect_agreement_is_1_and_a_shift_lowers_it() -> None:
    once = np.array([20.0, 40.0, 60.0])
    assert agreement_icc(np.column_stack([once, once])) == pytest.approx(1.0)
    # Subjects' mean square 800, repetitions' 3 x 2 x 2^2 = 24, rest 0: 800 / (800 + 2 x 24 / 3).
    assert agreement_icc(np.column_stack([once - 2, once + 2])) == pytest.approx(800 / 816)


def test_within_subject_sd_is_the_difference_over_root_two() -> None:
    first = np.array([20.0, 40.0, 60.0])
    pair = np.column_stack([first, first + np.array([1.0, -2.0, 2.0])])
    assert within_subject_sd(pair) == pytest.approx(np.sqrt((1 + 4 + 4) / 3 / 2))


@pytest.mark.parametrize("values", [np.ones((1, 2)), np.ones((3, 1)), np.array([[1, np.nan]] * 3)])
def test_too_few_or_unknown_values_have_no_reliability(values: np.ndarray) -> None:
    for measure in (agreement_icc, within_subject_sd):
        with pytest.raises(ValueError, match="at least two subjects"):
            measure(values)
