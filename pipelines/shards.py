"""Shards of a cohort: cut its table of scans into small ones, and join their results again.

Purpose: what pipelines/Snakefile and pipelines/sbatch_predict.sh share. Tables are passed through
         row by row, so that 100,000 scans need no more memory than ten.
Command: python pipelines/shards.py count SCANS.tsv --size 50
         python pipelines/shards.py cut SCANS.tsv --size 50 --number 3 --out shard.tsv
         python pipelines/shards.py join FOLDER --count 40 --out predictions.tsv
Result:  the number of shards; shard 3 (from 0), with paths that hold anywhere; the predictions of
         FOLDER/00000, 00001, ... in one table, and how many scans failed.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import PATH_COLUMN
from ermoe_ba.io import write_whole
from ermoe_ba.tables import PREDICTION_COLUMNS


def count(table: Path, size: int) -> int:
    """Return into how many shards of at most `size` scans a table of scans is cut.

    Raises
    ------
    UsageError
        If the table has no scans or no column ``path``, or `size` is less than 1.
    """
    if size < 1:
        raise UsageError(f"A shard must hold at least 1 scan; found {size}.")
    scans = sum(1 for _ in _rows(table)) - 1
    if scans < 1:
        raise UsageError(f"{table}: must hold scans below its header; found none.")
    return -(-scans // size)


def cut(table: Path, size: int, number: int, out: Path) -> None:
    """Write one shard of a table of scans, its paths absolute.

    Parameters
    ----------
    table : Path
        Tab-separated, with a column ``path`` relative to the table's folder.
    size : int
        Scans in a shard; the last one may hold fewer.
    number : int
        Which shard, from 0.
    out : Path
        Where to write it.

    Raises
    ------
    UsageError
        If there is no such shard, or as in `count`.
    """
    shards = count(table, size)
    if not 0 <= number < shards:
        raise UsageError(f"{table}: a shard must be one of 0 to {shards - 1}; found {number}.")
    rows = _rows(table)
    header = next(rows)
    column = header.index(PATH_COLUMN)
    shard = list(itertools.islice(rows, number * size, (number + 1) * size))
    for row in shard:
        row[column] = str((table.parent / row[column]).absolute())
    write_whole(out, lambda partial: _write(partial, [header, *shard]))


def join(folder: Path, shards: int, out: Path) -> tuple[int, int]:
    """Write the predictions of all shards as one table, row by row as they stand.

    Parameters
    ----------
    folder : Path
        Holds ``00000/predictions.tsv`` and so on.
    shards : int
        How many there are.
    out : Path
        Where to write the table.

    Returns
    -------
    tuple of int
        Rows, and how many of them tell of a scan that failed.

    Raises
    ------
    UsageError
        If a shard's table is missing columns of this version, or has others.
    """
    columns = list(PREDICTION_COLUMNS)
    status = columns.index("status")
    done = failed = 0

    def rows() -> Iterator[list[str]]:
        nonlocal done, failed
        yield columns
        for number in range(shards):
            table = folder / f"{number:05d}" / "predictions.tsv"
            shard = _read(table)
            found = next(shard, [])
            if found != columns:
                raise UsageError(
                    f"{table}: must have the columns of a table of predictions of this version; "
                    f"found {', '.join(found) or 'none'}."
                )
            for row in shard:
                yield row
                done += 1
                failed += row[status] != "ok"

    write_whole(out, lambda partial: _write(partial, rows()))
    return done, failed


def _write(path: Path, rows: Iterable[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)


def _read(table: Path) -> Iterator[list[str]]:
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.reader(file, delimiter="\t")


def _rows(table: Path) -> Iterator[list[str]]:
    """Yield the header, then the scans; blank lines are none."""
    rows = filter(None, _read(table))
    header = next(rows, [])
    if PATH_COLUMN not in header:
        raise UsageError(f"{table}: must have a column {PATH_COLUMN}; found {header}.")
    yield header
    yield from rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the three; return 0, or 2 where the call or a table is at fault."""
    parser = argparse.ArgumentParser(description="Cut a table of scans into shards; join results.")
    commands = parser.add_subparsers(dest="command", required=True)
    counting = commands.add_parser("count", help="print the number of shards")
    cutting = commands.add_parser("cut", help="write one shard")
    joining = commands.add_parser("join", help="write the predictions of all shards as one table")
    for command in (counting, cutting):
        command.add_argument("table", type=Path, metavar="SCANS.tsv")
        command.add_argument("--size", type=int, required=True, help="scans in a shard")
    cutting.add_argument("--number", type=int, required=True, help="which shard, from 0")
    joining.add_argument("folder", type=Path, help="of the shards")
    joining.add_argument("--count", type=int, required=True, help="number of shards")
    for command in (cutting, joining):
        command.add_argument("--out", type=Path, required=True, metavar="TSV")
    options = parser.parse_args(arguments)
    try:
        if options.command == "count":
            print(count(options.table, options.size))
        elif options.command == "cut":
            cut(options.table, options.size, options.number, options.out)
        else:
            done, failed = join(options.folder, options.count, options.out)
            print(f"{done} scans of {options.count} shards, {failed} failed: {options.out}")
    except (UsageError, OSError) as error:
        print(f"shards.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
