"""The report: complete in itself, safe to open, and with the right side on the right."""

import base64
import dataclasses
import hashlib
import io
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_content import AFFINE, GRID, NAMES, SHAPE, content, ellipsoid

from ermoe_ba.report import write_report
from ermoe_ba.report.charts import draw_age_chart, draw_years_chart
from ermoe_ba.report.content import in_words, signed
from ermoe_ba.report.experts import model_worth
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

MALICIOUS = '<script>alert("x")</script>'


def with_row(**changes):
    base = content()
    return dataclasses.replace(base, row=base.row | changes)


def text_of(html):
    """Return what a reader sees, white space folded."""
    body = html.split("<body>")[1]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body.split("<script>")[0])).split())


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures out where only words are looked at: they take most of the time."""
    for name in ("quality_control", "routing_weights", "contributions"):
        monkeypatch.setattr(f"ermoe_ba.report.html.draw_{name}", lambda content: b"")
    for name in ("age_chart", "years_chart"):
        monkeypatch.setattr(f"ermoe_ba.report.html.draw_{name}", lambda content: "")


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "sub-test.html"
    write_report(path, content())
    assert [p.name for p in path.parent.iterdir()] == ["sub-test.html"]
    return path.read_text(encoding="utf-8")


def test_it_asks_nothing_of_any_other_place(html):
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[\w+/=]+", "", html))
    elements = Elements(html)
    for _, attributes in elements.found:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert not elements.all("link")
    policy = elements.all("meta")[3]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_only_the_own_script_may_run(html):
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert "unsafe-inline" not in html.split("script-src")[1][:80]


def test_every_image_is_whole_and_described(html):
    images = Elements(html).all("img")
    assert len(images) == 5
    for image in images:
        assert len(image["alt"]) > 60
        kind, data = image["src"].split(";base64,")
        data = base64.b64decode(data)
        if kind == "data:image/png":
            Image.open(io.BytesIO(data)).load()
        else:
            assert kind == "data:image/svg+xml"
            assert data.rstrip().endswith(b"</svg>")
            links = re.findall(rb'href="([^"]*)"', data)
            assert links
            assert all(link.startswith((b"#", b"data:")) for link in links)


def test_ages_interval_and_gap_are_told(html):
    text = text_of(html)
    assert "52.3 years" in text
    assert "90 % prediction interval: 41.3 to 63.4 years" in text
    assert "48.0 years" in text
    assert "+4.3 years" in text
    assert text.count("brain-PAD") == 1
    assert "lies inside the interval" in text
    assert "Not a diagnosis" in text
    assert "1432 mL" in text
    assert "Trained on one scanner." in text
    assert '<html lang="en-GB">' in html


def test_the_training_error_is_the_mean_absolute_one(html):
    ages = np.linspace(20, 80, 31)
    assert f"mean absolute error is {np.abs(5 * np.cos(ages)).mean():.1f} years" in text_of(html)


@pytest.mark.parametrize("unknown", [None, float("nan"), "n/a", ""])
def test_an_unknown_age_is_left_out(unknown, undrawn):
    text = text_of(render(with_row(chronological_age=unknown, brain_age_gap=unknown)))
    assert "Chronological age" not in text
    assert "Brain age gap" not in text
    assert "diamond" not in text
    assert "52.3 years" in text
    assert "nan" not in text.split()


def test_unknown_ages_can_be_drawn():
    nothing = dict.fromkeys(("chronological_age", "predicted_age_lower", "predicted_age_upper"))
    assert draw_age_chart(with_row(**nothing)) != draw_age_chart(content())


def test_a_missing_interval_is_admitted(undrawn):
    text = text_of(render(with_row(predicted_age_lower=None, predicted_age_upper=None)))
    assert "gives no prediction interval" in text
    assert "%" not in text


@pytest.mark.parametrize("factor", [1.0, None, "n/a"])
def test_a_width_like_the_cohort_s_is_not_spoken_of(factor, undrawn):
    assert "as wide" not in text_of(render(with_row(interval_widening=factor)))


def test_a_wider_interval_is_told_with_its_factor_and_its_reason(undrawn):
    text = text_of(render(with_row(interval_widening=1.374, qc_flags="interval_widened")))
    assert "63.4 years, 1.37 times as wide as that of a scan like the training cohort's" in text
    assert "looks unlike that of the scans that the model learnt from" in text
    assert "widened by what simulated scanners did" in text


def test_names_are_text_and_never_markup():
    base = content()
    regions = base.regions.assign(region=MALICIOUS, hemisphere='"><img src=x>')
    names = (*NAMES[:2], MALICIOUS)
    html = render(
        dataclasses.replace(
            base,
            name=MALICIOUS,
            row=base.row | {"input": MALICIOUS, "qc_flags": MALICIOUS},
            expert_names=names,
            expert_years=dict.fromkeys(names, 1.0),
            expert_load=dict.fromkeys(names, 0.3),
            mae_without_expert=dict.fromkeys(names, 6.0),
            regions=regions,
            provenance={MALICIOUS: "{{ 7 * 7 }}"},
            limits=(MALICIOUS,),
            figures={MALICIOUS: 1.0},
        )
    )
    elements = Elements(html)
    assert len(elements.all("script")) == 1
    assert len(elements.all("img")) == 5
    assert "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in html


def test_every_region_is_there_with_the_largest_load_first(html):
    rows = re.findall(r"<tr>(<td>.*?)</tr>", html)
    cells = [[unescape(c) for c in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]
    assert len(cells) == 6
    assert {(c[0], c[1]) for c in cells} == {
        (expert, label) for expert in ("Grey matter", "CSF", "Free 1") for label in ("3", "7")
    }
    assert cells[0] == [
        "Free 1", "7", "Vermis & tonsil", "n/a", "12.5", "0.400", "0.0900", "−0.250",
    ]  # fmt: skip
    loads = [float(c[6]) for c in cells]
    assert loads == sorted(loads, reverse=True)


def test_the_table_can_be_sorted_from_the_keyboard(html):
    elements = Elements(html)
    head = html.split('<table id="regions">')[1].split("</thead>")[0]
    assert len(Elements(head).all("button")) == len(Elements(head).all("th")) == 8
    assert [a["aria-sort"] for a in elements.all("th") if "aria-sort" in a] == ["descending"]
    (table_region,) = [a for a in elements.all("div") if a.get("role") == "region"]
    assert table_region["tabindex"] == "0"


def test_every_control_and_every_picture_has_a_name(html):
    elements = Elements(html)
    controls = {a["id"] for tag in ("select", "input") for a in elements.all(tag)}
    labelled = [a["for"] for a in elements.all("label")]
    # Two selectors, the search, the opacity and three slices.
    assert len(controls) == 2 + 1 + 1 + 3
    assert set(labelled) == controls
    assert len(labelled) == len(controls)
    canvases = elements.all("canvas")
    assert len(canvases) == 3 + 1 + 3 + 6
    assert all(a["role"] and a["aria-label"] for a in canvases)
    # The keys that they answer to are told with each slice.
    described = [a["aria-describedby"] for a in canvases if "tabindex" in a]
    assert described == ["keys"] * 3
    assert '<span id="keys">' in html


def test_remarks_put_flags_and_strange_ages_in_words(undrawn):
    text = text_of(
        render(
            with_row(
                qc_flags="brain_already_extracted;low_contrast",
                chronological_age=91.0,
                status="warning",
            )
        )
    )
    assert "Before you use this result" in text
    assert "The scan came without skull" in text
    assert "Low contrast." in text
    assert "Status: Warning." in text
    assert "chronological age of 91.0 years lies outside the ages of the training" in text
    assert "The predicted age of" not in text
    assert "lies outside the interval" in text


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ("yes", "trained on this very scan"),
        ("name", "trained on a participant of this name"),
        ("no", ""),
        (None, ""),
        ("n/a", ""),
    ],
)
def test_a_scan_of_the_training_is_told_as_one(undrawn, seen, says):
    text = text_of(render(with_row(seen_in_training=seen)))
    assert ("The model was trained on" in text) == bool(says)
    assert says in text


def test_an_expert_that_changes_nothing_says_so(undrawn):
    text = text_of(render(content()))
    # 6.13 - 5.0 is a loss; 5.09 - 5.0 lies below 0.1 years; with 4.2 the model would be better off.
    assert text.count("grows from 5.0 to 6.1 years") == 1
    assert text.count("Removing this expert changes nothing") == 1
    assert "is 5.09 years without it and 5.00 with all. Read nothing into its map." in text
    assert "is smaller without it: 4.20 years against 5.00 with all" in text
    unmeasured = text_of(render(content(model_mae=None, mae_without_expert={})))
    assert unmeasured.count("was not measured") == 3
    assert "changes nothing" not in unmeasured


def test_beside_the_maps_stands_what_the_model_owes_to_all_experts(undrawn):
    interfered = {"zeroed": 14.94, "random_routing": 5.81, "other_subject_routing": 6.02}
    text = text_of(render(content(mae_interfered=interfered)))
    owed = (
        "its mean absolute error, 5.0 years out of fold on its training cohort, becomes 14.9 with "
        "all experts silenced, 5.8 with random routing and 6.0 with other people's routing."
    )
    assert text.count(owed) == 1
    assert text.index("Where does the age come from?") < text.index(owed) < text.index("Load share")
    assert "becomes" not in text_of(render(content()))


@pytest.mark.parametrize(
    ("without", "verdict"),
    [
        # The limit of 0.1 years from either side, and from below.
        (5.2, "MAE 5.2 years without it (5.0 with all)"),
        (5.05, "MAE 5.0 years without it: its removal changes nothing"),
        (4.95, "MAE 5.0 years without it: its removal changes nothing"),
        (4.5, "MAE 4.5 years without it: the model is better off (5.0 with all)"),
    ],
)
def test_the_face_of_a_map_tells_what_the_model_owes_to_it(without, verdict):
    shown = content(mae_without_expert=dict.fromkeys(NAMES, without))
    assert model_worth(shown).in_short("csf") == verdict
    unmeasured = content(model_mae=None, mae_without_expert={})
    assert model_worth(unmeasured).in_short("csf") == "worth not measured"
    other = content(mae_without_expert=dict.fromkeys(NAMES, 9.9))
    assert draw_routing_weights(shown) != draw_routing_weights(other)


def test_a_sum_that_does_not_add_up_is_shown_as_such(html, undrawn):
    assert "The sum is exact." in text_of(html)
    corrected = content(baseline_years=40.0)
    assert "The sum is exact." not in text_of(render(corrected))
    # One more line in the chart: its remainder.
    assert (
        draw_years_chart(corrected).count("ytick_")
        == draw_years_chart(content()).count("ytick_") + 1
    )


def test_the_same_content_gives_the_same_bytes(html):
    assert render(content()) == html


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


def test_parts_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="no predicted age"):
        with_row(predicted_age=None)
    with pytest.raises(ValueError, match="experts by name"):
        content(expert_names=NAMES[:2])
    with pytest.raises(ValueError, match="on the grid"):
        content(template=Volume(np.ones(SHAPE), SpatialGrid(SHAPE, AFFINE, "scan")))
    with pytest.raises(ValueError, match="pair up"):
        content(training_ages=np.array([3.0]))
    with pytest.raises(ValueError, match="lacks the columns"):
        content(regions=content().regions.drop(columns="region"))
    with pytest.raises(ValueError, match="Years are due"):
        content(expert_years={"csf": 1.0})
    with pytest.raises(ValueError, match="Loads are due"):
        content(expert_load={"csf": 1.0})
    with pytest.raises(ValueError, match="Errors without them are due"):
        content(mae_without_expert={"csf": 1.0})
    with pytest.raises(ValueError, match="on the grid"):
        content(atlas=Volume(np.ones(SHAPE), SpatialGrid(SHAPE, AFFINE, "scan")))
    with pytest.raises(ValueError, match="mask is empty"):
        content(brain_mask=Volume(np.zeros(SHAPE, dtype=np.uint8), GRID))


def test_signs_and_words():
    assert [signed(x) for x in (1.26, -0.04, 0.0, -3.0)] == ["+1.3", "±0.0", "±0.0", "−3.0"]
    assert [in_words(x) for x in ("grey_matter", "csf", "free_1", "")] == [
        "Grey matter",
        "CSF",
        "Free 1",
        "",
    ]


def test_pyplot_and_torch_stay_out():
    code = (
        "import sys, ermoe_ba.report as r; "
        "bad = {'matplotlib.pyplot', 'torch', 'ants'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
