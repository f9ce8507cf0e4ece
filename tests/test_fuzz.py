"""Headers spoilt at random: a scan is read or refused in words, and nothing else happens.

The suite draws a few hundred; ``pytest tests/test_fuzz.py --hypothesis-profile=fuzz`` draws 6,000
for each of the five formats.
"""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ermoe_ba.errors import ScanError
from ermoe_ba.space import Volume
from ermoe_ba.t1w import MAX_AXIS, MAX_VOXELS, MIN_AXIS, read_t1w

SHAPE, VOXEL_MM = (20, 22, 24), 5.0
# Format, and how many bytes of it come before the voxels.
KINDS = {"one.nii": 352, "one.nii.gz": 352, "two.nii": 544, "pair.hdr": 348, "fs.mgh": 284}
# Words that break naive readers: nothing, ends of the signed and unsigned, infinity, not-a-number.
_words = st.sampled_from(
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x80",
        b"\0\0\x80\x7f",
        b"\x7f\x80\0\0",
        b"\0\0\xc0\x7f",
        b"\x01\0\0\0",
        b"\0\0\0\x01",
    ]
) | st.binary(min_size=1, max_size=8)


def _pristine(folder: Path, name: str) -> bytes:
    data = np.random.default_rng(1).integers(0, 900, SHAPE).astype(np.int16)
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    path = folder / name.removesuffix(".gz")
    kinds = {"one.nii": nib.Nifti1Image, "two.nii": nib.Nifti2Image, "fs.mgh": nib.MGHImage}
    kinds.get(path.name, nib.Nifti1Pair)(data, affine).to_filename(path)
    return path.read_bytes()


def _read(path: Path) -> Volume | ScanError:
    try:
        return read_t1w(path)
    except ScanError as error:
        return error


@pytest.mark.parametrize("name", list(KINDS))
# One file is overwritten by each example in turn, which is what is meant.
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoilt_header_is_read_or_refused_in_words(
    name: str, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(_pristine(tmp_path, name))
    edits = data.draw(
        st.lists(st.tuples(st.integers(0, KINDS[name] - 1), _words), min_size=1, max_size=6)
    )
    for place, word in edits:
        content[place : place + len(word)] = word
    if data.draw(st.integers(0, 9)) == 0:
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    outcome = _read(path)
    if isinstance(outcome, ScanError):
        assert str(path) in str(outcome)
        assert outcome.found
        assert outcome.remedy
    else:
        assert outcome.data.dtype == np.float32
        assert np.isfinite(outcome.data).all()
        assert outcome.data.size <= MAX_VOXELS
        assert all(MIN_AXIS <= n <= MAX_AXIS for n in outcome.grid.shape)
        assert np.isfinite(outcome.grid.affine).all()
        assert abs(np.linalg.det(outcome.grid.affine)) > 0


@pytest.mark.parametrize("name", list(KINDS))
def test_the_file_that_is_spoilt_is_a_good_one_before(name: str, tmp_path: Path) -> None:
    content = _pristine(tmp_path, name)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_t1w(tmp_path / name).grid.shape == SHAPE
