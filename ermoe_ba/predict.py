"""From a preprocessed scan to its brain age, with the shares the age is the sum of.

Shapes: M members, T tokens, E experts.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.errors import ScanError
from ermoe_ba.maps import contribution_map, expert_map
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.preprocess import ScanState
from ermoe_ba.space import Array, Volume


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The brain age of one scan; chronological age plays no part in it.

    Parameters
    ----------
    predicted_age : float
        Mean over the ensemble's members, in years.
    lower, upper : float
        Ends of the prediction interval in years.
    baseline_years : float
        Age before any token has spoken; baseline and contributions add up to `predicted_age`.
    member_ages : tuple of float
        Age from each member.
    weights_te : ndarray
        Routing weights, mean over members.
    contributions_te : ndarray
        Years by token and expert, mean over members.
    fallback_share : float
        Share of tokens for which no expert was eligible.
    """

    predicted_age: float
    lower: float
    upper: float
    baseline_years: float
    member_ages: tuple[float, ...]
    weights_te: Array
    contributions_te: Array
    fallback_share: float


@dataclass(frozen=True, kw_only=True)
class PredictionMaps:
    """A prediction laid out on the brain.

    Parameters
    ----------
    experts : Volume
        Routing weights, last axis experts; they sum to 1 in the brain.
    contributions : dict of Volume
        Years per voxel, by expert.
    total : Volume
        Years per voxel over all experts; plus the baseline it sums to the predicted age.
    """

    experts: Volume
    contributions: dict[str, Volume]
    total: Volume


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
    # Sums in double precision: shares on disk must add up to the age on disk.
    contributions = np.mean(
        [o.contributions_bte[0].cpu().numpy().astype(np.float64) for o in outputs], axis=0
    )
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
    half_width = ensemble.card.half_width
    return Prediction(
        predicted_age=age,
        lower=age - half_width,
        upper=age + half_width,
        baseline_years=baseline,
        member_ages=tuple(float(o.age_b[0]) for o in outputs),
        weights_te=np.mean([o.routing.weights_bte[0].cpu().numpy() for o in outputs], axis=0),
        contributions_te=contributions,
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
    tokens = ensemble.tokens
    names = ensemble.card.model.expert_names
    by_expert = {
        name: contribution_map(prediction.contributions_te[:, number], tokens, brain_mask)
        for number, name in enumerate(names)
    }
    return PredictionMaps(
        experts=expert_map(prediction.weights_te, tokens, brain_mask),
        contributions=by_expert,
        total=contribution_map(prediction.contributions_te.sum(axis=1), tokens, brain_mask),
    )
