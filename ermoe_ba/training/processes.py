"""The processes that train one network together, on one machine or several; often there is one.

Shapes: N samples of a batch.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
)
from torch import Tensor

from ermoe_ba.training.snapshot import (
    Stateful,
    random_state,
    read_snapshot,
    set_random_state,
    write_snapshot,
)

Value = TypeVar("Value")

# How long processes wait for each other. While the first prepares scans the others wait, and those
# of a large study take hours: torch's own 10 (NCCL) or 30 minutes (gloo) would end them. A process
# that dies is noticed by its launcher, however long this is.
PATIENCE = timedelta(days=1)


class Processes:
    """What the loop asks of accelerate: who works on what, and what all found together.

    Under ``torchrun`` there are as many as it started, one a device. Each draws random numbers of
    its own inside the network; batches are drawn alike by all.
    """

    def __init__(self) -> None:
        # Precision and accumulation are the recipe's to say; the loop keeps to them.
        self.accelerator = Accelerator(
            # Without CUDA, accelerate must be told that torchrun's processes share the CPU.
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",
            # Buffers follow from what all processes found together, and are equal without it.
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )
        if self.number > 0:
            torch.manual_seed(torch.initial_seed() + self.number)

    @property
    def number(self) -> int:
        """Which process this is, from 0."""
        return int(self.accelerator.process_index)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this one writes and shows."""
        return bool(self.accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    def of_first(self, value: Value) -> Value:
        """Return what the first process found, for all to do the same.

        Parameters
        ----------
        value : object
            This process's; one that pickle knows.

        Returns
        -------
        object
            The first one's.
        """
        (found,) = broadcast_object_list([value])
        told: Value = found
        return told

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over the processes.

        Parameters
        ----------
        value : Tensor
            Of the same shape in every process.

        Returns
        -------
        Tensor
            Of that shape, the same in every process.
        """
        total: Tensor = self.accelerator.reduce(value, "sum")
        return total

    def whole(self, num_samples: int, parts: Sequence[tuple[slice, Tensor]]) -> Tensor:
        """Put together what all processes found for their samples of one batch.

        Parameters
        ----------
        num_samples : int
            N.
        parts : sequence of (slice, Tensor)
            Where in the batch this process's samples stand, and their values, of any shape but for
            the first axis; every process must bring at least one part, be it of no samples.

        Returns
        -------
        Tensor, shape (N, ...)
            In the batch's order, each sample once.
        """
        first = parts[0][1]
        # Truth values cannot be added up.
        kind = torch.uint8 if first.dtype == torch.bool else first.dtype
        filled = torch.zeros((num_samples, *first.shape[1:]), dtype=kind, device=first.device)
        for rows, values in parts:
            filled[rows] = values[: rows.stop - rows.start].to(kind)
        return self.sum(filled).to(first.dtype)

    def save(self, path: Path, identity: Mapping[str, Any], parts: Mapping[str, Stateful]) -> None:
        """Write a snapshot of what the processes hold in common, and of each one's random state.

        Parameters
        ----------
        path : Path
            Of the snapshot.
        identity : mapping
            Plain values that tell which stage it belongs to.
        parts : mapping
            What is to be gone on with, by name.
        """
        # All take part: states are gathered from each.
        state = {name: part.state_dict() for name, part in parts.items()}
        if self.is_main:
            write_snapshot(path, identity, state)

    def load(self, path: Path, identity: Mapping[str, Any], parts: Mapping[str, Stateful]) -> None:
        """Take up a snapshot, if there is one; the first process reads it for all.

        Parameters
        ----------
        path : Path
            Of the snapshot.
        identity : mapping
            Plain values that tell which stage it belongs to.
        parts : mapping
            What is gone on with, by the names that `save` was given.

        Raises
        ------
        UsageError
            If it cannot be read, or belongs to another stage.
        """
        state: dict[str, Any] | None = None
        if self.is_main and path.is_file():
            state = read_snapshot(path, identity)
        read = self.of_first(state)
        if read is not None:
            for name, part in parts.items():
                part.load_state_dict(read[name])


class RandomStates:
    """All that draws random numbers in a stage: the networks of each process, and the batches.

    Parameters
    ----------
    processes : Processes
        Whose.
    draws : Stateful or None
        Those of the batches.
    """

    def __init__(self, processes: Processes, draws: Stateful | None) -> None:
        self.processes, self.draws = processes, draws

    def state_dict(self) -> dict[str, Any]:
        """Return the states, those of the networks with one row a process.

        Returns
        -------
        dict
            Plain values and tensors.
        """
        accelerator, device = self.processes.accelerator, self.processes.device
        return {
            "networks": {
                name: accelerator.gather(state[None].to(device)).cpu()
                for name, state in random_state(device).items()
            },
            "batches": None if self.draws is None else self.draws.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all generators; each process takes its own row.

        Parameters
        ----------
        state : dict
            From `state_dict`, of as many processes.
        """
        rows = {name: states[self.processes.number] for name, states in state["networks"].items()}
        set_random_state(rows, self.processes.device)
        if self.draws is not None:
            self.draws.load_state_dict(state["batches"])
