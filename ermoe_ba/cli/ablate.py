"""``ermoe-ba ablate``: the network and its rivals, trained alike and compared in one table."""

import argparse

from ermoe_ba.training.ablation import Ablation
from ermoe_ba.training.ablation_recipe import read_ablation
from ermoe_ba.training.ablation_table import as_markdown


def run_ablate(options: argparse.Namespace) -> int:
    """Run or go on with an ablation; print its table.

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
        If recipe, table or a folder cannot be used.
    """
    ablation = Ablation(
        read_ablation(options.recipe),
        options.participants,
        options.out,
        run=options.run,
        resume=options.resume,
    )
    table = ablation.run(options.fold)
    if table is None:
        print(f"Fold done; the others are still to come in {options.out}.")
    else:
        print(as_markdown(table))
    return 0
