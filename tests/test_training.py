"""Training: the loop, the augmentation, planted effects, and folds that do not leak."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ermoe_ba.atlas import Atlas
from ermoe_ba.checkpoint import load_ensemble, save_member, save_tensors
from ermoe_ba.cli.main import main
from ermoe_ba.config import changed
from ermoe_ba.dataset import PreparedCohort, PreparedScan
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.inspection import UNUSABLE_COLUMNS
from ermoe_ba.io import write_volume
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput, Routing
from ermoe_ba.model.stem import VoxelStem, grid_coordinates, local_mean
from ermoe_ba.model_card import read_card
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState
from ermoe_ba.space import MODEL_GRID, Array, SpatialGrid, Volume
from ermoe_ba.study import Study, StudyScan
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig, scan_variants, train_age
from ermoe_ba.training.augment import ScanVariants, jitter_mask
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.choose import Choice
from ermoe_ba.training.content_centre import content_spread
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.final_model import FinalModel
from ermoe_ba.training.history import History
from ermoe_ba.training.loop import OptimiserConfig, fit
from ermoe_ba.training.pretrain import pretrain
from ermoe_ba.training.pretrain_config import (
    NO_STAGES,
    MaskedStage,
    PhantomStage,
    PretrainConfig,
    VolumesStage,
)
from ermoe_ba.training.probe import probe_routing
from ermoe_ba.training.progress import Progress
from ermoe_ba.training.readout_start import place_prior, start_readouts
from ermoe_ba.training.recipe import ChooseConfig, Recipe, RunConfig, read_recipe
from ermoe_ba.training.run_folder import RunFolder
from ermoe_ba.training.run_part import fold_part, whole_parts
from ermoe_ba.training.stage import Loss, Stage
from ermoe_ba.training.study_hash import data_hash
from ermoe_ba.training.tissue import TissueConfig, tissue_classes, train_stem

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OPTIMISER = OptimiserConfig(
    learning_rate=0.01, warmup_share=0.2, max_gradient_norm=1.0, ema_decay=0.5
)
AGE = AgeConfig(
    num_variants=1,
    num_epochs=40,
    batch_size=10,
    ridge_strength=0.1,
    invariance=0.1,
    readout_decay=0.1,
    weight_decay=0.01,
    spread_floor=0.05,
    optimiser=OPTIMISER,
)
TISSUE = TissueConfig(
    num_steps=4,
    scans_per_step=2,
    voxels_per_scan=20,
    outside_share=0.2,
    gain_sd=0.05,
    noise_sd=0.02,
    optimiser=OPTIMISER,
)


class _Parabola(nn.Module):
    """Two weights whose loss is their squared distance from (3, -2)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))
        self.seen: list[Tensor] = []

    def loss(self, _: tuple[Tensor, ...]) -> Loss:
        self.seen.append(self.w.detach().clone())
        return Loss((self.w - torch.tensor([3.0, -2.0])).square().sum())

    def stage(
        self, num_steps: int, loss: Callable[[tuple[Tensor, ...]], Loss] | None = None
    ) -> Stage:
        steps = torch.arange(num_steps)
        return Stage(
            parameter_groups=[{"params": [self.w], "weight_decay": 0.0}],
            batches=[Batch((steps[step : step + 1],), (f"p{step}",)) for step in range(num_steps)],
            steps_per_epoch=4,
            loss=loss or self.loss,
            describe="parabola",
        )


def test_fitting_reaches_the_foot_of_a_parabola() -> None:
    model = _Parabola()
    losses = fit(model, model.stage(150), replace(OPTIMISER, learning_rate=0.2)).losses
    assert losses[0] == pytest.approx(13.0)
    assert losses[-1] < 1e-3
    torch.testing.assert_close(model.w.detach(), torch.tensor([3.0, -2.0]), atol=0.05, rtol=0)
    assert not model.training


def test_the_weights_kept_are_the_exponential_average() -> None:
    """From the weights w_1 to w_6 after each step: m_1 = w_1, m_k = .9 m_(k-1) + .1 w_k."""
    last, averaged = _Parabola(), _Parabola()
    fit(last, last.stage(6), replace(OPTIMISER, ema_decay=0.0))
    fit(averaged, averaged.stage(6), replace(OPTIMISER, ema_decay=0.9))
    after_each_step = [*last.seen[1:], last.w.detach()]
    mean = after_each_step[0]
    for w in after_each_step[1:]:
        mean = 0.9 * mean + 0.1 * w
    torch.testing.assert_close(averaged.w.detach(), mean)
    assert (averaged.w - last.w).abs().min() > 1e-3
    # The average looks on: it does not change the course.
    assert torch.equal(averaged.seen[-1], last.seen[-1])


def test_a_loss_that_is_no_number_stops_the_stage_by_name() -> None:
    """Its fourth step is the one of participant p3."""
    model = _Parabola()

    def loss(tensors: tuple[Tensor, ...]) -> Loss:
        return Loss(model.loss(tensors).mean * (float("nan") if tensors[0] == 3 else 1.0))

    says = r"parabola: the loss became nan at step 4\. Its scans are of p3\."
    with pytest.raises(ErmoeError, match=says):
        fit(model, model.stage(6, loss), OPTIMISER)
    assert torch.isfinite(model.w).all()


def test_labels_become_the_tissues_of_the_table() -> None:
    """7 and 99 are not in the table, the second beyond its end: outside."""
    labels = np.array([[0, 4, 7], [59, 99, 4]])
    classes = tissue_classes(labels, {4: "ventricles", 59: "cortex"})
    cortex, ventricles = TISSUES.index("cortex"), TISSUES.index("ventricles")
    assert classes.tolist() == [[0, ventricles, 0], [cortex, 0, ventricles]]
    assert TISSUES[0] == "outside"


def test_labels_all_below_the_tables_end_are_looked_up() -> None:
    assert tissue_classes(np.zeros((2, 2), dtype=int), {59: "cortex"}).tolist() == [[0, 0], [0, 0]]


def test_a_jittered_mask_only_ever_takes_away(small_brain: Volume) -> None:
    """Every voxel keeps its intensity or loses it, and never from deep inside the brain."""
    random = np.random.default_rng(0)
    brain = small_brain.data > 0
    t1w = random.uniform(0.5, 1.3, brain.shape).astype(np.float32)
    t1w[0, 0, 0] = 0.0
    kinds = set()
    for _ in range(60):
        cut = jitter_mask(t1w, brain, random)
        assert ((cut == t1w) | (cut == 0)).all()
        assert (cut[5:8, 7:10, 4:7] == t1w[5:8, 7:10, 4:7]).all()
        kept = (cut > 0).sum()
        kinds.add(int(kept))
        if kept < (t1w > 0).sum():
            assert (cut[~brain] == 0).all()
    # As it is, without the rim, eroded all over, and eroded in patches of more than one pattern.
    assert len(kinds) >= 4
    assert {int((t1w > 0).sum()), int(brain.sum())} <= kinds


@pytest.fixture
def make_scan(small_brain: Volume) -> Callable[[str, float], PreparedScan]:
    """A scan whose second label, the ventricles, is as large and dark as a number says."""

    def make(participant_id: str, size: float) -> PreparedScan:
        random = np.random.default_rng(int(1000 * size))
        brain = small_brain.data > 0
        centre = (np.reshape(brain.shape, (3, 1, 1, 1)) - 1) / 2
        distance = np.sqrt(((np.indices(brain.shape) - centre) ** 2).sum(axis=0))
        labels = np.where(brain, np.where(distance < 1 + 3 * size, 4, 59), 0).astype(np.int16)
        t1w = np.where(labels == 59, 0.9, np.where(labels == 4, 0.3, 0.0))
        t1w = np.where(brain, t1w + random.normal(0, 0.02, brain.shape), 0.0)
        return PreparedScan(
            participant_id=participant_id,
            t1w=small_brain.same_grid(t1w.astype(np.float32)),
            brain_mask=small_brain,
            labels=small_brain.same_grid(labels),
        )

    return make


def test_variants_are_other_pictures_of_the_same_size(
    make_scan: Callable[[str, float], PreparedScan],
) -> None:
    scan = make_scan("01", 0.5)
    before = scan.t1w.data.copy()
    first, again = ScanVariants(3), ScanVariants(3)
    pictures = [first(scan) for _ in range(3)]
    for picture in pictures:
        assert picture.shape == before.shape
        assert torch.isfinite(picture).all()
        assert torch.equal(picture, again(scan))
    assert not torch.equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(scan.t1w.data, before)


def test_the_first_variant_is_the_scan_itself(
    make_scan: Callable[[str, float], PreparedScan], make_member: Callable[..., ErmoeBrainAge]
) -> None:
    member, scans = make_member(), [make_scan("01", 0.3), make_scan("02", 0.8)]
    described = scan_variants(member.describe, scans, 2, seed=0)
    assert described.shape[:2] == (2, 3)
    for scan, variants in zip(scans, described, strict=True):
        whole = member.describe(torch.as_tensor(scan.t1w.data)[None])[0]
        torch.testing.assert_close(variants[0].float(), whole, atol=1e-3, rtol=0)
        assert (variants[1] != variants[0]).any()
        assert (variants[2] != variants[1]).any()


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
    losses = train_stem(stem, scans, {4: "ventricles", 59: "cortex"}, config, seed=0).losses
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


@dataclass(frozen=True)
class _Planted:
    """Descriptions of scans whose age is in the ventricles of one token and nowhere else."""

    described: Tensor
    ages: Array
    token: int


def _planted(tokens: TokenGrid, num_scans: int, seed: int) -> _Planted:
    random = np.random.default_rng(seed)
    token = len(tokens) // 2
    shape = (num_scans, 1, len(tokens), len(FAMILIES), len(TISSUES))
    # Far below the floor of the spread: what varies by chance must not drown what is planted.
    described = random.uniform(0.099, 0.101, shape)
    ages = random.uniform(20, 80, num_scans)
    share = 0.1 + 0.6 * (ages - 20) / 60
    # A change of tissue shows in every family.
    described[:, 0, token, :, TISSUES.index("ventricles")] = share[:, None]
    described[:, :, :, 0] /= described[:, :, :, 0].sum(axis=-1, keepdims=True)
    described *= np.array(list(FAMILIES.values()))[:, None]
    return _Planted(torch.as_tensor(described, dtype=torch.float32).half(), ages, token)


def _trained(config: ModelConfig, tokens: TokenGrid, planted: _Planted) -> ErmoeBrainAge:
    torch.manual_seed(7)
    member = ErmoeBrainAge(config, tokens)
    train_age(member, planted.described, planted.ages, AGE, seed=7)
    return member


@torch.no_grad()
def test_a_planted_effect_is_learnt_and_found_at_its_token(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    with torch.enable_grad():
        member = _trained(small_config, small_tokens, _planted(small_tokens, 60, seed=0))
    new = _planted(small_tokens, 40, seed=1)
    output = member.read_age(new.described[:, 0].float())
    error = np.abs(output.age_b.numpy() - new.ages).mean()
    median_error = np.abs(new.ages - np.median(new.ages)).mean()
    assert error < 0.5 * median_error
    by_token = output.contributions_bte.sum(dim=2).numpy()
    assert by_token.std(axis=0).argmax() == new.token
    assert np.corrcoef(by_token[:, new.token], new.ages)[0, 1] > 0.9
    # Chance for comparison: the other tokens tell next to nothing.
    others = np.delete(by_token.std(axis=0), new.token)
    assert by_token[:, new.token].std() > 3 * others.max()


def test_baseline_content_and_scale_come_from_the_training_scans(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    planted = _planted(small_tokens, 20, seed=0)
    changed = torch.cat([planted.described, planted.described * 0.5], dim=1)
    member = ErmoeBrainAge(small_config, small_tokens)
    train_age(member, changed, planted.ages, replace(AGE, num_epochs=1), seed=0)
    assert float(member.scale) == pytest.approx(planted.ages.std(ddof=1), rel=1e-5)
    unchanged = planted.described[:, 0].float()
    torch.testing.assert_close(member.location_tfc, unchanged.mean(dim=0))
    output = member.read_age(unchanged)
    assert output.contributions_bte.mean(dim=0).abs().max() < 1e-4
    assert float(member.baseline) == pytest.approx(float(output.age_b.mean()), abs=1e-3)


def test_read_outs_start_at_the_ridge_regression(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Against the primal normal equations, with features taken one read-out at a time."""
    planted = _planted(small_tokens, 9, seed=0)
    described = planted.described[:, 0].float()
    torch.manual_seed(1)
    member = ErmoeBrainAge(small_config, small_tokens).eval()
    member.scale.fill_(2.0)
    readout = member.experts.position_readout_td
    columns = []
    with torch.no_grad():
        for place in np.ndindex(*readout.shape):
            readout.zero_()
            readout[place] = 1.0
            columns.append(member.read_age(described).age_b / 2.0)
        start_readouts(member, described[:, None], planted.ages, 0.5, 0.0)
        predicted = member.read_age(described).age_b.numpy()
    features = torch.stack(columns, dim=1).double().numpy()
    features -= features.mean(axis=0)
    target = (planted.ages - planted.ages.mean()) / 2.0
    penalty = 0.5 * np.mean((features**2).sum(axis=1))
    gram = features.T @ features + penalty * np.eye(features.shape[1])
    expected = np.linalg.solve(gram, features.T @ target)
    np.testing.assert_allclose(readout.detach().flatten(), expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(
        predicted, planted.ages.mean() + 2.0 * features @ expected, atol=1e-2
    )


def test_places_near_each_other_are_alike_beforehand(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Against the primal normal equations, with the inverse of the prior for a penalty."""
    planted = _planted(small_tokens, 9, seed=0)
    described = planted.described[:, 0].float()
    torch.manual_seed(1)
    member = ErmoeBrainAge(small_config, small_tokens).eval()
    start_readouts(member, described[:, None], planted.ages, 0.5, 0.0, length=0.8)
    with torch.no_grad():
        phi_ntd = member.readout_inputs(described).double().numpy()
    phi_ntd -= phi_ntd.mean(axis=0)
    apart = np.linalg.norm(small_tokens.positions[:, None] - small_tokens.positions, axis=-1)
    prior = np.eye(len(apart)) / 2 + np.exp(-(apart**2) / (2 * 0.8**2)) / 2
    weight = np.kron(np.linalg.inv(prior), np.eye(phi_ntd.shape[-1]))
    flat = phi_ntd.reshape(len(phi_ntd), -1)
    kernel = flat @ np.linalg.inv(weight) @ flat.T
    gram = flat.T @ flat + 0.5 * kernel.diagonal().mean() * weight
    expected = np.linalg.solve(gram, flat.T @ (planted.ages - planted.ages.mean()))
    found = member.experts.position_readout_td.detach().double().numpy().ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())


def test_prior_of_places_by_hand() -> None:
    """Two places a token and a half apart, with a length of 1.5: exp(-1/2) shared by half."""
    prior = place_prior(torch.tensor([[0.0, 0, 0], [0, 1.5, 0]]), 1.5)
    shared = float(np.exp(-0.5)) / 2
    expected = torch.tensor([[1.0, shared], [shared, 1.0]])
    torch.testing.assert_close(prior, expected)


def test_copies_are_made_as_old_as_their_scans_at_the_weight_given(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """The more invariance counts, the less copies move the age; equal copies count nothing.

    Copies are scans with noise. With equal copies, all differences are 0 and the regression is that
    of the scans alone.
    """
    planted = _planted(small_tokens, 9, seed=0)
    scans = planted.described[:, :1].float()
    noise = torch.randn(scans.shape, generator=torch.Generator().manual_seed(3))
    moved, found = [], []
    for copies, invariance in (
        (scans + 0.05 * noise, 0.0),
        (scans + 0.05 * noise, 1.0),
        (scans + 0.05 * noise, 100.0),
        (scans, 100.0),
    ):
        torch.manual_seed(1)
        member = ErmoeBrainAge(small_config, small_tokens).eval()
        start_readouts(member, torch.cat([scans, copies], dim=1), planted.ages, 0.1, invariance)
        with torch.no_grad():
            ages = [member.read_age(x[:, 0]).age_b for x in (scans, scans + 0.05 * noise)]
        moved.append(float((ages[1] - ages[0]).abs().mean()))
        found.append(member.experts.position_readout_td.detach().clone())
    assert moved[0] > 1.5 * moved[1] > 2.25 * moved[2] > 0
    torch.testing.assert_close(found[0], found[3], rtol=1e-4, atol=1e-6)


def test_content_is_standardised_within_families_and_balanced_between_them() -> None:
    """One token, two classes, two scans: they differ by 2 in one class, by 4 in the other.

    The standard deviation of two values a distance d apart is d / sqrt(2), so without a floor each
    of the eight deviations is 1 / sqrt(2): a family holds 2 x 1/2 = 1, and four of them are to hold
    a width of 64, 16 each. All spreads are therefore standard deviations over sqrt(16).
    """
    described = torch.zeros(2, 1, len(FAMILIES), 2)
    described[0] = 2.0
    described[0, ..., 1] = 4.0
    spread = content_spread(described, 0.0, 64)
    expected = torch.full((1, len(FAMILIES), 2), 2.0 / 2**0.5 / 4)
    expected[..., 1] *= 2
    torch.testing.assert_close(spread, expected)


def test_a_tissue_that_never_varies_has_the_floor_for_a_spread() -> None:
    """The floor is a share of the family's range: 0.1 of 1, and 0.1 of 0.25 for borders."""
    described = torch.zeros(3, 2, len(FAMILIES), 2)
    described[0, :, :, 0] = 1.0
    spread = content_spread(described, 0.1, 64)
    ratios = spread[0, :, 1] / spread[0, :, 0]
    deviation = 1 / 3**0.5
    for ratio, reach in zip(ratios.tolist(), FAMILIES.values(), strict=True):
        floor = 0.1 * reach
        assert ratio == pytest.approx(floor / (deviation**2 + floor**2) ** 0.5, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_to_the_bit(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    planted = _planted(small_tokens, 20, seed=0)
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        member = ErmoeBrainAge(small_config, small_tokens)
        train_age(member, planted.described, planted.ages, replace(AGE, num_epochs=2), seed)
        states.append(member.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    trained = "experts.position_readout_td"
    assert not torch.equal(states[0][trained], states[2][trained])


def test_one_scan_is_too_few_to_learn_from(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """It has no spread to standardise by."""
    planted = _planted(small_tokens, 20, seed=0)
    member = ErmoeBrainAge(small_config, small_tokens)
    with pytest.raises(UsageError, match=r"two scans or more; found 1, of P7\. .*fewer folds"):
        train_age(member, planted.described[:1], planted.ages[:1], AGE, 0, participants=["P7"])


def test_the_age_stage_leaves_the_stem_alone(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    member = ErmoeBrainAge(small_config, small_tokens)
    before = {name: value.clone() for name, value in member.named_parameters()}
    planted = _planted(small_tokens, 20, seed=0)
    train_age(member, planted.described, planted.ages, replace(AGE, num_epochs=2), seed=0)
    for name, value in member.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("stem."), name


@torch.no_grad()
def test_routing_probes_by_hand(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    member = make_member()
    described = _planted(small_tokens, 4, seed=2).described[:, 0].float()
    output = member.read_age(described)
    # The model is right about all but the first, whom it makes four years too old.
    ages = output.age_b - torch.tensor([4.0, 0, 0, 0])
    probe = probe_routing([member], [described], ages, seed=0)
    assert probe["mae"] == pytest.approx(1.0, abs=1e-4)
    zeroed = float((48.5 - ages).abs().mean())
    assert probe["mae_zeroed"] == pytest.approx([zeroed], abs=1e-4)
    shares_be = member.shares(described)[0].sum(dim=1)
    without = []
    for expert in range(5):
        score_b = member.baseline + shares_be.sum(dim=1) - shares_be[:, expert]
        without.append(float((member.curve(score_b) - ages).abs().mean()))
    assert probe["mae_without_expert"] == pytest.approx(without, abs=1e-4)
    weights = output.routing.weights_bte
    swapped = []
    for turn in (1, 2, 3):
        rolled = replace(output.routing, weights_bte=weights.roll(turn, dims=0))
        swapped.append(float((member.read_age(described, rolled).age_b - ages).abs().mean()))
    # Of four scans, each has been routed as each other one after three turns.
    assert probe["mae_other_subject_routing"] == pytest.approx(np.mean(swapped), abs=1e-4)
    assert probe["threshold_fallback_share"] == pytest.approx(
        float(output.routing.fallback_bt.float().mean())
    )
    load = output.routing.selected_bte.float().mean(dim=(0, 1))
    assert probe["dead_experts"] == [float((load == 0).sum())]
    assert probe["max_orthonormality_error"] < 1e-5


def test_members_are_interfered_with_alike_and_averaged_after(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    members = [make_member(), make_member(seed=1)]
    described = _planted(small_tokens, 3, seed=2).described[:, 0].float()
    ages = torch.tensor([30.0, 40.0, 50.0])
    with torch.no_grad():
        outputs = [member.read_age(described) for member in members]
        others = [
            [
                m.read_age(described, replace(o.routing, weights_bte=o.routing.weights_bte[order]))
                for m, o in zip(members, outputs, strict=True)
            ]
            for order in ([2, 0, 1], [1, 2, 0])
        ]
    probe = probe_routing(members, [described, described], ages, seed=0)

    def error(pair: Sequence[ModelOutput]) -> float:
        return float(((pair[0].age_b + pair[1].age_b) / 2 - ages).abs().mean())

    assert probe["mae"] == pytest.approx(error(outputs), abs=1e-4)
    expected = (error(others[0]) + error(others[1])) / 2
    assert probe["mae_other_subject_routing"] == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_random_routing_gives_each_token_its_own_weights_to_other_experts(
    make_member: Callable[..., ErmoeBrainAge],
    small_tokens: TokenGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member = make_member()
    described = _planted(small_tokens, 4, seed=2).described[:, 0].float()
    taken: list[Tensor] = []
    read = ErmoeBrainAge.read_age

    def watched(self: ErmoeBrainAge, scans: Tensor, routing: Routing | None = None) -> ModelOutput:
        if routing is not None:
            taken.append(routing.weights_bte)
        return read(self, scans, routing)

    monkeypatch.setattr(ErmoeBrainAge, "read_age", watched)
    probe_routing([member], [described], torch.full((4,), 50.0), seed=0)
    own = read(member, described).routing.weights_bte
    shuffled = taken[0]
    torch.testing.assert_close(shuffled.sort(dim=-1).values, own.sort(dim=-1).values)
    moved = (shuffled != own).any(dim=-1)
    # Two of five weights differ from 0: of 20 places for them, one is their own.
    assert 0.85 < float(moved.float().mean()) < 1.0


def test_nobody_is_routed_as_the_same_person(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """Each scan given twice, in whatever order, is as each given once: the copies are no others."""
    member = make_member()
    described = _planted(small_tokens, 4, seed=2).described[:, 0].float()
    ages = torch.tensor([30.0, 40.0, 50.0, 60.0])
    once = probe_routing([member], [described], ages, seed=0)["mae_other_subject_routing"]
    for order in ([0, 0, 1, 1, 2, 2, 3, 3], [3, 1, 0, 2, 2, 0, 1, 3]):
        names = [f"p{number}" for number in order]
        twice = probe_routing([member], [described[order]], ages[order], seed=0, participants=names)
        assert twice["mae_other_subject_routing"] == pytest.approx(once, abs=1e-4)


def test_people_are_probed_alike_however_often_they_were_scanned(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """A scan that stands three times errs as one that stands once."""
    member = make_member()
    described = _planted(small_tokens, 3, seed=2).described[:, 0].float()
    ages, order = torch.tensor([30.0, 40.0, 50.0]), [0, 0, 0, 1, 2]
    once, often, as_five = (
        probe_routing([member], [described[rows]], ages[rows], seed=0, participants=names)
        for rows, names in (
            ([0, 1, 2], list("abc")),
            (order, list("aaabc")),
            (order, list("abcde")),
        )
    )
    for name in ("mae", "mae_zeroed", "mae_without_expert"):
        assert often[name] == pytest.approx(once[name], abs=1e-4)
        assert as_five[name] != pytest.approx(once[name], abs=1e-2)


def test_one_person_has_no_other_subject(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    described = _planted(small_tokens, 2, seed=2).described[:, 0].float()
    with pytest.raises(ValueError, match="two people are needed"):
        probe_routing(
            [make_member()],
            [described],
            torch.tensor([30.0, 31.0]),
            seed=0,
            participants=["a", "a"],
        )


NUM_PARTICIPANTS = 12
# Leading zeros must survive every table on the way.
IDS = [f"{number:02}" for number in range(NUM_PARTICIPANTS)]
TEST_IDS = IDS[::3]


@dataclass
class _Study:
    """A cohort on disk whose scans, once prepared, are small synthetic ones."""

    folder: Path
    recipe: Recipe
    scans: dict[str, PreparedScan]

    def write(self, ages: dict[str, float]) -> Path:
        path = self.folder / "participants.tsv"
        rows = "".join(f"sub-{i}\t{age}\n" for i, age in ages.items())
        path.write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
        return path

    def run(self, name: str, ages: dict[str, float], fold: int | None) -> Path:
        """Every third participant is in fold 0, whatever the ages."""
        out = self.folder / name
        out.mkdir()
        rows = "".join(f"{i}\t{0 if i in TEST_IDS else 1}\n" for i in IDS)
        (out / "splits.tsv").write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
        CrossValidation(self.recipe, self.write(ages), out).run(fold)
        return out


def write_raw(path: Path, number: int) -> None:
    """Write noise that passes for a scan: 17 x 18 x 19 voxels of 6 mm, its own for each number."""
    data = np.random.default_rng(number).integers(1, 200, (17, 18, 19)).astype(np.float32)
    grid = SpatialGrid((17, 18, 19), np.diag([6.0, 6.0, 6.0, 1.0]), "scan")
    write_volume(path, Volume(data, grid))


@pytest.fixture
def ages() -> dict[str, float]:
    return {i: 20.0 + 5 * number for number, i in enumerate(IDS)}


@pytest.fixture
def study(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_config: ModelConfig,
    small_tokens: TokenGrid,
    make_scan: Callable[[str, float], PreparedScan],
) -> _Study:
    (tmp_path / "raw").mkdir()
    for number, participant_id in enumerate(IDS):
        for suffix in ("T1w", "dseg"):
            write_raw(tmp_path / "raw" / f"sub-{participant_id}_{suffix}.nii.gz", number)
    (tmp_path / "registry.toml").write_text("[atlas]\n", encoding="utf-8")
    (tmp_path / "labels.tsv").write_text(
        "index\ttissue\n4\tventricles\n59\tcortex\n", encoding="utf-8"
    )
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path))
    recipe = Recipe(
        run=RunConfig(
            name="tiny",
            num_folds=2,
            num_starts=2,
            seed=5,
            coverage=0.5,
            t1w="raw/sub-{participant_id}_T1w.nii.gz",
            labels="raw/sub-{participant_id}_dseg.nii.gz",
            label_table="labels.tsv",
            data="synthetic",
            licence="none",
        ),
        preprocess=PreprocessConfig(),
        model=small_config,
        tissue=TISSUE,
        age=replace(AGE, num_epochs=2),
        text="tiny",
    )
    scans = {i: make_scan(i, number / 12) for number, i in enumerate(IDS)}
    study = _Study(tmp_path, recipe, scans)

    class FakeCohort:
        """Stands for `PreparedCohort`."""

        folder = tmp_path / "prepared"

        def __init__(self, *_: Any) -> None:
            self.ready: set[str] = set()

        def prepare_all(self, scans: Sequence[StudyScan], jobs: int) -> pd.DataFrame:
            assert jobs == 1
            self.ready |= {scan.name for scan in scans}
            return pd.DataFrame(columns=list(UNUSABLE_COLUMNS))

        def read(self, scan: StudyScan) -> PreparedScan:
            assert scan.name in self.ready
            return study.scans[scan.participant_id]

    for module in ("cross_validate", "final_model"):
        monkeypatch.setattr(f"ermoe_ba.training.{module}.PreparedCohort", FakeCohort)
        monkeypatch.setattr(f"ermoe_ba.training.{module}.Preprocessor", lambda _: None)
        monkeypatch.setattr(f"ermoe_ba.training.{module}.token_grid", lambda _: small_tokens)
    monkeypatch.setattr("ermoe_ba.checkpoint.token_grid", lambda _: small_tokens)
    return study


def _fold_0(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "fold-0_predictions.tsv", sep="\t", dtype={"participant_id": str})


def test_out_of_fold_ages_do_not_depend_on_the_ages_of_those_tested(
    study: _Study, ages: dict[str, float]
) -> None:
    """A planted leak: the test participants' ages are turned round, and nothing may move."""
    turned = ages | dict(zip(TEST_IDS, [ages[i] + 7 for i in reversed(TEST_IDS)], strict=True))
    plain, leak = study.run("plain", ages, 0), study.run("leak", turned, 0)
    assert sorted(_fold_0(plain)["participant_id"]) == sorted(TEST_IDS)
    assert (_fold_0(plain)["chronological_age"] != _fold_0(leak)["chronological_age"]).all()
    assert _fold_0(plain)["predicted_age"].tolist() == _fold_0(leak)["predicted_age"].tolist()
    weights = "fold-0_start-1.safetensors"
    assert (plain / weights).read_bytes() == (leak / weights).read_bytes()
    # The counterpart: one training participant's age does move them.
    other = study.run("other", ages | {IDS[1]: 70.0}, 0)
    assert (_fold_0(plain)["predicted_age"] != _fold_0(other)["predicted_age"]).all()


def test_a_member_does_not_depend_on_the_scans_it_is_tested_on(
    study: _Study, ages: dict[str, float], make_scan: Callable[[str, float], PreparedScan]
) -> None:
    """Neither pictures nor label maps of the test participants reach stem or experts."""
    plain = study.run("plain", ages, 0)
    study.scans |= {i: make_scan(i, 0.95) for i in TEST_IDS}
    changed = study.run("changed", ages, 0)
    weights = "fold-0_start-1.safetensors"
    assert (plain / weights).read_bytes() == (changed / weights).read_bytes()
    assert (_fold_0(plain)["predicted_age"] != _fold_0(changed)["predicted_age"]).any()
    study.scans[IDS[1]] = make_scan(IDS[1], 0.95)
    assert (study.run("other", ages, 0) / weights).read_bytes() != (plain / weights).read_bytes()


BEFORE: dict[str, Any] = {"num_epochs": 2, "batch_size": 8, "optimiser": OPTIMISER}


def _staged(study: _Study, make_scan: Callable[[str, float], PreparedScan]) -> PretrainConfig:
    """Give a study label maps that tell regions, and simulated people beside it."""
    pytest.importorskip("bids")
    (study.folder / "labels.tsv").write_text(
        "index\ttissue\tname\themisphere\n4\tventricles\tv\tn/a\n59\tcortex\tc\tn/a\n", "utf-8"
    )
    root = study.folder / "phantom"
    root.mkdir()
    (root / "dataset_description.json").write_text(
        '{"Name": "phantom", "BIDSVersion": "1.9.0"}', "utf-8"
    )
    rows = ""
    for number in range(4):
        (root / f"sub-P{number}" / "anat").mkdir(parents=True)
        write_raw(root / f"sub-P{number}" / "anat" / f"sub-P{number}_T1w.nii.gz", 100 + number)
        rows += f"sub-P{number}\t{20 + 15 * number}\n"
        study.scans[f"P{number}"] = make_scan(f"P{number}", 0.1 + number / 5)
    (root / "participants.tsv").write_text(f"participant_id\tage\n{rows}", "utf-8")
    return PretrainConfig(
        phantom=PhantomStage(participants="phantom/participants.tsv", **BEFORE),
        masked=MaskedStage(share=0.5, **BEFORE),
        volumes=VolumesStage(**BEFORE),
    )


def test_stages_before_the_age_see_no_age_and_nobody_who_is_tested(
    study: _Study, ages: dict[str, float], make_scan: Callable[[str, float], PreparedScan]
) -> None:
    """Weights after the last of them: moved by a training scan, and by nothing else."""
    config = _staged(study, make_scan)
    study.recipe = replace(
        study.recipe, pretrain=config, run=replace(study.recipe.run, num_starts=1)
    )
    kept = "kept/fold-0_start-0_volumes.safetensors"
    plain = study.run("plain", ages, 0)
    # All stages stand beside the stem, and the age was learnt after them.
    assert {path.name for path in (plain / "kept").iterdir()} == {
        f"fold-0_{name}.safetensors"
        for name in (
            "stem",
            "described",
            "phantom",
            *(f"start-0_{stage}" for stage in config.stages()),
        )
    }
    for stage in config.stages():
        assert len(pd.read_csv(plain / f"fold-0_start-0_{stage}_history.tsv", sep="\t")) > 0
    assert len(_fold_0(plain)) == len(TEST_IDS)
    # The ages of all, those trained on too.
    older = study.run("older", {i: 90 - age for i, age in ages.items()}, 0)
    assert (older / kept).read_bytes() == (plain / kept).read_bytes()
    assert (_fold_0(older)["predicted_age"] != _fold_0(plain)["predicted_age"]).all()
    # Pictures and label maps of those tested.
    study.scans |= {i: make_scan(i, 0.95) for i in TEST_IDS}
    for number, i in enumerate(TEST_IDS):
        write_raw(study.folder / "raw" / f"sub-{i}_dseg.nii.gz", 200 + number)
    tested = study.run("tested", ages, 0)
    assert (tested / kept).read_bytes() == (plain / kept).read_bytes()
    # The counterpart: one picture, or one label map, of those trained on.
    write_raw(study.folder / "raw" / f"sub-{IDS[1]}_dseg.nii.gz", 300)
    volumes = study.run("volumes", ages, 0)
    assert (volumes / kept).read_bytes() != (plain / kept).read_bytes()
    earlier = "kept/fold-0_start-0_masked.safetensors"
    assert (volumes / earlier).read_bytes() == (plain / earlier).read_bytes()
    study.scans[IDS[1]] = make_scan(IDS[1], 0.95)
    pictures = study.run("pictures", ages, 0)
    assert (pictures / earlier).read_bytes() != (plain / earlier).read_bytes()


def test_a_run_stopped_between_its_stages_goes_on_to_equal_bytes(
    study: _Study,
    ages: dict[str, float],
    make_scan: Callable[[str, float], PreparedScan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped before the age, and once before a stage: what was learnt is not learnt again."""
    config = replace(_staged(study, make_scan), volumes=None)
    study.recipe = replace(
        study.recipe, pretrain=config, run=replace(study.recipe.run, num_starts=1)
    )
    weights = "fold-0_start-0.safetensors"
    straight = study.run("straight", ages, 0)
    out = study.folder / "stopped"
    out.mkdir()
    (out / "splits.tsv").write_bytes((straight / "splits.tsv").read_bytes())
    stopped = CrossValidation(study.recipe, study.write(ages), out)
    learnt: list[str] = []

    def learn(network: ErmoeBrainAge, name: str, *rest: Any, **options: Any) -> History:
        learnt.append(name)
        if learnt == ["phantom", "masked"]:
            raise KeyboardInterrupt
        return pretrain(network, name, *rest, **options)

    def stop(*_: Any, **__: Any) -> History:
        raise KeyboardInterrupt

    monkeypatch.setattr("ermoe_ba.training.part.pretrain", learn)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(0)
    with monkeypatch.context() as patch:
        patch.setattr("ermoe_ba.training.part.train_age", stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.run(0)
    assert learnt == ["phantom", "masked", "masked"]
    stopped.run(0)
    assert learnt == ["phantom", "masked", "masked"]
    assert (out / weights).read_bytes() == (straight / weights).read_bytes()
    # A run without the stages is another.
    study.recipe = replace(study.recipe, pretrain=NO_STAGES, text="at once")
    assert (study.run("once", ages, 0) / weights).read_bytes() != (out / weights).read_bytes()


# What is written last of a stage, and by whom.
@pytest.mark.parametrize(
    ("writer", "name"),
    [
        ("run_folder.save_tensors", "fold-0_stem"),
        ("run_folder.save_tensors", "fold-0_start-0_masked"),
        ("part.save_member", "fold-0_start-0"),
    ],
)
def test_a_run_stopped_before_it_wrote_a_result_makes_no_step_again(
    study: _Study,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    name: str,
) -> None:
    """With a snapshot after each step, all steps are made by then; they are made once."""
    monkeypatch.setattr("ermoe_ba.training.loop.SNAPSHOT_STEPS", 1)
    study.recipe = replace(
        study.recipe,
        pretrain=PretrainConfig(masked=MaskedStage(share=0.5, **BEFORE)),
        run=replace(study.recipe.run, num_starts=1),
    )
    steps: list[str] = []
    load = Progress.load

    def counted(progress: Progress, make: Callable[[], Batch]) -> Batch:
        steps.append(progress.describe)
        return load(progress, make)

    monkeypatch.setattr("ermoe_ba.training.loop.Progress.load", counted)
    straight = study.run("straight", ages, 0)
    made, steps[:] = list(steps), []
    out = study.folder / "stopped"
    out.mkdir()
    (out / "splits.tsv").write_bytes((straight / "splits.tsv").read_bytes())
    run = CrossValidation(study.recipe, study.write(ages), out)

    def stop(path: Path, content: Any) -> None:
        if path.name == f"{name}.safetensors":
            raise KeyboardInterrupt
        (save_member if writer.startswith("part") else save_tensors)(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(f"ermoe_ba.training.{writer}", stop)
        with pytest.raises(KeyboardInterrupt):
            run.run(0)
    run.run(0)
    assert steps == made
    weights = "fold-0_start-0.safetensors"
    assert (out / weights).read_bytes() == (straight / weights).read_bytes()
    assert not list(out.rglob("*snapshot*"))


def test_a_whole_run_tests_everybody_once_and_describes_itself(
    study: _Study,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = study.run("run", ages, 0)
    assert not (out / "model.json").exists()
    run = CrossValidation(study.recipe, study.folder / "participants.tsv", out)
    metrics = run.run()
    assert metrics is not None
    # Of fold 1, which was left: its stem's steps, and two epochs of two members over 4 scans.
    steps = TISSUE.num_steps * TISSUE.scans_per_step
    assert run.trainer.expenses.total.scans == steps + 2 * 2 * len(TEST_IDS)
    assert f"all stages: {run.trainer.expenses.total}" in capsys.readouterr().out
    table = pd.read_csv(out / "predictions.tsv", sep="\t", dtype={"participant_id": str})
    assert sorted(table["participant_id"]) == IDS
    assert table.set_index("participant_id")["chronological_age"].to_dict() == ages
    gap = table["predicted_age"] - table["chronological_age"]
    np.testing.assert_allclose(table["brain_age_gap"], gap)
    assert metrics["mae"] == pytest.approx(gap.abs().mean())
    card = read_card(out)
    assert card.model == study.recipe.model
    # ceil(13 * .5) = 7th smallest of twelve.
    assert card.half_width == pytest.approx(sorted(gap.abs())[6])
    assert card.ages == tuple(table["chronological_age"])
    np.testing.assert_allclose(card.predictions, table["predicted_age"], atol=1e-3)
    assert not list(out.glob(".partial-*"))
    # A run that is done is not made again: nothing may train any more.
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("trained again")
    )
    assert run.run() == metrics


def test_the_interval_counts_people_and_not_their_scans(
    study: _Study, ages: dict[str, float]
) -> None:
    """One person with eight scans and four with one: three of five people must be covered."""
    out = study.run("run", ages, None)
    path = out / "fold-1_predictions.tsv"
    rows = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert len(rows) == 8
    rows.assign(participant_id=rows["participant_id"][0]).to_csv(path, sep="\t", index=False)
    (out / "model.json").unlink()
    CrossValidation(study.recipe, study.folder / "participants.tsv", out).run()
    table = pd.read_csv(out / "predictions.tsv", sep="\t")
    # Nobody in that fold can be routed as somebody else: it is not probed, the other one is.
    (other,) = json.loads((out / "metrics.json").read_text("utf-8"))["probe_dead_experts"]
    assert other >= 0
    # 24 parts of a person's share each: (5 + 1) * .5 = 3 people are 72 of 120.
    shares = table["fold"].map({0: 24, 1: 3}).to_numpy()
    order = np.argsort(table["brain_age_gap"].abs().to_numpy())
    place = order[np.flatnonzero(np.cumsum(shares[order]) >= 72)[0]]
    width = read_card(out).half_width
    assert width == pytest.approx(abs(table["brain_age_gap"][place]))
    # Counting scans, it is the ceil(13 * .5) = 7th smallest of twelve.
    assert width != pytest.approx(table["brain_age_gap"].abs().sort_values().iloc[6])


def test_a_coverage_that_so_few_cannot_give_is_refused_before_training(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve people are enough for 12 / 13 = 0.923, and not for more."""
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("it was trained")
    )
    run = replace(study.recipe.run, coverage=0.93)
    recipe = replace(study.recipe, run=run)
    with pytest.raises(UsageError, match=r"coverage 0\.93.*needs 14 participants.*found 12"):
        _begin(study, "run", ages, recipe).run(0)


def test_descriptions_can_be_kept_before_ages_are_learnt(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stem and description alone at first; then the weights of a run that did both at once."""
    straight = study.run("straight", ages, 0)
    out = study.folder / "parted"
    out.mkdir()
    (out / "splits.tsv").write_bytes((straight / "splits.tsv").read_bytes())
    run = CrossValidation(study.recipe, study.write(ages), out)
    run.keep_described(0)
    assert sorted(path.name for path in (out / "kept").iterdir()) == [
        "fold-0_described.safetensors",
        "fold-0_stem.safetensors",
    ]
    assert not list(out.glob("fold-0_start-*.safetensors"))
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("trained again")
    )
    run.run(0)
    for weights in sorted(straight.glob("fold-0_start-*.safetensors")):
        assert (out / weights.name).read_bytes() == weights.read_bytes()
    assert len(list(out.glob("fold-0_start-*.safetensors"))) == study.recipe.run.num_starts


def test_regions_of_an_atlas_are_read_in_training_alone(
    study: _Study, ages: dict[str, float], small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All members hold the shares that the tokens have, the choice of settings needs them too."""
    dseg = np.zeros(small_tokens.grid.shape, dtype=np.int32)
    dseg[:6] = 3
    labels = pd.DataFrame({"index": [3], "name": ["Front"], "hemisphere": ["n/a"]})
    atlas = Atlas(name="tiny", dseg=Volume(dseg, small_tokens.grid), labels=labels, licence="none")
    for reader in ("atlas_regions", "other_inputs"):
        monkeypatch.setattr(
            f"ermoe_ba.training.{reader}.load_atlas", {"tiny.nii.gz": atlas}.__getitem__
        )
    plain = {"region_atlas": "tiny.nii.gz", "region_labels": {"front": ["front"]}}
    model = changed(study.recipe.model, {"regions": ["csf", "front"], **plain})
    choose = ChooseConfig(num_folds=2, alternatives={"long": {"num_epochs": 3}})
    study.recipe = replace(study.recipe, model=model, choose=choose)
    out, final = study.run("run", ages, None), study.folder / "final"
    FinalModel(study.recipe, study.folder / "participants.tsv", out, final).run()
    monkeypatch.setattr(
        "ermoe_ba.training.atlas_regions.load_atlas", lambda _: pytest.fail("the atlas was read")
    )
    members = [m for folder in (out, final) for m in load_ensemble(str(folder)).members]
    front_t = small_tokens.held_share(Volume(dseg, small_tokens.grid))
    assert 0 < np.count_nonzero(front_t < 0.2) < len(front_t)
    # Two of each fold, and two of everybody.
    assert len(members) == 6
    for member in members:
        kept = member.state_dict()["atlas_shares.share_te"].numpy()
        np.testing.assert_allclose(kept, np.stack([np.zeros_like(front_t), front_t], axis=1))
    # An expert without such tokens is a wrong recipe, told before anything is trained.
    wrong = replace(model, region_labels={"front": ("Back",)})
    study.recipe = replace(study.recipe, model=wrong, text="wrong")
    monkeypatch.setattr("ermoe_ba.training.atlas_regions.load_atlas", lambda _: atlas)
    with pytest.raises(UsageError, match=r"region_labels.front: must name .* found 'Back'"):
        CrossValidation(study.recipe, study.folder / "participants.tsv", study.folder / "other")
    assert not (study.folder / "other").exists()


def test_expert_matching_leaves_out_of_fold_ages_as_they_were(
    study: _Study, ages: dict[str, float], small_tokens: TokenGrid
) -> None:
    from ermoe_ba.checkpoint import load_member

    out = study.run("run", ages, None)
    table = pd.read_csv(out / "fold-1_predictions.tsv", sep="\t", dtype={"participant_id": str})
    tested = [study.scans[i] for i in table["participant_id"]]
    starts = []
    for number in range(2):
        path = out / f"fold-1_start-{number}.safetensors"
        member = load_member(path, study.recipe.model, small_tokens)
        with torch.no_grad():
            described = scan_variants(member.describe, tested, 0, 0)[:, 0].float()
            starts.append(member.read_age(described).age_b.numpy())
    assert np.abs(starts[0] - starts[1]).max() > 1e-2
    np.testing.assert_allclose(np.mean(starts, axis=0), table["predicted_age"], atol=1e-3)


def test_a_folder_of_another_run_is_refused(study: _Study, ages: dict[str, float]) -> None:
    out = study.run("run", ages, 0)
    path = study.folder / "participants.tsv"
    with pytest.raises(UsageError, match="another recipe or other data"):
        CrossValidation(replace(study.recipe, text="other"), path, out).run(0)
    study.write(ages | {IDS[0]: 33.0})
    with pytest.raises(UsageError, match="another recipe or other data"):
        CrossValidation(study.recipe, path, out).run(0)


@pytest.mark.parametrize("changed", ["a.hdr", "a.img", "a_dseg.nii"])
def test_the_data_hash_follows_every_file_of_a_scan(tmp_path: Path, changed: str) -> None:
    for name in ("a.hdr", "a.img", "a_dseg.nii"):
        (tmp_path / name).write_bytes(b"before")
    scan = StudyScan(
        name="a",
        participant_id="a",
        session_id=None,
        chronological_age=50.0,
        t1w=tmp_path / "a.hdr",
        labels=tmp_path / "a_dseg.nii",
    )
    study = Study(tmp_path, (scan,), pd.DataFrame())
    before = data_hash(study)
    assert data_hash(study) == before
    (tmp_path / changed).write_bytes(b"after.")
    assert data_hash(study) != before


@pytest.mark.parametrize("fold", [-1, 2])
def test_a_fold_that_is_not_there_is_refused(
    study: _Study, ages: dict[str, float], fold: int
) -> None:
    with pytest.raises(UsageError, match=f"between 0 and 1; found {fold}"):
        study.run("run", ages, fold)


def test_a_participant_without_files_is_named(study: _Study, ages: dict[str, float]) -> None:
    missing = study.folder / "raw" / "sub-03_dseg.nii.gz"
    missing.unlink()
    with pytest.raises(UsageError, match=r"sub-03_dseg\.nii\.gz"):
        study.run("run", ages, 0)


def test_participants_without_an_age_take_no_part(study: _Study, ages: dict[str, float]) -> None:
    path = study.write(ages)
    with path.open("a", encoding="utf-8") as file:
        file.write("sub-99\tn/a\n")
    out = study.folder / "run"
    run = CrossValidation(study.recipe, path, out)
    assert [scan.participant_id for scan in run.study.scans] == IDS
    run.run(0)
    splits = pd.read_csv(out / "splits.tsv", sep="\t", dtype=str)
    assert sorted(splits["participant_id"]) == IDS


def _begin(
    study: _Study, name: str, ages: dict[str, float], recipe: Recipe | None = None, **options: Any
) -> CrossValidation:
    return CrossValidation(
        recipe or study.recipe, study.write(ages), study.folder / name, **options
    )


def _given(study: _Study, rows: str) -> Path:
    path = study.folder / "given.tsv"
    path.write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"coverage": 0.93}, "needs 14 participants or more; found 12"),
        ({"num_folds": 13}, "13 folds need as many participants; found 12"),
        ({"split": "leave-site-out"}, "found none for 12"),
        ({"age_bounds": (0.0, 60.0)}, "found 4 beyond"),
        # Of 12 two folds leave 6; of these 0.7 are 4.2, so that 5 are set aside.
        ({"validation_share": 0.7}, r"of 12, the largest fold \(6\) .* leave 1"),
    ],
)
def test_what_no_preparing_can_mend_is_told_before_it(
    study: _Study,
    ages: dict[str, float],
    settings: dict[str, Any],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 people of 20, 25, ... 75 years, without sites; 60, 65, 70, 75 are not below 60."""
    table = {"age_bounds": "model", "validation_share": "age"}.get(next(iter(settings)), "run")
    changed = replace(getattr(study.recipe, table), **settings)
    recipe = replace(study.recipe, **{table: changed})
    begun = _begin(study, "run", ages, recipe)
    monkeypatch.setattr(
        begun.cohort, "prepare_all", lambda *_: pytest.fail("scans were prepared first")
    )
    with pytest.raises(UsageError, match=says):
        begun.prepare()


def test_given_folds_that_leave_one_person_are_told_before_scans_are_prepared(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a site of one person does: whoever is tested on the other learns from that one."""
    given = _given(study, "".join(f"{i}\t{int(i == IDS[0])}\n" for i in IDS))
    begun = _begin(study, "run", ages, splits=given)
    monkeypatch.setattr(
        begun.cohort, "prepare_all", lambda *_: pytest.fail("scans were prepared first")
    )
    with pytest.raises(UsageError, match=r"of 12, the largest fold \(11\) .* leave 1"):
        begun.prepare()


def test_folds_can_be_given_and_stay(study: _Study, ages: dict[str, float]) -> None:
    given = _given(study, "".join(f"sub-{i}\t{int(i in TEST_IDS)}\n" for i in IDS))
    _begin(study, "run", ages, splits=given).run(1)
    table = pd.read_csv(study.folder / "run" / "fold-1_predictions.tsv", sep="\t", dtype=str)
    assert sorted(table["participant_id"]) == TEST_IDS
    assert set(table["fold"]) == {"1"}
    other = _given(study, "".join(f"{i}\t{int(i not in TEST_IDS)}\n" for i in IDS))
    with pytest.raises(UsageError, match="begun with other folds"):
        _begin(study, "run", ages, splits=other).run(0)


def test_a_participant_in_two_folds_is_refused(study: _Study, ages: dict[str, float]) -> None:
    rows = "".join(f"{i}\t{int(i in TEST_IDS)}\n" for i in IDS)
    twice = _given(study, rows + f"{IDS[0]}\t0\n")
    with pytest.raises(UsageError, match=f"{IDS[0]} has several rows"):
        _begin(study, "run", ages, splits=twice).run(0)


def test_one_head_under_two_names_is_refused_before_training(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted leak: the scan of one test participant also bears a training participant's name."""
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("it was trained")
    )
    write_raw(study.folder / "raw" / f"sub-{IDS[1]}_T1w.nii.gz", 0)
    with pytest.raises(UsageError, match=f"same voxels.*{IDS[0]} = {IDS[1]}"):
        study.run("run", ages, 0)


def test_scans_that_cannot_be_read_are_all_named_before_training(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("it was trained")
    )
    for i in (IDS[2], IDS[7]):
        (study.folder / "raw" / f"sub-{i}_T1w.nii.gz").write_bytes(b"torn")
    with pytest.raises(UsageError, match=f"2 scans cannot be used.*sub-{IDS[2]}.*sub-{IDS[7]}"):
        study.run("run", ages, 0)
    out = study.folder / "run"
    assert pd.read_csv(out / "unusable.tsv", sep="\t", dtype=str)["scan"].tolist() == [
        IDS[2],
        IDS[7],
    ]


def test_repeats_are_other_folds_and_leave_the_first_as_it_is(
    study: _Study, ages: dict[str, float]
) -> None:
    run = replace(study.recipe.run, num_starts=1)
    once = replace(study.recipe, run=run)
    twice = replace(study.recipe, run=replace(run, num_repeats=2))
    _begin(study, "once", ages, once).run()
    metrics = _begin(study, "twice", ages, twice).run()
    assert metrics is not None
    first, second = study.folder / "once", study.folder / "twice"
    for name in ("fold-0_start-0.safetensors", "fold-1_predictions.tsv", "predictions.tsv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    tables = [
        pd.read_csv(second / f"repeat-1_fold-{fold}_predictions.tsv", sep="\t", dtype={0: str})
        for fold in (0, 1)
    ]
    repeated = pd.concat(tables)
    assert sorted(repeated["participant_id"]) == IDS
    gap = repeated["predicted_age"] - repeated["chronological_age"]
    assert metrics["mae_by_repeat"] == [metrics["mae"], pytest.approx(gap.abs().mean())]
    # The model is the first repeat's members, as every reader of models finds them.
    assert len(list(second.glob("fold-*.safetensors"))) == 2
    assert len(list(second.glob("repeat-1_fold-*.safetensors"))) == 2


def test_no_seed_serves_twice(study: _Study) -> None:
    run = replace(study.recipe.run, num_folds=3, num_starts=4, num_repeats=2, num_stems=5)
    parts = [fold_part(run, fold, repeat) for repeat in range(2) for fold in range(3)]
    seeds = [part.member_seed(n) for part in [*parts, *whole_parts(run)] for n in range(4)]
    assert len(set(seeds)) == (6 + 5) * 4
    # Runs made before there were repeats keep theirs: seed, and one more a fold, then a start.
    assert [p.member_seed(n) for n in range(2) for p in parts[:3]] == [5, 6, 7, 8, 9, 10]


def test_folder_tells_the_settings_of_its_run(tmp_path: Path) -> None:
    folder, shipped = RunFolder(tmp_path), Path(__file__).parents[1] / "pipelines/ixi_hh.toml"
    with pytest.raises(UsageError, match="found none"):
        folder.settings()
    recipe = read_recipe(shipped)
    (tmp_path / "recipe.json").write_text(json.dumps({"text": recipe.text, "data_hash": "0"}))
    assert folder.settings() == recipe.run
    other = recipe.text.replace("num_folds = 5", "num_folds = 5\nnum_moons = 1")
    (tmp_path / "recipe.json").write_text(json.dumps({"text": other, "data_hash": "0"}))
    with pytest.raises(UsageError, match="num_moons"):
        folder.settings()


def test_a_choice_that_stands_is_not_made_again(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was stopped once it had chosen; its choice is changed by hand to be told apart."""
    choose = ChooseConfig(num_folds=2, alternatives={"long": {"num_epochs": 3}})
    recipe = replace(
        study.recipe, choose=choose, run=replace(study.recipe.run, num_starts=1), text="choose"
    )
    run = _begin(study, "run", ages, recipe)
    path = study.folder / "run" / "fold-0_choice.json"
    with monkeypatch.context() as patch:

        def stop(*_: Any, **__: Any) -> History:
            raise KeyboardInterrupt

        patch.setattr("ermoe_ba.training.part.train_age", stop)
        with pytest.raises(KeyboardInterrupt):
            run.run(0)
    chosen = json.loads(path.read_text(encoding="utf-8"))
    other = {"recipe": "long", "long": "recipe"}[chosen["name"]]
    path.write_text(json.dumps({**chosen, "name": other}), encoding="utf-8")
    monkeypatch.setattr(
        "ermoe_ba.training.choose.train_age", lambda *_, **__: pytest.fail("chosen again")
    )
    run.run(0)
    history = pd.read_csv(study.folder / "run" / "fold-0_start-0_history.tsv", sep="\t")
    assert history["epoch"].max() == {"recipe": 2, "long": 3}[other]


@pytest.mark.parametrize("is_main", [True, False])
def test_what_a_run_cost_holds_choices_and_descriptions(
    study: _Study,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_main: bool,
) -> None:
    """By a clock that moves on by a second each time that it is looked at for them.

    Of 8 training scans each inner training sees 4, over 2 epochs: two folds, two alternatives.
    """
    seconds = iter(range(100))
    monkeypatch.setattr(
        "ermoe_ba.training.expenses.time", SimpleNamespace(perf_counter=lambda: next(seconds))
    )
    # Of processes that train together one tells it.
    monkeypatch.setattr(
        "ermoe_ba.training.expenses.Processes", lambda: SimpleNamespace(is_main=is_main)
    )
    monkeypatch.setattr("ermoe_ba.training.part.train_stem", lambda *_, **__: History())
    monkeypatch.setattr("ermoe_ba.training.part.train_age", lambda *_, **__: History())
    choose = ChooseConfig(num_folds=2, alternatives={"loose": {"ridge_strength": 1.0}})
    recipe = replace(
        study.recipe, choose=choose, run=replace(study.recipe.run, num_starts=1), text="choose"
    )
    folds = _given(study, "".join(f"{i}\t{0 if i in TEST_IDS else 1}\n" for i in IDS))
    run = _begin(study, "run", ages, recipe, splits=folds)
    run.run(0)
    cost = run.trainer.expenses.total
    assert cost.scans == 2 * 2 * 2 * 4
    # Scans are read, and then described; the batches of inner trainings come besides.
    assert cost.reading_seconds == 1.0
    assert cost.making_seconds > 1.0
    assert cost.seconds > cost.reading_seconds + cost.making_seconds
    lines = capsys.readouterr().out.splitlines()
    told = [line.split(": ")[0] for line in lines if line.startswith("fold-0 ")]
    stages = [f"fold-0 {what}" for what in ("stem", "descriptions", "choice", "start-0")]
    assert told == (stages if is_main else [])


def test_the_choice_is_told_the_sites_of_the_table(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[pd.DataFrame] = []

    def choose(*given: Any) -> Choice:
        told.append(given[3])
        raise KeyboardInterrupt

    monkeypatch.setattr("ermoe_ba.training.part.choose_settings", choose)
    table = study.write(ages)
    rows = pd.read_csv(table, sep="\t").assign(site=[f"at {i}" for i in IDS])
    rows.to_csv(table, sep="\t", index=False)
    with pytest.raises(KeyboardInterrupt):
        CrossValidation(study.recipe, table, study.folder / "sites").run(0)
    (people,) = told
    assert len(people) < NUM_PARTICIPANTS
    assert people["site"].tolist() == [f"at {i}" for i in people["participant_id"]]


def test_each_fold_chooses_without_those_it_is_tested_on(
    study: _Study, ages: dict[str, float]
) -> None:
    """One alternative learns nothing; what is chosen rests on the training ages alone."""
    useless = {"ridge_strength": 1e9, "optimiser": {**asdict(OPTIMISER), "learning_rate": 1e-9}}
    choose = ChooseConfig(num_folds=2, alternatives={"useless": useless})
    recipe = replace(study.recipe, choose=choose)
    folds = _given(study, "".join(f"{i}\t{0 if i in TEST_IDS else 1}\n" for i in IDS))
    turned = ages | {i: 100 - ages[i] for i in TEST_IDS}
    found = []
    for name, told in (("plain", ages), ("turned", turned)):
        _begin(study, name, told, recipe, splits=folds).run(0)
        path = study.folder / name / "fold-0_choice.json"
        found.append(json.loads(path.read_text(encoding="utf-8")))
    assert found[0] == found[1]
    assert found[0]["name"] == min(found[0]["mae"], key=found[0]["mae"].get)
    assert set(found[0]["mae"]) == {"recipe", "useless"}
    # The useless one answers each inner fold's mean training age, whatever the scan shows.
    assert found[0]["name"] == "recipe"


def test_a_recipe_without_labels_takes_the_stem_of_a_model(
    study: _Study, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No label map is asked for; members hold the model's stem to the bit."""
    study.run("labelled", ages, None)
    source = study.folder / "labelled"
    for path in (study.folder / "raw").glob("*_dseg.nii.gz"):
        path.unlink()
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("trained")
    )
    run = replace(study.recipe.run, labels=None, label_table=None, stem=str(source))
    recipe = replace(study.recipe, run=run, tissue=None)
    out = study.folder / "run"
    _begin(study, "run", ages, recipe).run(0)
    theirs = load_file(source / "fold-0_start-0.safetensors")
    ours = load_file(out / "fold-0_start-0.safetensors")
    stems = [name for name in theirs if name.startswith("stem.")]
    assert stems
    assert all(torch.equal(theirs[name], ours[name]) for name in stems)
    wider = replace(recipe, model=replace(recipe.model, stem_hidden=8), text="wider")
    with pytest.raises(UsageError, match=r"stem_hidden is the same; found 4 there and 8"):
        _begin(study, "wider", ages, wider).run(0)


def test_a_final_model_saw_everybody_and_bears_the_figures_of_the_folds(
    study: _Study, ages: dict[str, float]
) -> None:
    out, path = study.folder / "final", study.write(ages)
    study.recipe = replace(study.recipe, run=replace(study.recipe.run, num_stems=2))
    with pytest.raises(UsageError, match=r"model\.json"):
        FinalModel(study.recipe, path, study.folder / "absent", out)
    run = study.run("run", ages, None)
    other = replace(study.recipe, text="other")
    with pytest.raises(UsageError, match="this very recipe"):
        FinalModel(other, path, run, study.folder / "other").run()
    metrics = FinalModel(study.recipe, path, run, out).run()
    assert metrics == read_card(run).metrics
    card = read_card(out)
    assert card.half_width == read_card(run).half_width
    assert "has seen everybody" in card.provenance["figures"]
    # Two stems, and as many members on each as a fold has.
    ensemble, starts = load_ensemble(str(out)), study.recipe.run.num_starts
    assert ensemble.member_stems == [0] * starts + [1] * starts
    for stem in range(2):
        kept = load_file(out / "kept" / f"fold-all-{stem}_described.safetensors")
        assert kept["train"].shape[0] == NUM_PARTICIPANTS
    # Its figures are of these ages, under a name that nobody takes for the model's own.
    told = (out / "out_of_fold_predictions.tsv").read_bytes()
    assert told == (run / "predictions.tsv").read_bytes()
    assert not (out / "predictions.tsv").exists()
    table = pd.read_csv(out / "training_scans.tsv", sep="\t", dtype=str)
    assert table["participant_id"].tolist() == IDS
    assert table["fold"].isna().all()
    folds = pd.read_csv(run / "training_scans.tsv", sep="\t", dtype=str)
    assert folds["voxel_hash"].tolist() == table["voxel_hash"].tolist()
    assert set(folds["fold"]) == {"0", "1"}


def test_the_commands_go_from_scans_to_folds_to_a_model(
    study: _Study,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("cross_validate", "train"):
        monkeypatch.setattr(f"ermoe_ba.cli.{command}.read_recipe", lambda _: study.recipe)
    run, final = study.folder / "run", study.folder / "final"
    table = ["--participants", str(study.write(ages))]
    validate = ["cross-validate", "recipe.toml", *table, "--out", str(run)]
    assert main([*validate, "--prepare-only"]) == 0
    assert "each --fold K can begin" in capsys.readouterr().out
    stand = {"recipe.json", "scans.tsv", "splits.tsv"}
    assert {path.name for path in run.iterdir()} == stand
    # What stands is not made again, and no fold is trained by a preparation.
    splits = (run / "splits.tsv").stat().st_mtime_ns
    assert main([*validate, "--prepare-only", "--fold", "1"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert main([*validate, "--fold", "1", "--resume"]) == 0
    assert "the others are still to come" in capsys.readouterr().out
    assert (run / "splits.tsv").stat().st_mtime_ns == splits
    train = ["train", "recipe.toml", *table, "--run", str(run), "--out", str(final)]
    assert main([*train, "--resume"]) == 2
    assert "model.json" in capsys.readouterr().err
    assert main([*validate, "--resume"]) == 0
    shown = capsys.readouterr().out
    assert "12 scans of 12 participants, 20 to 75 years." in shown
    mae = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["mae"]
    assert main([*train, "--resume"]) == 0
    assert f"out of fold: MAE {mae:.2f} years" in capsys.readouterr().out
    assert read_card(final).metrics["mae"] == mae
    assert len(load_ensemble(str(final)).members) == study.recipe.run.num_starts


@pytest.mark.parametrize("command", ["cross-validate", "train"])
def test_the_help_says_how_a_stopped_run_goes_on(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "give the same command again, with --resume or without it." in shown


RECIPE = """
[run]
name = "tiny"
num_folds = 2
num_starts = 3
seed = 1
coverage = 0.9
t1w = "a/{participant_id}"
labels = "b/{participant_id}"
label_table = "c"
data = "d"
licence = "e"

[model]
patch_size = 8
token_min_brain = 0.25
stem_hidden = 16
hidden_size = 64
num_heads = 4
place_scale = 0.3
regions = ["grey_matter", "csf"]
num_free_experts = 4
rank = 24
offset_scale = 0.1
top_k = 2
score_threshold = 0.0
region_min_fraction = 0.3
temperature = 0.1
bias_step = 0.002
token_dropout = 0.2

[tissue]
num_steps = 9
scans_per_step = 2
voxels_per_scan = 20
outside_share = 0.2
gain_sd = 0.05
noise_sd = 0.02
optimiser = { learning_rate = 0.01, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.9 }

[age]
num_variants = 1
num_epochs = 3
batch_size = 4
ridge_strength = 0.1
invariance = 0.1
readout_decay = 0.3
weight_decay = 0.01
spread_floor = 0.02
optimiser = { learning_rate = 0.02, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.9 }
"""


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_recipe_is_read_as_written(recipe_path: Path) -> None:
    recipe = read_recipe(recipe_path)
    assert recipe.run.name == "tiny"
    assert recipe.model.regions == ("grey_matter", "csf")
    assert recipe.model.rank == 24
    assert recipe.tissue.num_steps == 9
    assert recipe.tissue.optimiser.learning_rate == 0.01
    assert recipe.age.optimiser.learning_rate == 0.02
    assert recipe.preprocess == PreprocessConfig()
    assert recipe.text == RECIPE


@pytest.mark.parametrize("name", ["ixi_hh", "site", "smoke", "phantom"])
def test_the_recipes_of_this_repository_can_be_read(name: str) -> None:
    recipe = read_recipe(Path(__file__).parents[1] / "pipelines" / f"{name}.toml")
    assert (recipe.run.stem is None) == (recipe.tissue is not None)
    # The table of labels is there, or a phantom will bring it.
    simulated = name in ("smoke", "phantom")
    assert simulated or bool(recipe.run.tissues(Path())) == (recipe.run.stem is None)


def test_a_table_of_labels_lies_beside_the_participants_or_among_the_atlases(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, tissue in (("study", "cortex"), ("atlases", "ventricles")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "registry.toml").write_text("[atlas]\n", encoding="utf-8")
        (tmp_path / folder / "t.tsv").write_text(f"index\ttissue\n7\t{tissue}\n", "utf-8")
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path / "atlases"))
    run = replace(read_recipe(recipe_path).run, label_table="t.tsv")
    assert run.tissues(tmp_path / "study") == {7: "cortex"}
    assert run.tissues(tmp_path / "elsewhere") == {7: "ventricles"}


def test_a_recipe_may_change_the_preprocessing(recipe_path: Path) -> None:
    with recipe_path.open("a", encoding="utf-8") as file:
        file.write("[preprocess]\naffine_steps = [6, 3]\n")
    assert read_recipe(recipe_path).preprocess == PreprocessConfig(affine_steps=(6, 3))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 1", "sede = 1", "sede"),
        ("rank = 24", "rang = 24", "rang"),
        ("num_folds = 2", 'num_folds = "2"', "run.num_folds"),
        ("num_folds = 2", "num_folds = 1", "at least 2; found 1"),
        ("coverage = 0.9", "coverage = 90", "between 0 and 1; found 90"),
        ('t1w = "a/{participant_id}"', 't1w = "a"', "participant_id"),
        ('regions = ["grey_matter", "csf"]', "regions = [1, 2]", "model.regions"),
        ("gain_sd", "grain_sd", "grain_sd"),
        ("num_epochs", "epochs", "epochs"),
        ("ema_decay", "ema", "ema"),
        ("rank = 24\n", "", "rank"),
        ('regions = ["grey_matter", "csf"]\n', "", "regions"),
        ("readout_decay = 0.3\n", "", "readout_decay"),
        ("rank = 24", "rank = 64", "rank must lie between 1 and"),
        ("[age]", "[aging]", "aging"),
        ('labels = "b/{participant_id}"\n', "", "labels and label_table must be given together"),
        ('labels = "b/{participant_id}"', 'labels = "b/{who}"', "{participant_id} or {scan}"),
        ('label_table = "c"', 'label_table = "c"\nstem = "ixi-hh"', "one source"),
        ("num_starts = 3", "num_starts = 0", "num_starts must be at least 1; found 0"),
        ("num_starts = 3", 'num_starts = 3\nsplit = "odd"', "stratified, leave-site-out"),
        (
            "num_starts = 3",
            'num_starts = 3\nnum_repeats = 2\nsplit = "leave-site-out"',
            "num_repeats must be 1",
        ),
        ("[age]", "[choose]\nnum_folds = 2\nalternatives = {}\n[age]", "needs alternatives"),
        (
            "[age]",
            "[choose]\nnum_folds = 2\nalternatives.x.num_epoch = 2\n[age]",
            "num_epoch",
        ),
        (
            "[age]",
            "[choose]\nnum_folds = 2\nalternatives.x.num_variants = 2\n[age]",
            "num_variants cannot be chosen",
        ),
        (
            "[age]",
            "[choose]\nnum_folds = 2\nalternatives.x.changes = {}\n[age]",
            "changes cannot be chosen",
        ),
        ("[age]", "[age]\nchanges = { wind = {} }", "wind"),
        ("[age]", "[pretrain.dream]\nnum_epochs = 2\n[age]", "dream"),
        ("[age]", "[pretrain.masked]\nnum_epochs = 2\n[age]", "pretrain.masked"),
        ("[run]", "[run", "line 2"),
        ("rank = 24", "rank = ", "line"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_path_and_the_fault(
    recipe_path: Path, old: str, new: str, says: str
) -> None:
    assert old in RECIPE
    recipe_path.write_text(RECIPE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_recipe(recipe_path)
    assert str(recipe_path) in str(caught.value)
    assert says in str(caught.value)


def test_a_missing_recipe_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.toml"):
        read_recipe(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("index\n1\n", "missing: tissue"),
        ("index\ttissue\n1\tbone\n", "found bone"),
        ("index\ttissue\ttissue\n1\tcortex\twhite_matter\n", "'tissue' as columns 2 and 3"),
        ("index\ttissue\n1\tcortex\n1\twhite_matter\n", "each once"),
        ("index\ttissue\nn/a\tcortex\n", "whole numbers"),
    ],
)
def test_a_wrong_label_table_is_refused(
    recipe_path: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    run = replace(read_recipe(recipe_path).run, label_table=str(tmp_path / "labels.tsv"))
    if content is not None:
        (tmp_path / "labels.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        run.tissues(tmp_path)


def test_labels_that_come_after_the_scan_are_prepared_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registration had moved the scan by 2 mm, one voxel: the label moves along."""
    zeros = Volume(np.zeros(MODEL_GRID.shape, np.float32), MODEL_GRID)
    shift = np.eye(4)
    shift[0, 3] = 2.0
    state = ScanState(path=tmp_path, t1w=zeros, brain_mask=zeros, scan_to_template=shift)
    calls: list[Path] = []
    cohort = PreparedCohort(tmp_path, Preprocessor(PreprocessConfig()))
    monkeypatch.setattr(Preprocessor, "__call__", lambda _, path, *__: calls.append(path) or state)
    write_raw(tmp_path / "t1w.nii.gz", 1)
    scan = StudyScan(
        name="01",
        participant_id="01",
        session_id=None,
        chronological_age=50.0,
        t1w=tmp_path / "t1w.nii.gz",
        labels=None,
    )
    cohort.prepare(scan)
    assert cohort.read(scan).labels is None
    labels = np.zeros(MODEL_GRID.shape, np.int16)
    labels[40, 50, 60] = 7
    grid = SpatialGrid(MODEL_GRID.shape, MODEL_GRID.affine, "scan")
    write_volume(tmp_path / "dseg.nii.gz", Volume(labels, grid))
    labelled = replace(scan, labels=tmp_path / "dseg.nii.gz")
    cohort.prepare(labelled)
    moved = cohort.read(labelled).labels
    assert moved is not None
    assert np.argwhere(moved.data == 7).tolist() == [[41, 50, 60]]
    assert len(calls) == 1, "the scan itself is prepared once"


def test_batches_hold_every_scan_once_an_epoch(
    small_config: ModelConfig, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven scans in batches of three: 3, 3, 1, twice over."""
    seen: list[Tensor] = []

    def record(_: nn.Module, stage: Stage, *__: Any, **___: Any) -> History:
        assert len(stage.batches) == 6
        assert stage.steps_per_epoch == 3
        seen.extend(stage.batches[step].tensors[1] for step in range(6))
        return History()

    monkeypatch.setattr("ermoe_ba.training.age.fit", record)
    planted = _planted(small_tokens, 7, seed=0)
    config = replace(AGE, num_epochs=2, batch_size=3)
    train_age(ErmoeBrainAge(small_config, small_tokens), planted.described, planted.ages, config, 0)
    assert [len(ages) for ages in seen] == [3, 3, 1, 3, 3, 1]
    for epoch in (seen[:3], seen[3:]):
        np.testing.assert_allclose(np.sort(torch.cat(epoch).numpy()), np.sort(planted.ages))
