"""Regions of experts from an atlas: which share of each token they fill.

Shapes: T tokens.
"""

from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from ermoe_ba.atlas import Atlas, load_atlas
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.tokens import TokenGrid

# Words before a label's name, and the side that tables of labels write for them.
_SIDES = {"left": "L", "right": "R"}


def place_regions(tokens: TokenGrid, config: ModelConfig) -> TokenGrid:
    """Return tokens that know which share of them the atlas regions of a network fill.

    Parameters
    ----------
    tokens : TokenGrid
        On the model grid.
    config : ModelConfig
        Of a network that is to be trained; the atlas is read only where an expert is tied to one of
        its regions.

    Returns
    -------
    TokenGrid
        The same tokens, with `region_shares`, or as they were.

    Raises
    ------
    UsageError
        If the atlas cannot be read, has no such label, or if a region fills too little of every
        token for its expert to serve any.
    """
    if not config.atlas_regions:
        return tokens
    assert config.region_atlas is not None
    atlas = load_atlas(config.region_atlas)
    shares = {}
    for region in config.atlas_regions:
        labels = config.region_labels[region]
        indices = [index for label in labels for index in _indices(atlas, region, label)]
        share_t = tokens.held_share(atlas.dseg.same_grid(np.isin(atlas.dseg.data, indices)))
        most = float(share_t.max())
        if most == 0 or most < config.region_min_fraction:
            raise UsageError(
                f"region_labels.{region}: must fill at least region_min_fraction = "
                f"{config.region_min_fraction:g} of a token, or its expert serves none; found "
                f"{most:.3g} at most. Give the region more labels, or lower region_min_fraction."
            )
        shares[region] = share_t
    return replace(tokens, region_shares=shares)


def _indices(atlas: Atlas, region: str, label: str | int) -> list[int]:
    """Return the numbers of the labels that are called so, in any case of the letters."""
    labels = atlas.labels
    if isinstance(label, int):
        names, wanted = labels["index"].astype(str), str(label)
    else:
        names, wanted = labels["name"].str.casefold(), label.casefold()
    found = names == wanted
    side, _, rest = wanted.partition(" ")
    if not found.any() and side in _SIDES:
        found, wanted = (names == rest) & (labels["hemisphere"] == _SIDES[side]), rest
    if not found.any():
        near = get_close_matches(wanted, names.unique())
        raise UsageError(
            f"region_labels.{region}: must name labels that the atlas {atlas.name} has on the "
            "model grid, by name (with left or right before it for one side) or number; found "
            f"{label!r}." + (f" Near it are: {', '.join(near)}." if near else "")
        )
    return [int(index) for index in labels["index"][found]]
