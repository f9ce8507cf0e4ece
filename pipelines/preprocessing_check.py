"""Hold the preprocessing against a cohort's label maps: brain masks, registration, time by stage.

Command: python pipelines/preprocessing_check.py DATA OUT [HEADS]
Input:   DATA/t1/<id>_T1w.nii.gz and DATA/dlmuse/<id>_dseg.nii.gz (label > 0: inside the skull);
         HEADS of them, evenly spaced (default: all).
Time:    one preprocessing a head, about 6 s of one core; a run that was stopped goes on.
Result:  OUT/preprocessing.tsv, one row a head; prints Dice of masks (mean, least), the overlap of
         warped label maps with a consensus of the other heads (median over regions), and the mean
         time by stage with the share of brain extraction.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ermoe_ba.errors import ScanError
from ermoe_ba.io import read_volume, write_json, write_volume
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array
from ermoe_ba.tables import write_table

# Regions smaller than this (32 voxels, 0.26 mL) are lost to the sampling alone.
LEAST_VOXELS = 32
# Label maps that are held against a consensus of the other folds.
FOLDS = 5
AIM_MEAN, AIM_LEAST = 0.97, 0.94


def dice(a: Array, b: Array) -> float:
    """Return the overlap of two masks, 0 to 1."""
    both = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / max(both, 1)


def check(preprocessor: Preprocessor, t1w: Path, labels: Path, warped: Path) -> dict[str, object]:
    """Preprocess a head; keep its warped label map; return Dice of its mask and time by stage."""
    stages: list[tuple[str, float]] = []
    state = preprocessor(t1w, lambda stage: stages.append((stage, time.perf_counter())))
    end = time.perf_counter()
    ends = [began for _, began in stages[1:]] + [end]
    seconds = {
        stage: round(done - began, 3) for (stage, began), done in zip(stages, ends, strict=True)
    }
    dseg = read_volume(labels, "scan")
    assert state.scan_to_template is not None
    moved = resample(dseg, MODEL_GRID, order=0, to_grid_space=state.scan_to_template)
    inside = dseg.same_grid((dseg.data > 0).astype(np.float32))
    skull = resample(inside, MODEL_GRID, order=1, to_grid_space=state.scan_to_template)
    write_volume(warped, moved.same_grid(np.rint(moved.data).astype(np.int16)))
    # Both brought to the model grid in one way, so that the sampling costs both the same.
    return {"dice": dice(state.mask.data > 0, skull.data >= 0.5), "seconds": seconds}


def consensus(maps_nv: Array, labels: Array) -> Array:
    """Return the commonest label of each voxel, 0 where most maps have none; shape (V,)."""
    best, votes = np.zeros(maps_nv.shape[1], np.int16), np.zeros(maps_nv.shape[1], np.int32)
    for label in labels:
        count = (maps_nv == label).sum(axis=0)
        best[count > votes] = label
        votes = np.maximum(votes, count)
    best[(maps_nv > 0).mean(axis=0) < 0.5] = 0
    return best


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path, metavar="DATA")
parser.add_argument("out", type=Path, metavar="OUT")
parser.add_argument("heads", type=int, nargs="?", metavar="HEADS", help="default: all")
options = parser.parse_args()
data, out = options.data, options.out
paths = sorted((data / "t1").glob("*_T1w.nii.gz"))
count = options.heads or len(paths)
preprocessor = Preprocessor(read_card(model_folder(DEFAULT_MODEL)).preprocess)
work = out / preprocessor.config.identity()
rows, maps = [], []
for path in (paths[n] for n in np.linspace(0, len(paths) - 1, count).round().astype(int)):
    name = path.name.removesuffix("_T1w.nii.gz")
    done, warped = work / f"{name}.json", work / f"{name}_dseg.nii.gz"
    if not done.is_file():
        try:
            found = check(preprocessor, path, data / "dlmuse" / f"{name}_dseg.nii.gz", warped)
        except ScanError as error:
            print(error, file=sys.stderr)
            continue
        write_json(done, {"participant_id": name, **found})
        print(f"{name} Dice {found['dice']:.4f}", flush=True)
    rows.append(json.loads(done.read_text(encoding="utf-8")))
    maps.append(read_volume(warped, TEMPLATE_SPACE).data.ravel())

table = pd.DataFrame(rows)
overlap = table["dice"]
print(
    f"{len(table)} of {count} heads; Dice of masks with labels > 0: mean {overlap.mean():.4f} "
    f"(aim {AIM_MEAN}), least {overlap.min():.4f} (aim {AIM_LEAST}) of "
    f"{table['participant_id'].iloc[overlap.argmin()]}"
)
maps_nv = np.stack(maps)
labels = np.unique(maps_nv)
labels = labels[labels > 0]
regions = []
fold_n = np.arange(len(maps_nv)) % FOLDS
for fold in range(FOLDS):
    # The bundled consensus was made of these very heads: each is held against the others' instead.
    atlas = consensus(maps_nv[fold_n != fold], labels)
    known = [label for label in labels if np.count_nonzero(atlas == label) >= LEAST_VOXELS]
    regions += [
        [dice(m == label, atlas == label) for label in known] for m in maps_nv[fold_n == fold]
    ]
medians = [float(np.median(values)) for values in regions]
print(
    f"overlap of warped label maps with the consensus of the other folds: median over regions, "
    f"median over heads {np.median(medians):.3f}, least {min(medians):.3f}"
)
times = pd.DataFrame(table["seconds"].tolist())
mean = times.mean()
print("mean seconds by stage: " + ", ".join(f"{stage} {s:.2f}" for stage, s in mean.items()))
print(f"sum {mean.sum():.2f} s a head; brain extraction {mean['ExtractBrain'] / mean.sum():.0%}")
table = table.drop(columns="seconds").join(times.add_prefix("seconds_"))
write_table(out / "preprocessing.tsv", table)
print(f"Written: {out / 'preprocessing.tsv'}")
