"""The page on a cohort's maps: what it shows, told from the file alone."""

import base64
import gzip
import html
import json
import re
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from maps_content import MASK, SPOT, T_ON_AGE, write_maps

from ermoe_ba.cli.main import main
from ermoe_ba.maps.files import EFFECTS, PAGE
from ermoe_ba.maps.kept import KeptMaps
from ermoe_ba.report.age_points_chart import draw_age_points
from ermoe_ba.report.effect_maps import MAX_EFFECT_MAPS, EffectMaps, effect_maps
from ermoe_ba.report.experts import ExpertWorth
from ermoe_ba.report.maps_page import write_maps_page
from ermoe_ba.report.people import People, draw_loads


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
    first, winner, csf, free, *_ = told["maps"]
    assert (first["name"], first["unit"]) == ("Change with a year of age", "years a year per mL")
    # The spot's 1e-4 years in a voxel of 0.008 mL, on whole numbers to 32,767.
    assert first["scale"] * 32767 == pytest.approx(1e-4 / 0.008, rel=1e-6)
    assert winner["kind"] == "winner"
    assert told["experts"] == ["CSF", "Free 1"]
    assert "serves its region by construction" in csf["said"]
    assert "seeds of a fold +0.71, folds +0.62." in csf["said"]
    assert free["said"].endswith("Free: it may serve any place. Nothing to compare it to.")


def test_the_face_of_a_map_says_what_the_model_owes_to_its_expert(
    tmp_path: Path, page: str
) -> None:
    _, _, csf, free, *_ = _told(page)["maps"]
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
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body[0].split("<tbody>")[1], re.DOTALL)
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
    # Where it stands among what made the maps, too.
    assert "<td>0.041</td>" in shown


def test_the_same_maps_give_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert _page(tmp_path) == page
    assert MASK.data[SPOT] > 0


# Whose ages


def _rows(page: str, table: str) -> list[list[str]]:
    body = re.search(rf'<table id="{table}".*?</table>', page, re.DOTALL)
    assert body
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body[0].split("<tbody>")[1], re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_every_participant_has_a_row_with_interval_gap_and_flags(page: str) -> None:
    rows = _rows(page, "people")
    assert [row[0] for row in rows] == list("abcdefghi")
    # The last of 30, 35, ... 70 years, 9 years too old, with 6 on either side.
    assert rows[0][1:7] == ["1", "79.0", "73.0", "85.0", "70.0", "+9.0"]
    assert rows[0][7] == "<span>Noisy</span>"
    assert rows[1][7] == "<span>Noisy</span><span>Unlike training</span>"
    assert rows[8][1:] == [
        *("3", "26.0", "20.0", "32.0", "30.0", "−4.0"),
        "<span>Name in training</span>",
    ]


def test_the_head_tells_gap_intervals_and_flags(tmp_path: Path, page: str) -> None:
    # Of -4 -2 0 0 2 2 4 7 9: squares of the departures from 2 sum to 138, over 8.
    assert f"+2.0 ± {np.sqrt(138 / 8):.1f} years" in page
    assert "Age inside the 90 % interval</dt><dd>7 of 9" in page
    assert "Noisy 2, Name in training 1, Unlike training 1 (of 9 participants)" in page
    seen = _page(tmp_path, out_of_fold=False)
    assert "<dt>With flags</dt><dd>3</dd>" in seen
    assert "over 3 training participants" in seen
    unknown = _page(tmp_path, ages=False, coverage=None)
    assert "<dt>Age inside" not in unknown
    assert "Mean gap" not in unknown
    assert "prediction interval" in unknown
    assert [row[5:7] for row in _rows(unknown, "people")] == [["n/a", "n/a"]] * 9


def test_thousands_of_people_make_no_heavy_chart() -> None:
    """Points and intervals are pixels: as paths, 5,000 of each are more than a megabyte."""
    count, rng = 5000, np.random.default_rng(0)
    ages, gaps = rng.uniform(20, 80, count), rng.normal(0, 6, count)
    unknown = np.arange(count) % 5 == 0
    table = pd.DataFrame(
        {
            "participant_id": [f"p{number:04d}" for number in range(count)],
            "scans": 1,
            "predicted_age": ages + gaps,
            "predicted_age_lower": ages + gaps - 9,
            "predicted_age_upper": ages + gaps + 9,
            "chronological_age": np.where(unknown, np.nan, ages),
            "brain_age_gap": np.where(unknown, np.nan, gaps),
            "qc_flags": np.where(np.arange(count) % 3, "n/a", "noisy"),
            "seen_in_training": "no",
        }
    )
    people = People(table, table[["chronological_age", "predicted_age"]].dropna())
    assert len(draw_age_points(people.points("90 % interval"))) < 500_000
    assert len(people.draw_gaps()) < 100_000


def test_loads_are_drawn_with_their_spread() -> None:
    experts = pd.DataFrame(
        {
            "expert": ["csf", "free_1"],
            "kind": ["regional", "free"],
            "load": [0.7, 0.3],
            "load_sd": [0.1, np.nan],
        }
    )
    drawn = draw_loads(experts)
    assert drawn == draw_loads(experts)
    assert drawn != draw_loads(experts.assign(load_sd=[0.2, np.nan]))
    assert drawn != draw_loads(experts.assign(load=[0.6, 0.4]))


# Effects


def test_t_stands_in_the_selector_after_the_maps_of_the_cohort(tmp_path: Path, page: str) -> None:
    told = _told(page)
    shown = told["maps"][4:]
    assert [one["name"] for one in shown] == [
        "Age: contribution (t)",
        "Age: routing to CSF (t)",
        "Age: routing to Free 1 (t)",
    ]
    assert [one["number"] for one in shown] == [3, 4, 5]
    # One scale: t reaches 5 of the contribution, in the outermost voxel of the grid; in the brain
    # somewhat less.
    assert {one["limit"] for one in shown} <= {4.0, 5.0}
    assert len({one["limit"] for one in shown}) == 1
    assert "4 tokens up and 1 down" in shown[0]["said"]
    match = re.search(r'data-volumes="data:application/gzip;base64,([^"]*)"', page)
    assert match
    stream = gzip.decompress(base64.b64decode(match[1]))
    count = int(np.prod(told["shape"]))
    # Labels (4 bytes a voxel), contributions and two experts, three maps of t (2 each), T1w.
    assert len(stream) == count * (4 + 2 * (3 + 3) + 1)
    of_years, of_csf = (
        np.frombuffer(stream, "<i2", count, 4 * count + 2 * count * one["number"]) * one["scale"]
        for one in shown[:2]
    )
    np.testing.assert_allclose(of_csf, of_years / 2, atol=2e-4)
    box = [round((told["origin"][axis] + offset) / 2) for axis, offset in enumerate((90, 126, 72))]
    at = (30, 60, 45)
    i, j, k = (n - b for n, b in zip(at, box, strict=True))
    ni, nj, _ = told["shape"]
    # Falls evenly from 5 at voxel 0 to -4 at voxel 90.
    assert of_years[i + ni * (j + nj * k)] == pytest.approx(5 - 9 * 30 / 90, abs=2e-4)
    assert "(t)" not in str(_told(_page(tmp_path, ages=False))["maps"])


def test_many_groups_leave_the_page_its_size(tmp_path: Path) -> None:
    """Nine effects on three maps are 27: beyond 24, those of the contributions alone are shown."""
    folder = write_maps(tmp_path)
    kept = KeptMaps.of(folder)
    (effect,) = kept.description["effects"].values()
    rows = kept.tables[EFFECTS]

    def with_effects(number: int) -> EffectMaps:
        names = ["age", *(f"group-{n}" for n in range(number - 1))]
        tables = {EFFECTS: pd.concat([rows.assign(effect=name) for name in names])}
        told = kept.description | {"effects": dict.fromkeys(names, effect)}
        return effect_maps(replace(kept, description=told, tables=tables), 3)

    few, many = with_effects(8), with_effects(9)
    assert (len(few.maps), few.left_out) == (24, 0)
    assert (len(many.maps), many.left_out) == (9, 18)
    assert [one.number for one in many.maps] == list(range(3, 12))
    assert many.maps[1].name == "Group 0: contribution (t)"
    assert len(with_effects(30).maps) == MAX_EFFECT_MAPS


def test_t_that_is_no_number_is_not_drawn(tmp_path: Path) -> None:
    folder = write_maps(tmp_path)
    image = nib.load(folder / T_ON_AGE)
    spoilt = np.where(image.get_fdata() > 3, np.inf, np.where(image.get_fdata() < -3, np.nan, 2))
    nib.Nifti1Image(spoilt.astype(np.float32), image.affine).to_filename(folder / T_ON_AGE)
    first, *_ = effect_maps(KeptMaps.of(folder), 3).maps
    assert (first.limit, first.scale) == (2.0, pytest.approx(2 / 32767))


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
