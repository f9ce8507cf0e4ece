"""What a network learns before it learns ages, and what is kept of it.

Shapes: N scans, V variants of each, T tokens, F families of description, C tissue classes,
L regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array
from ermoe_ba.training.age import AgeConfig, train_age
from ermoe_ba.training.content_centre import centre_content
from ermoe_ba.training.history import History
from ermoe_ba.training.loop import fit
from ermoe_ba.training.parameter_groups import parameter_groups
from ermoe_ba.training.pretext import MaskedTokens, Pretext, RegionalVolumes
from ermoe_ba.training.pretrain_config import (
    MaskedStage,
    PhantomStage,
    PretrainStage,
    VolumesStage,
)
from ermoe_ba.training.scan_batches import ScanBatches
from ermoe_ba.training.stage import Stage
from ermoe_ba.training.trackers import Tracking


@dataclass(frozen=True, kw_only=True)
class SimulatedScans:
    """Scans of simulated people, whose ages are known and belong to nobody.

    Parameters
    ----------
    described_nv : Tensor, shape (N, V, T, F, C)
        As `scan_variants` gives them.
    ages_n : ndarray
        Years.
    participants : sequence of str
        Whose each scan is.
    """

    described_nv: Tensor
    ages_n: Array
    participants: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What there is to learn from before ages; there is no age of the study's people in it.

    Parameters
    ----------
    described_nv : Tensor, shape (N, V, T, F, C)
        The training scans of a part, as `scan_variants` gives them.
    participants : sequence of str
        Whose each scan is.
    volumes_nl : Tensor, optional
        Their regions' volumes, from `region_targets`; for the stage ``volumes``.
    simulated : SimulatedScans, optional
        For the stage ``phantom``.
    """

    described_nv: Tensor
    participants: Sequence[str]
    volumes_nl: Tensor | None = None
    simulated: SimulatedScans | None = None


def pretrain(
    network: ErmoeBrainAge,
    name: str,
    config: PretrainStage,
    age: AgeConfig,
    lessons: Lessons,
    *,
    seed: int,
    snapshot: Path | None = None,
    tracking: Tracking | None = None,
) -> History:
    """Take a network through one stage before the age.

    Parameters
    ----------
    network : ErmoeBrainAge
        Trained in place: embedding, place codes, attention, experts and their choice. Its read-outs
        of age stay at zero, where `start_readouts` expects them; the stem stays as it is. Left in
        training mode, as a fresh network is.
    name : str
        Of the stage.
    config : PretrainStage
        Its steps; its kind says what is learnt.
    age : AgeConfig
        Weight decay, spread floor and, for simulated people, all that is not said of the steps.
    lessons : Lessons
        What it needs.
    seed : int
        Of the order of scans, the choice of variants, and all else that is drawn.
    snapshot : Path, optional
        As `fit` takes it.
    tracking : Tracking, optional
        As `fit` takes it.

    Returns
    -------
    History
        Of what each step minimised; besides, for simulated people, what `train_age` measures, else
        ``error``, the mean absolute error in standard deviations.

    Raises
    ------
    ErmoeError, UsageError, OSError
        As from `fit`.
    """
    if isinstance(config, PhantomStage):
        assert lessons.simulated is not None
        history = train_age(
            network,
            lessons.simulated.described_nv,
            lessons.simulated.ages_n,
            _steps(age, config),
            seed,
            participants=lessons.simulated.participants,
            snapshot=snapshot,
            tracking=tracking,
            describe=name,
        )
        _forget_ages(network)
    else:
        history = _fit_task(
            network,
            name,
            config,
            age,
            lessons,
            seed=seed,
            snapshot=snapshot,
            tracking=tracking,
        )
    # As a fresh network is: one that is read from a file must go on alike.
    network.train()
    return history


def _fit_task(
    network: ErmoeBrainAge,
    name: str,
    config: PretrainStage,
    age: AgeConfig,
    lessons: Lessons,
    *,
    seed: int,
    snapshot: Path | None,
    tracking: Tracking | None,
) -> History:
    """Take a network through a stage that reads no age."""
    # Drawn before the head, whose weights are drawn as well.
    torch.manual_seed(seed)
    centre_content(network, lessons.described_nv[:, 0].float(), age.spread_floor)
    task, targets = _task(network, config, lessons)
    batches = ScanBatches(
        lessons.described_nv,
        targets,
        lessons.participants,
        num_epochs=config.num_epochs,
        batch_size=config.batch_size,
        seed=seed,
    )
    groups = parameter_groups(network, age.weight_decay, readout_decay=None)
    stage = Stage(
        parameter_groups=[*groups, {"params": task.head, "weight_decay": age.weight_decay}],
        batches=batches,
        steps_per_epoch=batches.steps_per_epoch,
        loss=task.loss,
        after_step=task.after_step,
        describe=name,
    )
    return fit(task, stage, config.optimiser, snapshot=snapshot, tracking=tracking)


def _task(
    network: ErmoeBrainAge, config: PretrainStage, lessons: Lessons
) -> tuple[Pretext, Tensor]:
    """Return a network with its head, and what is to be learnt of each scan."""
    if isinstance(config, MaskedStage):
        # What is hidden is the target: none is needed besides.
        return MaskedTokens(network, config.share), torch.zeros(len(lessons.described_nv))
    assert isinstance(config, VolumesStage)
    assert lessons.volumes_nl is not None
    return RegionalVolumes(network, lessons.volumes_nl.shape[1]), lessons.volumes_nl


def _steps(age: AgeConfig, config: PretrainStage) -> AgeConfig:
    """Return how ages of simulated people are learnt; nobody is set aside."""
    return replace(
        age,
        num_epochs=config.num_epochs,
        batch_size=config.batch_size,
        optimiser=config.optimiser,
        validation_share=0.0,
    )


@torch.no_grad()
def _forget_ages(network: ErmoeBrainAge) -> None:
    """Bring what only says how old simulated people are back to where a network starts."""
    experts = network.experts
    for value in (experts.expert_readout_ed, experts.position_readout_td, network.reference_te):
        value.zero_()
