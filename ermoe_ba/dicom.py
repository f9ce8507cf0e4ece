"""A folder of DICOM files as one scan: which series it holds, its volume, the age it states.

Needs the extra ``dicom`` (dicom2nifti, pydicom). Nothing of it is imported before it is called.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ermoe_ba.errors import ScanError, UsageError

# A DICOM file starts with 128 free bytes and this word (DICOM PS3.10, section 7.1).
_PREAMBLE, _MAGIC = 128, b"DICM"
# What a disc is indexed by, itself of that form but without a picture (DICOM PS3.10, section 8.6).
_INDEX = "DICOMDIR"
# Of PatientAge (value representation AS, DICOM PS3.5, section 6.2): three digits and a unit.
_AGE = re.compile(r"(\d{3})([DWMY])")
_UNITS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
# Tags that tell series, echoes and kinds of pixels apart; voxels are left on disk.
_TAGS = [
    "EchoTime",
    "Modality",
    "NumberOfFrames",
    "PatientAge",
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "SeriesDescription",
    "SeriesInstanceUID",
]


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files directly inside a folder, by name; needs no extra.

    Parameters
    ----------
    folder : Path
        Its subfolders are not looked into.

    Returns
    -------
    list of Path
        Those that begin as DICOM files do, but for a disc's index; none where there is none.
    """
    files = (path for path in folder.iterdir() if path.name.upper() != _INDEX)
    return sorted(path for path in files if path.is_file() and _is_dicom(path))


def patient_age(folder: Path) -> float | None:
    """Return the age in years that a series states (PatientAge), or None where it states none.

    Parameters
    ----------
    folder : Path
        Of one series, its files directly inside.

    Returns
    -------
    float or None
        In days, weeks, months or years as DICOM states it, brought to years.

    Raises
    ------
    UsageError
        If the extra ``dicom`` is not installed.
    """
    header = _headers(folder)[0]
    stated = _AGE.fullmatch(str(header.get("PatientAge", "")).strip())
    return int(stated[1]) / _UNITS_PER_YEAR[stated[2]] if stated else None


@contextmanager
def as_nifti(folder: Path) -> Iterator[Path]:
    """Convert a folder that holds one series of single slices (dicom2nifti).

    Parameters
    ----------
    folder : Path
        With the series' files directly inside.

    Yields
    ------
    Path
        An uncompressed NIfTI file, which is gone afterwards.

    Raises
    ------
    ScanError
        If the folder holds several series or echoes, multi-frame files, colours, another modality,
        or what dicom2nifti cannot convert.
    UsageError
        If the extra ``dicom`` is not installed.
    """
    _check(folder, _headers(folder))
    from dicom2nifti.convert_dicom import dicom_array_to_nifti
    from pydicom import dcmread

    with tempfile.TemporaryDirectory() as scratch:
        nifti = Path(scratch) / "series.nii"
        try:
            slices = [dcmread(path) for path in dicom_files(folder)]
            dicom_array_to_nifti(slices, str(nifti), reorient_nifti=False)
        except Exception as error:
            # The converter, the reader and its decoders raise what they like; all of it means that
            # this series cannot be used.
            raise ScanError(
                folder,
                must_hold="the DICOM series must be one that dicom2nifti can convert",
                found=f"{type(error).__name__}: {error}",
                remedy="Export the series again, uncompressed, or convert it to NIfTI.",
            ) from error
        yield nifti


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False


def _headers(folder: Path) -> list[Any]:
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise UsageError(
            f"{folder}: reading DICOM needs an extra; install it: pip install 'ermoe_ba[dicom]'."
        ) from error
    try:
        return [
            dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            for path in dicom_files(folder)
        ]
    except Exception as error:
        # pydicom raises many kinds for files that are cut or wrong.
        raise ScanError(
            folder,
            must_hold="every DICOM file of the folder must be readable",
            found=f"{type(error).__name__}: {error}",
            remedy="Export the series again.",
        ) from error


def _check(folder: Path, headers: list[Any]) -> None:
    series: dict[str, list[Any]] = {}
    for header in headers:
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if len(series) > 1:
        listed = ", ".join(
            f"{files[0].get('SeriesDescription', 'without description')} ({len(files)} files)"
            for files in series.values()
        )
        raise ScanError(
            folder,
            must_hold="a DICOM folder must hold one series",
            found=f"{len(series)}: {listed}",
            remedy="Move the T1w series to a folder of its own.",
        )
    for tag, allowed, what in (
        ("NumberOfFrames", "1", "multi-frame files"),
        ("SamplesPerPixel", "1", "colour (RGB) pixels"),
        # MONOCHROME1 shows the lowest value white, which NIfTI cannot say.
        ("PhotometricInterpretation", "MONOCHROME2", "pixels whose value is not their brightness"),
        ("Modality", "MR", "another modality"),
    ):
        found = {str(header.get(tag, None) or allowed) for header in headers} - {allowed}
        if found:
            raise ScanError(
                folder,
                must_hold="a DICOM series must be one MR volume of single grey slices",
                found=f"{what} ({tag} {', '.join(sorted(found))})",
                remedy="Convert it to NIfTI with the scanner's tools, and give the T1w volume.",
            )
    echoes = {float(header.EchoTime) for header in headers if header.get("EchoTime") is not None}
    if len(echoes) > 1:
        raise ScanError(
            folder,
            must_hold="a DICOM series must hold one echo",
            found=f"{len(echoes)}, at {', '.join(f'{ms:g}' for ms in sorted(echoes))} ms",
            remedy="Give the combined image, or one echo in a folder of its own.",
        )
