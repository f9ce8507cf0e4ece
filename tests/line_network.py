"""A network of one weight, and settings that move it by steps worked out by hand."""

from dataclasses import replace
from typing import Any

import torch
from quick_settings import OPTIMISER as QUICK_OPTIMISER
from torch import Tensor, nn

from ermoe_ba.training.batch import Batch
from ermoe_ba.training.stage import Loss, Stage

OPTIMISER = replace(QUICK_OPTIMISER, learning_rate=0.1, warmup_share=0.5, ema_decay=0.0)


class Line(nn.Module):
    """One weight; predicts w x, and its loss is the mean absolute error."""

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weight))

    def loss(self, tensors: tuple[Tensor, ...]) -> Loss:
        x, y = tensors
        error = (self.w * x - y).abs()
        return Loss(error.mean(), {"error": error.detach()})

    def stage(self, num_steps: int, **settings: Any) -> Stage:
        x = torch.tensor([1.0, 2.0, 3.0, 4.0])
        batch = Batch((x, torch.full((4,), 10.0)), ("a", "b", "b", "c"))
        given = {
            "parameter_groups": [{"params": [self.w], "weight_decay": 0.5}],
            "batches": [batch] * num_steps,
            "steps_per_epoch": 2,
            "loss": self.loss,
            "describe": "line",
        }
        return Stage(**{**given, **settings})
