"""ComBat within a fold: a planted site effect goes, age stays, and nobody tested takes part."""

from importlib.util import find_spec

import numpy as np
import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array
from ermoe_ba.training.regional_volumes import make_regression
from ermoe_ba.training.site_harmoniser import SiteHarmoniser

needs_combat = pytest.mark.skipif(find_spec("neuroCombat") is None, reason="extra combat")

FEATURES = 12


def _scans(count: int, seed: int, older: float = 0.0) -> tuple[Array, Array, list[str]]:
    """Volumes that follow age; site B adds an offset of its own to each, and scatters more.

    Its people are as old as those of A, or older by some years.
    """
    random = np.random.default_rng(seed)
    sites = ["A" if n % 2 else "B" for n in range(count)]
    ages = random.uniform(20, 60, count // 2).repeat(2) + older * (np.array(sites) == "B")
    slopes = np.linspace(-1.0, 1.0, FEATURES)
    noise = random.normal(0, 0.3, (count, FEATURES))
    volumes = 10 + slopes * (ages[:, None] - 50) / 17 + noise
    at_b = np.array(sites) == "B"
    # Around the mean of 40 years, so that the offset is what differs at that age.
    centre = 10 + slopes * (40 - 50) / 17
    offsets = np.random.default_rng(99).normal(0, 3.0, FEATURES)
    volumes[at_b] = (volumes[at_b] - centre) * 1.6 + centre + offsets
    return volumes, ages, sites


def _apart(volumes: Array, sites: list[str]) -> tuple[float, float]:
    """Return how far sites are apart: in the means, and in the ratio of the deviations."""
    at_b = np.array(sites) == "B"
    means = volumes[at_b].mean(axis=0) - volumes[~at_b].mean(axis=0)
    ratio = volumes[at_b].std(axis=0) / volumes[~at_b].std(axis=0)
    return float(np.abs(means).mean()), float(ratio.mean())


@needs_combat
def test_a_planted_site_effect_goes_from_scans_that_were_not_learnt_from() -> None:
    train, ages, sites = _scans(400, 1)
    test, test_ages, test_sites = _scans(200, 2)
    combat = SiteHarmoniser().fit(train, sites, ages)
    found = combat.transform(test, test_sites)
    before, after = _apart(test, test_sites), _apart(found, test_sites)
    assert before[0] > 1.5
    assert after[0] < 0.15 * before[0]
    assert before[1] == pytest.approx(1.6, rel=0.1)
    assert after[1] == pytest.approx(1.0, abs=0.1)
    # What ages do stays: the steepest volumes follow it as closely as within one site.
    at_a = np.array(test_sites) == "A"
    within = np.corrcoef(test[at_a, 0], test_ages[at_a])[0, 1]
    assert np.corrcoef(found[:, 0], test_ages)[0, 1] == pytest.approx(within, abs=0.03)
    # And a regression on few scans of one site serves the other.
    few = [n for n, site in enumerate(sites) if site == "A"][:60]
    raw = make_regression("ridge", FEATURES).fit(train[few], ages[few])
    clean = make_regression("ridge", FEATURES).fit(combat.transform(train, sites)[few], ages[few])
    raw_error = np.abs(raw.predict(test) - test_ages)[~at_a].mean()
    assert np.abs(clean.predict(found) - test_ages)[~at_a].mean() < 0.5 * raw_error


@needs_combat
def test_sites_of_unlike_ages_keep_their_distance() -> None:
    """B is 20 years older: its offset at one age goes, and what 20 years do stays."""
    train, ages, sites = _scans(400, 9, older=20.0)
    found = SiteHarmoniser().fit(train, sites, ages).transform(train, sites)
    same, _, same_sites = _scans(400, 9)
    offset = _apart(same, same_sites)[0]
    at_b = np.array(sites) == "B"
    apart = found[at_b].mean(axis=0) - found[~at_b].mean(axis=0)
    years = np.linspace(-1.0, 1.0, FEATURES) * 20 / 17
    assert np.abs(apart - years).mean() < 0.15 * offset
    assert np.corrcoef(apart, years)[0, 1] > 0.95


@needs_combat
def test_a_scan_is_harmonised_for_itself() -> None:
    """A planted leak: the others that are tested are spoilt, and nothing may move."""
    train, ages, sites = _scans(60, 3)
    test, test_ages, test_sites = _scans(10, 4)
    combat = SiteHarmoniser().fit(train, sites, ages)
    together = combat.transform(test, test_sites)
    spoilt = test.copy()
    spoilt[1:] *= 50
    np.testing.assert_array_equal(combat.transform(spoilt, test_sites)[0], together[0])
    np.testing.assert_allclose(combat.transform(test[:1], test_sites[:1])[0], together[0])
    # The counterpart: what is learnt from does move it.
    other = SiteHarmoniser().fit(
        np.vstack([train, test * 2]), [*sites, *test_sites], np.concatenate([ages, test_ages])
    )
    assert not np.allclose(other.transform(test[:1], test_sites[:1])[0], together[0])


@needs_combat
def test_a_volume_that_never_varies_stays() -> None:
    train, ages, sites = _scans(20, 5)
    train[:, 3] = 7.0
    found = SiteHarmoniser().fit(train, sites, ages).transform(train, sites)
    assert (found[:, 3] == 7.0).all()
    assert np.isfinite(found).all()


@needs_combat
@pytest.mark.parametrize(
    ("sites", "says"),
    [(["A"] * 6, "found A: 6"), (["A"] * 5 + ["B"], "A: 5, B: 1")],
)
def test_too_few_sites_or_scans_are_refused(sites: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SiteHarmoniser().fit(_scans(6, 6)[0], sites, np.arange(6.0))


@needs_combat
def test_a_site_that_was_not_learnt_is_refused() -> None:
    train, ages, sites = _scans(20, 7)
    combat = SiteHarmoniser().fit(train, sites, ages)
    with pytest.raises(UsageError, match=r"\['C'\]"):
        combat.transform(train[:2], ["A", "C"])


def test_the_library_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "neuroCombat", None)
    with pytest.raises(UsageError, match=r"ermoe_ba\[combat\]"):
        SiteHarmoniser().fit(_scans(6, 8)[0], ["A", "B"] * 3, np.arange(6.0))
