"""Label maps that come after their scans."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_study import lone_scan, write_raw

from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.io import write_volume
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState
from ermoe_ba.space import MODEL_GRID, SpatialGrid, Volume

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_labels_that_come_after_the_scan_are_prepared_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registration had moved the scan by 2 mm, one voxel: the label moves along."""
    zeros = Volume(np.zeros(MODEL_GRID.shape, np.float32), MODEL_GRID)
    shift = np.eye(4)
    shift[0, 3] = 2.0
    state = ScanState(path=tmp_path, t1w=zeros, brain_mask=zeros, scan_to_template=shift)
    calls: list[Path] = []
    cohort = PreparedCohort(tmp_path, Preprocessor(PreprocessConfig()))
    monkeypatch.setattr(Preprocessor, "__call__", lambda _, path, *__: calls.append(path) or state)
    write_raw(tmp_path / "t1w.nii.gz", 1)
    scan = lone_scan(tmp_path / "t1w.nii.gz")
    cohort.prepare(scan)
    assert cohort.read(scan).labels is None
    labels = np.zeros(MODEL_GRID.shape, np.int16)
    labels[40, 50, 60] = 7
    grid = SpatialGrid(MODEL_GRID.shape, MODEL_GRID.affine, "scan")
    write_volume(tmp_path / "dseg.nii.gz", Volume(labels, grid))
    labelled = replace(scan, labels=tmp_path / "dseg.nii.gz")
    cohort.prepare(labelled)
    moved = cohort.read(labelled).labels
    assert moved is not None
    assert np.argwhere(moved.data == 7).tolist() == [[41, 50, 60]]
    assert len(calls) == 1, "the scan itself is prepared once"
