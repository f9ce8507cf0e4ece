"""Scans of simulated sites: what is done anew and what is left, on the template's brain."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from ermoe_ba.assets import template
from ermoe_ba.changes import CHANGES
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.io import write_volume
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState
from ermoe_ba.simulated_sites import SimulatedSite, Step
from ermoe_ba.site_scans import scan_head, scan_prepared
from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume
from ermoe_ba.t1w import read_t1w

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return Preprocessor(PreprocessConfig())


@pytest.fixture(scope="module")
def prepared() -> PreparedScan:
    """The template's brain, white matter near 1."""
    brain = (template("desc-brain_mask").data > 0).astype(np.uint8)
    image = template("desc-brain_T1w").data.astype(np.float32) * brain
    white = np.median(image[template("label-WM_probseg").data >= 230])
    return PreparedScan(
        participant_id="01",
        t1w=Volume(np.clip(image / white, 0, 1.5), MODEL_GRID),
        brain_mask=Volume(brain, MODEL_GRID),
        labels=None,
    )


def _site(*steps: Step, extracted: bool = False) -> SimulatedSite:
    return SimulatedSite(name="s", steps=steps, extracted=extracted)


def _white(state: ScanState) -> float:
    return float(np.median(state.image.data[template("label-WM_probseg").data >= 230]))


def test_intensities_are_normalised_anew(
    prepared: PreparedScan, preprocessor: Preprocessor
) -> None:
    """Four times the intensity is no change; another contrast is one, with white matter at 1."""
    plain = scan_prepared(prepared, _site(), preprocessor, RNG)
    brighter = _site(Step(change="scale_values", amount=4.0))
    found = scan_prepared(prepared, brighter, preprocessor, RNG)
    np.testing.assert_allclose(plain.image.data, prepared.t1w.data, atol=1e-5)
    np.testing.assert_allclose(found.image.data, plain.image.data, atol=1e-5)
    bent = _site(Step(change="bend_contrast", amount=0.7))
    other = scan_prepared(prepared, bent, preprocessor, RNG)
    assert _white(plain) == pytest.approx(1.0, abs=0.02)
    assert _white(other) == pytest.approx(1.0, abs=0.02)
    inside = prepared.brain_mask.data > 0
    assert other.image.data[inside].mean() > plain.image.data[inside].mean() + 0.02


def test_what_preprocessing_undoes_is_left_out(
    prepared: PreparedScan, preprocessor: Preprocessor
) -> None:
    undone = _site(Step(change="add_bias", amount=0.5), Step(change="turn_head", amount=20.0))
    plain, found = (scan_prepared(prepared, site, preprocessor, RNG) for site in (_site(), undone))
    np.testing.assert_array_equal(found.image.data, plain.image.data)


def test_a_brain_cut_out_elsewhere_has_the_mask_of_what_is_left(
    prepared: PreparedScan, preprocessor: Preprocessor
) -> None:
    found = scan_prepared(prepared, _site(extracted=True), preprocessor, RNG)
    inner = binary_erosion(prepared.brain_mask.data > 0)
    np.testing.assert_array_equal(found.mask.data > 0, inner & (prepared.t1w.data > 0))
    assert found.image.data[~inner].max() == 0.0


def test_other_slices_come_back_to_the_model_grid_and_are_thicker(
    prepared: PreparedScan, preprocessor: Preprocessor
) -> None:
    plain = scan_prepared(prepared, _site(), preprocessor, RNG).image
    site = _site(Step(change="thicken_slices", amount=6.0))
    found = scan_prepared(prepared, site, preprocessor, RNG).image
    assert found.grid == MODEL_GRID
    rough = [[np.abs(np.diff(v.data, axis=axis)).mean() for v in (plain, found)] for axis in (0, 2)]
    # Steps from slice to slice shrink, those within a slice hardly.
    assert rough[1][1] < 0.85 * rough[1][0]
    assert rough[0][1] / rough[0][0] > rough[1][1] / rough[1][0] + 0.05


class Recorder:
    """Stands for the preprocessing: remembers the scan that it was given."""

    seen: Volume

    def __call__(self, path: Path) -> ScanState:
        self.seen = read_t1w(path)
        return ScanState(path=path, t1w=self.seen)


def test_a_head_is_changed_on_its_own_grid_and_preprocessed_from_the_start(
    tmp_path: Path,
) -> None:
    affine = np.diag([5.0, 6.0, 4.0, 1.0])
    grid = SpatialGrid((30, 28, 40), affine, "scan")
    data = np.random.default_rng(1).uniform(10, 90, grid.shape).astype(np.float32)
    cavity = np.zeros(grid.shape, np.int16)
    cavity[5:25, 5:25, 5:35] = 47
    head, labels = tmp_path / "h_T1w.nii.gz", tmp_path / "h_dseg.nii.gz"
    write_volume(head, Volume(data, grid))
    write_volume(labels, Volume(cavity, grid))
    site = _site(Step(change="add_noise", amount=0.1), extracted=True)
    recorder = Recorder()
    scan_head(head, labels, site, recorder, np.random.default_rng(7))  # type: ignore[arg-type]
    noisy = CHANGES["add_noise"](Volume(data, grid), 0.1, np.random.default_rng(7)).data
    expected = np.zeros_like(noisy)
    expected[6:24, 6:24, 6:34] = noisy[6:24, 6:24, 6:34]
    np.testing.assert_allclose(recorder.seen.data, expected, rtol=1e-6)
    assert recorder.seen.grid == grid
