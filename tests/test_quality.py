"""Quality control: figures by hand, limits from cohorts whose spread is known, verdicts."""

from pathlib import Path

import numpy as np
import pytest
from template_scans import template_brain

from ermoe_ba.assets import template
from ermoe_ba.errors import UsageError
from ermoe_ba.quality import age_limits, assess, load_limits, load_reference, measure_figures
from ermoe_ba.quality.figures import GREY_CERTAIN, WHITE_CERTAIN, entropy_focus
from ermoe_ba.quality.limits import (
    DEVIATIONS,
    RULES,
    Limit,
    QualityLimits,
    learn_limits,
    save_limits,
)
from ermoe_ba.space import MODEL_GRID, Volume

LIMITS = {limit.flag: limit for limit in load_limits().limits}


def _scan(white: float, grey: float) -> Volume:
    """Two even tissues."""
    image = np.where(template("label-WM_probseg").data >= WHITE_CERTAIN, white, 0.5)
    image = np.where(template("label-GM_probseg").data >= GREY_CERTAIN, grey, image)
    return Volume((image * template_brain().data).astype(np.float32), MODEL_GRID)


# Figures


def test_contrast_of_two_even_tissues_is_that_of_the_formula() -> None:
    even = measure_figures(_scan(1.0, 0.8), template_brain(), load_reference())
    assert even["white_grey_contrast"] == pytest.approx(0.2, abs=1e-6)
    # Without any spread there is no noise to divide by.
    assert even["cnr"] == even["snr_white_matter"] == 0.0


def test_noise_of_a_known_deviation_is_found() -> None:
    scan = _scan(1.0, 0.7)
    rng = np.random.default_rng(1)
    noisy = scan.same_grid((scan.data + rng.normal(0, 0.1, scan.data.shape)).astype(np.float32))
    found = measure_figures(noisy, template_brain(), load_reference())
    assert found["snr_white_matter"] == pytest.approx(1 / 0.1, rel=0.03)
    assert found["cnr"] == pytest.approx(0.3 / np.hypot(0.1, 0.1), rel=0.03)


def test_grey_brighter_than_white_has_a_negative_contrast_and_is_refused() -> None:
    found = measure_figures(_scan(0.6, 0.9), template_brain(), load_reference())
    assert found["white_grey_contrast"] == pytest.approx(-0.5, abs=1e-6)
    verdict = assess(load_limits().limits, found, ())
    assert verdict.refusing is not None
    assert "white matter must be brighter" in verdict.refusing.refusal()["must_hold"]
    assert "contrast_low" in verdict.flags


def test_entropy_focus_is_1_of_equal_values_and_0_of_a_point() -> None:
    assert entropy_focus(np.full(50, 7.0)) == pytest.approx(1.0)
    assert entropy_focus(np.array([0.0, 0.0, 3.0])) == pytest.approx(0.0)
    assert entropy_focus(np.zeros(9)) == 0.0
    # Two equal values among four: m = sqrt(2), so -2 (1/sqrt 2) ln(1/sqrt 2) over 2 ln 2.
    expected = np.sqrt(2) * np.log(np.sqrt(2)) / (2 * np.log(2))
    assert entropy_focus(np.array([1.0, 0.0, 1.0, 0.0])) == pytest.approx(expected)


# Limits


def _figures(values: np.ndarray) -> dict[str, np.ndarray]:
    return {rule.figure: values for rule in RULES}


def test_limits_lie_the_stated_deviations_from_the_median_on_either_side() -> None:
    # Quantiles of a normal distribution of mean 10 and deviation 2.
    from scipy.stats import norm

    values = norm.ppf((np.arange(2001) + 0.5) / 2001, 10, 2)
    learnt = {limit.flag: limit for limit in learn_limits(_figures(values))}
    assert learnt["brain_volume_low"].flag_at == pytest.approx(10 - DEVIATIONS * 2, rel=1e-2)
    assert learnt["brain_volume_high"].flag_at == pytest.approx(10 + DEVIATIONS * 2, rel=1e-3)
    assert learnt["mirrored_look"].flag_at == pytest.approx(-values.min() / 2)
    assert learnt["contrast_low"].refuse_at == pytest.approx(values.min() / 2)
    assert learnt["mask_touches_border"].refuse_at == pytest.approx(2 * values.max())
    assert learnt["brain_volume_low"].refuse_at is None


def test_a_correlation_is_refused_at_twice_the_worst_head_s_distance_from_one() -> None:
    """The worst of 0.9, 0.94 and 0.96 is 0.1 away from 1: twice that is 0.8."""
    learnt = {limit.flag: limit for limit in learn_limits(_figures(np.array([0.9, 0.94, 0.96])))}
    assert learnt["registration_doubtful"].refuse_at == pytest.approx(0.8)


def test_a_value_at_the_limit_is_within_it() -> None:
    low = Limit(flag="f", figure="x", side="low", flag_at=2.0, refuse_at=1.0)
    assert [low.flags(v) for v in (1.9, 2.0, 2.1)] == [True, False, False]
    assert [low.refuses(v) for v in (0.9, 1.0)] == [True, False]
    high = Limit(flag="f", figure="x", side="high", flag_at=2.0)
    assert [high.flags(v) for v in (1.9, 2.0, 2.1)] == [False, False, True]
    assert not high.refuses(1e9)


def test_limits_survive_the_disk_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    kept = QualityLimits(limits=learn_limits(_figures(np.arange(1.0, 30))), provenance={"n": 29})
    save_limits(path, kept)
    assert load_limits(path) == kept
    broken = tmp_path / "broken.json"
    broken.write_text('{"limits": 3}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.json"):
        load_limits(broken)


def test_the_shipped_limits_are_those_of_the_rules_and_say_where_they_come_from() -> None:
    shipped = load_limits()
    assert [(limit.flag, limit.figure, limit.side) for limit in shipped.limits] == [
        (rule.flag, rule.figure, rule.side) for rule in RULES
    ]
    for limit, rule in zip(shipped.limits, RULES, strict=True):
        assert (limit.refuse_at is not None) == (rule.refuses or rule.fixed_refusal is not None)
        # A refusal is the harder verdict: whatever is refused is flagged as well.
        if limit.refuse_at is not None:
            assert limit.flags(limit.refuse_at)
    assert {"cohort", "scans", "preprocessing_id", "command"} <= set(shipped.provenance)


# Verdicts


def test_flags_come_in_order_each_once_with_those_of_the_preprocessing_first() -> None:
    figures = {"snr_white_matter": 1.0, "cnr": 0.1, "chronological_age": 91.0}
    limits = load_limits().limits + age_limits(20.0, 82.0)
    verdict = assess(limits, figures, ("brain_already_extracted",))
    assert verdict.flags == (
        "brain_already_extracted",
        "contrast_to_noise_low",
        "noisy",
        "age_outside_training",
    )
    assert verdict.refusing is None
    checked = [check.describe() for check in verdict.checks]
    assert [(c["figure"], c["value"]) for c in checked] == [
        ("cnr", 0.1),
        ("snr_white_matter", 1.0),
        ("chronological_age", 91.0),
        ("chronological_age", 91.0),
    ]
    assert [c["outcome"] for c in checked] == ["flagged", "flagged", "ok", "flagged"]


@pytest.mark.parametrize("age", [20.0, 50.0, 82.0])
def test_ages_of_the_training_cohort_bear_no_flag(age: float) -> None:
    assert assess(age_limits(20.0, 82.0), {"chronological_age": age}, ()).flags == ()


def test_a_brain_without_skull_may_touch_the_border_but_not_be_cut() -> None:
    limits, worst = load_limits().limits, LIMITS["mask_touches_border"].refuse_at
    assert worst is not None
    touching, cut = {"flat_end_cm2": worst / 2}, {"flat_end_cm2": worst * 1.1}
    extracted = ("brain_already_extracted",)
    assert assess(limits, touching, ()).flags == ("mask_touches_border",)
    assert assess(limits, touching, extracted).flags == extracted
    for remarks in ((), extracted):
        refusing = assess(limits, cut, remarks).refusing
        assert refusing is not None
        assert "field of view" in refusing.refusal()["must_hold"]
        assert "--force" in refusing.refusal()["remedy"]


@pytest.mark.parametrize("degrees", [32.0, 45.0])
def test_a_chin_up_or_down_bears_no_flag(degrees: float) -> None:
    """The heads of the cohort lie up to 32 degrees off; an oblique scan up to 45 is one as well."""
    assert assess(load_limits().limits, {"turn_degrees": degrees}, ()).flags == ()


@pytest.mark.parametrize("degrees", [46.0, 90.0, 180.0])
def test_a_head_that_its_header_turns_by_a_right_angle_is_flagged_and_not_refused(
    degrees: float,
) -> None:
    verdict = assess(load_limits().limits, {"turn_degrees": degrees}, ())
    assert verdict.flags == ("orientation_doubtful",)
    assert verdict.refusing is None


@pytest.mark.parametrize(("edge", "flags"), [(2.0, ()), (2.1, ("resolution_low",))])
def test_voxels_coarser_than_those_learnt_from_are_flagged_and_not_refused(
    edge: float, flags: tuple[str, ...]
) -> None:
    """The cohort's scans and the model grid have edges of 2 mm."""
    assert MODEL_GRID.voxel_sizes.max() == LIMITS["resolution_low"].flag_at
    verdict = assess(load_limits().limits, {"voxel_edge_mm": edge}, ())
    assert (verdict.flags, verdict.refusing) == (flags, None)


@pytest.mark.parametrize(
    ("second_ml", "flags", "refused"),
    [(0.0, (), False), (400.0, ("several_heads",), False), (1300.0, ("several_heads",), True)],
)
def test_a_second_brain_is_flagged_and_a_whole_one_refused_before_all_else(
    second_ml: float, flags: tuple[str, ...], refused: bool
) -> None:
    verdict = assess(load_limits().limits, {"second_brain_ml": second_ml}, ())
    assert verdict.flags == flags
    assert (verdict.refusing is not None) == refused
    cut = {"second_brain_ml": second_ml, "flat_end_cm2": 131.0}
    first = assess(load_limits().limits, cut, ()).refusing
    assert first is not None
    assert first.limit.flag == ("several_heads" if refused else "mask_touches_border")
    if refused:
        told = first.refusal()
        assert "must show one head" in told["must_hold"]
        assert told["found"] == "second_brain_ml 1300, where at most 700 is due"


def test_of_a_cut_head_the_cut_is_told_and_not_what_follows_from_it() -> None:
    """Half a head of the cohort, the other half zeros."""
    half = {"template_correlation": 0.727, "white_grey_contrast": 0.02, "flat_end_cm2": 131.0}
    verdict = assess(load_limits().limits, half, ())
    assert verdict.refusing is not None
    assert verdict.refusing.limit.flag == "mask_touches_border"
    whole = assess(load_limits().limits, half | {"flat_end_cm2": 0.0}, ())
    assert whole.refusing is not None
    assert whole.refusing.limit.flag == "registration_doubtful"
