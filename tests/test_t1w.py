"""A scan is read only if it can be one head, and says why not."""

import errno
import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from ermoe_ba.errors import ScanError
from ermoe_ba.t1w import content_hash, read_scan_grid, read_t1w

WriteHead = Callable[..., Path]

# Where the NIfTI-1 standard puts what the tests spoil: offset in bytes and struct format.
FIELDS = {
    "dim": (40, "8h"),
    "pixdim_xyz": (80, "3f"),
    "scaling": (112, "2f"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quaternion": (256, "3f"),
    "sform": (280, "12f"),
}


def _spoil(path: Path, **fields: tuple[float, ...]) -> Path:
    """Overwrite fields in the header of a little-endian NIfTI-1 file."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    for name, values in fields.items():
        offset, layout = FIELDS[name]
        struct.pack_into(f"<{layout}", content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def _refusal(path: Path) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_t1w(path)
    error = caught.value
    assert str(path) in str(error)
    assert error.found in str(error)
    assert error.remedy in str(error)
    assert "\n" not in str(error)
    return error


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
    path = _spoil(write_head("scaled.nii", data=data), scaling=(2.0, -3.0))
    volume = read_t1w(path)
    assert volume.data[3, 5, 7] == 11.0
    assert volume.data[0, 0, 0] == -3.0


def test_the_sform_counts_before_the_qform(write_head: WriteHead) -> None:
    path = write_head("both.nii")
    sform = np.array([[0, -5, 0, 11], [5, 0, 0, 22], [0, 0, 5, 33]], dtype=float)
    _spoil(path, sform_code=(1,), qform_code=(1,), sform=tuple(sform.ravel()))
    image = nib.load(path)
    assert not np.allclose(image.get_qform()[:3], sform), "the two must differ for this test"
    np.testing.assert_allclose(read_t1w(path).grid.affine[:3], sform)


def test_the_qform_counts_where_there_is_no_sform(write_head: WriteHead) -> None:
    path = write_head("qform.nii")
    sform = tuple(np.diag([3.0, 3.0, 3.0, 1.0])[:3].ravel())
    _spoil(path, sform_code=(0,), qform_code=(1,), sform=sform)
    np.testing.assert_allclose(read_t1w(path).grid.voxel_sizes, 5.0)


# What is refused


def test_a_header_that_leaves_the_orientation_to_guess_is_refused(write_head: WriteHead) -> None:
    path = _spoil(write_head("guess.nii"), sform_code=(0,), qform_code=(0,))
    assert "codes 0" in _refusal(path).found


@pytest.mark.parametrize("code", [-1, 6, 99])
def test_codes_that_nifti_does_not_know_leave_the_orientation_to_guess(
    write_head: WriteHead, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = _spoil(write_head("guess.nii"), sform_code=(code,), qform_code=(code,))
    assert "codes 0" in _refusal(path).found
    # nibabel would tell what it mends, without a word on the file.
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no file" in _refusal(tmp_path / "absent.nii.gz").found


def test_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.nii"
    folder.mkdir()
    assert "no file" in _refusal(folder).found


@pytest.mark.parametrize("name", ["scan.mnc", "scan.dcm", "scan.gz", "scan.nii.bz2", "nii"])
def test_a_file_of_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"content")
    assert repr(name) in _refusal(path).found


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz"])
def test_a_text_that_was_renamed_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("participant_id\tage\n01\t55\n" * 50, encoding="utf-8")
    assert "readable NIfTI" in _refusal(path).must_hold


@pytest.mark.parametrize("name", ["empty.nii", "empty.nii.gz", "empty.mgh"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    refusal = _refusal(path)
    assert "readable" in refusal.must_hold
    assert "0 bytes" in refusal.found


def test_a_link_to_content_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "head.nii.gz"
    path.symlink_to("../annex/SHA256-1")
    for read in (read_t1w, content_hash):
        with pytest.raises(ScanError, match=r"a link to \.\./annex/SHA256-1.*not there") as caught:
            read(path)
        assert "datalad get" in caught.value.remedy


@pytest.mark.parametrize("name", [f"{'x' * 300}.nii", f"{'x' * 300}/head.nii"])
def test_a_path_that_cannot_even_be_asked_for_is_that_scan_s_fault(
    tmp_path: Path, name: str
) -> None:
    """The system answers with an error, as it does for folders that may not be entered."""
    for read in (content_hash, read_t1w, read_scan_grid):
        with pytest.raises(ScanError, match="x" * 300) as caught:
            read(tmp_path / name)
        assert caught.value.found == os.strerror(errno.ENAMETOOLONG)


def test_links_in_a_circle_are_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "head.nii.gz"
    path.symlink_to(path)
    for read in (content_hash, read_t1w):
        with pytest.raises(ScanError) as caught:
            read(path)
        assert caught.value.found == os.strerror(errno.ELOOP)


def test_a_cifti_file_is_refused(tmp_path: Path) -> None:
    """CIFTI-2 is written as .nii too, but holds a matrix of grey ordinates."""
    brain = nib.cifti2.BrainModelAxis.from_mask(np.ones(30, dtype=bool), name="CORTEX_LEFT")
    scalars = nib.cifti2.ScalarAxis(["thickness"])
    path = tmp_path / "surface.dscalar.nii"
    nib.Cifti2Image(np.ones((1, 30)), header=(scalars, brain)).to_filename(path)
    _refusal(path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
def test_a_truncated_file_is_refused(write_head: WriteHead, name: str, kept: float) -> None:
    noise = np.random.default_rng(1).integers(0, 1000, (20, 22, 24))
    path = write_head(name, data=noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    _refusal(path)


def test_a_damaged_archive_is_refused(write_head: WriteHead) -> None:
    noise = np.random.default_rng(1).integers(0, 1000, (20, 22, 24))
    path = write_head("head.nii.gz", data=noise)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 40):
        content[place] ^= 0xFF
    path.write_bytes(content)
    _refusal(path)


def test_a_single_flipped_bit_is_refused(write_head: WriteHead) -> None:
    """An archive of unpacked blocks takes any byte for a voxel: its checksum alone can tell."""
    content = write_head("head.nii").read_bytes()
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[len(packed) // 2] ^= 1
    path = write_head("head.nii.gz")
    path.write_bytes(packed)
    assert "CRC check failed" in _refusal(path).found


@pytest.mark.parametrize("lost", [1, 8])
def test_an_archive_that_lacks_its_checksum_is_refused(write_head: WriteHead, lost: int) -> None:
    path = write_head("head.nii.gz")
    path.write_bytes(path.read_bytes()[:-lost])
    assert "truncated" in _refusal(path).remedy


@pytest.mark.parametrize("behind", [b"\n", b"text", b"\0" * 600, gzip.compress(b"another")])
def test_what_follows_an_archive_is_ignored(write_head: WriteHead, behind: bytes) -> None:
    path = write_head("head.nii.gz")
    plain = read_t1w(path)
    path.write_bytes(path.read_bytes() + behind)
    np.testing.assert_array_equal(read_t1w(path).data, plain.data)


def test_what_is_mended_in_a_header_is_not_printed(
    write_head: WriteHead, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_head("head.nii.gz")
    plain = read_t1w(path)
    mended = read_t1w(_spoil(path, pixdim_xyz=(-5.0, 5.0, -5.0)))
    np.testing.assert_array_equal(mended.data, plain.data)
    assert mended.grid == plain.grid
    assert not caplog.records


@pytest.mark.parametrize("shape", [(20, 22, 24, 2), (20, 22, 24, 1, 3)])
def test_a_series_is_refused(write_head: WriteHead, shape: tuple[int, ...]) -> None:
    assert str(shape) in _refusal(write_head(shape=shape)).found


def test_a_single_slice_is_refused(write_head: WriteHead) -> None:
    path = write_head(data=np.arange(440.0).reshape(20, 22))
    assert "(20, 22)" in _refusal(path).found


def test_a_stack_of_few_slices_is_refused(write_head: WriteHead) -> None:
    assert "(20, 22, 15)" in _refusal(write_head(shape=(20, 22, 15))).found


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_that_shows_nothing_is_refused(write_head: WriteHead, value: int) -> None:
    path = write_head(data=np.full((20, 22, 24), value))
    assert f"the same value, {value}," in _refusal(path).found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_refused(
    write_head: WriteHead, value: float
) -> None:
    data = np.random.default_rng(1).random((20, 22, 24))
    data[:2, 0, 0] = value
    data[5, 5, 5] = value
    assert _refusal(write_head(data=data, dtype=np.float32)).found.startswith("3 voxels")


def test_a_voxel_size_of_zero_in_the_sform_is_refused(write_head: WriteHead) -> None:
    sform = np.diag([5.0, 0.0, 5.0, 1.0])[:3]
    path = _spoil(write_head("flat.nii"), sform=tuple(sform.ravel()))
    assert "0.0" in _refusal(path).found


def test_a_voxel_size_of_zero_is_not_taken_for_one_millimetre(write_head: WriteHead) -> None:
    """Without an sform the affine hangs on it; 100 voxels of 1 mm would just pass for a head."""
    path = write_head("lost.nii", shape=(100, 22, 24))
    _spoil(path, pixdim_xyz=(0.0, 5.0, 5.0), sform_code=(0,), qform_code=(1,))
    assert "0.0" in _refusal(path).found


@pytest.mark.parametrize("mm", [0.005, 0.05, 20.0, 5000.0, np.nan, np.inf])
def test_an_absurd_voxel_size_in_the_header_is_refused(write_head: WriteHead, mm: float) -> None:
    path = _spoil(write_head("absurd.nii"), pixdim_xyz=(5.0, mm, 5.0))
    assert "header" in _refusal(path).found


@pytest.mark.parametrize("mm", [0.005, 0.05, 20.0, 5000.0, np.nan, np.inf])
def test_an_absurd_voxel_size_in_the_affine_is_refused(write_head: WriteHead, mm: float) -> None:
    sform = np.diag([5.0, mm, 5.0, 1.0])[:3]
    sform[~np.eye(3, 4, dtype=bool)] = 0.0
    path = _spoil(write_head("absurd.nii"), sform=tuple(sform.ravel()))
    assert "affine" in _refusal(path).found


def test_an_affine_with_two_equal_columns_is_refused(write_head: WriteHead) -> None:
    sform = np.array([[5, 5, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0]], dtype=float)
    path = _spoil(write_head("singular.nii"), sform=tuple(sform.ravel()))
    error = _refusal(path)
    assert "invertible" in error.must_hold
    assert "volume of 0" in error.found


def test_an_affine_without_a_finite_origin_is_refused(write_head: WriteHead) -> None:
    sform = np.diag([5.0, 5.0, 5.0, 1.0])[:3]
    sform[0, 3] = np.nan
    _refusal(_spoil(write_head("nowhere.nii"), sform=tuple(sform.ravel())))


def test_a_field_of_view_too_small_for_a_brain_is_refused(write_head: WriteHead) -> None:
    """17 voxels of 5 mm measure 85 mm; 18 measure the 90 mm that are asked for."""
    assert "85.0" in _refusal(write_head("small.nii", shape=(20, 17, 24))).found
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
    tracemalloc.start()
    try:
        error = _refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "at most" in error.must_hold
    assert str(shape) in error.found
    assert peak < 10e6


def test_colours_are_refused(write_head: WriteHead) -> None:
    rgb = np.zeros((20, 22, 24), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"][5:10] = 200
    assert "data type" in _refusal(write_head("rgb.nii", data=rgb, dtype=rgb.dtype)).found


def test_complex_voxels_are_refused(write_head: WriteHead) -> None:
    assert "complex64" in _refusal(write_head("complex.nii", dtype=np.complex64)).found
