"""Formats: the same voxels in the same place from each, and a name for what is refused."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from peak_memory import with_peak

from ermoe_ba.errors import ScanError
from ermoe_ba.stored_volume import MAX_DISAGREEMENT_MM, MAX_OFFSET
from ermoe_ba.t1w import content_hash, form_disagreement_mm, read_t1w

WriteHead = Callable[..., Path]

# Offsets of the MGH header, from FreeSurfer's description of the format; all big-endian.
MGH_TYPE, MGH_GOOD_RAS, MGH_VOXELS = 20, 28, 284


def _refusal(path: Path) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_t1w(path)
    assert str(path) in str(caught.value)
    return caught.value


def _save_as(path: Path, source: Path) -> Path:
    """Write a NIfTI file's voxels and affine in another of nibabel's formats."""
    image = nib.load(source)
    kind = {
        ".mgz": nib.MGHImage,
        ".mgh": nib.MGHImage,
        ".hdr": nib.Nifti1Pair,
        ".img": nib.Nifti1Pair,
    }.get(path.suffix, nib.Nifti2Image)
    kind(np.asanyarray(image.dataobj), image.affine).to_filename(path)
    return path


@pytest.mark.parametrize("name", ["v2.nii", "v2.nii.gz", "p.hdr", "p.img", "f.mgh", "f.mgz"])
def test_every_format_gives_the_same_voxels_in_the_same_place(
    write_head: WriteHead, tmp_path: Path, name: str
) -> None:
    """A turned and stretched grid and one marked corner: no axis can be mixed up or mirrored."""
    affine = np.array([[0, 0, 6.0, -40], [-5.0, 0, 0, 55], [0, 5.5, 0, -60], [0, 0, 0, 1]])
    data = np.random.default_rng(1).integers(0, 900, (20, 22, 24))
    source = write_head("source.nii.gz", data=data, affine=affine)
    expected = read_t1w(source)
    volume = read_t1w(_save_as(tmp_path / name, source))
    np.testing.assert_array_equal(volume.data, expected.data)
    assert volume.data.dtype == np.float32
    assert volume.grid == expected.grid
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-4)


def _with_forms(path: Path, sform: np.ndarray | None, qform: np.ndarray | None) -> Path:
    image = nib.Nifti1Image(np.random.default_rng(1).random((20, 22, 24), np.float32), None)
    image.header.set_zooms((5.0, 5.0, 5.0))
    image.set_sform(sform, code=0 if sform is None else 1)
    image.set_qform(qform, code=0 if qform is None else 1)
    image.to_filename(path)
    return path


STRAIGHT = np.diag([5.0, 5.0, 5.0, 1.0])
FLIPPED = np.diag([-5.0, 5.0, 5.0, 1.0])
SHIFTED = np.array([[5.0, 0, 0, 3.0], [0, 5.0, 0, 4.0], [0, 0, 5.0, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("sform", "qform", "apart"),
    [
        (STRAIGHT, STRAIGHT, 0.0),
        (STRAIGHT, SHIFTED, 5.0),
        # The far end of 20 voxels of 5 mm goes to the other side: 2 x 19 x 5 mm.
        (STRAIGHT, FLIPPED, 190.0),
        (STRAIGHT, None, 0.0),
        (None, FLIPPED, 0.0),
    ],
)
def test_forms_that_disagree_are_measured_and_the_sform_counts(
    tmp_path: Path, sform: np.ndarray | None, qform: np.ndarray | None, apart: float
) -> None:
    path = _with_forms(tmp_path / "forms.nii.gz", sform, qform)
    assert form_disagreement_mm(path) == pytest.approx(apart, abs=1e-3)
    expected = qform if sform is None else sform
    np.testing.assert_allclose(read_t1w(path).grid.affine, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("pixdim", "apart"),
    [
        ((5.0, 5.0, 5.0), 0.0),
        # 19 steps of 5 mm along x that are 4.5 mm, by the other: the last voxel is 9.5 mm off.
        ((4.5, 5.0, 5.0), 9.5),
        # 19, 21 and 23 steps, each 0.1 mm longer.
        ((5.1, 5.1, 5.1), 0.1 * np.sqrt(19**2 + 21**2 + 23**2)),
        ((-5.0, 5.0, 5.0), 0.0),
    ],
)
def test_voxel_sizes_that_a_lone_sform_disagrees_with_are_measured(
    tmp_path: Path, pixdim: tuple[float, float, float], apart: float
) -> None:
    path = _with_forms(tmp_path / "forms.nii", STRAIGHT, None)
    content = bytearray(path.read_bytes())
    # pixdim[1] to [3] of the NIfTI-1 header.
    struct.pack_into("<3f", content, 80, *pixdim)
    path.write_bytes(content)
    assert form_disagreement_mm(path) == pytest.approx(apart, abs=1e-3)
    np.testing.assert_allclose(read_t1w(path).grid.affine, STRAIGHT)


def test_a_damaged_qform_beside_a_good_sform_is_the_worst_disagreement(tmp_path: Path) -> None:
    path = _with_forms(tmp_path / "forms.nii", STRAIGHT, STRAIGHT)
    content = bytearray(path.read_bytes())
    # quatern_b, c, d of the NIfTI-1 header: 2, 2, 2 is no unit quaternion.
    struct.pack_into("<3f", content, 256, 2.0, 2.0, 2.0)
    path.write_bytes(content)
    assert form_disagreement_mm(path) == MAX_DISAGREEMENT_MM
    np.testing.assert_allclose(read_t1w(path).grid.affine, STRAIGHT)


def test_big_endian_headers_are_read(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 900, (20, 22, 24)).astype(">i2")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(data, np.diag([5.0, 5, 5, 1]), header)
    image.to_filename(tmp_path / "big.nii")
    assert struct.unpack(">i", (tmp_path / "big.nii").read_bytes()[:4]) == (348,)
    np.testing.assert_array_equal(read_t1w(tmp_path / "big.nii").data, data)


@pytest.mark.parametrize("gone", [".hdr", ".img"])
def test_half_a_pair_is_refused(write_head: WriteHead, tmp_path: Path, gone: str) -> None:
    left = {".hdr": ".img", ".img": ".hdr"}[gone]
    _save_as(tmp_path / "p.hdr", write_head())
    (tmp_path / f"p{gone}").unlink()
    error = _refusal(tmp_path / f"p{left}")
    assert f"(p{gone})" in error.found
    assert "side by side" in error.must_hold


def test_an_analyze_header_is_refused_by_name(write_head: WriteHead, tmp_path: Path) -> None:
    image = nib.load(write_head())
    nib.AnalyzeImage(np.asanyarray(image.dataobj), None).to_filename(tmp_path / "old.hdr")
    error = _refusal(tmp_path / "old.img")
    assert "Analyze 7.5" in error.found
    assert "right" in error.must_hold


def test_a_nifti_header_of_a_pair_is_no_single_file(write_head: WriteHead, tmp_path: Path) -> None:
    _save_as(tmp_path / "p.hdr", write_head())
    (tmp_path / "alone.nii").write_bytes((tmp_path / "p.hdr").read_bytes() + bytes(20_000))
    assert "readable NIfTI" in _refusal(tmp_path / "alone.nii").must_hold


def test_a_freesurfer_volume_without_orientation_is_refused(
    write_head: WriteHead, tmp_path: Path
) -> None:
    path = _save_as(tmp_path / "f.mgh", write_head())
    content = bytearray(path.read_bytes())
    assert struct.unpack_from(">h", content, MGH_GOOD_RAS) == (1,)
    struct.pack_into(">h", content, MGH_GOOD_RAS, 0)
    path.write_bytes(content)
    assert "right and left to guess" in _refusal(path).found


def test_a_freesurfer_series_is_refused_by_name(tmp_path: Path) -> None:
    data = np.zeros((20, 22, 24, 3), dtype=np.float32)
    nib.MGHImage(data, np.diag([5.0, 5, 5, 1])).to_filename(tmp_path / "echoes.mgz")
    assert "a series of 3 volumes" in _refusal(tmp_path / "echoes.mgz").found


@pytest.mark.parametrize("kept", [100, MGH_VOXELS, MGH_VOXELS + 5000])
def test_a_truncated_freesurfer_volume_is_refused(
    write_head: WriteHead, tmp_path: Path, kept: int
) -> None:
    path = _save_as(tmp_path / "f.mgh", write_head())
    path.write_bytes(path.read_bytes()[:kept])
    _refusal(path)


def test_a_freesurfer_type_that_nobody_knows_is_refused(
    write_head: WriteHead, tmp_path: Path
) -> None:
    path = _save_as(tmp_path / "f.mgh", write_head())
    content = bytearray(path.read_bytes())
    struct.pack_into(">i", content, MGH_TYPE, 77)
    path.write_bytes(content)
    assert "readable MGH" in _refusal(path).must_hold


def test_gzip_under_a_plain_name_is_refused_by_name(write_head: WriteHead, tmp_path: Path) -> None:
    packed = write_head("head.nii.gz")
    packed.rename(tmp_path / "plain.nii")
    assert "does not end in .gz" in _refusal(tmp_path / "plain.nii").found


def test_gzip_inside_of_gzip_is_refused_by_name(write_head: WriteHead) -> None:
    path = write_head("head.nii.gz")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "inside of gzip" in _refusal(path).found


def test_a_cifti_file_is_refused_by_name(tmp_path: Path) -> None:
    brain = nib.cifti2.BrainModelAxis.from_mask(np.ones(30, dtype=bool), name="CORTEX_LEFT")
    path = tmp_path / "surface.dscalar.nii"
    axes = (nib.cifti2.ScalarAxis(["thickness"]), brain)
    nib.Cifti2Image(np.ones((1, 30)), header=axes).to_filename(path)
    assert "CIFTI" in _refusal(path).found


def _bomb(path: Path, header: bytes, megabytes: int) -> Path:
    """A small packed file that unpacks to far more than it should."""
    with gzip.open(path, "wb") as file:
        file.write(header)
        for _ in range(megabytes):
            file.write(bytes(2**20))
    return path


def test_a_packed_file_that_hides_its_voxels_far_away_is_not_unpacked(
    write_head: WriteHead, tmp_path: Path
) -> None:
    """NIfTI keeps the place of the voxels as a float at byte 108."""
    header = bytearray(write_head("head.nii").read_bytes()[:352])
    struct.pack_into("<f", header, 108, float(2 * MAX_OFFSET))
    error, peak = with_peak(lambda: _refusal(_bomb(tmp_path / "bomb.nii.gz", bytes(header), 64)))
    assert "start at byte" in error.found
    assert peak < 4e6


def test_an_extension_that_claims_gigabytes_takes_no_memory(
    write_head: WriteHead, tmp_path: Path
) -> None:
    """Notes follow at byte 352, after the flag at 348: their size in bytes, and a code."""
    whole = bytearray(write_head("head.nii").read_bytes())
    notes = struct.pack("<ii", 2**31 - 16, 6) + bytes(24)
    struct.pack_into("<f", whole, 108, 352.0 + len(notes))
    content = bytes(whole[:348]) + b"\1\0\0\0" + notes + bytes(whole[352:])
    path = tmp_path / "notes.nii.gz"
    path.write_bytes(gzip.compress(content))
    volume, peak = with_peak(lambda: read_t1w(path))
    np.testing.assert_array_equal(volume.data, read_t1w(tmp_path / "head.nii").data)
    assert peak < 4e6


def test_a_packed_file_is_unpacked_hardly_further_than_its_voxels(
    write_head: WriteHead, tmp_path: Path
) -> None:
    """64 MB of zeros behind a good head: the head is read, and one of them for a checksum."""
    path = _bomb(tmp_path / "tail.nii.gz", write_head("head.nii").read_bytes(), 64)
    volume, peak = with_peak(lambda: read_t1w(path))
    np.testing.assert_array_equal(volume.data, read_t1w(tmp_path / "head.nii").data)
    assert peak < 4e6


@pytest.mark.parametrize(("name", "packed_name"), [("f.mgh", "f.mgz"), ("f.nii", "f.nii.gz")])
def test_notes_behind_the_voxels_do_not_hide_a_flipped_bit(
    write_head: WriteHead, tmp_path: Path, name: str, packed_name: str
) -> None:
    """FreeSurfer writes tags there; the checksum stands behind them."""
    plain = _save_as(tmp_path / name, write_head())
    content = plain.read_bytes() + b"tags" * 5000
    path = tmp_path / packed_name
    path.write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_t1w(path).data, read_t1w(plain).data)
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[len(packed) // 4] ^= 1
    path.write_bytes(packed)
    with pytest.raises(ScanError, match="CRC check failed"):
        read_t1w(path)


def test_the_hash_is_of_content_and_of_both_files_of_a_pair(
    write_head: WriteHead, tmp_path: Path
) -> None:
    header = _save_as(tmp_path / "p.hdr", write_head())
    first = content_hash(header)
    assert content_hash(tmp_path / "p.img") == first
    (tmp_path / "q.hdr").write_bytes(header.read_bytes())
    (tmp_path / "q.img").write_bytes((tmp_path / "p.img").read_bytes())
    assert content_hash(tmp_path / "q.hdr") == first
    voxels = bytearray((tmp_path / "p.img").read_bytes())
    voxels[-1] ^= 1
    (tmp_path / "p.img").write_bytes(voxels)
    assert content_hash(header) != first
