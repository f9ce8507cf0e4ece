"""Fit the curves that the phantom's volumes follow; commit the coefficients, not the tables.

Command: python pipelines/fit_phantom_norms.py CENTILES_DIR
Input:   the iSTAGING centiles of cognitively normal adults as NiChart publishes them
         (dlmuse_centiles_CN*_allages.csv.gz, SBIA licence 1.1).
Time:    10 s. Result: ermoe_ba/phantom/norms.tsv; prints the largest error of each median.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from ermoe_ba.phantom.norms import NORMS_FILE, age_units
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.tables import write_table

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("centiles", type=Path, metavar="CENTILES_DIR")
options = parser.parse_args()
folder = options.centiles
# From the 5th to the 95th centile of a normal distribution.
WIDTH = 2 * norm.ppf(0.95)


def centiles(group: str) -> dict[str, pd.DataFrame]:
    """Read one table: variable to centiles by age."""
    table = pd.read_csv(folder / f"dlmuse_centiles_CN{group}_allages.csv.gz")
    table = table.drop_duplicates(["VarName", "Age"]).set_index("Age")
    return {str(name): rows.drop(columns="VarName") for name, rows in table.groupby("VarName")}


plain, normalised = centiles(""), centiles("-ICVNorm")
icv = normalised["ICV"]["centile_50"]
# The volume that the normalised table scales every head to: it is not stated there, but follows
# from each whole-brain median being scaled by the same ratio as the cavity.
reference = float(
    (icv * normalised["TotalBrain"]["centile_50"] / plain["TotalBrain"]["centile_50"]).median()
)
print(f"volumes are normalised to a cavity of {reference / 1000:.0f} mL")

rows = []
for region in REGIONS:
    first, *others = (normalised[name] for name in region.norms)
    total = sum(others, start=first)
    t = age_units(total.index.to_numpy(dtype=float))
    median = np.log(total["centile_50"].to_numpy() / reference)
    # Summing centiles takes parts of one region to vary together, as neighbours nearly do.
    spread = np.log(total["centile_95"].clip(lower=1) / total["centile_5"].clip(lower=1)) / WIDTH
    # Where the lowest centile reaches zero (narrow ventricles), the upper half tells the spread.
    upper = np.log(total["centile_95"] / total["centile_50"]) / (WIDTH / 2)
    spread = np.where(total["centile_5"] > 0.2 * total["centile_50"], spread, upper)
    curve = np.polynomial.polynomial.polyfit(t, median, 4)
    width = np.polynomial.polynomial.polyfit(t, spread, 1)
    error = np.abs(np.expm1(np.polynomial.polynomial.polyval(t, curve) - median)).max()
    print(f"{region.name:26} largest error of the median {error:.1%}")
    rows.append((region.name, *curve, *width))
for letter, group in (("F", "-Females"), ("M", "-Males")):
    brain = centiles(group)["TotalBrain"]
    ratio = brain["centile_50"] / plain["TotalBrain"]["centile_50"]
    spread = np.log(brain["centile_95"] / brain["centile_5"]) / WIDTH
    # No ageing: what looks like it in a cross-section is that later generations are taller.
    level = float(np.log((icv * ratio).mean() / 1000))
    rows.append((f"intracranial_{letter}", level, 0, 0, 0, 0, float(spread.mean()), 0))
columns = ["region", "c0", "c1", "c2", "c3", "c4", "s0", "s1"]
write_table(NORMS_FILE, pd.DataFrame(rows, columns=columns).round(5))
print(f"Written: {NORMS_FILE}")
