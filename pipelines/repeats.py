"""Tell how far the error of a cross-validation depends on the draw of its folds.

Command: python pipelines/repeats.py RUN [--repeats K]
Input:   RUN, a folder of `ermoe-ba cross-validate` whose recipe has `num_repeats` above 1 in
         [run]; repeats that are not finished are left out, and the others keep their numbers, as
         their files bear them, the first being 0. K: the first K repeats, finished or not.
Time:    seconds; a repeat of the shipped recipe takes about 50 minutes of one core before.
Result:  printed, for each repeat, for all rows together (a mean over repeats) and for each
         participant's mean age over repeats (a larger ensemble): MAE, r and slope of the gap on
         age, each with a 95 % bootstrap interval over participants; MAE by decade.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from error_table import with_interval

from ermoe_ba.cli.options import count_of
from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.metrics import age_figures, mae_by_group
from ermoe_ba.training.run_folder import RunFolder, read_run_table
from ermoe_ba.training.run_part import fold_part

SHOWN = ("mae", "r", "gap_slope")


def read_repeats(out: Path, first: int | None = None) -> dict[int, pd.DataFrame]:
    """Return the out-of-fold ages of each repeat that is whole, of the first ones or all."""
    folder, tables = RunFolder(out), {}
    run = folder.settings()
    for repeat in range(run.num_repeats)[:first]:
        parts = [fold_part(run, fold, repeat) for fold in range(run.num_folds)]
        paths = [folder.predictions(part) for part in parts]
        if all(path.is_file() for path in paths):
            found = [read_run_table(path) for path in paths]
            tables[repeat] = pd.concat(found, ignore_index=True)
    return tables


def line(name: str, table: pd.DataFrame) -> str:
    """Return a row of what is printed."""
    ages, predicted = (table[f"{kind}_age"].to_numpy() for kind in ("chronological", "predicted"))
    found = estimates(
        lambda weights_bn: age_figures(ages, predicted, weights_bn),
        table["participant_id"].to_numpy(),
    )
    gaps = table.assign(brain_age_gap=predicted - ages)
    decades = mae_by_group(gaps)["mae_by_decade"]
    by_decade = " ".join(f"{decade}s {mae:.1f}" for decade, mae in decades.items())
    return f"{name:16} {'  '.join(with_interval(**found[figure]) for figure in SHOWN)}  {by_decade}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=count_of, metavar="K")
    options = parser.parse_args()
    tables = read_repeats(options.run, options.repeats)
    if not tables:
        print(f"{options.run}: no repeat is finished.", file=sys.stderr)
        return 2
    rows = {f"repeat {number}": table for number, table in tables.items()}
    together = pd.concat(tables.values(), ignore_index=True)
    rows["all rows"] = together
    rows["means of ages"] = together.groupby(["participant_id", "scan"], as_index=False).agg(
        {"chronological_age": "first", "predicted_age": "mean", "fold": "first"}
    )
    print(f"{'':16} {'   '.join(SHOWN)}   MAE by decade; {len(tables)} repeats")
    for name, table in rows.items():
        print(line(name, table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
