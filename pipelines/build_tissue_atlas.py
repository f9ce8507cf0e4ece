"""Make the atlas ICBMTissue: the likeliest tissue class of each voxel of the template's brain.

Command: python pipelines/build_tissue_atlas.py
Input:   grey and white matter probabilities of the template, as pipelines/build_template.py made
         them of the ICBM maps that nilearn ships.
Time:    2 s. Result: the label image in atlases/atlas-ICBMTissue_tpl-MNI152NLin2009aSym/.
"""

import numpy as np

from ermoe_ba.assets import atlas_root, template
from ermoe_ba.io import write_volume
from ermoe_ba.space import TEMPLATE_SPACE

brain = template("desc-brain_mask")
grey, white = (template(f"label-{tissue}_probseg").data.astype(int) for tissue in ("GM", "WM"))
# Probabilities are stored as 0 to 255; what is neither grey nor white is fluid in the main.
rest = 255 - grey - white
labels = np.argmax([grey, white, rest], axis=0) + 1
stem = f"atlas-ICBMTissue_tpl-{TEMPLATE_SPACE}"
image = brain.same_grid(np.where(brain.data > 0, labels, 0).astype(np.uint8))
write_volume(atlas_root() / stem / f"{stem}_res-02_dseg.nii.gz", image)
print({n: int((image.data == n).sum()) for n in (1, 2, 3)})
