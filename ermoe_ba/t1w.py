"""A T1w scan as it came: read once, checked by name, and known by the hash of its files."""

import hashlib
import math
from pathlib import Path

import numpy as np

from ermoe_ba.dicom import as_nifti, dicom_files
from ermoe_ba.errors import ScanError
from ermoe_ba.formats import existing_files, require_reachable
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.stored_volume import StoredVolume, open_volume, read_voxels

# A head at 0.5 mm is about 512 x 512 x 512 voxels; more is not one T1w scan of one head.
MAX_VOXELS = 512**3
MIN_AXIS, MAX_AXIS = 16, 1024
# From ex-vivo resolution to the thickest clinical slices that still show a brain.
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.2, 6.0
# The intracranial cavity of an adult is about 130 x 170 x 130 mm; less cannot hold a brain.
MIN_EXTENT_MM = 90.0
# Scanners and their tools write up to double precision.
MAX_ITEM_BYTES = 8


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:3] if all(n == 1 for n in shape[3:]) else shape


def _check_header(path: Path, stored: StoredVolume) -> None:
    shape = _three_axes(stored.shape)
    if len(shape) != 3:
        series = f", a series of {math.prod(shape[3:])} volumes (echoes, frames or directions)"
        raise ScanError(
            path,
            must_hold="the image must have three axes",
            found=f"{len(shape)} axes of lengths {shape}{series if len(shape) > 3 else ''}",
            remedy="Give one T1w volume (split a series first).",
        )
    if min(shape) < MIN_AXIS or max(shape) > MAX_AXIS or math.prod(shape) > MAX_VOXELS:
        raise ScanError(
            path,
            must_hold=f"each axis must have {MIN_AXIS} to {MAX_AXIS} voxels and the image "
            f"at most {MAX_VOXELS:,} in all",
            found=f"{shape}",
            remedy="Check the header; crop or resample the scan.",
        )
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > MAX_ITEM_BYTES:
        look = {"V": "colours (RGB), ", "c": "complex numbers, "}.get(stored.dtype.kind, "")
        raise ScanError(
            path,
            must_hold=f"voxels must be real numbers of at most {8 * MAX_ITEM_BYTES} bits",
            found=f"{look}data type {stored.dtype}",
            remedy="Save the magnitude image as integers or floats.",
        )
    sizes = np.linalg.norm(stored.affine[:3, :3], axis=0)
    for name, given in (("header", stored.header_mm), ("affine", sizes)):
        # Headers keep seven digits: an oblique slice of 6 mm reads 6.0000002.
        mm = np.round(given, 4)
        if not np.all(np.isfinite(mm)) or mm.min() < MIN_VOXEL_MM or mm.max() > MAX_VOXEL_MM:
            raise ScanError(
                path,
                must_hold=f"voxel sizes must lie between {MIN_VOXEL_MM} and {MAX_VOXEL_MM} mm",
                found=f"{mm.tolist()} mm in the {name}",
                remedy="Correct the header (units must be mm).",
            )
    if not stored.oriented:
        raise ScanError(
            path,
            must_hold="the header must say how the voxels lie in space (sform or qform; RAS flag)",
            found="both codes 0, or no RAS flag, which leaves right and left to guess",
            remedy="Convert the scan from its source again, or set the form you know to be true.",
        )
    unit = stored.affine[:3, :3] / sizes
    # |det| of the unit axes is the volume they span: 1 where orthogonal, 0 where two coincide.
    if not np.all(np.isfinite(stored.affine)) or abs(np.linalg.det(unit)) < 0.5:
        raise ScanError(
            path,
            must_hold="the affine must be invertible",
            found=f"axes that span a relative volume of {abs(np.linalg.det(unit)):.3g}",
            remedy="Correct sform and qform in the header.",
        )
    extent = np.asarray(shape) * sizes
    if extent.min() < MIN_EXTENT_MM:
        raise ScanError(
            path,
            must_hold=f"the field of view must measure at least {MIN_EXTENT_MM:g} mm each way",
            found=f"{np.round(extent, 1).tolist()} mm",
            remedy="Give a scan of the whole head.",
        )


def _read_checked(path: Path, file: Path) -> tuple[StoredVolume, Array]:
    """Return header and voxels of a file; messages speak of the path that the user gave."""
    stored = open_volume(file)
    # Absurd affines overflow on the way to being refused.
    with np.errstate(all="ignore"):
        _check_header(path, stored)
    return stored, read_voxels(path, stored, np.float32).reshape(stored.shape[:3])


def read_t1w(path: Path) -> Volume:
    """Read one T1w scan and check that it can be one.

    Parameters
    ----------
    path : Path
        A file of a format that `ermoe_ba.formats` knows, or a folder of one DICOM series. Of
        NIfTI's two forms, where both are set, the sform counts before the qform.

    Returns
    -------
    Volume
        float32 values on the scan's own grid, in the file's own axis order, space ``scan``.

    Raises
    ------
    ScanError
        If the file is missing, unreadable, truncated, not three-dimensional, too large (refused on
        the header alone, before memory is taken), without a usable affine, not finite or constant.
    """
    require_reachable(path)
    if path.is_dir() and dicom_files(path):
        with as_nifti(path) as nifti:
            stored, data = _read_checked(path, nifti)
    else:
        stored, data = _read_checked(path, path)
    bad = int(np.count_nonzero(~np.isfinite(data)))
    if bad:
        raise ScanError(
            path,
            must_hold="every voxel must be a finite number",
            found=f"{bad:,} voxels that are NaN or infinite",
            remedy="Export the scan again, or replace them.",
        )
    if data.min() == data.max():
        raise ScanError(
            path,
            must_hold="the image must show something",
            found=f"the same value, {data.min():g}, in every voxel",
            remedy="Export the scan again.",
        )
    shape = (data.shape[0], data.shape[1], data.shape[2])
    return Volume(data, SpatialGrid(shape, stored.affine, "scan"))


def read_scan_grid(path: Path) -> SpatialGrid:
    """Return the grid that `read_t1w` would read a scan on, from its header alone.

    Parameters
    ----------
    path : Path
        As `read_t1w` takes it.

    Returns
    -------
    SpatialGrid
        In the file's own axis order, space ``scan``.

    Raises
    ------
    ScanError
        If the header cannot be read or is no T1w scan's.
    """
    require_reachable(path)
    if path.is_dir() and dicom_files(path):
        with as_nifti(path) as nifti:
            stored = open_volume(nifti)
    else:
        stored = open_volume(path)
    _check_header(path, stored)
    i, j, k = _three_axes(stored.shape)
    return SpatialGrid((i, j, k), stored.affine, "scan")


def form_disagreement_mm(path: Path) -> float:
    """Return how far apart a NIfTI header's two forms put a corner of the image, at most.

    Where both are set, the sform counts: tools that move an image write it, and leave the qform to
    the scanner. Where the sform is alone, the voxel sizes in the header are held against it.

    Parameters
    ----------
    path : Path
        A scan that `read_t1w` reads.

    Returns
    -------
    float
        In mm; 0 where only the qform is set, and for formats that have one form.

    Raises
    ------
    ScanError
        If the header cannot be read.
    """
    return 0.0 if path.is_dir() else open_volume(path).form_disagreement_mm


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a scan's files: one, the two of a pair, or those of a DICOM series.

    Parameters
    ----------
    path : Path
        As `read_t1w` takes it.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ScanError
        If a file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    require_reachable(path)
    try:
        files = dicom_files(path) if path.is_dir() else dict.fromkeys(existing_files(path))
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise ScanError(
            path,
            must_hold="the file must be readable",
            found=f"{error.strerror} ({error.filename})",
            remedy="Check its permissions and its disk.",
        ) from error
    return digest.hexdigest()
