"""The cohort that scans are compared with: its centre, its spread and its sides."""

from pathlib import Path

import numpy as np
import pytest
from template_scans import template_brain

from ermoe_ba.assets import template
from ermoe_ba.errors import UsageError
from ermoe_ba.quality import load_limits, load_reference
from ermoe_ba.quality.reference import (
    COMPONENTS,
    cell_means,
    fit_reference,
    inside_cells,
    save_reference,
)
from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume

LIMITS = {limit.flag: limit for limit in load_limits().limits}


@pytest.fixture(scope="module")
def cohort() -> np.ndarray:
    """Thirty scans: noise about the template's brain, the left hemisphere a little brighter."""
    rng = np.random.default_rng(3)
    means = cell_means(Volume(np.ones(MODEL_GRID.shape, np.float32), MODEL_GRID), template_brain())
    side = np.zeros_like(means)
    side[: len(means) // 2] = 0.05
    return means + side + rng.normal(0, 0.05, (30, *means.shape))


def test_a_scan_on_another_grid_cannot_be_measured() -> None:
    other = SpatialGrid(MODEL_GRID.shape, MODEL_GRID.affine, "scan")
    volume = Volume(np.zeros(other.shape, np.float32), other)
    with pytest.raises(ValueError, match="model grid"):
        cell_means(volume, volume)


def test_the_mean_scan_lies_at_distance_0_and_distance_is_in_standard_deviations(cohort) -> None:
    reference = fit_reference(cohort)
    mean = np.zeros(cohort.shape[1:])
    mean[inside_cells()] = reference.mean_c
    assert reference.training_distance(mean) == pytest.approx(0.0, abs=1e-9)
    away = mean.copy()
    step = 3 * np.sqrt(reference.variance_k[0])
    away[inside_cells()] += step * reference.components_kc[0]
    # Three deviations along one of C directions: sqrt(9 / C).
    count = int(inside_cells().sum())
    assert reference.training_distance(away) == pytest.approx(3 / np.sqrt(count))


def test_the_mirror_image_has_the_opposite_score_and_equal_sides_none(cohort) -> None:
    reference = fit_reference(cohort)
    for cells in cohort[:5]:
        assert reference.side_score(cells[::-1]) == pytest.approx(-reference.side_score(cells))
        assert reference.side_score(cells) > 0.5
        assert reference.side_score(cells + cells[::-1]) == pytest.approx(0.0, abs=1e-12)
    assert reference.side_score(cohort.mean(axis=0)) == pytest.approx(1.0)


def test_cells_of_mirror_images_are_mirror_images() -> None:
    rng = np.random.default_rng(2)
    scan = Volume(rng.random(MODEL_GRID.shape).astype(np.float32), MODEL_GRID)
    mirrored = Volume(scan.data[::-1].copy(), MODEL_GRID)
    everywhere = Volume(np.ones(MODEL_GRID.shape, np.uint8), MODEL_GRID)
    np.testing.assert_allclose(
        cell_means(mirrored, everywhere), cell_means(scan, everywhere)[::-1], rtol=1e-5
    )


def test_the_shipped_reference_knows_left_from_right() -> None:
    """The template is symmetric and has no sides; the cohort's mean has them, and so its mirror."""
    reference = load_reference()
    t1w = template("desc-brain_T1w").data.astype(np.float32) / 255
    score = reference.side_score(cell_means(Volume(t1w, MODEL_GRID), template_brain()))
    assert abs(score) < abs(LIMITS["mirrored_look"].flag_at)
    mean = np.zeros(inside_cells().shape)
    mean[inside_cells()] = reference.mean_c
    # Kept in single precision.
    assert reference.side_score(mean) == pytest.approx(1.0, abs=1e-5)
    assert LIMITS["mirrored_look"].flags(reference.side_score(mean[::-1]))


def test_few_scans_describe_no_cohort(cohort) -> None:
    with pytest.raises(ValueError, match=f"More than {COMPONENTS + 1} scans"):
        fit_reference(cohort[: COMPONENTS + 1])


def test_a_reference_survives_the_disk(cohort, tmp_path: Path) -> None:
    reference = fit_reference(cohort)
    save_reference(tmp_path / "cohort.safetensors", reference)
    again = load_reference(tmp_path / "cohort.safetensors")
    assert again.side_score(cohort[0]) == pytest.approx(reference.side_score(cohort[0]), rel=1e-4)
    with pytest.raises(UsageError, match=r"absent\.safetensors"):
        load_reference(tmp_path / "absent.safetensors")
