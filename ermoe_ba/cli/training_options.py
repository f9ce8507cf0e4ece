"""Options of the commands that train: cross-validate, train, fine-tune and ablate."""

import argparse
from pathlib import Path

from ermoe_ba.cli.options import add_study


def add_training(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> tuple[argparse.ArgumentParser, ...]:
    """Offer the commands that train.

    Parameters
    ----------
    commands : _SubParsersAction
        What ``add_subparsers`` returned; takes the commands.

    Returns
    -------
    tuple of ArgumentParser
        One a command; options of all commands are still to come.
    """
    validate = commands.add_parser("cross-validate", help="train and test a recipe over folds")
    train = commands.add_parser("train", help="train one model of a recipe on all scans")
    tune = commands.add_parser("fine-tune", help="fit a trained model to one site, and test that")
    ablate = commands.add_parser("ablate", help="compare networks, trained alike, in one table")
    for command in (validate, train):
        command.add_argument(
            "recipe",
            metavar="RECIPE.toml",
            help="settings of the run; by name alone those that are installed: site, ixi_hh",
        )
    ablate.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="settings of the run")
    for command in (validate, train, tune, ablate):
        command.add_argument("--participants", required=True, type=Path, metavar="TSV")
        command.add_argument("--out", required=True, type=Path, metavar="DIR")
    for command in (validate, train, tune):
        add_study(command)
    for command in (validate, train):
        command.description = (
            "What a stopped run left in --out is gone on with: give the same command again, with "
            "--resume or without it."
        )
        command.add_argument(
            "--resume",
            action="store_true",
            help="changes nothing: the same command goes on with what --out holds, if anything",
        )
    part = validate.add_mutually_exclusive_group()
    for place in (part, ablate):
        place.add_argument(
            "--fold", type=int, metavar="K", help="train this fold only, to share the work out"
        )
    part.add_argument(
        "--prepare-only",
        action="store_true",
        help="stop when scans, folds and recipe stand, for jobs that then train a fold each",
    )
    validate.add_argument(
        "--splits",
        type=Path,
        metavar="TSV",
        help="folds of your own: participant_id and fold; default: drawn as the recipe says",
    )
    train.add_argument(
        "--run",
        required=True,
        type=Path,
        metavar="DIR",
        help="finished cross-validation of the same recipe and scans: its figures are the model's",
    )
    tune.add_argument(
        "--model", metavar="NAME|PATH", help="a shipped model or a model folder; default: shipped"
    )
    tune.add_argument(
        "--t1w",
        metavar="PATTERN",
        help="path of a scan relative to the table, with {participant_id} in it; default: the "
        "table lies in the root of a BIDS data set",
    )
    ablate.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="of cross-validate, whose stems are taken; default: train them in --out",
    )
    ablate.add_argument(
        "--resume", action="store_true", help="go on with the ablation that --out holds"
    )
    return validate, train, tune, ablate
