"""The look at every file of a study before anything else is done with it."""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.io import remove_file
from ermoe_ba.study import Study
from ermoe_ba.t1w import content_hash, read_t1w
from ermoe_ba.tables import write_table

# scans.tsv of a run, one row a scan: name, and what it holds.
SCAN_COLUMNS: dict[str, str] = {
    "scan": "name of the scan, distinct within the study",
    "participant_id": "BIDS participant, without sub-",
    "session_id": "BIDS session, without ses-; n/a where there is none",
    "chronological_age": "years, at the session where the data set says so",
    "path": "the file, relative to the participants table where it lies below it",
    "content_hash": "SHA-256 of the file",
    "voxel_hash": "hash of the voxels, whatever file, format or data type holds them",
}
# unusable.tsv of a run, one row a scan that cannot take part.
UNUSABLE_COLUMNS = ("scan", "participant_id", "path", "message")


def inspect_scans(
    study: Study, known: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every file of a study once, before anything else is done with it.

    Parameters
    ----------
    study : Study
        Whose scans.
    known : DataFrame, optional
        What an earlier call found: files of the same content are not read again.

    Returns
    -------
    scans : DataFrame
        `SCAN_COLUMNS`, one row a scan that can be read.
    unusable : DataFrame
        `UNUSABLE_COLUMNS`, one row a scan that cannot, with the reason.
    """
    hashes = (
        {} if known is None else dict(zip(known["content_hash"], known["voxel_hash"], strict=True))
    )
    rows, faults = [], []
    for scan in tqdm(study.scans, desc="read", unit="scan", mininterval=2.0):
        path = scan.t1w.relative_to(study.root) if scan.t1w.is_relative_to(study.root) else scan.t1w
        says = {"scan": scan.name, "participant_id": scan.participant_id, "path": str(path)}
        try:
            if scan.labels is not None and not scan.labels.is_file():
                raise ScanError(
                    scan.labels,
                    must_hold="every scan of this recipe needs its label map",
                    found="no such file",
                    remedy="Add it, or train with the stem of a shipped model.",
                )
            content = content_hash(scan.t1w)
            voxels = hashes.get(content) or voxel_hash(read_t1w(scan.t1w))
        except ScanError as error:
            faults.append({**says, "message": str(error)})
            continue
        rows.append(
            {
                **says,
                "session_id": scan.session_id,
                "chronological_age": scan.chronological_age,
                "content_hash": content,
                "voxel_hash": voxels,
            }
        )
    return (
        pd.DataFrame(rows, columns=list(SCAN_COLUMNS)),
        pd.DataFrame(faults, columns=list(UNUSABLE_COLUMNS)),
    )


def refuse_twins(scans: pd.DataFrame) -> None:
    """Refuse a study in which two participants have the same voxels.

    Parameters
    ----------
    scans : DataFrame
        From `inspect_scans`.

    Raises
    ------
    UsageError
        If so: one person under two names would be trained on and tested.
    """
    people = scans.groupby("voxel_hash", sort=False)["participant_id"].unique()
    twins = [" = ".join(sorted(ids)) for ids in people if len(ids) > 1]
    if twins:
        raise UsageError(
            f"Each participant must have scans of their own; found the same voxels under several "
            f"names: {'; '.join(twins)}. One person in training and test alike makes every figure "
            "too good: give the scans one participant_id, or remove the copies."
        )


def report_unusable(path: Path, unusable: pd.DataFrame, *, go_on: bool) -> None:
    """Write which scans cannot take part, and stop unless they may be left out.

    Parameters
    ----------
    path : Path
        Of the table.
    unusable : DataFrame
        From `inspect_scans`; where it is empty, so is the place of the table.
    go_on : bool
        Whether the study may go on without them.

    Raises
    ------
    UsageError
        If it may not; all scans are named with their reasons.
    """
    if unusable.empty:
        # An earlier start may have found some that were mended since.
        remove_file(path)
        return
    write_table(path, unusable)
    if not go_on:
        raise UsageError(
            f"{len(unusable)} scans cannot be used, and nothing has been trained. Mend them, set "
            f"their age to n/a, or leave them out with --skip-unusable. {path} lists them: "
            + " | ".join(unusable["message"])
        )
