"""Make the atlas MUSEIXI: the commonest label of each voxel over a cohort's label maps.

Command: python pipelines/build_consensus_atlas.py RUN_DIR/prepared/IDENTITY
Input:   label maps on the model grid, as `ermoe-ba cross-validate` prepares them.
Time:    20 s. Result: atlases/atlas-MUSEIXI_tpl-MNI152NLin2009aSym/ (dseg and probabilities).
"""

import argparse
from pathlib import Path

import numpy as np

from ermoe_ba.io import read_volume, write_volume
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("prepared", type=Path, metavar="RUN_DIR/prepared/IDENTITY")
options = parser.parse_args()
paths = sorted(options.prepared.glob("*_dseg.nii.gz"))
labels = np.stack([read_volume(path, TEMPLATE_SPACE).data.ravel() for path in paths])
values = np.unique(labels)
best, votes = np.zeros(labels.shape[1], np.int16), np.zeros(labels.shape[1], np.int32)
for value in values[values > 0]:
    count = (labels == value).sum(axis=0)
    best[count > votes] = value
    votes = np.maximum(votes, count)
# A voxel that lies outside the skull in most scans has no region.
best[(labels > 0).mean(axis=0) < 0.5] = 0
stem = f"atlas-MUSEIXI_tpl-{TEMPLATE_SPACE}"
folder = Path(__file__).parents[1] / "atlases" / stem
write_volume(
    folder / f"{stem}_res-02_dseg.nii.gz", Volume(best.reshape(MODEL_GRID.shape), MODEL_GRID)
)
print(f"{len(paths)} label maps, {len(np.unique(best)) - 1} regions")
