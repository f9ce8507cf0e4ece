"""A scan's file: what is missing, renamed, cut short or damaged is refused."""

import errno
import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from spoilt_scans import WriteHead, refusal_of

from ermoe_ba.errors import ScanError
from ermoe_ba.t1w import content_hash, read_scan_grid, read_t1w


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no file" in refusal_of(tmp_path / "absent.nii.gz").found


def test_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.nii"
    folder.mkdir()
    assert "no file" in refusal_of(folder).found


@pytest.mark.parametrize("name", ["scan.mnc", "scan.dcm", "scan.gz", "scan.nii.bz2", "nii"])
def test_a_file_of_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"content")
    assert repr(name) in refusal_of(path).found


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz"])
def test_a_text_that_was_renamed_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("participant_id\tage\n01\t55\n" * 50, encoding="utf-8")
    assert "readable NIfTI" in refusal_of(path).must_hold


@pytest.mark.parametrize("name", ["empty.nii", "empty.nii.gz", "empty.mgh"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    refusal = refusal_of(path)
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
    refusal_of(path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
def test_a_truncated_file_is_refused(write_head: WriteHead, name: str, kept: float) -> None:
    noise = np.random.default_rng(1).integers(0, 1000, (20, 22, 24))
    path = write_head(name, data=noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refusal_of(path)


def test_a_damaged_archive_is_refused(write_head: WriteHead) -> None:
    noise = np.random.default_rng(1).integers(0, 1000, (20, 22, 24))
    path = write_head("head.nii.gz", data=noise)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 40):
        content[place] ^= 0xFF
    path.write_bytes(content)
    refusal_of(path)


def test_a_single_flipped_bit_is_refused(write_head: WriteHead) -> None:
    """An archive of unpacked blocks takes any byte for a voxel: its checksum alone can tell."""
    content = write_head("head.nii").read_bytes()
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[len(packed) // 2] ^= 1
    path = write_head("head.nii.gz")
    path.write_bytes(packed)
    assert "CRC check failed" in refusal_of(path).found


@pytest.mark.parametrize("lost", [1, 8])
def test_an_archive_that_lacks_its_checksum_is_refused(write_head: WriteHead, lost: int) -> None:
    path = write_head("head.nii.gz")
    path.write_bytes(path.read_bytes()[:-lost])
    assert "truncated" in refusal_of(path).remedy


# An archive holds the second it was made in: its bytes would name another test at each run.
@pytest.mark.parametrize(
    "behind",
    [b"\n", b"text", b"\0" * 600, gzip.compress(b"another")],
    ids=["line end", "text", "zeros", "archive"],
)
def test_what_follows_an_archive_is_ignored(write_head: WriteHead, behind: bytes) -> None:
    path = write_head("head.nii.gz")
    plain = read_t1w(path)
    path.write_bytes(path.read_bytes() + behind)
    np.testing.assert_array_equal(read_t1w(path).data, plain.data)
