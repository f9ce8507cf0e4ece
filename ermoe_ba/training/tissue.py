"""First stage: the stem learns tissue from label maps; no age enters.

Shapes: N voxels, S samples in a window.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.config import TISSUES
from ermoe_ba.model.stem import VoxelStem, grid_coordinates, local_mean
from ermoe_ba.space import Array
from ermoe_ba.training.augment import jitter_mask
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.drawn_ahead import DrawnAhead
from ermoe_ba.training.history import History
from ermoe_ba.training.loop import OptimiserConfig, fit
from ermoe_ba.training.stage import Loss, Stage
from ermoe_ba.training.trackers import Tracking

# There is no pass over all voxels: after so many steps the mean loss is shown.
STEPS_PER_EPOCH = 100


@dataclass(frozen=True, kw_only=True)
class TissueConfig:
    """How the stem is trained.

    Parameters
    ----------
    num_steps : int
        Steps of the optimiser.
    scans_per_step, voxels_per_scan : int
        A step sees that many voxels from each of that many scans.
    outside_share : float
        Share of the voxels drawn outside the brain, where there is little to learn.
    gain_sd, noise_sd : float
        Spread of a scan's overall gain, and of white noise, both relative to white matter.
    optimiser : OptimiserConfig
        Steps of the optimiser.
    """

    num_steps: int
    scans_per_step: int
    voxels_per_scan: int
    outside_share: float
    gain_sd: float
    noise_sd: float
    optimiser: OptimiserConfig


def tissue_classes(labels: Array, tissue_of_label: dict[int, str]) -> Array:
    """Return the tissue class of each voxel of a label map.

    Parameters
    ----------
    labels : ndarray of int
        Labels; 0 is outside.
    tissue_of_label : dict
        Name from `TISSUES` for each label.

    Returns
    -------
    ndarray of int64
        Index into `TISSUES`; labels that are not in the table count as outside.
    """
    table = np.zeros(max(int(labels.max()), *tissue_of_label) + 1, dtype=np.int64)
    for label, tissue in tissue_of_label.items():
        table[label] = TISSUES.index(tissue)
    return np.asarray(table[labels])


def train_stem(
    stem: VoxelStem,
    scans: list[PreparedScan],
    tissue_of_label: dict[int, str],
    config: TissueConfig,
    seed: int,
    *,
    snapshot: Path | None = None,
    tracking: Tracking | None = None,
) -> History:
    """Train the stem on scans with label maps.

    Parameters
    ----------
    stem : VoxelStem
        Trained in place.
    scans : list of PreparedScan
        Each with labels.
    tissue_of_label : dict
        Name from `TISSUES` for each label.
    config : TissueConfig
        Steps.
    seed : int
        Of the voxels drawn and their changes.
    snapshot : Path, optional
        As `fit` takes it.
    tracking : Tracking, optional
        As `fit` takes it.

    Returns
    -------
    History
        Of the cross-entropy; ``accuracy``, the share of voxels told right, besides.

    Raises
    ------
    ErmoeError, UsageError, OSError
        As from `fit`.
    """
    voxels = _Voxels(scans, tissue_of_label, config, seed)

    def loss(tensors: tuple[Tensor, ...]) -> Loss:
        near, far, coordinates, classes = tensors
        logits = stem.of_samples(near, far, coordinates)
        right = logits.detach().argmax(dim=1) == classes
        return Loss(functional.cross_entropy(logits, classes), {"right": right})

    stage = Stage(
        parameter_groups=[{"params": list(stem.parameters()), "weight_decay": 0.0}],
        batches=voxels,
        steps_per_epoch=STEPS_PER_EPOCH,
        loss=loss,
        after_step=lambda measured: {"accuracy": float(measured["right"].float().mean())},
        describe="tissue",
        draws=voxels.ahead,
    )
    return fit(stem, stage, config.optimiser, snapshot=snapshot, tracking=tracking)


@dataclass(frozen=True)
class _PaddedScan:
    """A scan's two pictures, padded so that every window fits, and its classes."""

    participant_id: str
    near: Array
    far: Array
    classes: Array
    inside: Array
    outside: Array


@dataclass(frozen=True)
class _Draws:
    """What chance says of a step, of its scans and of all their voxels in one row.

    Parameters
    ----------
    scans : ndarray of int
        Numbers of the scans.
    voxels : list of ndarray of int
        Flat indices on the model grid, of each scan.
    gains : list of float
        Of each scan.
    near_ns, far_ns : ndarray of float32, shape (N, S)
        Noise of the windows; the batch's intensities are added where it lies.
    """

    scans: Array
    voxels: list[Array]
    gains: list[float]
    near_ns: Array
    far_ns: Array


class _Voxels:
    """Random voxels of random scans with both their windows."""

    def __init__(
        self,
        scans: list[PreparedScan],
        tissue_of_label: dict[int, str],
        config: TissueConfig,
        seed: int,
    ) -> None:
        self.config = config
        self.random = np.random.default_rng(seed)
        self.coordinates = grid_coordinates(scans[0].t1w.grid.shape).flatten(1).T.numpy()
        self.shape = scans[0].t1w.grid.shape
        self.near_offsets = self._offsets(1)
        self.far_offsets = self._offsets(VoxelStem.FAR_STEP)
        self.scans = [self._pad(scan, tissue_of_label) for scan in scans if scan.labels is not None]
        # Filled anew for each scan of each step: fresh memory would have to be paged in each time.
        window = (config.voxels_per_scan, VoxelStem.WINDOW**3)
        self._places, self._values = np.empty(window, np.intp), np.empty(window, np.float32)
        # White noise takes longer to draw than the network takes for a step.
        draw = partial(_draw, self.scans, config, self.random)
        self.ahead = DrawnAhead(draw, self.random, len(self))

    def __len__(self) -> int:
        return self.config.num_steps

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step; drawn from the generator, so steps go in order."""
        draws = self.ahead.take(step)
        count = self.config.voxels_per_scan
        scans = [self.scans[number] for number in draws.scans]
        parts = zip(scans, draws.voxels, draws.gains, strict=True)
        for number, (scan, voxels, gain) in enumerate(parts):
            ijk = tuple(np.unravel_index(voxels, self.shape))
            for windows_ns, picture, offsets in (
                (draws.near_ns, scan.near, self.near_offsets),
                (draws.far_ns, scan.far, self.far_offsets),
            ):
                first = np.ravel_multi_index(ijk, picture.shape)
                np.add(first[:, None], offsets, out=self._places)
                # All lie inside; "wrap" spares numpy the look, and the copy that it makes for it.
                np.take(picture.ravel(), self._places, out=self._values, mode="wrap")
                self._values *= gain
                windows_ns[number * count : (number + 1) * count] += self._values
        classes = [scan.classes[v] for scan, v in zip(scans, draws.voxels, strict=True)]
        return Batch(
            (
                torch.from_numpy(draws.near_ns),
                torch.from_numpy(draws.far_ns),
                torch.from_numpy(self.coordinates[np.concatenate(draws.voxels)]),
                torch.as_tensor(np.concatenate(classes), dtype=torch.int64),
            ),
            tuple(scan.participant_id for scan in scans),
        )

    def _reach(self, step: int) -> int:
        return step * (VoxelStem.WINDOW // 2)

    def _offsets(self, step: int) -> Array:
        """Return the flat index of each window sample relative to the window's first corner."""
        shape = [n + 2 * self._reach(step) for n in self.shape]
        corner = np.indices((VoxelStem.WINDOW,) * 3).reshape(3, -1) * step
        return np.asarray(np.ravel_multi_index(tuple(corner), shape))

    def _pad(self, scan: PreparedScan, tissue_of_label: dict[int, str]) -> _PaddedScan:
        assert scan.labels is not None
        classes = tissue_classes(scan.labels.data, tissue_of_label).ravel()
        t1w = jitter_mask(scan.t1w.data, scan.brain_mask.data > 0, self.random)
        mean = local_mean(torch.as_tensor(t1w)[None, None], VoxelStem.FAR_MEAN)[0, 0].numpy()
        brain = scan.brain_mask.data.ravel() > 0
        # Files come with their first axis fastest: flattened here once, and not at every step.
        return _PaddedScan(
            participant_id=scan.participant_id,
            near=np.ascontiguousarray(np.pad(t1w, self._reach(1)), np.float32),
            far=np.ascontiguousarray(np.pad(mean, self._reach(VoxelStem.FAR_STEP)), np.float32),
            classes=classes.astype(np.uint8),
            inside=np.flatnonzero(brain | (classes > 0)),
            outside=np.flatnonzero(~brain & (classes == 0)),
        )


def _draw(scans: list[_PaddedScan], config: TissueConfig, random: np.random.Generator) -> _Draws:
    """Draw what a step needs; the order of the calls decides about every number that follows."""
    chosen = random.integers(len(scans), size=config.scans_per_step)
    shape = (len(chosen) * config.voxels_per_scan, VoxelStem.WINDOW**3)
    near_ns, far_ns = np.empty(shape, np.float32), np.empty(shape, np.float32)
    beyond = int(config.voxels_per_scan * config.outside_share)
    voxels, gains = [], []
    for number, scan in enumerate(scans[n] for n in chosen):
        inside = random.choice(scan.inside, config.voxels_per_scan - beyond)
        voxels.append(np.concatenate([inside, random.choice(scan.outside, beyond)]))
        gains.append(random.normal(1.0, config.gain_sd))
        first = number * config.voxels_per_scan
        # Averaging 27 voxels leaves a fifth of white noise.
        for windows_ns, noise_sd in (
            (near_ns, config.noise_sd),
            (far_ns, config.noise_sd / 27**0.5),
        ):
            level = noise_sd * random.random()
            noise = windows_ns[first : first + config.voxels_per_scan]
            random.standard_normal(dtype=np.float32, out=noise)
            noise *= level
    return _Draws(chosen, voxels, gains, near_ns, far_ns)
