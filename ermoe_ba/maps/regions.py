"""Experts by region in one scan.

Shapes: E experts, I J K voxels of the model grid.
"""

import numpy as np
import pandas as pd

from ermoe_ba.atlas import Atlas
from ermoe_ba.space import Volume
from ermoe_ba.tables import REGION_COLUMNS


def region_table(
    experts: Volume,
    contributions: dict[str, Volume],
    atlas: Atlas,
    brain_mask: Volume,
) -> pd.DataFrame:
    """Summarise experts by region.

    Parameters
    ----------
    experts : Volume
        From `TokenPlaces.weights`, shape (I, J, K, E).
    contributions : dict
        For each expert, in the order of the last axis of `experts`, its contributions from
        `TokenPlaces.years`.
    atlas : Atlas
        On the same grid.
    brain_mask : Volume
        1 in the scan's brain.

    Returns
    -------
    DataFrame
        Columns of `REGION_COLUMNS`; regions that the brain mask does not reach have volume 0 and no
        mean weight, and those that an expert does not serve no enrichment. Voxels without a label
        are the region with index 0.

    Raises
    ------
    ValueError
        If the volumes lie on different grids.
    """
    if not experts.grid == atlas.dseg.grid == brain_mask.grid:
        raise ValueError("Experts, atlas and brain mask must lie on one grid.")
    labels = pd.concat(
        [
            atlas.labels[["index", "name", "hemisphere"]],
            pd.DataFrame({"index": [0], "name": ["unlabelled"], "hemisphere": ["n/a"]}),
        ]
    )
    size = int(max(atlas.dseg.data.max(), labels["index"].max())) + 1
    brain = brain_mask.data > 0
    label = atlas.dseg.data[brain]
    indices = labels["index"].to_numpy()
    voxels = np.bincount(label, minlength=size)[indices]
    rows = []
    for number, (name, years) in enumerate(contributions.items()):
        weight = np.bincount(label, weights=experts.data[brain, number], minlength=size)[indices]
        total = np.bincount(atlas.dseg.data.ravel(), weights=years.data.ravel(), minlength=size)
        load = experts.data[brain, number].sum(dtype=np.float64)
        mean_weight = np.where(voxels > 0, weight / np.maximum(voxels, 1), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            enrichment = np.log2(mean_weight / (load / brain.sum()))
        rows.append(
            pd.DataFrame(
                {
                    "expert": name,
                    "index": indices,
                    "region": labels["name"].to_numpy(),
                    "hemisphere": labels["hemisphere"].to_numpy(),
                    "volume_ml": voxels * experts.grid.voxel_volume_ml,
                    "mean_weight": mean_weight,
                    "load_share": weight / load if load else np.zeros(len(indices)),
                    "enrichment_log2": np.where(np.isfinite(enrichment), enrichment, np.nan),
                    "contribution_years": total[indices],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)[list(REGION_COLUMNS)]
