"""Second stage: experts learn age from the tissue fractions that the frozen stem sees.

Shapes: N scans, V variants of each, T tokens, C tissue classes; 8 cells a token.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ermoe_ba.dataset import PreparedScan
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
    readout_decay : float
        Weight decay of the position read-outs: they have a weight a token, more than there are
        scans, and need a prior.
    weight_decay : float
        Of embedding and attention. Bases and singular values have none.
    spread_floor : float
        Added in quadrature to the standard deviation of each tissue fraction, so that places where
        a tissue hardly varies are not blown up.
    optimiser : OptimiserConfig
        Steps of the optimiser.
    """

    num_variants: int
    num_epochs: int
    batch_size: int
    readout_decay: float
    weight_decay: float
    spread_floor: float
    optimiser: OptimiserConfig


@torch.no_grad()
def variant_cells(
    model: ErmoeBrainAge, scans: list[PreparedScan], num_variants: int, seed: int
) -> Tensor:
    """Return the tissue fractions of scans and of changed copies of them.

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
    Tensor, shape (N, 1 + num_variants, T, 8, C)
        Half precision; the unchanged scan first.
    """
    change = ScanVariants(seed)
    rows = []
    for scan in scans:
        volumes = [torch.as_tensor(scan.t1w.data, dtype=torch.float32)]
        volumes += [change(scan) for _ in range(num_variants)]
        rows.append(torch.cat([model.tissue_cells(v[None]).half() for v in volumes]))
    return torch.stack(rows)


def train_age(
    model: ErmoeBrainAge, cells_nvtkc: Tensor, ages_n: Array, config: AgeConfig, seed: int
) -> list[float]:
    """Train all of the network but its stem.

    Parameters
    ----------
    model : ErmoeBrainAge
        Trained in place; its baseline becomes the mean age, its content is centred on the mean of
        the unchanged scans.
    cells_nvtkc : Tensor
        From `variant_cells`.
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
    unchanged = cells_nvtkc[:, 0].float()
    model.location_tkc.copy_(unchanged.mean(dim=0))
    model.spread_tkc.copy_((unchanged.var(dim=0) + config.spread_floor**2).sqrt())
    model.baseline.copy_(ages.mean())
    model.scale.copy_(ages.std())
    batches = _Batches(cells_nvtkc, ages, config, seed)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        cells, age = batch
        output = model.read_age(cells)
        model.after_step(output)
        return functional.l1_loss(output.age_b, age)

    experts, context = model.experts, model.context
    bases = [experts.raw_u_edr, experts.raw_v_edr, experts.s_er]
    readouts = [experts.position_readout_td, experts.expert_readout_ed]
    groups: list[dict[str, object]] = [
        {"params": bases, "weight_decay": 0.0},
        {"params": readouts, "weight_decay": config.readout_decay},
        {
            "params": [*model.embed.parameters(), *context.parameters()],
            "weight_decay": config.weight_decay,
        },
    ]
    stage = Fit(
        parameter_groups=groups,
        batches=batches,
        num_steps=len(batches),
        loss=loss,
        describe="age",
    )
    return fit(model, stage, config.optimiser)


class _Batches:
    """Scans in random order, each as one of its variants."""

    def __init__(self, cells: Tensor, ages: Tensor, config: AgeConfig, seed: int) -> None:
        self.cells, self.ages, self.config = cells, ages, config
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.config.num_epochs * -(-len(self.ages) // self.config.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        scans, variants = self.cells.shape[:2]
        for _ in range(self.config.num_epochs):
            order = self.random.permutation(scans)
            for start in range(0, scans, self.config.batch_size):
                chosen = torch.as_tensor(order[start : start + self.config.batch_size])
                which = torch.as_tensor(self.random.integers(variants, size=len(chosen)))
                yield self.cells[chosen, which].float(), self.ages[chosen]
