"""Second stage: experts learn age from the tissue fractions that the frozen stem sees.

Shapes: N scans, V variants of each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.plain import PlainNetwork
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
def scan_variants(
    view: Callable[[Tensor], Tensor], scans: list[PreparedScan], num_variants: int, seed: int
) -> Tensor:
    """Return what a network is trained on, of scans and of changed copies of them.

    Parameters
    ----------
    view : callable
        From intensities (1, I, J, K) to what the network sees of them, first axis 1: the tissue
        cells of `ErmoeBrainAge.tissue_cells` with a trained stem, for one.
    scans : list of PreparedScan
        N scans.
    num_variants : int
        Changed copies of each.
    seed : int
        Of the changes.

    Returns
    -------
    Tensor, shape (N, 1 + num_variants, ...)
        Half precision; the unchanged scan first.
    """
    change = ScanVariants(seed)
    rows = []
    for scan in scans:
        volumes = [torch.as_tensor(scan.t1w.data, dtype=torch.float32)]
        volumes += [change(scan) for _ in range(num_variants)]
        rows.append(torch.cat([view(v[None]).half() for v in volumes]))
    return torch.stack(rows)


def train_age(
    model: ErmoeBrainAge | PlainNetwork,
    inputs_nv: Tensor,
    ages_n: Array,
    config: AgeConfig,
    seed: int,
    *,
    at_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Train all of the network but its stem.

    Parameters
    ----------
    model : ErmoeBrainAge or PlainNetwork
        Trained in place; its baseline becomes the mean age, its content is centred on the mean of
        the unchanged scans.
    inputs_nv : Tensor, shape (N, 1 + num_variants, ...)
        From `scan_variants`.
    ages_n : ndarray
        Chronological ages in years.
    config : AgeConfig
        Steps.
    seed : int
        Of the order of scans, the choice of variants and token dropout.
    at_epoch : callable, optional
        Given the number of epochs done, before each epoch; may look at the model, and must leave
        it as it was.

    Returns
    -------
    list of float
        What each step minimised: mean absolute error in years and auxiliary loss.
    """
    torch.manual_seed(seed)
    ages = torch.as_tensor(ages_n, dtype=torch.float32)
    model.calibrate(inputs_nv[:, 0].float(), ages, config.spread_floor)
    batches = _Batches(inputs_nv, ages, config, seed, at_epoch)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, age = batch
        if isinstance(model, PlainNetwork):
            return functional.l1_loss(model.read_age(inputs), age)
        output = model.read_age(inputs)
        model.after_step(output)
        return functional.l1_loss(output.age_b, age) + model.auxiliary_loss(output)

    stage = Fit(
        parameter_groups=_parameter_groups(model, config),
        batches=batches,
        num_steps=len(batches),
        loss=loss,
        describe="age",
    )
    return fit(model, stage, config.optimiser)


def _parameter_groups(model: nn.Module, config: AgeConfig) -> list[dict[str, object]]:
    """Return all parameters but the stem's by what weight decay they bear."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("stem.") or not parameter.requires_grad:
            continue
        if "readout" in name:
            decay = config.readout_decay
        elif name.startswith("experts."):
            decay = 0.0
        else:
            decay = config.weight_decay
        groups.setdefault(decay, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items()]


class _Batches:
    """Scans in random order, each as one of its variants."""

    def __init__(
        self,
        inputs: Tensor,
        ages: Tensor,
        config: AgeConfig,
        seed: int,
        at_epoch: Callable[[int], None] | None,
    ) -> None:
        self.inputs, self.ages, self.config, self.at_epoch = inputs, ages, config, at_epoch
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.config.num_epochs * -(-len(self.ages) // self.config.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        scans, variants = self.inputs.shape[:2]
        for epoch in range(self.config.num_epochs):
            if self.at_epoch is not None:
                self.at_epoch(epoch)
            order = self.random.permutation(scans)
            for start in range(0, scans, self.config.batch_size):
                chosen = torch.as_tensor(order[start : start + self.config.batch_size])
                which = torch.as_tensor(self.random.integers(variants, size=len(chosen)))
                yield self.inputs[chosen, which].float(), self.ages[chosen]
