"""Is a committee of folds worth a model of everybody? Networks of four fifths against such of all.

Command: python pipelines/committee.py RUN
Input:   RUN, a folder of `cross-validate` of the base recipe of `start_trial.toml`, with the
         descriptions that it kept.
Time:    about five minutes of one core.
Result:  printed: MAE in years, with a 95 % bootstrap interval over participants, of each person's
         mean age out of fold, where five networks at their ridge start learnt from all of a fold's
         training part; and the paired differences where each of the five lacked another fifth of
         it, as the members of a model that `cross-validate` makes lack a fold, and where one
         network learnt the mean age that the five of everybody gave each of the part.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from error_table import print_errors
from start_trial import RECIPE, read_fold, reference_row, start_ages
from tqdm import tqdm

from ermoe_ba.cohort import Participants
from ermoe_ba.space import Array
from ermoe_ba.splits import split_folds
from ermoe_ba.training.ablation_recipe import read_ablation

# As many as the folds of the shipped model.
MEMBERS = 5
EVERYBODY, COMMITTEE = "each of everybody", "each of four fifths"
DISTILLED = "one, taught by those of everybody"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    recipe = read_ablation(RECIPE)
    row = reference_row(recipe)
    people: list[str] = []
    ages: list[Array] = []
    predicted: dict[str, list[Array]] = {EVERYBODY: [], COMMITTEE: [], DISTILLED: []}
    for number in tqdm(recipe.ablation.folds, unit="fold"):
        fold = read_fold(options.run, number)
        people += list(fold.test_ages.index)
        ages.append(fold.test_ages.to_numpy())
        ages_n = fold.train_ages.to_numpy()
        cohort = Participants(fold.train_ages.to_frame("age"))
        left_out_n = split_folds(cohort, MEMBERS, recipe.ablation.seeds[0]).to_numpy()
        # Unchanged, as a scan is predicted: those tested, then those learnt from.
        asked_nv = torch.cat([fold.test_nv[:, :1], fold.train_nv[:, :1]])
        tested = len(fold.test_ages)
        mean_of = {}
        for name in (EVERYBODY, COMMITTEE):
            members = []
            for member in range(MEMBERS):
                seen = left_out_n != (member if name == COMMITTEE else MEMBERS)
                # Each network starts from another chance, in both rows the same.
                torch.manual_seed(member)
                train_nv = fold.train_nv[torch.as_tensor(seen)]
                members.append(start_ages(recipe, row, train_nv, ages_n[seen], asked_nv))
            mean_of[name] = np.mean(members, axis=0)
            predicted[name].append(mean_of[name][:tested])
        torch.manual_seed(0)
        told_n = mean_of[EVERYBODY][tested:]
        found = start_ages(recipe, row, fold.train_nv, told_n, fold.test_nv[:, :1])
        predicted[DISTILLED].append(found)
    by_row = {name: np.concatenate(found) for name, found in predicted.items()}
    print_errors(by_row, np.concatenate(ages), np.array(people), EVERYBODY)


if __name__ == "__main__":
    main()
