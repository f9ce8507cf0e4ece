"""What is true of a phantom cohort: floors, agreement with the plan, and the figures that show it.

Command: ermoe-ba phantom --out DIR --n 400 && python pipelines/phantom_figures.py DIR [REAL]
Input:   a phantom cohort; REAL, if given, is a folder with participants.tsv and MUSE label maps of
         real scans (dlmuse/<id>_dseg.nii.gz), for the comparison by decade.
Time:    1 to 2 minutes. Result: printed figures; PNG files in DIR/derivatives/phantom/figures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from pictures import write_pictures

from ermoe_ba.config import from_plain
from ermoe_ba.io import read_volume
from ermoe_ba.phantom.anatomy import muse_regions
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.floors import latent_floor, regression_floors, volume_floor
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.report.phantom import (
    LARGE_ML,
    draw_agreement,
    draw_decades,
    draw_lifespan,
    draw_trajectories,
)

# A hemisphere missing so much against the other was cut off by the field of view, not by age.
CUT_OFF = 0.7


def measure(folder: Path) -> pd.DataFrame:
    """Measure the label maps of real scans by the phantom's regions."""
    people = pd.read_csv(folder / "participants.tsv", sep="\t").dropna(subset=["age"])
    rows = []
    for person in people.itertuples():
        dseg = read_volume(folder / "dlmuse" / f"{person.participant_id}_dseg.nii.gz", "scan")
        labels = np.asarray(dseg.data).astype(int)
        counts = np.bincount(muse_regions(labels).ravel(), minlength=len(REGIONS) + 1)
        volumes = counts * dseg.grid.voxel_volume_ml
        row = {f"realised_{r.name}_ml": volumes[r.index] for r in REGIONS}
        cavity = (labels > 0).sum() * dseg.grid.voxel_volume_ml
        rows.append({"age": person.age, "realised_intracranial_ml": cavity, **row})
    table = pd.DataFrame(rows)
    whole = np.ones(len(table), bool)
    for pair in ("cerebellum", "parietal_white", "temporal_cortex", "occipital_cortex"):
        left, right = (table[f"realised_{pair}_{side}_ml"] for side in "LR")
        whole &= (left / right).between(CUT_OFF, 1 / CUT_OFF)
    print(f"{folder}: {whole.sum()} of {len(table)} label maps hold both hemispheres")
    return table[whole]


def print_agreement(table: pd.DataFrame) -> None:
    """Print how near realised volumes come to planted ones."""
    decade = (table["age"] // 10 * 10).astype(int)
    print(f"{'region':26} {'mL':>6} {'r':>6} {'bias %':>7} {'worst decade %':>15}")
    for region in REGIONS:
        planted = table[f"planted_{region.name}_ml"]
        ratio = table[f"realised_{region.name}_ml"] / planted - 1
        # Of sums, not of ratios: that is the bias of a decade's mean volume.
        sums = table.groupby(decade)[[f"planted_{region.name}_ml", f"realised_{region.name}_ml"]]
        by_decade = sums.sum().pipe(lambda s: s.iloc[:, 1] / s.iloc[:, 0] - 1)
        r = np.corrcoef(planted, table[f"realised_{region.name}_ml"])[0, 1]
        worst = by_decade.iloc[by_decade.abs().argmax()]
        mark = "" if planted.median() >= LARGE_ML else "  (below 3 mL)"
        if (r < 0.95 or abs(worst) > 0.02) and not mark:
            mark = "  MISSES"
        print(
            f"{region.name:26} {planted.median():6.1f} {r:6.3f} {100 * ratio.mean():7.2f} "
            f"{100 * worst:15.2f}{mark}"
        )


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("cohort", type=Path, metavar="DIR")
parser.add_argument("real", type=Path, nargs="?", metavar="REAL")
options = parser.parse_args()
folder = options.cohort
settings = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))["config"]
config = from_plain(PhantomConfig, settings)
table = pd.read_csv(folder / "participants.tsv", sep="\t")
print(f"{len(table)} subjects; smallest Jacobian {table['smallest_jacobian'].min():.4f}")
print_agreement(table)
print(f"MAE, biological age known (quadrature)        {latent_floor(config):.2f} y")
print(f"MAE, planted volumes known (Monte Carlo)      {volume_floor(config, 1000):.2f} y")
for name, value in regression_floors(table).items():
    print(f"MAE, {name} on realised volumes, 5 folds".ljust(46) + f"{value:.2f} y")

figures = folder / "derivatives" / "phantom" / "figures"
first = table[table["site"] == table["site"].iloc[0]]
shown = []
for age in range(20, 91, 10):
    # The subject of that age whose brain looks its age.
    row = first.loc[((first["age"] - age).abs() + first["planted_gap"].abs()).idxmin()]
    name = row["participant_id"]
    scan = read_volume(folder / name / "anat" / f"{name}_T1w.nii.gz", "scan")
    shown.append((float(row["age"]), scan))
pictures = {
    "lifespan": draw_lifespan(shown),
    "trajectories": draw_trajectories(table),
    "agreement": draw_agreement(table),
}
if options.real is not None:
    pictures["decades"] = draw_decades(table, measure(options.real))
for path in write_pictures(figures, pictures):
    print(f"Written: {path}")
