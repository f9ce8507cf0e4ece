"""Fingerprints: the same voxels have the same one, whatever the file."""

from pathlib import Path

import numpy as np
import pytest
from made_up_study import voxels_of, write_scan

from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.t1w import read_t1w


def _hash(path: Path) -> str:
    return voxel_hash(read_t1w(path))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_scan_that_was_saved_again_has_the_same_fingerprint(
    tmp_path: Path, axes: tuple[int, int, int], dtype: type
) -> None:
    """Other axes, a flip, another data type, no compression, another scale, another name."""
    data = voxels_of(1)
    first = write_scan(tmp_path / "a.nii.gz", data)
    affine = np.zeros((4, 4))
    for column, axis in enumerate(axes):
        affine[axis, column] = 6.0
    affine[:, 0] *= -1
    affine[:, 3] = [50, -20, 7, 1]
    turned = np.flip(data.transpose(axes), 0).astype(dtype) * dtype(3)
    again = write_scan(tmp_path / "b.nii", turned, affine)
    assert _hash(again) == _hash(first)


def test_other_voxels_have_another_fingerprint(tmp_path: Path) -> None:
    data = voxels_of(1)
    changed = data.copy()
    # The dimmest voxel becomes the brightest: every second voxel is looked at, this one among them.
    changed[0, 0, 0] = 250 if data[0, 0, 0] < 200 else 1
    hashes = {
        _hash(write_scan(tmp_path / f"{n}.nii.gz", voxels))
        for n, voxels in enumerate([data, changed, np.flip(data, 0), data[:16], voxels_of(2)])
    }
    assert len(hashes) == 5
