"""What maps and reports cost: processor time a scan, and the maps of a large cohort.

Purpose: whether maps and table add at most 1 s and the report at most 3 s to a scan, and whether
         the maps of 1,000 scans stay below 2 GB, and their page below 15 MB.
Command: python pipelines/maps_cost.py HEADS OUT [--copies 1000] [--cohort-alone]
         HEADS is a folder of T1w heads; each is preprocessed once. The cohort are copies of the
         first two heads' results under many names, their files linked, with ages dealt out evenly;
         `ermoe-ba maps` makes its maps with all defaults.
         With --cohort-alone, HEADS is a folder of results of `predict` instead, of two heads at
         least, and nothing but the cohort is measured.
Needs:   Linux or macOS, and the extra `maps`. OUT is made; a second call keeps its preprocessing.
Time:    of one core, 4 s a head to preprocess and 10 to measure; 90 s for 1,000 copies.
Result:  on the screen and as OUT/maps_cost.tsv. Of each head, the age alone, maps and table
         besides, and the report besides, are made in turn; medians over the heads of the
         differences, in processor seconds of all threads.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from batch_cost import PROGRAM, cost_of

from ermoe_ba.atlas import DEFAULT_ATLAS
from ermoe_ba.derivatives import derivatives_of
from ermoe_ba.io import write_json
from ermoe_ba.maps.files import PAGE
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.naming import name_scans, volumes_in
from ermoe_ba.scan_files import PREDICTION
from ermoe_ba.tables import write_table
from ermoe_ba.workers.outcome import Task
from ermoe_ba.workers.predictor import Predictor, PredictSettings

# What is written of a scan: the age alone, with maps and table, with the report besides.
STAGES = {"age": (False, False), "maps": (True, False), "report": (True, True)}
# Ages of the copies, in years: any will do, as long as they differ.
AGES = (20.0, 80.0)


def settings(*, maps: bool, report: bool) -> PredictSettings:
    """Return what `predict` would be asked for."""
    return PredictSettings(
        model=DEFAULT_MODEL,
        atlas=DEFAULT_ATLAS,
        atlas_labels=None,
        atlas_space=None,
        device="cpu",
        maps=maps,
        report=report,
        scan_space=(),
        participants=None,
        force=False,
        resume=False,
        debug=True,
    )


def cost_by_stage(heads: Path, out: Path) -> pd.DataFrame:
    """Return the processor seconds of each stage (columns) for each head (rows)."""
    made = out / "preprocessed"
    subprocess.run([*PROGRAM, "preprocess", str(heads), "--out", str(made)], check=True)
    scans = name_scans(volumes_in(heads))
    pairs = list(zip(scans, derivatives_of(made, scans), strict=True))
    workers = {name: Predictor(settings(maps=m, report=r)) for name, (m, r) in STAGES.items()}
    rows = []
    # The first scan is done twice: what is made once a process belongs to no scan.
    for scan, place in (pairs[0], *pairs):
        row = {}
        for name, work in workers.items():
            # Where `report` writes, results stay for the cohort.
            before = time.process_time()
            done = work(Task(scan=scan, folder=out / "results", derivative=place))
            row[name] = time.process_time() - before
            if done.row["status"] != "ok":
                sys.exit(f"maps_cost.py: {scan.path} must be predicted; found {done.row}.")
        rows.append(row)
    return pd.DataFrame(rows[1:])


def cost_of_stages(heads: Path, out: Path) -> list[dict[str, Any]]:
    """Return a row of the table for each stage: medians over the heads, in processor seconds."""
    by_stage = cost_by_stage(heads, out)
    steps = by_stage.diff(axis=1)
    steps["age"] = by_stage["age"]
    return [{"what": name, "scans": len(steps), "seconds": s} for name, s in steps.median().items()]


def link_results(results: Path, out: Path, count: int) -> None:
    """Link the first two scans' results under many names; each has its own name and age."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    first = sorted(results.glob(f"*_{PREDICTION}"))[:2]
    for number, age in enumerate(np.linspace(*AGES, count).tolist()):
        source = first[number % len(first)]
        stem, name = source.name.removesuffix(PREDICTION), f"sub-{number:06d}"
        for file in sorted(results.glob(f"{stem}*")):
            if file != source:
                link = out / f"{name}_{file.name.removeprefix(stem)}"
                link.symlink_to(file.absolute())
        content = json.loads(source.read_text(encoding="utf-8"))
        own = {"participant_id": f"{number:06d}", "chronological_age": age}
        write_json(out / f"{name}_{PREDICTION}", {**content, **own})


def main() -> int:
    """Measure; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", type=Path, help="folder of T1w heads or results, at least two")
    parser.add_argument("out", type=Path, help="folder for everything")
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--cohort-alone", action="store_true", help="of results of predict")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, results = [], options.heads
    if not options.cohort_alone:
        rows, results = cost_of_stages(options.heads, options.out), options.out / "results"
        print(pd.DataFrame(rows).to_string(index=False, float_format="%.2f"), flush=True)
    cohort = options.out / "cohort"
    link_results(results, cohort, options.copies)
    cost = cost_of(
        [*PROGRAM, "maps", str(cohort), "--out", str(options.out / "maps"), "--overwrite"]
    )
    rows.append(
        {
            "what": "cohort",
            "scans": options.copies,
            "seconds": cost.processor_seconds,
            "peak_mb": cost.peak_mb,
            "page_mb": (options.out / "maps" / PAGE).stat().st_size / 1e6,
        }
    )
    print(
        f"{options.copies} copies: {cost.processor_seconds:.1f} s, {cost.peak_mb:.0f} MB; their "
        f"page {rows[-1]['page_mb']:.1f} MB"
    )
    write_table(options.out / "maps_cost.tsv", pd.DataFrame(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
