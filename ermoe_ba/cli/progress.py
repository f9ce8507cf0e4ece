"""A batch on the screen: a bar with rate and time left, failures as they come, time by stage."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tqdm import tqdm

from ermoe_ba.batch import run_batch
from ermoe_ba.workers import (
    DerivativeMaker,
    Outcome,
    Predictor,
    PredictSettings,
    PreprocessSettings,
    Task,
)


def run_tasks(
    settings: PredictSettings | PreprocessSettings,
    worker: Predictor | DerivativeMaker,
    tasks: Sequence[Task],
    jobs: int,
    finished: Callable[[dict[int, Outcome], int], None],
) -> list[Outcome]:
    """Do all tasks with a progress bar.

    Parameters
    ----------
    settings : PredictSettings or PreprocessSettings
        What worker processes start from.
    worker : Predictor or DerivativeMaker
        Does the work where it is done in this process, and knows what is known of a scan whose
        process was killed.
    tasks : sequence of Task
        What to do.
    jobs : int
        Processes.
    finished : callable
        Told all outcomes so far by the number of their task, and the number of the newest.

    Returns
    -------
    list of Outcome
        In the order of the tasks.
    """
    begin = time.perf_counter()
    outcomes: dict[int, Outcome] = {}
    with tqdm(total=len(tasks), desc="scans", unit="scan") as bar:
        alone = jobs == 1 or len(tasks) < 2
        here = partial(worker, announce=bar.set_postfix_str)
        start = (lambda: here) if alone else settings.start
        for number, outcome in run_batch(start, tasks, jobs, worker.lost):
            outcomes[number] = outcome
            row = outcome.row
            if row["status"] != "ok":
                tqdm.write(f"{row['status']:7} {row['message']}", file=sys.stderr)
            elif row.get("qc_flags"):
                tqdm.write(f"flagged {row['input']}: {row['qc_flags']}", file=sys.stderr)
            bar.update()
            finished(outcomes, number)
            # Told, they are not needed any more: of a large batch, pictures and paths would fill
            # the memory. Of one scan alone, the paths are told at the end.
            written = outcome.written if len(tasks) == 1 else ()
            outcomes[number] = replace(outcome, thumbnail=b"", written=written)
    results = [outcomes[n] for n in sorted(outcomes)]
    _tell_time(results, time.perf_counter() - begin)
    return results


def _tell_time(outcomes: Sequence[Outcome], seconds: float) -> None:
    done = [outcome for outcome in outcomes if outcome.stages]
    kept = sum(outcome.kept for outcome in outcomes)
    if kept:
        print(f"{kept} of {len(outcomes)} scans had been finished before and were kept.")
    if len(done) > 1:
        stages = {stage: 0.0 for outcome in done for stage in outcome.stages}
        for outcome in done:
            for stage, spent in outcome.stages.items():
                stages[stage] += spent / len(done)
        listed = ", ".join(f"{stage} {spent:.1f}" for stage, spent in stages.items())
        print(f"{seconds / len(done):.1f} s a scan; mean seconds by stage: {listed}.")
