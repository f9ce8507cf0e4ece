"""What the pages of a large batch cost a browser: opening, sorting, searching, turning.

Purpose: whether index.html and qc.html of thousands of scans can be used.
Command: python pipelines/page_cost.py OUT --scans 10000 --picture-kb 15
         Scans, ages and pictures are made up, the same at each call; pictures have as many bytes as
         those of real heads.
Needs:   the extra `test` (playwright) and a chromium of the system.
Time:    20 s of one core for 10,000 scans.
Result:  OUT/index.html, OUT/qc.html; on the screen, their sizes and the processor seconds of all of
         the browser's processes for each action, until the page is drawn.
"""

import argparse
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from ermoe_ba.report import IndexRow, QualityPage, write_index

# Longer than any action takes on a busy machine.
PATIENCE_MS = 300_000


def made_up_row(number: int, chance: random.Random) -> dict[str, Any]:
    """Return a row of ``predictions.tsv``; every fiftieth scan failed, every ninth has flags."""
    participant = f"{chance.randrange(10**8):08d}"
    if number % 50 == 0:
        message = "the image must have three axes; found 4. Give one T1w volume."
        return {"participant_id": participant, "status": "failed", "message": message}
    predicted, known = chance.uniform(20, 90), chance.uniform(20, 90)
    return {
        "participant_id": participant,
        "status": "ok",
        "predicted_age": predicted,
        "predicted_age_lower": predicted - 12,
        "predicted_age_upper": predicted + 12,
        "chronological_age": known,
        "brain_age_gap": predicted - known,
        "qc_flags": "noisy;mirrored_look" if number % 9 == 0 else None,
    }


def write_pages(out: Path, scans: int, picture_bytes: int) -> tuple[Path, Path]:
    """Write both pages of a made-up batch; return their paths."""
    chance = random.Random(0)
    rows = [made_up_row(number, chance) for number in range(scans)]
    entries = [IndexRow.of(row, f"sub-{row['participant_id']}", None) for row in rows]
    index, quality = out / "index.html", out / "qc.html"
    write_index(index, "Cohort", entries, quality.name)
    with QualityPage("Brain ages") as page:
        for number, row in enumerate(rows):
            page.add(number, row, chance.randbytes(picture_bytes))
        page.write(quality)
    return index, quality


def browser_seconds() -> float:
    """Return the processor seconds of all processes that this one started."""
    used = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return float(sum(times.user + times.system for times in used))


def measure(tab: Any, action: Callable[[], object]) -> float:
    """Return the processor seconds of an action until what it changed is drawn."""
    before = browser_seconds()
    action()
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return browser_seconds() - before


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both pages; return 0."""
    parser = argparse.ArgumentParser(description="Measure what large pages cost a browser.")
    parser.add_argument("out", type=Path, help="folder for the pages")
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--picture-kb", type=int, default=15)
    given = parser.parse_args(arguments)
    pages = write_pages(given.out, given.scans, given.picture_kb * 1000)
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for path in pages:
            tab = browser.new_page()
            tab.set_default_timeout(PATIENCE_MS)
            actions: dict[str, Callable[[], object]] = {
                "open": partial(tab.goto, path.as_uri()),
                "sort by age": partial(tab.click, "#scans th:nth-child(6) button"),
                "search": partial(tab.fill, "#search", "noisy 77"),
                "all again": partial(tab.fill, "#search", ""),
                "turn": tab.locator("#pages button").nth(1).click,
            }
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {given.scans} scans")
            for name, action in actions.items():
                print(f"  {name}: {measure(tab, action):.2f} processor seconds", flush=True)
            tab.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
