"""The loss of ages as distributions, against closed forms."""

import math

import pytest
import torch

from ermoe_ba.training.label_distribution import label_distribution_loss


@pytest.mark.parametrize("width", [2.0, 5.0])
def test_far_from_the_ends_it_is_the_squared_error_over_twice_the_width(width: float) -> None:
    predicted = torch.tensor([50.0, 57.3, 44.0], dtype=torch.float64)
    age = torch.tensor([50.0, 52.1, 50.0], dtype=torch.float64)
    expected = (0.0 + 5.2**2 + 6.0**2) / 3 / (2 * width)
    assert float(label_distribution_loss(predicted, age, width)) == pytest.approx(
        expected, rel=1e-3
    )


def test_two_bins_by_hand() -> None:
    """So narrow around 18.9 and 19.1 that all but the first two bins hold less than 1e-8."""
    width = 0.3

    def shares(centre: float) -> list[float]:
        raw = [math.exp(-((y - centre) ** 2) / (2 * width**2)) for y in (18.5, 19.5, 20.5)]
        return [share / sum(raw) for share in raw]

    true, found = shares(18.9), shares(19.1)
    expected = width * sum(p * math.log(p / q) for p, q in zip(true, found, strict=True))
    loss = label_distribution_loss(torch.tensor([19.1]), torch.tensor([18.9]), width)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_beyond_the_last_bin_a_greater_error_costs_no_less() -> None:
    losses = [
        float(label_distribution_loss(torch.tensor([age]), torch.tensor([90.0]), 5.0))
        for age in (92.0, 96.0, 120.0, 150.0)
    ]
    assert losses == sorted(losses)
    assert math.isfinite(losses[-1])


def test_its_gradient_pulls_a_prediction_towards_the_age() -> None:
    predicted = torch.tensor([30.0, 70.0], requires_grad=True)
    label_distribution_loss(predicted, torch.tensor([40.0, 60.0]), 5.0).backward()
    assert predicted.grad is not None
    assert predicted.grad[0] < 0 < predicted.grad[1]
