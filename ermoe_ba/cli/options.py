"""Options that several commands share."""

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


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Offer the choice among the scans of a data set.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    for entity, short in (("participant", "sub"), ("session", "ses")):
        parser.add_argument(
            f"--{entity}-label",
            f"--{entity}_label",
            nargs="+",
            default=[],
            metavar="LABEL",
            help=f"of a BIDS data set, these alone (with or without {short}-)",
        )
    parser.add_argument(
        "--one-per-session",
        action="store_true",
        help="of several T1w scans of a session, take one: without contrast agent before with, "
        "then fewest entities in the name, then the last run",
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Offer processes, and what `add_device` does.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument(
        "--jobs", type=count_of, default=1, metavar="N", help="processes, each with one thread"
    )
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Offer where to compute, and tracebacks.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def add_prediction(parser: argparse.ArgumentParser) -> None:
    """Offer what predictions are made with and what is written of them.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument(
        "--participants",
        type=Path,
        metavar="TSV",
        help="participants.tsv with participant_id and age; only adds chronological_age and gap",
    )
    parser.add_argument("--model", metavar="NAME|PATH", help="a shipped model or a model folder")
    add_atlas(parser)
    add_preprocessed(parser)
    parser.add_argument(
        "--scan-space",
        action="append",
        choices=("experts", "winners", "contributions"),
        default=[],
        help="also write these maps on the scan's own grid; may be given several times",
    )
    parser.add_argument("--no-maps", action="store_true", help="no maps, region table or report")
    parser.add_argument("--no-report", action="store_true", help="no HTML report")
    parser.add_argument(
        "--force", action="store_true", help="give an age where the scan's quality forbids it"
    )


def add_preprocessed(parser: argparse.ArgumentParser) -> None:
    """Offer scans that were preprocessed before.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument(
        "--preprocessed",
        type=Path,
        metavar="DIR",
        help="what `preprocess` wrote; used where it is of these scans and fits the model",
    )


def add_study(parser: argparse.ArgumentParser) -> None:
    """Offer how the scans of a study are prepared.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command; takes the options.
    """
    parser.add_argument(
        "--prepared",
        type=Path,
        metavar="DIR",
        help="where prepared scans are kept, for several runs to share; default: in --out",
    )
    parser.add_argument(
        "--jobs", type=count_of, default=1, metavar="N", help="processes that prepare scans"
    )
    parser.add_argument(
        "--skip-unusable",
        action="store_true",
        help="go on without scans that cannot be used; unusable.tsv names them either way",
    )
