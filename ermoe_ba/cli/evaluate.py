"""``ermoe-ba evaluate``: what predicted ages are worth, as tables and as a page."""

import argparse
import sys
from pathlib import Path

from ermoe_ba.evaluation import Evaluation, evaluate
from ermoe_ba.training_scans import SEEN, seen_remark


def run_evaluate(options: argparse.Namespace) -> int:
    """Evaluate a table of predictions; print what it is worth.

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
        If a table or a run cannot be used.
    """
    evaluation = evaluate(options.predictions, options.participants, options.runs)
    write_evaluation(evaluation, options.out, options.predictions.resolve().parent.name)
    counts = evaluation.metrics["evaluation"][SEEN]
    if counts and (remark := seen_remark(counts)):
        print(f"note    {remark}", file=sys.stderr)
    print_evaluation(evaluation)
    print(f"Tables and page in {options.out}.")
    return 0


def write_evaluation(evaluation: Evaluation, out: Path, title: str) -> None:
    """Write the files of an evaluation and its page.

    Parameters
    ----------
    evaluation : Evaluation
        Its tables and figures.
    out : Path
        Folder for them, and for ``evaluation.html``.
    title : str
        Heading of the page.
    """
    # Drawing brings matplotlib along, which the figures do without.
    from ermoe_ba.report.cohort_page import write_cohort_page

    evaluation.write(out)
    write_cohort_page(out / "evaluation.html", evaluation, title)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures that a reader asks for first, uncorrected.

    Parameters
    ----------
    evaluation : Evaluation
        From `evaluate`.
    """
    details = evaluation.metrics["evaluation"]
    for reason, count in details["left_out"].items():
        print(f"{count} rows left out: {reason}")
    for name, figure in details["accuracy"]["overall"].items():
        print(f"{name:32} {_in_numbers(figure)}")
    for group in details["accuracy"]["by_decade"]:
        print(f"{'mae ' + group['group'] + 's':32} {_in_numbers(group['mae'])}")
    for method in ("constant", "local"):
        for level in details["prediction_intervals"][method]:
            name = f"coverage {level['nominal']:.0%} {method}"
            print(
                f"{name:32} {_in_numbers(level['coverage'])}  width {level['mean_width']:.1f}  "
                + "  ".join(f"{g['group']}s {g['coverage']:.2f}" for g in level["by_decade"])
            )


def _in_numbers(figure: dict[str, float | None]) -> str:
    value, low, high = ("n/a" if v is None else f"{v:.3f}" for v in figure.values())
    return f"{value} ({low} to {high})"
