"""Draws made ahead are the draws of making them in turn, and so is the state that is told."""

from collections.abc import Callable
from threading import get_ident

import numpy as np
import pytest

from ermoe_ba.space import Array
from ermoe_ba.training.drawn_ahead import DrawnAhead

STEPS = 5


def _ahead(seed: int) -> tuple[DrawnAhead[Array], np.random.Generator]:
    random = np.random.default_rng(seed)
    # An odd number: half of a 64-bit draw is left over, which belongs to the state.
    return DrawnAhead(lambda: random.standard_normal(7, np.float32), random, STEPS), random


def _in_turn(seed: int) -> list[list[float]]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(7, np.float32).tolist() for _ in range(STEPS)]


def test_draws_are_those_of_drawing_in_turn() -> None:
    ahead, _ = _ahead(3)
    assert [ahead.take(step).tolist() for step in range(STEPS)] == _in_turn(3)


@pytest.mark.parametrize("done", range(STEPS + 1))
def test_the_state_is_that_after_the_step_taken_last(done: int) -> None:
    """Whatever was drawn beyond it, another stage goes on from there with the same numbers."""
    ahead, _ = _ahead(3)
    for step in range(done):
        ahead.take(step)
    other, _ = _ahead(99)
    other.load_state_dict(ahead.state_dict())
    assert [other.take(step).tolist() for step in range(done, STEPS)] == _in_turn(3)[done:]


def test_a_state_taken_up_drops_what_was_drawn_before_it() -> None:
    ahead, _ = _ahead(3)
    begin = ahead.state_dict()
    ahead.take(0)
    ahead.load_state_dict(begin)
    assert [ahead.take(step).tolist() for step in range(STEPS)] == _in_turn(3)


def test_nothing_is_drawn_beyond_the_last_step() -> None:
    ahead, random = _ahead(3)
    for step in range(STEPS):
        ahead.take(step)
    assert random.bit_generator.state == ahead.state_dict()
    with pytest.raises(IndexError, match=r"from 0 to 4; found 5"):
        ahead.take(STEPS)


def test_a_step_is_drawn_beside_the_work_on_the_one_before() -> None:
    """All draws in one thread, which is not that of the work."""
    threads: list[int] = []
    random = np.random.default_rng(0)

    def draw() -> float:
        threads.append(get_ident())
        return random.random()

    ahead = DrawnAhead(draw, random, STEPS)
    for step in range(STEPS):
        ahead.take(step)
    assert len(threads) == STEPS
    assert len(set(threads)) == 1
    assert threads[0] != get_ident()


def test_what_goes_wrong_in_a_draw_is_told_to_who_takes_it() -> None:
    def failing() -> Callable[[], int]:
        numbers = iter([1])
        return lambda: next(numbers)

    ahead = DrawnAhead(failing(), np.random.default_rng(0), STEPS)
    assert ahead.take(0) == 1
    with pytest.raises(StopIteration):
        ahead.take(1)
