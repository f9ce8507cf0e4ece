"""The loop on a parabola: it reaches the foot, averages weights, and stops at no number."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from quick_settings import OPTIMISER
from torch import Tensor, nn

from ermoe_ba.errors import ErmoeError
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.loop import fit
from ermoe_ba.training.stage import Loss, Stage

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class _Parabola(nn.Module):
    """Two weights whose loss is their squared distance from (3, -2)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))
        self.seen: list[Tensor] = []

    def loss(self, _: tuple[Tensor, ...]) -> Loss:
        self.seen.append(self.w.detach().clone())
        return Loss((self.w - torch.tensor([3.0, -2.0])).square().sum())

    def stage(
        self, num_steps: int, loss: Callable[[tuple[Tensor, ...]], Loss] | None = None
    ) -> Stage:
        steps = torch.arange(num_steps)
        return Stage(
            parameter_groups=[{"params": [self.w], "weight_decay": 0.0}],
            batches=[Batch((steps[step : step + 1],), (f"p{step}",)) for step in range(num_steps)],
            steps_per_epoch=4,
            loss=loss or self.loss,
            describe="parabola",
        )


def test_fitting_reaches_the_foot_of_a_parabola() -> None:
    model = _Parabola()
    history = fit(model, model.stage(150), replace(OPTIMISER, learning_rate=0.2))
    losses = history.table()["loss"].to_numpy()
    assert losses[0] == pytest.approx(13.0)
    assert losses[-1] < 1e-3
    torch.testing.assert_close(model.w.detach(), torch.tensor([3.0, -2.0]), atol=0.05, rtol=0)
    assert not model.training


def test_the_weights_kept_are_the_exponential_average() -> None:
    """From the weights w_1 to w_6 after each step: m_1 = w_1, m_k = .9 m_(k-1) + .1 w_k."""
    last, averaged = _Parabola(), _Parabola()
    fit(last, last.stage(6), replace(OPTIMISER, ema_decay=0.0))
    fit(averaged, averaged.stage(6), replace(OPTIMISER, ema_decay=0.9))
    after_each_step = [*last.seen[1:], last.w.detach()]
    mean = after_each_step[0]
    for w in after_each_step[1:]:
        mean = 0.9 * mean + 0.1 * w
    torch.testing.assert_close(averaged.w.detach(), mean)
    assert (averaged.w - last.w).abs().min() > 1e-3
    # The average looks on: it does not change the course.
    assert torch.equal(averaged.seen[-1], last.seen[-1])


def test_a_loss_that_is_no_number_stops_the_stage_by_name() -> None:
    """Its fourth step is the one of participant p3."""
    model = _Parabola()

    def loss(tensors: tuple[Tensor, ...]) -> Loss:
        return Loss(model.loss(tensors).mean * (float("nan") if tensors[0] == 3 else 1.0))

    says = r"parabola: step 4: the loss must be finite; found nan\. Its scans are of p3\."
    with pytest.raises(ErmoeError, match=says):
        fit(model, model.stage(6, loss), OPTIMISER)
    assert torch.isfinite(model.w).all()
