"""The whole of the preprocessing: its reading, its reasons to refuse, and its identity."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, Transform
from scan_states import white_matter
from scipy.spatial.transform import Rotation

from ermoe_ba.errors import ScanError
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState, pipeline
from ermoe_ba.preprocess import config as settings

WriteHead = Callable[..., Path]


@pytest.mark.parametrize(
    ("sizes", "shape", "edge"),
    [
        ((0.5, 0.5, 6.0), (190, 200, 20), 6.0),
        ((5.0, 1.0, 1.0), (20, 96, 96), 5.0),
        ((2.0000001, 2.0, 1.9999999), (50, 50, 50), 2.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_the_longest_edge_of_a_voxel_is_measured_however_the_slices_lie(
    write_head: WriteHead,
    sizes: tuple[float, float, float],
    shape: tuple[int, int, int],
    edge: float,
    degrees: float,
) -> None:
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    scan = write_head(shape=shape, affine=nib.affines.from_matvec(turn @ np.diag(sizes)))
    assert pipeline.LoadT1w()(ScanState(path=scan)).figures["voxel_edge_mm"] == edge


class _Fail(Transform):  # type: ignore[misc]
    def __call__(self, state: ScanState) -> ScanState:
        raise ValueError("a defect of ours")


@pytest.fixture
def preprocessor(monkeypatch: pytest.MonkeyPatch) -> Preprocessor:
    """Neither atlas nor network weights: the steps after loading are cut off."""
    monkeypatch.setattr(pipeline, "template", lambda _suffix: white_matter())
    whole = Preprocessor(PreprocessConfig())
    whole.steps = Compose(list(whole.steps.transforms[:2]))
    return whole


def test_a_scan_is_loaded_and_put_in_ras_order(
    preprocessor: Preprocessor, write_head: WriteHead
) -> None:
    affine = np.diag([-5.0, 5.0, 5.0, 1.0])
    path = write_head("las.nii.gz", affine=affine)
    state = preprocessor(path)
    np.testing.assert_array_equal(state.image.data, nib.load(path).get_fdata()[::-1])
    assert state.path == path


def test_the_reason_to_refuse_a_scan_reaches_the_caller_unwrapped(
    preprocessor: Preprocessor, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.nii.gz"
    with pytest.raises(ScanError, match=r"absent\.nii\.gz") as caught:
        preprocessor(absent)
    assert caught.value.found == "no file of that name"


def test_a_defect_is_not_taken_for_a_bad_scan(
    preprocessor: Preprocessor, write_head: WriteHead
) -> None:
    preprocessor.steps = Compose([*preprocessor.steps.transforms, _Fail()])
    with pytest.raises(RuntimeError, match="_Fail") as caught:
        preprocessor(write_head())
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_same_settings_have_the_same_identity() -> None:
    identity = PreprocessConfig().identity()
    assert identity == PreprocessConfig().identity()
    assert identity == PreprocessConfig(working_voxel_mm=2.0).identity()
    assert len(identity) == 12


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(PreprocessConfig)])
def test_any_other_setting_gives_another_identity(name: str) -> None:
    config = PreprocessConfig()
    value = getattr(config, name)
    other = (value[0] + 1, *value[1:]) if isinstance(value, tuple) else value + 1
    changed = dataclasses.replace(config, **{name: other})
    assert changed.identity() != config.identity()


def test_another_revision_of_the_code_gives_another_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = PreprocessConfig().identity()
    monkeypatch.setattr(settings, "REVISION", settings.REVISION + 1)
    assert PreprocessConfig().identity() != before
