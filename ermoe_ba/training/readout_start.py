"""Where the position read-outs start: at a ridge regression of age, on the scale of its scores.

Shapes: N scans, V variants of each, T tokens, F families of description, C tissue classes,
D hidden_size.
"""

import numpy as np
import torch
from sklearn.covariance import shrunk_covariance
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.space import Array


@torch.no_grad()
def start_readouts(
    model: ErmoeBrainAge | AdditiveReadout,
    described_nvtfc: Tensor,
    ages_n: Array,
    strength: float,
    invariance: float,
    *,
    length: float = 0.0,
    shrinkage: float = 1.0,
) -> None:
    """Start the position read-outs at the ridge regression of age, given the routing as it is.

    The score, of which the age is the model's curve, is linear in the read-outs: ``baseline + scale
    * sum_t q_t . phi_t`` with phi the network's `readout_inputs`. What is minimised, with the
    scores that the curve has for the ages, is ``sum_n (q . phi_n0 - score_n)^2 + invariance * sum_n
    mean_v (q . (phi_nv - phi_n0))^2 + penalty * sum_tu q_t . (S^-1)_tu C q_u``: a changed copy
    is to be as old as its scan, read-outs of places near each other are alike beforehand, as
    `place_prior` says, and none is small beforehand for the mere reason that inputs vary little in
    its direction, as `direction_spread` says (with a length of 0, S is the identity; with a
    shrinkage of 1, C is a multiple of it). There are far more read-outs than scans, so the
    regression is solved in its dual form (kernel ridge, linear kernel), where differences to copies
    are samples of score 0. Adam from zero, which moves every coordinate alike, was measured to end
    0.5 years above it.

    Parameters
    ----------
    model : ErmoeBrainAge or AdditiveReadout
        Its position read-outs and its baseline are set; scale and content must be.
    described_nvtfc : Tensor
        The training scans, unchanged first, and their changed copies.
    ages_n : ndarray
        Their ages in years.
    strength, invariance : float
        As `AgeConfig.ridge_strength` and `AgeConfig.invariance`.
    length : float
        As `AgeConfig.readout_length`.
    shrinkage : float
        As `AgeConfig.readout_shrinkage`.

    Raises
    ------
    ValueError
        If an age does not lie between the model's `age_bounds`.
    """
    readouts = model.experts if isinstance(model, ErmoeBrainAge) else model
    copies = described_nvtfc.shape[1] - 1
    phi_ntd = model.readout_inputs(described_nvtfc[:, 0].float())
    mean_td = phi_ntd.mean(dim=0)
    rows = [phi_ntd - mean_td]
    if invariance > 0:
        weight = (invariance / max(copies, 1)) ** 0.5
        for copy in range(1, copies + 1):
            changed_ntd = model.readout_inputs(described_nvtfc[:, copy].float())
            rows.append(weight * (changed_ntd - phi_ntd))
    unlike_mtd = torch.cat(rows).double()
    # The priors in the place of the identity: of the dual form they ask for a product each.
    spread_dd = direction_spread(unlike_mtd[: len(phi_ntd)], shrinkage)
    shared_mtd = unlike_mtd @ torch.linalg.inv(spread_dd)
    if length > 0:
        prior_tu = place_prior(model.positions_tx, length).double()
        shared_mtd = torch.einsum("mtd,tu->mud", shared_mtd, prior_tu)
    unlike, shared = unlike_mtd.flatten(1), shared_mtd.flatten(1)
    target = np.zeros(len(unlike))
    score_n = model.curve.score(torch.as_tensor(ages_n)).numpy()
    target[: len(ages_n)] = (score_n - score_n.mean()) / float(model.scale)
    kernel = (unlike @ shared.T).numpy()
    # Of the scans alone, so that copies do not change what a strength means.
    ridge = KernelRidge(
        alpha=strength * kernel.diagonal()[: len(ages_n)].mean(), kernel="precomputed"
    )
    ridge.fit(kernel, target)
    readout_td = (torch.as_tensor(ridge.dual_coef_) @ shared).float().reshape(mean_td.shape)
    readouts.position_readout_td.copy_(readout_td)
    model.baseline.copy_(score_n.mean() - model.scale * (mean_td * readout_td).sum())


def place_prior(positions_tx: Tensor, length: float) -> Tensor:
    """Return how alike the read-outs of two places are before anything is learnt.

    ``S_tu = ([t = u] + exp(-|x_t - x_u|^2 / (2 length^2))) / 2``: half of a read-out is its
    place's own, the other half a Gaussian process over the brain.

    Parameters
    ----------
    positions_tx : Tensor, shape (T, 3)
        Places, in tokens.
    length : float
        In tokens, above 0.

    Returns
    -------
    Tensor, shape (T, T)
        Covariance, 1 on its diagonal.
    """
    squared_tu = torch.cdist(positions_tx, positions_tx).square()
    near_tu = torch.exp(-squared_tu / (2.0 * length**2))
    return (torch.eye(len(positions_tx)) + near_tu) / 2.0


def direction_spread(unlike_ntd: Tensor, shrinkage: float) -> Tensor:
    """Return how inputs of the read-outs vary over scans and places, shrunk to a sphere.

    ``C = (1 - shrinkage) * sum_nt x_nt x_nt^T / (N T) + shrinkage * trace / D * I`` (Ledoit and
    Wolf 2004, Journal of Multivariate Analysis 88, with a share that is set). A penalty on
    ``q . C q`` weighs a read-out by the years that it is worth over the cohort and not by its own
    length: a direction in which tissue varies little may tell as much of age as one in which it
    varies much.

    Parameters
    ----------
    unlike_ntd : Tensor
        Inputs of the read-outs, less their means over scans.
    shrinkage : float
        From 0 (exclusive) to 1; with 1 all directions are alike.

    Returns
    -------
    Tensor, shape (D, D)
        Symmetric; positive definite unless all inputs are 0.
    """
    rows = unlike_ntd.flatten(0, 1)
    return torch.as_tensor(shrunk_covariance((rows.T @ rows / len(rows)).numpy(), shrinkage))
