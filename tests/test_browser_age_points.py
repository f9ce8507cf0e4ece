"""The chart of ages in a real browser: what it shows is what the list holds, by hand and by key."""

from pathlib import Path
from typing import Any

import pytest
from browser_tab import NEEDS_BROWSER, browser, opened
from maps_content import write_maps

from ermoe_ba.report import IndexRow, write_index
from ermoe_ba.report.maps_page import write_maps_page
from ermoe_ba.report.page import PAGE_ROWS

pytestmark = NEEDS_BROWSER
__all__ = ["browser"]

# So many that the list has three pages.
MANY = 2 * PAGE_ROWS + 7
# What is seen at a place of the picture: red, green and blue.
COLOUR = """
([x, y]) => {
  const image = document.querySelector(".points img");
  const canvas = document.createElement("canvas");
  const { naturalWidth, naturalHeight } = image;
  [canvas.width, canvas.height] = [1500, Math.round((1500 * naturalHeight) / naturalWidth)];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const pixel = context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data;
  return Array.from(pixel.slice(0, 3));
}
"""
# As `ermoe_ba.report.drawing` has them: blue, orange, ink.
PLAIN, FLAGGED, NONE = [11, 92, 138], [196, 105, 10], [29, 39, 51]


def _rows() -> list[IndexRow]:
    """Five scans far from each other: plain, with flags, failed, and two of unknown age."""
    told: tuple[dict[str, Any], ...] = (
        {"predicted_age": 35.0, "chronological_age": 30.0, "brain_age_gap": 5.0},
        {"predicted_age": 60.0, "chronological_age": 70.0, "qc_flags": "noisy;unlike_training"},
        {"status": "failed", "message": "must have three axes; found 4."},
        {"predicted_age": 80.0},
        {"predicted_age": 25.0},
    )
    rows = [{"participant_id": "abcde"[n], "status": "ok"} | row for n, row in enumerate(told)]
    return [
        IndexRow.of(row, f"sub-{row['participant_id']}", f"sub-{row['participant_id']}.html")
        for row in rows
    ]


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    path = tmp_path / "index.html"
    write_index(path, "Cohort", _rows(), None)
    yield from opened(browser, path, "html.scripted")


def _place(tab: Any, number: int) -> tuple[float, float]:
    told = tab.locator("#scans tbody tr").nth(number).get_attribute("data-at")
    x, y = map(float, told.split())
    return x, y


def _told(tab: Any) -> str:
    return str(tab.inner_text(".age-points output"))


def test_marks_stand_where_the_rows_say(page: Any) -> None:
    page.evaluate("document.querySelector('.points img').decode()")
    for number, colour in enumerate((PLAIN, FLAGGED, NONE, PLAIN, PLAIN)):
        assert page.evaluate(COLOUR, _place(page, number)) == pytest.approx(colour, abs=3)
    # Where no row is, there is no mark: between the first and the second, off the dashed line.
    (x, _), (_, y) = _place(page, 0), _place(page, 1)
    assert page.evaluate(COLOUR, (x, y)) == [255, 255, 255]


def test_places_are_the_ages_of_the_table(page: Any) -> None:
    """Two rows of known ages give both scales, which are one but for the picture's shape."""
    (x0, y0), (x1, y1), *others = (_place(page, n) for n in range(5))
    box = page.locator(".points img").bounding_box()
    across = (x1 - x0) * box["width"] / (70 - 30)
    up = (y0 - y1) * box["height"] / (60 - 35)
    assert across == pytest.approx(up, rel=1e-3)
    # Of unknown age: 80 years lies 20 above 60.
    assert (y1 - others[1][1]) * box["height"] == pytest.approx(20 * up, rel=1e-2)
    assert others[2][0] < others[1][0] < others[0][0], "by predicted age, the failed one last"


def test_arrows_go_from_point_to_point_and_tell_the_row(page: Any) -> None:
    page.focus(".points")
    assert page.is_hidden(".ring")
    said = []
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        said.append(_told(page))
    names = [text.split(";")[0] for text in said]
    assert names == [f"Participant: {name}" for name in "abedc"]
    assert said[0] == (
        "Participant: a; Report: sub-a; Status: ok; Predicted age: 35.0; Lower end: n/a; "
        "Upper end: n/a; Chronological age: 30.0; Gap: +5.0"
    )
    assert "Flags: Noisy, Unlike training;" in said[1]
    assert "Message: must have three axes; found 4." in said[4]
    # It ends at the last, and goes up by predicted age from the one without.
    page.keyboard.press("ArrowRight")
    assert _told(page) == said[4]
    page.keyboard.press("ArrowUp")
    assert _told(page).startswith("Participant: e")
    page.keyboard.press("Home")
    page.keyboard.press("Escape")
    assert (_told(page), page.is_hidden(".ring")) == ("", True)


def test_the_ring_lies_on_its_point_and_enter_leads_to_the_report(page: Any) -> None:
    page.focus(".points")
    page.keyboard.press("ArrowRight")
    ring, box = (page.locator(f".points {part}").bounding_box() for part in (".ring", "img"))
    x, y = _place(page, 0)
    assert ring["x"] + ring["width"] / 2 == pytest.approx(box["x"] + x * box["width"], abs=1)
    assert ring["y"] + ring["height"] / 2 == pytest.approx(box["y"] + y * box["height"], abs=1)
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "sub-a.html"
    assert page.locator("#scans tr.led-to").count() == 1


def test_a_click_leads_to_the_row_even_out_of_a_search(page: Any) -> None:
    picture = page.locator(".points img")
    box = picture.bounding_box()
    x, y = _place(page, 1)
    page.fill("#search", "sub-a")
    picture.click(position={"x": x * box["width"] + 4, "y": y * box["height"] - 3})
    assert page.evaluate("document.activeElement.getAttribute('href')") == "sub-b.html"
    assert page.inner_text("#count") == "5 of 5 scans"
    # Where no point is near, nothing is chosen.
    picture.click(position={"x": 3, "y": 3})
    assert page.is_hidden(".ring")


def test_a_point_leads_to_a_later_page_of_the_list(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    told: list[dict[str, Any]] = [
        {"participant_id": f"p{n:04d}", "status": "ok", "predicted_age": 90 - n / 5}
        for n in range(MANY)
    ]
    write_index(path, "Cohort", [IndexRow.of(r, r["participant_id"], None) for r in told], None)
    for tab in opened(browser, path, "#pages:not([hidden])"):
        tab.focus(".points")
        # The youngest looking is the last of the names.
        tab.keyboard.press("Home")
        tab.keyboard.press("Enter")
        assert tab.inner_text("#pages output") == f"{2 * PAGE_ROWS + 1} to {MANY}"
        assert tab.evaluate("document.activeElement.cells[0].textContent") == f"p{MANY - 1:04d}"


def test_participants_of_maps_are_led_to_as_well(browser: Any, tmp_path: Path) -> None:
    path = write_maps_page(write_maps(tmp_path))
    for tab in opened(browser, path, "#viewer:not([hidden])"):
        tab.focus(".points")
        tab.keyboard.press("End")
        # The oldest of nine, 70 years and 9 too old.
        assert _told(tab).startswith("Participant: a; Scans: 1; Predicted age: 79.0")
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.cells[0].textContent") == "a"


@pytest.mark.parametrize("width", [390, 700])
def test_nothing_hangs_over_the_edge(browser: Any, tmp_path: Path, width: int) -> None:
    path = tmp_path / "index.html"
    write_index(path, "Cohort", _rows(), None)
    for tab in opened(browser, path, "html.scripted"):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_picture_is_there(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_index(path, "Cohort", _rows(), None)
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.is_visible(".points img")
    assert tab.is_hidden(".keys")
    context.close()
