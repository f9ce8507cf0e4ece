"""``ermoe-ba BIDS_DIR OUT_DIR participant|group``: the calling convention of BIDS Apps.

At the level of participants, each session has its own folder and table, so that a cluster may run
participants and sessions side by side. At the level of the group, their tables become one.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from ermoe_ba.bids import is_dataset
from ermoe_ba.cli.predict import cannot_write, load_ahead, predict_settings, write_rows
from ermoe_ba.cli.progress import run_tasks
from ermoe_ba.cli.scans import meant_scans, tell_missing, tell_one_age
from ermoe_ba.cli.summary import exit_code, summarise
from ermoe_ba.derivative_dataset import describe_dataset
from ermoe_ba.derivatives import Derivative, derivatives_of
from ermoe_ba.errors import UsageError
from ermoe_ba.io import remove_file
from ermoe_ba.parquet import write_parquet_beside
from ermoe_ba.tables import PREDICTIONS, read_predictions, write_table
from ermoe_ba.workers import Outcome, Task


def run_bids_app(options: argparse.Namespace) -> int:
    """Run one level of the app.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0 if all is done, 1 if a scan failed or, at the level of the group, a session
        has no results yet.

    Raises
    ------
    UsageError
        If the call itself is wrong, or there is nothing to group.
    """
    if not is_dataset(options.bids_dir):
        raise UsageError(
            f"{options.bids_dir}: must be a BIDS data set; found no dataset_description.json."
        )
    return _group(options) if options.level == "group" else _participant(options)


def _participant(options: argparse.Namespace) -> int:
    load_ahead(options.jobs)
    scans = meant_scans(options)
    # What is finished stays: a BIDS App is called again and again on one pair of folders.
    settings = predict_settings(options, resume=not options.overwrite)
    tell_missing(scans, settings.participants)
    tell_one_age(scans, settings.participants)
    worker = settings.start()
    describe_dataset(options.out)
    homes = derivatives_of(options.out, scans)
    places = derivatives_of(options.preprocessed, scans) if options.preprocessed else None
    tasks = [
        Task(scan=scan, folder=home.folder, derivative=places[number] if places else None)
        for number, (scan, home) in enumerate(zip(scans, homes, strict=True))
    ]
    tables = [_table(home) for home in homes]
    for table in dict.fromkeys(tables):
        try:
            remove_file(table)
            write_rows(table, [])
        except OSError as error:
            raise cannot_write(options.out, error) from error

    finished_of: dict[Path, list[int]] = {}

    def finished(done: dict[int, Outcome], newest: int) -> None:
        numbers = finished_of.setdefault(tables[newest], [])
        numbers.append(newest)
        write_rows(tables[newest], [done[number] for number in sorted(numbers)])

    outcomes = run_tasks(settings, worker, tasks, options.jobs, finished)
    summarise(outcomes, worker.ensemble.card.coverage, list(dict.fromkeys(tables)))
    return exit_code(outcomes)


def _group(options: argparse.Namespace) -> int:
    tables = list(dict.fromkeys(map(_table, derivatives_of(options.out, meant_scans(options)))))
    there = [table for table in tables if table.is_file()]
    if not there:
        raise UsageError(
            f"{options.out}: the level group needs results of the level participant; found none. "
            "Run participant first."
        )
    rows = pd.concat(map(read_predictions, there))
    try:
        write_table(options.out / PREDICTIONS, rows)
        parquet = write_parquet_beside(options.out / PREDICTIONS, len(rows))
    except OSError as error:
        raise cannot_write(options.out, error) from error
    for table in set(tables) - set(there):
        print(f"note    no results yet: {table}", file=sys.stderr)
    failed = int((rows["status"] != "ok").sum())
    print(f"{len(rows)} scans of {len(there)} sessions, {failed} failed.")
    files = [options.out / PREDICTIONS, *([parquet] if parquet else [])]
    print("\n".join(["Written:", *(f"  {path}" for path in files)]))
    return 0 if not failed and len(there) == len(tables) else 1


def _table(home: Derivative) -> Path:
    """Return the table of the session that a scan belongs to."""
    names = "_".join(p for p in home.session.parts[-2:] if p.startswith(("sub-", "ses-")))
    return home.session / f"{names}_{PREDICTIONS}"
