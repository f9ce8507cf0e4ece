"""Which shape of network starts best? Ridge starts on inner folds, the test folds left alone.

Command: python pipelines/start_trial.py RUN [--row NAME ...]
Input:   RUN, a folder of `cross-validate` of the base recipe of `start_trial.toml`, with the
         descriptions that it kept.
Time:    about half a minute of one core for a row.
Result:  for each row of `start_trial.toml` the mean absolute error over the inner folds of every
         fold's training part, and the paired difference to the reference row, both with bootstrap
         intervals over participants. No network is trained beyond its start.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.cohort import Participants
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.roster import make_dense, make_mixture
from ermoe_ba.space import Array
from ermoe_ba.splits import split_folds
from ermoe_ba.training.ablation_recipe import AblationRecipe, RowConfig, read_ablation
from ermoe_ba.training.ablation_table import mean_interval
from ermoe_ba.training.content_centre import centre_on
from ermoe_ba.training.readout_start import start_readouts

RECIPE = Path(__file__).with_suffix(".toml")
# Three quarters of a fold's training part, as four fifths of the cohort are the part itself.
INNER_FOLDS = 4


@torch.no_grad()
def start_ages(
    recipe: AblationRecipe, row: RowConfig, train_nv: Tensor, ages_n: Array, test_nv: Tensor
) -> Array:
    """Return the ages that a row's network gives at its start."""
    config, age, tokens = recipe.model_of(row), recipe.age_of(row), token_grid(recipe.base.model)
    if row.backbone == "experts":
        network = make_mixture(row.router, config, tokens, row.orthogonal)
    else:
        network = make_dense(row.backbone, config, tokens)
        assert isinstance(network, AdditiveReadout), "only read-outs have a ridge start"
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
    )
    output = network.read_age(test_nv[:, 0].float())
    return np.asarray((output if isinstance(output, Tensor) else output.age_b).numpy())


def inner_errors(recipe: AblationRecipe, row: RowConfig, run: Path) -> pd.Series:
    """Return each participant's mean absolute error in years over the folds that trained on it."""
    scans = pd.read_csv(run / "scans.tsv", sep="\t", dtype={"participant_id": str})
    fold_of = pd.read_csv(run / "splits.tsv", sep="\t", dtype={"participant_id": str})
    fold_n = scans["participant_id"].map(fold_of.set_index("participant_id")["fold"])
    errors = []
    for fold in recipe.ablation.folds:
        seen_nv = load_file(run / "kept" / f"fold-{fold}_described.safetensors")["train"]
        people = scans[fold_n != fold].set_index("participant_id")["chronological_age"]
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
    return pd.concat(errors, axis=1).mean(axis=1)


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--row", nargs="+", default=[])
    options = parser.parse_args()
    recipe = read_ablation(RECIPE)
    rows = {row.name: row for row in recipe.row}
    reference = inner_errors(recipe, rows[recipe.ablation.reference], options.run)
    for name in tqdm(options.row or list(rows), unit="row"):
        errors = inner_errors(recipe, rows[name], options.run)
        low, high = mean_interval(errors.to_numpy(), recipe)
        less, more = mean_interval((errors - reference).to_numpy(), recipe)
        tqdm.write(
            f"{name:16} {errors.mean():.2f} ({low:.2f} to {high:.2f})   "
            f"{(errors - reference).mean():+.2f} ({less:+.2f} to {more:+.2f}) years"
        )


if __name__ == "__main__":
    main()
