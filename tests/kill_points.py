"""Kill ``ermoe-ba`` at random file operations, go on, and compare with a run that was left alone.

Command: python tests/kill_points.py predict|preprocess POINTS|jobs SEED FOLDER
Result:  one line; exit code 0 if what was left was valid each time and going on gave equal bytes.

Scans are made up and preprocessing is a stand-in; finding, predicting, writing and going on are
real. A kill is a SIGKILL that the process sends itself at its n-th operation (open, rename, remove,
chmod) on a file of the output, so that nothing depends on the clock.
"""

import hashlib
import json
import os
import random
import re
import signal
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from coarse_model import CARD, COARSE

import ermoe_ba.workers.derivative_maker
import ermoe_ba.workers.predictor
from ermoe_ba.assets import template
from ermoe_ba.checkpoint import save_member, token_grid
from ermoe_ba.cli.main import main
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import save_card
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.space import MODEL_GRID, Volume
from ermoe_ba.t1w import read_t1w

EVENTS = {"open", "os.rename", "os.remove", "os.chmod"}
SCANS = 3


class QuickPreprocessor(Preprocessor):
    """The template for a brain, a bit brighter or darker as the scan is."""

    def __call__(self, path, announce=None):
        factor = 1 + float(read_t1w(path).data.max()) / 1000
        brain = template("desc-brain_mask").data > 0
        head = template("desc-brain_T1w").data / 255 * factor * brain
        return ScanState(
            path=path,
            t1w=Volume(head.astype(np.float32), MODEL_GRID),
            brain_mask=Volume(brain.astype(np.uint8), MODEL_GRID),
            scan_to_template=np.eye(4) * factor,
            figures={"brain_volume_ml": 1500.0 * factor},
        )


# Here, so that worker processes, which import this file, have it too.
ermoe_ba.workers.derivative_maker.Preprocessor = QuickPreprocessor
ermoe_ba.workers.predictor.Preprocessor = QuickPreprocessor
torch.set_num_threads(1)


def lay_out(folder: Path) -> None:
    """Write scans and a small random model."""
    (folder / "scans").mkdir(parents=True)
    for number in range(SCANS):
        voxels = np.random.default_rng(number).integers(0, 100 * (number + 1), (20, 22, 24))
        image = nib.Nifti1Image(voxels.astype(np.int16), np.diag([5.0, 5, 5, 1]))
        image.to_filename(folder / "scans" / f"sub-{number}_T1w.nii.gz")
    torch.manual_seed(1)
    save_member(folder / "model" / "fold-0.safetensors", ErmoeBrainAge(COARSE, token_grid(COARSE)))
    save_card(folder / "model", CARD)


def call(command: str, folder: Path, out: Path, *more: str, kill_at: int = 0) -> int:
    """Run the command in a child and return its exit code.

    `kill_at` 0 lets it live; it then leaves its count of operations in ``<out>.count``.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    count = 0
    prefix = str(out)

    def hook(event: str, values: tuple) -> None:
        nonlocal count
        if event in EVENTS and str(values[0]).startswith(prefix + os.sep):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    options = ["--no-report", "--atlas", "MUSEIXI"] if command == "predict" else []
    options += ["--model", str(folder / "model"), "--device", "cpu", "--out", str(out), *more]
    code = main([command, str(folder / "scans"), *options])
    Path(f"{out}.count").write_text(str(count))
    os._exit(code)


def content(out: Path) -> dict[str, str]:
    """Hash every file, but for the seconds that the work took."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name.endswith("prediction.json"):
            data = re.sub(rb'"seconds": [0-9.]+', b"", data)
        if path.name == "predictions.tsv":
            data = pd.read_csv(path, sep="\t", dtype=str).drop(columns="seconds").to_csv().encode()
        found[str(path.relative_to(out))] = hashlib.sha256(data).hexdigest()
    return found


def check_whole(out: Path) -> None:
    """Read every file that bears its own name: what stands there must be whole."""
    for path in (p for p in out.rglob("*") if p.is_file() and not p.name.startswith(".partial-")):
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".tsv":
            pd.read_csv(path, sep="\t")
        elif path.name.endswith(".nii.gz"):
            np.asanyarray(nib.load(path).dataobj)


def run(command: str, points: int, seed: int, folder: Path) -> str:
    """Kill and go on at as many points; return what was found."""
    lay_out(folder)
    reference = folder / "reference"
    assert call(command, folder, reference) == 0
    expected = content(reference)
    operations = int((folder / "reference.count").read_text())
    go_on = ("--resume",) if command == "predict" else ()
    litter = kept = 0
    chosen = random.Random(seed).sample(range(1, operations + 1), min(points, operations))
    for point in chosen:
        out = folder / f"out-{point}"
        assert call(command, folder, out, kill_at=point) == -signal.SIGKILL, point
        check_whole(out)
        litter += any(out.rglob(".partial-*"))
        vouched = [*out.rglob("sub-*_prediction.json"), *out.rglob("sub-*_T1w.json")]
        stamps = {path: path.stat().st_mtime_ns for path in vouched}
        assert call(command, folder, out, *go_on) == 0, point
        assert content(out) == expected, (point, set(content(out)) ^ set(expected))
        # What had been finished was kept, not made again.
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), point
        kept += len(stamps)
    return (
        f"{command}: killed at {len(chosen)} of {operations} operations, {litter} times with files "
        f"half-written; {kept} finished scans kept; all went on to equal bytes"
    )


def run_jobs(command: str, folder: Path) -> str:
    """Work with one process and with two, the latter killed once; return what was found."""
    lay_out(folder)
    (folder / "scans" / "sub-1b_T1w.nii.gz").write_bytes(b"damaged")
    assert call(command, folder, folder / "alone") == 1
    assert call(command, folder, folder / "two", "--jobs", "2") == 1
    assert content(folder / "two") == content(folder / "alone")
    go_on = ("--resume",) if command == "predict" else ()
    out = folder / "killed"
    # Late in the parent's own operations: the tables of finished scans, or the description.
    assert call(command, folder, out, "--jobs", "2", kill_at=9) == -signal.SIGKILL
    check_whole(out)
    assert call(command, folder, out, "--jobs", "2", *go_on) == 1
    assert content(out) == content(folder / "alone")
    return f"{command}: one process and two gave equal bytes, as did two that were killed"


if __name__ == "__main__":
    place = Path(sys.argv[4]).resolve()
    if sys.argv[2] == "jobs":
        said = run_jobs(sys.argv[1], place)
    else:
        said = run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), place)
    sys.stdout.write(f"{said}\n")
