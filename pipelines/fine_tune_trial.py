"""What is worth tuning at a new site? An offset, a line, or all position read-outs.

Command: python pipelines/fine_tune_trial.py DATA RUN
Input:   DATA/participants.tsv and its scans as the recipe of RUN names them; RUN, a finished
         `ermoe-ba cross-validate` of the shipped recipe, whose prepared scans are changed here.
Time:    about three minutes of one core for 140 scans.
Result:  MAE in years for each fold as a site of its own: each person is predicted by the members
         that never saw them, tuned on the others of the fold (leave one out).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import KernelCenterer
from torch import Tensor

from ermoe_ba.checkpoint import load_member, token_grid
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import read_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import Array
from ermoe_ba.study import read_study
from ermoe_ba.tables import PREDICTIONS
from ermoe_ba.training.run_folder import RunFolder, read_run_table
from ermoe_ba.training.tuning import tune

# The site's scanner: other contrast, slices of 4 mm (a profile of that full width at half maximum,
# on voxels of 2 mm), noise of 3 % of white matter, and a bias field of up to 10 % along each axis.
GAMMA, SLICE_SD, NOISE, BIAS = 1.25, 4 / 2 / 2.355, 0.03, 0.1
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def other_scanner(t1w: Array, seed: int) -> Array:
    """Return a prepared scan as the simulated scanner would have given it."""
    random = np.random.default_rng(seed)
    brain = t1w > 0
    data = gaussian_filter1d(np.where(brain, np.abs(t1w), 0) ** GAMMA, SLICE_SD, axis=2)
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in t1w.shape], indexing="ij"))
    field = np.exp(np.tensordot(random.uniform(-BIAS, BIAS, 3), axes, axes=1))
    noisy = data * field + NOISE * random.normal(size=t1w.shape)
    return np.asarray((np.clip(noisy, 0, 1.5) * brain).astype(np.float32))


def rate(member: ErmoeBrainAge, described_btfc: Tensor) -> Tensor:
    """Return the years that a unit more of what the read-outs say adds, shape (B, 1)."""
    score_b = member.baseline + member.shares(described_btfc)[0].sum(dim=(1, 2))
    return (member.scale * member.curve.slope(score_b))[:, None]


def ridge_change(kernel_nn: Array, left: Array, test: int, strength: float) -> float:
    """Return what a ridge regression of the residuals of all others adds to one scan's age."""
    train = np.delete(np.arange(len(kernel_nn)), test)
    centerer = KernelCenterer().fit(kernel_nn[np.ix_(train, train)])
    inside = centerer.transform(kernel_nn[np.ix_(train, train)])
    ridge = KernelRidge(alpha=strength * np.trace(inside) / len(train), kernel="precomputed")
    ridge.fit(inside, left)
    return float(ridge.predict(centerer.transform(kernel_nn[[test]][:, train]))[0])


def errors_of_site(ages: Array, base_mn: Array, kernel_mnn: Array) -> dict[str, float]:
    """Return the mean absolute error of each way of tuning, leaving one out."""
    base, found = base_mn.mean(axis=0), []
    for test in range(len(ages)):
        rest = np.delete(np.arange(len(ages)), test)
        row = {
            way: float(tune(base[rest], ages[rest], way).ages(base[test]))
            for way in ("none", "offset", "line")
        }
        left = ages[rest] - base[rest] - (ages[rest] - base[rest]).mean()
        for strength in STRENGTHS:
            changes = [ridge_change(kernel, left, test, strength) for kernel in kernel_mnn]
            row[f"offset, ridge {strength:g}"] = row["offset"] + float(np.mean(changes))
        found.append({name: abs(age - ages[test]) for name, age in row.items()})
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path, metavar="DATA")
parser.add_argument("run", type=Path, metavar="RUN")
options = parser.parse_args()
data, run = options.data, options.run
card = read_card(run)
tokens = token_grid(card.model)
study = read_study(data / "participants.tsv", RunFolder(run).settings().t1w, None)
scans = {scan.participant_id: scan for scan in study.scans}
cohort = PreparedCohort(run / "prepared", Preprocessor(card.preprocess))
table = read_run_table(run / PREDICTIONS)
sites = []
for fold, rows in table.groupby("fold"):
    members = [
        load_member(path, card.model, tokens)
        for path in sorted(run.glob(f"fold-{fold}_start-*.safetensors"))
    ]
    changed = []
    for number, participant_id in zip(rows.index, rows["participant_id"], strict=True):
        cohort.prepare(scans[participant_id])
        changed.append(other_scanner(cohort.read(scans[participant_id]).t1w.data, number))
    with torch.no_grad():
        # Members of a fold share their stem; half precision is what training keeps.
        described = torch.cat(
            [members[0].describe(torch.as_tensor(volume)[None]).half() for volume in changed]
        ).float()
        base_mn = np.stack([m.read_age(described).age_b.numpy() for m in members]).astype(float)
        products = [
            # Years, as far as the curve of ages is straight.
            (rate(m, described) * m.readout_inputs(described).flatten(1)).double()
            for m in members
        ]
    kernels = np.stack([(product @ product.T).numpy() for product in products])
    sites.append(errors_of_site(rows["chronological_age"].to_numpy(), base_mn, kernels))
print(f"unchanged scans, untuned: {table['brain_age_gap'].abs().mean():.2f} years")
for name in sites[0]:
    by_site = [site[name] for site in sites]
    print(f"{name:20} {np.mean(by_site):.2f}   by fold {'  '.join(f'{e:.2f}' for e in by_site)}")
