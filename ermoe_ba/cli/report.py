"""``ermoe-ba report``: pages made again from what `predict` wrote, or `maps`."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ermoe_ba.cli.predict import INDEX, PAGE
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.kept_results import ReportMaker, find_kept, read_kept, rows_without_result
from ermoe_ba.maps.files import holds_maps
from ermoe_ba.scan_files import PREDICTION, REPORT


def run_report(options: argparse.Namespace) -> int:
    """Make the page of a folder of maps, or the reports and the index of predictions; or both.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0 if all are done, 1 if some could not be made.

    Raises
    ------
    UsageError
        If there is nothing to report, maps lack a file, or the folder cannot be written.
    """
    if not holds_maps(options.results):
        return _scans(options)
    # Maps may stand among the results that they were made of.
    of_scans = next(options.results.rglob(f"*_{PREDICTION}"), None) is not None
    if not of_scans:
        _check_unasked(options)
    from ermoe_ba.report.maps_page import write_maps_page

    with _writing(options.results):
        page = write_maps_page(options.results)
    print(f"Written: {page}")
    return _scans(options) if of_scans else 0


def _check_unasked(options: argparse.Namespace) -> None:
    """Refuse what a call would leave unheeded: maps hold all that their page needs."""
    names = ("model", "atlas", "atlas_labels", "atlas_space")
    given = [f"--{n.replace('_', '-')}" for n in names if getattr(options, n) is not None]
    if given:
        raise UsageError(
            f"{options.results}: maps hold the model's figures and the regions that their page "
            f"needs; found {', '.join(given)}. Leave it out, or make the maps again with it."
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{folder}: must be a folder that can be written; found: {error.strerror}."
        ) from error


def _scans(options: argparse.Namespace) -> int:
    """Make the reports and the index of a cohort; return the exit code."""
    from ermoe_ba.report import IndexRow, write_index

    maker = ReportMaker(options.model, options.atlas, options.atlas_labels, options.atlas_space)
    found, failed = find_kept(options.results), 0
    rows, scans = [], []
    with _writing(options.results):
        for path in tqdm(found, desc="reports", unit="scan"):
            try:
                scan = read_kept(path)
            except ErmoeError as error:
                failed += 1
                tqdm.write(f"failed  {error}", file=sys.stderr)
                continue
            try:
                maker.make(scan)
            except ErmoeError as error:
                failed += 1
                tqdm.write(f"failed  {error}", file=sys.stderr)
            page = scan.path(REPORT)
            place = page.relative_to(options.results).as_posix() if page.is_file() else None
            rows.append(IndexRow.of(scan.result, scan.name, place))
            scans.append(scan)
        others = rows_without_result(options.results, [scan.result for scan in scans])
        rows += [IndexRow.of(row, Path(row["input"]).name, None) for row in others]
        quality = PAGE if (options.results / PAGE).is_file() else None
        title, card = options.results.resolve().name, maker.card_of_all(scans)
        write_index(options.results / INDEX, title, rows, quality, card)
    print(f"{len(found) - failed} of {len(found)} reports made.")
    print(f"Written: {options.results / INDEX}")
    return 1 if failed else 0
