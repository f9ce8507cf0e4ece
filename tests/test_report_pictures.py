"""Pictures of the report: the right side is on the right, and what is asked for is drawn."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from report_content import AFFINE, GRID, SHAPE, content, ellipsoid, text_of, with_row

from ermoe_ba.report.charts import draw_age_chart
from ermoe_ba.report.figures import draw_contributions, draw_quality_control, draw_routing_weights
from ermoe_ba.report.html import render
from ermoe_ba.report.slices import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    Montage,
    Plane,
    bounding_box,
    cut,
    require_ras,
    through,
)
from ermoe_ba.space import SpatialGrid, Volume


def test_unknown_ages_can_be_drawn():
    nothing = dict.fromkeys(("chronological_age", "predicted_age_lower", "predicted_age_upper"))
    assert draw_age_chart(with_row(**nothing)) != draw_age_chart(content())


# The point's distance from the far end of the axis drawn upwards, and its place on the other axis.
@pytest.mark.parametrize(
    ("axis", "row", "column"), [(SAGITTAL, 5, 5), (CORONAL, 5, 17), (AXIAL, 24, 17)]
)
def test_a_point_is_cut_where_a_person_sees_it(axis, row, column):
    data = np.zeros(SHAPE)
    point = (17, 5, 20)  # right, posterior, superior
    data[point] = 1
    picture = cut(data, Plane(axis, point[axis]))
    assert picture.shape == {SAGITTAL: (26, 30), CORONAL: (26, 22), AXIAL: (30, 22)}[axis]
    assert np.argwhere(picture).tolist() == [[row, column]]


def test_a_montage_keeps_the_right_on_the_right():
    brain = ellipsoid()
    hot = np.zeros(SHAPE)
    hot[15:18, 8:22, 8:18] = 1
    rows = [through(brain, axis, (0.4, 0.5, 0.6)) for axis in (CORONAL, AXIAL)]
    montage = Montage(bounding_box(brain, 1), rows)
    picture = montage.fill([hot, hot])
    seen = 0.0
    for cells in montage.cells:
        for _, top, left, height, width in cells:
            panel = picture[top : top + height, left : left + width]
            assert not panel[:, : width // 2].any()
            assert panel[:, width // 2 :].any()
            seen += panel.sum()
    # Nothing lies between the panels.
    assert seen == picture.sum()


def orange_columns(png):
    rgb = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    # The colour bar is at the bottom.
    picture = rgb[: int(0.8 * len(rgb))]
    orange = (picture[..., 0] - picture[..., 2] > 90) & (picture[..., 0] > picture[..., 1] + 30)
    return np.flatnonzero(orange.any(axis=0)), np.argwhere(orange)[:, 1].mean(), picture.shape[1]


def test_a_right_sided_contribution_is_drawn_on_the_right():
    brain = ellipsoid()
    spot = np.zeros(SHAPE, dtype=np.float32)
    spot[15:18, 13:17, 11:14] = 0.01
    right, right_mean, width = orange_columns(
        draw_contributions(content(contributions=Volume(spot * brain, GRID)))
    )
    left, left_mean, _ = orange_columns(
        draw_contributions(content(contributions=Volume(spot[::-1] * brain, GRID)))
    )
    assert right_mean > width / 2 > left_mean
    assert right.size
    assert left.size


def test_outlines_and_weights_reach_the_picture():
    aligned = dataclasses.replace(content(), template=Volume(content().brain_mask.data, GRID))
    assert draw_quality_control(content()) != draw_quality_control(aligned)
    other = content().experts.data[..., ::-1]
    swapped = dataclasses.replace(content(), experts=Volume(other, GRID))
    assert draw_routing_weights(content()) != draw_routing_weights(swapped)


def test_places_are_named_with_side_and_sign():
    assert Plane(SAGITTAL, 3).label(GRID) == "x = −30 mm (L)"
    assert Plane(SAGITTAL, 18).label(GRID) == "x = 30 mm (R)"
    assert Plane(CORONAL, 0).label(GRID) == "y = −60 mm"
    assert Plane(AXIAL, 10).label(GRID) == "z = 0 mm"


def test_a_grid_that_is_not_ras_is_refused():
    mirrored = AFFINE.copy()
    mirrored[0] *= -1
    with pytest.raises(ValueError, match="Only RAS"):
        require_ras(SpatialGrid(SHAPE, mirrored, "scan"))
    require_ras(GRID)


def test_an_empty_cohort_and_no_contribution_can_be_drawn():
    nobody = np.zeros(0)
    empty = content(
        training_ages=nobody,
        training_predictions=nobody,
        # Without a cohort there is no error, with or without an expert.
        model_mae=None,
        mae_without_expert={},
        contributions=Volume(np.zeros(SHAPE, dtype=np.float32), GRID),
        experts=Volume(np.zeros((*SHAPE, 3), dtype=np.float32), GRID),
        figures={},
    )
    text = text_of(render(empty))
    assert "mean absolute error" not in text
    assert draw_age_chart(empty).rstrip().endswith("</svg>")
