"""Work on many scans, in this process or in several, of which none can stop the others."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# Processes share the cores among them; threads of their own would only get in each other's way.
# Read by OpenMP and OpenBLAS when they load, so it must stand before a process starts.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run_batch(
    start: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    jobs: int,
    lost: Callable[[Task], Result],
) -> Iterator[tuple[int, Result]]:
    """Do all tasks; each worker holds one at a time, so memory grows with `jobs` alone.

    Parameters
    ----------
    start : callable
        Called once in each worker; returns what does a task. Must be picklable where `jobs` > 1.
    tasks : sequence
        Picklable where `jobs` > 1.
    jobs : int
        Worker processes; 1 works in this process. Each has one thread.
    lost : callable
        Makes the result of a task whose process was killed or crashed; a fresh process goes on.

    Yields
    ------
    tuple
        Number of the task and its result, as they are finished.

    Raises
    ------
    Exception
        Whatever a task raises; the tasks that are running are finished first.
    """
    if jobs == 1 or len(tasks) < 2:
        work = start()
        for number, task in enumerate(tasks):
            yield number, work(task)
        return
    os.environ.update(ONE_THREAD)
    waiting = iter(enumerate(tasks))
    # One pool a worker: where its process dies, it is plain which task was the cause.
    idle = [_pool(start) for _ in range(min(jobs, len(tasks)))]
    running: dict[Future[Any], tuple[ProcessPoolExecutor, int]] = {}
    try:
        while True:
            while idle and (entry := next(waiting, None)):
                with _interrupts_held():
                    pool = idle.pop()
                    running[pool.submit(_do, entry[1])] = (pool, entry[0])
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                pool, number = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    pool.shutdown()
                    pool, result = _pool(start), lost(tasks[number])
                idle.append(pool)
                yield number, result
    finally:
        for pool in [*idle, *(pool for pool, _ in running.values())]:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep interrupts back until the end of the block, and from processes that begin in it."""
    if not hasattr(signal, "pthread_sigmask"):
        # A system without it (Windows) has no terminal that interrupts all processes in this way.
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pool(start: Callable[[], Any]) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork inherits locks of torch's and ITK's threads, which never open.
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(start,))


# What this worker process does with a task; set once, when the process begins.
_work: list[Callable[[Any], Any]] = []


def _begin(start: Callable[[], Callable[[Any], Any]]) -> None:
    # The interrupt of a terminal reaches all its processes; what to do is the parent's to decide.
    # Until here, where libraries have taken seconds to load, this process held it back.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _work.append(start())


def _do(task: Any) -> Any:
    return _work[0](task)


def _end_with_parent() -> None:
    """Leave at once when the parent is gone: nobody would ever send the next task."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
