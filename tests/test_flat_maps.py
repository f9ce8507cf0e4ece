"""Where nothing varies there is no slope, no likeness and no effect, whatever rounding leaves."""

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.assets import template
from ermoe_ba.errors import UsageError
from ermoe_ba.likeness import fit_likeness
from ermoe_ba.maps.agreement import correlation
from ermoe_ba.maps.cohort import CohortMaps, age_weights
from ermoe_ba.maps.effects import measure_effects
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid

# Tokens of 40 mm on the template's brain: enough to have effects.
TOKENS = TokenGrid.over(template("desc-brain_mask"), 20, 0.5)
EXPERTS = pd.DataFrame({"index": [1, 2], "name": ["a", "b"], "kind": ["free", "free"]})


def _cohort(ages_p: Array, years_pte: Array, **people: list[str]) -> CohortMaps:
    """Make a cohort of whom nothing but ages, years and groups is known."""
    predicted_p = 50.0 + years_pte.sum(axis=(1, 2))
    weights_pte = np.random.default_rng(1).uniform(0.0, 1.0, years_pte.shape)
    table = pd.DataFrame(
        {
            "participant_id": [str(number) for number in range(len(ages_p))],
            "chronological_age": ages_p,
            "brain_age_gap": predicted_p - ages_p,
        }
    )
    return CohortMaps(
        model_id="m-1",
        tokens=TOKENS,
        experts=EXPERTS,
        member_stems=[0],
        baseline_years=50.0,
        people=table.assign(**people),
        weights_pte=weights_pte,
        years_pte=years_pte,
        member_weights_mte=weights_pte.mean(axis=0)[None],
        member_years_mte=years_pte.mean(axis=0)[None],
        member_on_age_mte=None,
        out_of_fold=False,
    )


def _years(count: int) -> Array:
    return np.random.default_rng(0).normal(0.0, 0.1, (count, len(TOKENS), len(EXPERTS)))


@pytest.mark.parametrize("age", [33.1, 45.3, 62.7])
@pytest.mark.parametrize("count", [7, 12, 13, 50])
def test_people_of_one_age_make_no_slope(age: float, count: int) -> None:
    """Of many of these, the mean misses the age by its last digit."""
    assert age_weights(np.full(count, age)) is None
    assert age_weights(np.append(np.full(count, age), np.nan)) is None
    assert age_weights(np.append(np.full(count, age), age + 1)) is not None


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_a_flat_map_is_like_no_other(value: float) -> None:
    for count in (10, 13, 814):
        other_t = np.random.default_rng(count).random(count)
        assert np.isnan(correlation(np.full(count, value), other_t))
        assert np.isnan(correlation(other_t, np.full(count, value)))


def test_what_never_varies_has_no_unit_whatever_its_value() -> None:
    """Three tenths, whose mean over 13 misses them by rounding: a thousandth more is no far cry."""
    looks_nq = np.random.default_rng(0).normal(0, 1, (13, 2))
    likeness = fit_likeness(np.column_stack([looks_nq, np.full(13, 0.3)]))
    assert np.full(13, 0.3).std() > 0
    scan_q = np.append(looks_nq.mean(axis=0), 0.301)
    assert likeness.distance(scan_q) < 0.1


def test_one_answer_for_everybody_has_no_gap_at_equal_age() -> None:
    """Its gap is the age with the other sign: at equal age, nothing is left to go along with."""
    ages_p = np.linspace(20, 70, 13)
    cohort = _cohort(ages_p, np.zeros((13, len(TOKENS), len(EXPERTS))))
    assert [effect.name for effect in measure_effects(cohort, None, 9, 0)] == ["age"]
    varied = _cohort(ages_p, _years(13))
    assert [effect.name for effect in measure_effects(varied, None, 9, 0)] == ["age", "gap"]


def test_groups_of_one_age_each_cannot_be_compared_at_equal_age() -> None:
    site = ["x"] * 5 + ["y"] * 5
    apart = _cohort(np.repeat([33.1, 62.7], 5), _years(10), site=site)
    with pytest.raises(UsageError, match=r"--groups site: .*found group-y told by age alone"):
        measure_effects(apart, "site", 9, 0)
    # One person of another age is enough for a model, if not for much of a comparison.
    mixed = _cohort(np.append(np.repeat([33.1, 62.7], [5, 4]), 33.1), _years(10), site=site)
    assert measure_effects(mixed, "site", 9, 0)[-1].name == "group-y"


def test_groups_of_one_age_are_compared_as_they_are() -> None:
    """With all ages equal, the t of a group is that of two samples of equal variance."""
    from scipy.stats import ttest_ind

    site = ["x", "y"] * 6
    cohort = _cohort(np.full(12, 45.3), _years(12), site=site)
    (group,) = measure_effects(cohort, "site", 9, 0)
    total_p = cohort.years_pte[:, 0].sum(axis=1)
    expected = ttest_ind(total_p[1::2], total_p[::2]).statistic
    assert group.t_tv[0, 0] == pytest.approx(expected)
    means_te = cohort.years_pte[1::2].mean(axis=0) - cohort.years_pte[::2].mean(axis=0)
    np.testing.assert_allclose(group.years_te, means_te, atol=1e-12)
