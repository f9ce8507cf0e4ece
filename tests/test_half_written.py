"""What a killed run left half written is removed, and nothing else."""

import os
from pathlib import Path

import pytest
from made_up_study import Picky, write_study

from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.partial import prefix_of
from ermoe_ba.study import read_study
from ermoe_ba.training.ready_study import make_ready


def _half_written(path: Path, process: int, host: str = "") -> Path:
    """A file as a process leaves it that is killed while it writes `path`."""
    name, own_host, _, _ = prefix_of(path).rsplit("-", 3)
    partial = path.with_name(f"{name}-{host or own_host}-{process}-x_1{path.suffix}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    return partial


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path, dead: int) -> None:
    """Descriptions of a fold may be gigabytes; those that another process writes now must stay."""
    table, out = write_study(tmp_path, ["a"]), tmp_path / "out"
    cohort = PreparedCohort(tmp_path / "prepared", Picky())  # type: ignore[arg-type]
    path = out / "kept" / "fold-0_described.safetensors"
    _half_written(path, dead)
    stay = {_half_written(path, os.getpid()), _half_written(path, dead, "farhost")}
    path.touch()
    study = read_study(table, "{participant_id}.nii.gz", None)
    make_ready(study, cohort, out, jobs=1, skip_unusable=False)
    assert set(path.parent.iterdir()) == {path, *stay}


def test_prepared_scans_that_runs_share_are_swept_by_the_same_rule(
    tmp_path: Path, dead: int
) -> None:
    """They lie outside the run's folder; deeper than prepared scans lie, nothing is looked at."""
    table, prepared = write_study(tmp_path, ["a"]), tmp_path / "shared"
    cohort = PreparedCohort(prepared, Picky())  # type: ignore[arg-type]
    path = prepared / "0123456789ab" / "0123456789abcdef_desc-preproc_T1w.nii.gz"
    _half_written(path, dead)
    stay = {_half_written(path, os.getpid()), _half_written(path, dead, "farhost")}
    deeper = _half_written(prepared / "a" / "b" / "c.nii.gz", dead)
    study = read_study(table, "{participant_id}.nii.gz", None)
    make_ready(study, cohort, tmp_path / "out", jobs=1, skip_unusable=False)
    assert set(path.parent.iterdir()) == stay
    assert deeper.exists()


def test_what_others_left_in_a_shared_folder_stops_nobody(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of another user, in which this one may read and not remove."""
    table, prepared = write_study(tmp_path, ["a"]), tmp_path / "shared"
    cohort = PreparedCohort(prepared, Picky())  # type: ignore[arg-type]
    left = _half_written(prepared / "0123456789ab" / "a.nii.gz", dead)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == left:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    study = read_study(table, "{participant_id}.nii.gz", None)
    ready = make_ready(study, cohort, tmp_path / "out", jobs=1, skip_unusable=False)
    assert [scan.name for scan in ready.study.scans] == ["a"]
    assert left.exists()
