"""The page on a cohort's maps: what it shows, told from the file alone."""

import html
import json
import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from maps_content import MASK, SPOT, atlas, group_maps

from ermoe_ba.maps.group import GroupMaps
from ermoe_ba.report.experts import ExpertWorth
from ermoe_ba.report.maps_page import write_maps_page

# 6.12 - 5 is a loss; 5.04 - 5 lies below 0.1 years.
WORTH = ExpertWorth(5.0, {"csf": 6.12, "free_1": 5.04})


def _page(folder: Path, group: GroupMaps, worth: ExpertWorth = WORTH) -> str:
    write_maps_page(folder / "maps.html", group, atlas(), worth)
    return (folder / "maps.html").read_text(encoding="utf-8")


def _told(page: str) -> dict:
    match = re.search(r'data-told="([^"]*)"', page)
    assert match
    return json.loads(html.unescape(match[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _page(tmp_path_factory.mktemp("page"), group_maps())


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
    known = ExpertWorth(5.0, {"csf": 6.12, "free_1": 4.5})
    better = _page(tmp_path, group_maps(mae_without=(6.12, 4.5)), known)
    assert "is smaller without it: 4.50 years against 5.00" in _told(better)["maps"][3]["said"]
    assert _experts(better)[1] == ["4.50", "−0.50"]


def test_beside_the_maps_stands_what_the_model_owes_to_all_experts(tmp_path: Path) -> None:
    interfered = {"zeroed": 14.9, "random_routing": 5.81, "other_subject_routing": 6.02}
    shown = _page(tmp_path, group_maps(), ExpertWorth(5.0, WORTH.without, interfered))
    assert (
        "its mean absolute error, 5.0 years out of fold on its training cohort, becomes 14.9 with "
        "all experts silenced, 5.8 with random routing and 6.0 with other people&#39;s routing."
    ) in shown
    # In the section of the maps, before that of the regions.
    assert shown.index("becomes 14.9") < shown.index('id="regions-title"')
    # Of what was not measured, nothing.
    some = ExpertWorth(5.0, {}, {"zeroed": 14.9})
    assert some.of_all.endswith("becomes 14.9 with all experts silenced.")
    assert WORTH.of_all == ExpertWorth(None, {}, interfered).of_all == ""


def test_of_a_model_whose_card_is_not_known_nothing_is_claimed(tmp_path: Path) -> None:
    page = _page(tmp_path, group_maps(mae_without=(nan, nan)), ExpertWorth(None, {}))
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
    other = _page(tmp_path, group_maps(ages=False))
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
    group = group_maps()
    seen = replace(group, description={**group.description, "out_of_fold": False})
    assert "it knows too much" in _page(tmp_path, seen)
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
    group = group_maps()
    known = replace(group, description={**group.description, "smallest_q": 0.0412})
    assert "alone can have is 0.041. A heading sorts" in _page(tmp_path, known)


def test_the_same_maps_give_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert _page(tmp_path, group_maps()) == page
    assert MASK.data[SPOT] > 0
