"""What a model is tuned by at a new site: nothing, an offset, or a line.

Shapes: N scans of the site, M members.

Why no more: a trial on the members of the shipped recipe and changed scans of the 28 people that
each fold left out (gamma 1.25, slices blurred to 4 mm, noise, bias field; five folds as five
sites), each person tested on what the 27 others taught. MAE was 6.80 years untuned, 5.82 with an
offset, 6.00 with a line, and 5.73 at best of six strengths with an offset and a ridge regression of
the rest on all that the position read-outs multiply, with the model's own read-outs as the prior.
One number does what twenty thousand do. Command: ``pipelines/fine_tune_trial.py DATA RUN``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ermoe_ba.metrics import person_shares
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array

# Leave the model as it is; add the site's mean residual; or regress age on predicted age. Where two
# do equally well, the one that changes less.
Way = Literal["none", "offset", "line"]
WAYS: tuple[Way, ...] = ("none", "offset", "line")


@dataclass(frozen=True)
class SiteView:
    """What the members of a model make of a site's scans.

    Parameters
    ----------
    ages_n : ndarray, shape (N,)
        Chronological ages in years.
    base_mn : ndarray, shape (M, N)
        Ages from each member as it is, in years.
    unseen_mn : ndarray of bool, shape (M, N)
        Whether the member was trained without this participant; only then it speaks of the scan.
        At least one a scan.
    """

    ages_n: Array
    base_mn: Array
    unseen_mn: Array

    @property
    def base_n(self) -> Array:
        """Mean age over the members that have not seen the participant, shape (N,), in years."""
        return np.asarray((self.base_mn * self.unseen_mn).sum(axis=0) / self.unseen_mn.sum(axis=0))


@dataclass(frozen=True)
class Tuned:
    """What tuning found: ``age = intercept + slope * predicted age``.

    Parameters
    ----------
    intercept, slope : float
        Years, and years a year.
    """

    intercept: float
    slope: float

    def ages(self, predicted: Array) -> Array:
        """Return tuned ages of predicted ages, in years.

        Parameters
        ----------
        predicted : ndarray, shape (N,)
            In years.

        Returns
        -------
        ndarray, shape (N,)
            In years.
        """
        return np.asarray(self.intercept + self.slope * predicted)


def tune(predicted: Array, ages: Array, way: Way, participants: Array | None = None) -> Tuned:
    """Fit one way of tuning.

    Parameters
    ----------
    predicted, ages : ndarray, shape (N,)
        Ages from members that have not seen the participants, and chronological ages, in years.
    way : {"none", "offset", "line"}
        Which; a line by least squares, for which predicted ages must differ.
    participants : ndarray, shape (N,), optional
        Whose each scan is: scans of one person share that person's weight. By default each is
        somebody else's.

    Returns
    -------
    Tuned
        Intercept and slope.
    """
    shares = np.ones(len(ages)) if participants is None else person_shares(participants)
    if way == "line":
        # Weights of residuals, not of their squares.
        slope, intercept = np.polyfit(predicted, ages, 1, w=np.sqrt(shares))
        return Tuned(float(intercept), float(slope))
    offset = np.average(ages - predicted, weights=shares) if way == "offset" else 0.0
    return Tuned(float(offset), 1.0)


@torch.no_grad()
def apply_tuning(member: ErmoeBrainAge, tuned: Tuned) -> None:
    """Write tuning into a member's weights: what it predicts is then the tuned age.

    An offset changes the baseline alone, so that all contributions stay; a line scales them.

    Parameters
    ----------
    member : ErmoeBrainAge
        Changed in place.
    tuned : Tuned
        From `tune`.
    """
    member.scale *= tuned.slope
    member.reference_te *= tuned.slope
    member.baseline.copy_(tuned.intercept + tuned.slope * member.baseline)
    member.curve.move(tuned.intercept, tuned.slope)
