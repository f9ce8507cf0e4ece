"""Atlases: regions of the brain on the model grid, bundled or brought by the user."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import atlas_root
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.formats import volume_stem
from ermoe_ba.io import read_volume
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume

DEFAULT_ATLAS = "MUSEIXI"
# Counting by label takes memory up to the largest; FreeSurfer's go to about 15,000.
MAX_LABEL = 1_000_000


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
    """

    name: str
    dseg: Volume
    labels: pd.DataFrame
    licence: str


def registry() -> dict[str, dict[str, Any]]:
    """Return the bundled atlases: name to ``description``, ``licence``, ``file`` and so on."""
    with (atlas_root() / "registry.toml").open("rb") as file:
        content: dict[str, dict[str, Any]] = tomllib.load(file).get("atlas", {})
    return content


def load_atlas(atlas: str = DEFAULT_ATLAS) -> Atlas:
    """Load an atlas by name, or by the path of a label image.

    Parameters
    ----------
    atlas : str
        A name in ``atlases/registry.toml``; or a NIfTI label image in MNI space on any grid, with
        a table of the same name ending in ``.tsv`` beside it (columns ``index`` and ``name``; where
        there is none, regions are called by their numbers). It is sampled on the model grid by
        nearest neighbour.

    Returns
    -------
    Atlas
        On the model grid.

    Raises
    ------
    UsageError
        If there is no such atlas, it has no region on the model grid, or its file name says that
        it lies in a space other than MNI.
    """
    known = registry()
    if atlas in known:
        entry = known[atlas]
        path, table = atlas_root() / entry["file"], atlas_root() / entry["labels"]
        return _read(atlas, path, table, str(entry["licence"]))
    path = Path(atlas)
    if not path.is_file():
        raise UsageError(
            f"There is no atlas {atlas!r}: bundled are {', '.join(known)}; a path must be a NIfTI "
            "label image."
        )
    space = re.search(r"(?:space|tpl)-([A-Za-z0-9]+)", path.name)
    if space and not space.group(1).startswith("MNI"):
        raise UsageError(
            f"{path}: an atlas must lie in MNI space; its name says {space.group(1)}. Bring it to "
            f"{TEMPLATE_SPACE} first."
        )
    stem = volume_stem(path)
    return _read(stem, path, path.with_name(f"{stem}.tsv"), "the user's own atlas")


def _read(name: str, path: Path, table: Path, licence: str) -> Atlas:
    try:
        volume = read_volume(path, TEMPLATE_SPACE)
    except ErmoeError as error:
        raise UsageError(str(error)) from error
    if volume.data.ndim != 3:
        raise UsageError(f"{path}: a label image must have three axes; found {volume.data.ndim}.")
    if volume.grid != MODEL_GRID:
        volume = resample(volume, MODEL_GRID, order=0)
    # Also refuses what is no number.
    if not (volume.data >= 0).all() or not (volume.data <= MAX_LABEL).all():
        raise UsageError(f"{path}: labels must lie between 0 and {MAX_LABEL}.")
    dseg = volume.same_grid(np.rint(volume.data).astype(np.int32))
    present = np.unique(dseg.data[dseg.data > 0])
    if not len(present):
        raise UsageError(f"{path}: an atlas must have labels inside the model grid; found none.")
    if table.is_file():
        labels = pd.read_csv(table, sep="\t", keep_default_na=False)
        if not {"index", "name"} <= set(labels.columns):
            raise UsageError(f"{table}: a label table must have the columns index and name.")
    else:
        labels = pd.DataFrame({"index": present, "name": [f"label {n}" for n in present]})
    if "hemisphere" not in labels:
        labels["hemisphere"] = "n/a"
    if not pd.api.types.is_integer_dtype(labels["index"]) or labels["index"].duplicated().any():
        raise UsageError(f"{table}: the column index must hold whole numbers, each once.")
    labels = labels[labels["index"].isin(present)]
    # Whatever the table leaves out is a region all the same: shares must add up.
    unnamed = np.setdiff1d(present, labels["index"])
    if len(unnamed):
        names = [f"label {n}" for n in unnamed]
        more = pd.DataFrame({"index": unnamed, "name": names, "hemisphere": "n/a"})
        labels = pd.concat([labels, more])
    labels = labels.reset_index(drop=True)
    return Atlas(name=name, dseg=dseg, labels=labels, licence=licence)
