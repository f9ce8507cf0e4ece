"""Learn the limits of the quality flags from a cohort of healthy heads, and say what they cost.

Command: python pipelines/quality_limits.py DATA RUN_DIR/prepared/IDENTITY
Input:   label maps DATA/dlmuse/<id>_dseg.nii.gz on the scans' own grids (where brains end), and
         the same scans as `ermoe-ba cross-validate` prepares them.
Time:    40 s. Result: ermoe_ba/quality/cohort.safetensors and limits.json; prints the limits, the
         share of heads that are flagged by limits learnt without them (ten folds), and how well
         left and right can be told apart.
"""

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from ermoe_ba.io import read_volume, to_nibabel
from ermoe_ba.preprocess.field_of_view import flat_end_cm2
from ermoe_ba.quality.assessment import assess
from ermoe_ba.quality.figures import measure_figures
from ermoe_ba.quality.limits import LIMITS_FILE, QualityLimits, learn_limits, save_limits
from ermoe_ba.quality.reference import REFERENCE_FILE, cell_means, fit_reference, save_reference
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, SpatialGrid, Volume

FOLDS = 10


def read_prepared(sidecar: Path) -> tuple[Volume, Volume]:
    """Return a prepared scan and its mask."""
    stem = str(sidecar).removesuffix("_desc-preproc_T1w.json")
    t1w = read_volume(Path(f"{stem}_desc-preproc_T1w.nii.gz"), TEMPLATE_SPACE)
    mask = read_volume(Path(f"{stem}_desc-brain_mask.nii.gz"), TEMPLATE_SPACE)
    return Volume(t1w.data, MODEL_GRID), Volume(mask.data, MODEL_GRID)


def brain_cap(labels: Path) -> float:
    """Return the largest flat end that the whole brain of a label map would show if cropped."""
    image = nib.as_closest_canonical(to_nibabel(read_volume(labels, "scan")))
    data = np.asarray(image.dataobj)
    brain = Volume((data > 0).astype(np.uint8), SpatialGrid(data.shape, image.affine, "scan"))
    return flat_end_cm2(brain, brain)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path, metavar="DATA")
parser.add_argument("prepared", type=Path, metavar="RUN_DIR/prepared/IDENTITY")
options = parser.parse_args()
data, prepared = options.data, options.prepared
found = [
    (json.loads(path.read_text(encoding="utf-8")), path)
    for path in prepared.glob("*_desc-preproc_T1w.json")
]
# Files are named by content: the order that decides about folds is that of the scans' own names.
contents, sidecars = zip(*sorted(found, key=lambda pair: pair[0]["source"]), strict=True)
names = [content["source"].removesuffix("_T1w.nii.gz") for content in contents]
scans = [read_prepared(path) for path in sidecars]
cells_n = np.stack([cell_means(*scan) for scan in scans])
# Each scan is measured against the other folds: its own share in the mean would flatter it.
fold_n = np.arange(len(scans)) % FOLDS
others = [fit_reference(cells_n[fold_n != fold]) for fold in range(FOLDS)]
table = pd.DataFrame(
    {
        **content["figures"],
        **measure_figures(*scan, others[fold]),
        "flat_end_cm2": brain_cap(data / "dlmuse" / f"{name}_dseg.nii.gz"),
    }
    for name, content, scan, fold in zip(names, contents, scans, fold_n, strict=True)
)
figures = {str(name): column.to_numpy() for name, column in table.items()}
limits = learn_limits(figures)
print("figure: least, median, greatest of the cohort; limit of the flag; limit of refusal")
for limit in limits:
    if limit.figure in figures:
        values = figures[limit.figure]
        refusal = "-" if limit.refuse_at is None else f"{limit.refuse_at:.4g}"
        print(
            f"{limit.flag:24} {limit.figure:20} {values.min():.4g} {np.median(values):.4g} "
            f"{values.max():.4g}; {limit.side} {limit.flag_at:.4g}; {refusal}"
        )

flags = []
for fold in range(FOLDS):
    test = fold_n == fold
    learnt = learn_limits({name: values[~test] for name, values in figures.items()})
    # The caps of whole brains stand for cropped images; the heads themselves have a margin.
    for row in table[test].drop(columns="flat_end_cm2").to_dict("records"):
        verdict = assess(learnt, row, ())
        flags.append((verdict.flags, verdict.refusing is not None))
raised = pd.Series([flag for found, _ in flags for flag in found], dtype=str)
print(
    f"{len(scans)} heads: {sum(bool(found) for found, _ in flags)} flagged and "
    f"{sum(refused for _, refused in flags)} refused by limits learnt without them"
)
print(raised.value_counts().to_string())
side = figures["side_score"]
print(
    f"sides: scores {side.min():.2f} to {side.max():.2f}, of the mirror images the same with the "
    f"other sign; {np.mean(side > 0):.1%} told right by the sign, "
    f"{np.mean(-side < -side.min() / 2):.1%} of mirror images flagged"
)
save_reference(REFERENCE_FILE, fit_reference(cells_n))
save_limits(
    LIMITS_FILE,
    QualityLimits(
        limits=limits,
        provenance={
            "cohort": data.name,
            "scans": len(scans),
            "preprocessing_id": prepared.name,
            "command": "python pipelines/quality_limits.py DATA RUN_DIR/prepared/IDENTITY",
            "licence": "CC BY-SA 3.0 (computed from IXI data, brain-development.org)",
        },
    ),
)
print(f"Written: {REFERENCE_FILE}, {LIMITS_FILE}")
