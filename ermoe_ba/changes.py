"""Changes to a head by name: re-saved, moved, degraded or spoilt, to test what becomes of its age.

Each takes a scan on its own grid, an amount in the unit that its documentation names, and the
source of its noise, and gives another scan.
"""

from collections.abc import Callable

import numpy as np

from ermoe_ba.intensity_changes import (
    add_bias,
    add_noise,
    ball,
    bend_contrast,
    blur,
    damage_voxel,
    empty,
    ghost,
    invert,
    move_head,
    offset_values,
    scale_values,
)
from ermoe_ba.placement_changes import (
    blank_top,
    cut_top,
    mirror,
    reorder_axes,
    shift_origin,
    surround,
    take_slices,
    thicken_slices,
    tilt_header,
    turn_head,
)
from ermoe_ba.space import Volume

Change = Callable[[Volume, float, np.random.Generator], Volume]


def _drawing_nothing(change: Callable[[Volume, float], Volume]) -> Change:
    """Return a change as it stands among those that need a source of noise."""
    return lambda volume, amount, _: change(volume, amount)


CHANGES: dict[str, Change] = {
    **{change.__name__: change for change in (add_noise, empty, ball)},
    **{
        change.__name__: _drawing_nothing(change)
        for change in (
            reorder_axes, tilt_header, shift_origin, scale_values, offset_values, damage_voxel,
            surround, turn_head, thicken_slices, add_bias, bend_contrast, blur, take_slices,
            invert, cut_top, blank_top, mirror, ghost, move_head,
        )
    },
}  # fmt: skip
