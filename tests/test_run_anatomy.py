"""What experts know of anatomy: regional ones by construction, free ones only if they learnt it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.attribution.out_of_fold import OutOfFold
from ermoe_ba.attribution.run_anatomy import emergence, information, one_by_one

TOKENS = 400
# Two regions; the first three experts are tied to tissues, the last two are free.
REGION = (np.arange(TOKENS) % 2).astype(int)
SHARES = np.eye(2)[REGION]


def _seen(weights_nmte: np.ndarray, folds: tuple[int, ...] = ()) -> OutOfFold:
    scans = len(weights_nmte)
    people = [str(n) for n in range(scans)]
    return OutOfFold(
        table=pd.DataFrame({"participant_id": people, "fold": folds or [0] * scans}),
        model_id="m",
        config=SimpleNamespace(regions=("a", "b", "c")),  # type: ignore[arg-type]
        tokens=SimpleNamespace(),  # type: ignore[arg-type]
        years_nmte=np.zeros_like(weights_nmte),
        weights_nmte=weights_nmte,
        baseline_n=np.zeros(scans),
        fractions_ntc=np.tile(SHARES, (scans, 1, 1)),
    )


def test_information_of_experts_that_serve_a_region_each() -> None:
    weights = np.tile(SHARES, (3, 1, 1))
    found = information(weights, weights, SHARES)
    assert found == pytest.approx({"region": 1.0, "tissue": 1.0, "place": 1.0})
    # Routing that follows the subject and not the place tells nothing of either.
    by_subject = np.repeat(np.eye(2)[[0, 1]], TOKENS, axis=0).reshape(2, TOKENS, 2)
    found = information(by_subject, np.tile(SHARES, (2, 1, 1)), SHARES)
    assert found == pytest.approx({"region": 0.0, "tissue": 0.0, "place": 0.0}, abs=1e-9)


def test_free_experts_are_told_apart_from_regional_ones_and_from_chance() -> None:
    """Free experts follow the region, regional ones do not; another member does the contrary."""
    weights = np.zeros((4, 2, TOKENS, 5))
    weights[:, 0, :, 3:] = 0.4 * SHARES
    weights[:, 0, :, :3] = 0.2
    weights[:, 1, :, :2] = SHARES
    weights[:, 1, :, 2:] = 0.2
    scans = np.array([True, True, True, False])
    both = emergence(_seen(weights), scans, SHARES, seed=0)
    for name in ("free_experts", "regional_experts"):
        ends = [both[name][end] for end in ("region", "region_least", "region_most")]
        assert ends[1] < ends[0] < ends[2]
        assert both[name]["networks"] == 2
    found = emergence(_seen(weights), scans, SHARES, seed=0, starts=1)
    assert found["free_experts"]["region"] == pytest.approx(1.0)
    assert found["regional_experts"]["region"] == pytest.approx(0.0, abs=1e-9)
    assert 0 < found["all_experts"]["region"] < 1
    for name in ("free_experts", "all_experts"):
        assert found[f"{name}_random_routing"]["region"] < 0.02


def test_folds_whose_free_experts_are_swapped_do_not_cancel() -> None:
    """Each network's free experts serve a region each, the other's the other way round.

    Their average would serve both regions alike, and tell nothing.
    """
    weights = np.full((4, 1, TOKENS, 5), 0.1)
    weights[:2, 0, :, 3:], weights[2:, 0, :, 3:] = SHARES, SHARES[:, ::-1]
    found = emergence(_seen(weights, (0, 0, 1, 1)), np.ones(4, dtype=bool), SHARES, seed=0)
    free = found["free_experts"]
    assert free["networks"] == 2
    for figure in ("region", "tissue"):
        for end in ("", "_least", "_most"):
            assert free[f"{figure}{end}"] == pytest.approx(1.0)
    # Which of 400 places it is: one of two halves of them, as far as two experts can tell.
    assert free["place"] == pytest.approx(1.0)


def test_networks_of_free_experts_alone_are_told_as_whole_ones() -> None:
    """As many networks as are given, each with its own scans; a gate's experts are all free."""
    weights = np.tile(SHARES, (2, 1, 1))
    knows, knows_not = (weights, weights), (np.full_like(weights, 0.5), weights)
    found = one_by_one([knows, knows_not], 0, SHARES, seed=0)
    assert set(found) == {"all_experts", "all_experts_random_routing"}
    told = found["all_experts"]
    assert told["networks"] == 2
    assert told["region"] == pytest.approx(0.5)
    assert (told["tissue_least"], told["tissue_most"]) == pytest.approx((0.0, 1.0), abs=1e-9)


def test_the_scans_asked_for_are_the_ones_that_count() -> None:
    weights = np.full((2, 1, TOKENS, 5), 0.1)
    weights[0, 0, :, 3:] = SHARES
    weights[1, 0, :, 3:] = 0.5
    only = {
        scan: emergence(_seen(weights), np.arange(2) == scan, SHARES, seed=0)["free_experts"]
        for scan in (0, 1)
    }
    assert only[0]["region"] == pytest.approx(1.0)
    assert only[1]["region"] == pytest.approx(0.0, abs=1e-9)
