"""``ermoe-ba preprocess``: scans into a BIDS derivative data set."""

import argparse

from ermoe_ba.cli.predict import PAGE, chosen_device, load_ahead
from ermoe_ba.cli.progress import run_tasks
from ermoe_ba.cli.scans import meant_scans
from ermoe_ba.cli.summary import exit_code
from ermoe_ba.derivative_dataset import describe_dataset
from ermoe_ba.derivatives import derivatives_of
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.workers import Outcome, PreprocessSettings, Task


def run_preprocess(options: argparse.Namespace) -> int:
    """Preprocess all inputs.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0 if all are done, 1 if some failed or were refused.

    Raises
    ------
    UsageError
        If the call itself is wrong: before anything is computed.
    """
    load_ahead(options.jobs)
    scans = meant_scans(options)
    settings = PreprocessSettings(
        config=read_card(model_folder(options.model or DEFAULT_MODEL)).preprocess,
        device=chosen_device(options.device),
        overwrite=options.overwrite,
        debug=options.debug,
    )
    worker = settings.start()
    describe_dataset(options.out)
    tasks = [
        Task(scan=scan, folder=place.folder, derivative=place)
        for scan, place in zip(scans, derivatives_of(options.out, scans), strict=True)
    ]
    from ermoe_ba.report import QualityPage

    with QualityPage("Preprocessed scans") as page:

        def finished(done: dict[int, Outcome], newest: int) -> None:
            page.add(newest, done[newest].row, done[newest].thumbnail)

        outcomes = run_tasks(settings, worker, tasks, options.jobs, finished)
        page.write(options.out / PAGE)
    failed = sum(outcome.row["status"] != "ok" for outcome in outcomes)
    if failed:
        print(
            f"{failed} of {len(outcomes)} scans failed or were refused; the messages above say why."
        )
    print(f"Written: {options.out}, preprocessing {settings.config.identity()}")
    return exit_code(outcomes)
