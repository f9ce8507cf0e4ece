"""Kill a whole cross-validation at operations on files, go on, and compare with an undisturbed one.

Command: python tests/kill_training.py RUNS SEED FOLDER
Result:  one line; exit code 0 if going on gave equal bytes each time.

Scans are made up and preprocessing is a stand-in; folds, stem, descriptions, choice, stages before
the age, ages, snapshots, matching of experts and evaluation are real. A run is killed once in each
of `PHASES` and gone on with after each kill, the last time to its end. A kill is a SIGKILL that the
process sends itself at its n-th operation (open, rename, remove, chmod) on a file of the run, half
written or whole, so that nothing depends on the clock. The seed decides which file and operation.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from kill_points import EVENTS, QuickPreprocessor, check_whole

import ermoe_ba.training.cross_validate
import ermoe_ba.training.loop
from ermoe_ba.cli.main import main

PEOPLE = 12
# Operations that write a file: made, filled, read for fsync, chmod, put in place, found gone.
WRITING = 6
# Stages of the recipe have two to eight steps: a kill finds no snapshot, the first, or a later one.
SNAPSHOT_STEPS = 2
# By what the names of their files hold; whatever is written besides is written before the stem of
# the first fold, or when all folds are done. A name belongs to the first that it holds.
PHASES = (
    *("desc-", "_dseg", "snapshot", "stem", "described", "choice", "masked", "start-", "fold-"),
    "",
)
LABELS = (("cortex", "cortex"), ("white", "cerebral_white"), ("fluid", "ventricles"))
RECIPE = """
[run]
name = "killed"
num_folds = 2
num_starts = 2
seed = 3
coverage = 0.6
t1w = "scans/sub-{participant_id}_T1w.nii.gz"
labels = "scans/sub-{participant_id}_dseg.nii.gz"
label_table = "labels.tsv"
data = "made up"
licence = "none"
# Their files are called after host, process and time.
trackers = []

[preprocess]

[model]
patch_size = 16
token_min_brain = 0.5
stem_hidden = 2
hidden_size = 12
num_heads = 2
place_scale = 0.3
regions = ["grey_matter"]
num_free_experts = 2
rank = 4
offset_scale = 0.1
top_k = 2
score_threshold = -0.5
region_min_fraction = 0.2
temperature = 0.1
bias_step = 0.01
token_dropout = 0.2

[tissue]
num_steps = 4
scans_per_step = 2
voxels_per_scan = 40
outside_share = 0.1
gain_sd = 0.03
noise_sd = 0.05
optimiser = { learning_rate = 0.02, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.9 }

[age]
num_variants = 1
num_epochs = 4
batch_size = 4
validation_share = 0.25
ridge_strength = 0.1
invariance = 0.1
readout_decay = 0.5
weight_decay = 0.05
spread_floor = 0.1

[age.optimiser]
learning_rate = 0.01
warmup_share = 0.1
max_gradient_norm = 1.0
ema_decay = 0.5
patience = 3

[pretrain.masked]
num_epochs = 4
batch_size = 4
share = 0.5
optimiser = { learning_rate = 0.01, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.5 }

[choose]
num_folds = 2

[choose.alternatives.short]
num_epochs = 2
"""


class QuickTrainingPreprocessor(QuickPreprocessor):
    """The same head with an affine that label maps can follow."""

    def __call__(self, path, announce=None):
        state = super().__call__(path, announce)
        return type(state)(**{**vars(state), "scan_to_template": np.eye(4)})


ermoe_ba.training.cross_validate.Preprocessor = QuickTrainingPreprocessor
ermoe_ba.training.loop.SNAPSHOT_STEPS = SNAPSHOT_STEPS
torch.set_num_threads(1)


def lay_out(folder: Path) -> None:
    """Write scans, label maps, ages and the recipe."""
    (folder / "scans").mkdir(parents=True)
    rows = ""
    # A block of 6 mm voxels round the middle of the template.
    affine = np.diag([6.0, 6, 6, 1])
    affine[:3, 3] = [-72, -108, -48]
    for number in range(PEOPLE):
        drawn = np.random.default_rng(number)
        for what, voxels in (
            ("T1w", drawn.integers(0, 60 * (number + 1), (24, 30, 20))),
            ("dseg", drawn.integers(0, len(LABELS) + 1, (24, 30, 20))),
        ):
            image = nib.Nifti1Image(voxels.astype(np.int16), affine)
            image.to_filename(folder / "scans" / f"sub-{number}_{what}.nii.gz")
        rows += f"sub-{number}\t{30 + 5 * number}\n"
    (folder / "participants.tsv").write_text(f"participant_id\tage\n{rows}", "utf-8")
    labels = "".join(
        f"{n}\t{name}\tn/a\t{tissue}\n" for n, (name, tissue) in enumerate(LABELS, start=1)
    )
    (folder / "labels.tsv").write_text(f"index\tname\themisphere\ttissue\n{labels}", "utf-8")
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")


def whole_name(path: str) -> str:
    """Return the name of a file, and of one that is half-written the name that it shall have."""
    partial = re.fullmatch(r"\.partial-(.*)-[^-]*-\d+-[^-]*", Path(path).name)
    return partial[1] if partial else Path(path).name


def call(folder: Path, out: Path, kill_at: tuple[str, int] | None = None) -> int:
    """Run in a child and return its exit code; its files, in order, go to ``<out>.log``.

    `kill_at` is the name of a file, and which operation on it is the child's last.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    prefix, done = str(out) + os.sep, []

    def hook(event: str, values: tuple) -> None:
        if event in EVENTS and str(values[0]).startswith(prefix):
            done.append(whole_name(str(values[0])))
            if kill_at == (done[-1], done.count(done[-1])):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    with Path(f"{out}.said").open("w", encoding="utf-8") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    options = ["--participants", str(folder / "participants.tsv"), "--out", str(out)]
    code = main(["cross-validate", str(folder / "recipe.toml"), *options])
    Path(f"{out}.log").write_text("\n".join(done), "utf-8")
    os._exit(code)


def kills_of(log: list[str], drawn: random.Random) -> list[tuple[str, int]]:
    """Return one operation of each phase, in the order of the run: a file's name, and which."""
    phases: dict[str, list[tuple[int, str, int]]] = {phase: [] for phase in PHASES}
    times: Counter[str] = Counter()
    for number, name in enumerate(log):
        times[name] += 1
        # What is done again with a file that stands, a run that goes on may not do again.
        if times[name] <= WRITING or "snapshot" in name:
            phase = next(phase for phase in PHASES if phase in name)
            phases[phase].append((number, name, times[name]))
    return [(name, n) for _, name, n in sorted(drawn.choice(phases[phase]) for phase in PHASES)]


def content(out: Path) -> dict[str, str]:
    """Hash every file."""
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def run(runs: int, seed: int, folder: Path) -> str:
    """Kill and go on in as many runs; return what was found."""
    lay_out(folder)
    reference, out = folder / "reference", folder / "killed"
    assert call(folder, reference) == 0, Path(f"{reference}.said").read_text("utf-8")
    expected = content(reference)
    log = Path(f"{reference}.log").read_text("utf-8").splitlines()
    drawn, litter, snapshots = random.Random(seed), 0, 0
    for _ in range(runs):
        kills = kills_of(log, drawn)
        for kill in kills:
            assert call(folder, out, kill) == -signal.SIGKILL, (
                kill,
                Path(f"{out}.said").read_text("utf-8"),
            )
            check_whole(out)
            litter += any(out.rglob(".partial-*"))
            snapshots += any(out.rglob("*_snapshot.safetensors"))
        assert call(folder, out) == 0, (kills, Path(f"{out}.said").read_text("utf-8"))
        found = content(out)
        names = {**found, **expected}
        different = [name for name in names if found.get(name) != expected.get(name)]
        assert not different, (kills, different)
        shutil.rmtree(out)
    return (
        f"cross-validate: killed {runs * len(PHASES)} times in {runs} runs, {litter} times with "
        f"files half-written and {snapshots} times inside a stage; all went on to equal bytes"
    )


if __name__ == "__main__":
    place = Path(sys.argv[3]).resolve()
    sys.stdout.write(f"{run(int(sys.argv[1]), int(sys.argv[2]), place)}\n")
