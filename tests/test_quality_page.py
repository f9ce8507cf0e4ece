"""The page of a batch and its pictures."""

import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ermoe_ba.report import QualityPage, draw_thumbnail
from ermoe_ba.report.page import PAGE_ROWS
from ermoe_ba.space import SpatialGrid, Volume

# Unequal axes, so that a mix-up cannot go unseen.
GRID = SpatialGrid((30, 40, 20), np.diag([2.0, 2.0, 2.0, 1.0]), "MNI")
MALICIOUS = '"><script>alert(1)</script>'


def _brain() -> tuple[Volume, Volume]:
    mask = np.zeros(GRID.shape, np.uint8)
    mask[6:24, 8:34, 5:16] = 1
    return Volume(0.5 * mask.astype(np.float32), GRID), Volume(mask, GRID)


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize(
    ("axis", "half", "panels"),
    [
        (0, "right", ("coronal", "axial")),
        (1, "right", ("sagittal",)),
        (1, "upper", ("axial",)),
        (2, "upper", ("sagittal", "coronal")),
    ],
)
def test_left_is_left_and_top_is_top(axis: int, half: str, panels: tuple[str, ...]) -> None:
    """The half of the brain to the right, in front or above is four times as bright.

    The box is the brain and three voxels around it: 24 x 32 x 17; slices stand in a row, two empty
    columns at either side: sagittal 36 wide, coronal 28, axial 28.
    """
    _, mask = _brain()
    values = np.where(mask.data, 0.3, 0).astype(np.float32)
    inside = np.flatnonzero(mask.data.any(axis=tuple({0, 1, 2} - {axis})))
    np.moveaxis(values, axis, 0)[inside[len(inside) // 2] :] *= 4
    picture = _pixels(draw_thumbnail(mask.same_grid(values), mask))
    assert picture.shape == (32, 36 + 28 + 28, 3)
    columns = {"sagittal": slice(36), "coronal": slice(36, 64), "axial": slice(64, 92)}
    for panel in panels:
        # Turned so that the half comes first.
        shown = picture[:, columns[panel]].astype(int).sum(axis=2)
        shown = shown.T[::-1] if half == "right" else shown
        bright, dim = (part.sum() for part in np.array_split(shown, 2))
        assert bright > 2 * dim, panel


def test_the_outline_is_drawn_along_the_mask() -> None:
    image, mask = _brain()
    picture = _pixels(draw_thumbnail(image, mask)).astype(int)
    coloured = np.ptp(picture, axis=2) > 50
    # Rims of rectangles of 26 x 11, 18 x 11 and 18 x 26 voxels.
    assert coloured.sum() == sum(2 * (a + b) - 4 for a, b in ((26, 11), (18, 11), (18, 26)))


def test_without_a_brain_there_is_no_picture() -> None:
    image, mask = _brain()
    assert draw_thumbnail(image, mask.same_grid(np.zeros_like(mask.data))) == b""


def test_picture_and_mask_must_share_a_grid() -> None:
    image, _ = _brain()
    other = SpatialGrid((5, 5, 5), np.eye(4), "MNI")
    with pytest.raises(ValueError, match="one grid"):
        draw_thumbnail(image, Volume(np.ones((5, 5, 5), np.uint8), other))


def _row(name: str, **more: object) -> dict[str, object]:
    return {"participant_id": name, "session_id": None, "status": "ok", **more}


def _page(path: Path) -> str:
    with QualityPage("Heads") as page:
        page.add(1, _row("second", predicted_age=50.25, qc_flags="noisy;mirrored_look"), b"png")
        page.add(0, _row(MALICIOUS, status="refused", message="no brain"), b"")
        page.write(path)
    return path.read_text(encoding="utf-8")


def test_rows_stand_in_the_order_of_the_inputs_whatever_was_finished_first(tmp_path: Path) -> None:
    html = _page(tmp_path / "qc.html")
    rows = re.findall(r"<tr class=\"(\w+)\">(.*?)</tr>", html, flags=re.DOTALL)
    assert [kind for kind, _ in rows] == ["refused", "ok"]
    assert "no brain" in rows[0][1]
    assert base64.b64encode(b"png").decode() in rows[1][1]
    assert "50.2" in rows[1][1]
    assert 'data-value="50.25"' in rows[1][1]
    # Two flags, and a gap that nobody knows.
    assert 'data-value="2"' in rows[1][1]
    assert "Mirrored look" in rows[1][1]
    assert rows[1][1].count('data-value="NaN"') == 2
    assert [path.name for path in tmp_path.iterdir()] == ["qc.html"]


def test_it_asks_nothing_of_any_other_place_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    html = _page(tmp_path / "qc.html")
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert not re.search(r"https?:|url\(|@import|<link", html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src"
    assert f"{policy} 'sha256-{digest}'" in html


def test_a_page_of_the_same_rows_has_the_same_bytes(tmp_path: Path) -> None:
    assert _page(tmp_path / "a" / "qc.html") == _page(tmp_path / "b" / "qc.html")


def test_runs_of_one_session_are_told_apart_by_their_files(tmp_path: Path) -> None:
    with QualityPage("Heads") as page:
        for number in (1, 2):
            scan = f"/d/sub-1/anat/sub-1_run-{number}_T1w.nii.gz"
            page.add(number, _row("1", input=scan), b"png")
        page.write(tmp_path / "qc.html")
    html = (tmp_path / "qc.html").read_text(encoding="utf-8")
    cells = re.findall(r"<td>1<small>(.*?)</small></td>", html)
    assert cells == ["sub-1_run-1_T1w.nii.gz", "sub-1_run-2_T1w.nii.gz"]


def test_rows_beyond_the_first_page_wait_in_a_template(tmp_path: Path) -> None:
    with QualityPage("Heads") as page:
        for number in range(PAGE_ROWS + 2):
            page.add(number, _row(f"p{number:04d}"), b"png")
        page.write(tmp_path / "qc.html")
    html = (tmp_path / "qc.html").read_text(encoding="utf-8")
    drawn, waiting = html.split("<template>")
    assert re.findall(r"<td>(p\d+)</td>", drawn) == [f"p{n:04d}" for n in range(PAGE_ROWS)]
    rest = [f"p{n:04d}" for n in range(PAGE_ROWS, PAGE_ROWS + 2)]
    assert re.findall(r"<td>(p\d+)</td>", waiting.partition("</template>")[0]) == rest
    assert f"The first {PAGE_ROWS} of {PAGE_ROWS + 2} scans" in html
    assert "<template>" not in _page(tmp_path / "few.html")
