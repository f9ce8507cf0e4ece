"""``ermoe-ba fine-tune``: a trained model fitted to one site, beside the model as it was."""

import argparse

from ermoe_ba.cli.study import tell_study
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.training.fine_tune import FineTuning

# What is shown of both models, and in which unit.
SHOWN = {"mae": "years", "rmse": "years", "bias": "years", "gap_slope": "years a year", "r": ""}


def run_fine_tune(options: argparse.Namespace) -> int:
    """Tune a model; print what it is worth tuned and untuned, out of fold.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0, whether or not tuning helped.

    Raises
    ------
    UsageError
        If model, table or a folder cannot be used.
    """
    tuning = FineTuning(
        options.model or DEFAULT_MODEL,
        options.participants,
        options.out,
        t1w=options.t1w,
        prepared=options.prepared,
        jobs=options.jobs,
        skip_unusable=options.skip_unusable,
    )
    tell_study(tuning.study)
    metrics = tuning.run()
    untuned, tuned = metrics["untuned"], metrics["tuned"]
    print(f"{'out of fold':12} {'untuned':>8} {'tuned':>8}")
    for name, unit in SHOWN.items():
        print(f"{name:12} {untuned[name]:8.2f} {tuned[name]:8.2f}  {unit}")
    print(
        f"Way chosen on all scans: {metrics['way']}; by fold: {', '.join(metrics['way_by_fold'])}."
    )
    print(metrics["remark"])
    if tuned["mae"] >= untuned["mae"]:
        print("Tuning did not help here: use the model as it is.")
    print(f"Written: {options.out}, for --model.")
    return 0
