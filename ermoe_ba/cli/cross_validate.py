"""``ermoe-ba cross-validate``: from raw scans to out-of-fold ages and an ensemble."""

import argparse

import numpy as np

from ermoe_ba.assets import recipe_file
from ermoe_ba.cli.evaluate import print_evaluation, write_evaluation
from ermoe_ba.cli.study import tell_study
from ermoe_ba.evaluation import evaluate
from ermoe_ba.parquet import write_parquet_beside
from ermoe_ba.tables import PREDICTIONS
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.processes import Processes
from ermoe_ba.training.recipe import read_recipe


def run_cross_validate(options: argparse.Namespace) -> int:
    """Run or go on with a cross-validation, or prepare it; evaluate it and print its metrics.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0.

    Raises
    ------
    UsageError
        If recipe, table, splits or a folder cannot be used.
    """
    recipe = read_recipe(recipe_file(options.recipe))
    run = CrossValidation(
        recipe,
        options.participants,
        options.out,
        splits=options.splits,
        prepared=options.prepared,
        jobs=options.jobs,
        skip_unusable=options.skip_unusable,
    )
    # Of torchrun's processes one speaks for all.
    speaks = Processes().is_main
    if speaks:
        tell_study(run.study)
    if options.prepare_only:
        run.prepare()
        print(f"Scans, folds and recipe stand in {options.out}; each --fold K can begin.")
        return 0
    metrics = run.run(options.fold)
    if metrics is None:
        if speaks:
            print(f"Fold done; the others are still to come in {options.out}.")
        return 0
    for name, value in metrics.items():
        parts = value if isinstance(value, dict) else {"": value}
        print(f"{name:32} {'  '.join(f'{k} {np.round(v, 3)}'.strip() for k, v in parts.items())}")
    table = options.out / PREDICTIONS
    evaluation = evaluate(table, options.participants)
    write_parquet_beside(table, len(evaluation.table))
    write_evaluation(evaluation, options.out, recipe.run.name)
    print_evaluation(evaluation)
    return 0
