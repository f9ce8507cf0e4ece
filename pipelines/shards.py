"""Shards of a cohort: cut its table of scans into small ones, and join their results again.

Purpose: what pipelines/Snakefile and pipelines/sbatch_predict.sh share. Tables are passed through
         row by row, once: 100,000 scans need no more memory than ten, and time in proportion.
Command: python pipelines/shards.py cut SCANS.tsv --size 50 --out FOLDER
         python pipelines/shards.py join FOLDER --count 40 --out predictions.tsv
Result:  FOLDER/00000/scans.tsv, 00001, ... with paths that hold anywhere, and their number; the
         predictions of all of them in one table (beside it, of a large one, as Parquet), and how
         many scans failed.
"""

import argparse
import csv
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import PATH_COLUMN
from ermoe_ba.io import write_whole
from ermoe_ba.parquet import write_parquet_beside
from ermoe_ba.tables import PREDICTION_COLUMNS, PREDICTIONS


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


def cut(table: Path, size: int, folder: Path) -> int:
    """Write all shards of a table of scans, their paths absolute.

    Parameters
    ----------
    table : Path
        Tab-separated, with a column ``path`` relative to the table's folder.
    size : int
        Scans in a shard; the last one may hold fewer.
    folder : Path
        Gets ``00000/scans.tsv`` and so on.

    Returns
    -------
    int
        How many shards there are.

    Raises
    ------
    UsageError
        As `count`.
    """
    shards = count(table, size)
    rows = _rows(table)
    header = next(rows)
    column = header.index(PATH_COLUMN)
    for number in range(shards):
        shard = list(itertools.islice(rows, size))
        for row in shard:
            row[column] = str((table.parent / row[column]).absolute())
        content = [header, *shard]
        write_whole(folder / f"{number:05d}" / "scans.tsv", functools.partial(_write, rows=content))
    return shards


def join(folder: Path, shards: int, out: Path) -> tuple[int, int]:
    """Write the predictions of all shards as one table, row by row as they stand.

    Parameters
    ----------
    folder : Path
        Holds ``00000/predictions.tsv`` and so on.
    shards : int
        How many there are.
    out : Path
        Where to write the table; a large one as Parquet beside it too.

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
            table = folder / f"{number:05d}" / PREDICTIONS
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

    write_whole(out, functools.partial(_write, rows=rows()))
    write_parquet_beside(out, done)
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
    """Run one of the two; return 0, or 2 where the call or a table is at fault."""
    parser = argparse.ArgumentParser(description="Cut a table of scans into shards; join results.")
    commands = parser.add_subparsers(dest="command", required=True)
    cutting = commands.add_parser("cut", help="write all shards; print how many there are")
    joining = commands.add_parser("join", help="write the predictions of all shards as one table")
    cutting.add_argument("table", type=Path, metavar="SCANS.tsv")
    cutting.add_argument("--size", type=int, required=True, help="scans in a shard")
    cutting.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the shards")
    joining.add_argument("folder", type=Path, help="of the shards")
    joining.add_argument("--count", type=int, required=True, help="number of shards")
    joining.add_argument("--out", type=Path, required=True, metavar="TSV")
    options = parser.parse_args(arguments)
    try:
        if options.command == "cut":
            print(cut(options.table, options.size, options.out))
        else:
            done, failed = join(options.folder, options.count, options.out)
            print(f"{done} scans of {options.count} shards, {failed} failed: {options.out}")
    except (UsageError, OSError) as error:
        print(f"shards.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
