"""One stage of training: what is learnt from what; the loop asks no more of it.

Shapes: N samples of a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from ermoe_ba.training.batch import Batch, Batches
from ermoe_ba.training.snapshot import Stateful


@dataclass(frozen=True)
class Loss:
    """What a network makes of some samples.

    Parameters
    ----------
    mean : Tensor, scalar
        The loss, a mean over the samples; what does not depend on samples may be added to it.
    measured : dict of Tensor, shape (N, ...)
        What the stage wants to know of each sample besides, by name, without gradients.
    """

    mean: Tensor
    measured: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Samples that nothing learns from.

    Parameters
    ----------
    batch : Batch
        All of them.
    at_a_time : int
        How many a process looks at together.
    error : callable
        From a network and tensors of samples to an error for each, shape (N,).
    name : str
        Of the mean error in the history.
    """

    batch: Batch
    at_a_time: int
    error: Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
    name: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    Parameters
    ----------
    parameter_groups : list of dict
        As torch optimisers take them: ``params`` and ``weight_decay``. What is in none of them is
        left as it is.
    batches : Batches
        One a step.
    steps_per_epoch : int
        After so many steps measures are averaged and shown.
    loss : callable
        From the tensors of some samples to their loss.
    describe : str
        Names the stage on the progress bar.
    draws : Stateful, optional
        Tells and takes up the state of what the batches draw from when they are asked for.
    after_step : callable, optional
        Given what the loss measured, of all samples of the batch from all processes; does what
        belongs to the step besides, and returns values for the history by name.
    at_epoch : callable, optional
        Given the number of epochs done, before each epoch; may look at the model, and must leave
        it as it was.
    validation : Validation, optional
        Looked at after each epoch.
    """

    parameter_groups: list[dict[str, object]]
    batches: Batches
    steps_per_epoch: int
    loss: Callable[[tuple[Tensor, ...]], Loss]
    describe: str
    draws: Stateful | None = None
    after_step: Callable[[dict[str, Tensor]], Mapping[str, float]] | None = None
    at_epoch: Callable[[int], None] | None = None
    validation: Validation | None = None
