"""A scan is read only if it can be one head, and says why not."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from peak_memory import with_peak
from spoilt_scans import WriteHead, refusal_of, spoil_header

from ermoe_ba.t1w import read_t1w

# What a good scan is


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_a_head_of_any_real_type_is_read_as_single_precision(
    write_head: WriteHead, name: str, dtype: npt.DTypeLike
) -> None:
    path = write_head(name, dtype=dtype)
    volume = read_t1w(path)
    assert volume.data.dtype == np.float32
    assert volume.grid.space == "scan"
    assert volume.grid.shape == (20, 22, 24)
    np.testing.assert_array_equal(volume.data, nib.load(path).get_fdata())


def test_a_trailing_axis_of_length_one_is_dropped(write_head: WriteHead) -> None:
    flat = read_t1w(write_head("flat.nii.gz"))
    deep = read_t1w(write_head("deep.nii.gz", shape=(20, 22, 24, 1)))
    assert deep.data.shape == (20, 22, 24)
    np.testing.assert_array_equal(deep.data, flat.data)


def test_stored_integers_are_scaled_by_slope_and_intercept(write_head: WriteHead) -> None:
    """Slope 2 and intercept -3 turn a stored 7 into 11."""
    data = np.zeros((20, 22, 24), dtype=np.int16)
    data[3, 5, 7] = 7
    path = spoil_header(write_head("scaled.nii", data=data), scaling=(2.0, -3.0))
    volume = read_t1w(path)
    assert volume.data[3, 5, 7] == 11.0
    assert volume.data[0, 0, 0] == -3.0


def test_the_sform_counts_before_the_qform(write_head: WriteHead) -> None:
    path = write_head("both.nii")
    sform = np.array([[0, -5, 0, 11], [5, 0, 0, 22], [0, 0, 5, 33]], dtype=float)
    spoil_header(path, sform_code=(1,), qform_code=(1,), sform=tuple(sform.ravel()))
    image = nib.load(path)
    assert not np.allclose(image.get_qform()[:3], sform), "the two must differ for this test"
    np.testing.assert_allclose(read_t1w(path).grid.affine[:3], sform)


def test_the_qform_counts_where_there_is_no_sform(write_head: WriteHead) -> None:
    path = write_head("qform.nii")
    sform = tuple(np.diag([3.0, 3.0, 3.0, 1.0])[:3].ravel())
    spoil_header(path, sform_code=(0,), qform_code=(1,), sform=sform)
    np.testing.assert_allclose(read_t1w(path).grid.voxel_sizes, 5.0)


# What is refused


def test_a_header_that_leaves_the_orientation_to_guess_is_refused(write_head: WriteHead) -> None:
    path = spoil_header(write_head("guess.nii"), sform_code=(0,), qform_code=(0,))
    assert "codes 0" in refusal_of(path).found


@pytest.mark.parametrize("code", [-1, 6, 99])
def test_codes_that_nifti_does_not_know_leave_the_orientation_to_guess(
    write_head: WriteHead, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = spoil_header(write_head("guess.nii"), sform_code=(code,), qform_code=(code,))
    assert "codes 0" in refusal_of(path).found
    # nibabel would tell what it mends, without a word on the file.
    assert capfd.readouterr().err == ""


def test_what_is_mended_in_a_header_is_not_printed(
    write_head: WriteHead, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_head("head.nii.gz")
    plain = read_t1w(path)
    mended = read_t1w(spoil_header(path, pixdim_xyz=(-5.0, 5.0, -5.0)))
    np.testing.assert_array_equal(mended.data, plain.data)
    assert mended.grid == plain.grid
    assert not caplog.records


@pytest.mark.parametrize("shape", [(20, 22, 24, 2), (20, 22, 24, 1, 3)])
def test_a_series_is_refused(write_head: WriteHead, shape: tuple[int, ...]) -> None:
    assert str(shape) in refusal_of(write_head(shape=shape)).found


def test_a_single_slice_is_refused(write_head: WriteHead) -> None:
    path = write_head(data=np.arange(440.0).reshape(20, 22))
    assert "(20, 22)" in refusal_of(path).found


def test_a_stack_of_few_slices_is_refused(write_head: WriteHead) -> None:
    assert "(20, 22, 15)" in refusal_of(write_head(shape=(20, 22, 15))).found


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_that_shows_nothing_is_refused(write_head: WriteHead, value: int) -> None:
    path = write_head(data=np.full((20, 22, 24), value))
    assert f"the same value, {value}," in refusal_of(path).found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_refused(
    write_head: WriteHead, value: float
) -> None:
    data = np.random.default_rng(1).random((20, 22, 24))
    data[:2, 0, 0] = value
    data[5, 5, 5] = value
    assert refusal_of(write_head(data=data, dtype=np.float32)).found.startswith("3 voxels")


def test_a_voxel_size_of_zero_in_the_sform_is_refused(write_head: WriteHead) -> None:
    sform = np.diag([5.0, 0.0, 5.0, 1.0])[:3]
    path = spoil_header(write_head("flat.nii"), sform=tuple(sform.ravel()))
    assert "0.0" in refusal_of(path).found


def test_a_voxel_size_of_zero_is_not_taken_for_one_millimetre(write_head: WriteHead) -> None:
    """Without an sform the affine hangs on it; 100 voxels of 1 mm would just pass for a head."""
    path = write_head("lost.nii", shape=(100, 22, 24))
    spoil_header(path, pixdim_xyz=(0.0, 5.0, 5.0), sform_code=(0,), qform_code=(1,))
    assert "0.0" in refusal_of(path).found


@pytest.mark.parametrize("mm", [0.005, 0.05, 20.0, 5000.0, np.nan, np.inf])
def test_an_absurd_voxel_size_in_the_header_is_refused(write_head: WriteHead, mm: float) -> None:
    path = spoil_header(write_head("absurd.nii"), pixdim_xyz=(5.0, mm, 5.0))
    assert "header" in refusal_of(path).found


@pytest.mark.parametrize("mm", [0.005, 0.05, 20.0, 5000.0, np.nan, np.inf])
def test_an_absurd_voxel_size_in_the_affine_is_refused(write_head: WriteHead, mm: float) -> None:
    sform = np.diag([5.0, mm, 5.0, 1.0])[:3]
    sform[~np.eye(3, 4, dtype=bool)] = 0.0
    path = spoil_header(write_head("absurd.nii"), sform=tuple(sform.ravel()))
    assert "affine" in refusal_of(path).found


def test_an_affine_with_two_equal_columns_is_refused(write_head: WriteHead) -> None:
    sform = np.array([[5, 5, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0]], dtype=float)
    path = spoil_header(write_head("singular.nii"), sform=tuple(sform.ravel()))
    error = refusal_of(path)
    assert "invertible" in error.must_hold
    assert "volume of 0" in error.found


def test_an_affine_without_a_finite_origin_is_refused(write_head: WriteHead) -> None:
    sform = np.diag([5.0, 5.0, 5.0, 1.0])[:3]
    sform[0, 3] = np.nan
    refusal_of(spoil_header(write_head("nowhere.nii"), sform=tuple(sform.ravel())))


def test_a_field_of_view_too_small_for_a_brain_is_refused(write_head: WriteHead) -> None:
    """17 voxels of 5 mm measure 85 mm; 18 measure the 90 mm that are asked for."""
    assert "85.0" in refusal_of(write_head("small.nii", shape=(20, 17, 24))).found
    assert read_t1w(write_head("enough.nii", shape=(20, 18, 24))).grid.shape == (20, 18, 24)


@pytest.mark.parametrize("name", ["huge.nii", "huge.nii.gz"])
@pytest.mark.parametrize("shape", [(2000, 2000, 2000), (1000, 1000, 1000)])
def test_a_header_that_announces_gigabytes_is_refused_before_memory_is_taken(
    tmp_path: Path, name: str, shape: tuple[int, int, int]
) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_sform(np.diag([0.3, 0.3, 0.3, 1.0]), 1)
    header.set_zooms((0.3, 0.3, 0.3))
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    content = header.binaryblock + bytes(1000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    error, peak = with_peak(lambda: refusal_of(path))
    assert "at most" in error.must_hold
    assert str(shape) in error.found
    assert peak < 10e6


def test_colours_are_refused(write_head: WriteHead) -> None:
    rgb = np.zeros((20, 22, 24), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"][5:10] = 200
    assert "data type" in refusal_of(write_head("rgb.nii", data=rgb, dtype=rgb.dtype)).found


def test_complex_voxels_are_refused(write_head: WriteHead) -> None:
    assert "complex64" in refusal_of(write_head("complex.nii", dtype=np.complex64)).found
