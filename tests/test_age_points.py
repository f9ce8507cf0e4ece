"""The chart of a cohort's ages: where its points stand, and what a page with it weighs."""

import re
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ermoe_ba.model_card import DEFAULT_MODEL, ModelCard, model_folder, read_card
from ermoe_ba.report import IndexRow, write_index
from ermoe_ba.report.age_points import ABOVE, LEFT, SIDE, STEP, AgePoints
from ermoe_ba.report.age_points_chart import draw_age_points


def _points(
    predicted: list[float], known: list[float], *, training: bool = False, reach: float = nan
) -> AgePoints:
    """Points of these ages, no other flags, intervals of `reach` years on either side."""
    ages = np.array(predicted)
    return AgePoints(
        what="scans",
        interval="90 % interval",
        predicted=ages,
        lower=ages - reach,
        upper=ages + reach,
        chronological=np.array(known),
        flagged=np.zeros(len(ages), dtype=bool),
        training=(np.array([30.0, 70.0]), np.array([35.0, 60.0])) if training else None,
    )


def _card(**changes: Any) -> ModelCard:
    return replace(read_card(model_folder(DEFAULT_MODEL)), **changes)


def _row(number: int) -> dict[str, Any]:
    """Every fiftieth scan failed; every seventh has no known age; every ninth has flags."""
    row: dict[str, Any] = {"participant_id": f"p{number:05d}", "status": "ok"}
    if number % 50 == 0:
        return row | {"status": "failed", "message": "must have three axes; found 4."}
    age, gap = 20 + number % 61, number % 23 - 11
    if number % 7:
        row |= {"chronological_age": age, "brain_age_gap": gap}
    flags = "noisy;mirrored_look" if number % 9 == 0 else None
    ends = {"predicted_age_lower": age + gap - 9, "predicted_age_upper": age + gap + 9}
    return row | ends | {"predicted_age": age + gap, "qc_flags": flags}


def _index(path: Path, count: int, card: ModelCard | None = None, *, back: bool = False) -> str:
    rows = [IndexRow.of(_row(n), f"sub-p{n:05d}", None) for n in range(count)]
    write_index(path, "Cohort", rows[::-1] if back else rows, None, card)
    return path.read_text(encoding="utf-8")


def test_ages_are_places_in_the_square() -> None:
    """From 20 to 80 years both ways: 50 lies halfway, 20 at the corner below on the left."""
    points = _points([20.0, 80.0, 50.0], [20.0, 80.0, 50.0])
    width, height = points.size
    low, high, middle = points.places() * (width, height)
    np.testing.assert_allclose(low, (LEFT, ABOVE + SIDE))
    np.testing.assert_allclose(high, (LEFT + SIDE, ABOVE))
    np.testing.assert_allclose(middle, (low + high) / 2)


def test_whose_age_is_not_known_stands_beside_by_predicted_age() -> None:
    points = _points([70.0, 40.0, 55.0, 30.0], [nan, nan, 60.0, nan])
    (square_left, square_width), (left, width) = points.square or (nan, nan), points.strip or (0, 0)
    assert left > square_left + square_width
    across = points.places()[:, 0] * points.size[0]
    # The third is in the square; the others lie at the middles of thirds of the strip.
    np.testing.assert_allclose(across[[3, 1, 0]], left + width * np.array([1, 3, 5]) / 6)
    assert square_left < across[2] < square_left + square_width


def test_who_has_no_predicted_age_stands_below_all_ages() -> None:
    points = _points([nan, 20.0, nan, 80.0], [50.0, 20.0, nan, 80.0])
    width, height = points.size
    places = points.places() * (width, height)
    bottom_of_ages = places[1, 1]
    assert (places[[0, 2], 1] > bottom_of_ages).all()
    assert (places[:, 1] < ABOVE + points.height).all()
    # Of known age: where that age is.
    np.testing.assert_allclose(places[0, 0], LEFT + SIDE / 2)
    # A year is as long up as across.
    np.testing.assert_allclose(places[1, 1] - places[3, 1], places[3, 0] - places[1, 0])


def test_all_that_is_drawn_lies_in_the_range() -> None:
    assert _points([52.0], [51.0], reach=9.5).range == (40.0, 65.0)
    assert _points([52.0], [51.0], training=True).range == (30.0, 70.0)
    # A whole number of steps is no range by itself.
    assert _points([50.0], [50.0]).range == (50.0, 50.0 + STEP)


def test_without_known_ages_the_training_participants_still_show_the_scale() -> None:
    alone, beside = _points([40.0], [nan]), _points([40.0], [nan], training=True)
    assert alone.square is None
    assert beside.square is not None
    assert alone.strip is not None
    assert beside.strip is not None


def test_the_legend_counts_each_row_once() -> None:
    points = replace(
        _points([20.0, 30.0, nan, 40.0], [20.0, nan, nan, 41.0], training=True, reach=9),
        flagged=np.array([True, False, True, False]),
    )
    assert list(points.legend.values()) == [
        "trained on, left out when predicted (n = 2)",
        "90 % interval of each",
        "scans (n = 2)",
        "scans with flags (n = 1)",
        "scans without a predicted age (n = 1)",
    ]


def test_every_kind_of_chart_is_drawn_the_same_twice() -> None:
    for known, training in (([40.0, nan], True), ([nan, nan], False), ([40.0, 50.0], False)):
        points = _points([45.0, nan], known, training=training, reach=8)
        assert draw_age_points(points) == draw_age_points(points)
    with pytest.raises(ValueError, match="must have a predicted age; found none"):
        draw_age_points(_points([nan], [50.0]))


def test_the_index_shows_the_training_participants_of_its_model(tmp_path: Path) -> None:
    card = _card(ages=(20.0, 40.0, 80.0), predictions=(30.0, 41.0, 70.0), coverage=0.8)
    shown, plain = (_index(tmp_path / "index.html", 60, given) for given in (card, None))
    assert "over those of 3 training participants" in shown
    assert "with its 80 % interval" in shown
    assert "training participants" not in plain
    assert "with its prediction interval" in plain
    alone = {"participant_id": "a", "status": "ok", "predicted_age": 50.0}
    write_index(tmp_path / "index.html", "One", [IndexRow.of(alone, "sub-a", None)], None)
    assert "interval" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    # 58 of 60 have an age, numbers 0 and 50 failed; of the others, every ninth has flags.
    assert "58 of 60 have an age (2 failed, 58 ok); 6 have flags" in " ".join(plain.split())


def test_every_row_has_its_point_and_the_order_of_files_is_no_matter(tmp_path: Path) -> None:
    page = _index(tmp_path / "index.html", 130)
    assert len(re.findall(r"<tr [^>]*data-at=", page)) == 130
    assert _index(tmp_path / "index.html", 130, back=True) == page


def test_where_all_failed_there_is_no_chart(tmp_path: Path) -> None:
    write_index(tmp_path / "index.html", "Cohort", [IndexRow.of(_row(0), "x", None)], None)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<figure>" not in page
    assert "data-at" not in page
    assert "0 of 1 have an age" in page


def test_ten_thousand_scans_are_no_heavy_page(tmp_path: Path) -> None:
    page = _index(tmp_path / "index.html", 10_000, _card())
    assert len(page) < 15e6
    picture = re.search(r'src="(data:image/svg[^"]*)"', page)
    assert picture
    # As shapes, ten thousand points and intervals would be two megabytes.
    assert len(picture[1]) < 700_000
