"""Options that commands share, and those of `ermoe-ba maps`."""

import argparse
from pathlib import Path


def count_of(text: str) -> int:
    """Read a whole number of at least 1.

    Parameters
    ----------
    text : str
        As typed.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ArgumentTypeError
        If the number is less.
    ValueError
        If it is no whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; found {number}")
    return number


def add_atlas(parser: argparse.ArgumentParser) -> None:
    """Offer the choice of an atlas.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument("--atlas", metavar="NAME|PATH", help="atlas of the region table")
    parser.add_argument(
        "--atlas-labels",
        type=Path,
        metavar="TABLE",
        help="names of the regions of an atlas given by path (.tsv, .txt, .json); default: the "
        "table of the same name beside it",
    )
    parser.add_argument(
        "--atlas-space",
        metavar="SPACE",
        help="space of an atlas given by path, where its file name does not tell",
    )


def add_maps(parser: argparse.ArgumentParser) -> None:
    """Offer what `ermoe-ba maps` asks for.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="DIR",
        help="that `predict` wrote, with its maps; or a finished run of `cross-validate`, whose "
        "scans are then seen by the members alone that were not trained on them",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="for results")
    parser.add_argument(
        "--participants", type=Path, metavar="TSV", help="ages, and columns for --groups"
    )
    parser.add_argument(
        "--groups", metavar="COLUMN", help="of the participants table: compare its groups"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="that predicted, for what it owes to its experts; default: what the predictions name, "
        "if it is shipped",
    )
    add_atlas(parser)
    parser.add_argument(
        "--permutations", type=count_of, default=5000, metavar="N", help="of effects, default: 5000"
    )
    # Corrected over the 1,500 p values of a large atlas, 1 in 10,000 is nothing: the smallest p
    # must be smaller still.
    parser.add_argument(
        "--surrogates", type=count_of, default=99999, metavar="N", help="of regions, default: 99999"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--overwrite", action="store_true", help="replace maps that DIR holds")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
