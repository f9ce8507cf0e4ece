"""Batches: in order or side by side, each task once, and a killed process costs its task alone.

Worker processes import what they run, so what they run is a script here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from ermoe_ba.batch import run_batch

SCRIPT = """
import json, os, signal, sys
from ermoe_ba.batch import run_batch

class Work:
    def __init__(self):
        self.done = 0
        self.threads = os.environ.get("OMP_NUM_THREADS")
    def __call__(self, task):
        self.done += 1
        if task == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return [task * task, os.getpid(), self.done, self.threads]

def lost(task):
    return ["lost", task]

if __name__ == "__main__":
    for number, result in run_batch(Work, range(9), int(sys.argv[1]), lost):
        print(json.dumps([number, result]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "batch.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def _run(script: Path, *, jobs: int, kill: int = -1) -> list[list]:
    call = [sys.executable, script, str(jobs), str(kill)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_worker_is_this_process_and_keeps_the_order() -> None:
    begun: list[int] = []

    def start():
        begun.append(os.getpid())
        return lambda task: task + 1

    results = list(run_batch(start, [4, 5, 6], 1, lambda task: -1))
    assert results == [(0, 5), (1, 6), (2, 7)]
    assert begun == [os.getpid()]


def test_a_single_task_needs_no_process_of_its_own() -> None:
    assert list(run_batch(lambda: os.getpid().__add__, [0], 4, lambda task: -1)) == [
        (0, os.getpid())
    ]


def test_several_workers_do_each_task_once_and_begin_once(script: Path) -> None:
    results = _run(script, jobs=3)
    assert sorted((n, r[0]) for n, r in results) == [(n, n * n) for n in range(9)]
    by_process: dict[int, list[int]] = {}
    for _, (_, process, done, threads) in results:
        by_process.setdefault(process, []).append(done)
        assert threads == "1"
    assert len(by_process) <= 3
    # Each counts its own tasks from one: had it begun again, it would count from one again.
    for counts in by_process.values():
        assert sorted(counts) == list(range(1, len(counts) + 1))


def test_a_killed_process_costs_its_task_alone(script: Path) -> None:
    results = dict(_run(script, jobs=2, kill=4))
    assert results.pop(4) == ["lost", 4]
    assert {n: r[0] for n, r in results.items()} == {n: n * n for n in range(9) if n != 4}


MEETING = """
import sys
from ermoe_ba.batch import run_batch

def work(task):
    # Each waits for the other at the pipe: when task 3 raises, its process has long begun.
    if task == 3:
        open(sys.argv[1], "w").close()
        raise ValueError("task 3")
    if task == 4:
        open(sys.argv[1]).close()

def start():
    return work

if __name__ == "__main__":
    done = 0
    try:
        for _ in run_batch(start, range(2000), 2, str):
            done += 1
    except ValueError as error:
        print(done, error)
"""


def test_what_a_task_raises_ends_the_batch(tmp_path: Path) -> None:
    script, pipe = tmp_path / "meeting.py", tmp_path / "pipe"
    script.write_text(MEETING, encoding="utf-8")
    os.mkfifo(pipe)
    call = [sys.executable, script, str(pipe)]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    done, message = told.strip().split(" ", 1)
    assert message == "task 3"
    # The other process may go on with a few while the error is on its way, not with all.
    assert 3 <= int(done) < 1999


HELD = """
import signal
from ermoe_ba.batch import run_batch

def held():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

# A process imports this script before it is told to ignore interrupts.
at_import = held()

def work(task):
    return at_import

def start():
    return work

if __name__ == "__main__":
    print(at_import, *(result for _, result in run_batch(start, range(2), 2, str)), held())
"""


def test_an_interrupt_cannot_hit_a_process_while_it_loads(tmp_path: Path) -> None:
    """Each would end in the traceback of whatever it was importing."""
    script = tmp_path / "held.py"
    script.write_text(HELD, encoding="utf-8")
    call = [sys.executable, script]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True", "True", "False"]


ORPHANS = """
import os, signal, sys
from ermoe_ba.batch import run_batch

def work(task):
    # Open until the process ends, whatever ends it.
    held = os.open(sys.argv[1], os.O_WRONLY)
    os.write(held, b"+")
    if task == 1:
        os.kill(os.getppid(), signal.SIGKILL)
    while True:
        signal.pause()

def start():
    return work

if __name__ == "__main__":
    list(run_batch(start, range(2), 2, str))
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """The pipe ends, for its reader, when the last process that holds it is gone."""
    script, pipe = tmp_path / "orphans.py", tmp_path / "pipe"
    script.write_text(ORPHANS, encoding="utf-8")
    os.mkfifo(pipe)
    read: list[bytes] = []

    def listen() -> None:
        with pipe.open("rb") as file:
            read.append(file.read())

    listener = Thread(target=listen, daemon=True)
    listener.start()
    parent = subprocess.Popen([sys.executable, script, pipe])
    parent.wait()
    listener.join(timeout=60)
    assert not listener.is_alive(), "a worker has outlived its parent"
    assert set(read[0]) == set(b"+")
