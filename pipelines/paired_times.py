"""Figures of calls that are timed in pairs, for recipes to print and keep; no recipe itself."""

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

from ermoe_ba.software import commit
from ermoe_ba.training.history import peak_memory_mb

Call = Callable[[], Any]


class PairedTimes:
    """The figures of one run and the machine that gave them, each ratio of so many pairs."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.found: dict[str, Any] = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "commit": commit(),
            "repeats": repeats,
        }

    def ratio(self, name: str, limit: str, over: Call, under: Call, *, times: int = 1) -> None:
        """Time two calls in turn, each `times` at a time; print and keep their median ratio."""
        pairs = []
        for round_number in range(self.repeats + 1):
            seconds = []
            for call in (over, under):
                start = time.process_time()
                for _ in range(times):
                    call()
                seconds.append((time.process_time() - start) / times)
            # The first round warms up.
            if round_number:
                pairs.append(seconds)
        ratios = [a / b for a, b in pairs]
        first, second = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
        self.keep(
            name,
            statistics.median(ratios),
            f"{limit}; {min(ratios):.2f} to {max(ratios):.2f}; {first:.2f} ms, {second:.2f} ms",
        )

    def keep(self, name: str, value: float, remark: str) -> None:
        """Print and keep one figure."""
        print(f"{name}: {value:.3g} ({remark})", flush=True)
        self.found[name] = value


def peak_megabytes(step: Call) -> float:
    """Return by how much a step raises the peak memory of a process that has done nothing else."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def measure() -> None:
        before = peak_memory_mb()
        step()
        answers.put(peak_memory_mb() - before)

    child = context.Process(target=measure)
    child.start()
    raised = float(answers.get())
    child.join()
    return raised
