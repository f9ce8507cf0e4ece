"""What one step of training sees, and how several processes share it.

Shapes: N samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The samples of one step, over all processes.

    Parameters
    ----------
    tensors : tuple of Tensor
        Whatever the loss needs; the first axis of each counts the same N samples, at least one.
    participants : tuple of str
        Those whose scans the samples come from, one entry a scan.

    Raises
    ------
    ValueError
        If there is no sample, or the tensors disagree on their number.
    """

    tensors: tuple[Tensor, ...]
    participants: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(tensor) for tensor in self.tensors}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                "The tensors of a batch must hold the same number of samples, at least one; found "
                f"{[len(tensor) for tensor in self.tensors]}."
            )

    def __len__(self) -> int:
        return len(self.tensors[0])


class Batches(Protocol):
    """The batches of a whole stage, asked for in order, one a step.

    A batch must follow from its number and from the draws that the stage names, so that a stage can
    be gone on with in its middle.
    """

    def __len__(self) -> int:
        """Return the number of steps of the stage."""

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""


@dataclass(frozen=True)
class Share:
    """The part of a batch that one process works on at a time.

    Parameters
    ----------
    rows : slice
        Its samples within the batch; none where there are more shares than samples.
    tensors : tuple of Tensor
        The samples, or the batch's first where there are none: every process has to take part in
        every step.
    weight : float
        Its part of the batch's samples, 0 to 1; that of all shares together is 1.
    """

    rows: slice
    tensors: tuple[Tensor, ...]
    weight: float


def shares(batch: Batch, process: int, num_processes: int, per_process: int) -> Iterator[Share]:
    """Part a batch into equal shares, and give one process its own.

    Every sample lies in exactly one share of one process: none is repeated to fill up.

    Parameters
    ----------
    batch : Batch
        As all processes have it.
    process, num_processes : int
        Which, from 0, of how many.
    per_process : int
        Shares that a process works on one after the other.

    Yields
    ------
    Share
        Those of `process`, in order; their numbers of samples differ by one at most.
    """
    total, parts = len(batch), num_processes * per_process
    for part in range(process * per_process, (process + 1) * per_process):
        rows = slice(total * part // parts, total * (part + 1) // parts)
        held = rows if rows.stop > rows.start else slice(0, 1)
        weight = (rows.stop - rows.start) / total
        yield Share(rows, tuple(tensor[held] for tensor in batch.tensors), weight)
