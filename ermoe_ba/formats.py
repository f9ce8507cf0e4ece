"""Formats of volumes on disk: which names their files bear."""

from pathlib import Path

from ermoe_ba.errors import ScanError

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".mgz", ".mgh")
# What people pack images with, and no reader of images is bound to unpack.
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".rar", ".tar", ".tgz")
_DICOM = (".dcm", ".dicom", ".ima")
_TABLES = (".csv", ".txt", ".xlsx", ".ods")
# What stands in the place of a file whose content was not fetched, where it is no link.
_POINTERS = {b"/annex/objects/": "git-annex", b"version https://git-lfs.": "Git LFS"}


def is_volume(path: Path) -> bool:
    """Tell whether a file name ends as that of a volume does (NIfTI or MGH).

    Parameters
    ----------
    path : Path
        Of any file; it need not exist.

    Returns
    -------
    bool
        Whatever the case of the letters.
    """
    return path.name.lower().endswith(SUFFIXES)


def require_volume(path: Path) -> None:
    """Refuse a file whose name is not that of a volume.

    Parameters
    ----------
    path : Path
        Of any file; it need not exist.

    Raises
    ------
    ScanError
        If `is_volume` does not hold; the message names the format, where the name tells it.
    """
    if is_volume(path):
        return
    suffix = path.suffix.lower()
    if not path.exists():
        found, remedy = f"no file of that name ({path.name!r})", "Check the path."
    elif suffix in _DICOM:
        found = f"{path.name!r}, one file of a DICOM series"
        remedy = "Give the folder that holds the series."
    elif suffix in _PACKED:
        found, remedy = f"the name {path.name!r}, packed as {suffix}", "Unpack it first."
    elif suffix in _TABLES:
        found = f"the name {path.name!r}"
        remedy = "A table of paths must be tab-separated, and its name end in .tsv."
    else:
        found, remedy = f"the name {path.name!r}", "Convert it to NIfTI first."
    raise ScanError(
        path,
        must_hold="the file must be NIfTI (.nii, .nii.gz, .hdr with .img) or MGH (.mgh, .mgz)",
        found=found,
        remedy=remedy,
    )


def require_reachable(path: Path) -> None:
    """Refuse a path that the system will not even look at; one where nothing lies is let pass.

    Parameters
    ----------
    path : Path
        Of a file or folder.

    Raises
    ------
    ScanError
        If its name is too long, a folder on the way may not be entered, or links lead in a circle.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ScanError(
            path,
            must_hold="the input must be a file that can be reached",
            found=f"{error.strerror}",
            remedy="Check its name, and the permissions of its folders.",
        ) from error


def volume_stem(path: Path) -> str:
    """Return a file's name without the suffix of its format.

    Parameters
    ----------
    path : Path
        Of a volume.

    Returns
    -------
    str
        The whole name where it has no such suffix.
    """
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def volume_files(path: Path) -> tuple[Path, Path]:
    """Return the files that hold a volume's header and voxels: one file, or the two of a pair.

    Parameters
    ----------
    path : Path
        Of a volume, or of either file of a pair; none need exist.

    Returns
    -------
    Path
        Holds the header.
    Path
        Holds the voxels; the same file unless there is a pair.
    """
    suffix = path.suffix
    if suffix.lower() not in (".hdr", ".img"):
        return path, path
    other = {".hdr": ".img", ".img": ".hdr"}[suffix.lower()]
    partner = path.with_suffix(other.upper() if suffix.isupper() else other)
    return (path, partner) if suffix.lower() == ".hdr" else (partner, path)


def existing_files(path: Path) -> tuple[Path, Path]:
    """Return what `volume_files` does, once it is there.

    Parameters
    ----------
    path : Path
        As for `volume_files`.

    Returns
    -------
    Path
        Holds the header.
    Path
        Holds the voxels.

    Raises
    ------
    ScanError
        If a file is missing, or its content was not fetched.
    """
    files = volume_files(path)
    for file in files:
        if file.is_file() and (kind := _pointer(file)):
            raise ScanError(
                path,
                must_hold="the input must be the image itself",
                found=f"a pointer of {kind} in its place",
                remedy="Fetch its content (datalad get; git lfs pull).",
            )
        if not file.is_file():
            dangling = file.is_symlink() and not file.exists()
            what = f"a link to {file.readlink()}, which is not there," if dangling else "no file"
            if file.exists():
                what = f"no file but a {'folder' if file.is_dir() else 'pipe or a device'}"
            raise ScanError(
                path,
                must_hold="the input must be an existing file"
                + (", and .hdr and .img must lie side by side" if files[0] != files[1] else ""),
                found=f"{what} of that name{f' ({file.name})' if file != path else ''}",
                remedy="Fetch its content (datalad get)." if dangling else "Check the path.",
            )
    return files


def _pointer(file: Path) -> str:
    """Return whose pointer stands in the place of a file's content; empty where none does."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(max(map(len, _POINTERS)))
    except OSError:
        # Its reading will tell.
        return ""
    return next((kind for text, kind in _POINTERS.items() if beginning.startswith(text)), "")
