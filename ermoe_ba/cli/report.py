"""``ermoe-ba report``: the reports of a cohort, made again from what `predict` wrote."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ermoe_ba.cli.predict import INDEX, PAGE
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.kept_results import ReportMaker, find_kept, read_kept, rows_without_result
from ermoe_ba.scan_files import REPORT


def run_report(options: argparse.Namespace) -> int:
    """Make the reports and the index.

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
        If there is nothing to report, or the folder cannot be written.
    """
    from ermoe_ba.report import IndexRow, write_index

    maker = ReportMaker(options.model, options.atlas, options.atlas_labels, options.atlas_space)
    found, failed = find_kept(options.results), 0
    rows, results = [], []
    try:
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
            results.append(scan.result)
        others = rows_without_result(options.results, results)
        rows += [IndexRow.of(row, Path(row["input"]).name, None) for row in others]
        quality = PAGE if (options.results / PAGE).is_file() else None
        write_index(options.results / INDEX, options.results.resolve().name, rows, quality)
    except OSError as error:
        raise UsageError(
            f"{options.results}: must be a folder that can be written; found: {error.strerror}."
        ) from error
    print(f"{len(found) - failed} of {len(found)} reports made.")
    print(f"Written: {options.results / INDEX}")
    return 1 if failed else 0
