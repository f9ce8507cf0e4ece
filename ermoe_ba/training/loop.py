"""The training loop: batches in, loss out, one optimiser; it knows nothing of what it trains.

Shapes: N samples of a batch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.training.batch import Batch, shares
from ermoe_ba.training.early_stopping import EarlyStopping
from ermoe_ba.training.history import History
from ermoe_ba.training.processes import Processes, RandomStates
from ermoe_ba.training.progress import Progress
from ermoe_ba.training.snapshot import Stateful
from ermoe_ba.training.stage import Loss, Stage, Validation
from ermoe_ba.training.trackers import Tracking

# At most so many steps are lost when a process is killed.
SNAPSHOT_STEPS = 25


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
    accumulation : int
        A process works on its samples of a batch in so many parts one after the other, which takes
        less memory; the batch, and what a step does, stay the same.
    bf16 : bool
        Compute in bfloat16 where torch's autocast deems it safe; weights stay in single precision.
    patience : int
        Epochs without a lower error on the validation part after which training stops; the weights
        of the best epoch are kept. 0 makes all steps and keeps the last.
    """

    learning_rate: float
    warmup_share: float
    max_gradient_norm: float
    ema_decay: float
    accumulation: int = 1
    bf16: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        if self.accumulation < 1:
            raise ValueError(f"accumulation must be at least 1; found {self.accumulation}")
        if self.patience < 0:
            raise ValueError(f"patience must be 0 or more; found {self.patience}")


def fit(
    model: nn.Module,
    stage: Stage,
    config: OptimiserConfig,
    *,
    snapshot: Path | None = None,
    tracking: Tracking | None = None,
) -> History:
    """Train a model through one stage.

    Parameters
    ----------
    model : Module
        Trained in place; left in evaluation mode with its averaged weights.
    stage : Stage
        Data and loss.
    config : OptimiserConfig
        Steps of the optimiser.
    snapshot : Path, optional
        Where the state is kept from time to time, and gone on with if it is there: after any stop
        the weights come out as if there had been none. It stays when the stage is done: whoever
        keeps the result removes it once that stands.
    tracking : Tracking, optional
        Who is told the epochs' measures besides.

    Returns
    -------
    History
        The curve and its cost.

    Raises
    ------
    ErmoeError
        If a loss or its gradient is not finite; the weights are those before that step.
    UsageError
        If the snapshot is of another stage, or patience has no validation part to look at.
    OSError
        If a snapshot cannot be written; the one before stays.
    """
    if config.patience and stage.validation is None:
        raise UsageError(
            f"{stage.describe}: patience = {config.patience} needs a validation part; give a "
            "validation_share, or no patience."
        )
    home = next(model.parameters()).device
    num_steps, epoch_steps = len(stage.batches), stage.steps_per_epoch
    processes = Processes()
    optimiser = torch.optim.AdamW(stage.parameter_groups, lr=config.learning_rate)
    schedule = _schedule(optimiser, config, num_steps)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    with _only_these_learn(model, trained):
        objective, prepared = processes.accelerator.prepare(
            _Objective(model, stage.loss, config.bf16), optimiser
        )
        average = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)
        ).eval()
        history, stopping = History(), EarlyStopping(config.patience)
        parts: dict[str, Stateful] = {
            "model": model,
            "optimiser": optimiser,
            "schedule": schedule,
            "average": average,
            "history": history,
            "stopping": stopping,
            "random": RandomStates(processes, stage.draws),
        }
        identity = {
            "stage": stage.describe,
            "steps": num_steps,
            "optimiser": asdict(config),
            "processes": processes.count,
            "device": processes.device.type,
            "torch": torch.__version__,
        }
        if snapshot is not None:
            processes.load(snapshot, identity, parts)
        progress = Progress(
            stage.describe,
            num_steps=num_steps,
            num_done=len(history),
            num_epochs=-(-num_steps // epoch_steps),
            trackers=[] if tracking is None else tracking.make(len(history) + 1),
            shown=processes.is_main,
        )
        model.train()
        for step in range(len(history), num_steps):
            epoch = step // epoch_steps + 1
            if step % epoch_steps == 0 and stage.at_epoch is not None:
                stage.at_epoch(epoch - 1)
            batch = progress.load(stage.batches, step)
            prepared.zero_grad(set_to_none=True)
            loss, measured = _gradients(objective, batch, processes, config.accumulation)
            length = processes.accelerator.clip_grad_norm_(trained, config.max_gradient_norm)
            _refuse_infinite(loss, float(length), f"{stage.describe}: step {step + 1}", batch)
            prepared.step()
            schedule.step()
            average.update_parameters(model)
            values = {} if stage.after_step is None else stage.after_step(measured)
            history.add(epoch, loss, values)
            progress.step()
            if (step + 1) % epoch_steps == 0 or step + 1 == num_steps:
                if stage.validation is not None:
                    score = float(errors(average.module, stage.validation, processes).mean())
                    history.amend({stage.validation.name: score})
                    stopping.see(score, average.module)
                progress.epoch(epoch, history.epoch_means(epoch), step + 1)
                if stopping.is_due:
                    break
            if snapshot is not None and (step + 1) % SNAPSHOT_STEPS == 0:
                processes.save(snapshot, identity, parts)
        history.cost = progress.finish()
    _take_weights(model, stopping.best_weights or dict(average.module.named_parameters()))
    model.to(home).eval()
    return history


def _schedule(
    optimiser: torch.optim.Optimizer, config: OptimiserConfig, num_steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=config.learning_rate,
        total_steps=num_steps,
        # A warm-up of exactly one step is none, and torch would divide by its length of 0.
        pct_start=config.warmup_share if config.warmup_share * num_steps != 1 else 0.0,
        cycle_momentum=False,
    )


def _refuse_infinite(loss: float, gradient_norm: float, where: str, batch: Batch) -> None:
    """Stop before a step that would spoil all weights, and say whose scans to look at."""
    # A finite loss may have no finite gradient, as a root has none at 0.
    for what, value in (("loss", loss), ("gradient's length", gradient_norm)):
        if not math.isfinite(value):
            raise ErmoeError(
                f"{where}: the {what} must be finite; found {value}. Its scans are of "
                f"{', '.join(dict.fromkeys(batch.participants))}. Look at these, or lower the "
                "learning rate."
            )


class _Objective(nn.Module):
    """The network with its loss, as one module: several processes meet in its forward pass."""

    def __init__(
        self, network: nn.Module, loss: Callable[[tuple[Tensor, ...]], Loss], bf16: bool
    ) -> None:
        super().__init__()
        self.network, self.loss, self.bf16 = network, loss, bf16

    def forward(self, *tensors: Tensor) -> Loss:
        with torch.autocast(tensors[0].device.type, torch.bfloat16, enabled=self.bf16):
            return self.loss(tensors)


def _gradients(
    objective: nn.Module, batch: Batch, processes: Processes, accumulation: int
) -> tuple[float, dict[str, Tensor]]:
    """Leave the gradients of a batch's mean loss; return the loss and what was measured of it."""
    accelerator = processes.accelerator
    total = torch.zeros((), device=processes.device)
    measured: dict[str, list[tuple[slice, Tensor]]] = {}
    own = list(shares(batch, processes.number, processes.count, accumulation))
    for share in own:
        # Processes exchange gradients once a step, with the last part.
        alone = nullcontext() if share is own[-1] else accelerator.no_sync(objective)
        with alone:
            loss = objective(*send_to_device(share.tensors, processes.device))
            # Processes' gradients are averaged: times their number, they add up.
            accelerator.backward(loss.mean * (share.weight * processes.count))
        if share.weight > 0:
            total += loss.mean.detach() * share.weight
        for name, values in loss.measured.items():
            measured.setdefault(name, []).append((share.rows, values))
    found = {name: processes.whole(len(batch), parts) for name, parts in measured.items()}
    return float(processes.sum(total)), found


@torch.no_grad()
def errors(network: nn.Module, validation: Validation, processes: Processes) -> Tensor:
    """Return the error of each validation sample, shared among the processes.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    validation : Validation
        The samples.
    processes : Processes
        Each looks at its share.

    Returns
    -------
    Tensor, shape (N,)
        In the order of the samples, each once, the same in every process.
    """
    batch = validation.batch
    rounds = -(-len(batch) // (processes.count * validation.at_a_time))
    parts = [
        (share.rows, validation.error(network, send_to_device(share.tensors, processes.device)))
        for share in shares(batch, processes.number, processes.count, rounds)
    ]
    return processes.whole(len(batch), parts)


@contextmanager
def _only_these_learn(model: nn.Module, trained: list[Tensor]) -> Iterator[None]:
    """Let no other parameter ask for gradients: processes would wait for them."""
    learning = {id(parameter) for parameter in trained}
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, before in asked:
        parameter.requires_grad_(before and id(parameter) in learning)
    try:
        yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)


@torch.no_grad()
def _take_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network other parameters; buffers stay."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
