"""Atlases: regions of the brain on the model grid, bundled, fetched or brought by the user."""

import hashlib
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import atlas_root, template
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.formats import volume_stem
from ermoe_ba.io import read_volume
from ermoe_ba.label_tables import SUFFIXES, hemisphere_of, read_labels
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array, Volume
from ermoe_ba.stored_volume import open_volume

DEFAULT_ATLAS = "MUSEIXI"
# Counting by label takes memory up to the largest; FreeSurfer's go to about 15,000.
MAX_LABEL = 1_000_000
# What scaled integers may be off by; probabilities and interpolated labels are off by more.
MAX_FRACTION = 0.01
# What an atlas that nilearn fetches is called by: nilearn:NAME or nilearn:NAME:VARIANT.
FETCHED = "nilearn:"
# Seven atlases in MNI 152 (the bundled ones, Tian's, Schaefer's, Allen's) lie in the template's
# brain with 95 to 100 % of their volume; less than half means another space, unit or orientation.
MIN_INSIDE = 0.5
# What is said of an atlas that no sampling changed.
AS_MADE = "none: made on the model grid"
# The variants of MNI 152 differ by some millimetres at most (Evans 2012), less than a token. Colin
# 27, MNI 305, Talairach and children's templates are other spaces.
_MNI_152 = re.compile(r"MNI|(?:MNI|ICBM)_?152.*|ICBM_?2009.*")


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """A parcellation.

    Parameters
    ----------
    name : str
        Name in the registry, or of the file.
    dseg : Volume
        Label of each voxel on the model grid, 0 for none.
    labels : DataFrame
        Columns ``index``, ``name`` and ``hemisphere`` (L, R or n/a), one row a region.
    licence : str
        Terms, as far as known.
    sampling : str
        How it came onto the model grid, and from which space, in words.
    """

    name: str
    dseg: Volume
    labels: pd.DataFrame
    licence: str
    sampling: str = AS_MADE


def registry() -> dict[str, dict[str, Any]]:
    """Return the bundled atlases: name to ``description``, ``licence``, ``file`` and so on.

    Returns
    -------
    dict of str to dict
        The entries of ``registry.toml``, by the atlas's name.
    """
    with (atlas_root() / "registry.toml").open("rb") as file:
        content: dict[str, dict[str, Any]] = tomllib.load(file).get("atlas", {})
    return content


def load_atlas(
    atlas: str = DEFAULT_ATLAS, labels: Path | None = None, space: str | None = None
) -> Atlas:
    """Load an atlas by name, or by the path of a label image.

    Parameters
    ----------
    atlas : str
        A name in ``atlases/registry.toml``; ``nilearn:NAME`` or ``nilearn:NAME:VARIANT`` for what
        nilearn's ``fetch_atlas_NAME`` downloads; or a NIfTI label image in MNI 152 space on any
        grid, which is sampled on the model grid by nearest neighbour.
    labels : Path, optional
        Label table of an atlas given by path (forms: `ermoe_ba.label_tables`). By default the file
        of the image's name beside it; where there is none, regions are called by their numbers.
    space : str, optional
        Full name of the space of an atlas given by path. By default what its file name says
        (``space-``, ``tpl-``, or a name of MNI 152 in it); where it says nothing, the model grid's.

    Returns
    -------
    Atlas
        On the model grid.

    Raises
    ------
    UsageError
        If there is no such atlas, its voxels are no labels or its header tells no orientation, it
        has no region on the model grid, it lies in a space other than MNI 152 (by its name, or
        because most of it lies outside the template's brain), or its label table has no known form.
    """
    known = registry()
    if (labels or space) and (atlas in known or atlas.startswith(FETCHED)):
        raise UsageError(f"Atlas {atlas!r} has its own labels and space: give neither with it.")
    if atlas in known:
        entry = known[atlas]
        bundled = _atlas(
            atlas,
            atlas_root() / entry["file"],
            _with_nameless(read_labels(atlas_root() / entry["labels"]), entry.get("unnamed", [])),
            str(entry["licence"]),
        )
        return replace(bundled, sampling=str(entry.get("sampling", AS_MADE)))
    if atlas.startswith(FETCHED):
        return _fetched(atlas)
    path = Path(atlas)
    if not path.is_file():
        raise UsageError(
            f"There is no atlas {atlas!r}: bundled are {', '.join(known)}; a path must be a NIfTI "
            "label image."
        )
    stem = volume_stem(path)
    said = re.search(r"(?:space|tpl)-([A-Za-z0-9]+)|((?:MNI|ICBM)_?152[A-Za-z0-9]*)", path.name)
    by_name = (said[1] or said[2]) if said else None
    if space and by_name and space != by_name:
        raise UsageError(f"{path}: its name says that it lies in {by_name}; you said {space}.")
    beside = [path.with_name(f"{stem}{suffix}") for suffix in SUFFIXES]
    found = labels or next((table for table in beside if table.is_file()), None)
    names = read_labels(found) if found else None
    where = _claim(path, space or by_name)
    return _atlas(stem, path, names, "the user's own atlas", where)


def _with_nameless(labels: pd.DataFrame, unnamed: list[int]) -> pd.DataFrame:
    """Return a bundled atlas' labels with those that its own source leaves without a name."""
    names = [f"label {n} (no name in the source)" for n in unnamed]
    more = pd.DataFrame({"index": unnamed, "name": names, "hemisphere": "n/a"})
    return pd.concat([labels, more], ignore_index=True) if unnamed else labels


def _claim(where: Path | str, space: str | None) -> str:
    """Return in words where an atlas lies, if that is a space it may lie in."""
    if space is None:
        return f"taken to lie in {TEMPLATE_SPACE}, since its name does not tell"
    if not _MNI_152.fullmatch(space):
        raise UsageError(
            f"{where}: an atlas must lie in MNI space (MNI 152); this one lies in {space}. Bring "
            f"it to {TEMPLATE_SPACE} first."
        )
    same = "" if space == TEMPLATE_SPACE else f", taken for {TEMPLATE_SPACE} as it is"
    return f"in {space}{same}"


def _fetched(atlas: str) -> Atlas:
    try:
        from nilearn import datasets
    except ImportError as error:
        raise UsageError(
            f"{atlas}: nilearn's atlases need an extra; install it: pip install 'ermoe_ba[maps]'."
        ) from error
    name, _, variant = atlas.removeprefix(FETCHED).partition(":")
    fetch = getattr(datasets, f"fetch_atlas_{name}", None)
    if fetch is None:
        raise UsageError(f"{atlas}: nilearn.datasets has no fetch_atlas_{name}.")
    try:
        bunch = fetch(*([variant] if variant else []), verbose=0)
    except Exception as error:
        # Each fetcher and its network raise kinds of their own.
        raise UsageError(
            f"{atlas}: nilearn must be able to fetch it; found {type(error).__name__}: {error}."
        ) from error
    if bunch.get("atlas_type") != "deterministic" or not isinstance(bunch["maps"], str | Path):
        raise UsageError(f"{atlas}: an atlas must be one label image; found probabilities.")
    where = _claim(atlas, bunch.get("template"))
    names = pd.DataFrame(bunch["lut"])[["index", "name"]]
    names = names.assign(hemisphere=names["name"].map(hemisphere_of))
    return _atlas(atlas, Path(bunch["maps"]), names, "see nilearn's description of it", where)


def _label_image(path: Path) -> Volume:
    """Read the labels on the grid that they were stored on."""
    try:
        oriented = open_volume(path).oriented
        volume = read_volume(path, TEMPLATE_SPACE)
    except ErmoeError as error:
        raise UsageError(str(error)) from error
    if not oriented:
        raise UsageError(
            f"{path}: the header of a label image must say how its voxels lie in space (sform or "
            "qform); found both codes 0, which leaves right and left to guess. Set the form you "
            "know to be true."
        )
    if volume.data.ndim == 4 and volume.data.shape[3] == 1:
        volume = volume.same_grid(volume.data[..., 0])
    if volume.data.ndim != 3:
        raise UsageError(f"{path}: a label image must have three axes; found {volume.data.ndim}.")
    if volume.data.dtype.kind not in "iuf":
        raise UsageError(f"{path}: labels must be real numbers; found {volume.data.dtype}.")
    # Also refuses what is no number.
    if not (volume.data >= 0).all() or not (volume.data <= MAX_LABEL).all():
        raise UsageError(f"{path}: labels must lie between 0 and {MAX_LABEL}.")
    whole = np.rint(volume.data)
    between = np.count_nonzero(np.abs(volume.data - whole) > MAX_FRACTION)
    if between:
        raise UsageError(
            f"{path}: labels must be whole numbers; found {between} voxels between two. Give "
            "labels and no probabilities; what was resampled must have been so by nearest "
            "neighbour."
        )
    return volume.same_grid(whole.astype(np.int32))


def _atlas(
    name: str, path: Path, labels: pd.DataFrame | None, licence: str, where: str | None = None
) -> Atlas:
    """Put a label image onto the model grid; ``where`` it lies is said of all but bundled ones."""
    stored = _label_image(path)
    dseg, sampling = stored, AS_MADE
    if stored.grid != MODEL_GRID:
        dseg = resample(stored, MODEL_GRID, order=0)
        lost = len(np.setdiff1d(stored.data, dseg.data))
        shape = " x ".join(map(str, stored.grid.shape))
        sizes = " x ".join(f"{mm:g}" for mm in stored.grid.voxel_sizes)
        sampling = f"nearest neighbour from {shape} voxels of {sizes} mm"
        sampling += f"; {lost} labels too small for it are lost" if lost else ""
    present = np.unique(dseg.data[dseg.data > 0])
    if not len(present):
        raise UsageError(f"{path}: an atlas must have labels inside the model grid; found none.")
    if where is not None:
        _check_inside(path, stored, dseg)
        sampling = f"{sampling}; {where}"
    return Atlas(
        name=name, dseg=dseg, labels=_complete(labels, present), licence=licence, sampling=sampling
    )


def _check_inside(path: Path, stored: Volume, dseg: Volume) -> None:
    """Refuse an atlas whose labels do not lie on the template's brain."""
    whole = np.count_nonzero(stored.data) * stored.grid.voxel_volume_ml
    brain = template("desc-brain_mask").data > 0
    inside = np.count_nonzero(dseg.data[brain]) * dseg.grid.voxel_volume_ml / whole
    if inside < MIN_INSIDE:
        raise UsageError(
            f"{path}: at least {MIN_INSIDE:.0%} of an atlas must lie in the template's brain; "
            f"found {inside:.0%}. Either it lies in another space than {TEMPLATE_SPACE}, or its "
            "header is wrong."
        )


def _complete(labels: pd.DataFrame | None, present: Array) -> pd.DataFrame:
    """Return the rows of the labels that are there, with a row for each that has no name."""
    # Whatever the table leaves out is a region all the same: shares must add up.
    unnamed = present if labels is None else np.setdiff1d(present, labels["index"])
    more = pd.DataFrame(
        {"index": unnamed, "name": [f"label {n}" for n in unnamed], "hemisphere": "n/a"}
    )
    if labels is None:
        return more
    return pd.concat([labels[labels["index"].isin(present)], more], ignore_index=True)


def atlas_hash(atlas: Atlas) -> str:
    """Return a hash of an atlas' labels, in the image and in the table.

    Parameters
    ----------
    atlas : Atlas
        On the model grid.

    Returns
    -------
    str
        12 hexadecimal digits.
    """
    digest = hashlib.sha256(np.ascontiguousarray(atlas.dseg.data).tobytes())
    digest.update(atlas.labels.to_csv().encode())
    return digest.hexdigest()[:12]
