"""``ermoe-ba train``: one model of everybody, with the figures of a cross-validation."""

import argparse

from ermoe_ba.assets import recipe_file
from ermoe_ba.cli.study import tell_study
from ermoe_ba.training.final_model import FinalModel
from ermoe_ba.training.processes import Processes
from ermoe_ba.training.recipe import read_recipe


def run_train(options: argparse.Namespace) -> int:
    """Train the model, or go on with it.

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
        If recipe, table, run or a folder cannot be used.
    """
    model = FinalModel(
        read_recipe(recipe_file(options.recipe)),
        options.participants,
        options.run,
        options.out,
        prepared=options.prepared,
        jobs=options.jobs,
        skip_unusable=options.skip_unusable,
    )
    # Of torchrun's processes one speaks for all.
    speaks = Processes().is_main
    if speaks:
        tell_study(model.study)
    metrics = model.run()
    if speaks:
        print(
            f"Written: {options.out}, for --model. It has seen all these scans; its error is that "
            f"of {options.run}, out of fold: MAE {metrics['mae']:.2f} years."
        )
    return 0
