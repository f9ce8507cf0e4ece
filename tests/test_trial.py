"""Trials: a planted token is found by what has learnt it, and by nothing that has not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from quick_settings import AGE as QUICK_AGE
from quick_settings import OPTIMISER
from torch import Tensor

from ermoe_ba.atlas import Atlas
from ermoe_ba.attribution.methods import METHODS
from ermoe_ba.attribution.phantom_scans import PhantomScans
from ermoe_ba.attribution.planted import Describer, PlantedCohort
from ermoe_ba.attribution.trial import NETWORKS, NULLS, Trial, TrialConfig, age_map, run_trial
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import FRACTION
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.regions import TISSUE_OF_INDEX
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.space import MODEL_GRID, Array, SpatialGrid, Volume
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")

AGE = replace(
    QUICK_AGE,
    num_variants=0,
    num_epochs=3,
    batch_size=10,
    optimiser=replace(OPTIMISER, learning_rate=0.003),
)
ONE_COPY = replace(AGE, num_variants=1)
TRIAL = TrialConfig(num_folds=3, seed=5, num_untrained=3, num_compared=2, curve_steps=3)


def _cohort(tokens: TokenGrid) -> tuple[Tensor, Array, int]:
    """Thirty subjects: all tokens vary by chance, one of them follows the age besides."""
    random = np.random.default_rng(2)
    ages = random.uniform(50, 90, 30)
    described = random.uniform(0.05, 0.15, (30, len(tokens), len(FAMILIES), len(TISSUES)))
    token = len(tokens) // 3
    described[:, token] += 0.3 * ((ages - 50) / 40)[:, None, None]
    described *= np.array(list(FAMILIES.values()))[:, None]
    return torch.as_tensor(described, dtype=torch.float32), ages, token


def _run(tokens: TokenGrid, model: ModelConfig, described: Tensor, ages: Array) -> Trial:
    return run_trial(described[:, None], ages, tokens=tokens, model=model, age=AGE, config=TRIAL)


def test_the_planted_token_is_found_by_the_trained_network(
    small_tokens: TokenGrid, small_config: ModelConfig
) -> None:
    described, ages, token = _cohort(small_tokens)
    trial = _run(small_tokens, small_config, described, ages)
    assert set(trial.years) == set(NETWORKS)
    np.testing.assert_array_equal(trial.fold_n, np.arange(30) % 3)
    error = np.abs(trial.predicted_n - ages).mean()
    # Twenty subjects teach that much; 0.6 was measured, and 1 is the median.
    assert error < 0.8 * np.abs(ages - np.median(ages)).mean()
    assert {name: len(years) for name, years in trial.years.items()} == {
        "trained": 1,
        "untrained": 3,
        "shuffled_ages": 1,
    }
    trained = age_map(trial.years["trained"][0], ages)
    assert trained.argmax() == token
    share = trained[token] / trained.sum()
    for name in NULLS:
        for years in trial.years[name]:
            null = age_map(years, ages)
            # Some share is due by chance; a map of zeros would be no null.
            assert 0 < null[token] / null.sum() < share
    for name, draws in (("trained", 1), ("untrained", 3)):
        answers = trial.answers[name]
        assert answers.scans == 6, "two of each fold"
        assert {each.shape for each in answers.mean_absolute.values()} == {
            (draws, len(small_tokens))
        }
        assert set(answers.mean_absolute) == set(METHODS)
        assert set(answers.curves) == {*METHODS, "random_order"}
        assert answers.curves["contribution"].insertion_s[-1] == pytest.approx(1.0)
        assert answers.curves["contribution"].insertion_s[0] == pytest.approx(0.0, abs=1e-6)
    for name in ("contribution", "occlusion", "integrated_gradients"):
        assert trial.answers["trained"].mean_absolute[name][0].argmax() == token
    curves = trial.answers["trained"].curves
    found, chance = (curves[name] for name in ("contribution", "random_order"))
    assert found.deletion_area < chance.deletion_area
    assert trial.probe["mae"] < trial.probe["mae_zeroed"][0]


def test_experts_may_be_tied_to_regions_of_an_atlas(
    small_tokens: TokenGrid, small_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the atlas where tokens know nothing of it; from the tokens where they do.

    The region is all of the grid, so that it fills of each token what lies on the grid.
    """
    described, ages, _ = _cohort(small_tokens)
    labels = pd.DataFrame({"index": [1], "name": ["All"], "hemisphere": ["n/a"]})
    everywhere = Volume(np.ones(small_tokens.grid.shape, dtype=np.int32), small_tokens.grid)
    atlas = Atlas(name="tiny", dseg=everywhere, labels=labels, licence="none")
    tied = {"regions": ("csf", "part"), "region_labels": {"part": ("all",)}}
    model = replace(small_config, region_atlas="tiny", **tied)
    monkeypatch.setattr("ermoe_ba.training.atlas_regions.load_atlas", {"tiny": atlas}.__getitem__)
    read = _run(small_tokens, model, described, ages)
    assert np.isfinite(read.predicted_n).all()
    monkeypatch.setattr(
        "ermoe_ba.training.atlas_regions.load_atlas", lambda _: pytest.fail("the atlas was read")
    )

    def known(share_t: Array) -> Trial:
        return _run(replace(small_tokens, region_shares={"part": share_t}), model, described, ages)

    share_t = small_tokens.held_share(everywhere)
    np.testing.assert_array_equal(known(share_t).predicted_n, read.predicted_n)
    # The region's expert takes part: where its region fills nothing, ages are others.
    assert (known(0 * share_t).predicted_n != read.predicted_n).any()


def test_untrained_networks_are_drawn_one_by_one(
    small_tokens: TokenGrid, small_config: ModelConfig
) -> None:
    """All differ; the first is that of a trial of one draw, and the trained network's the same."""
    described, ages, _ = _cohort(small_tokens)
    settings = {"tokens": small_tokens, "model": small_config, "age": replace(AGE, num_epochs=1)}
    several, one = (
        run_trial(described[:, None], ages, config=replace(TRIAL, num_untrained=n), **settings)
        for n in (3, 1)
    )
    maps = [age_map(years, ages) for years in several.years["untrained"]]
    assert len({tuple(each) for each in maps}) == 3
    np.testing.assert_array_equal(several.years["untrained"][0], one.years["untrained"][0])
    np.testing.assert_array_equal(several.predicted_n, one.predicted_n)
    for method, values in one.answers["untrained"].mean_absolute.items():
        np.testing.assert_array_equal(
            several.answers["untrained"].mean_absolute[method][0], values[0]
        )
    # The first two held-out subjects of each fold: 0 and 3, 1 and 4, 2 and 5.
    compared = [n for fold in range(3) for n in (fold, fold + 3)]
    np.testing.assert_allclose(
        several.answers["untrained"].mean_absolute["contribution"],
        np.abs(several.years["untrained"][:, compared]).mean(axis=1),
        atol=1e-5,
    )


def test_a_subject_s_prediction_does_not_depend_on_its_age(
    small_tokens: TokenGrid, small_config: ModelConfig
) -> None:
    described, ages, _ = _cohort(small_tokens)
    other = ages.copy()
    # Fold 1 of three holds the subjects 1, 4, 7 and so on.
    other[1::3] = 70.0
    before = _run(small_tokens, small_config, described, ages)
    after = _run(small_tokens, small_config, described, other)
    np.testing.assert_array_equal(after.predicted_n[1::3], before.predicted_n[1::3])
    assert (after.predicted_n[0::3] != before.predicted_n[0::3]).all()


@pytest.mark.parametrize(
    "wrong", [{"num_folds": 1}, {"num_untrained": 0}, {"num_compared": 0}, {"curve_steps": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(TRIAL, **wrong)


CONFIG = PhantomConfig(seed=7, only=("hippocampus_L",), variation=0.5)


def _planted_cohort(folder: Path, member: object, config: PhantomConfig = CONFIG) -> PlantedCohort:
    scans = PhantomScans(config, PreprocessConfig())
    return PlantedCohort(scans, Describer(member, "m"), ONE_COPY, folder)  # type: ignore[arg-type]


class _Looks:
    """Stands for a stem: keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def describe(self, t1w: Tensor) -> Tensor:
        self.seen.append(t1w)
        return torch.full((1, 2, 4, 10), 0.25)


@pytest.mark.slow
def test_a_subject_lies_where_the_brain_at_rest_does(tmp_path: Path) -> None:
    """A known affine puts the scan on the model grid: white matter is 1, and the brain fits."""
    stem = _Looks()
    cohort = _planted_cohort(tmp_path, stem)
    described = cohort.described(1)
    assert described.shape == (1, 2, 2, 4, 10)
    t1w, copy = (seen[0].numpy() for seen in stem.seen)
    # Moved by a voxel at most, blurred a little: the same head, and not the same picture.
    assert 0.9 < np.corrcoef(t1w.ravel(), copy.ravel())[0, 1] < 0.9999
    inside = cohort.scans.brain_mask().data > 0
    overlap = 2 * (inside & (t1w > 0)).sum() / (inside.sum() + (t1w > 0).sum())
    # The rim of one voxel counts to the picture, not to the brain.
    assert overlap > 0.9
    anatomy = cohort.scans.anatomy
    white = np.isin(anatomy.labels(), range(21, 31))
    on_grid = Volume(white.astype(np.uint8), anatomy.grid)
    start = np.rint(on_grid.grid.affine[:3, 3] - MODEL_GRID.affine[:3, 3]).astype(int) // 2
    box = tuple(slice(a, a + n) for a, n in zip(start, white.shape, strict=True))
    assert np.median(t1w[box][white]) == pytest.approx(1.0, abs=0.05)
    labels = cohort.scans.scan(1).labels
    assert labels is not None
    assert labels.grid == MODEL_GRID
    # Labels lie on the scan: voxels that it calls white matter are bright, its fluid is dark.
    found = {tissue: [n for n, t in TISSUE_OF_INDEX.items() if t == tissue] for tissue in TISSUES}
    bright, dark = (
        np.median(t1w[np.isin(labels.data, found[tissue])])
        for tissue in ("cerebral_white", "ventricles")
    )
    assert bright == pytest.approx(1.0, abs=0.05)
    assert dark < 0.5
    # Kept: the stem is not asked again, and another cohort keeps its own.
    assert torch.equal(cohort.described(1), described)
    assert len(stem.seen) == 2
    other = _planted_cohort(tmp_path, stem, replace(CONFIG, seed=8))
    assert other.folder != cohort.folder
    eyes = PlantedCohort(cohort.scans, Describer(stem, "n"), ONE_COPY, tmp_path)  # type: ignore[arg-type]
    assert eyes.folder != cohort.folder


def test_the_planted_mask_is_the_region_on_the_model_grid() -> None:
    cohort = PhantomScans(CONFIG, PreprocessConfig())
    mask, brain = cohort.planted_mask(), cohort.brain_mask()
    assert mask.grid == brain.grid == MODEL_GRID
    assert (mask.data <= brain.data).all()
    centre = np.argwhere(mask.data > 0).mean(axis=0) @ MODEL_GRID.affine[:3, :3].T
    x, y, z = centre + MODEL_GRID.affine[:3, 3]
    # The left hippocampus: about (-27, -22, -14) mm in MNI space.
    assert np.hypot(np.hypot(x + 27, y + 22), z + 14) < 6
    # About 4 mL in a brain of the template's size.
    assert 3 < mask.data.sum() * MODEL_GRID.voxel_volume_ml < 8


def test_a_stem_follows_what_it_sees_of_the_planted_region(tmp_path: Path) -> None:
    """A token that holds the planted volume follows it; one that holds its opposite does not."""
    from ermoe_ba.phantom.latents import draw_subject
    from ermoe_ba.phantom.regions import REGIONS

    cohort = _planted_cohort(tmp_path, _Looks())
    place = [region.name for region in REGIONS].index("hippocampus_L")
    subjects = [draw_subject(CONFIG, n) for n in range(1, 7)]
    volumes = np.array([s.planted_ml[place] / s.intracranial_ml for s in subjects])
    described = torch.zeros(6, 2, len(FAMILIES), len(TISSUES))
    channel = TISSUES.index("medial_temporal")
    described[:, 0, FRACTION, channel] = torch.as_tensor(10 * volumes).float()
    described[:, 1, FRACTION, channel] = torch.as_tensor(-volumes).float()
    for share, expected in (([1.0, 0.0], 1.0), ([0.0, 1.0], -1.0), ([0.5, 0.5], 1.0)):
        found = cohort.stem_follows(described, "medial_temporal", np.array(share))
        assert found == pytest.approx(expected, abs=1e-5)


def test_ages_are_those_of_the_phantom(tmp_path: Path) -> None:
    from ermoe_ba.phantom.latents import draw_subject

    ages = _planted_cohort(tmp_path, _Looks()).ages(3)
    assert ages.tolist() == [draw_subject(CONFIG, n).age for n in (1, 2, 3)]


def test_a_box_on_another_lattice_is_laid_where_it_belongs() -> None:
    from ermoe_ba.attribution.phantom_scans import on_model_grid

    affine = MODEL_GRID.affine.copy()
    affine[:3, 3] += 2.0 * np.array([3, 5, 7])
    part = Volume(
        np.arange(1, 25, dtype=np.uint8).reshape(2, 3, 4), SpatialGrid((2, 3, 4), affine, "x")
    )
    whole = on_model_grid(part)
    np.testing.assert_array_equal(whole.data[3:5, 5:8, 7:11], part.data)
    assert np.count_nonzero(whole.data) == 24
