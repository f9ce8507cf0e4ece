"""What would still lower the error after training? Each answer out of fold, nothing retrained.

Command: python pipelines/levers.py RUN DATA
Input:   RUN, a finished `ermoe-ba cross-validate` with what it kept; DATA/participants.tsv and its
         label maps, as the recipe of RUN names them.
Time:    about three minutes of one core, most of it for mirrored scans.
Result:  printed, for each lever: MAE in years with a 95 % bootstrap interval over participants, and
         the paired difference to the run as it is. Regressions on volumes learn from a fold's
         training part; how much they count beside the network is learnt from the other folds'
         out-of-fold ages.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from error_table import print_errors
from safetensors.torch import load_file
from sklearn.linear_model import LinearRegression
from torch import Tensor
from tqdm import tqdm

from ermoe_ba.checkpoint import Ensemble, load_fold
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.model_card import read_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import Array
from ermoe_ba.study import read_study
from ermoe_ba.training.age import changed_copies
from ermoe_ba.training.change_config import USUAL
from ermoe_ba.training.regional_volumes import REGRESSIONS, label_volumes, make_regression
from ermoe_ba.training.run_folder import SPLITS, RunFolder, read_run_table


@torch.inference_mode()
def member_ages(ensemble: Ensemble, described_btfc: Tensor) -> Array:
    """Return the age in years that each member gives, shape (members, B)."""
    ages = [member.read_age(described_btfc).age_b for member in ensemble.members]
    return np.asarray(torch.stack(ages).numpy(), dtype=float)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    run = RunFolder(options.run).settings()
    study = read_study(options.data / "participants.tsv", run.t1w, run.labels)
    people = np.array([scan.participant_id for scan in study.scans])
    ages = np.array([scan.chronological_age for scan in study.scans])
    fold_of = read_run_table(options.run / SPLITS).set_index("participant_id")["fold"]
    fold_n = fold_of[people].to_numpy()
    cohort = PreparedCohort(
        options.run / "prepared", Preprocessor(read_card(options.run).preprocess)
    )
    volumes = label_volumes(study.scans, sorted(run.tissues(study.root)))

    bounds = read_card(options.run).model.age_bounds
    as_is = np.empty((run.num_starts, len(people)))
    mirrored = np.empty_like(as_is)
    of_volumes = {name: np.empty(len(people)) for name in REGRESSIONS}
    for fold in tqdm(range(run.num_folds), unit="fold"):
        test = fold_n == fold
        ensemble = load_fold(options.run, fold)
        kept = load_file(options.run / "kept" / f"fold-{fold}_described.safetensors")["test"]
        as_is[:, test] = member_ages(ensemble, kept[:, 0].float())
        prepared = [cohort.read(study.scans[number]) for number in np.flatnonzero(test)]
        turned = changed_copies(ensemble.members[0].describe, prepared, 1, 0, USUAL.alone("flip"))
        mirrored[:, test] = member_ages(ensemble, turned[:, 0].float())
        for name, found in of_volumes.items():
            regression = make_regression(name, volumes.shape[1], bounds)
            found[test] = regression.fit(volumes[~test], ages[~test]).predict(volumes[test])

    network = as_is.mean(axis=0)
    rows = {"as it is": network}
    for count in range(1, run.num_starts):
        rows[f"first {count} of {run.num_starts} starts"] = as_is[:count].mean(axis=0)
    rows["mean with the mirrored scan"] = (network + mirrored.mean(axis=0)) / 2
    for name, found in of_volumes.items():
        rows[f"{name} on volumes alone"] = found
        rows[f"mean with {name} on volumes"] = (network + found) / 2
        columns, stacked = np.stack([network, found], axis=1), np.empty(len(people))
        for fold in range(run.num_folds):
            test = fold_n == fold
            # No age is read against its volume's or its network's better judgement.
            stack = LinearRegression(positive=True).fit(columns[~test], ages[~test])
            stacked[test] = stack.predict(columns[test])
        rows[f"stacked with {name} on volumes"] = stacked
    print_errors(rows, ages, people, "as it is")


if __name__ == "__main__":
    main()
