"""Derivatives: names that BIDS accepts, content that comes back, nothing out of date used."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ermoe_ba.derivative_dataset import describe_dataset
from ermoe_ba.derivatives import (
    derivatives_of,
    itk_affine,
    read_derivative,
    remove_derivative,
    write_derivative,
)
from ermoe_ba.errors import UsageError
from ermoe_ba.naming import ScanName, name_scans
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState
from ermoe_ba.space import MODEL_GRID, Volume

CONFIG = PreprocessConfig()
# Beside the interpreter, where an environment that was not activated has it.
VALIDATOR = shutil.which(
    "bids-validator-deno", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
# Turned about the third axis by the angle of the 3-4-5 triangle, stretched and moved.
SCAN_TO_TEMPLATE = np.array([[0.66, -0.88, 0, 5], [0.8, 0.6, 0, -7], [0, 0, 0.9, 11], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return Preprocessor(CONFIG)


@pytest.fixture
def state() -> ScanState:
    """Values without a pattern, so that no mix-up of axes or voxels can go unseen."""
    noise = np.random.default_rng(3).random(MODEL_GRID.shape, dtype=np.float32)
    return ScanState(
        path=Path("sub-01_T1w.nii.gz"),
        t1w=Volume(noise, MODEL_GRID),
        brain_mask=Volume((noise > 0.5).astype(np.uint8), MODEL_GRID),
        scan_to_template=SCAN_TO_TEMPLATE,
        figures={"brain_volume_ml": 1432.123456789012, "template_correlation": 0.5},
        flags=("brain_already_extracted",),
    )


def _scan(name: str) -> ScanName:
    (scan,) = name_scans([Path(name)])
    return scan


def test_a_derivative_comes_back_to_the_last_digit(
    tmp_path: Path, state: ScanState, preprocessor: Preprocessor
) -> None:
    (place,) = derivatives_of(tmp_path, [_scan("sub-01_T1w.nii.gz")])
    write_derivative(place, state, preprocessor, "a1")
    again = read_derivative(place, state.path, CONFIG.identity(), "a1")
    assert again is not None
    for one, other in ((again.image, state.image), (again.mask, state.mask)):
        np.testing.assert_array_equal(one.data, other.data)
        assert one.data.dtype == other.data.dtype
        assert one.grid == MODEL_GRID
    np.testing.assert_array_equal(again.scan_to_template, SCAN_TO_TEMPLATE)
    assert (again.path, again.figures, again.flags) == (state.path, state.figures, state.flags)


def test_the_sidecar_tells_steps_settings_versions_and_figures(
    tmp_path: Path, state: ScanState, preprocessor: Preprocessor
) -> None:
    (place,) = derivatives_of(tmp_path, [_scan("sub-01_T1w.nii.gz")])
    write_derivative(place, state, preprocessor, "a1")
    content = json.loads(place.sidecar.read_text(encoding="utf-8"))
    steps = [type(step).__name__ for step in preprocessor.steps.transforms]
    assert content["Steps"] == steps
    assert {"LoadT1w", "ExtractBrain", "RegisterAffine"} <= set(steps)
    assert content["Settings"]["working_voxel_mm"] == CONFIG.working_voxel_mm
    assert content["Software"]["antspyx"]
    assert content["Figures"] == state.figures
    assert content["InputFile"] == "sub-01_T1w.nii.gz"
    assert not [path for path in place.files if not path.is_file()]


def _damage(name: str) -> Callable[..., None]:
    def cut(place, content):
        place.t1w.write_bytes(place.t1w.read_bytes()[:1000])

    def gone(place, content):
        place.mask.unlink()

    def moved(place, content):
        from ermoe_ba.io import read_volume, write_volume

        mask = read_volume(place.mask, "scan")
        grid = replace(mask.grid, affine=mask.grid.affine + 2 * np.eye(4)[:, [3, 0, 1, 2]])
        write_volume(place.mask, Volume(mask.data, grid))

    def text(place, content):
        place.sidecar.write_text("{", encoding="utf-8")

    def no_affine(place, content):
        del content["ScanToTemplateAffine"]
        place.sidecar.write_text(json.dumps(content), encoding="utf-8")

    def half_affine(place, content):
        content["ScanToTemplateAffine"] = [[1, 0], [0, 1]]
        place.sidecar.write_text(json.dumps(content), encoding="utf-8")

    def a_list(place, content):
        place.sidecar.write_text("[]", encoding="utf-8")

    made = (cut, gone, moved, text, no_affine, half_affine, a_list)
    return {function.__name__: function for function in made}[name]


@pytest.mark.parametrize(
    "kind", ["cut", "gone", "moved", "text", "no_affine", "half_affine", "a_list"]
)
def test_a_damaged_derivative_is_not_used(
    tmp_path: Path, state: ScanState, preprocessor: Preprocessor, kind: str
) -> None:
    (place,) = derivatives_of(tmp_path, [_scan("sub-01_T1w.nii.gz")])
    write_derivative(place, state, preprocessor, "a1")
    assert read_derivative(place, state.path, CONFIG.identity(), "a1") is not None
    _damage(kind)(place, json.loads(place.sidecar.read_text(encoding="utf-8")))
    assert read_derivative(place, state.path, CONFIG.identity(), "a1") is None


def test_a_derivative_of_another_input_or_preprocessing_is_not_used(
    tmp_path: Path, state: ScanState, preprocessor: Preprocessor
) -> None:
    (place,) = derivatives_of(tmp_path, [_scan("sub-01_T1w.nii.gz")])
    write_derivative(place, state, preprocessor, "a1")
    other = replace(CONFIG, intensity_ceiling=2.0).identity()
    assert read_derivative(place, state.path, CONFIG.identity(), "b2") is None
    assert read_derivative(place, state.path, other, "a1") is None
    remove_derivative(place)
    assert read_derivative(place, state.path, CONFIG.identity(), "a1") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("file", "folder", "stem"),
    [
        ("sub-01_T1w.nii.gz", "sub-01/anat", "sub-01"),
        ("sub-01_ses-b_run-2_T1w.nii", "sub-01/ses-b/anat", "sub-01_ses-b_run-2"),
        ("sub-1_acq-x_rec-y_T1w.nii", "sub-1/anat", "sub-1_acq-x_rec-y"),
        ("IXI012-HH-1211_T1w.nii.gz", "sub-IXI012HH1211/anat", "sub-IXI012HH1211"),
        # Entities in another order than BIDS's are no BIDS name.
        ("sub-1_run-1_acq-x_T1w.nii", "sub-1/anat", "sub-1"),
        ("head.mgz", "sub-head/anat", "sub-head"),
    ],
)
def test_names_follow_bids(tmp_path: Path, file: str, folder: str, stem: str) -> None:
    (place,) = derivatives_of(tmp_path, [_scan(file)])
    assert place.folder == tmp_path / folder
    assert place.t1w.name == f"{stem}_space-MNI152NLin2009aSym_res-2_desc-preproc_T1w.nii.gz"


def test_no_two_scans_share_a_derivative(tmp_path: Path) -> None:
    paths = ["a-b.nii", "ab.nii", "AB.nii", "d/x.nii", "e/x.nii", "sub-1_run-1_acq-x_T1w.nii"]
    scans = name_scans([Path(path) for path in (*paths, "sub-1_T1w.nii")])
    places = derivatives_of(tmp_path, scans)
    assert len({str(place.t1w).lower() for place in places}) == len(scans)


def test_the_affine_is_what_itk_reads(tmp_path: Path) -> None:
    """A point of the template comes out where the inverse says, in ITK's signs (LPS+)."""
    import ants

    path = tmp_path / "xfm.txt"
    path.write_text(itk_affine(SCAN_TO_TEMPLATE), encoding="utf-8")
    transform = ants.read_transform(str(path))
    template_ras = np.array([13.0, -21.0, 34.0])
    scan_ras = (np.linalg.inv(SCAN_TO_TEMPLATE) @ [*template_ras, 1])[:3]
    signs = np.array([-1, -1, 1])
    found = ants.apply_ants_transform_to_point(transform, template_ras * signs)
    np.testing.assert_allclose(found, scan_ras * signs, atol=1e-9)


def test_a_folder_that_something_else_made_is_left_alone(tmp_path: Path) -> None:
    description = tmp_path / "dataset_description.json"
    for content in ('{"GeneratedBy": [{"Name": "fMRIPrep"}]}', '{"Name": "raw"}', "[", "[]"):
        description.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match="must be a new folder"):
            describe_dataset(tmp_path)
        assert description.read_text(encoding="utf-8") == content
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["README.md", ".bidsignore", "desc-brain_mask.json"])
def test_no_file_of_somebody_else_is_replaced(tmp_path: Path, name: str) -> None:
    """``--out .`` in the folder of a project must not cost its README."""
    (tmp_path / name).write_bytes(b"mine \xff")
    with pytest.raises(UsageError, match=f"found {re.escape(name)}, which would be replaced"):
        describe_dataset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"mine \xff"


def test_a_folder_that_was_half_described_is_gone_on_with(tmp_path: Path) -> None:
    """The description comes last: where it is missing, a run was killed before it."""
    describe_dataset(tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "dataset_description.json").unlink()
    describe_dataset(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_describing_a_folder_again_changes_nothing(tmp_path: Path) -> None:
    describe_dataset(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    describe_dataset(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


@pytest.mark.skipif(not VALIDATOR, reason="needs bids-validator-deno")
def test_the_bids_validator_accepts_it(
    tmp_path: Path, state: ScanState, preprocessor: Preprocessor
) -> None:
    describe_dataset(tmp_path)
    scans = name_scans([Path("sub-01_ses-b_run-2_T1w.nii"), Path("IXI-2_T1w.nii")])
    for place in derivatives_of(tmp_path, scans):
        write_derivative(place, state, preprocessor, "a1")
    call = [str(VALIDATOR), tmp_path, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert not errors
    assert done.returncode == 0
