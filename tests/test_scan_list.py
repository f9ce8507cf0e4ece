"""Lists of scans in a real browser: sorted, searched and turned page by page."""

from pathlib import Path
from typing import Any

import pytest
from browser_tab import NEEDS_BROWSER, browser, opened

from ermoe_ba.report import IndexRow, QualityPage, write_index
from ermoe_ba.report.page import PAGE_ROWS

pytestmark = NEEDS_BROWSER
__all__ = ["browser"]

# Two full pages and a third of seven rows.
MANY = 2 * PAGE_ROWS + 7
# One pixel: what stands for a picture.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)


def _row(participant: str, age: float | None) -> dict[str, Any]:
    return {"participant_id": participant, "predicted_age": age, "status": "ok"}


def _texts(tab: Any, column: int) -> list[str]:
    return [
        str(text) for text in tab.locator(f"#scans tbody td:nth-child({column})").all_inner_texts()
    ]


def test_the_index_sorts_and_leads_to_the_reports(browser: Any, tmp_path: Path) -> None:
    index = tmp_path / "index.html"
    rows = [
        IndexRow.of(_row(name, age), f"sub-{name}", link)
        for name, age, link in (
            ("b", 60.04, "sub-b_report.html"),
            ("a", None, None),
            ("c", 7.0, "x #1.html"),
        )
    ]
    write_index(index, "Cohort", rows, None)
    for tab in opened(browser, index, "#scans"):
        assert _texts(tab, 1) == ["a", "b", "c"]
        assert tab.is_hidden("#pages"), "three rows are no pages"
        tab.click("#scans th:nth-child(6) button")
        assert _texts(tab, 1) == ["b", "c", "a"], "the oldest first, unknown last"
        tab.click("#scans th:nth-child(6) button")
        assert _texts(tab, 1) == ["c", "b", "a"]
        tab.fill("#search", "sub-c")
        assert _texts(tab, 1) == ["c"]
        assert tab.get_attribute("#scans a", "href") == "x%20%231.html"
        tab.fill("#search", "")
        assert tab.locator("#scans a").nth(1).get_attribute("href") == "sub-b_report.html"


def test_many_scans_are_turned_page_by_page(browser: Any, tmp_path: Path) -> None:
    """Ages fall as names rise: sorted by age, the last name comes last."""
    index = tmp_path / "index.html"
    names = [f"p{n:04d}" for n in range(MANY)]
    rows = [IndexRow.of(_row(name, 90 - n / 10), name, None) for n, name in enumerate(names)]
    write_index(index, "Cohort", rows[::-1], None)
    for tab in opened(browser, index, "#pages:not([hidden])"):
        back, forth = (tab.locator("#pages button").nth(n) for n in range(2))
        assert tab.inner_text("#count") == f"{MANY} of {MANY} scans"
        assert _texts(tab, 1) == names[:PAGE_ROWS]
        assert (back.is_disabled(), forth.is_disabled()) == (True, False)
        forth.click()
        assert _texts(tab, 1) == names[PAGE_ROWS : 2 * PAGE_ROWS]
        assert tab.inner_text("#pages output") == f"{PAGE_ROWS + 1} to {2 * PAGE_ROWS}"
        forth.click()
        assert _texts(tab, 1) == names[2 * PAGE_ROWS :]
        assert (back.is_disabled(), forth.is_disabled()) == (False, True)
        # All rows are sorted, not those of the page; and one begins at the front again.
        tab.click("#scans th:nth-child(6) button")
        tab.click("#scans th:nth-child(6) button")
        assert _texts(tab, 1) == names[::-1][:PAGE_ROWS]
        # A scan of the last page is found, and what is found needs no pages.
        tab.fill("#search", names[-1])
        assert _texts(tab, 1) == names[-1:]
        assert tab.is_hidden("#pages")
        tab.fill("#search", "nobody")
        assert _texts(tab, 1) == []
        assert tab.inner_text("#count") == f"0 of {MANY} scans"


def test_pictures_beyond_the_first_page_are_drawn_when_turned_to(
    browser: Any, tmp_path: Path
) -> None:
    path = tmp_path / "qc.html"
    with QualityPage("Heads") as page:
        for n in range(PAGE_ROWS + 1):
            page.add(n, _row(f"p{n:04d}", 50.0), PIXEL)
        page.write(path)
    for tab in opened(browser, path, "#pages:not([hidden])"):
        assert tab.locator("#scans tbody img").count() == PAGE_ROWS
        tab.locator("#pages button").nth(1).click()
        assert _texts(tab, 2) == [f"p{PAGE_ROWS:04d}"]
        assert tab.evaluate("document.querySelector('#scans img').decode().then(() => 1)") == 1
        # Numbered by the inputs, whatever is shown.
        assert _texts(tab, 1) == [str(PAGE_ROWS + 1)]
        tab.click("#scans th:nth-child(1) button")
        assert _texts(tab, 1)[0] == str(PAGE_ROWS + 1)


def _failed(participant: str) -> dict[str, Any]:
    message = f"/data/{'folder/' * 8}sub-{participant}_T1w.nii.gz: the file must hold all the "
    return {
        "participant_id": participant,
        "status": "failed",
        "input": "sub-a_acq-long_T1w.nii.gz",
        "qc_flags": "brain_volume_high;contrast_to_noise_low",
        "message": message + "voxels its header announces; found an end. Copy it again.",
    }


def _both_pages(folder: Path, count: int) -> tuple[Path, Path]:
    rows = [_row("a", 50.0), *(_failed(f"b{n:04d}") for n in range(count - 1))]
    index, quality = folder / "index.html", folder / "qc.html"
    write_index(index, "Cohort", [IndexRow.of(row, "sub-x", None) for row in rows], quality.name)
    with QualityPage("Heads") as page:
        for number, row in enumerate(rows):
            page.add(number, row, PIXEL)
        page.write(quality)
    return index, quality


def test_messages_have_room_and_no_table_leaves_the_screen(browser: Any, tmp_path: Path) -> None:
    for path in _both_pages(tmp_path, 3):
        for tab in opened(browser, path, "html.scripted"):
            for width in (700, 1280):
                tab.set_viewport_size({"width": width, "height": 844})
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                # 14 times 16 pixels: a sentence has some words a line.
                assert tab.locator("#scans td.message").nth(1).bounding_box()["width"] >= 14 * 16


def test_on_paper_messages_have_room_and_no_table_is_cut(browser: Any, tmp_path: Path) -> None:
    """An A4 sheet lies on its side and has 267 mm between its margins: 96 pixels an inch."""
    for path in _both_pages(tmp_path, PAGE_ROWS + 1):
        for tab in opened(browser, path, "html.scripted"):
            assert tab.is_hidden(".paper")
            sheet = int(267 / 25.4 * 96)
            tab.set_viewport_size({"width": sheet, "height": 680})
            tab.emulate_media(media="print")
            assert tab.locator("#scans").bounding_box()["width"] <= sheet
            message = tab.locator("#scans td.message").nth(1).bounding_box()
            assert message["width"] >= 45 / 25.4 * 96 - 1
            assert tab.inner_text(".paper").startswith(f"On paper: up to {PAGE_ROWS} rows")


@pytest.mark.parametrize("count", [PAGE_ROWS, PAGE_ROWS + 1])
def test_without_scripts_the_first_page_is_there(browser: Any, tmp_path: Path, count: int) -> None:
    index = tmp_path / "index.html"
    rows = [IndexRow.of(_row(f"p{n:04d}", None), f"p{n:04d}", None) for n in range(count)]
    write_index(index, "Cohort", rows, None)
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(index.as_uri())
    assert len(_texts(tab, 1)) == PAGE_ROWS
    said = tab.locator("noscript p").all_inner_texts()
    assert [text.partition(" scans")[0] for text in said] == (
        [f"The first {PAGE_ROWS} of {count}"] * (count > PAGE_ROWS)
    )
    context.close()
