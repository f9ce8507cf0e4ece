"""From tokens to anatomy: routing weights and contributions on voxels and in regions.

Shapes: T tokens, E experts, I J K voxels of the model grid.
"""

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from ermoe_ba.atlas import Atlas
from ermoe_ba.space import Array, Volume
from ermoe_ba.tables import REGION_COLUMNS
from ermoe_ba.tokens import TokenGrid


def expert_map(weights_te: Array, tokens: TokenGrid, brain_mask: Volume) -> Volume:
    """Lay the routing weights out on the brain.

    Each voxel takes its token's weights; brain voxels at the very edge that belong to no token take
    those of the nearest voxel that does.

    Parameters
    ----------
    weights_te : ndarray
        Routing weights, summing to 1 over the experts.
    tokens : TokenGrid
        Where the tokens lie.
    brain_mask : Volume
        1 in the scan's brain, on the token grid.

    Returns
    -------
    Volume
        float32, shape (I, J, K, E); sums to 1 over the last axis in the brain, 0 outside.
    """
    values = tokens.to_volume(weights_te.astype(np.float32)).data
    outside = tokens.support.data == 0
    nearest = distance_transform_edt(outside, return_distances=False, return_indices=True)
    i, j, k = np.asarray(nearest)
    filled = values[i, j, k] * (brain_mask.data > 0)[..., None]
    return brain_mask.same_grid(filled.astype(np.float32))


def contribution_map(years_t: Array, tokens: TokenGrid, brain_mask: Volume) -> Volume:
    """Lay contributions out on the brain so that voxels add up to what tokens add up to.

    A token's years are spread evenly over its voxels in the brain; where it has none in this scan,
    over all its voxels.

    Parameters
    ----------
    years_t : ndarray
        Years that each token contributes.
    tokens : TokenGrid
        Where the tokens lie.
    brain_mask : Volume
        1 in the scan's brain, on the token grid.

    Returns
    -------
    Volume
        Years per voxel, float32; the sum over voxels is the sum over tokens.
    """
    number = tokens.to_volume(np.arange(1, len(tokens) + 1)).data
    brain = brain_mask.data > 0
    inside = np.bincount(number[brain], minlength=len(tokens) + 1)
    everywhere = np.bincount(number.ravel(), minlength=len(tokens) + 1)
    empty = inside == 0
    share = np.zeros(len(tokens) + 1)
    share[1:] = years_t / np.where(empty, everywhere, inside)[1:]
    bears = (number > 0) & (brain | empty[number])
    return brain_mask.same_grid(np.where(bears, share[number], 0.0).astype(np.float32))


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
        From `expert_map`, shape (I, J, K, E).
    contributions : dict
        For each expert, in the order of the last axis of `experts`, its contributions from
        `contribution_map`.
    atlas : Atlas
        On the same grid.
    brain_mask : Volume
        1 in the scan's brain.

    Returns
    -------
    DataFrame
        Columns of `REGION_COLUMNS`; regions that the brain mask does not reach have volume 0 and no
        mean weight. Voxels without a label are the region with index 0.

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
        rows.append(
            pd.DataFrame(
                {
                    "expert": name,
                    "index": indices,
                    "region": labels["name"].to_numpy(),
                    "hemisphere": labels["hemisphere"].to_numpy(),
                    "volume_ml": voxels * experts.grid.voxel_volume_ml,
                    "mean_weight": np.where(voxels > 0, weight / np.maximum(voxels, 1), np.nan),
                    "load_share": weight / load if load else np.zeros(len(indices)),
                    "contribution_years": total[indices],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)[list(REGION_COLUMNS)]
