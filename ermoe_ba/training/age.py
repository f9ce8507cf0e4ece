"""Second stage: experts learn age from the tissue that the frozen stem sees.

Shapes: N scans, V variants of each, T tokens, F families of description, C tissue classes,
D hidden_size.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.errors import UsageError
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.roster import AgeNetwork
from ermoe_ba.space import Array
from ermoe_ba.training.age_learner import AgeLearner, age_validation
from ermoe_ba.training.augment import ScanVariants
from ermoe_ba.training.change_config import USUAL, ChangeConfig
from ermoe_ba.training.content_centre import centre_on
from ermoe_ba.training.history import History
from ermoe_ba.training.loop import OptimiserConfig, fit
from ermoe_ba.training.parameter_groups import parameter_groups
from ermoe_ba.training.readout_start import start_readouts
from ermoe_ba.training.scan_batches import ScanBatches, set_aside
from ermoe_ba.training.stage import Stage
from ermoe_ba.training.trackers import Tracking


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
    invariance : float
        Weight, against the error of a scan's age, of how far its changed copies move it, in that
        regression; 0 leaves them out.
    readout_decay : float
        Weight decay of the position read-outs: they have a weight a token, more than there are
        scans, and need a prior.
    weight_decay : float
        Of embedding, place codes, attention and offsets. Bases and singular values have none.
    spread_floor : float
        Share of each family's range that is added in quadrature to its standard deviations, so that
        places where a tissue hardly varies are not blown up.
    optimiser : OptimiserConfig
        Steps of the optimiser. The mixture reads from described tokens in single precision
        whatever its `bf16` says, as it does when it predicts.
    validation_share : float
        Share of the participants that nothing is learnt from; the error on their unchanged scans is
        looked at after each epoch.
    readout_length : float
        How far in tokens the position read-outs of that regression are alike beforehand, as
        `ermoe_ba.training.readout_start.place_prior` says; 0 leaves each place to itself.
    readout_shrinkage : float
        How much of how content varies that regression leaves aside, above 0 to 1, as
        `ermoe_ba.training.readout_start.direction_spread` says; 1 takes all directions for alike.
    mixup : float
        Scans of a batch and their ages are mixed in pairs, as `ScanBatches` says; 0 mixes nothing.
    label_width : float
        Beside the absolute error, steps lessen how unlike distributions of this width in years
        around predicted and true ages are (`label_distribution_loss`); 0 leaves that out.
    changes : ChangeConfig
        How the copies are changed.

    Raises
    ------
    ValueError
        If `validation_share`, `readout_length`, `readout_shrinkage`, `mixup` or `label_width` is
        out of range.
    """

    num_variants: int
    num_epochs: int
    batch_size: int
    ridge_strength: float
    invariance: float
    readout_decay: float
    weight_decay: float
    spread_floor: float
    optimiser: OptimiserConfig
    validation_share: float = 0.0
    readout_length: float = 0.0
    readout_shrinkage: float = 1.0
    mixup: float = 0.0
    label_width: float = 0.0
    changes: ChangeConfig = USUAL

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise ValueError(
                "validation_share must be 0 or more, and less than 1; found "
                f"{self.validation_share}"
            )
        for setting in ("readout_length", "mixup", "label_width"):
            if getattr(self, setting) < 0:
                raise ValueError(f"{setting} must be 0 or more; found {getattr(self, setting)}")
        if not 0 < self.readout_shrinkage <= 1:
            raise ValueError(
                f"readout_shrinkage must be above 0, and at most 1; found {self.readout_shrinkage}"
            )


def scan_variants(
    view: Callable[[Tensor], Tensor],
    scans: Sequence[PreparedScan],
    num_variants: int,
    seed: int,
    changes: ChangeConfig = USUAL,
) -> Tensor:
    """Return what a network is trained on, of scans and of changed copies of them.

    Parameters
    ----------
    view : callable
        As `changed_copies` takes it.
    scans : sequence of PreparedScan
        N scans.
    num_variants : int
        Changed copies of each; 0 for none.
    seed : int
        Of the changes.
    changes : ChangeConfig
        Which, and how large.

    Returns
    -------
    Tensor, shape (N, 1 + num_variants, ...)
        Half precision; the unchanged scan first.
    """
    whole = (torch.as_tensor(scan.t1w.data, dtype=torch.float32) for scan in scans)
    with torch.no_grad():
        unchanged = torch.stack([view(volume[None]).half() for volume in whole])
    if not num_variants:
        return unchanged
    return torch.cat([unchanged, changed_copies(view, scans, num_variants, seed, changes)], dim=1)


@torch.no_grad()
def changed_copies(
    view: Callable[[Tensor], Tensor],
    scans: Iterable[PreparedScan],
    num_variants: int,
    seed: int,
    changes: ChangeConfig = USUAL,
) -> Tensor:
    """Return what a network sees of changed copies of scans.

    Parameters
    ----------
    view : callable
        From volumes of shape (1, I, J, K) to what the network sees of them, shape (1, ...):
        `ErmoeBrainAge.describe` with a trained stem, or `VolumeNetwork.reduced`.
    scans : iterable of PreparedScan
        N scans.
    num_variants : int
        Changed copies of each, at least one.
    seed : int
        Of the changes.
    changes : ChangeConfig
        Which, and how large.

    Returns
    -------
    Tensor, shape (N, num_variants, ...)
        Half precision.
    """
    change = ScanVariants(seed, changes)
    rows = []
    for scan in scans:
        copies = (change(scan) for _ in range(num_variants))
        rows.append(torch.cat([view(copy[None]).half() for copy in copies]))
    return torch.stack(rows)


def train_age(
    model: AgeNetwork,
    inputs_nv: Tensor,
    ages_n: Array,
    config: AgeConfig,
    seed: int,
    *,
    participants: Sequence[str] | None = None,
    at_epoch: Callable[[int], None] | None = None,
    snapshot: Path | None = None,
    tracking: Tracking | None = None,
    describe: str = "age",
) -> History:
    """Train all of the network but its stem.

    Parameters
    ----------
    model : ErmoeBrainAge or PlainNetwork
        Trained in place; content and contributions are centred on their means over the unchanged
        scans, and a mixture's baseline becomes the mean of what is predicted for these.
    inputs_nv : Tensor, shape (N, 1 + num_variants, ...)
        From `scan_variants`.
    ages_n : ndarray
        Chronological ages in years.
    config : AgeConfig
        Steps.
    seed : int
        Of the order of scans, the choice of variants, token dropout and what is set aside.
    participants : sequence of str, optional
        Whose each scan is, which keeps a participant's scans together where some are set aside, and
        names those of a batch that goes wrong; by default every scan is another's, by its number.
    at_epoch : callable, optional
        Given the number of epochs done, before each epoch; may look at the model, and must leave
        it as it was.
    snapshot : Path, optional
        As `fit` takes it.
    tracking : Tracking, optional
        As `fit` takes it.
    describe : str
        Names the stage on the progress bar.

    Returns
    -------
    History
        Of what each step minimised: mean absolute error in years and auxiliary loss. Measured
        besides: ``mae`` in years, of a mixture ``load_<expert>``, the share of a token's selected
        experts that this one has had (their sum is 1), and where scans are set aside
        ``validation_mae`` in years, once an epoch.

    Raises
    ------
    ErmoeError, UsageError, OSError
        As from `fit`; UsageError also if too few participants are left to learn from.
    """
    torch.manual_seed(seed)
    if participants is None:
        participants = [str(number) for number in range(len(ages_n))]
    ages = torch.as_tensor(ages_n, dtype=torch.float32)
    learnt, aside = set_aside(participants, config.validation_share, seed)
    validation = age_validation(inputs_nv, ages, participants, aside, config.batch_size)
    if len(aside):
        chosen = torch.as_tensor(learnt)
        inputs_nv, ages, ages_n = inputs_nv[chosen], ages[chosen], ages_n[learnt]
        participants = [participants[scan] for scan in learnt]
    if len(ages) < 2:
        raise UsageError(
            f"A stage must learn from two scans or more; found {len(ages)}, of "
            f"{', '.join(participants)}. Give more scans, or state fewer folds."
        )
    unchanged = inputs_nv[:, 0].float()
    centre_on(model, unchanged, ages, config.spread_floor)
    if isinstance(model, ErmoeBrainAge | AdditiveReadout):
        start_readouts(
            model,
            inputs_nv,
            ages_n,
            config.ridge_strength,
            config.invariance,
            length=config.readout_length,
            shrinkage=config.readout_shrinkage,
        )
    batches = ScanBatches(
        inputs_nv,
        ages,
        participants,
        num_epochs=config.num_epochs,
        batch_size=config.batch_size,
        seed=seed,
        mixup=config.mixup,
    )
    learner = AgeLearner(model, config.label_width)
    stage = Stage(
        parameter_groups=parameter_groups(model, config.weight_decay, config.readout_decay),
        batches=batches,
        steps_per_epoch=batches.steps_per_epoch,
        loss=learner.loss,
        after_step=learner.after_step,
        describe=describe,
        at_epoch=at_epoch,
        validation=validation,
    )
    history = fit(model, stage, config.optimiser, snapshot=snapshot, tracking=tracking)
    if isinstance(model, ErmoeBrainAge):
        model.refer_to(unchanged)
    return history
