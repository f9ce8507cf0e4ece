"""Reports in a real browser: no request, no error, and what hands and keys do to the picture."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_tab import NEEDS_BROWSER, browser, opened
from maps_content import write_maps
from report_content import GRID, SHAPE, content, ellipsoid

from ermoe_ba.report import write_report
from ermoe_ba.report.maps_page import write_maps_page
from ermoe_ba.space import Volume

pytestmark = NEEDS_BROWSER
__all__ = ["browser"]

# A voxel of the left hemisphere, and the same by its RAS+ coordinates: 4 mm voxels from -42, -60
# and -40 mm.
SPOT = (6, 12, 14)
SPOT_MM = "x −18, y −12, z 16 mm"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with one weighty voxel, on the left, in the region with label 3."""
    brain = ellipsoid()
    years = np.where(brain, 1e-5, 0).astype(np.float32)
    years[SPOT] = -0.5
    weights = np.zeros((*SHAPE, 3), dtype=np.float32)
    weights[brain] = (0.6, 0.3, 0.1)
    weights[SPOT] = (0.1, 0.2, 0.7)
    path = tmp_path_factory.mktemp("pages") / "sub-test_report.html"
    shown = content(contributions=Volume(years, GRID), experts=Volume(weights, GRID))
    write_report(path, shown)
    return path


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    """The report, open; whatever the test does, nothing may be asked for and nothing fail."""
    yield from opened(browser, page_file, "#viewer:not([hidden])")


def _picture(page: Any, canvas: str) -> str:
    return str(page.evaluate(f"document.getElementById('{canvas}').toDataURL()"))


def _told(page: Any, part: str) -> str:
    return str(page.locator(f"#here-{part}").inner_text())


def test_it_starts_in_the_region_that_counts_most(page: Any) -> None:
    # All of label 3 is the left half, whose middle is no spot: the crosshair is in that region.
    assert _told(page, "region") == "Putamen, left"
    page.click("#largest")
    assert _told(page, "place") == SPOT_MM
    # -0.5 years in a voxel of 0.064 mL.
    assert _told(page, "years") == "−7.8125 years per mL"
    assert _told(page, "winner") == "Free 1"
    assert page.locator("#here-weights dd").all_inner_texts() == ["0.100", "0.200", "0.700"]


def test_the_selector_changes_the_picture_and_what_is_said(page: Any) -> None:
    page.click("#largest")
    seen, said = set(), set()
    for number in range(5):
        page.select_option("#map", index=number)
        seen.add(_picture(page, "slice-2"))
        said.add(page.inner_text("#said"))
    assert len(seen) == len(said) == 5
    # The second expert's removal costs 0.09 years: its map says so.
    page.select_option("#map", index=3)
    assert "Removing this expert changes nothing" in page.inner_text("#said")
    assert page.is_hidden("#patches")
    assert "of 1" in page.inner_text("#scale")
    page.select_option("#map", index=1)
    assert page.locator("#patches li").all_inner_texts() == ["Grey matter", "CSF", "Free 1"]
    assert page.is_hidden("#scale")


def test_left_is_drawn_on_the_left(page: Any) -> None:
    """The spot is the only purple of the coronal slice: its column tells the side."""
    page.click("#largest")
    column = page.evaluate(
        """() => {
          const canvas = document.getElementById("slice-1");
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          let [sum, count] = [0, 0];
          for (let p = 0; p < width * height; p += 1) {
            const [red, green, blue] = data.slice(4 * p, 4 * p + 3);
            if (blue > green + 40 && red > green) { sum += (p % width) / width; count += 1; }
          }
          return count ? sum / count : null;
        }"""
    )
    # Column 6 of the 22 of the grid, less the box's first: the ellipsoid spans 3..18, with six
    # voxels around it the box starts at 0 and ends at 22.
    assert column == pytest.approx(6.5 / 22, abs=0.02)


@pytest.mark.parametrize(
    ("canvas", "key", "moved"),
    [
        ("slice-0", "ArrowRight", "x −18, y −8, z 16 mm"),
        ("slice-0", "ArrowUp", "x −18, y −12, z 20 mm"),
        ("slice-1", "ArrowLeft", "x −22, y −12, z 16 mm"),
        ("slice-2", "ArrowDown", "x −18, y −16, z 16 mm"),
        ("slice-2", "PageUp", "x −18, y −12, z 20 mm"),
        ("slice-0", "PageDown", "x −22, y −12, z 16 mm"),
        ("slice-2", "Shift+ArrowRight", "x 2, y −12, z 16 mm"),
    ],
)
def test_keys_move_the_crosshair(page: Any, canvas: str, key: str, moved: str) -> None:
    page.click("#largest")
    before = _picture(page, canvas)
    page.focus(f"#{canvas}")
    page.keyboard.press(key)
    assert _told(page, "place") == moved
    assert _picture(page, canvas) != before
    # The same is said to those who do not see it.
    assert page.locator("#here").text_content().endswith(moved)
    page.keyboard.press("Home")
    assert _told(page, "place") == SPOT_MM


def test_a_click_moves_the_crosshair_to_where_it_points(page: Any) -> None:
    slice_ = page.locator("#slice-2")
    box = slice_.bounding_box()
    # Axial: 22 columns from the left; 30 rows from the front, of which row 17 is j = 12.
    column, row = (SPOT[0] + 0.5) / 22, (29 - SPOT[1] + 0.5) / 30
    slice_.click(position={"x": box["width"] * column, "y": box["height"] * row})
    assert _told(page, "place").startswith("x −18, y −12, z ")


def test_the_edges_of_the_grid_hold_the_crosshair(page: Any) -> None:
    page.focus("#slice-1")
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")
    assert _told(page, "place").startswith("x −42,")


def test_the_table_sorts_searches_and_leads_to_regions(page: Any) -> None:
    def column(number: int) -> list[str]:
        return page.locator(f"#regions tbody td:nth-child({number})").all_inner_texts()

    assert len(column(1)) == 6
    loads = [float(text) for text in column(7)]
    assert loads == sorted(loads, reverse=True)
    page.click("#regions th:nth-child(7) button")
    assert [float(text) for text in column(7)] == sorted(loads)
    page.click("#regions th:nth-child(3) button")
    assert column(3) == ["Putamen"] * 3 + ["Vermis & tonsil"] * 3
    page.fill("#search", "verm")
    assert column(3) == ["Vermis & tonsil"] * 3
    assert page.inner_text("#count") == "3 of 6 rows"
    page.select_option("#expert", "CSF")
    assert column(1) == ["CSF"]
    before = _picture(page, "slice-2")
    page.click("#regions td button")
    assert _told(page, "region") == "Vermis & tonsil"
    assert page.get_attribute("#regions td button", "aria-pressed") == "true"
    assert "here" in page.get_attribute("#regions tbody tr", "class")
    assert _picture(page, "slice-2") != before


def test_no_opacity_shows_the_bare_scan(page: Any) -> None:
    page.click("#largest")
    page.locator("#opacity").fill("0")
    bare = {_picture(page, "slice-2")}
    for number in range(5):
        page.select_option("#map", index=number)
        bare.add(_picture(page, "slice-2"))
    assert len(bare) == 1


def test_surfaces_are_drawn_and_lead_back(page: Any) -> None:
    page.locator("#surface-0").scroll_into_view_if_needed()
    page.wait_for_function(
        """() => [0, 1, 2, 3, 4, 5].every((n) => {
          const canvas = document.getElementById(`surface-${n}`);
          const { data } = canvas.getContext("2d").getImageData(
            0, 0, canvas.width, canvas.height);
          return data.some((value) => value > 0);
        })"""
    )
    page.locator("#surface-0").click()
    left = re.match(r"x −(\d+),", _told(page, "place"))
    assert left
    # Half the width of the ellipsoid is 8 voxels of 4 mm; its middle lies at 0 mm.
    assert 16 <= int(left.group(1)) <= 32
    page.locator("#surface-1").click()
    assert re.match(r"x (\d+),", _told(page, "place"))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_hangs_over_the_edge(browser: Any, page_file: Path, width: int) -> None:
    for tab in opened(browser, page_file, "#viewer:not([hidden])"):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        sizes = [tab.locator(f"#slice-{n}").bounding_box() for n in range(3)]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in sizes)


def test_on_paper_there_are_no_controls(page: Any) -> None:
    page.emulate_media(media="print")
    for control in ("#map", "#opacity", "#slider-0", "#search", "#expert"):
        assert page.is_hidden(control)
    for kept in ("#slice-0", "#glass-0", "#surface-0", "#here-place", "#experts", "#said"):
        assert page.is_visible(kept)


def test_without_unpacking_the_slices_stay_and_the_reader_is_told(
    browser: Any, page_file: Path
) -> None:
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    tab = context.new_page()
    tab.goto(page_file.as_uri())
    tab.wait_for_function("document.getElementById('why-not').textContent !== ''")
    assert tab.is_visible("#no-viewer")
    assert tab.is_hidden("#viewer")
    tab.click("#regions th:nth-child(3) button")
    assert tab.locator("#regions tbody td:nth-child(3)").first.inner_text() == "Putamen"
    context.close()


def test_a_cohort_s_maps_open_in_the_view_with_their_table(browser: Any, tmp_path: Path) -> None:
    path = write_maps_page(write_maps(tmp_path))
    for tab in opened(browser, path, "#viewer:not([hidden])"):
        tab.click("#largest")
        assert _told(tab, "region") == "Half & half, right"
        # Voxel 62 of 2 mm from -90 mm, 80 from -126 and 45 from -72; 1e-4 years in 0.008 mL.
        assert _told(tab, "place") == "x 34, y 34, z 18 mm"
        assert _told(tab, "years") == "+0.01250 years a year per mL"
        seen = set()
        for number in range(7):
            tab.select_option("#map", index=number)
            seen.add(_picture(tab, "slice-2"))
        # Of t, contribution and routing are told apart by their size.
        assert len(seen) == 7
        # Voxel 62 of 90 from 5 to -4 is -1.2, a quarter of it of the second expert.
        assert _told(tab, "t") == "−0.30"
        tab.select_option("#map", index=4)
        assert _told(tab, "t") == "−1.20"
        assert "Age: contribution (t): −1.20; Half & half, right" in tab.inner_text("#here")
        assert tab.inner_text("#bar-low") == f"−{tab.inner_text('#bar-high')[1:]}"
        tab.select_option("#map", index=0)
        assert _told(tab, "t") == "no effect chosen"
        first = "#regions tbody tr:first-child td:nth-child(2)"
        assert tab.inner_text(first) == "7"
        tab.click("#regions th:nth-child(7) button")
        assert tab.inner_text(first) == "3"
        tab.fill("#search", "half r")
        assert tab.inner_text("#count") == "2 of 4 rows"
        # The list of people is another list.
        assert tab.inner_text("#people-count") == "9 of 9 participants"
        tab.click("#people th:nth-child(7) button")
        assert tab.inner_text("#people tbody tr:first-child td:first-child") == "a", "largest gap"
        tab.fill("#people-search", "unlike")
        assert tab.locator("#people tbody tr").count() == 1
        assert tab.inner_text("#count") == "2 of 4 rows"
        assert tab.evaluate("document.documentElement.scrollWidth") <= 1280
