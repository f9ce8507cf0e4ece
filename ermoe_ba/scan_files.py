"""The files of one scan: their names, which of them a run writes, and what an earlier run left."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ermoe_ba.errors import UsageError, printable
from ermoe_ba.formats import volume_files
from ermoe_ba.io import remove_file
from ermoe_ba.naming import ScanName
from ermoe_ba.tables import PREDICTION_COLUMNS

# What follows a scan's name in the names of its files.
T1W = "desc-preproc_T1w.nii.gz"
MASK = "desc-brain_mask.nii.gz"
EXPERTS = "desc-experts_probseg.nii.gz"
WINNERS = "desc-experts_dseg.nii.gz"
EXPERT_LABELS = "desc-experts_dseg.tsv"
CONTRIBUTIONS = "desc-contribution_map.nii.gz"
# BIDS names a sampling with res-; the sampling of these is one voxel a token.
MEMBER_WEIGHTS = "res-token_desc-members_probseg.nii.gz"
MEMBER_YEARS = "res-token_desc-members_map.nii.gz"
# Maps that can be had on the scan's own grid: how the user calls them, and their files there.
SCAN_SPACE = {
    "experts": f"space-T1w_{EXPERTS}",
    "winners": f"space-T1w_{WINNERS}",
    "contributions": f"space-T1w_{CONTRIBUTIONS}",
}
REGIONS = "regions.tsv"
REPORT = "report.html"
PREDICTION = "prediction.json"
MAP_FILES = (
    EXPERTS,
    WINNERS,
    EXPERT_LABELS,
    CONTRIBUTIONS,
    MEMBER_WEIGHTS,
    MEMBER_YEARS,
    REGIONS,
)
ALL_FILES = (T1W, MASK, *MAP_FILES, *SCAN_SPACE.values(), REPORT, PREDICTION)


def scan_files(
    name: str, *, maps: bool, report: bool, scan_space: tuple[str, ...] = ()
) -> set[str]:
    """Return the names of the files that a scan has when it is done.

    Parameters
    ----------
    name : str
        First part of them.
    maps, report : bool
        What is written beside the age; a report needs the maps.
    scan_space : tuple of str
        Keys of `SCAN_SPACE`: maps on the scan's own grid, which need the maps as well.

    Returns
    -------
    set of str
        File names.
    """
    wanted = {T1W, MASK, PREDICTION}
    if maps:
        wanted |= {*MAP_FILES, *(SCAN_SPACE[key] for key in scan_space)}
        wanted |= {REPORT} if report else set()
    return {f"{name}_{suffix}" for suffix in wanted}


def other_scans(folder: Path, names: set[str]) -> list[str]:
    """Return the first parts of names of the scans that a folder holds an age of, but for some.

    Parameters
    ----------
    folder : Path
        Of results; need not exist.
    names : set of str
        Those that are meant.

    Returns
    -------
    list of str
        In the order of the alphabet.
    """
    ending = f"_{PREDICTION}"
    there = {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}
    return sorted(there - names)


def require_no_loss(
    folder: Path, scans: Sequence[ScanName], pages: Sequence[str], *, replace: bool
) -> None:
    """Refuse a folder where results would take the place of an input, or of somebody else's files.

    fMRIPrep, too, calls a file ``sub-01_desc-preproc_T1w.nii.gz``.

    Parameters
    ----------
    folder : Path
        Of results; need not exist.
    scans : sequence of ScanName
        All of a run.
    pages : sequence of str
        Names of the files that the run writes beside those of its scans.
    replace : bool
        Whether what lies there may be replaced, inputs apart: it is an earlier run's, or the user
        asked for it.

    Raises
    ------
    UsageError
        If something would be lost.
    """
    names = {f"{scan.name}_{suffix}" for scan in scans for suffix in ALL_FILES}.union(pages)
    found = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    there = sorted(names.intersection(found))
    home = Path(os.path.realpath(folder))
    taken = {home / name for name in there}
    for scan in scans if taken else ():
        for file in volume_files(scan.path):
            # As it was given, and what it links to.
            given = Path(os.path.realpath(file.parent)) / file.name
            if not taken.isdisjoint((given, Path(os.path.realpath(file)))):
                raise UsageError(
                    f"--out {folder}: no input may lie where a result will; found "
                    f"{printable(str(file))}. Choose another folder."
                )
    if there and not replace:
        raise UsageError(
            f"--out {folder}: must hold no file that would be replaced; found {len(there)} "
            f"({there[0]}{', ...' if len(there) > 1 else ''}) and no table of an earlier run. "
            "Choose another folder, or give --overwrite."
        )


def remove_scan(folder: Path, name: str) -> None:
    """Remove what an earlier run wrote of a scan: old and new results must not stand together.

    Parameters
    ----------
    folder : Path
        Of results; need not exist.
    name : str
        First part of its files' names.
    """
    # The JSON vouches for the others, so it goes first.
    for suffix in reversed(ALL_FILES):
        remove_file(folder / f"{name}_{suffix}")


def finished_row(
    folder: Path,
    row: dict[str, Any],
    *,
    name: str,
    files: set[str],
    traced: dict[str, str],
    input_sha256: str,
) -> dict[str, Any] | None:
    """Return the row of a scan that an earlier run finished, if this run would give the same.

    Parameters
    ----------
    folder : Path
        Where its files would lie.
    row : dict
        What is known of its row before the work: who it is, its age, the model.
    name : str
        First part of its files' names.
    files : set of str
        Names of the files that this run would write, from `scan_files`.
    traced : dict
        Versions, model and settings of this run.
    input_sha256 : str
        Of the scan's files as they are now.

    Returns
    -------
    dict or None
        None where a file is missing or one too many, the JSON is damaged, or scan, model, atlas,
        software or what is known of the scan has changed.
    """
    there = {f"{name}_{suffix}" for suffix in ALL_FILES if (folder / f"{name}_{suffix}").is_file()}
    if there != files:
        return None
    try:
        content = json.loads((folder / f"{name}_{PREDICTION}").read_text(encoding="utf-8"))
        same = (
            content["input_sha256"] == input_sha256
            and content["provenance"] == traced
            and all(content[column] == value for column, value in row.items())
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return {key: content[key] for key in PREDICTION_COLUMNS if key in content} if same else None
