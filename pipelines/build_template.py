"""Resample the ICBM 2009a symmetric template that nilearn ships onto the model grid.

Command: python pipelines/build_template.py
Time: 5 s. Result: atlases/tpl-MNI152NLin2009aSym/. Needed only when the grid changes.
"""

from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to, smooth_image

from ermoe_ba.io import write_volume
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume

source = Path(str(files("nilearn") / "datasets" / "data"))
target = Path(__file__).parents[1] / "atlases" / f"tpl-{TEMPLATE_SPACE}"

maps = {}
for name in ("t1", "gm", "wm"):
    image = nib.Nifti1Image.from_filename(
        source / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    )
    # From 1 mm to 2 mm: the blur that makes a 1 mm voxel as wide as a 2 mm one, sqrt(2^2 - 1^2).
    image = smooth_image(nib.Nifti1Image(image.get_fdata(), image.affine), fwhm=np.sqrt(3.0))
    maps[name] = resample_from_to(image, (MODEL_GRID.shape, MODEL_GRID.affine), order=1)

t1 = maps["t1"].get_fdata()
# The template is skull-stripped: voxels at least half covered by brain are above half its edge.
mask = t1 > 0.2 * np.percentile(t1[t1 > 0], 90)
stem = f"tpl-{TEMPLATE_SPACE}_res-02"
for suffix, data in {
    "desc-brain_T1w": np.where(mask, t1, 0).round().astype(np.uint8),
    "desc-brain_mask": mask.astype(np.uint8),
    "label-GM_probseg": (maps["gm"].get_fdata()).round().astype(np.uint8),
    "label-WM_probseg": (maps["wm"].get_fdata()).round().astype(np.uint8),
}.items():
    write_volume(target / f"{stem}_{suffix}.nii.gz", Volume(data, MODEL_GRID))
