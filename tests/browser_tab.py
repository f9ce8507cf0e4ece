"""A real browser for tests: whatever a page does, it asks for nothing and nothing fails."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_BROWSER = [
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None or CHROMIUM is None,
        reason="needs playwright (extra test) and a chromium of the system: none is installed",
    ),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Containers seldom allow the sandbox; the only pages opened are this test's own.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Any, path: Path, ready: str) -> Iterator[Any]:
    """Yield a tab with the page, once it holds what the selector `ready` finds."""
    requests: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    # Machines that test may be busy: patience costs nothing where it is not needed.
    context.set_default_timeout(120_000)
    tab = context.new_page()
    tab.on("request", lambda request: requests.append(request.url))
    # Reading a picture back, which only these tests do, makes Chromium advise another canvas.
    tab.on(
        "console",
        lambda message: (
            None if "willReadFrequently" in message.text else complaints.append(message.text)
        ),
    )
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(path.as_uri())
    tab.wait_for_selector(ready, state="attached")
    yield tab
    context.close()
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert complaints == []
