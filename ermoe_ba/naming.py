"""Names of scans: what a path says of participant and session, and distinct names for outputs."""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ermoe_ba.formats import is_volume, volume_files, volume_stem

_BIDS = re.compile(r"sub-(?P<sub>[A-Za-z0-9]+)(?:_ses-(?P<ses>[A-Za-z0-9]+))?(?:_[a-zA-Z]+-[^_]+)*")
# File names end at 255 bytes on most file systems; outputs add to the name.
MAX_NAME = 150
_T1W = re.compile(r"_T1w$", re.IGNORECASE)
# In a folder, what BIDS calls a derivative is no scan: above all what an earlier run wrote there.
_DERIVATIVE = re.compile(r"_desc-[A-Za-z0-9]+_|_(?:dseg|probseg|mask)$")


@dataclass(frozen=True, kw_only=True)
class ScanName:
    """Who a scan is of, and what its outputs are called.

    Parameters
    ----------
    path : Path
        The file as given.
    name : str
        First part of the names of all its outputs; distinct within a run.
    participant_id : str
        Without ``sub-``.
    session_id : str or None
        Without ``ses-``.
    chronological_age : float or None
        Years, where the place that the scan was found at states it.
    age_at_session : bool
        Whether that is the age at this very session. It then counts before that of a participants
        table, which knows one age a person.
    other_sessions : bool
        Whether its data set has scans of the participant at other sessions.
    in_dataset : str or None
        Its path in its BIDS data set, with slashes; None outside of one.
    """

    path: Path
    name: str
    participant_id: str
    session_id: str | None
    chronological_age: float | None = None
    age_at_session: bool = False
    other_sessions: bool = False
    in_dataset: str | None = None

    @property
    def source(self) -> str:
        """What the scan is called where no folder of its machine is to be told.

        Its path in its BIDS data set, else the name of its file or folder.
        """
        return self.in_dataset or self.path.name or self.name


def volumes_in(folder: Path) -> list[Path]:
    """Return the volumes directly inside a folder, by name; of a pair, the header.

    Derivatives (``desc-`` in the name, ``_dseg``, ``_probseg``, ``_mask``) and hidden files are
    left out. A link to a file that is not there is a scan, which fails by name.

    Parameters
    ----------
    folder : Path
        Its subfolders are not looked into.

    Returns
    -------
    list of Path
        None where it holds no volume.
    """
    # macOS keeps what it knows of a file in a hidden one beside it, under the same suffix. A data
    # set of DataLad is links, some of them to content that was not fetched: none may vanish.
    files = sorted(
        p
        for p in folder.iterdir()
        if is_volume(p) and not p.name.startswith(".") and not p.is_dir()
    )
    scans = [p for p in files if not _DERIVATIVE.search(volume_stem(p))]
    # Of a pair both files are there; without its header, the voxels stay, to fail by name.
    voxels_of_pairs = {volume_files(p)[1] for p in scans if p.suffix.lower() == ".hdr"}
    return [p for p in scans if p not in voxels_of_pairs]


def name_scans(paths: list[Path]) -> list[ScanName]:
    """Name scans so that no two share a name.

    A BIDS name keeps its entities; ``<participant_id>_T1w`` gives its participant; any other name
    is made of the file's name and as many of its folders as tell it apart from the other inputs.

    Parameters
    ----------
    paths : list of Path
        Each once.

    Returns
    -------
    list of ScanName
        In the same order.
    """
    names = [_plain_name(path) for path in paths]
    # Letter case does not tell files apart on every file system.
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        alike.setdefault(name.lower(), []).append(number)
    for members in alike.values():
        if len(members) > 1:
            folders = _distinct_folders([paths[m] for m in members])
            for number, prefix in zip(members, folders, strict=True):
                names[number] = f"{prefix}_{names[number]}" if prefix else names[number]
    # All that are still alike are told apart, not all but one: a name must not depend on the order.
    count = Counter(name.lower() for name in names)
    names = [
        f"{name[:MAX_NAME]}_{_digest(path)}"
        if count[name.lower()] > 1 or len(name) > MAX_NAME
        else name
        for path, name in zip(paths, names, strict=True)
    ]
    return [_identify(path, name) for path, name in zip(paths, names, strict=True)]


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:8]


def _plain_name(path: Path) -> str:
    stem = _T1W.sub("", volume_stem(path))
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "scan"


def _distinct_folders(paths: list[Path]) -> list[str]:
    """Return, for files of one name, the parts of their folders that differ, joined by hyphens."""
    folders = [path.absolute().parent.parts for path in paths]
    shortest = min(len(parts) for parts in folders)
    same_head = 0
    while same_head < shortest and len({parts[same_head] for parts in folders}) == 1:
        same_head += 1
    same_tail = 0
    while (
        same_tail < shortest - same_head
        and len({parts[len(parts) - 1 - same_tail] for parts in folders}) == 1
    ):
        same_tail += 1
    distinct = [parts[same_head : len(parts) - same_tail] for parts in folders]
    return [re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-") for parts in distinct]


def _identify(path: Path, name: str) -> ScanName:
    stem = volume_stem(path)
    bids = _BIDS.fullmatch(_T1W.sub("", stem))
    if bids:
        return ScanName(path=path, name=name, participant_id=bids["sub"], session_id=bids["ses"])
    participant = _T1W.sub("", stem).removeprefix("sub-") if _T1W.search(stem) else name
    return ScanName(path=path, name=name, participant_id=participant, session_id=None)
