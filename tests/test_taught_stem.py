"""A stem taught on a phantom: it learns the phantom's own tissue, once, from people of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ermoe_ba.assets import template
from ermoe_ba.attribution.phantom_scans import PhantomScans
from ermoe_ba.attribution.planted import Describer
from ermoe_ba.attribution.taught_stem import LessonConfig, taught_stem
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import TISSUES, ModelConfig
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.regions import REGIONS, TISSUE_OF_INDEX
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.loop import OptimiserConfig
from ermoe_ba.training.tissue import TissueConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TISSUE = TissueConfig(
    num_steps=120,
    scans_per_step=1,
    voxels_per_scan=256,
    outside_share=0.1,
    gain_sd=0.0,
    noise_sd=0.0,
    optimiser=OptimiserConfig(
        learning_rate=0.02, warmup_share=0.1, max_gradient_norm=1.0, ema_decay=0.5
    ),
)
LESSONS = LessonConfig(subjects=2, seed=3, phantom=PhantomConfig(seed=1000))
TESTED = PhantomConfig(seed=1)
HIPPOCAMPUS = next(region.index for region in REGIONS if region.name == "hippocampus_L")
WHITE = next(region.index for region in REGIONS if region.name == "frontal_white_L")


def _two_tissues(_: PhantomScans, index: int) -> PreparedScan:
    """Bright in front, where the phantom calls it white matter; dark behind: the hippocampus."""
    mask = template("desc-brain_mask")
    front = np.indices(mask.data.shape)[1] > 54
    inside = mask.data > 0
    t1w = np.where(inside, np.where(front, 1.0, 0.6), 0.0).astype(np.float32)
    labels = np.where(inside, np.where(front, WHITE, HIPPOCAMPUS), 0).astype(np.int16)
    return PreparedScan(
        participant_id=str(index),
        t1w=mask.same_grid(t1w),
        brain_mask=mask,
        labels=mask.same_grid(labels),
    )


def _teach(
    folder: Path, model: ModelConfig, tokens: TokenGrid, lessons: LessonConfig = LESSONS
) -> Describer:
    return taught_stem(
        lessons,
        tissue=TISSUE,
        model=model,
        tokens=tokens,
        preprocess=PreprocessConfig(),
        folder=folder,
        tested=TESTED,
    )


def test_it_learns_the_phantom_s_labels_once(
    tmp_path: Path,
    small_config: ModelConfig,
    small_tokens: TokenGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PhantomScans, "scan", _two_tissues)
    taught = _teach(tmp_path, small_config, small_tokens)
    bright, dark = (_said(taught, value) for value in (1.0, 0.6))
    # Of random weights a class of ten would have a tenth.
    assert bright[TISSUES.index("cerebral_white")] > 0.5
    assert dark[TISSUES.index("medial_temporal")] > 0.5
    monkeypatch.setattr(PhantomScans, "scan", None)
    again = _teach(tmp_path, small_config, small_tokens)
    assert again.identity == taught.identity
    assert not again.network.training
    for name, weights in taught.network.stem.state_dict().items():
        assert torch.equal(weights, again.network.stem.state_dict()[name])


def _said(taught: Describer, value: float) -> Tensor:
    """Return what the stem takes a voxel of an even picture for, in the middle of the grid."""
    windows = torch.full((1, 125), value)
    with torch.no_grad():
        logits = taught.network.stem.of_samples(windows, windows, torch.zeros(1, 3))
    return logits.softmax(dim=1)[0]


def test_other_lessons_are_another_stem(
    tmp_path: Path,
    small_config: ModelConfig,
    small_tokens: TokenGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PhantomScans, "scan", _two_tissues)
    monkeypatch.setattr("ermoe_ba.attribution.taught_stem.train_stem", lambda *_: None)
    others = (
        LESSONS,
        replace(LESSONS, seed=4),
        replace(LESSONS, subjects=1),
        replace(LESSONS, phantom=PhantomConfig(seed=1001)),
    )
    found = {_teach(tmp_path, small_config, small_tokens, one).identity for one in others}
    assert len(found) == len(list(tmp_path.iterdir())) == len(others)
    # Kept descriptions are found by the stem's identity: on other tokens they are others.
    fewer = replace(small_tokens, positions=small_tokens.positions[:-1])
    assert _teach(tmp_path, small_config, fewer).identity not in found


def test_nobody_is_tested_whom_it_learnt_from(
    tmp_path: Path, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    same = replace(LESSONS, phantom=replace(TESTED, youngest=20.0))
    with pytest.raises(UsageError, match="another seed"):
        _teach(tmp_path, small_config, small_tokens, same)
    with pytest.raises(ValueError, match="subjects must be at least 1; found 0"):
        replace(LESSONS, subjects=0)


def test_every_index_of_the_phantom_s_maps_has_a_tissue() -> None:
    assert sorted(TISSUE_OF_INDEX) == list(range(1, len(REGIONS) + 3))
    assert set(TISSUE_OF_INDEX.values()) <= set(TISSUES)
