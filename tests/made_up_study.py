"""A study on disk of small scans, each with voxels of its own, and what prepares them."""

from pathlib import Path

import nibabel as nib
import numpy as np

from ermoe_ba.errors import ScanError
from ermoe_ba.preprocess import PreprocessConfig, ScanState
from ermoe_ba.space import MODEL_GRID, Volume
from ermoe_ba.t1w import read_t1w

SHAPE = (17, 18, 19)


def voxels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(1, 200, SHAPE).astype(np.uint8)


def write_scan(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([6.0, 6.0, 6.0, 1.0]) if affine is None else affine
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def write_ages(path: Path, rows: str) -> Path:
    path.write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
    return path


def write_study(tmp_path: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        write_scan(tmp_path / f"{name}.nii.gz", voxels_of(number))
    rows = "".join(f"{name}\t{30 + n}\n" for n, name in enumerate(names))
    return write_ages(tmp_path / "participants.tsv", rows)


class Picky:
    """Stands for `Preprocessor`: cannot use scans of a name."""

    def __init__(self, refused: str = "-") -> None:
        self.config, self.refused = PreprocessConfig(), refused
        self.calls: list[str] = []

    def __call__(self, path: Path) -> ScanState:
        self.calls.append(path.name)
        if self.refused in path.name:
            raise ScanError(path, must_hold="a brain", found="none", remedy="Look.")
        level = float(read_t1w(path).data[0, 0, 0])
        zeros = Volume(np.full(MODEL_GRID.shape, level, np.float32), MODEL_GRID)
        return ScanState(path=path, t1w=zeros, brain_mask=zeros, scan_to_template=np.eye(4))
