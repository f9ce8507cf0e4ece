"""What the user points at, as scans: files, folders, DICOM series, data sets, tables of paths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.bids import DESCRIPTION, is_dataset, one_a_session, scans_of
from ermoe_ba.cohort import AN_AGE, stated_years
from ermoe_ba.dicom import dicom_files, patient_age
from ermoe_ba.errors import UsageError
from ermoe_ba.formats import volume_files
from ermoe_ba.given_tables import read_given
from ermoe_ba.naming import ScanName, name_scans, volumes_in

# A table of paths: one column is asked for, the others are the user's choice.
PATH_COLUMN = "path"
_TABLE_COLUMNS = ("participant_id", "session_id")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which scans of what is found are meant.

    Parameters
    ----------
    participant_labels, session_labels : tuple of str
        Of BIDS data sets; all, where there are none.
    one_a_session : bool
        Of several T1w scans of one session of a BIDS data set, take one by rule.
    age_from_dicom : bool
        Take a DICOM series' PatientAge as the chronological age.
    """

    participant_labels: tuple[str, ...] = ()
    session_labels: tuple[str, ...] = ()
    one_a_session: bool = False
    age_from_dicom: bool = False


@dataclass
class _Found:
    """Scans by path in the order found, with what their source says of them."""

    known: dict[Path, dict[str, Any]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    # Inputs that are DICOM series by themselves.
    series: list[Path] = field(default_factory=list)
    # What each file was called first: it may be given by a relative and by an absolute path.
    _first: dict[Path, Path] = field(default_factory=dict)

    def add(self, path: Path, **says: Any) -> None:
        # Either file of a pair means the pair.
        key = self._first.setdefault(volume_files(path)[0].absolute(), path)
        self.known.setdefault(key, {}).update(says)


def find_scans(inputs: Sequence[Path], selection: Selection) -> tuple[list[ScanName], list[str]]:
    """Find and name the scans that are meant, each once, in the order given.

    Parameters
    ----------
    inputs : sequence of Path
        Files; folders of files or of one DICOM series; BIDS data sets (with
        ``dataset_description.json``); tables (``.tsv``) with a column ``path``, relative to the
        table, and ``participant_id``, ``session_id`` and ``age`` where known. A file that does not
        exist stays in the list: it fails on its own, later.
    selection : Selection
        What to take of them.

    Returns
    -------
    tuple
        The scans, and remarks on what was chosen for the user.

    Raises
    ------
    UsageError
        If a folder holds no scan or cannot be read, a table or data set cannot be read, a table
        names a scan twice, there is no scan at all, or labels, one scan a session or the age from
        DICOM are asked for where no input is of that kind.
    """
    found = _Found()
    folders = {given for given in inputs if _is_folder(given)}
    data_sets = {given for given in folders if is_dataset(given)}
    for given in inputs:
        if given in data_sets:
            _add_dataset(found, given, selection)
        elif given in folders:
            _add_folder(found, given, selection)
        elif given.suffix.lower() == ".tsv":
            _add_table(found, given)
        else:
            found.add(given)
    labels = (*selection.participant_labels, *selection.session_labels)
    if labels and not data_sets:
        raise UsageError(
            f"Labels ({', '.join(labels)}) choose scans of a BIDS data set; none of the inputs is "
            "one (a folder with dataset_description.json)."
        )
    if selection.one_a_session:
        _refuse_idle(found, inputs, data_sets, "--one-per-session", "BIDS data sets")
    if selection.age_from_dicom:
        series = set(found.series)
        _refuse_idle(found, inputs, series, "--age-from-dicom", "folders of a DICOM series")
    if not found.known:
        why = "".join(f" ({remark})" for remark in found.remarks)
        raise UsageError(f"The inputs must hold at least one scan; found none{why}.")
    # Tables, and the names of folders, may say anything; `name_scans` makes names safe.
    scans = [replace(s, **found.known[s.path]) for s in name_scans(list(found.known))]
    return scans, found.remarks


def _refuse_idle(
    found: _Found, inputs: Sequence[Path], meant: set[Path], option: str, kind: str
) -> None:
    """Refuse an option that none of the inputs is meant by; remark where some are not."""
    others = [given for given in inputs if given not in meant]
    if not meant:
        raise UsageError(
            f"{option} is about {kind}; found none among the inputs. Leave it out, or give one."
        )
    if others:
        found.remarks.append(
            f"{option} is about {kind} and changes nothing of {len(others)} other inputs "
            f"({others[0]}{', ...' if len(others) > 1 else ''})."
        )


def _is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; of one that cannot be asked for, its reading will tell."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _add_folder(found: _Found, folder: Path, selection: Selection) -> None:
    try:
        volumes = volumes_in(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: a folder must be readable; found: {error.strerror}. Check its permissions."
        ) from error
    for path in volumes:
        found.add(path)
    if volumes:
        return
    if not dicom_files(folder):
        inside = "none (its subfolders are not looked into)"
        remedy = "Give the folder that holds them."
        if any(folder.glob("sub-*/")):
            inside = f"folders sub-*, as of a BIDS data set, but no {DESCRIPTION}"
            remedy = "Add that file, or give the scans one by one."
        raise UsageError(
            f"{folder}: a folder must hold scans (.nii, .nii.gz, .hdr with .img, .mgh, .mgz) or "
            f"one DICOM series; found {inside}. {remedy}"
        )
    found.series.append(folder)
    if selection.age_from_dicom:
        found.add(folder, chronological_age=patient_age(folder))
    else:
        found.add(folder)


def _add_dataset(found: _Found, root: Path, selection: Selection) -> None:
    scans, unread = scans_of(root, selection.participant_labels, selection.session_labels)
    found.remarks += unread
    echoes = [scan.path.name for scan in scans if "echo" in scan.entities]
    if echoes:
        found.remarks.append(f"single echoes refused, give the combined image: {', '.join(echoes)}")
        scans = [scan for scan in scans if "echo" not in scan.entities]
    chosen, remarks = one_a_session(scans)
    if selection.one_a_session:
        scans = chosen
        found.remarks += remarks
    elif len(scans) > len(chosen):
        found.remarks.append(
            f"{root}: {len(remarks)} sessions have several T1w scans; each scan has its own row. "
            "One a session by rule: --one-per-session."
        )
    for scan in scans:
        found.add(scan.path, **scan.said)


def _add_table(found: _Found, table: Path) -> None:
    content = read_given(table, "the table of paths", verbatim=[PATH_COLUMN])
    content = content.mask(content.isin(["n/a", ""]))
    if PATH_COLUMN not in content.columns or content[PATH_COLUMN].isna().any():
        raise UsageError(
            f"{table}: each row must name a scan in the column {PATH_COLUMN} (tab-separated); "
            f"found the columns {', '.join(map(str, content.columns))}"
            f"{' and rows without' if PATH_COLUMN in content.columns else ''}."
        )
    # A file may be written in several ways (./a.nii), and either file of a pair means the pair.
    files = content[PATH_COLUMN].map(lambda path: volume_files(table.parent / path)[0].absolute())
    twice = content[PATH_COLUMN][files.duplicated()].tolist()
    if twice:
        raise UsageError(
            f"{table}: each scan must stand in one row; found {twice[0]!r} in several. Whose it is "
            "would be a guess: keep one of them."
        )
    ages, wrong = stated_years(content.get("age", pd.Series("n/a", index=content.index)))
    if wrong.any():
        first = content[wrong].iloc[0]
        raise UsageError(
            f"{table}: an age must be {AN_AGE}, or n/a; found {first['age']!r} for "
            f"{first[PATH_COLUMN]}."
        )
    for row, age in zip(content.to_dict("records"), ages, strict=True):
        says = {name: row[name] for name in _TABLE_COLUMNS if isinstance(row.get(name), str)}
        path = table.parent / row[PATH_COLUMN]
        if not math.isnan(age):
            says["chronological_age"] = age
        for name, prefix in (("participant_id", "sub-"), ("session_id", "ses-")):
            if name in says:
                says[name] = says[name].removeprefix(prefix)
        found.add(path, **says)
