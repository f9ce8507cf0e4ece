"""Files in and out: volumes, texts and JSON; every write is whole or absent."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib

from ermoe_ba.errors import ScanError
from ermoe_ba.partial import prefix_of, sweep
from ermoe_ba.space import SpatialGrid, Volume
from ermoe_ba.stored_volume import open_volume, read_voxels


def read_volume(path: Path, space: str) -> Volume:
    """Read a map of the project's own, or an atlas, whose space the caller knows.

    Parameters
    ----------
    path : Path
        A NIfTI file of three or four axes.
    space : str
        Full name of the space it lies in.

    Returns
    -------
    Volume
        Values in the file's own data type and axis order.

    Raises
    ------
    ScanError
        If the file is missing or unreadable.
    """
    stored = open_volume(path)
    if len(stored.shape) not in (3, 4):
        raise ScanError(
            path,
            must_hold="a map must have three axes, or four",
            found=f"{len(stored.shape)} of lengths {stored.shape}",
            remedy="Give one volume.",
        )
    data = read_voxels(path, stored)
    shape = (data.shape[0], data.shape[1], data.shape[2])
    return Volume(data, SpatialGrid(shape, stored.affine, space))


def to_nibabel(volume: Volume) -> nib.Nifti1Image:
    """Return a volume as a nibabel image, units mm, both header affines set.

    Parameters
    ----------
    volume : Volume
        Shape (I, J, K) or (I, J, K, channels), of a data type that NIfTI knows.

    Returns
    -------
    Nifti1Image
        Of the same voxels; code 1 (scanner) in space ``scan``, else 4 (MNI 152).
    """
    image = nib.Nifti1Image(volume.data, volume.grid.affine)
    image.header.set_xyzt_units("mm")
    # NIfTI codes: 1 scanner, 4 MNI 152.
    code = 1 if volume.grid.space == "scan" else 4
    image.set_sform(volume.grid.affine, code)
    image.set_qform(volume.grid.affine, code)
    return image


def remove_file(path: Path) -> None:
    """Remove a file, and what killed processes left of it half-written.

    Parameters
    ----------
    path : Path
        Need not exist.

    Raises
    ------
    OSError
        If a file is there and cannot be removed.
    """
    path.unlink(missing_ok=True)
    sweep(path)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    Parameters
    ----------
    path : Path
        Where the file shall stand; its folder is made if need be.
    write : callable
        Writes the content to the path it is given (which ends as `path` does).

    Raises
    ------
    OSError
        If the folder or file cannot be written; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    handle, name = tempfile.mkstemp(prefix=prefix_of(path), suffix=ending, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp gives 0600; results are as readable as any other new file.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``; its folder is made if need be.
    volume : Volume
        As of `to_nibabel`.
    """
    write_whole(path, to_nibabel(volume).to_filename)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    text : str
        As it shall stand there.
    """

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_whole(path, write)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all; not-a-number values are a ValueError.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    content : dict
        Of plain values.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
