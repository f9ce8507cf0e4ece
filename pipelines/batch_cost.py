"""What a batch costs as it grows: processor time, memory and disk of runs of several sizes.

Purpose: whether many scans cost as many times what one costs, and no more memory.
Command: python pipelines/batch_cost.py HEADS OUT --sizes 250 500 1000 2000 [-- OPTIONS OF predict]
         HEADS is a folder of T1w heads; each is preprocessed once and linked under as many names as
         the largest size asks for. Options of `predict`, for instance --no-maps --no-report.
Needs:   Linux or macOS. OUT is made; a second call keeps its preprocessing.
Time:    two seconds of one core a linked scan without maps, with the shipped model; sizes add up.
Result:  a table on the screen and as OUT/batch_cost.tsv. A run's processor seconds hold its start,
         its table and its page; what a further scan costs is the difference to the size before.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ermoe_ba.derivatives import derivatives_of
from ermoe_ba.naming import name_scans, volumes_in
from ermoe_ba.tables import write_table

PROGRAM = [sys.executable, "-m", "ermoe_ba.cli.main"]
# What getrusage counts memory in: KiB on Linux, bytes on macOS.
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Cost:
    """What a process and its children used."""

    seconds: float
    processor_seconds: float
    peak_mb: float


def cost_of(command: Sequence[str | Path], *, quiet: bool = False) -> Cost:
    """Run a command to its end; return its seconds by the clock, user and system, and peak MB.

    `quiet` keeps its progress and remarks off the screen as well.
    """
    start, errors = time.perf_counter(), subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process:
        # wait4 gives the memory of this very child; RUSAGE_CHILDREN that of the largest so far.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} must end well; found {process.returncode}.")
    seconds, peak_mb = time.perf_counter() - start, usage.ru_maxrss * MAXRSS_BYTES / 1e6
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak_mb)


def link_heads(heads: Path, out: Path, count: int) -> tuple[Path, Path]:
    """Preprocess heads once and link them, and what was made of them, under `count` names.

    Parameters
    ----------
    heads : Path
        Folder of T1w images.
    out : Path
        Where everything goes.
    count : int
        How many scans shall seem to be there.

    Returns
    -------
    tuple of Path
        Folder of the linked heads, and of their linked derivatives.
    """
    made = out / "preprocessed"
    subprocess.run([*PROGRAM, "preprocess", str(heads), "--out", str(made)], check=True)
    scans = name_scans(volumes_in(heads))
    places = derivatives_of(made, scans)
    linked, derivatives = out / "heads", out / "derivatives"
    for folder in (linked, derivatives):
        shutil.rmtree(folder, ignore_errors=True)
    linked.mkdir(parents=True)
    names = [linked / f"sub-{number:06d}_T1w.nii.gz" for number in range(count)]
    for number, name in enumerate(names):
        name.symlink_to(scans[number % len(scans)].path.absolute())
    for number, place in enumerate(derivatives_of(derivatives, name_scans(names))):
        place.folder.mkdir(parents=True)
        source = places[number % len(places)]
        for link, file in zip(place.files, source.files, strict=True):
            link.symlink_to(file.absolute())
    return linked, derivatives


def scan_table(path: Path, heads: Path, count: int) -> None:
    """Write a table of the first linked heads."""
    paths = [str(head.absolute()) for head in volumes_in(heads)[:count]]
    write_table(path, pd.DataFrame({"path": paths}))


def disk_mb(folder: Path) -> float:
    """Return what the files in a folder and below take, in megabytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0."""
    parser = argparse.ArgumentParser(description="Measure what a batch costs as it grows.")
    parser.add_argument("heads", type=Path, help="folder of T1w heads")
    parser.add_argument("out", type=Path, help="folder for everything")
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 500, 1000, 2000])
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows belongs to `predict`, whose options argparse would take for its own.
    end = words.index("--") if "--" in words else len(words)
    given, options = parser.parse_args(words[:end]), words[end + 1 :]
    heads, derivatives = link_heads(given.heads, given.out, max(given.sizes))
    rows, before = [], (0, 0.0)
    for size in sorted(given.sizes):
        table, results = given.out / "scans.tsv", given.out / "results"
        scan_table(table, heads, size)
        shutil.rmtree(results, ignore_errors=True)
        command = [*PROGRAM, "predict", str(table), "--out", str(results)]
        cost = cost_of([*command, "--preprocessed", str(derivatives), *options])
        rows.append(
            {
                "scans": size,
                "processor_seconds": round(cost.processor_seconds, 1),
                "seconds_a_further_scan": round(
                    (cost.processor_seconds - before[1]) / (size - before[0]), 3
                ),
                "peak_mb": round(cost.peak_mb),
                "disk_mb_a_scan": round(disk_mb(results) / size, 3),
            }
        )
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        before = size, cost.processor_seconds
    write_table(given.out / "batch_cost.tsv", pd.DataFrame(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
