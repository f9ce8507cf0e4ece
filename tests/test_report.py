"""The report: complete in itself, safe to open, and usable from the keyboard."""

import base64
import dataclasses
import hashlib
import io
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_content import AFFINE, GRID, NAMES, SHAPE, content, text_of, undrawn, with_row

from ermoe_ba.report import write_report
from ermoe_ba.report.charts import draw_years_chart
from ermoe_ba.report.html import render
from ermoe_ba.space import SpatialGrid, Volume

# Fixtures, which pytest finds by name.
__all__ = ["undrawn"]
MALICIOUS = '<script>alert("x")</script>'


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


def test_pyplot_and_torch_stay_out(fresh_python):
    code = (
        "import sys, ermoe_ba.report as r; "
        "bad = {'matplotlib.pyplot', 'torch', 'ants'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    fresh_python(code)
