"""``ermoe-ba phantom``: a simulated cohort whose ageing is known."""

import argparse

from ermoe_ba.assets import atlas_root
from ermoe_ba.atlas import DEFAULT_ATLAS, registry
from ermoe_ba.errors import UsageError
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.dataset import PhantomDataset


def run_phantom(options: argparse.Namespace) -> int:
    """Make or go on with a phantom cohort.

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
        If the call is wrong: before anything is computed.
    """
    youngest, oldest = _ages(options.ages)
    config = PhantomConfig(
        seed=options.seed,
        youngest=youngest,
        oldest=oldest,
        variation=options.variation,
        spare=tuple(options.spare or ()),
        only=tuple(options.only or ()),
        accelerate=tuple(options.accelerate or ()),
        acceleration=options.acceleration,
        head=options.head,
    )
    atlas_file = atlas_root() / registry()[DEFAULT_ATLAS]["file"]
    dataset = PhantomDataset(options.out, config, atlas_file, options.anatomies)
    table = dataset.make(options.n, options.jobs)
    print(
        f"{len(table)} subjects of {table['age'].min():.0f} to {table['age'].max():.0f} years in "
        f"{options.out}; the truth is in participants.tsv and derivatives/phantom."
    )
    return 0


def _ages(text: str) -> tuple[float, float]:
    try:
        youngest, oldest = (float(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(
            f"--ages must be two numbers of years such as 18:90; found {text!r}."
        ) from None
    return youngest, oldest
