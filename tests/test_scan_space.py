"""Maps on the scan's own grid: a marker planted on the left of the front is found there again."""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from ermoe_ba.assets import template
from ermoe_ba.atlas import load_atlas
from ermoe_ba.maps import TokenPlaces
from ermoe_ba.naming import ScanName
from ermoe_ba.outputs import ScanResult, write_scan
from ermoe_ba.predict import Prediction, map_prediction
from ermoe_ba.preprocess import ScanState
from ermoe_ba.scan_files import SCAN_SPACE, remove_scan, scan_files
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.t1w import read_scan_grid, read_t1w
from ermoe_ba.tokens import TokenGrid

NAMES = ("grey_matter", "free_1")
BASELINE = 47.0
# The marker: in the template, left (x < 0), in front (y > 0), above (z > 0).
MARKER_MM = np.array([-32.0, 34.0, 24.0])


def _tokens() -> TokenGrid:
    return TokenGrid.over(template("desc-brain_mask"), 8, 0.2)


def _marked(tokens: TokenGrid) -> int:
    return int(((tokens.centres_mm - MARKER_MM) ** 2).sum(axis=1).argmin())


def _prediction(tokens: TokenGrid) -> Prediction:
    """Five years at the marker, none elsewhere; only there the free expert wins."""
    mark, weights = _marked(tokens), np.tile([0.75, 0.25], (len(tokens), 1))
    weights[mark] = [0.125, 0.875]
    years = np.zeros((len(tokens), 2))
    years[mark] = [1.0, 4.0]
    return Prediction(
        predicted_age=BASELINE + 5.0,
        lower=40.0,
        upper=60.0,
        baseline_years=BASELINE,
        member_ages=(BASELINE + 5.0,),
        weights_te=weights,
        contributions_te=years,
        member_weights_mte=weights[None].astype(np.float32),
        member_contributions_mte=years[None].astype(np.float32),
        fallback_share=0.0,
        description_distance=None,
        interval_widening=None,
    )


def _turn(degrees: tuple[float, float, float], scale: float, shift: list[float]) -> Array:
    matrix = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * scale
    return np.asarray(from_matvec(matrix, shift))


# A head that is smaller than the template, turned and moved: scan to template, mm to mm.
SCAN_TO_TEMPLATE = _turn((8.0, -5.0, 12.0), 1.1, [3.0, -20.0, 15.0])

# Grids of scans: unequal voxels; axes along the scanner's, stored to the back, up and left, or
# turned away from them.
STRAIGHT = np.array([[0, 0, -3.0, 96], [-1.2, 0, 0, 120], [0, 0.9, 0, -110], [0, 0, 0, 1.0]])
OBLIQUE = _turn((25.0, 10.0, -15.0), 1.0, [0.0, 0.0, 0.0]) @ STRAIGHT
SHAPE = (190, 230, 60)


def _written(folder: Path, affine: Array, wanted: tuple[str, ...] = tuple(SCAN_SPACE)) -> Path:
    """Write the files of a scan with that header, as `predict` does; return the scan."""
    scan = folder / "sub-x_T1w.nii.gz"
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[::2] = 1
    nib.Nifti1Image(data, affine).to_filename(scan)
    tokens = _tokens()
    card = SimpleNamespace(
        model=SimpleNamespace(
            expert_names=NAMES, regions=NAMES[:1], num_free_experts=1, num_experts=2
        ),
        coverage=0.9,
        preprocessing_id="p",
        provenance={},
    )
    ensemble = SimpleNamespace(
        card=card,
        tokens=tokens,
        model_id="m",
        member_stems=[0],
        widening=None,
        training_scans=None,
    )
    prediction, mask = _prediction(tokens), template("desc-brain_mask")
    result = ScanResult(
        scan=ScanName(path=scan, name="sub-x", participant_id="x", session_id=None),
        row={"status": "ok", "predicted_age": prediction.predicted_age},
        input_sha256="0",
        state=ScanState(
            path=scan,
            t1w=mask.same_grid(mask.data.astype(np.float32)),
            brain_mask=mask,
            scan_to_template=SCAN_TO_TEMPLATE,
        ),
        figures={},
        checks=(),
        prediction=prediction,
        maps=map_prediction(ensemble, prediction, mask),
    )
    atlas = load_atlas("ICBMTissue")
    write_scan(folder, result, ensemble, atlas, report=False, forced=False, scan_space=wanted)
    return scan


def _centre_in_template(image: nib.Nifti1Image, where: Array) -> Array:
    """Return the middle of some voxels of a map in scan space, in the template's mm."""
    world = apply_affine(image.affine, np.argwhere(where))
    return np.asarray(apply_affine(SCAN_TO_TEMPLATE, world).mean(axis=0))


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_a_marker_comes_back_to_its_place_in_the_scan(tmp_path: Path, affine: Array) -> None:
    scan = _written(tmp_path, affine)
    assert np.abs(np.linalg.det(affine[:3, :3])) == pytest.approx(1.2 * 0.9 * 3.0)
    loaded = {key: nib.load(tmp_path / f"sub-x_{suffix}") for key, suffix in SCAN_SPACE.items()}
    for image in loaded.values():
        assert image.shape[:3] == SHAPE
        np.testing.assert_allclose(image.affine, nib.load(scan).affine, atol=1e-4)
        # 1: the scanner's space.
        assert image.header["sform_code"] == 1
    years = loaded["contributions"].get_fdata()
    written = json.loads((tmp_path / "sub-x_prediction.json").read_text(encoding="utf-8"))
    assert written["baseline_years"] + years.sum() == pytest.approx(
        written["predicted_age"], abs=1e-4
    )
    expected = _tokens().centres_mm[_marked(_tokens())]
    # The marked token reaches beyond the brain nowhere, so its middle is the marker's: within half
    # the longest voxel.
    assert np.abs(_centre_in_template(loaded["contributions"], years > 0) - expected).max() < 1.5
    winners = np.asanyarray(loaded["winners"].dataobj)
    assert np.abs(_centre_in_template(loaded["winners"], winners == 2) - expected).max() < 1.5
    np.testing.assert_array_equal(winners == 2, years > 0)
    weights = loaded["experts"].get_fdata()
    brain = winners > 0
    np.testing.assert_allclose(weights.sum(axis=-1), brain, atol=1e-6)
    np.testing.assert_array_equal(np.where(brain, weights.argmax(axis=-1) + 1, 0), winners)
    # 16 mm cubed of the template, in the smaller scan; its 15 mm are five thick planes or four.
    volume = np.count_nonzero(years) * 1.2 * 0.9 * 3.0
    assert volume == pytest.approx(16.0**3 / 1.1**3, rel=0.1)


def test_left_stays_left_along_the_scans_own_axes(tmp_path: Path) -> None:
    """The third axis is stored from right to left: the marker lies in its far half."""
    _written(tmp_path, STRAIGHT, ("contributions",))
    years = nib.load(tmp_path / f"sub-x_{SCAN_SPACE['contributions']}").get_fdata()
    middle = (96.0 - np.linalg.inv(SCAN_TO_TEMPLATE)[0, 3]) / 3.0
    assert np.argwhere(years > 0)[:, 2].min() > middle


def test_only_the_maps_asked_for_are_written_and_a_new_run_removes_them(tmp_path: Path) -> None:
    _written(tmp_path, OBLIQUE, ("winners",))
    there = {path.name for path in tmp_path.iterdir()} - {"sub-x_T1w.nii.gz"}
    assert there == scan_files("sub-x", maps=True, report=False, scan_space=("winners",))
    assert there - scan_files("sub-x", maps=True, report=False) == {
        f"sub-x_{SCAN_SPACE['winners']}"
    }
    remove_scan(tmp_path, "sub-x")
    assert [path.name for path in tmp_path.iterdir()] == ["sub-x_T1w.nii.gz"]


def test_years_beyond_the_field_of_view_go_to_the_nearest_token_that_is_seen() -> None:
    """Three tokens in a row; of the scan, the first two are seen, at 1 mm instead of 2."""
    grid = SpatialGrid((6, 2, 2), np.diag([2.0, 2.0, 2.0, 1.0]), "row")
    tokens = TokenGrid(grid, 2, np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]]))
    places = TokenPlaces.of(tokens, Volume(np.ones(grid.shape, dtype=np.uint8), grid))
    # Voxel centres from 0.25 to 6.25 mm: the third token's voxels at 8 and 10 mm are not seen.
    seen = SpatialGrid((7, 4, 4), from_matvec(np.eye(3), [0.25, 0.25, 0.25]), "scan")
    on_scan = places.on_scan(seen, np.eye(4))
    assert set(np.unique(on_scan.bearing.data)) == {0, 1, 2}
    years = on_scan.years(np.array([1.0, 2.0, -4.0])).data
    assert years[on_scan.bearing.data == 1].sum() == pytest.approx(1.0)
    assert years[on_scan.bearing.data == 2].sum() == pytest.approx(-2.0)


def test_a_scan_that_shows_no_token_has_no_place_for_years() -> None:
    grid = SpatialGrid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]), "row")
    tokens = TokenGrid(grid, 2, np.array([[0, 0, 0]]))
    places = TokenPlaces.of(tokens, Volume(np.ones(grid.shape, dtype=np.uint8), grid))
    far = SpatialGrid((3, 3, 3), from_matvec(np.eye(3), [100.0, 0.0, 0.0]), "scan")
    with pytest.raises(ValueError, match="years would be lost"):
        places.on_scan(far, np.eye(4)).years(np.array([1.0]))


def test_the_header_alone_gives_the_grid_that_reading_gives(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(*SHAPE, 1)
    nib.Nifti1Image(data, OBLIQUE).to_filename(path)
    assert read_scan_grid(path) == read_t1w(path).grid
