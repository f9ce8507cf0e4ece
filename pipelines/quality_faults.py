"""Plant faults in real heads and count how many of them quality control notices.

Command: python pipelines/quality_faults.py DATA OUT [HEADS]
Input:   DATA/t1/<id>_T1w.nii.gz and DATA/dlmuse/<id>_dseg.nii.gz; HEADS of them, evenly spaced
         (default 8).
Time:    one preprocessing for each head and fault, about 6 s of one core; a run that was stopped
         goes on. Result: OUT/faults.tsv, one row a head and fault; prints the rates by fault.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ermoe_ba.changes import CHANGES
from ermoe_ba.errors import RefusedScanError, ScanError
from ermoe_ba.io import read_volume, write_json, write_volume
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.quality import assess, load_limits, load_reference, measure_figures
from ermoe_ba.space import Volume
from ermoe_ba.t1w import read_t1w
from ermoe_ba.tables import write_table

# Name, change, amount. Amounts: a fault that a rater would exclude a scan for, and a lesser one.
FAULTS = (
    ("none", "scale_values", 1.0),
    ("inverted contrast", "invert", 0.0),
    ("top cut, 45 mm", "cut_top", 45.0),
    ("top blanked, 45 mm", "blank_top", 45.0),
    ("mirrored", "mirror", 0.0),
    ("ghost, 30 %", "ghost", 0.3),
    ("ghost, 10 %", "ghost", 0.1),
    ("motion, 8 degrees", "move_head", 8.0),
    ("motion, 3 degrees", "move_head", 3.0),
    ("noise, 15 %", "add_noise", 0.15),
    ("noise, 8 %", "add_noise", 0.08),
    ("empty", "empty", 0.05),
    ("phantom ball", "ball", 70.0),
)
# Contrasts of the brain alone, as lines from T1w intensity (1 the brightest) to the other's.
CONTRASTS = {
    "T2w-like": ([0.0, 0.3, 0.7, 1.0, 2.0], [1.0, 0.95, 0.55, 0.3, 0.1]),
    "FLAIR-like": ([0.0, 0.3, 0.7, 1.0, 2.0], [0.05, 0.15, 0.8, 0.6, 0.3]),
}


def other_contrast(head: Volume, labels: Path, name: str) -> Volume:
    """Give the brain another contrast; what lies around it stays."""
    brain = read_volume(labels, "scan").data > 0
    white = float(np.percentile(head.data[brain], 95))
    mapped = np.interp(head.data / white, *CONTRASTS[name]) * white
    return head.same_grid(np.where(brain, mapped, head.data).astype(np.float32))


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path, metavar="DATA")
parser.add_argument("out", type=Path, metavar="OUT")
parser.add_argument("heads", type=int, nargs="?", default=8, metavar="HEADS", help="default: 8")
options = parser.parse_args()
data, out = options.data, options.out
paths = sorted((data / "t1").glob("*_T1w.nii.gz"))
count = options.heads
chosen = [paths[n] for n in np.linspace(0, len(paths) - 1, count).round().astype(int)]
preprocessor = Preprocessor(read_card(model_folder(DEFAULT_MODEL)).preprocess)
reference, limits = load_reference(), load_limits().limits


def judge(spoilt: Volume) -> dict[str, str]:
    """Preprocess a spoilt head; return status, flags and what was measured."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "head_T1w.nii.gz"
        write_volume(path, spoilt)
        try:
            state = preprocessor(path)
        except ScanError as error:
            status = "refused" if isinstance(error, RefusedScanError) else "failed"
            return {"status": status, "flags": "", "message": f"found {error.found}"}
    figures = state.figures | measure_figures(state.image, state.mask, reference)
    verdict = assess(limits, figures, state.flags)
    return {
        "status": "refused" if verdict.refusing else "ok",
        "flags": ";".join(verdict.flags),
        "message": json.dumps({name: round(value, 4) for name, value in figures.items()}),
    }


rows = []
for number, path in enumerate(chosen):
    name = path.name.removesuffix("_T1w.nii.gz")
    head = read_t1w(path)
    for fault in [*(fault for fault, _, _ in FAULTS), *CONTRASTS]:
        done = out / "heads" / f"{name}_{fault.replace(' ', '-').replace(',', '')}.json"
        if not done.is_file():
            rng = np.random.default_rng(number)
            if fault in CONTRASTS:
                spoilt = other_contrast(head, data / "dlmuse" / f"{name}_dseg.nii.gz", fault)
            else:
                change, amount = next((c, a) for f, c, a in FAULTS if f == fault)
                spoilt = CHANGES[change](head, amount, rng)
            write_json(done, {"participant_id": name, "fault": fault, **judge(spoilt)})
        rows.append(json.loads(done.read_text(encoding="utf-8")))
        print(name, fault, rows[-1]["status"], rows[-1]["flags"], flush=True)

table = pd.DataFrame(rows)
write_table(out / "faults.tsv", table)
print(f"\n{len(chosen)} heads; of each fault: refused or failed, flagged, unnoticed; flags")
for kind, group in table.groupby("fault", sort=False):
    stopped = group["status"] != "ok"
    flagged = ~stopped & (group["flags"] != "")
    words = group["flags"].str.split(";").explode()
    told = ", ".join(f"{w} {n}" for w, n in words[words != ""].value_counts().items())
    unnoticed = int((~stopped & ~flagged).sum())
    print(f"{kind:20} {int(stopped.sum())} {int(flagged.sum())} {unnoticed}  {told}")
print(f"Written: {out / 'faults.tsv'}")
