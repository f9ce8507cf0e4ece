"""The settings of the evidence as they are kept: whom each planted cohort has."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ermoe_ba.config import from_plain
from ermoe_ba.model_card import model_folder, read_card
from ermoe_ba.phantom.regions import find_regions

SETTINGS = Path(__file__).parents[1] / "pipelines" / "evidence.toml"
# Cohorts that were not learnt, or not found, from as many people as the shipped model's, and are
# there again with more: how many times as many, and of which region the planted one is (a part).
AGAIN = {
    "hippocampus_thrice": (3.0, "hippocampus"),
    "hippocampus_ninefold": (9.0, "hippocampus"),
    "frontal_cortex_left": (3.0, "frontal_cortex"),
    "frontal_white_left": (3.0, "white_matter"),
}


@pytest.fixture
def settings(recipe_names: Callable[[str], dict[str, Any]]) -> Any:
    content = tomllib.loads(SETTINGS.read_text("utf-8"))
    return from_plain(recipe_names("evidence")["Settings"], content)


def test_they_name_the_recipe_of_the_shipped_model(settings: Any) -> None:
    assert settings.base == "ixi_hh.toml"


def test_each_first_cohort_has_as_many_people_as_the_shipped_model_s(settings: Any) -> None:
    scans = len(read_card(model_folder(settings.model)).ages)
    assert settings.people.keys() == settings.planted.keys() == settings.seen_as.keys()
    times = {name: people.subjects / scans for name, people in settings.people.items()}
    for name, (more, first) in AGAIN.items():
        assert times.pop(name) == more, name
        planted, whole = (find_regions(settings.planted[n]) for n in (name, first))
        assert {region.name for region in planted} <= {region.name for region in whole}, name
    assert set(times.values()) == {1.0}
