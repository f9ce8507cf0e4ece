"""The page on a cohort's maps: what it shows, told from the file alone."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from maps_content import MASK, SPOT, atlas, group_maps

from ermoe_ba.maps.group import GroupMaps
from ermoe_ba.report.maps_page import write_maps_page


def _page(folder: Path, group: GroupMaps) -> str:
    write_maps_page(folder / "maps.html", group, atlas())
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
    assert free["said"] == "Free: it may serve any place. Nothing to compare it to."


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


def test_the_same_maps_give_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert _page(tmp_path, group_maps()) == page
    assert MASK.data[SPOT] > 0
