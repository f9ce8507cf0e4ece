"""The phantom's truth: regions, norms, what is drawn of them, and how well an age can be told."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.floors import latent_floor, regression_floors, volume_floor
from ermoe_ba.phantom.latents import (
    LARGEST_RESIDUAL,
    MIN_SULCAL_CSF,
    REFERENCE_AGE,
    draw_subject,
    region_ages,
)
from ermoe_ba.phantom.norms import LAST_AGE, load_norms, residual_correlation
from ermoe_ba.phantom.regions import REGIONS, Kind, find_regions

NAMES = [region.name for region in REGIONS]


def test_regions_are_numbered_from_one_and_share_no_label() -> None:
    assert [region.index for region in REGIONS] == list(range(1, len(REGIONS) + 1))
    assert len(set(NAMES)) == len(NAMES)
    for scheme in ("muse", "aseg"):
        labels = [label for region in REGIONS for label in getattr(region, scheme)]
        assert len(labels) == len(set(labels))


def test_a_pair_s_name_stands_for_both_sides_and_a_side_for_itself() -> None:
    assert [r.name for r in find_regions(("hippocampus",))] == ["hippocampus_L", "hippocampus_R"]
    (right,) = find_regions(("hippocampus_R",))
    # 47 is the right hippocampus in MUSE's dictionary, 53 in FreeSurfer's.
    assert (right.muse, right.aseg, right.hemisphere) == ((47,), (53,), "R")


def test_an_unknown_region_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'liver'.*hippocampus.*brain_stem"):
        find_regions(("liver",))


@pytest.mark.parametrize(
    ("region", "age", "mm3"),
    # Medians of the published, cavity-normalised centiles at that age.
    [("hippocampus_L", 60, 3896), ("lateral_ventricle_L", 60, 9790 + 186)],
)
def test_norms_give_back_published_medians(region: str, age: int, mm3: float) -> None:
    fraction = np.exp(load_norms().log_fraction(np.array(age)))[NAMES.index(region)]
    # The cavity that those centiles are scaled to has 1,432 mL; the fit is good to 4 %.
    assert fraction * 1_432_000 == pytest.approx(mm3, rel=0.04)


def test_the_slope_is_the_derivative_of_the_median() -> None:
    norms, ages = load_norms(), np.array([30.0, 57.0, 80.0])
    step = 1e-4
    difference = (norms.log_fraction(ages + step) - norms.log_fraction(ages - step)) / (2 * step)
    np.testing.assert_allclose(norms.slope(ages), difference, atol=1e-8)


def test_curves_go_on_straight_beyond_the_norms() -> None:
    norms = load_norms()
    at = norms.log_fraction(np.array([LAST_AGE, LAST_AGE + 2, LAST_AGE + 4]))
    np.testing.assert_allclose(at[2] - at[1], at[1] - at[0], atol=1e-12)
    np.testing.assert_allclose(at[1] - at[0], 2 * norms.slope(np.array(LAST_AGE)), atol=1e-12)


def test_gap_and_residual_make_up_the_spread_of_the_norms() -> None:
    norms, age, gap_sd = load_norms(), np.array(70.0), 3.5
    residual, spread = norms.residual_spread(age, gap_sd), norms.spread(age)
    explained = norms.slope(age) * gap_sd
    free = residual > spread / 2
    assert free.all()
    np.testing.assert_allclose(residual**2 + explained**2, spread**2)


def test_residuals_have_a_valid_correlation() -> None:
    matrix = residual_correlation()
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0.05


def test_a_subject_depends_on_seed_and_index_alone() -> None:
    config = PhantomConfig(seed=4)
    for index in (9, 2):
        draw_subject(config, index)
    again = draw_subject(PhantomConfig(seed=4), 2)
    np.testing.assert_array_equal(again.planted_ml, draw_subject(config, 2).planted_ml)
    assert draw_subject(PhantomConfig(seed=5), 2).age != again.age


def test_cohorts_are_drawn_as_they_are_described() -> None:
    config = PhantomConfig(youngest=30, oldest=40)
    drawn = [draw_subject(config, index) for index in range(1, 501)]
    ages, gaps = np.array([s.age for s in drawn]), np.array([s.gap for s in drawn])
    assert 30 <= ages.min() < 31
    assert 39 < ages.max() <= 40
    # Four standard errors: sd / sqrt(n), and sd / sqrt(2 n) of the spread itself.
    assert abs(gaps.mean()) < 4 * 3.5 / np.sqrt(500)
    assert abs(gaps.std() - 3.5) < 4 * 3.5 / np.sqrt(1000)
    assert {s.site for s in drawn} == {1, 2, 3, 4}
    assert not any(s.accelerated for s in drawn)
    # Men's cavities are larger: their medians differ by 11 %.
    cavity = {sex: np.mean([s.intracranial_ml for s in drawn if s.sex == sex]) for sex in "FM"}
    assert cavity["M"] / cavity["F"] == pytest.approx(1.12, abs=0.03)


def test_planted_volumes_scatter_about_the_norms_and_leave_room_for_fluid() -> None:
    config = PhantomConfig(gap_sd=0.0)
    drawn = [draw_subject(config, index) for index in range(1, 401)]
    ages = np.array([s.age for s in drawn])
    logs = np.stack([np.log(s.planted_ml / s.intracranial_ml) for s in drawn])
    z = (logs - load_norms().log_fraction(ages)) / load_norms().spread(ages)
    assert np.abs(z).max() <= LARGEST_RESIDUAL + 1e-9
    # A normal cut off at 2 SD has mean 0 and SD 0.88 to 0.96 (clipped, not redrawn).
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(400)
    assert z.std(axis=0).mean() == pytest.approx(0.96, abs=0.03)
    left, right = NAMES.index("thalamus_L"), NAMES.index("thalamus_R")
    assert np.corrcoef(z[:, left], z[:, right])[0, 1] == pytest.approx(0.78, abs=0.08)
    other = NAMES.index("insula_L")
    assert abs(np.corrcoef(z[:, left], z[:, other])[0, 1]) < 4 / np.sqrt(400)
    assert np.exp(logs).sum(axis=1).max() <= 1 - MIN_SULCAL_CSF


def test_only_the_regions_asked_for_age() -> None:
    config = PhantomConfig(only=("insula_L", "thalamus"))
    ages = region_ages(config, np.array([30.0, 80.0]), np.zeros(2, bool))
    ageing = [NAMES.index(name) for name in ("insula_L", "thalamus_L", "thalamus_R")]
    np.testing.assert_array_equal(ages[:, ageing], [[30.0] * 3, [80.0] * 3])
    assert (np.delete(ages, ageing, axis=1) == REFERENCE_AGE).all()


def test_spared_regions_stay_and_accelerated_ones_run_ahead() -> None:
    config = PhantomConfig(spare=("brain_stem",), accelerate=("caudate_R",), acceleration=7.0)
    ages = region_ages(config, np.array([60.0, 60.0]), np.array([False, True]))
    stem, caudate = NAMES.index("brain_stem"), NAMES.index("caudate_R")
    np.testing.assert_array_equal(ages[:, stem], REFERENCE_AGE)
    np.testing.assert_array_equal(ages[:, caudate], [60.0, 67.0])
    assert (np.delete(ages, [stem, caudate], axis=1) == 60.0).all()
    assert [region.name for region in config.planted_regions()] == ["caudate_R"]
    share = np.mean([draw_subject(config, n).accelerated for n in range(1, 401)])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(400))


def test_half_the_variation_halves_what_people_of_one_age_differ_by() -> None:
    """Logarithms of volume / cavity lie half as far from the norms' median, for the same draw."""
    whole, half = PhantomConfig(gap_sd=0.0), PhantomConfig(gap_sd=0.0, variation=0.5)
    for index in range(1, 6):
        full, less = draw_subject(whole, index), draw_subject(half, index)
        assert less.age == full.age
        median = load_norms().log_fraction(np.array(full.age))
        apart, nearer = (np.log(s.planted_ml / s.intracranial_ml) - median for s in (full, less))
        np.testing.assert_allclose(nearer, apart / 2, atol=1e-9)


def test_a_region_tells_more_of_the_age_where_people_differ_less() -> None:
    config = PhantomConfig(only=("frontal_cortex",))
    assert volume_floor(replace(config, variation=0.25), 150) < 0.7 * volume_floor(config, 150)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"youngest": 50.0, "oldest": 40.0}, "50:40"),
        ({"oldest": 120.0}, "18 to 95"),
        ({"gap_sd": -1.0}, "gap"),
        ({"sites": 0}, "site"),
        ({"variation": 0.0}, "above 0"),
        ({"variation": 1.5}, "at most at 1"),
        ({"shape_variation": -0.1}, "between 0 and 1; found -0.1"),
        ({"shape_variation": 1.1}, "between 0 and 1; found 1.1"),
        ({"only": ("insula",), "spare": ("caudate",)}, "not both"),
        ({"accelerate": ("spleen",)}, "spleen"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PhantomConfig(**wrong)  # type: ignore[arg-type]


def test_a_known_biological_age_leaves_the_gap() -> None:
    # The mean of a half-normal distribution, away from the ends of the range.
    config = PhantomConfig(youngest=18, oldest=95, gap_sd=1.0)
    assert latent_floor(config) == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)
    # At the ends the range itself tells something: never more than the gap leaves.
    narrow = PhantomConfig(youngest=50, oldest=60, gap_sd=5.0)
    # 2.5 y is what answering 55 always would give.
    assert latent_floor(narrow) < 2.5 < 5.0 * np.sqrt(2 / np.pi)


def test_volumes_tell_less_than_the_latent_and_one_region_less_than_all() -> None:
    everything = volume_floor(PhantomConfig(), 150)
    one = volume_floor(PhantomConfig(only=("amygdala_L",)), 150)
    assert latent_floor(PhantomConfig()) < everything < one
    # Always answering the middle of 18 to 90 is wrong by 18 y on average.
    assert one < 18.0 + 4 * 10.4 / np.sqrt(150)


def test_regressions_find_an_age_that_a_volume_holds() -> None:
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 200)
    columns = {f"realised_{name}_ml": np.exp(rng.normal(0, 0.1, 200)) for name in NAMES}
    # Logarithms of volume that a hidden age bends: a line cannot follow them, a curve can.
    hidden = age + rng.normal(0, 1.0, 200)
    columns["realised_insula_L_ml"] = np.exp(np.sin(hidden / 20))
    columns["realised_insula_R_ml"] = np.exp(np.cos(hidden / 20))
    table = pd.DataFrame({"age": age, "realised_intracranial_ml": 1.0, **columns})
    with warnings.catch_warnings():
        # A kernel that ends at its bounds is a wrong kernel.
        warnings.simplefilter("error")
        found = regression_floors(table)
    assert found["median"] == pytest.approx(np.abs(age - np.median(age)).mean())
    assert found["ridge"] < found["median"] / 2
    # Nobody can do better than the mean deviation of a normal distribution, SD 1.
    assert np.sqrt(2 / np.pi) * 0.8 < found["gaussian_process"] < found["ridge"]


def test_kinds_cover_the_brain() -> None:
    assert {region.kind for region in REGIONS} == set(Kind)
