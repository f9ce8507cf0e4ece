"""The maps of effects in the view of a cohort: t of the contributions, and of the routing."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ermoe_ba.maps.files import EFFECTS
from ermoe_ba.maps.kept import KeptMaps
from ermoe_ba.report.content import in_words
from ermoe_ba.report.viewer import ShownMap, scale_of
from ermoe_ba.space import Array

# So many maps of t at most: of the template, each takes about 50 kB of the page and 2 MB of the
# browser's memory. Age, gap and two groups have 24 with five experts.
MAX_EFFECT_MAPS = 24
# What files call the map of all experts together.
CONTRIBUTION = "contribution"


@dataclass(frozen=True)
class EffectMaps:
    """Maps of t as the view shows them.

    Parameters
    ----------
    maps : list of ShownMap
        One a choice of the selector.
    values : list of ndarray
        Of each map, t at each voxel of the model grid.
    left_out : int
        How many maps of the folder are not shown.
    """

    maps: list[ShownMap]
    values: list[Array]
    left_out: int


def effect_maps(kept: KeptMaps, first: int) -> EffectMaps:
    """Return the maps of t that the view offers: contributions of each effect, then the routing.

    Parameters
    ----------
    kept : KeptMaps
        The cohort's maps.
    first : int
        Place of the first of them among the stored maps.

    Returns
    -------
    EffectMaps
        At most `MAX_EFFECT_MAPS`, those of the contributions before all others; of each effect,
        with one colour scale.

    Raises
    ------
    UsageError
        If a map is missing or of another grid.
    ScanError
        If it cannot be read.
    """
    effects, channels = kept.description["effects"], kept.description["effect_channels"]
    chosen = [(name, channel) for channel in range(len(channels)) for name in effects]
    # Of the routing all experts or none: a choice among them would say something.
    allowed = [c for c in chosen if c[1] == 0][:MAX_EFFECT_MAPS]
    if len(chosen) <= MAX_EFFECT_MAPS:
        allowed = [(name, channel) for name in effects for channel in range(len(channels))]
    rows = kept.tables[EFFECTS].to_dict("records") if effects else []
    table = {(row["effect"], row["map"]): row for row in rows}
    shown = EffectMaps([], [], len(chosen) - len(allowed))
    for name in dict.fromkeys(name for name, _ in allowed):
        file = str(effects[name]["files"]).replace("*", "t")
        # A model that leaves no error has no t; nothing is drawn there.
        t = np.nan_to_num(kept.volume(file, len(channels)).data, posinf=0, neginf=0)
        limit = max(1.0, float(np.ceil(np.abs(t).max())))
        for channel in (c for n, c in allowed if n == name):
            # A view would keep all channels in memory.
            values = t[..., channel].copy()
            shown.values.append(values)
            shown.maps.append(
                ShownMap(
                    name=f"{_in_words(name)}: {_of(channels[channel])} (t)",
                    kind="t",
                    unit="t",
                    limit=limit,
                    decimals=1,
                    scale=scale_of(float(np.abs(values).max())),
                    number=first + len(shown.maps),
                    said=_said(effects[name], table[name, channels[channel]]),
                )
            )
    return shown


def _in_words(effect: str) -> str:
    """Name an effect: age, gap, or ``group-x`` as the group x."""
    return f"Group {effect.removeprefix('group-')}" if "-" in effect else in_words(effect)


def _of(channel: str) -> str:
    return "contribution" if channel == CONTRIBUTION else f"routing to {in_words(channel)}"


def _said(effect: dict[str, Any], row: dict[Any, Any]) -> str:
    """Say what is tested, and how much of it stands once corrected."""
    up, down = int(row["tokens_up"]), int(row["tokens_down"])
    what = "years" if row["map"] == CONTRIBUTION else "routing weight"
    # The gap is the sum of what it is held against.
    sum_of = (
        " Where the gap comes from, not that it exists: it is the sum of the contributions."
        if row["effect"] == "gap" and row["map"] == CONTRIBUTION
        else ""
    )
    model = str(effect["model"])
    return (
        f"{model[:1].upper()}{model[1:]}, {effect['participants']} participants: t of the "
        f"{what}, orange where it grows, purple with stripes where it shrinks. Corrected p below "
        f"0.05 at {up} tokens up and {down} down; elsewhere read nothing into it.{sum_of}"
    )
