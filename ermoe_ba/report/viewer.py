"""What the interactive view reads: volumes packed into one stream, and how maps are coloured."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ermoe_ba.report.colours import (
    BRIGHTEST_T1W,
    CONTRIBUTIONS,
    EXPERT_COLOURS,
    WEIGHTS,
    symmetric_limit,
    weight_limit,
)
from ermoe_ba.report.content import MappedBrain, ReportContent, in_words
from ermoe_ba.report.experts import expert_rows
from ermoe_ba.report.slices import Box, shown_box
from ermoe_ba.space import Array

# Maps are stored as int16: a value is at most 1/65534 of the map's largest away from the truth.
FULL_SCALE = 32767
# Beyond level 1 the stream of a head shrinks by a twelfth, for two and a half times the work.
GZIP_LEVEL = 1


@dataclass(frozen=True, kw_only=True)
class ShownMap:
    """One choice of the selector.

    Parameters
    ----------
    name : str
        In words.
    kind : {"years", "winner", "weight", "t"}
        How it is coloured and read.
    unit : str
        Of its values; empty where they have none.
    limit : float
        End of the colour scale, in that unit.
    decimals : int
        Of the numbers along the colour scale; the crosshair tells years with one more.
    scale : float
        What a stored whole number is multiplied by, in that unit; 0 of a map that is not stored.
    number : int
        Place of the stored map it is read from; of the winner, none is.
    said : str
        What the reader must know before the picture is believed.
    """

    name: str
    kind: str
    unit: str
    limit: float
    decimals: int
    scale: float
    number: int
    said: str


def pack(content: MappedBrain, maps: list[ShownMap], further: Sequence[Array] = ()) -> bytes:
    """Pack what the view draws.

    Parameters
    ----------
    content : MappedBrain
        Its T1w image, atlas, experts and contributions.
    maps : list of ShownMap
        In the order of what is stored of them.
    further : sequence of ndarray, shape (I, J, K)
        What is stored of maps beyond those of the content.

    Returns
    -------
    bytes
        gzip of, little-endian, i fastest, of the box from `shown_box`: the label of each voxel in
        the atlas (uint32); contributions, the weights of each expert, then what is further stored
        (int16, by the scales of `maps`); T1w (uint8, 255 at `BRIGHTEST_T1W`). The same bytes for
        the same content.
    """
    box = _box(content)

    def whole(values: Array, kind: str) -> bytes:
        return np.rint(values[box]).astype(kind).tobytes(order="F")

    grey = np.clip(content.t1w.data * (255 / BRIGHTEST_T1W), 0, 255)
    scales = [one.scale for one in maps if one.scale]
    values = [_per_ml(content), *np.moveaxis(content.experts.data, -1, 0), *further]
    stream = b"".join(
        [
            whole(content.atlas.data, "<u4"),
            *(whole(v / scale, "<i2") for v, scale in zip(values, scales, strict=True)),
            whole(grey, "|u1"),
        ]
    )
    # The time of day would make every file another one.
    return gzip.compress(stream, GZIP_LEVEL, mtime=0)


def describe(content: MappedBrain, maps: list[ShownMap]) -> str:
    """Return as JSON what the view must know of the packed volumes.

    Parameters
    ----------
    content : MappedBrain
        The same as was packed.
    maps : list of ShownMap
        From `shown_maps`.

    Returns
    -------
    str
        ``shape`` of the box in voxels; ``origin`` and ``step``, mm of its first voxel's centre and
        of a voxel; ``space``; ``brightest``; ``experts`` in words; ``maps`` as of `shown_maps`;
        ``ramps``, of signed values and of weights the red, green, blue and opacity (0 to 255) of a
        colour scale from end to end; ``patches``, the same of each expert.
    """
    grid, box = content.t1w.grid, _box(content)
    step = np.diag(grid.affine)[:3]
    described: dict[str, Any] = {
        "shape": [axis.stop - axis.start for axis in box],
        "origin": [float(grid.affine[n, 3] + step[n] * axis.start) for n, axis in enumerate(box)],
        "step": step.tolist(),
        "space": grid.space,
        "brightest": BRIGHTEST_T1W,
        "experts": [in_words(name) for name in content.expert_names],
        "maps": [asdict(one) for one in maps],
        "ramps": {"signed": CONTRIBUTIONS.ramp().tolist(), "weight": WEIGHTS.ramp().tolist()},
        "patches": [
            list(EXPERT_COLOURS[n % len(EXPERT_COLOURS)]) for n in range(len(content.expert_names))
        ],
    }
    return json.dumps(described, separators=(",", ":"), allow_nan=False)


def shown_maps(content: ReportContent) -> list[ShownMap]:
    """Return the maps of a scan in the order of the selector.

    Parameters
    ----------
    content : ReportContent
        Volumes, and the sentences on the experts.

    Returns
    -------
    list of ShownMap
    """
    return lay_out(
        content,
        name="Contribution to the age",
        unit="years per mL",
        decimals=3,
        said="All experts together: orange makes the brain look older than the baseline, purple "
        "with stripes younger.",
        said_of_experts=[row.said for row in expert_rows(content)],
    )


def lay_out(
    content: MappedBrain,
    *,
    name: str,
    unit: str,
    decimals: int,
    said: str,
    said_of_experts: Sequence[str],
) -> list[ShownMap]:
    """Return maps in the order of the selector: contributions, winner, each expert.

    Parameters
    ----------
    content : MappedBrain
        The maps.
    name, unit : str
        What the contributions by millilitre are called, and their unit.
    decimals : int
        Of the contributions, as in `ShownMap`.
    said : str
        What the reader must know of the contributions.
    said_of_experts : sequence of str
        What the reader must know of each expert's map.

    Returns
    -------
    list of ShownMap
    """
    per_ml = _per_ml(content)
    shared_limit = weight_limit(content.experts.data)
    maps = [
        ShownMap(
            name=name,
            kind="years",
            unit=unit,
            limit=symmetric_limit(per_ml),
            decimals=decimals,
            scale=scale_of(float(np.abs(per_ml).max())),
            number=0,
            said=said,
        ),
        ShownMap(
            name="Winning expert",
            kind="winner",
            unit="",
            limit=1.0,
            decimals=1,
            scale=0.0,
            number=0,
            said="The expert with the largest routing weight at each place, told apart by colour "
            "and pattern.",
        ),
    ]
    of_experts = zip(content.expert_names, said_of_experts, strict=True)
    for number, (expert, of_expert) in enumerate(of_experts, start=1):
        maps.append(
            ShownMap(
                name=in_words(expert),
                kind="weight",
                unit="of 1",
                limit=shared_limit,
                decimals=1,
                scale=scale_of(float(content.experts.data[..., number - 1].max())),
                number=number,
                said=of_expert,
            )
        )
    return maps


def _box(content: MappedBrain) -> Box:
    return shown_box(content.brain_mask, content.template)


def _per_ml(content: MappedBrain) -> Array:
    return content.contributions.data / content.t1w.grid.voxel_volume_ml


def scale_of(largest: float) -> float:
    """Return what stored whole numbers are multiplied by.

    Parameters
    ----------
    largest : float
        Largest size of a map's values, in any unit.

    Returns
    -------
    float
        In that unit, above 0.
    """
    # A map of zeros is stored with any scale.
    return (largest or 1.0) / FULL_SCALE
