"""A study made ready to train on: every file read, nobody under two names, every scan prepared."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.inspection import inspect_scans, refuse_twins, report_unusable
from ermoe_ba.study import Study
from ermoe_ba.training.leftovers import sweep_below
from ermoe_ba.training.run_folder import SCANS, UNUSABLE, read_run_table


@dataclass(frozen=True)
class ReadyStudy:
    """A study whose scans are prepared.

    Parameters
    ----------
    study : Study
        Its scans can all be used.
    scans : DataFrame
        What was found of them, with the columns of ``scans.tsv``, in the order of the study.
    cohort : PreparedCohort
        Reads them.
    """

    study: Study
    scans: pd.DataFrame
    cohort: PreparedCohort


def make_ready(
    study: Study, cohort: PreparedCohort, out: Path, *, jobs: int, skip_unusable: bool
) -> ReadyStudy:
    """Read and prepare all scans of a study before anything is trained.

    Parameters
    ----------
    study : Study
        As found.
    cohort : PreparedCohort
        Keeps what is prepared.
    out : Path
        Folder of the run: for ``unusable.tsv``, and with the ``scans.tsv`` of an earlier start.
        What killed processes of this machine left half-written in either folder is removed.
    jobs : int
        Processes that prepare.
    skip_unusable : bool
        Go on without scans that cannot be used.

    Returns
    -------
    ReadyStudy
        Without those that cannot be used.

    Raises
    ------
    UsageError
        If scans cannot be used and are not to be skipped: all of them at once, with the reasons;
        or if two participants have the same voxels.
    """
    sweep_below(out)
    # One subfolder a preprocessing: a folder that users name may hold anything deeper down.
    sweep_below(cohort.folder, "*")
    earlier = out / SCANS
    known = read_run_table(earlier) if earlier.is_file() else None
    scans, unreadable = inspect_scans(study, known)
    report_unusable(out / UNUSABLE, unreadable, go_on=skip_unusable)
    study = study.without(unreadable)
    refuse_twins(scans)
    unprepared = cohort.prepare_all(study.scans, jobs)
    unusable = pd.concat([unreadable, unprepared], ignore_index=True)
    report_unusable(out / UNUSABLE, unusable, go_on=skip_unusable)
    scans = scans[~scans["scan"].isin(unprepared["scan"])].reset_index(drop=True)
    return ReadyStudy(study.without(unprepared), scans, cohort)
