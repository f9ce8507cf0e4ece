"""Tuning: each way by hand, and people who count alike."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.training.tuning import SiteView, Tuned, apply_tuning, tune

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_each_way_by_hand() -> None:
    predicted, ages = np.array([28.0, 41.0, 45.0]), np.array([30.0, 40.0, 50.0])
    assert tune(predicted, ages, "none") == Tuned(0.0, 1.0)
    # Residuals 2, -1 and 5.
    assert tune(predicted, ages, "offset") == Tuned(2.0, 1.0)
    line = tune(np.array([20.0, 40.0, 60.0]), np.array([11.0, 21.0, 31.0]), "line")
    assert (line.intercept, line.slope) == (pytest.approx(1.0), pytest.approx(0.5))
    assert line.ages(np.array([100.0])) == pytest.approx([51.0])


def test_people_tune_alike_however_often_they_were_scanned() -> None:
    """Residuals of 2 and 4 of two people, and of 9 in each of three scans of a third: (2+4+9) / 3.

    Three scans of one person at one place pull a line as one scan there does.
    """
    predicted = np.array([28.0, 46.0, 61.0, 61.0, 61.0])
    ages = predicted + np.array([2.0, 4.0, 9.0, 9.0, 9.0])
    people = np.array(["a", "b", "c", "c", "c"])
    offset = tune(predicted, ages, "offset", people)
    assert (offset.intercept, offset.slope) == (pytest.approx(5.0), 1.0)
    line, of_three = tune(predicted, ages, "line", people), tune(predicted[:3], ages[:3], "line")
    assert line.slope == pytest.approx(of_three.slope)
    assert line.intercept == pytest.approx(of_three.intercept)
    assert tune(predicted, ages, "line").slope != pytest.approx(line.slope)
    # One scan each: to the last digit as without names.
    names = np.array(list("abcde"))
    for way in ("none", "offset", "line"):
        assert tune(predicted, ages, way, names) == tune(predicted, ages, way)


def test_a_scan_s_age_comes_from_members_that_did_not_see_its_participant() -> None:
    base = np.array([[30.0, 50.0, 70.0], [34.0, 90.0, 10.0]])
    unseen = np.array([[True, True, False], [True, False, True]])
    view = SiteView(ages_n=np.zeros(3), base_mn=base, unseen_mn=unseen)
    assert view.base_n.tolist() == [32.0, 50.0, 10.0]


@pytest.mark.parametrize("bounds", [(), (0.0, 100.0)], ids=["straight", "curved"])
@pytest.mark.parametrize("tuned", [Tuned(7.5, 1.0), Tuned(-3.0, 0.6)], ids=["offset", "line"])
def test_tuned_weights_predict_tuned_ages(
    make_member: Callable[..., ErmoeBrainAge],
    small_config: ModelConfig,
    small_scans: torch.Tensor,
    tuned: Tuned,
    bounds: tuple[float, ...],
) -> None:
    member = make_member(3, replace(small_config, age_bounds=bounds))
    with torch.no_grad():
        before = member(small_scans)
        apply_tuning(member, tuned)
        after = member(small_scans)
    wanted = tuned.ages(before.age_b.numpy().astype(float))
    np.testing.assert_allclose(after.age_b.numpy(), wanted, rtol=1e-5)
    # A line scales every place's share, and an offset leaves it: the sum stays exact either way.
    shares = tuned.slope * before.contributions_bte
    torch.testing.assert_close(after.contributions_bte, shares, rtol=1e-4, atol=1e-6)
    summed = after.baseline + after.contributions_bte.sum(dim=(1, 2))
    torch.testing.assert_close(summed, after.age_b)
