"""Batches that take moments: preprocessing is a stand-in, and a call tells what it left behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ermoe_ba.assets import template
from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.cli.main import main
from ermoe_ba.model_card import save_card
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState
from ermoe_ba.space import MODEL_GRID, Volume
from ermoe_ba.t1w import read_t1w

WriteHead = Callable[..., Path]
OUTPUTS = (
    "desc-preproc_T1w.nii.gz",
    "desc-brain_mask.nii.gz",
    "desc-experts_probseg.nii.gz",
    "desc-experts_dseg.nii.gz",
    "desc-experts_dseg.tsv",
    "desc-contribution_map.nii.gz",
    "res-token_desc-members_probseg.nii.gz",
    "res-token_desc-members_map.nii.gz",
    "regions.tsv",
    "report.html",
    "prediction.json",
)
MAPS = OUTPUTS[2:10]


class FakePreprocessor:
    """Reads and checks the scan as the real one does; its result is the template, a bit changed.

    The change depends on the scan's voxels, so that different scans have different ages.
    """

    def __init__(self, config: PreprocessConfig, device: str, *, force: bool = False) -> None:
        self.config = config

    def __call__(self, path: Path, announce: Callable[[str], None] | None = None) -> ScanState:
        if path.name.startswith("bug"):
            raise ZeroDivisionError("a library's bug\nover two lines")
        scan = read_t1w(path)
        factor = 1.0 + 0.2 * float(scan.data.max()) / 200.0
        brain = template("desc-brain_mask")
        head = template("desc-brain_T1w").data.astype(np.float32)
        image = np.where(brain.data > 0, head / head.max() * factor, 0).astype(np.float32)
        if path.name.startswith("inverted"):
            image = np.where(brain.data > 0, 1.5 - image, 0).astype(np.float32)
        return ScanState(
            path=path,
            t1w=Volume(image, MODEL_GRID),
            brain_mask=Volume((brain.data > 0).astype(np.uint8), MODEL_GRID),
            scan_to_template=np.eye(4),
            figures={"brain_volume_ml": 1500.0},
        )


@pytest.fixture
def stand_ins(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: ensemble)
    monkeypatch.setattr("ermoe_ba.workers.predictor.Preprocessor", FakePreprocessor)


@dataclass(frozen=True)
class Run:
    """What a call left behind."""

    code: int
    out: Path
    stdout: str
    stderr: str

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(
            self.out / "predictions.tsv", sep="\t", keep_default_na=False, na_values=["n/a"]
        )

    def files(self) -> set[str]:
        return {path.name for path in self.out.iterdir()}


@pytest.fixture
def predict(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Call ``ermoe-ba predict``; every run must leave nothing half-written and no traceback."""

    def call(*arguments: str | Path, out: Path = tmp_path / "out") -> Run:
        capfd.readouterr()
        code = main(["predict", *map(str, arguments), "--out", str(out)])
        stdout, stderr = capfd.readouterr()
        if "--debug" not in arguments:
            assert "Traceback" not in stderr
        assert not list(out.glob(".partial-*"))
        return Run(code, out, stdout, stderr)

    return call


@pytest.fixture
def kept_model(tmp_path: Path, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder that `predict` believes to have used; of weights, only the hash counts."""
    folder = tmp_path / "model"
    save_card(folder, ensemble.card)
    (folder / "fold-0.safetensors").write_bytes(b"weights")
    # echo -n weights | sha256sum
    named = replace(ensemble, model_id="random-9a129038d9a0")
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: named)
    monkeypatch.setattr("ermoe_ba.workers.predictor.Preprocessor", FakePreprocessor)
    return folder


class CountingPreprocessor(FakePreprocessor, Preprocessor):
    """The stand-in, with the real one's list of steps; counts the scans it sees."""

    seen: ClassVar[list[str]] = []

    def __init__(self, config: PreprocessConfig, device: str, *, force: bool = False) -> None:
        Preprocessor.__init__(self, config, device, force=force)

    def __call__(self, path: Path, announce: Callable[[str], None] | None = None) -> ScanState:
        self.seen.append(path.name)
        return FakePreprocessor.__call__(self, path, announce)


@pytest.fixture
def seen(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that were preprocessed."""
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: ensemble)
    for worker in ("predictor", "derivative_maker"):
        monkeypatch.setattr(f"ermoe_ba.workers.{worker}.Preprocessor", CountingPreprocessor)
    CountingPreprocessor.seen.clear()
    return CountingPreprocessor.seen


def write_labels(path: Path, changes: dict[tuple[int, int, int], float]) -> Path:
    data = np.zeros(MODEL_GRID.shape, dtype=np.float32)
    data[40:50, 50:60, 40:50] = 3
    for voxel, value in changes.items():
        data[voxel] = value
    nib.Nifti1Image(data, MODEL_GRID.affine).to_filename(path)
    return path


def results_of(out: Path) -> dict[str, bytes]:
    """All files but for the seconds that the work took."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.name.endswith("prediction.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            found[path.name] = json.dumps({**content, "seconds": 0}).encode()
        elif path.name.endswith("predictions.tsv"):
            table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
            found[path.name] = table.drop(columns="seconds").to_csv().encode()
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found
