"""Simulated people beside a study: found, and never anybody of the study."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from quick_settings import STAGES
from tiny_study import lone_scan, write_raw

from ermoe_ba.errors import UsageError
from ermoe_ba.inspection import UNUSABLE_COLUMNS
from ermoe_ba.study import Study
from ermoe_ba.training.pretrain_config import NO_STAGES, PretrainConfig
from ermoe_ba.training.ready_study import ReadyStudy
from ermoe_ba.training.simulated_people import simulated_people

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class _Cohort:
    """Stands for `PreparedCohort`: nothing is prepared."""

    folder = Path("not-there")

    def prepare_all(self, scans: Any, jobs: int) -> pd.DataFrame:
        return pd.DataFrame(columns=list(UNUSABLE_COLUMNS))


def _phantom(root: Path, numbers: list[int]) -> None:
    """Write a BIDS data set of heads, aged by their number."""
    pytest.importorskip("bids")
    rows = "".join(f"sub-P{n}\t{20 + n}\n" for n in numbers)
    (root / "phantom").mkdir(exist_ok=True)
    (root / "phantom" / "participants.tsv").write_text(f"participant_id\tage\n{rows}", "utf-8")
    (root / "phantom" / "dataset_description.json").write_text(
        '{"Name": "phantom", "BIDSVersion": "1.9.0"}', "utf-8"
    )
    for n in numbers:
        folder = root / "phantom" / f"sub-P{n}" / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        write_raw(folder / f"sub-P{n}_T1w.nii.gz", n)


@pytest.fixture
def ready(tmp_path: Path) -> ReadyStudy:
    from ermoe_ba.inspection import inspect_scans

    write_raw(tmp_path / "01_T1w.nii.gz", 3)
    scan = lone_scan(tmp_path / "01_T1w.nii.gz")
    table = pd.DataFrame({"age": [50.0]}, index=pd.Index(["01"], name="participant_id"))
    study = Study(tmp_path, (scan,), table)
    scans, _ = inspect_scans(study, None)
    return ReadyStudy(study, scans, _Cohort())  # type: ignore[arg-type]


def test_simulated_people_are_found_beside_the_study(ready: ReadyStudy, tmp_path: Path) -> None:
    _phantom(tmp_path, [11, 12])
    config = PretrainConfig(phantom=STAGES["phantom"])  # type: ignore[arg-type]
    people = simulated_people(config, ready, tmp_path / "out")
    assert people is not None
    ages = {scan.participant_id: scan.chronological_age for scan in people.study.scans}
    assert ages == {"P11": 31.0, "P12": 32.0}
    # Going on with the same is no matter; with others it is.
    again = simulated_people(config, ready, tmp_path / "out")
    assert again is not None
    assert again.study.scans == people.study.scans
    _phantom(tmp_path, [11, 13])
    with pytest.raises(UsageError, match="begun with other people"):
        simulated_people(config, ready, tmp_path / "out")
    assert simulated_people(NO_STAGES, ready, tmp_path / "out") is None


def test_nobody_of_the_study_can_be_taken_for_simulated(ready: ReadyStudy, tmp_path: Path) -> None:
    """The head with number 3 is the study's own, under another name and age."""
    _phantom(tmp_path, [11, 3])
    config = PretrainConfig(phantom=STAGES["phantom"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no scan of the study.*P3"):
        simulated_people(config, ready, tmp_path / "out")
