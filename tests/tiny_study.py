"""A cohort on disk that trains in moments, and runs of it: what tests of whole runs share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from quick_settings import AGE as QUICK_AGE
from quick_settings import OPTIMISER, TISSUE

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.inspection import UNUSABLE_COLUMNS
from ermoe_ba.io import write_volume
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.space import SpatialGrid, Volume
from ermoe_ba.study import StudyScan
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.pretrain_config import (
    MaskedStage,
    PhantomStage,
    PretrainConfig,
    VolumesStage,
)
from ermoe_ba.training.recipe import Recipe, RunConfig


@pytest.fixture
def make_scan(small_brain: Volume) -> Callable[[str, float], PreparedScan]:
    """A scan whose second label, the ventricles, is as large and dark as a number says."""

    def make(participant_id: str, size: float) -> PreparedScan:
        random = np.random.default_rng(int(1000 * size))
        brain = small_brain.data > 0
        centre = (np.reshape(brain.shape, (3, 1, 1, 1)) - 1) / 2
        distance = np.sqrt(((np.indices(brain.shape) - centre) ** 2).sum(axis=0))
        labels = np.where(brain, np.where(distance < 1 + 3 * size, 4, 59), 0).astype(np.int16)
        t1w = np.where(labels == 59, 0.9, np.where(labels == 4, 0.3, 0.0))
        t1w = np.where(brain, t1w + random.normal(0, 0.02, brain.shape), 0.0)
        return PreparedScan(
            participant_id=participant_id,
            t1w=small_brain.same_grid(t1w.astype(np.float32)),
            brain_mask=small_brain,
            labels=small_brain.same_grid(labels),
        )

    return make


NUM_PARTICIPANTS = 12


# Leading zeros must survive every table on the way.
IDS = [f"{number:02}" for number in range(NUM_PARTICIPANTS)]


TEST_IDS = IDS[::3]


@dataclass
class TinyStudy:
    """A cohort on disk whose scans, once prepared, are small synthetic ones."""

    folder: Path
    recipe: Recipe
    scans: dict[str, PreparedScan]

    def write(self, ages: dict[str, float]) -> Path:
        path = self.folder / "participants.tsv"
        rows = "".join(f"sub-{i}\t{age}\n" for i, age in ages.items())
        path.write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
        return path

    def run(self, name: str, ages: dict[str, float], fold: int | None) -> Path:
        """Every third participant is in fold 0, whatever the ages."""
        out = self.folder / name
        out.mkdir()
        rows = "".join(f"{i}\t{0 if i in TEST_IDS else 1}\n" for i in IDS)
        (out / "splits.tsv").write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
        CrossValidation(self.recipe, self.write(ages), out).run(fold)
        return out


def write_raw(path: Path, number: int) -> None:
    """Write noise that passes for a scan: 17 x 18 x 19 voxels of 6 mm, its own for each number."""
    data = np.random.default_rng(number).integers(1, 200, (17, 18, 19)).astype(np.float32)
    grid = SpatialGrid((17, 18, 19), np.diag([6.0, 6.0, 6.0, 1.0]), "scan")
    write_volume(path, Volume(data, grid))


def lone_scan(t1w: Path, labels: Path | None = None) -> StudyScan:
    """The one scan of participant 01, who was 50 years old."""
    return StudyScan(
        name="01",
        participant_id="01",
        session_id=None,
        chronological_age=50.0,
        t1w=t1w,
        labels=labels,
    )


@pytest.fixture
def ages() -> dict[str, float]:
    return {i: 20.0 + 5 * number for number, i in enumerate(IDS)}


@pytest.fixture
def study(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_config: ModelConfig,
    small_tokens: TokenGrid,
    make_scan: Callable[[str, float], PreparedScan],
) -> TinyStudy:
    (tmp_path / "raw").mkdir()
    for number, participant_id in enumerate(IDS):
        for suffix in ("T1w", "dseg"):
            write_raw(tmp_path / "raw" / f"sub-{participant_id}_{suffix}.nii.gz", number)
    (tmp_path / "registry.toml").write_text("[atlas]\n", encoding="utf-8")
    (tmp_path / "labels.tsv").write_text(
        "index\ttissue\n4\tventricles\n59\tcortex\n", encoding="utf-8"
    )
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path))
    recipe = Recipe(
        run=RunConfig(
            name="tiny",
            num_folds=2,
            num_starts=2,
            seed=5,
            coverage=0.5,
            t1w="raw/sub-{participant_id}_T1w.nii.gz",
            labels="raw/sub-{participant_id}_dseg.nii.gz",
            label_table="labels.tsv",
            data="synthetic",
            licence="none",
        ),
        preprocess=PreprocessConfig(),
        model=small_config,
        tissue=TISSUE,
        age=replace(QUICK_AGE, num_epochs=2, batch_size=10),
        text="tiny",
    )
    scans = {i: make_scan(i, number / 12) for number, i in enumerate(IDS)}
    study = TinyStudy(tmp_path, recipe, scans)

    class FakeCohort:
        """Stands for `PreparedCohort`."""

        folder = tmp_path / "prepared"

        def __init__(self, *_: Any) -> None:
            self.ready: set[str] = set()

        def prepare_all(self, scans: Sequence[StudyScan], jobs: int) -> pd.DataFrame:
            assert jobs == 1
            self.ready |= {scan.name for scan in scans}
            return pd.DataFrame(columns=list(UNUSABLE_COLUMNS))

        def read(self, scan: StudyScan) -> PreparedScan:
            assert scan.name in self.ready
            return study.scans[scan.participant_id]

    for module in ("cross_validate", "final_model"):
        monkeypatch.setattr(f"ermoe_ba.training.{module}.PreparedCohort", FakeCohort)
        monkeypatch.setattr(f"ermoe_ba.training.{module}.Preprocessor", lambda _: None)
        monkeypatch.setattr(f"ermoe_ba.training.{module}.token_grid", lambda _: small_tokens)
    monkeypatch.setattr("ermoe_ba.checkpoint.token_grid", lambda _: small_tokens)
    return study


BEFORE: dict[str, Any] = {"num_epochs": 2, "batch_size": 8, "optimiser": OPTIMISER}


def with_stages(
    study: TinyStudy, make_scan: Callable[[str, float], PreparedScan]
) -> PretrainConfig:
    """Give a study label maps that tell regions, and simulated people beside it."""
    pytest.importorskip("bids")
    (study.folder / "labels.tsv").write_text(
        "index\ttissue\tname\themisphere\n4\tventricles\tv\tn/a\n59\tcortex\tc\tn/a\n", "utf-8"
    )
    root = study.folder / "phantom"
    root.mkdir()
    (root / "dataset_description.json").write_text(
        '{"Name": "phantom", "BIDSVersion": "1.9.0"}', "utf-8"
    )
    rows = ""
    for number in range(4):
        (root / f"sub-P{number}" / "anat").mkdir(parents=True)
        write_raw(root / f"sub-P{number}" / "anat" / f"sub-P{number}_T1w.nii.gz", 100 + number)
        rows += f"sub-P{number}\t{20 + 15 * number}\n"
        study.scans[f"P{number}"] = make_scan(f"P{number}", 0.1 + number / 5)
    (root / "participants.tsv").write_text(f"participant_id\tage\n{rows}", "utf-8")
    return PretrainConfig(
        phantom=PhantomStage(participants="phantom/participants.tsv", **BEFORE),
        masked=MaskedStage(share=0.5, **BEFORE),
        volumes=VolumesStage(**BEFORE),
    )


def begin(
    study: TinyStudy,
    name: str,
    ages: dict[str, float],
    recipe: Recipe | None = None,
    **options: Any,
) -> CrossValidation:
    return CrossValidation(
        recipe or study.recipe, study.write(ages), study.folder / name, **options
    )


def given_splits(study: TinyStudy, rows: str) -> Path:
    path = study.folder / "given.tsv"
    path.write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
    return path
