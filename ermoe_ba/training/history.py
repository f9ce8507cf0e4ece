"""What training did, step by step, and what it cost."""

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

# <name>_history.tsv, one row a step; what a stage measures besides follows in columns of its own.
HISTORY_COLUMNS: dict[str, str] = {
    "step": "steps of the optimiser, from 1",
    "epoch": "from 1",
    "loss": "what the step minimised, mean over its samples",
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage of training cost this process.

    Parameters
    ----------
    scans : int
        Scans that the steps saw, counted each time, over all processes.
    seconds : float
        By the clock; of the steps of a stage, from the first to the end of the last.
    reading_seconds : float
        Those of them in which prepared scans were read from files.
    making_seconds : float
        Those of them in which inputs were made of what had been read: copies changed and described,
        noise drawn, windows cut, batches put together. What is drawn while the network works costs
        no time here.
    peak_memory_mb : float
        Largest resident memory of the process so far, in megabytes (10^6 bytes).
    """

    scans: int = 0
    seconds: float = 0.0
    reading_seconds: float = 0.0
    making_seconds: float = 0.0
    peak_memory_mb: float = 0.0

    @property
    def scans_per_second(self) -> float:
        """Scans seen a second; 0 where no step was made."""
        return self.scans / self.seconds if self.seconds > 0 else 0.0

    @property
    def reading_share(self) -> float:
        """Share of the time that went into reading files, 0 to 1."""
        return self.reading_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def making_share(self) -> float:
        """Share of the time that went into making inputs of what had been read, 0 to 1."""
        return self.making_seconds / self.seconds if self.seconds > 0 else 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            scans=self.scans + other.scans,
            seconds=self.seconds + other.seconds,
            reading_seconds=self.reading_seconds + other.reading_seconds,
            making_seconds=self.making_seconds + other.making_seconds,
            peak_memory_mb=max(self.peak_memory_mb, other.peak_memory_mb),
        )

    def __str__(self) -> str:
        # Outside of steps no scans are counted.
        pace = (
            f"{self.scans_per_second:.1f} scans a second" if self.scans else f"{self.seconds:.1f} s"
        )
        return (
            f"{pace}, {self.reading_share:.1%} of the time in "
            f"reading files, {self.making_share:.1%} in changing scans and making batches, peak "
            f"memory {self.peak_memory_mb:,.0f} MB"
        )


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in megabytes (10^6 bytes).

    Returns
    -------
    float
        Megabytes.
    """
    # Linux counts in kibibytes, macOS in bytes (getrusage(2) of each).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class History:
    """The curve of one stage of training, one row a step, and its cost."""

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {name: [] for name in HISTORY_COLUMNS}
        self.cost = Cost()

    def __len__(self) -> int:
        return len(self._columns["step"])

    def add(self, epoch: int, loss: float, values: Mapping[str, float]) -> None:
        """Add the row of the next step.

        Parameters
        ----------
        epoch : int
            From 1.
        loss : float
            Mean over the step's samples.
        values : mapping
            What else was measured; a name that comes for the first time has no value before.
        """
        row = {"step": float(len(self) + 1), "epoch": float(epoch), "loss": loss}
        for name in values:
            self._columns.setdefault(name, [np.nan] * len(self))
        for name, column in self._columns.items():
            column.append({**values, **row}.get(name, np.nan))

    def amend(self, values: Mapping[str, float]) -> None:
        """Add values to the row of the last step: what was measured after its epoch.

        Parameters
        ----------
        values : mapping
            By name; a name that comes for the first time has no value before.
        """
        for name, value in values.items():
            self._columns.setdefault(name, [np.nan] * len(self))[-1] = value

    def epoch_means(self, epoch: int) -> dict[str, float]:
        """Return the means over an epoch's steps, of every column that has values in it.

        Parameters
        ----------
        epoch : int
            From 1.

        Returns
        -------
        dict
            By name; without ``step`` and ``epoch``.
        """
        table = self.table()
        means = table[table["epoch"] == epoch].drop(columns=["step", "epoch"]).mean()
        return {str(name): float(mean) for name, mean in means.dropna().items()}

    def table(self) -> pd.DataFrame:
        """Return the curve as a table: `HISTORY_COLUMNS`, then what the stage measured.

        Returns
        -------
        DataFrame
            One row a step.
        """
        return pd.DataFrame(self._columns).astype({"step": int, "epoch": int})

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far; the cost is each process's own and stays out.

        Returns
        -------
        dict
            For `load_state_dict`.
        """
        return {
            name: torch.tensor(column, dtype=torch.float64)
            for name, column in self._columns.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the rows that `state_dict` returned.

        Parameters
        ----------
        state : dict of Tensor, each of shape (steps,)
            By column.
        """
        self._columns = {name: column.tolist() for name, column in state.items()}
