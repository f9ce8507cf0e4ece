"""Which shape of network starts best? Ridge starts on inner folds, in which every person chooses.

Command: python pipelines/start_trial.py RUN [--row NAME ...] [--nested]
Input:   RUN, a folder of `cross-validate` of the base recipe of `start_trial.toml`, with the
         descriptions that it kept.
Time:    about a minute of one core for a row; --nested takes as long for as many.
Result:  for each row of `start_trial.toml` the mean absolute error over the inner folds of every
         fold's training part, and the paired difference to the reference row, both with bootstrap
         intervals over participants. No network is trained beyond its start. A fold's test scans
         are left alone, but all people stand in the training parts of the other folds: a row
         chosen by this table was chosen by everybody, and flatters the model's figures.
         With --nested, what that choice is worth to people who had no part in it: each fold takes
         the row that errs least on its own inner folds, starts it on its whole training part, and
         reads its test scans; printed are the rows taken and the error on the test scans, beside
         that of the reference row on the same scans. Candidates are the rows asked for, or all of
         several experts that the eigenbasis score routes: the others ask what experts are worth.
         What the rows are was thought of with all folds in view; nothing here can tell of that.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from error_table import with_interval
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.cohort import Participants
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.roster import make_dense, make_mixture
from ermoe_ba.space import Array
from ermoe_ba.splits import split_folds
from ermoe_ba.training.ablation_recipe import AblationRecipe, RowConfig, read_ablation
from ermoe_ba.training.ablation_table import mean_interval
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.content_centre import centre_on
from ermoe_ba.training.readout_start import start_readouts
from ermoe_ba.training.run_folder import SCANS, SPLITS, read_run_table

RECIPE = Path(__file__).with_suffix(".toml")
# Three quarters of a fold's training part, as four fifths of the cohort are the part itself.
INNER_FOLDS = 4


@dataclass(frozen=True)
class FoldScans:
    """What a run kept of a fold: descriptions, unchanged first, and ages in years by participant.

    Shapes: N scans, V variants of each.
    """

    number: int
    train_nv: Tensor
    train_ages: pd.Series
    test_nv: Tensor
    test_ages: pd.Series


def read_fold(run: Path, number: int) -> FoldScans:
    """Return the scans of a fold in the order of ``scans.tsv``, as they were kept."""
    scans = read_run_table(run / SCANS)
    fold_of = read_run_table(run / SPLITS).set_index("participant_id")["fold"]
    fold_n = scans["participant_id"].map(fold_of)
    kept = load_file(run / "kept" / f"fold-{number}_described.safetensors")
    age_of = scans.set_index("participant_id")["chronological_age"]
    tested = (fold_n == number).to_numpy()
    return FoldScans(number, kept["train"], age_of[~tested], kept["test"], age_of[tested])


@torch.no_grad()
def start_ages(
    recipe: AblationRecipe, row: RowConfig, train_nv: Tensor, ages_n: Array, test_nv: Tensor
) -> Array:
    """Return the ages that a row's network gives at its start."""
    config, age = recipe.model_of(row), recipe.age_of(row)
    tokens = place_regions(token_grid(config), config)
    network: ErmoeBrainAge | AdditiveReadout
    if row.backbone == "experts":
        network = make_mixture(row.router, config, tokens, row.orthogonal)
    else:
        dense = make_dense(row.backbone, config, tokens)
        assert isinstance(dense, AdditiveReadout), "only read-outs have a ridge start"
        network = dense
    network.eval()
    ages = torch.as_tensor(ages_n, dtype=torch.float32)
    centre_on(network, train_nv[:, 0].float(), ages, age.spread_floor)
    start_readouts(
        network,
        train_nv,
        ages_n,
        age.ridge_strength,
        age.invariance,
        length=age.readout_length,
        shrinkage=age.readout_shrinkage,
    )
    output = network.read_age(test_nv[:, 0].float())
    return np.asarray((output if isinstance(output, Tensor) else output.age_b).numpy())


def inner_errors(recipe: AblationRecipe, row: RowConfig, fold: FoldScans) -> pd.Series:
    """Return the absolute error in years of each participant of a training part, by inner folds."""
    people, seen_nv, errors = fold.train_ages, fold.train_nv, []
    for seed in recipe.ablation.seeds:
        inner = split_folds(Participants(people.to_frame("age")), INNER_FOLDS, seed).to_numpy()
        found = np.empty(len(people))
        for number in range(INNER_FOLDS):
            inside, outside = inner != number, inner == number
            torch.manual_seed(seed)
            found[outside] = start_ages(
                recipe, row, seen_nv[inside], people.to_numpy()[inside], seen_nv[outside]
            )
        errors.append((people - found).abs())
    return mean_by_person(errors)


def tested_errors(recipe: AblationRecipe, row: RowConfig, fold: FoldScans) -> pd.Series:
    """Return the absolute error in years of each participant whom a fold tests."""
    errors = []
    for seed in recipe.ablation.seeds:
        torch.manual_seed(seed)
        # A copy, since torch would share what pandas guards.
        ages_n = fold.train_ages.to_numpy(copy=True)
        found = start_ages(recipe, row, fold.train_nv, ages_n, fold.test_nv)
        errors.append((fold.test_ages - found).abs())
    return mean_by_person(errors)


def mean_by_person(errors: list[pd.Series]) -> pd.Series:
    """Return each participant's mean over those of several series that have it."""
    return pd.concat(errors, axis=1).mean(axis=1)


def is_candidate(recipe: AblationRecipe, row: RowConfig) -> bool:
    """Tell whether a row could ship: several experts, routed by their eigenbases."""
    config = recipe.model_of(row)
    several = len(config.regions) + config.num_free_experts > 1
    return row.backbone == "experts" and row.router == "eigenbasis" and several


def error_text(errors: pd.Series, recipe: AblationRecipe, sign: str = "") -> str:
    """Return a mean over participants with its interval; `sign` "+" shows that of differences."""
    return with_interval(errors.mean(), *mean_interval(errors.to_numpy(), recipe), sign=sign)


def print_table(recipe: AblationRecipe, rows: list[RowConfig], run: Path) -> None:
    """Print the error of each row on inner folds, a line as soon as it is known."""
    folds = [read_fold(run, number) for number in recipe.ablation.folds]

    def everybody(row: RowConfig) -> pd.Series:
        return mean_by_person([inner_errors(recipe, row, fold) for fold in folds])

    reference = everybody(reference_row(recipe))
    for row in tqdm(rows, unit="row"):
        errors = everybody(row)
        tqdm.write(
            f"{row.name:16} {error_text(errors, recipe)}   "
            f"{error_text(errors - reference, recipe, '+')} years"
        )


def print_nested(recipe: AblationRecipe, rows: list[RowConfig], run: Path) -> None:
    """Print which row each fold takes, and what those rows are worth on the test scans."""
    reference, taken_errors, reference_errors = reference_row(recipe), [], []
    for number in recipe.ablation.folds:
        fold = read_fold(run, number)
        means = {
            row.name: inner_errors(recipe, row, fold).mean()
            for row in tqdm(rows, desc=f"fold {number}", unit="row")
        }
        # The first of equals, in the order of the recipe or of the command.
        taken = min(rows, key=lambda row: means[row.name])
        taken_errors.append(tested_errors(recipe, taken, fold))
        reference_errors.append(tested_errors(recipe, reference, fold))
        tqdm.write(
            f"fold {number} takes {taken.name} of {len(rows)}: {means[taken.name]:.2f} on inner "
            f"folds; test scans {taken_errors[-1].mean():.2f}, {reference.name} "
            f"{reference_errors[-1].mean():.2f} years"
        )
    chosen, fixed = pd.concat(taken_errors), pd.concat(reference_errors)
    tqdm.write(f"test scans, each fold's own row {error_text(chosen, recipe)} years")
    tqdm.write(f"test scans, {reference.name} {error_text(fixed, recipe)} years")
    tqdm.write(f"difference {error_text(chosen - fixed, recipe, '+')} years")


def reference_row(recipe: AblationRecipe) -> RowConfig:
    """Return the row that the others are compared with."""
    return next(row for row in recipe.row if row.name == recipe.ablation.reference)


def main() -> None:
    """Print the table, or what choosing by it is worth."""
    recipe = read_ablation(RECIPE)
    rows = {row.name: row for row in recipe.row}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--row", nargs="+", default=[], choices=list(rows), metavar="NAME")
    parser.add_argument("--nested", action="store_true", help="each fold takes a row for itself")
    options = parser.parse_args()
    asked = [rows[name] for name in options.row]
    if not options.nested:
        print_table(recipe, asked or list(recipe.row), options.run)
        return
    rivals = [row.name for row in asked if not is_candidate(recipe, row)]
    if rivals:
        parser.error(
            "--nested chooses among networks of several experts with the eigenbasis score; found "
            f"{', '.join(rivals)}: leave that out of --row."
        )
    candidates = [row for row in recipe.row if is_candidate(recipe, row)]
    print_nested(recipe, asked or candidates, options.run)


if __name__ == "__main__":
    main()
