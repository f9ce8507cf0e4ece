"""What a run has cost so far: counted as it goes, told stage by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from ermoe_ba.training.history import Cost, peak_memory_mb
from ermoe_ba.training.processes import Processes


class Expenses:
    """A sum of costs, each of them told when it is known."""

    def __init__(self) -> None:
        self.total = Cost()

    def tell(self, cost: Cost, what: str) -> None:
        """Add a cost, and tell it: of processes that train together, the first does.

        Parameters
        ----------
        cost : Cost
            Of a stage.
        what : str
            Names the stage.
        """
        self.total += cost
        if Processes().is_main:
            tqdm.write(f"{what}: {cost}")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count the time of what is done within, in which files are read.

        Yields
        ------
        None
        """
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.total += Cost(
            seconds=seconds, reading_seconds=seconds, peak_memory_mb=peak_memory_mb()
        )

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """Count and tell the time of what is done within, in which inputs of stages are made.

        Parameters
        ----------
        what : str
            Names what is made.

        Yields
        ------
        None
        """
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.tell(
            Cost(seconds=seconds, making_seconds=seconds, peak_memory_mb=peak_memory_mb()), what
        )
