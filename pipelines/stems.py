"""Is a mean over stems worth more than members of one? Runs of the same folds, alone and together.

Command: python pipelines/stems.py RUN OTHER [OTHER ...]
Input:   finished runs of `ermoe-ba cross-validate` on the same people and folds, each with stems
         and members of its own: OTHER of the recipe with another `seed`, and with
         `--splits RUN/splits.tsv`.
Time:    seconds; an OTHER with one start a fold takes some twenty minutes of one core.
Result:  printed: MAE in years out of fold, with a 95 % bootstrap interval over participants, of
         each run and of their mean, and the paired difference to RUN.
"""

import argparse
from pathlib import Path

import pandas as pd
from error_table import print_errors

from ermoe_ba.tables import PREDICTIONS
from ermoe_ba.training.run_folder import read_run_table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("others", type=Path, nargs="+", metavar="OTHER")
    options = parser.parse_args()
    runs = [options.run, *options.others]
    tables = [read_run_table(run / PREDICTIONS).set_index("scan").sort_index() for run in runs]
    same = ["participant_id", "fold", "chronological_age"]
    for run, table in zip(runs, tables, strict=True):
        if not table[same].equals(tables[0][same]):
            parser.error(f"{run} must hold the scans and folds of {options.run}.")
    ages = pd.concat([table["predicted_age"] for table in tables], axis=1).to_numpy()
    names = [run.name or str(run) for run in runs]
    by_row = dict(zip(names, ages.T, strict=True)) | {"mean of all": ages.mean(axis=1)}
    people = tables[0]["participant_id"].to_numpy()
    print_errors(by_row, tables[0]["chronological_age"].to_numpy(), people, names[0])


if __name__ == "__main__":
    main()
