"""DICOM series: a marked voxel keeps its place in the head; what is no one series is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ermoe_ba.dicom import dicom_files, patient_age
from ermoe_ba.errors import ScanError
from ermoe_ba.t1w import content_hash, read_t1w

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("dicom2nifti")

# Rows, columns and slices differ, and so do the sizes of voxels along each.
ROWS, COLUMNS, SLICES = 24, 20, 26
ROW_MM, COLUMN_MM, SLICE_MM = 5.0, 6.0, 4.0
# Patient coordinates (LPS+) of the middle of the first voxel of the first slice.
ORIGIN = np.array([-57.0, -60.0, -50.0])
# Row, column and slice of one bright voxel, near the patient's left, back and top.
MARK = (20, 17, 23)

WriteSeries = Callable[..., Path]


@pytest.fixture
def write_series(tmp_path: Path) -> WriteSeries:
    """Write an axial series of single slices, of which `change` may spoil each header."""

    def write(
        name: str = "series", change: Callable[[Any, int], None] | None = None, **tags: Any
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        series = pydicom.uid.generate_uid()
        noise = np.random.default_rng(1).integers(0, 500, (SLICES, ROWS, COLUMNS))
        noise[MARK[2], MARK[0], MARK[1]] = 4000
        for number in range(SLICES):
            slice_ = pydicom.Dataset()
            slice_.file_meta = pydicom.dataset.FileMetaDataset()
            slice_.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            slice_.SOPClassUID = pydicom.uid.MRImageStorage
            slice_.SOPInstanceUID = pydicom.uid.generate_uid()
            slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID
            slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
            slice_.SeriesInstanceUID = series
            slice_.SeriesDescription = "t1_mprage"
            slice_.Modality = "MR"
            slice_.Manufacturer = "Nobody"
            slice_.PatientAge = "045Y"
            slice_.EchoTime = 2.5
            slice_.InstanceNumber = number + 1
            slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            slice_.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + number * SLICE_MM]
            slice_.PixelSpacing = [ROW_MM, COLUMN_MM]
            slice_.SliceThickness = SLICE_MM
            slice_.Rows, slice_.Columns = ROWS, COLUMNS
            slice_.SamplesPerPixel = 1
            slice_.PhotometricInterpretation = "MONOCHROME2"
            slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
            slice_.PixelRepresentation = 0
            slice_.PixelData = noise[number].astype(np.uint16).tobytes()
            for tag, value in tags.items():
                setattr(slice_, tag, value)
            if change:
                change(slice_, number)
            # Names in another order than the slices'.
            path = folder / f"IM{(number * 7) % SLICES:03d}"
            slice_.save_as(path, enforce_file_format=True)
        return folder

    return write


def test_a_marked_voxel_stays_where_it_is_in_the_patient(write_series: WriteSeries) -> None:
    """DICOM counts towards left and back, the grid towards right and front."""
    volume = read_t1w(write_series())
    assert sorted(volume.grid.shape) == sorted((ROWS, COLUMNS, SLICES))
    place = np.argwhere(volume.data == 4000)
    assert len(place) == 1
    row, column, number = MARK
    lps = ORIGIN + np.array([column * COLUMN_MM, row * ROW_MM, number * SLICE_MM])
    ras = volume.grid.affine @ [*place[0], 1]
    np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-3)
    assert sorted(volume.grid.voxel_sizes.round(3)) == [SLICE_MM, ROW_MM, COLUMN_MM]


def test_slope_and_intercept_are_applied(write_series: WriteSeries) -> None:
    """4000 stored, times 2, plus 3."""
    folder = write_series(RescaleSlope="2", RescaleIntercept="3")
    assert read_t1w(folder).data.max() == 8003


def _refusal(folder: Path) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_t1w(folder)
    assert str(folder) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"NumberOfFrames": "4"}, "multi-frame"),
        ({"SamplesPerPixel": 3}, "colour (RGB)"),
        ({"Modality": "CT"}, "Modality CT"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "not their brightness"),
    ],
)
def test_what_is_no_volume_of_grey_slices_is_refused_by_name(
    write_series: WriteSeries, tags: dict[str, Any], word: str
) -> None:
    assert word in _refusal(write_series(**tags)).found


def test_several_echoes_are_refused(write_series: WriteSeries) -> None:
    def echo(slice_: Any, number: int) -> None:
        slice_.EchoTime = (2.5, 4.75)[number % 2]

    assert _refusal(write_series(change=echo)).found == "2, at 2.5, 4.75 ms"


def test_several_series_are_refused_and_listed(write_series: WriteSeries) -> None:
    def split(slice_: Any, number: int) -> None:
        if number < 4:
            slice_.SeriesInstanceUID = "1.2.3"
            slice_.SeriesDescription = "localizer"

    found = _refusal(write_series(change=split)).found
    assert found.startswith("2: ")
    assert "localizer (4 files)" in found
    assert f"t1_mprage ({SLICES - 4} files)" in found


def test_a_series_with_a_gap_is_refused(write_series: WriteSeries) -> None:
    folder = write_series()
    missing = next(p for p in folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 10)
    missing.unlink()
    assert "can convert" in _refusal(folder).must_hold


def test_a_cut_file_is_refused(write_series: WriteSeries) -> None:
    folder = write_series()
    path = folder / "IM003"
    path.write_bytes(path.read_bytes()[:-400])
    _refusal(folder)


@pytest.mark.parametrize(
    ("stated", "years"),
    [("045Y", 45.0), ("018M", 1.5), ("052W", 364 / 365.25), ("", None), ("old", None)],
)
def test_the_age_that_a_series_states(
    write_series: WriteSeries, stated: str, years: float | None
) -> None:
    with pydicom.config.disable_value_validation():
        folder = write_series(PatientAge=stated)
    found = patient_age(folder)
    assert found == (None if years is None else pytest.approx(years))


def test_the_index_of_a_disc_is_no_series(write_series: WriteSeries, tmp_path: Path) -> None:
    folder = write_series()
    plain = read_t1w(folder)
    index = folder / "DICOMDIR"
    index.write_bytes(bytes(128) + b"DICM" + bytes(64))
    np.testing.assert_array_equal(read_t1w(folder).data, plain.data)
    # In the root of a disc it lies alone: the scans are below.
    disc = tmp_path / "disc"
    disc.mkdir()
    index.rename(disc / index.name)
    assert dicom_files(disc) == []


def test_other_files_of_the_folder_are_not_counted(write_series: WriteSeries) -> None:
    folder = write_series()
    before = content_hash(folder)
    (folder / "notes.txt").write_text("brain", encoding="utf-8")
    assert len(dicom_files(folder)) == SLICES
    assert content_hash(folder) == before
