"""What the interactive view reads: packed volumes, their description, colours."""

import dataclasses
import gzip
import json

import numpy as np
import pytest
from report_content import content as small_content

from ermoe_ba.report.colours import (
    CONTRIBUTIONS,
    EXPERT_COLOURS,
    WEIGHTS,
    symmetric_limit,
    weight_limit,
)
from ermoe_ba.report.content import ReportContent
from ermoe_ba.report.viewer import describe, pack, shown_maps
from ermoe_ba.space import SpatialGrid, Volume

# Brain at 8..13 x 8..15 x 8..11, with the margin of 6 voxels: a box that starts at (2, 2, 2) and is
# 18 x 20 x 16, inside a grid of unequal axes. 4 x 5 x 2 mm make voxels of 0.04 mL.
SHAPE = (24, 28, 20)
AFFINE = np.array([[4.0, 0, 0, -50], [0, 5.0, 0, -60], [0, 0, 2.0, -20], [0, 0, 0, 1.0]])
GRID = SpatialGrid(SHAPE, AFFINE, "MNI152NLin2009aSym")
BOX = (18, 20, 16)
NAMES = ("grey_matter", "free_1")
# Of the grid, inside the brain; in the box it is (7, 8, 6).
POINT, IN_BOX = (9, 10, 8), (7, 8, 6)


@pytest.fixture
def content() -> ReportContent:
    brain = np.zeros(SHAPE, dtype=np.uint8)
    brain[8:14, 8:16, 8:12] = 1
    years = np.where(brain, 0.002, 0.0).astype(np.float32)
    years[POINT] = -0.008
    weights = np.zeros((*SHAPE, 2), dtype=np.float32)
    weights[brain > 0] = (0.55, 0.45)
    weights[POINT] = (0.35, 0.65)
    atlas = np.where(brain, 70_000, 0)
    atlas[POINT] = 3
    t1w = brain * np.float32(0.6)
    t1w[POINT] = 2.0
    return small_content(
        t1w=Volume(t1w, GRID),
        brain_mask=Volume(brain, GRID),
        template=Volume(brain, GRID),
        atlas=Volume(atlas, GRID),
        experts=Volume(weights, GRID),
        contributions=Volume(years, GRID),
        expert_names=NAMES,
        expert_years=dict.fromkeys(NAMES, 1.0),
        expert_load=dict.fromkeys(NAMES, 0.5),
        mae_without_expert=dict.fromkeys(NAMES, 6.0),
    )


def unpacked(content: ReportContent) -> list[np.ndarray]:
    """Read the stream as the page does."""
    stream = gzip.decompress(pack(content, shown_maps(content)))
    count, parts, start = int(np.prod(BOX)), [], 0
    for kind in ("<u4", "<i2", "<i2", "<i2", "u1"):
        part = np.frombuffer(stream, kind, count, start)
        parts.append(part.reshape(BOX, order="F"))
        start += part.nbytes
    assert start == len(stream)
    return parts


def test_a_point_keeps_its_place_and_values(content: ReportContent) -> None:
    labels, years, *weights, t1w = unpacked(content)
    maps = shown_maps(content)
    assert labels[IN_BOX] == 3
    assert np.argwhere(labels == 3).tolist() == [list(IN_BOX)]
    # 16-bit numbers would wrap.
    assert labels.max() == 70_000
    # -0.008 years in 0.04 mL are -0.2 years per mL, the largest: stored as the end of the scale.
    assert years[IN_BOX] == -32767
    assert years[IN_BOX] * maps[0].scale == pytest.approx(-0.2)
    np.testing.assert_allclose(
        years * maps[0].scale, content.contributions.data[2:20, 2:22, 2:18] / 0.04, atol=1e-5
    )
    for weight, expert in zip(weights, range(2), strict=True):
        scale = maps[2 + expert].scale
        assert maps[2 + expert].number == 1 + expert
        np.testing.assert_allclose(
            weight * scale, content.experts.data[2:20, 2:22, 2:18, expert], atol=1e-5
        )
    # 0.6 of 1.2 is half of 255, and brighter than the brightest is the brightest.
    assert t1w[IN_BOX] == 255
    assert set(np.unique(t1w)) == {0, 128, 255}


def test_the_same_content_is_packed_into_the_same_bytes(content: ReportContent) -> None:
    maps = shown_maps(content)
    assert pack(content, maps) == pack(content, maps)
    moved = content.contributions.same_grid(np.roll(content.contributions.data, 1, axis=2))
    assert pack(dataclasses.replace(content, contributions=moved), maps) != pack(content, maps)


def test_the_description_places_the_box_in_millimetres(content: ReportContent) -> None:
    told = json.loads(describe(content, shown_maps(content)))
    assert told["shape"] == list(BOX)
    place = [o + s * n for o, s, n in zip(told["origin"], told["step"], IN_BOX, strict=True)]
    assert place == [4 * 9 - 50, 5 * 10 - 60, 2 * 8 - 20]
    assert told["space"] == "MNI152NLin2009aSym"
    assert told["experts"] == ["Grey matter", "Free 1"]
    assert [m["kind"] for m in told["maps"]] == ["years", "winner", "weight", "weight"]
    assert len(told["patches"]) == 2
    for ramp in told["ramps"].values():
        assert np.shape(ramp) == (256, 4)
    assert "6.0 years" in told["maps"][2]["said"]


def test_a_map_of_nothing_can_be_packed(content: ReportContent) -> None:
    empty = dataclasses.replace(
        content,
        contributions=content.contributions.same_grid(np.zeros(SHAPE, np.float32)),
        experts=content.experts.same_grid(np.zeros((*SHAPE, 2), np.float32)),
    )
    _, years, *weights, _ = unpacked(empty)
    assert not years.any()
    assert not np.any(weights)
    assert all(one.limit > 0 for one in shown_maps(empty))


def test_a_grid_that_is_not_ras_is_refused(content: ReportContent) -> None:
    mirrored = SpatialGrid(SHAPE, np.diag([-4.0, 5, 2, 1]), "MNI152NLin2009aSym")
    volumes = {
        name: Volume(getattr(content, name).data, mirrored)
        for name in ("t1w", "brain_mask", "template", "atlas", "experts", "contributions")
    }
    with pytest.raises(ValueError, match="Only RAS"):
        pack(dataclasses.replace(content, **volumes), shown_maps(content))


def test_scales_end_where_they_say() -> None:
    values = np.zeros(1000)
    values[:100] = np.arange(1, 101)
    # The 99th percentile of 1..100, zeros left out: 1 + 0.99 * 99.
    assert symmetric_limit(values) == pytest.approx(99.01)
    assert symmetric_limit(-values) == pytest.approx(99.01)
    assert symmetric_limit(np.zeros(5)) == 1.0
    assert [weight_limit(np.array([w])) for w in (0.0, 0.2, 0.21, 0.52, 0.6, 1.0)] == [
        0.2, 0.2, 0.4, 0.6, 0.6, 1.0,
    ]  # fmt: skip
    assert weight_limit(np.zeros(0)) == 0.2


def test_nothing_is_transparent_and_ends_are_opaque() -> None:
    years, weights = CONTRIBUTIONS.ramp(), WEIGHTS.ramp()
    # The two middle steps lie 1/255 from nothing: an opacity of 1.5/255.
    assert years[127:129, 3].max() <= 2
    assert years[[0, 255], 3].min() >= 241
    assert weights[0, 3] == 0
    assert weights[255, 3] >= 228
    # Orange for older: more red than blue; purple for younger: the other way round.
    assert years[230, 0] > years[230, 2]
    assert years[25, 0] < years[25, 2]
    assert len(set(EXPERT_COLOURS)) == len(EXPERT_COLOURS)
