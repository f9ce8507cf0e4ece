"""Specialisation: information of two experts and two parts by hand, and its ends."""

import numpy as np
import pytest

from ermoe_ba.specialisation import shared_information, shuffled


def test_information_by_hand() -> None:
    """Of the first part all goes to expert 1, of the second half: p = (1/2, 1/4; 0, 1/4)."""
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    told = 0.5 * np.log(0.5 / (0.75 * 0.5)) + 0.25 * np.log(0.25 / (0.75 * 0.5))
    told += 0.25 * np.log(0.25 / (0.25 * 0.5))
    uncertain = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert shared_information(weights, np.eye(2)) == pytest.approx(told / uncertain)


def test_experts_with_parts_of_their_own_tell_all() -> None:
    parts = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    assert shared_information(np.eye(3), parts) == pytest.approx(1.0)
    # Two parts for one expert still leave nothing open about the expert.
    two = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert shared_information(two, parts) == pytest.approx(1.0)


def test_experts_that_do_not_care_tell_nothing() -> None:
    weights = np.tile([0.7, 0.3], (4, 1))
    parts = np.random.default_rng(0).random((4, 3))
    assert shared_information(weights, parts) == pytest.approx(0.0, abs=1e-12)
    assert shared_information(np.ones((4, 1)), parts) == 0.0


def test_tokens_that_nobody_serves_do_not_count() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    parts = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    assert shared_information(weights, parts) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("weights", "parts", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), "one row a token"),
        (-np.ones((3, 2)), np.ones((3, 2)), "0 or more"),
        (np.zeros((3, 2)), np.ones((3, 2)), "none does"),
    ],
)
def test_what_is_no_routing_is_refused(
    weights: np.ndarray, parts: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shared_information(weights, parts)


def test_chance_keeps_the_weights_of_each_token_and_loses_their_experts() -> None:
    """Each token is served by an expert of its own; by chance, all serve all alike."""
    weights = np.tile(np.eye(3), (2000, 1))
    parts = np.tile(np.eye(3), (2000, 1))
    by_chance = shuffled(weights, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(by_chance, axis=1), np.sort(weights, axis=1))
    assert shared_information(weights, parts) == pytest.approx(1.0)
    # 6,000 tokens and 4 degrees of freedom: 4 / (2 * 6000) nats by chance, of log 3.
    assert shared_information(by_chance, parts) < 0.003


def test_by_chance_each_token_keeps_its_weights_in_every_scan() -> None:
    weights = np.random.default_rng(0).random((2, 5, 3))
    by_chance = shuffled(weights, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(by_chance, axis=2), np.sort(weights, axis=2))
    assert (by_chance != weights).any(axis=(1, 2)).all()
