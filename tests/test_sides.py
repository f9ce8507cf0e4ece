"""Left and right through the whole path: a mark in one hemisphere, from the file to the maps."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ermoe_ba.assets import SAMPLE_HEAD
from ermoe_ba.checkpoint import Ensemble, load_ensemble
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.predict import map_prediction, predict_age
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import MODEL_GRID, Array

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# White matter of the left hemisphere, mm; the sample head lies nearly where the template does.
MARK_MM, RADIUS_MM = np.array([-28.0, -20.0, 28.0]), 9.0


def _saved(path: Path, marked: bool, axes: str) -> Path:
    """Save the sample head in another axis order, with or without a dark ball on its left."""
    image = nib.load(SAMPLE_HEAD)
    data = np.asarray(image.dataobj).astype(np.float32)
    world = nib.affines.apply_affine(image.affine, np.indices(data.shape).reshape(3, -1).T)
    away = np.linalg.norm(world - MARK_MM, axis=1).reshape(data.shape)
    if marked:
        data[away < RADIUS_MM] *= 0.3
    new = nib.Nifti1Image(data, image.affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    new.as_reoriented(turn).to_filename(path)
    return path


def _where(difference: Array) -> Array:
    """Return where the weight of a difference lies, in mm."""
    weight = np.abs(difference)
    index = np.indices(weight.shape).reshape(3, -1).T
    middle = (index * weight.reshape(-1, 1)).sum(axis=0) / weight.sum()
    return np.asarray(nib.affines.apply_affine(MODEL_GRID.affine, middle))


@pytest.mark.slow
def test_a_mark_on_the_left_stays_on_the_left_up_to_the_maps(tmp_path: Path) -> None:
    ensemble: Ensemble = load_ensemble(DEFAULT_MODEL, "cpu")
    preprocessor = Preprocessor(ensemble.card.preprocess)
    states = [
        preprocessor(_saved(tmp_path / f"{axes}_T1w.nii.gz", marked, axes))
        # A left-handed and a right-handed axis order.
        for marked, axes in ((False, "LPS"), (True, "PSR"))
    ]
    plain, marked = states
    both = (plain.mask.data > 0) & (marked.mask.data > 0)
    darker = np.where(both, plain.image.data - marked.image.data, 0)
    darker[darker < 0.3] = 0
    assert darker.any()
    place = _where(darker)
    assert place[0] < -10
    # The affine of the sample to the template moves it by millimetres.
    np.testing.assert_allclose(place, MARK_MM, atol=12)
    maps = [map_prediction(ensemble, predict_age(ensemble, s), s.mask).total.data for s in states]
    moved = np.where(both, maps[1] - maps[0], 0)
    left = MODEL_GRID.affine[0, 0] * np.arange(MODEL_GRID.shape[0]) + MODEL_GRID.affine[0, 3] < 0
    # The years that the mark adds or takes are read where it lies.
    assert np.abs(moved[left]).sum() > np.abs(moved[~left]).sum()
    peak = np.unravel_index(np.abs(moved).argmax(), moved.shape)
    assert nib.affines.apply_affine(MODEL_GRID.affine, peak)[0] < 0
