"""Ways of asking a network how many years it owes to each token of a scan.

Shapes: B scans, T tokens, F families of description, C tissue classes.

Where a way needs something to compare with, that is the average brain of the cohort that the
network was trained on (`location_tfc`), whose content is 0.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ermoe_ba.errors import UsageError
from ermoe_ba.model.ermoe import ErmoeBrainAge

# Points of Gauss-Legendre quadrature. The age is piecewise smooth along the path: a routing that
# switches leaves a remainder.
GRADIENT_STEPS = 16


@torch.no_grad()
def contributions(model: ErmoeBrainAge, described_btfc: Tensor) -> Tensor:
    """Return the years that each token contributes, over all experts: what the age is the sum of.

    Parameters
    ----------
    model : ErmoeBrainAge
        In evaluation mode.
    described_btfc : Tensor
        As `ErmoeBrainAge.describe` returns it.

    Returns
    -------
    Tensor, shape (B, T)
        Years; with the baseline they add up to the age.
    """
    return model.read_age(described_btfc).contributions_bte.sum(dim=-1)


@torch.no_grad()
def occlusion(model: ErmoeBrainAge, described_btfc: Tensor) -> Tensor:
    """Return by how many years the age falls if a token is replaced by the average brain's.

    After Zeiler and Fergus 2014 (arXiv 1311.2901); one token at a time.

    Parameters
    ----------
    model : ErmoeBrainAge
        As for `contributions`.
    described_btfc : Tensor
        As for `contributions`.

    Returns
    -------
    Tensor, shape (B, T)
        Years; their sum means nothing where tokens act together.
    """
    age_b = model.read_age(described_btfc).age_b
    without = []
    for token in range(described_btfc.shape[1]):
        replaced = described_btfc.clone()
        replaced[:, token] = model.location_tfc[token]
        without.append(model.read_age(replaced).age_b)
    return age_b[:, None] - torch.stack(without, dim=1)


def captum_gradients() -> Any:
    """Return captum's class of integrated gradients.

    Returns
    -------
    type
        ``captum.attr.IntegratedGradients``.

    Raises
    ------
    UsageError
        If captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise UsageError(
            "Integrated gradients need an extra; install it: pip install 'ermoe_ba[evidence]'."
        ) from error
    return IntegratedGradients


def integrated_gradients(model: ErmoeBrainAge, described_btfc: Tensor) -> Tensor:
    """Return integrated gradients of the age from the average brain to each scan (captum).

    Sundararajan 2017 (arXiv 1703.01365), summed over what describes a token. The choice of experts
    has no gradient: what switching does is not seen.

    Parameters
    ----------
    model : ErmoeBrainAge
        As for `contributions`.
    described_btfc : Tensor
        As for `contributions`.

    Returns
    -------
    Tensor, shape (B, T)
        Years; but for quadrature and switching they add up to the age less the average brain's.

    Raises
    ------
    UsageError
        As `captum_gradients`.
    """
    method = captum_gradients()

    def age(described: Tensor) -> Tensor:
        return model.read_age(described).age_b

    years: Tensor = method(age).attribute(
        described_btfc,
        baselines=model.location_tfc[None],
        n_steps=GRADIENT_STEPS,
        method="gausslegendre",
        internal_batch_size=len(described_btfc),
    )
    return years.detach().sum(dim=(2, 3))


@torch.no_grad()
def attention_rollout(model: ErmoeBrainAge, described_btfc: Tensor) -> Tensor:
    """Return how much attention each token receives (Abnar and Zuidema 2020, arXiv 2005.00928).

    ``mean over rows of (A + I) / 2`` with A the mean over heads: rollout of a single layer, without
    a class token. Attention gathers context for routing alone here, so it cannot be the whole
    story, and it has no sign.

    Parameters
    ----------
    model : ErmoeBrainAge
        As for `contributions`.
    described_btfc : Tensor
        As for `contributions`.

    Returns
    -------
    Tensor, shape (B, T)
        Shares; they sum to 1.
    """
    weights_btt = model.context.weights(model.content(described_btfc)).mean(dim=1)
    identity = torch.eye(weights_btt.shape[-1])
    return ((weights_btt + identity) / 2).mean(dim=1)


METHODS: dict[str, Callable[[ErmoeBrainAge, Tensor], Tensor]] = {
    "contribution": contributions,
    "occlusion": occlusion,
    "integrated_gradients": integrated_gradients,
    "attention_rollout": attention_rollout,
}
