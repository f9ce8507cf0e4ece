"""From a preprocessed scan to its brain age, with the shares the age is the sum of.

Shapes: M members, T tokens, E experts.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.errors import ScanError
from ermoe_ba.intervals import age_interval
from ermoe_ba.likeness import look
from ermoe_ba.maps import TokenPlaces
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.preprocess import ScanState
from ermoe_ba.space import Array, Volume
from ermoe_ba.tokens import TokenGrid


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The brain age of one scan; chronological age plays no part in it.

    Parameters
    ----------
    predicted_age : float
        Mean over the ensemble's members, in years.
    lower, upper : float
        Ends of the prediction interval in years; the lower one is at least 0, below which no age
        lies, so that the interval covers as many.
    description_distance : float or None
        How far the scan lies from those that the model learnt from; None where the model has no
        rule by which its interval widens.
    interval_widening : float or None
        By what the interval is wider than that of a scan like the training cohort's, at least 1;
        None as above.
    baseline_years : float
        Age before any token has spoken; baseline and contributions add up to `predicted_age`.
    member_ages : tuple of float
        Age from each member.
    weights_te : ndarray
        Routing weights, mean over members.
    contributions_te : ndarray
        Years by token and expert, mean over members.
    member_weights_mte, member_contributions_mte : ndarray
        float32, the same of each member.
    fallback_share : float
        Share of tokens for which no expert was eligible.
    """

    predicted_age: float
    lower: float
    upper: float
    description_distance: float | None
    interval_widening: float | None
    baseline_years: float
    member_ages: tuple[float, ...]
    weights_te: Array
    contributions_te: Array
    member_weights_mte: Array
    member_contributions_mte: Array
    fallback_share: float


@dataclass(frozen=True, kw_only=True)
class PredictionMaps:
    """A prediction laid out on the brain.

    Parameters
    ----------
    places : TokenPlaces
        Which voxel answers to which token.
    experts : Volume
        Routing weights, last axis experts; they sum to 1 in the brain.
    winners : Volume
        Number of the expert with the largest weight, counted from 1; 0 outside the brain.
    contributions : dict of Volume
        Years per voxel, by expert.
    total : Volume
        Years per voxel over all experts; plus the baseline it sums to the predicted age.
    member_weights, member_years : Volume
        Routing weights and years by token of each member, on the lattice of patches; last axis
        members by experts, the experts of the first member first.
    """

    places: TokenPlaces
    experts: Volume
    winners: Volume
    contributions: dict[str, Volume]
    total: Volume
    member_weights: Volume
    member_years: Volume


@torch.inference_mode()
def predict_age(ensemble: Ensemble, state: ScanState) -> Prediction:
    """Predict the age of one scan.

    Parameters
    ----------
    ensemble : Ensemble
        The model.
    state : ScanState
        A preprocessed scan.

    Returns
    -------
    Prediction
        Age in years with interval and shares.

    Raises
    ------
    ScanError
        If the network gives no finite age.
    """
    described = described_once(ensemble, state)
    outputs = [m.read_age(d) for m, d in zip(ensemble.members, described, strict=True)]
    weights_mte = np.stack([o.routing.weights_bte[0].cpu().numpy() for o in outputs])
    contributions_mte = np.stack([o.contributions_bte[0].cpu().numpy() for o in outputs])
    # Sums in double precision: shares on disk must add up to the age on disk.
    contributions = contributions_mte.mean(axis=0, dtype=np.float64)
    baselines = [float(o.baseline) for o in outputs]
    baseline = float(np.mean(baselines))
    age = baseline + float(contributions.sum())
    if not np.isfinite(age):
        raise ScanError(
            state.path,
            must_hold="the network must give a finite age",
            found=f"{age}",
            remedy="Please report the scan's kind and this message.",
        )
    distance = widening = None
    if ensemble.widening is not None:
        distance = ensemble.widening.distance(_looks(ensemble, described))
        widening = ensemble.widening.factor(distance)
    half_width = ensemble.card.half_width * (1.0 if widening is None else widening)
    lower, upper = age_interval(age, half_width)
    return Prediction(
        predicted_age=age,
        lower=float(lower),
        upper=float(upper),
        description_distance=distance,
        interval_widening=widening,
        baseline_years=baseline,
        member_ages=tuple(float(o.age_b[0]) for o in outputs),
        weights_te=weights_mte.mean(axis=0),
        contributions_te=contributions,
        member_weights_mte=weights_mte,
        member_contributions_mte=contributions_mte,
        fallback_share=float(
            np.mean([o.routing.fallback_bt.float().mean().item() for o in outputs])
        ),
    )


@torch.inference_mode()
def described_once(ensemble: Ensemble, state: ScanState) -> list[torch.Tensor]:
    """Return how each member describes a scan; members that share a stem share the description.

    Parameters
    ----------
    ensemble : Ensemble
        The model.
    state : ScanState
        A preprocessed scan.

    Returns
    -------
    list of Tensor, shape (1, T, F, C)
        In the order of the members.
    """
    device = ensemble.members[0].baseline.device
    t1w = torch.as_tensor(state.image.data, dtype=torch.float32, device=device)[None]
    by_stem: dict[VoxelStem, torch.Tensor] = {}
    for member in ensemble.members:
        if member.stem not in by_stem:
            by_stem[member.stem] = member.describe(t1w)
    return [by_stem[member.stem] for member in ensemble.members]


def _looks(ensemble: Ensemble, described: list[torch.Tensor]) -> Array:
    """Return what a scan looks like to each stem, shape (S, Q)."""
    by_stem = dict(zip(ensemble.member_stems, described, strict=True))
    return np.stack([look(by_stem[stem][0].cpu().numpy()) for stem in sorted(by_stem)])


def map_prediction(
    ensemble: Ensemble, prediction: Prediction, brain_mask: Volume
) -> PredictionMaps:
    """Lay a prediction out on the scan's brain.

    Parameters
    ----------
    ensemble : Ensemble
        The model that made it.
    prediction : Prediction
        From `predict_age`.
    brain_mask : Volume
        The scan's brain mask on the model grid.

    Returns
    -------
    PredictionMaps
        On the model grid.
    """
    places = TokenPlaces.of(ensemble.tokens, brain_mask)
    by_expert = zip(ensemble.card.model.expert_names, prediction.contributions_te.T, strict=True)
    return PredictionMaps(
        places=places,
        experts=places.weights(prediction.weights_te),
        winners=places.winners(prediction.weights_te),
        contributions={name: places.years(years_t) for name, years_t in by_expert},
        total=places.years(prediction.contributions_te.sum(axis=1)),
        member_weights=_by_member(ensemble.tokens, prediction.member_weights_mte),
        member_years=_by_member(ensemble.tokens, prediction.member_contributions_mte),
    )


def _by_member(tokens: TokenGrid, values_mte: Array) -> Volume:
    return tokens.to_lattice(np.moveaxis(values_mte, 1, 0).reshape(len(tokens), -1))
