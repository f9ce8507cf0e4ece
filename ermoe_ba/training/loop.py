"""The training loop: batches in, loss out, one optimiser; it knows nothing of what it trains."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ermoe_ba.errors import ErmoeError

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How weights move.

    Parameters
    ----------
    learning_rate : float
        Highest rate, reached after the warm-up.
    warmup_share : float
        Share of all steps over which the rate rises from a twenty-fifth of it; then it falls as a
        cosine to almost 0.
    max_gradient_norm : float
        Longer gradients are cut to this length.
    ema_decay : float
        The weights kept are an exponential moving average with this decay a step; 0 keeps the last.
    """

    learning_rate: float
    warmup_share: float
    max_gradient_norm: float
    ema_decay: float


@dataclass(frozen=True, kw_only=True)
class Fit(Generic[Batch]):
    """One stage of training.

    Parameters
    ----------
    parameter_groups : list of dict
        As torch optimisers take them: ``params`` and ``weight_decay``.
    batches : iterable
        One element a step.
    num_steps : int
        Length of `batches`.
    loss : callable
        From a batch to a scalar; may do what belongs to the step besides.
    describe : str
        Names the stage on the progress bar.
    """

    parameter_groups: list[dict[str, object]]
    batches: Iterable[Batch]
    num_steps: int
    loss: Callable[[Batch], Tensor]
    describe: str


def fit(model: nn.Module, stage: Fit[Batch], config: OptimiserConfig) -> list[float]:
    """Train a model through one stage.

    Parameters
    ----------
    model : Module
        Trained in place; left in evaluation mode with its averaged weights.
    stage : Fit
        Data and loss.
    config : OptimiserConfig
        Steps of the optimiser.

    Returns
    -------
    list of float
        The loss of each step.

    Raises
    ------
    ErmoeError
        If a loss is not finite.
    """
    optimiser = torch.optim.AdamW(stage.parameter_groups, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=config.learning_rate,
        total_steps=stage.num_steps,
        pct_start=config.warmup_share,
        cycle_momentum=False,
    )
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)
    )
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    losses: list[float] = []
    model.train()
    bar = tqdm(stage.batches, desc=stage.describe, total=stage.num_steps, mininterval=2.0)
    for step, batch in enumerate(bar):
        loss = stage.loss(batch)
        if not torch.isfinite(loss):
            raise ErmoeError(f"{stage.describe}: the loss became {loss.item()} at step {step}.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.max_gradient_norm)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        losses.append(float(loss.detach()))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in average.module.named_parameters():
            parameters[name].copy_(value)
    model.eval()
    return losses
