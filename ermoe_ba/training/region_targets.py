"""Volumes of regions as something to learn: sides added up, in standard deviations.

Shapes: N scans, K labels, L regions.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array
from ermoe_ba.tables import read_tsv


def region_of_label(path: Path, labels: list[int]) -> list[str]:
    """Return the region of each label, the same for left and right.

    Scans and their mirror images are learnt from alike, so a region has no side: labels of one name
    are one, a ``_L`` or ``_R`` at its end left out where the table says that this is its side.

    Parameters
    ----------
    path : Path
        A label table with the columns ``index``, ``name`` and ``hemisphere``.
    labels : list of int
        K labels.

    Returns
    -------
    list of str
        K names.

    Raises
    ------
    UsageError
        If the table cannot be read, or lacks a column or a label.
    """
    try:
        table = read_tsv(path, text=["name"])
        sides = dict(zip(table["index"], table["hemisphere"].astype(str), strict=True))
        names = dict(zip(table["index"], table["name"], strict=True))
        return [names[label].removesuffix(f"_{sides[label]}") for label in labels]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path}: to learn volumes, the label table must tell index, name and hemisphere of "
            f"each label ({error})."
        ) from error


def region_targets(volumes_nk: Array, region_of: Mapping[int, str]) -> Tensor:
    """Return what is learnt of the volumes of labels.

    Parameters
    ----------
    volumes_nk : ndarray
        Of each label, relative to that of all labels; from `label_volumes`.
    region_of : mapping
        Region of each label, in the order of the volumes.

    Returns
    -------
    Tensor, shape (N, L)
        Volumes minus their mean over the scans, in standard deviations; regions whose volume never
        varies are left out.

    Raises
    ------
    UsageError
        If no region's volume varies.
    """
    names = sorted(set(region_of.values()))
    member_kl = np.array([[r == name for name in names] for r in region_of.values()], dtype=float)
    volumes_nl = volumes_nk @ member_kl
    spread_l = volumes_nl.std(axis=0)
    varies = spread_l > 0
    if not varies.any():
        raise UsageError("To learn volumes, at least one region must vary between scans.")
    standard = (volumes_nl - volumes_nl.mean(axis=0))[:, varies] / spread_l[varies]
    return torch.as_tensor(standard, dtype=torch.float32)
