"""The page on a cohort's maps: what it shows, told from the file alone."""

import html
import json
import re
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from maps_content import MASK, SPOT, write_maps

from ermoe_ba.cli.main import main
from ermoe_ba.maps.files import ATLAS, DESCRIPTION, EXPERTS, MEAN_WEIGHTS, PAGE, REGIONS
from ermoe_ba.report.experts import ExpertWorth
from ermoe_ba.report.maps_page import write_maps_page


def _page(folder: Path, **changes: Any) -> str:
    return write_maps_page(write_maps(folder, **changes)).read_text(encoding="utf-8")


def _told(page: str) -> dict:
    match = re.search(r'data-told="([^"]*)"', page)
    assert match
    return json.loads(html.unescape(match[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _page(tmp_path_factory.mktemp("page"))


def test_where_ages_are_known_the_change_with_age_is_shown(page: str) -> None:
    told = _told(page)
    first, winner, csf, free = told["maps"]
    assert (first["name"], first["unit"]) == ("Change with a year of age", "years a year per mL")
    # The spot's 1e-4 years in a voxel of 0.008 mL, on whole numbers to 32,767.
    assert first["scale"] * 32767 == pytest.approx(1e-4 / 0.008, rel=1e-6)
    assert winner["kind"] == "winner"
    assert told["experts"] == ["CSF", "Free 1"]
    assert "serves its tissue by construction" in csf["said"]
    assert "seeds of a fold +0.71, folds +0.62." in csf["said"]
    assert free["said"].endswith("Free: it may serve any place. Nothing to compare it to.")


def test_the_face_of_a_map_says_what_the_model_owes_to_its_expert(
    tmp_path: Path, page: str
) -> None:
    _, _, csf, free = _told(page)["maps"]
    assert csf["said"].startswith(
        "Without this expert the model's mean absolute error on its training cohort, out of fold, "
        "grows from 5.0 to 6.1 years. Regional"
    )
    assert free["said"].startswith(
        "Removing this expert changes nothing: the model's mean absolute error is 5.04 years "
        "without it and 5.00 with all. Read nothing into its map. Free"
    )
    assert _experts(page) == [["6.12", "+1.12"], ["5.04", "+0.04"]]
    assert "with all it is 5.00 years" in page
    better = _page(tmp_path, mae_without=(6.12, 4.5))
    assert "is smaller without it: 4.50 years against 5.00" in _told(better)["maps"][3]["said"]
    assert _experts(better)[1] == ["4.50", "−0.50"]


def test_beside_the_maps_stands_what_the_model_owes_to_all_experts(tmp_path: Path) -> None:
    interfered = {"zeroed": 14.9, "random_routing": 5.81, "other_subject_routing": 6.02}
    shown = _page(tmp_path, model_mae_interfered=interfered)
    assert (
        "its mean absolute error, 5.0 years out of fold on its training cohort, becomes 14.9 with "
        "all experts silenced, 5.8 with random routing and 6.0 with other people&#39;s routing."
    ) in shown
    # In the section of the maps, before that of the regions.
    assert shown.index("becomes 14.9") < shown.index('id="regions-title"')
    # Of what was not measured, nothing.
    some = ExpertWorth(5.0, {}, {"zeroed": 14.9})
    assert some.of_all.endswith("becomes 14.9 with all experts silenced.")
    assert ExpertWorth(5.0, {"csf": 6.12}).of_all == ""
    assert ExpertWorth(None, {}, interfered).of_all == ""


def test_of_a_model_whose_card_is_not_known_nothing_is_claimed(tmp_path: Path) -> None:
    page = _page(tmp_path, mae_without=(nan, nan), model_mae=None)
    assert _experts(page) == [["n/a", "n/a"]] * 2
    assert "was not measured" in _told(page)["maps"][2]["said"]
    assert "changes nothing" not in page
    assert "its card does not" in page
    assert "with all it is" not in page
    assert "becomes" not in page


def _experts(page: str) -> list[list[str]]:
    """Return the last two cells of each row of the table of experts."""
    body = re.search(r"can the experts' maps be relied on.*?</table>", page, re.DOTALL)
    assert body
    rows = re.findall(r"<tr>(.*?)</tr>", body[0].split("<tbody>")[1], re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row)[-2:] for row in rows]


def test_without_ages_the_mean_is_shown_and_no_effect(tmp_path: Path, page: str) -> None:
    other = _page(tmp_path, ages=False)
    assert _told(other)["maps"][0]["name"] == "Mean contribution to the age"
    assert "What do the maps go along with?" in page
    assert "What do the maps go along with?" not in other
    assert _told(other)["maps"][0]["limit"] > 0


def test_it_is_whole_and_says_who_saw_whom(tmp_path: Path, page: str) -> None:
    assert "9 participants, 11 scans" in page
    assert "51.3 <span>years" in page
    assert "the members see it that were not trained on it" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", page)
    assert "it knows too much" in _page(tmp_path, out_of_fold=False)
    assert "it knows too much" not in page


def test_regions_come_by_their_change_with_age_and_unknown_numbers_last(page: str) -> None:
    body = re.search(r'<table id="regions">.*?</table>', page, re.DOTALL)
    assert body
    rows = [
        re.findall(r"<td[^>]*>(.*?)</td>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", body[0].split("<tbody>")[1], re.DOTALL)
    ]
    assert [row[1] for row in rows] == ["7", "7", "3", "3"]
    assert rows[0][0] == "CSF"
    assert rows[0][2] == "Half &amp; half"
    # Enrichment, mean years (unknown), years a year of age.
    assert (rows[0][6], rows[0][8], rows[0][9]) == ("−0.50", "n/a", "+0.0200")
    assert body[0].count('aria-sort="descending"') == 1


def test_it_says_how_small_a_q_can_be(tmp_path: Path, page: str) -> None:
    assert (
        "the smallest q that one row\nalone can have is 1: <strong>too few maps of chance" in page
    )
    shown = _page(tmp_path, smallest_q=0.0412)
    assert "alone can have is 0.041. A heading sorts" in shown


def test_the_same_maps_give_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert _page(tmp_path) == page
    assert MASK.data[SPOT] > 0


# Made again


def test_the_report_command_makes_the_page_again(
    tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_maps(tmp_path)
    assert not (folder / PAGE).exists()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"Written: {folder / PAGE}\n"
    assert (folder / PAGE).read_text(encoding="utf-8") == page
    (folder / PAGE).write_text("spoilt", encoding="utf-8")
    assert main(["report", str(folder)]) == 0
    assert (folder / PAGE).read_text(encoding="utf-8") == page


def _on_other_grid(path: Path) -> None:
    nib.Nifti1Image(np.zeros((9, 9, 9, 2)), np.diag([3.0, 3, 3, 1])).to_filename(path)


def _without_a_column(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.split("\t", 1)[1] for line in lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "spoil", "why"),
    [
        (DESCRIPTION, Path.unlink, "must be readable JSON; found FileNotFoundError"),
        (DESCRIPTION, lambda path: path.write_text("{}"), "maps of this version; found no part"),
        (REGIONS, Path.unlink, "must be a table with the columns expert, kind, index"),
        (EXPERTS, _without_a_column, "found KeyError: 'expert'"),
        (ATLAS, Path.unlink, "must stand beside maps.json; found none"),
        (MEAN_WEIGHTS, _on_other_grid, "found (9, 9, 9, 2) voxels of [3.0, 3.0, 3.0] mm from"),
        # Of another call, with three experts.
        (
            MEAN_WEIGHTS,
            lambda path: nib.Nifti1Image(
                np.zeros((*MASK.grid.shape, 3)), MASK.grid.affine
            ).to_filename(path),
            "must have the shape (91, 109, 91, 2)",
        ),
    ],
    ids=["no json", "old", "no table", "no column", "no map", "other grid", "other experts"],
)
def test_maps_that_lack_a_file_are_refused_by_its_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    spoil: Callable[[Path], None],
    why: str,
) -> None:
    folder = write_maps(tmp_path)
    spoil(folder / name)
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{folder / name}: " in said
    assert why in said
    assert "Make the maps again" in said
    assert not (folder / PAGE).exists()


def test_the_page_of_maps_takes_no_other_model_or_atlas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_maps(tmp_path)
    assert main(["report", str(folder), "--atlas", "MUSEIXI", "--model", "ixi-hh"]) == 2
    assert "found --model, --atlas. Leave it out" in capsys.readouterr().err
    assert not (folder / PAGE).exists()
