"""``ermoe-ba predict``: a batch of scans, each on its own."""

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread

import torch

from ermoe_ba.atlas import DEFAULT_ATLAS
from ermoe_ba.cli.progress import run_tasks
from ermoe_ba.cli.scans import meant_scans, tell_missing, tell_one_age
from ermoe_ba.cli.summary import exit_code, summarise
from ermoe_ba.cohort import read_participants
from ermoe_ba.derivatives import derivatives_of
from ermoe_ba.errors import UsageError
from ermoe_ba.io import remove_file
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.parquet import PARQUET_SUFFIX, write_parquet_beside
from ermoe_ba.partial import prefix_of
from ermoe_ba.scan_files import other_scans, remove_scan, require_no_loss
from ermoe_ba.tables import PREDICTIONS, predictions_table, write_table
from ermoe_ba.workers import Outcome, PredictSettings, Task

PAGE = "qc.html"
# What `ermoe-ba report` makes beside them.
INDEX = "index.html"
# What a large batch has beside its table.
PARQUET = f"{Path(PREDICTIONS).stem}{PARQUET_SUFFIX}"
# While a batch runs, its table is written anew when it has grown by this share: each row some
# hundred times, not once for every later one. What a stop loses of it, --resume finds on disk.
TABLE_GROWTH = 0.01


def run_predict(options: argparse.Namespace) -> int:
    """Predict all inputs.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0 if all are done, 1 if at least one scan failed.

    Raises
    ------
    UsageError
        If the call itself is wrong: before anything is computed.
    """
    table_path, page_path = options.out / PREDICTIONS, options.out / PAGE
    own = options.overwrite or options.resume
    if table_path.exists() and not own:
        raise _taken(options.out)
    load_ahead(options.jobs)
    scans = meant_scans(options)
    require_no_loss(options.out, scans, (PAGE, INDEX, PARQUET), replace=own)
    settings = predict_settings(options, resume=options.resume)
    tell_missing(scans, settings.participants)
    tell_one_age(scans, settings.participants)
    worker = settings.start()
    # An empty table first: a folder that cannot be written is found before the work, not after.
    # Of a run that is gone on with, the rows come back from what each scan has on disk.
    try:
        if own:
            # An index would tell of the ages that were.
            remove_file(options.out / INDEX)
            remove_file(page_path)
            remove_file(options.out / PARQUET)
            remove_file(table_path)
            write_rows(table_path, [])
        else:
            _take(options.out)
        _settle_others(options, other_scans(options.out, {scan.name for scan in scans}))
    except OSError as error:
        raise cannot_write(options.out, error) from error
    places = derivatives_of(options.preprocessed, scans) if options.preprocessed else None
    tasks = [
        Task(scan=scan, folder=options.out, derivative=places[number] if places else None)
        for number, scan in enumerate(scans)
    ]

    from ermoe_ba.report import QualityPage

    written = 0

    with QualityPage("Brain ages") as page:

        def finished(done: dict[int, Outcome], newest: int) -> None:
            nonlocal written
            page.add(newest, done[newest].row, done[newest].thumbnail)
            if len(done) >= (1 + TABLE_GROWTH) * written:
                write_rows(table_path, [done[number] for number in sorted(done)])
                written = len(done)

        outcomes = run_tasks(settings, worker, tasks, options.jobs, finished)
        page.write(page_path)
    write_rows(table_path, outcomes)
    parquet = write_parquet_beside(table_path, len(outcomes))
    files = [table_path, *([parquet] if parquet else []), page_path]
    summarise(outcomes, worker.ensemble.card.coverage, files)
    return exit_code(outcomes)


def _take(folder: Path) -> None:
    """Make a folder this run's: of several that began at once, as jobs of an array do, one has it.

    The rows of all others would be lost, since each run writes the whole table.
    """
    table = folder / PREDICTIONS
    # Whole under a name of its own first; a link, other than a renamed file, replaces nothing.
    own = folder / f"{prefix_of(table)}claim"
    write_rows(own, [])
    try:
        table.hardlink_to(own)
    except FileExistsError as error:
        raise _taken(folder) from error
    except OSError:
        # A file system without links (exFAT) has nothing that could tell.
        write_rows(table, [])
    finally:
        remove_file(own)


def _taken(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} already holds {PREDICTIONS}; give --resume to go on with that run, --overwrite, "
        "or another --out."
    )


def _settle_others(options: argparse.Namespace, names: list[str]) -> None:
    """Remove or tell what the folder holds of scans that this call does not mean.

    Maps and reports are made of all results in a folder, whatever its table says.
    """
    if options.overwrite and not options.resume:
        for name in names:
            remove_scan(options.out, name)
    elif names:
        print(
            f"note    {options.out} also holds {len(names)} scans that are not given now "
            f"({names[0]}{', ...' if len(names) > 1 else ''}): `maps` and `report` count them too; "
            "--overwrite removes them.",
            file=sys.stderr,
        )


def predict_settings(options: argparse.Namespace, *, resume: bool) -> PredictSettings:
    """Return what the options say of a prediction.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.
    resume : bool
        Whether to keep what an earlier run finished.

    Returns
    -------
    PredictSettings
        For every process of the batch.

    Raises
    ------
    UsageError
        If the participants table or the device cannot be used, or options contradict each other.
    """
    if options.no_maps and options.scan_space:
        raise UsageError(
            "--scan-space brings maps to the scan, and --no-maps makes none: give one."
        )
    return PredictSettings(
        model=options.model or DEFAULT_MODEL,
        atlas=options.atlas or DEFAULT_ATLAS,
        atlas_labels=options.atlas_labels,
        atlas_space=options.atlas_space,
        device=chosen_device(options.device),
        maps=not options.no_maps,
        report=not (options.no_maps or options.no_report),
        scan_space=tuple(dict.fromkeys(options.scan_space)),
        participants=read_participants(options.participants) if options.participants else None,
        force=options.force,
        resume=resume,
        debug=options.debug,
    )


def load_ahead(jobs: int) -> None:
    """Load what the later steps need while the first ones compute: it saves seconds on one scan.

    Parameters
    ----------
    jobs : int
        Processes, at least 1; where there are several, each loads for itself.
    """

    def load() -> None:
        if jobs == 1:
            for name in ("deepbet", "ants", "ermoe_ba.report"):
                import_module(name)
        # What is loaded stays until the end: the collector need never look at it again.
        gc.freeze()
        gc.enable()

    Thread(target=load, daemon=True).start()


def write_rows(table: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the table of all outcomes so far.

    Parameters
    ----------
    table : Path
        Where to.
    outcomes : sequence of Outcome
        In the order of the rows.
    """
    write_table(table, predictions_table([outcome.row for outcome in outcomes]))


def cannot_write(folder: Path, error: OSError) -> UsageError:
    """Return what the user is told of a folder for results that cannot be used.

    Parameters
    ----------
    folder : Path
        As given with ``--out``.
    error : OSError
        What the system said.

    Returns
    -------
    UsageError
        To be raised.
    """
    return UsageError(
        f"--out {folder}: must be a folder that can be written; found: {error.strerror}. "
        "Choose another folder."
    )


def chosen_device(asked: str) -> str:
    """Return a device that is there, the fastest where the choice is free.

    Parameters
    ----------
    asked : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns
    -------
    str
        One of the last three.

    Raises
    ------
    UsageError
        If the device that is asked for is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if asked == "auto":
        return next(name for name, there in available.items() if there)
    if not available[asked]:
        raise UsageError(f"--device {asked}: this machine or this torch has no such device.")
    return asked
