"""What all workers share: one scan after the other, timed, and a scan's faults stay its own."""

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from multiprocessing import parent_process
from typing import Any

import torch

from ermoe_ba.errors import ErmoeError, RefusedScanError
from ermoe_ba.workers.outcome import Outcome, Task, failure, known_of

Announce = Callable[[str], None]


class Clock:
    """Seconds by stage, of which each ends when the next is announced.

    Parameters
    ----------
    announce : callable or None
        Told the name of each stage before it starts.
    """

    def __init__(self, announce: Announce | None) -> None:
        self.began = self._last = time.perf_counter()
        self.stages: dict[str, float] = {}
        self._stage, self._announce = "Check", announce

    def __call__(self, stage: str) -> None:
        """End the stage that is running and begin another; an empty name begins none."""
        now = time.perf_counter()
        self.stages[self._stage] = self.stages.get(self._stage, 0.0) + now - self._last
        self._stage, self._last = stage, now
        if self._announce:
            self._announce(stage)

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return round(time.perf_counter() - self.began, 2)


class Worker(ABC):
    """Does one scan after the other; the first of its kind in a process loads what they share.

    Parameters
    ----------
    debug : bool
        Show tracebacks.
    """

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug
        # Where this is one of several processes, they share the cores among them.
        if parent_process() is not None:
            torch.set_num_threads(1)

    def __call__(self, task: Task, announce: Announce | None = None) -> Outcome:
        """Do a scan and write its files; whatever is wrong with it stays its own.

        Raises
        ------
        OSError
            If results cannot be written.
        """
        clock = Clock(announce)
        row = self._begun(task)
        try:
            return self.work(task, row, clock)
        except RefusedScanError as error:
            return failure(row, str(error), clock.seconds, status="refused")
        except ErmoeError as error:
            # A scan's fault, or an extra that its format needs and that is not installed.
            message = str(error)
        except OSError:
            # The disk is full or gone: the next scan would fare no better.
            raise
        except Exception as error:  # noqa: BLE001
            # A bug or a library's failure on one scan must not cost the others.
            message = (
                f"{task.scan.path}: unexpected {type(error).__name__}: {error}. Run with --debug."
            )
            if self._debug:
                traceback.print_exc()
        return failure(row, message, clock.seconds)

    def lost(self, task: Task) -> Outcome:
        """Return the outcome of a scan whose worker process was killed or crashed.

        Parameters
        ----------
        task : Task
            What that process was at work on.

        Returns
        -------
        Outcome
            Failed, with the likely reason, and what every row holds from the start.
        """
        return failure(
            self._begun(task),
            f"{task.scan.path}: its process must live to the end; found that it was killed or "
            "crashed. Most often memory ran out: give fewer --jobs.",
        )

    def _begun(self, task: Task) -> dict[str, Any]:
        """Return the row of a scan before any work."""
        return {**self.known(task), **self.traced()}

    def known(self, task: Task) -> dict[str, Any]:
        """Return what a row holds of its scan before any work, so that it does if the work fails.

        Parameters
        ----------
        task : Task
            The scan.

        Returns
        -------
        dict
            By columns of ``predictions.tsv``.
        """
        return known_of(task.scan)

    @abstractmethod
    def traced(self) -> dict[str, Any]:
        """Return what every row holds of this worker: the identities it works by.

        Returns
        -------
        dict
            By columns of ``predictions.tsv``.
        """

    @abstractmethod
    def work(self, task: Task, row: dict[str, Any], clock: Clock) -> Outcome:
        """Do a scan.

        Parameters
        ----------
        task : Task
            What to do.
        row : dict
            What is known of its row before the work.
        clock : Clock
            Told each stage before it starts.

        Returns
        -------
        Outcome
            Its row begins with what was known.

        Raises
        ------
        ScanError
            If the scan cannot be used.
        OSError
            If results cannot be written.
        """
