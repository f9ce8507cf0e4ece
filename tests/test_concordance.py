"""Concordance: constructed scans whose correlations are known."""

import numpy as np
import pytest

from ermoe_ba.concordance import concordance_table, region_years

# Nine ages, symmetric, so that their square is uncorrelated with them; and a remainder that is
# uncorrelated with either: the fourth orthogonal polynomial's signs alternate.
AGES = 50.0 + 5.0 * np.arange(-4, 5)
T = (AGES - 50.0) / 5.0
CUBIC = 5 * T**3 - 59 * T


def test_years_of_regions_are_sums_over_their_shares() -> None:
    years = np.array([[1.0, 2.0, 4.0], [0.0, -2.0, 1.0]])
    share = np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])
    np.testing.assert_allclose(region_years(years, share), [[1.5, 5.5], [-0.5, -0.5]])
    # Shares that cover the brain keep the sum.
    np.testing.assert_allclose(region_years(years, share).sum(axis=1), years.sum(axis=1))


def test_age_is_taken_out_of_both() -> None:
    """The cubic is orthogonal to 1, t and t squared over the nine ages (its sums are 0).

    Years rise with age by 0.3 a year and follow the remainder; the volume falls with age and goes
    against the remainder: what is left when age is taken out is -1.
    """
    assert CUBIC.sum() == CUBIC @ T == CUBIC @ T**2 == 0
    years = (0.3 * AGES + 0.01 * CUBIC)[:, None]
    volume = (0.02 - 0.0001 * AGES + 1e-5 * T**2 - 1e-6 * CUBIC)[:, None]
    row = concordance_table(years, volume, AGES, ("hippocampus",), {}).iloc[0]
    assert row["region"] == "hippocampus"
    # t and the cubic are uncorrelated, so the slope is the 0.3 put in.
    assert row["years_on_age"] == pytest.approx(0.3)
    assert row["years_on_volume_given_age"] == pytest.approx(-1.0)
    # Var t = 60/9, var t^2 = 308/9, var cubic = 990 * 36/9 (tabulated sums of squares 60, 308, 990,
    # the cubic here being six times the tabulated one).
    fall, bend, rest = 5e-4 * np.sqrt(60), 1e-5 * np.sqrt(308), 1e-6 * np.sqrt(990) * 6
    expected = -fall / np.sqrt(fall**2 + bend**2 + rest**2)
    assert row["volume_on_age"] == pytest.approx(expected)


def test_years_are_held_against_the_sign_that_is_expected_of_the_volume() -> None:
    """Years go against the volume once age is out, though both rise with it.

    What shrinks with age makes older where it is small: as expected of a sign of -1 alone.
    """
    years = np.tile((0.3 * AGES + 0.01 * CUBIC)[:, None], 3)
    volumes = np.tile((0.02 + 0.0001 * AGES - 1e-6 * CUBIC)[:, None], 3)
    names, expected = ("hippocampus", "lateral_ventricle", "insula"), {"lateral_ventricle": 1}
    table = concordance_table(years, volumes, AGES, names, {**expected, "hippocampus": -1})
    assert table["years_on_volume"].gt(0).all()
    assert table["as_expected"].tolist() == [True, False, None]
    # As plain values, what is not stated is None: NaN would be no JSON.
    assert [row["as_expected"] for row in table.to_dict("records")] == [True, False, None]
    with pytest.raises(ValueError, match=r"of the regions hippocampus, .* found thalamus"):
        concordance_table(years, volumes, AGES, names, {"thalamus": -1})


def test_shapes_must_fit_and_scans_suffice() -> None:
    with pytest.raises(ValueError, match="9 scans of 2 regions"):
        concordance_table(np.zeros((9, 1)), np.zeros((9, 1)), AGES, ("a", "b"), {})
    with pytest.raises(ValueError, match="found 4"):
        concordance_table(np.ones((4, 1)), np.ones((4, 1)), AGES[:4], ("a",), {})
