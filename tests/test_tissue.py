"""The stem's stage: tissues of labels, windows that prediction sees as well, and what is learnt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from quick_settings import OPTIMISER, TISSUE
from tiny_study import make_scan
from torch import Tensor, nn

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.config import TISSUES
from ermoe_ba.model.stem import VoxelStem, grid_coordinates, local_mean
from ermoe_ba.training.augment import jitter_mask
from ermoe_ba.training.history import History
from ermoe_ba.training.stage import Stage
from ermoe_ba.training.tissue import tissue_classes, train_stem

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["make_scan"]


def test_labels_become_the_tissues_of_the_table() -> None:
    """7 and 99 are not in the table, the second beyond its end: outside."""
    labels = np.array([[0, 4, 7], [59, 99, 4]])
    classes = tissue_classes(labels, {4: "ventricles", 59: "cortex"})
    cortex, ventricles = TISSUES.index("cortex"), TISSUES.index("ventricles")
    assert classes.tolist() == [[0, ventricles, 0], [cortex, 0, ventricles]]
    assert TISSUES[0] == "outside"


def test_labels_all_below_the_tables_end_are_looked_up() -> None:
    assert tissue_classes(np.zeros((2, 2), dtype=int), {59: "cortex"}).tolist() == [[0, 0], [0, 0]]


def test_training_windows_are_those_that_prediction_sees(
    make_scan: Callable[[str, float], PreparedScan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drawn voxel, found again by its coordinates: same logits, and the class of its label."""
    monkeypatch.setattr("ermoe_ba.training.tissue.jitter_mask", lambda t1w, *_: t1w)
    batches: list[tuple[Tensor, ...]] = []

    def record(_: nn.Module, stage: Stage, *__: Any, **___: Any) -> History:
        batches.extend(stage.batches[step].tensors for step in range(len(stage.batches)))
        return History()

    monkeypatch.setattr("ermoe_ba.training.tissue.fit", record)
    scan, tissues = make_scan("01", 0.6), {4: "ventricles", 59: "cortex"}
    stem = VoxelStem(4)
    train_stem(stem, [scan], tissues, replace(TISSUE, gain_sd=0.0, noise_sd=0.0), seed=0)
    assert len(batches) == TISSUE.num_steps
    near, far, coordinates, classes = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(classes) == TISSUE.num_steps * TISSUE.scans_per_step * TISSUE.voxels_per_scan
    size = torch.tensor(scan.t1w.grid.shape)
    voxels = tuple(((coordinates + 1) / 2 * (size - 1)).round().long().T)
    with torch.no_grad():
        whole = torch.as_tensor(scan.t1w.data)[None]
        coordinates_xijk = grid_coordinates(scan.t1w.grid.shape)
        logits = stem(*stem.pictures(whole), coordinates_xijk[None])[0]
        torch.testing.assert_close(
            stem.of_samples(near, far, coordinates),
            logits[:, *voxels].T,
            atol=1e-5,
            rtol=1e-4,
        )
    assert scan.labels is not None
    expected = tissue_classes(scan.labels.data, tissues)[tuple(v.numpy() for v in voxels)]
    assert classes.tolist() == expected.tolist()
    # A fifth of the voxels lies outside.
    outside = scan.brain_mask.data[tuple(v.numpy() for v in voxels)] == 0
    assert outside.mean() == pytest.approx(TISSUE.outside_share)


def test_the_stem_sees_what_drawing_window_after_window_gives(
    make_scan: Callable[[str, float], PreparedScan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bit: scans cut by their masks first; then of each scan voxels, gain, noise, noise."""
    batches: list[tuple[Tensor, ...]] = []

    def record(_: nn.Module, stage: Stage, *__: Any, **___: Any) -> History:
        batches.extend(stage.batches[step].tensors for step in range(len(stage.batches)))
        return History()

    monkeypatch.setattr("ermoe_ba.training.tissue.fit", record)
    scans = [make_scan(str(n), 0.3 + n / 10) for n in range(3)]
    # As files are read: the first axis fastest.
    scans[1] = replace(scans[1], t1w=scans[1].t1w.same_grid(np.asfortranarray(scans[1].t1w.data)))
    tissues = {4: "ventricles", 59: "cortex"}
    train_stem(VoxelStem(4), scans, tissues, TISSUE, seed=7)
    random = np.random.default_rng(7)
    pictures = []
    for scan in scans:
        t1w = jitter_mask(scan.t1w.data, scan.brain_mask.data > 0, random)
        mean = local_mean(torch.as_tensor(t1w)[None, None], 3)[0, 0].numpy()
        pictures.append((np.pad(t1w, 2), np.pad(mean, 4)))
    shape = scans[0].t1w.grid.shape
    coordinates_v = grid_coordinates(shape).flatten(1).T
    for found in batches:
        near, far, coordinates, classes = [], [], [], []
        for number in random.integers(3, size=TISSUE.scans_per_step):
            labels = scans[number].labels
            assert labels is not None
            inside = (scans[number].brain_mask.data > 0) | (labels.data > 0)
            # A fifth of the twenty lies outside.
            voxels = [
                *random.choice(np.flatnonzero(inside), 16),
                *random.choice(np.flatnonzero(~inside), 4),
            ]
            gain = random.normal(1.0, TISSUE.gain_sd)
            for picture, step, windows, noise_sd in (
                (pictures[number][0], 1, near, TISSUE.noise_sd),
                (pictures[number][1], 2, far, TISSUE.noise_sd / 27**0.5),
            ):
                level = noise_sd * random.random()
                noise = level * random.standard_normal((20, 125), np.float32)
                for voxel, white in zip(voxels, noise, strict=True):
                    corner = np.unravel_index(voxel, shape)
                    window = picture[tuple(slice(c, c + 4 * step + 1, step) for c in corner)]
                    windows.append(gain * window.ravel() + white)
            coordinates += [coordinates_v[voxel].tolist() for voxel in voxels]
            classes += tissue_classes(labels.data, tissues).ravel()[voxels].tolist()
        assert [len(tensor) for tensor in found] == [len(near)] * 4
        np.testing.assert_array_equal(found[0], np.array(near))
        np.testing.assert_array_equal(found[1], np.array(far))
        assert found[2].tolist() == coordinates
        assert found[3].tolist() == classes


def test_the_stem_learns_the_labels(
    make_scan: Callable[[str, float], PreparedScan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ventricles are dark and cortex bright: 150 steps are enough to tell, in a new scan too."""
    # On so small a brain, eroding it takes most of it away.
    monkeypatch.setattr("ermoe_ba.training.tissue.jitter_mask", lambda t1w, *_: t1w)
    torch.manual_seed(0)
    stem = VoxelStem(8)
    scans = [make_scan(str(n), n / 5) for n in range(5)]
    config = replace(
        TISSUE,
        num_steps=150,
        voxels_per_scan=100,
        optimiser=replace(OPTIMISER, learning_rate=0.02),
    )
    history = train_stem(stem, scans, {4: "ventricles", 59: "cortex"}, config, seed=0)
    losses = history.table()["loss"].to_numpy()
    assert losses[-1] < 0.2 * losses[0]
    new = make_scan("new", 0.7)
    with torch.no_grad():
        whole = torch.as_tensor(new.t1w.data)[None]
        coordinates_xijk = grid_coordinates(new.t1w.grid.shape)
        logits = stem(*stem.pictures(whole), coordinates_xijk[None])[0]
    found = logits.argmax(dim=0).numpy()
    assert new.labels is not None
    expected = tissue_classes(new.labels.data, {4: "ventricles", 59: "cortex"})
    for tissue in np.unique(expected):
        overlap = ((found == tissue) & (expected == tissue)).sum()
        dice = 2 * overlap / ((found == tissue).sum() + (expected == tissue).sum())
        assert dice > 0.8, TISSUES[tissue]
