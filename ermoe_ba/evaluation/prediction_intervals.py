"""Prediction intervals by conformal methods, each fold's set by the others, and what they hold.

Shapes: N rows, M rows whose difficulty is asked, L rows near each of these.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors

from ermoe_ba.evaluation.bootstrap import CONFIDENCE, MIN_PARTICIPANTS, Estimate, estimates
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.intervals import age_interval, conformal_half_width
from ermoe_ba.metrics import person_shares
from ermoe_ba.space import Array

LEVELS = (0.80, 0.90, 0.95)
METHODS = ("constant", "local")
# How many people near by tell a difficulty, and years added to keep it above 0: the defaults of the
# conformal library crepes 0.9 (its `DifficultyEstimator`), not tuned on any cohort.
NUM_NEIGHBOURS = 25
SMALLEST_DIFFICULTY = 0.01
# Parts of the calibrating people in which their difficulty is predicted, each from the others.
_NUM_PARTS = 10


@dataclass(frozen=True, eq=False)
class PredictionIntervals:
    """Half-widths of the intervals around predicted ages, in years.

    Every number of a row comes from rows of the other folds alone: residuals of models that had not
    seen the scans they err on are put around the prediction of a model that has not seen this one.
    That is CV+ (Barber et al. 2021, doi:10.1214/20-AOS1965) where each row has the one prediction
    that out-of-fold tables hold. Their theorem asks for the predictions of all folds' models, and
    the models behind the residuals did learn from this row: so coverage is measured, not promised.

    Parameters
    ----------
    difficulty : ndarray, shape (N,)
        Predicted size of the gap: mean of the nearest predicted ages' absolute gaps, of as many as
        25 people come to where rows of one person share that person's weight.
    half_widths : dict of (str, float) to ndarray, shape (N,)
        By method and level. ``constant``: the same for all rows of a fold, as `predict` gives it.
        ``local``: in proportion to the difficulty (Lei et al. 2018, section 5.2,
        doi:10.1080/01621459.2017.1307116). Not a number where a fold's others are too few.
    """

    difficulty: Array
    half_widths: dict[tuple[str, float], Array]


def conformal_intervals(rows: OutOfFold) -> PredictionIntervals:
    """Set the intervals of each fold by the residuals of the others.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    PredictionIntervals
    """
    difficulty = np.full(len(rows.gap), np.nan)
    half_widths = {(m, level): np.full(len(rows.gap), np.nan) for m in METHODS for level in LEVELS}
    for fold in range(len(rows.fold_names)):
        here, others = rows.folds == fold, rows.folds != fold
        whose, gap = rows.participants[others], rows.gap[others]
        if len(np.unique(whose)) < 2:
            continue
        theirs, difficulty[here] = _difficulties(rows, others, here)
        for level in LEVELS:
            try:
                constant = conformal_half_width(gap, level, whose)
            except ValueError:
                # Too few for this level; as many are too few for the other method.
                continue
            half_widths["constant", level][here] = constant
            factor = conformal_half_width(gap / theirs, level, whose)
            half_widths["local", level][here] = factor * difficulty[here]
    return PredictionIntervals(difficulty, half_widths)


def _difficulties(rows: OutOfFold, others: Array, here: Array) -> tuple[Array, Array]:
    """Return the difficulty of the other folds' rows and of this fold's.

    That of a calibrating row must not know its own gap, or its person's, since that of a new row
    does not: it is predicted in parts.
    """
    whose = rows.participants[others]
    predicted, sizes = rows.predicted[others], np.abs(rows.gap[others])
    people, person = np.unique(whose, return_inverse=True)
    # At most a quarter of the people, or few would have neighbours of their own.
    num_near = max(1, min(NUM_NEIGHBOURS, len(people) // 4))
    theirs = np.empty(len(whose))
    # Of people, not of rows: whoever was scanned often weighs no more than anybody else.
    parts = GroupKFold(min(_NUM_PARTS, len(people)))
    for learnt, told in parts.split(people, groups=people):
        known, asked = np.isin(person, learnt), np.isin(person, told)
        theirs[asked] = _size_near(
            predicted[known], sizes[known], whose[known], predicted[asked], num_near
        )
    new = _size_near(predicted, sizes, whose, rows.predicted[here], num_near)
    return theirs + SMALLEST_DIFFICULTY, new + SMALLEST_DIFFICULTY


def _size_near(
    predicted: Array, sizes: Array, whose: Array, asked_m: Array, num_people: int
) -> Array:
    """Return the mean size of the gaps nearest to predicted ages: of so many people's shares."""
    shares = person_shares(whose)
    # So many rows hold that many people's shares, whosever they are.
    num_rows = min(len(whose), int(np.rint(num_people / shares.min())))
    index = NearestNeighbors(n_neighbors=num_rows).fit(predicted[:, None])
    near_ml = index.kneighbors(asked_m[:, None], return_distance=False)
    share_ml = shares[near_ml]
    nearer_ml = np.cumsum(share_ml, axis=1) - share_ml
    # Of the farthest row only what is still wanted counts.
    weight_ml = np.clip(num_people - nearer_ml, 0.0, share_ml)
    size: Array = (sizes[near_ml] * weight_ml).sum(axis=1) / weight_ml.sum(axis=1)
    return size


def interval_calibration(rows: OutOfFold, intervals: PredictionIntervals) -> dict[str, Any]:
    """Measure what share of chronological ages the intervals hold.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.
    intervals : PredictionIntervals
        Of these rows.

    Returns
    -------
    dict
        By method, a list over levels: ``nominal``, ``coverage`` (share, with interval),
        ``mean_width`` (years, of what lies above 0) and ``by_decade`` (``group``, ``num_rows``,
        ``num_covered``, ``coverage``, ``mean_width``). Levels that too few participants allow for
        are left out. ``as_given``: the same, once and without level, of the intervals that the
        table came with; None where it came with none. In ``coverage`` and ``mean_width``, rows of
        one person share that person's weight. Where all ages are held, or none, every bootstrap
        sample says the same: the interval then ends at the share that would give as many people
        all alike with a probability of 2.5 % (Clopper and Pearson 1934,
        doi:10.1093/biomet/26.4.404).
    """
    found: dict[str, Any] = {}
    for method in METHODS:
        by_level = {level: intervals.half_widths[method, level] for level in LEVELS}
        found[method] = [
            {"nominal": level, **_measured(rows, *age_interval(rows.predicted, half))}
            for level, half in by_level.items()
            if np.isfinite(half).all()
        ]
    given = rows.given_interval
    return {**found, "as_given": None if given is None else _measured(rows, *given)}


def _mean(values: Array, participants: Array) -> float:
    return float(np.average(values, weights=person_shares(participants)))


def _share(covered: Array, participants: Array) -> Estimate:
    """Return what share of people's ages is covered, with interval."""

    def share(weights_bn: Array) -> dict[str, Array]:
        return {"share": weights_bn @ covered / weights_bn.sum(axis=-1)}

    found = estimates(share, participants)["share"]
    count = len(np.unique(participants))
    if count < MIN_PARTICIPANTS or (covered.any() and not covered.all()):
        return found
    # All of `count` people with a probability of (1 - CONFIDENCE) / 2. Of people with several
    # scans it is no more: whatever share of each is covered, all of it is at most as likely.
    end = ((1 - CONFIDENCE) / 2) ** (1 / count)
    if covered.all():
        return Estimate(value=1.0, lower=end, upper=1.0)
    return Estimate(value=0.0, lower=0.0, upper=1.0 - end)


def _measured(rows: OutOfFold, lower: Array, upper: Array) -> dict[str, Any]:
    covered = (lower <= rows.chronological) & (rows.chronological <= upper)
    return {
        "coverage": _share(covered, rows.participants),
        "mean_width": _mean(upper - lower, rows.participants),
        "by_decade": [
            {
                "group": str(decade),
                "num_rows": int(chosen.sum()),
                "num_covered": int(covered[chosen].sum()),
                "coverage": _mean(covered[chosen], rows.participants[chosen]),
                "mean_width": _mean((upper - lower)[chosen], rows.participants[chosen]),
            }
            for decade in np.unique(rows.decades)
            for chosen in [rows.decades == decade]
        ],
    }
