"""What a network takes for ordinary: the mean and the spread of a cohort's content and ages.

Shapes: N scans, T tokens, F families of description, C tissue classes, D hidden_size.
"""

import torch
from torch import Tensor

from ermoe_ba.model.config import FAMILIES
from ermoe_ba.model.content import TokenContent
from ermoe_ba.model.rivals.roster import AgeNetwork


def centre_on(model: AgeNetwork, unchanged: Tensor, ages_n: Tensor, spread_floor: float) -> None:
    """Give a network the mean and the spread of a cohort's content and ages.

    Parameters
    ----------
    model : ErmoeBrainAge or PlainNetwork
        Changed in place.
    unchanged : Tensor, shape (N, ...)
        What it sees of the scans.
    ages_n : Tensor
        Their ages in years.
    spread_floor : float
        As in `AgeConfig`.

    Raises
    ------
    ValueError
        If an age does not lie between the model's `age_bounds`.
    """
    if isinstance(model, TokenContent):
        centre_content(model, unchanged, spread_floor)
    score_n = model.curve.score(ages_n)
    model.baseline.copy_(score_n.mean())
    model.scale.copy_(score_n.std())


def centre_content(model: TokenContent, unchanged_ntfc: Tensor, spread_floor: float) -> None:
    """Give a network the mean and the spread of a cohort's content.

    Parameters
    ----------
    model : TokenContent
        Changed in place.
    unchanged_ntfc : Tensor
        The cohort's scans as the stem describes them.
    spread_floor : float
        As in `AgeConfig`.
    """
    spread = content_spread(unchanged_ntfc, spread_floor, model.embed.out_features)
    model.location_tfc.copy_(unchanged_ntfc.mean(dim=0))
    model.spread_tfc.copy_(spread)


def content_spread(described_ntfc: Tensor, floor: float, hidden_size: int) -> Tensor:
    """Return what deviations from the cohort's mean are divided by.

    Within a family, by the standard deviation at each place and tissue; between families, such that
    each has the same share in the squared length of the content, which is `hidden_size` in the mean
    over scans and tokens.

    Parameters
    ----------
    described_ntfc : Tensor
        Scans of the cohort.
    floor : float
        As in `AgeConfig`.
    hidden_size : int
        D.

    Returns
    -------
    Tensor, shape (T, F, C)
        Positive.
    """
    unlike = described_ntfc - described_ntfc.mean(dim=0)
    range_f1 = torch.tensor(list(FAMILIES.values()))[:, None]
    spread = (described_ntfc.var(dim=0) + (floor * range_f1) ** 2).sqrt()
    energy_f1 = (unlike / spread).square().sum(dim=-1, keepdim=True).mean(dim=(0, 1))
    # A family that never varies has nothing to balance.
    energy_f1 = torch.where(energy_f1 > 0, energy_f1, torch.ones_like(energy_f1))
    return spread * (energy_f1 * len(FAMILIES) / hidden_size).sqrt()
