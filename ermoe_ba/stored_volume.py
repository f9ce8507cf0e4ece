"""Stored volumes: what a header announces before any voxel is read, and the voxels.

Headers are parsed from their first few hundred bytes alone. Nothing that a header claims (sizes,
offsets, extensions) leads to memory being taken or a stream being read before it was checked.
"""

import logging
import struct
import zlib
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.freesurfer.mghformat import MGHError, MGHHeader
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from ermoe_ba.errors import ScanError
from ermoe_ba.formats import existing_files, require_volume
from ermoe_ba.space import Array

# Bytes of the longest header (NIfTI-2), and the sizes that tell NIfTI-1 and -2 apart.
_HEADER_BYTES, _NIFTI1, _NIFTI2 = 540, 348, 540
# Of all headers that are read, MGH's is the shortest.
_SHORTEST = 284
# CIFTI-2 keeps its matrices in NIfTI-2 files of these intents.
_CIFTI_INTENTS = range(3000, 3100)
# Notes between header and voxels (extensions) take kilobytes; a packed file that is told to skip
# more would be unpacked for minutes to find nothing.
MAX_OFFSET = 16 * 2**20
# Notes behind the voxels (FreeSurfer's) take kilobytes. Up to so many bytes are read on, to where a
# packed file keeps the checksum of its content.
MAX_TAIL = 2**20
# A disagreement of forms that is greater, or no number, is told as this much: JSON knows no others.
MAX_DISAGREEMENT_MM = 1e6
# What nibabel raises for content that is none.
_UNREADABLE = (
    HeaderDataError,
    MGHError,
    WrapStructError,
    OSError,
    EOFError,
    zlib.error,
    struct.error,
    KeyError,
    OverflowError,
    ValueError,
)
# Told what nibabel mends, which it would print without the file's name.
_UNHEARD = logging.Logger(__name__)
_UNHEARD.addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class StoredVolume:
    """What a file's header announces; the voxels are still on disk.

    Parameters
    ----------
    shape : tuple of int
        Voxels along each axis, as many axes as the file has.
    dtype : numpy.dtype
        As stored.
    affine : ndarray, shape (4, 4)
        From voxel indices to RAS+ coordinates in mm.
    header_mm : ndarray, shape (3,)
        Voxel sizes as the header states them, apart from the affine.
    oriented : bool
        Whether the header says how the voxels lie in space.
    form_disagreement_mm : float
        How far apart sform and qform (or, where the sform is alone, the voxel sizes) put a corner
        of the image, at most.
    proxy : ArrayProxy
        Reads the voxels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Array
    header_mm: Array
    oriented: bool
    form_disagreement_mm: float
    proxy: ArrayProxy


def open_volume(path: Path) -> StoredVolume:
    """Read a volume's header.

    Parameters
    ----------
    path : Path
        NIfTI-1 or -2 (``.nii``, ``.nii.gz``, either file of a pair ``.hdr`` and ``.img``) or
        FreeSurfer's MGH (``.mgh``, ``.mgz``).

    Returns
    -------
    StoredVolume
        The header's content, unchecked but for what reading the voxels relies on.

    Raises
    ------
    ScanError
        If a file is missing, of another format (Analyze 7.5, DICOM, CIFTI, other compressions) or
        no header can be made out.
    """
    require_volume(path)
    files = existing_files(path)
    try:
        with ImageOpener(str(files[0])) as opened:
            block = opened.read(_HEADER_BYTES)
        if len(block) < _SHORTEST:
            raise ValueError(f"{len(block)} bytes, where a header has {_SHORTEST} or more")
        # Absurd fields overflow in products that the caller's checks then refuse.
        with np.errstate(all="ignore"):
            stored = _read_mgh(path, block) if _is_mgh(path) else _read_nifti(path, files, block)
    except _UNREADABLE as error:
        raise ScanError(
            path,
            must_hold=f"the file must hold a readable {'MGH' if _is_mgh(path) else 'NIfTI'} image",
            found=f"{type(error).__name__}: {error}",
            remedy="Export or copy the scan again.",
        ) from error
    return stored


def read_voxels(path: Path, stored: StoredVolume, dtype: npt.DTypeLike | None = None) -> Array:
    """Read the voxels that a checked header announced.

    Parameters
    ----------
    path : Path
        For the message.
    stored : StoredVolume
        From `open_volume`; the caller has checked its shape.
    dtype : dtype-like, optional
        Of the result; as stored (and scaled) by default.

    Returns
    -------
    ndarray, shape of the header
        Values after the header's slope and intercept.

    Raises
    ------
    ScanError
        If the file holds fewer voxels than its header announces, or is damaged.
    """
    try:
        # A value too large for the data type becomes infinite, which the caller refuses by count.
        with np.errstate(over="ignore", invalid="ignore"):
            if Path(stored.proxy.file_like).suffix.lower() in (".gz", ".mgz"):
                return _unpacked(stored.proxy, dtype)
            return np.asanyarray(stored.proxy, dtype=dtype)
    except _UNREADABLE as error:
        raise ScanError(
            path,
            must_hold="the file must hold all the voxels its header announces",
            found=f"{type(error).__name__}: {' '.join(str(error).split())}",
            remedy="The file is truncated or damaged; copy it again.",
        ) from error


def _unpacked(proxy: ArrayProxy, dtype: npt.DTypeLike | None) -> Array:
    """Read the voxels of a packed file as far as its checksum.

    Of single bits that were flipped on a disk, six in seven unpack to other voxels in silence.
    """
    with ImageOpener(proxy.file_like) as opened:
        spec = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
        # It cannot be mapped, and trying would unpack all of it.
        values = np.asanyarray(ArrayProxy(opened, spec, mmap=False), dtype=dtype)
        try:
            opened.read(MAX_TAIL)
        except BadGzipFile as error:
            # What follows the archive and is none, as gzip itself says, is to be ignored.
            if "Not a gzipped file" not in str(error):
                raise
    return values


def _is_mgh(path: Path) -> bool:
    return path.suffix.lower() in (".mgh", ".mgz")


def _read_nifti(path: Path, files: tuple[Path, Path], block: bytes) -> StoredVolume:
    if block[:2] == b"\x1f\x8b":
        packed = files[0].suffix.lower() == ".gz"
        where = "inside of gzip" if packed else "under a name that does not end in .gz"
        raise ValueError(f"gzip content {where}")
    single = files[0] == files[1]
    sizes = {struct.unpack_from(f"{order}i", block)[0] for order in "<>"}
    if _NIFTI1 in sizes and not single and block[344:348] != b"ni1\0":
        raise ScanError(
            path,
            must_hold="the header must be NIfTI, which tells right from left",
            found="an Analyze 7.5 header, which does not",
            remedy="Convert the scan from its source again.",
        )
    if _NIFTI1 in sizes and block[344:348] == (b"n+1\0" if single else b"ni1\0"):
        kind: Any = Nifti1Header if single else Nifti1PairHeader
    elif _NIFTI2 in sizes and block[4:8] == (b"n+2\0" if single else b"ni2\0"):
        kind = Nifti2Header if single else Nifti2PairHeader
    else:
        raise ValueError("no NIfTI header")
    size = kind.sizeof_hdr
    # Unchecked: nibabel's own check turns a voxel size of 0 into 1 mm.
    stored = kind(block[:size], check=False)
    if int(stored["intent_code"]) in _CIFTI_INTENTS:
        raise ValueError("a CIFTI file, which holds a matrix of grey ordinates and no volume")
    offset = float(stored["vox_offset"])
    if not (size if single else 0) <= offset <= MAX_OFFSET:
        raise ValueError(f"voxels said to start at byte {offset:g}")
    header = kind(block[:size], check=False)
    # What it cannot mend, it raises.
    header.check_fix(_UNHEARD)
    return StoredVolume(
        shape=tuple(int(n) for n in header.get_data_shape()),
        dtype=header.get_data_dtype(),
        affine=np.asarray(header.get_best_affine()),
        header_mm=np.abs(np.asarray(stored["pixdim"][1:4], dtype=np.float64)),
        # After the check: it takes codes that NIfTI does not know for 0, and guesses an affine.
        oriented=bool(header["sform_code"] > 0 or header["qform_code"] > 0),
        form_disagreement_mm=_form_disagreement(header, stored["pixdim"][1:4]),
        proxy=ArrayProxy(str(files[1]), header),
    )


def _form_disagreement(header: Any, pixdim: Array) -> float:
    """Return how far apart the two forms put a corner of the image, at most, in mm.

    Where the sform is alone, the voxel sizes that stand beside it are held against its own: a tool
    that resamples and leaves an old sform makes a head of another size.
    """
    sform = header.get_sform(coded=True)[0]
    try:
        qform = header.get_qform(coded=True)[0]
    except _UNREADABLE:
        # A damaged qform is no harm where the sform counts, and the worst disagreement.
        return MAX_DISAGREEMENT_MM if sform is not None else 0.0
    if sform is None:
        return 0.0
    if qform is None:
        qform = sform.copy()
        qform[:3, :3] *= np.abs(pixdim) / np.linalg.norm(sform[:3, :3], axis=0)
    shape = tuple(header.get_data_shape())[:3]
    corners = np.array(list(np.ndindex(2, 2, 2)))[:, : len(shape)] * (np.array(shape) - 1)
    apart = corners @ (sform - qform)[:3, : len(shape)].T + (sform - qform)[:3, 3]
    largest = float(np.linalg.norm(apart, axis=1).max())
    return min(largest, MAX_DISAGREEMENT_MM) if largest >= 0 else MAX_DISAGREEMENT_MM


def _read_mgh(path: Path, block: bytes) -> StoredVolume:
    # Read here: nibabel gives a header without orientation a default one and marks it good.
    (good,) = struct.unpack_from(">h", block, 28)
    header = MGHHeader(block)
    return StoredVolume(
        shape=tuple(int(n) for n in header.get_data_shape()),
        dtype=header.get_data_dtype(),
        affine=np.asarray(header.get_affine()),
        header_mm=np.abs(np.asarray(header.get_zooms()[:3], dtype=np.float64)),
        oriented=good == 1,
        form_disagreement_mm=0.0,
        proxy=ArrayProxy(str(path), header),
    )
