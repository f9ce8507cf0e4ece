"""Second stage: experts learn age from the tissue that the frozen stem sees.

Shapes: N scans, V variants of each, T tokens, F families of description, C tissue classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor
from torch.nn import functional

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.config import FAMILIES
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array
from ermoe_ba.training.augment import ScanVariants
from ermoe_ba.training.loop import Fit, OptimiserConfig, fit


@dataclass(frozen=True, kw_only=True)
class AgeConfig:
    """How the experts are trained.

    Parameters
    ----------
    num_variants : int
        Changed copies of each scan beside the scan itself.
    num_epochs, batch_size : int
        Passes over the scans, in batches of that many.
    ridge_strength : float
        The position read-outs start at the ridge regression of age on what the experts make of the
        tokens; its penalty, as a share of the kernel's mean diagonal.
    readout_decay : float
        Weight decay of the position read-outs: they have a weight a token, more than there are
        scans, and need a prior.
    weight_decay : float
        Of embedding, place codes, attention and offsets. Bases and singular values have none.
    spread_floor : float
        Share of each family's range that is added in quadrature to its standard deviations, so that
        places where a tissue hardly varies are not blown up.
    optimiser : OptimiserConfig
        Steps of the optimiser.
    """

    num_variants: int
    num_epochs: int
    batch_size: int
    ridge_strength: float
    readout_decay: float
    weight_decay: float
    spread_floor: float
    optimiser: OptimiserConfig


@torch.no_grad()
def described_variants(
    model: ErmoeBrainAge, scans: list[PreparedScan], num_variants: int, seed: int
) -> Tensor:
    """Return the description of scans and of changed copies of them.

    Parameters
    ----------
    model : ErmoeBrainAge
        With a trained stem.
    scans : list of PreparedScan
        N scans.
    num_variants : int
        Changed copies of each.
    seed : int
        Of the changes.

    Returns
    -------
    Tensor, shape (N, 1 + num_variants, T, F, C)
        Half precision; the unchanged scan first.
    """
    change = ScanVariants(seed)
    rows = []
    for scan in scans:
        volumes = [torch.as_tensor(scan.t1w.data, dtype=torch.float32)]
        volumes += [change(scan) for _ in range(num_variants)]
        rows.append(torch.cat([model.describe(v[None]).half() for v in volumes]))
    return torch.stack(rows)


def train_age(
    model: ErmoeBrainAge, described_nvtfc: Tensor, ages_n: Array, config: AgeConfig, seed: int
) -> list[float]:
    """Train all of the network but its stem.

    Parameters
    ----------
    model : ErmoeBrainAge
        Trained in place; content and contributions are centred on their means over the unchanged
        scans, and the baseline becomes the mean of what is predicted for these.
    described_nvtfc : Tensor
        From `described_variants`.
    ages_n : ndarray
        Chronological ages in years.
    config : AgeConfig
        Steps.
    seed : int
        Of the order of scans, the choice of variants and token dropout.

    Returns
    -------
    list of float
        Mean absolute error of each step in years.
    """
    torch.manual_seed(seed)
    ages = torch.as_tensor(ages_n, dtype=torch.float32)
    unchanged = described_nvtfc[:, 0].float()
    model.location_tfc.copy_(unchanged.mean(dim=0))
    model.spread_tfc.copy_(content_spread(unchanged, config.spread_floor, model.config.hidden_size))
    model.baseline.copy_(ages.mean())
    model.scale.copy_(ages.std())
    start_readouts(model, unchanged, ages_n, config.ridge_strength)
    batches = _Batches(described_nvtfc, ages, config, seed)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        described, age = batch
        output = model.read_age(described)
        model.after_step(output)
        return functional.l1_loss(output.age_b, age)

    experts, context = model.experts, model.context
    bases = [experts.raw_u_edr, experts.raw_v_edr, experts.s_er]
    others = [*model.embed.parameters(), *context.parameters(), model.place_td, experts.offset_er]
    readouts = [experts.position_readout_td, experts.expert_readout_ed]
    groups: list[dict[str, object]] = [
        {"params": bases, "weight_decay": 0.0},
        {"params": readouts, "weight_decay": config.readout_decay},
        {"params": others, "weight_decay": config.weight_decay},
    ]
    stage = Fit(
        parameter_groups=groups,
        batches=batches,
        num_steps=len(batches),
        loss=loss,
        describe="age",
    )
    losses = fit(model, stage, config.optimiser)
    model.refer_to(unchanged)
    return losses


@torch.no_grad()
def start_readouts(
    model: ErmoeBrainAge, described_ntfc: Tensor, ages_n: Array, strength: float
) -> None:
    """Start the position read-outs at the ridge regression of age, given the routing as it is.

    The age is linear in the read-outs: ``baseline + scale * sum_t q_t . phi_t`` with
    ``phi_t = sum_e w_te U_e (diag(s_e) V_e^T x_t + m_e) / T``. There are far more of them than
    scans, so the regression is solved in its dual form (kernel ridge, linear kernel). Adam from
    zero, which moves every coordinate alike, was measured to end 0.5 years above it.

    Parameters
    ----------
    model : ErmoeBrainAge
        Its position read-outs and its baseline are set; scale and content must be.
    described_ntfc : Tensor
        The training scans.
    ages_n : ndarray
        Their ages in years.
    strength : float
        As `AgeConfig.ridge_strength`.
    """
    experts = model.experts
    u_edr, v_edr = experts.bases()
    weights_nte = model.read_age(described_ntfc).routing.weights_bte
    z_nter = torch.einsum("ntd,edr->nter", model.content(described_ntfc), v_edr)
    phi_ntd = torch.einsum("nter,edr,nte->ntd", experts.within(z_nter), u_edr, weights_nte)
    phi_ntd /= phi_ntd.shape[1]
    mean_td = phi_ntd.mean(dim=0)
    unlike = (phi_ntd - mean_td).flatten(1).double()
    kernel_nn = (unlike @ unlike.T).numpy()
    ridge = KernelRidge(alpha=strength * kernel_nn.diagonal().mean(), kernel="precomputed")
    ridge.fit(kernel_nn, (ages_n - ages_n.mean()) / float(model.scale))
    readout_td = (torch.as_tensor(ridge.dual_coef_) @ unlike).float().reshape(mean_td.shape)
    experts.position_readout_td.copy_(readout_td)
    model.baseline.copy_(ages_n.mean() - model.scale * (mean_td * readout_td).sum())


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


class _Batches:
    """Scans in random order, each as one of its variants."""

    def __init__(self, described: Tensor, ages: Tensor, config: AgeConfig, seed: int) -> None:
        self.described, self.ages, self.config = described, ages, config
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.config.num_epochs * -(-len(self.ages) // self.config.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        scans, variants = self.described.shape[:2]
        for _ in range(self.config.num_epochs):
            order = self.random.permutation(scans)
            for start in range(0, scans, self.config.batch_size):
                chosen = torch.as_tensor(order[start : start + self.config.batch_size])
                which = torch.as_tensor(self.random.integers(variants, size=len(chosen)))
                yield self.described[chosen, which].float(), self.ages[chosen]
