"""Measure how a model's interval must widen where a scan is unlike those that it learnt from.

Command: python pipelines/widening.py DATA RUN OUT [--model MODEL]
Input:   DATA/participants.tsv; RUN, a finished `ermoe-ba cross-validate` with what it kept
         (RUN/kept, RUN/prepared); sites: pipelines/sites.toml; MODEL, what `ermoe-ba train` made
         with the figures of RUN: without one, the rule is for the members of RUN.
Method:  each person whom no named site scans is scanned by a site of their own, drawn at random,
         and predicted by the members that never saw them. A prepared scan is changed and normalised
         anew, without another registration, brain extraction or bias correction: the drawn changes
         hardly move these. The interval starts to widen at the distance that one in twenty of the
         cohort's own scans exceeds, and its slope is the least that covers nine in ten of the drawn
         scans. Nobody is left to measure a model of everybody on: it takes start and slope from
         RUN, and the looks of the cohort as its own stems see them.
Time:    about 0.7 s of one core a person. A run that was stopped goes on.
Result:  OUT/widening.safetensors, which belongs beside the model's weights; prints the rule, and
         what it does to the cohort's own scans.
"""

import argparse
import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import load_ensemble, load_fold
from ermoe_ba.cohort import read_participants
from ermoe_ba.config import from_plain
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.io import write_json
from ermoe_ba.likeness import fit_likeness, look
from ermoe_ba.model_card import read_card
from ermoe_ba.predict import described_once, predict_age
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.simulated_sites import SiteTrial
from ermoe_ba.site_scans import scan_prepared
from ermoe_ba.space import Array
from ermoe_ba.study import read_study
from ermoe_ba.tables import PREDICTIONS
from ermoe_ba.training.run_folder import RunFolder, read_run_table
from ermoe_ba.training.run_part import whole_parts
from ermoe_ba.widening import Widening, conformal_slope, save_widening

# Share of the cohort's own scans, each seen by members that did not learn from it, whose interval
# keeps its width.
LEFT_ALONE = 0.95
COMMAND = "python pipelines/widening.py DATA RUN OUT"
FOR_MODEL = f"{COMMAND} --model MODEL"


def looks_of(described: torch.Tensor) -> Array:
    """Return the looks of scans, shape (N, Q), of descriptions of shape (N, T, F, C)."""
    # In half precision, as training keeps descriptions.
    return np.stack([look(one.half().float().numpy()) for one in described])


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path)
parser.add_argument("run", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--model", type=Path)
parser.add_argument("--settings", type=Path, default=Path(__file__).with_name("sites.toml"))
options = parser.parse_args()
data, run, out = options.data, options.run, options.out
trial = from_plain(SiteTrial, tomllib.loads(options.settings.read_text("utf-8")))
card = read_card(run)
settings = RunFolder(run).settings()
study = read_study(data / "participants.tsv", settings.t1w, None)
scans = {scan.participant_id: scan for scan in study.scans}
preprocessor = Preprocessor(card.preprocess)
cohort = PreparedCohort(run / "prepared", preprocessor)
age_of = read_participants(data / "participants.tsv").labelled.table["age"]
_, drawn_of = trial.numbered(age_of)

likenesses, own_distances, own_gaps, rows, fold_of = [], [], [], [], []
for fold, people in read_run_table(run / PREDICTIONS).groupby("fold"):
    ensemble = load_fold(run, int(str(fold)))
    described = load_file(run / "kept" / f"fold-{fold}_described.safetensors")
    # Without the changed copies: with them, the slope came out nearly three times as steep.
    likeness = fit_likeness(looks_of(described["train"][:, 0]))
    likenesses.append(likeness)
    own_distances += [likeness.distance(one) for one in looks_of(described["test"][:, 0])]
    own_gaps += people["brain_age_gap"].tolist()
    for person in (p for p in people["participant_id"] if p in drawn_of):
        rng = trial.generator(drawn_of[person], 0)
        site = trial.drawn.draw("drawn", rng)
        done = out / "drawn" / ensemble.model_id / f"{person}.json"
        row: dict[str, Any] = json.loads(done.read_text("utf-8")) if done.is_file() else {}
        # As JSON gives it back.
        told = json.loads(json.dumps(asdict(site)))
        if row.get("site") != told:
            cohort.prepare(scans[person])
            state = scan_prepared(cohort.read(scans[person]), site, preprocessor, rng)
            with torch.inference_mode():
                (seen,) = looks_of(described_once(ensemble, state)[0])
            gap = predict_age(ensemble, state).predicted_age - float(age_of[person])
            row = {"participant_id": person, "site": told, "gap": gap, "look": seen.tolist()}
            write_json(done, row)
        rows.append((row["gap"], likeness.distance(np.array(row["look"]))))
        fold_of.append(int(str(fold)))
        print(f"{person}: gap {row['gap']:+.1f} years, distance {rows[-1][1]:.2f}", flush=True)

gaps, distances = np.array(rows).T
start = float(np.quantile(own_distances, LEFT_ALONE))
known = {"half_width": card.half_width, "start": start, "coverage": card.coverage}
slope = conformal_slope(gaps, distances, **known)
model_id = ensemble.model_id
if options.model is not None:
    kept = options.model / "kept"
    paths = [kept / f"{p.name}_described.safetensors" for p in whole_parts(settings)]
    likenesses = [fit_likeness(looks_of(load_file(path)["train"][:, 0])) for path in paths]
    model_id = load_ensemble(str(options.model)).model_id
rule = Widening(
    model_id=model_id,
    likeness_s=tuple(likenesses),
    start=start,
    slope=slope,
    provenance={
        "cohort": str(card.provenance.get("data", "unknown")),
        "scans": f"{len(rows)} people, each at a simulated site of their own",
        "command": COMMAND if options.model is None else FOR_MODEL,
        "licence": str(card.provenance.get("licence", "unknown")),
    },
)
save_widening(out, rule)
error = np.abs(gaps).mean()
print(f"\n{len(rows)} scans at drawn sites: MAE {error:.2f}, mean gap {gaps.mean():+.2f}")
print(f"rule: start {start:.4f}, slope {slope:.4f}, identity {rule.identity}")
for name, years, far in (
    ("at drawn sites", gaps, distances),
    ("the cohort's own scans, out of fold", np.array(own_gaps), np.array(own_distances)),
):
    factor = np.array([rule.factor(one) for one in far])
    before, after = (
        np.mean(np.abs(years) <= card.half_width * by) for by in (np.ones_like(factor), factor)
    )
    print(
        f"{name}: distance {np.quantile(far, [0, 0.5, 0.9, 1]).round(2).tolist()} (least, median, "
        f"tenth, greatest); {np.mean(factor > 1):.1%} widened, mean factor {factor.mean():.2f}, "
        f"greatest {factor.max():.2f}; coverage {before:.1%} before, {after:.1%} after"
    )
# Each fold's people and sites by a slope that the others set.
factors = np.ones_like(gaps)
for fold in set(fold_of):
    here = np.array(fold_of) == fold
    theirs = replace(rule, slope=conformal_slope(gaps[~here], distances[~here], **known))
    factors[here] = [theirs.factor(one) for one in distances[here]]
covered = np.mean(np.abs(gaps) <= card.half_width * factors)
print(f"at drawn sites, each fold by the slope of the others: coverage {covered:.1%}")
print(f"Written: {out}")
