"""How tokens and the regions of an atlas share the template's brain.

Shapes: T tokens, R regions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.maps.layout import TokenPlaces
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid


@dataclass(frozen=True)
class RegionOverlap:
    """How tokens and regions share the template's brain.

    Parameters
    ----------
    regions : DataFrame
        ``index``, ``name`` and ``hemisphere``; the last row is what no region claims, index 0.
    served_rt : ndarray
        Voxels of each region whose experts are the token's.
    borne_rt : ndarray
        Share of each token's years that falls into the region; columns sum to 1.
    voxel_ml : float
        Volume of a voxel.
    """

    regions: pd.DataFrame
    served_rt: Array
    borne_rt: Array
    voxel_ml: float

    @property
    def share_t(self) -> Array:
        """Share of the brain's voxels that each token serves, shape (T,); they sum to 1.

        What weighs tokens wherever a mean over the brain is meant: tokens at its edge hold less.
        """
        return np.asarray(self.served_rt.sum(axis=0) / self.served_rt.sum())

    @classmethod
    def of(cls, tokens: TokenGrid, atlas: Atlas) -> "RegionOverlap":
        """Count the voxels of the template's brain by token and region.

        Parameters
        ----------
        tokens : TokenGrid
            Of T tokens on the model grid.
        atlas : Atlas
            Of regions on the model grid; what has no label is one more, ``unlabelled``.

        Returns
        -------
        RegionOverlap
            R regions by T tokens.
        """
        places = TokenPlaces.of(tokens, template("desc-brain_mask"))
        columns = ["index", "name", "hemisphere"]
        nowhere = pd.DataFrame([[0, "unlabelled", "n/a"]], columns=columns)
        regions = pd.concat([atlas.labels[columns], nowhere], ignore_index=True)
        row = np.zeros(int(regions["index"].max()) + 1, dtype=np.int64)
        row[regions["index"]] = np.arange(len(regions))
        region = row[atlas.dseg.data]

        def count(numbers: Array) -> Array:
            # Number 0 is no token.
            width = len(tokens) + 1
            both = np.bincount((region * width + numbers).ravel(), minlength=len(regions) * width)
            return both.reshape(len(regions), width)[:, 1:].astype(np.float64)

        borne_rt = count(places.bearing.data)
        return cls(
            regions,
            count(places.serving.data),
            borne_rt / borne_rt.sum(axis=0),
            atlas.dseg.grid.voxel_volume_ml,
        )
