"""What the command line costs and how steady its answer is, on the sample head.

Command: python pipelines/benchmark.py [--quick]      (after `bash pipelines/quickstart.sh`)
Prints:  1. time from cold start to written report against deepbet-cli alone on the same file, pair
            by pair, and the peak memory of both;
         2. the largest difference of predicted_age between two processes on one file;
         3. the same over the head saved anew in all 48 axis orders and flips, in turn as int16,
            uint8 and float32, with and without .gz, with only an sform or only a qform.
Time:    about ten minutes on two cores; --quick takes one pair and six orientations.
"""

import argparse
import itertools
import os
import platform
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from batch_cost import cost_of

from ermoe_ba.assets import SAMPLE_HEAD
from ermoe_ba.tables import PREDICTIONS

COMMANDS = Path(sys.executable).parent


def predict(folder: Path, *options: str | Path) -> pd.DataFrame:
    """Predict with the command line; return its table."""
    program = COMMANDS / "ermoe-ba"
    cost_of([program, "predict", *options, "--out", folder, "--overwrite"], quiet=True)
    return pd.read_csv(folder / PREDICTIONS, sep="\t")


def save_variants(folder: Path, count: int) -> None:
    """Save the sample in other axis orders, flips, data types and header forms."""
    image = nib.Nifti1Image.from_filename(SAMPLE_HEAD)
    orders = itertools.product(
        itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    )
    for number, (axes, flips) in enumerate(itertools.islice(orders, 0, None, 48 // count)):
        turned = image.as_reoriented(np.column_stack([axes, flips]))
        dtype = (np.int16, np.uint8, np.float32)[number % 3]
        new = nib.Nifti1Image(np.asarray(turned.dataobj).astype(dtype), turned.affine)
        new.set_sform(turned.affine, code=1 if number % 4 < 2 else 0)
        new.set_qform(turned.affine, code=0 if number % 4 < 2 else 1)
        ending = ".nii.gz" if number % 2 else ".nii"
        new.to_filename(folder / f"turned{number:02d}_T1w{ending}")


def main() -> None:
    """Print the three figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair, six orientations")
    quick = parser.parse_args().quick
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pairs = []
        for number in range(1 if quick else 5):
            out = work / f"cold{number}"
            ours = cost_of(
                [COMMANDS / "ermoe-ba", "predict", SAMPLE_HEAD, "--out", out], quiet=True
            )
            mask = work / "b.nii.gz"
            alone = cost_of(
                [COMMANDS / "deepbet-cli", "-i", SAMPLE_HEAD, "-o", mask, "-g"], quiet=True
            )
            pairs.append((ours.seconds / alone.seconds, ours.peak_mb / 1000))
            print(
                f"pair {number}: ermoe-ba {ours.seconds:.1f} s, {ours.peak_mb / 1000:.2f} GB; "
                f"deepbet-cli {alone.seconds:.1f} s, {alone.peak_mb / 1000:.2f} GB; "
                f"ratio {pairs[-1][0]:.2f}"
            )
        ratio = np.median([ratio for ratio, _ in pairs])
        memory = max(peak_gb for _, peak_gb in pairs)
        print(f"median ratio {ratio:.2f} (at most 2.5); peak memory {memory:.2f} GB (at most 2.5)")
        ages = [predict(work / f"same{n}", SAMPLE_HEAD, "--no-maps") for n in range(2)]
        first, second = (table["predicted_age"].iloc[0] for table in ages)
        print(f"two processes: {first} and {second}, difference {abs(first - second):g} years")
        heads = work / "heads"
        heads.mkdir()
        save_variants(heads, 6 if quick else 48)
        table = predict(work / "turned", heads, "--no-maps")
        worst = (table["predicted_age"] - first).abs().max()
        print(f"{len(table)} re-saved heads: largest difference {worst:.2g} years (at most 0.05)")


if __name__ == "__main__":
    main()
