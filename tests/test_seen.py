"""Whom a model has seen: by name, by voxels, and where it does not say."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.training.seen import find_seen

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _model_of(folder: Path, rows: str | None, members: Sequence[str]) -> Path:
    folder.mkdir()
    for name in members:
        (folder / f"{name}.safetensors").touch()
    if rows is not None:
        text = f"participant_id\tsession_id\tvoxel_hash\tfold\n{rows}"
        (folder / "training_scans.tsv").write_text(text, encoding="utf-8")
    return folder


SCANS = pd.DataFrame({"participant_id": ["a", "b", "c"], "voxel_hash": ["1", "2", "3"]})


MEMBERS = ("fold-0_start-0", "fold-0_start-1", "fold-1_start-0")


def test_people_are_known_by_name_or_by_voxels(tmp_path: Path) -> None:
    """a by name (fold 0), c by voxels under another name (fold 1), b not at all."""
    folder = _model_of(tmp_path / "m", "a\tn/a\t9\t0\nz\tn/a\t3\t1\n", MEMBERS)
    seen = find_seen(folder, SCANS)
    assert seen.unseen_mn.tolist() == [
        [True, True, False],
        [True, True, False],
        [False, True, True],
    ]
    assert seen.num_known == 2
    assert "2 of 3 scans" in seen.remark


def test_a_person_is_known_by_any_of_their_scans(tmp_path: Path) -> None:
    """b's second scan is a training scan of fold 1: its members saw the brain of the first too."""
    scans = pd.DataFrame({"participant_id": ["a", "b", "b"], "voxel_hash": ["1", "2", "3"]})
    seen = find_seen(_model_of(tmp_path / "m", "z\tn/a\t3\t1\n", MEMBERS), scans)
    assert seen.unseen_mn.tolist() == [
        [True, False, False],
        [True, False, False],
        [True, True, True],
    ]
    assert seen.num_known == 2


def test_a_name_and_voxels_of_two_folds_leave_no_member(tmp_path: Path) -> None:
    """Called as one training participant (fold 0), with the scan of another (fold 1)."""
    folder = _model_of(tmp_path / "m", "a\tn/a\t9\t0\nz\tn/a\t1\t1\n", MEMBERS)
    with pytest.raises(UsageError, match="all were trained on a"):
        find_seen(folder, SCANS)


def test_whom_all_members_saw_cannot_be_tested(tmp_path: Path) -> None:
    folder = _model_of(tmp_path / "m", "b\tn/a\t9\tn/a\n", ("fold-all_start-0",))
    with pytest.raises(UsageError, match=r"all were trained on b \(by name or by voxels\)"):
        find_seen(folder, SCANS)


def test_a_model_that_does_not_say_whom_it_saw_is_remarked(tmp_path: Path) -> None:
    seen = find_seen(_model_of(tmp_path / "m", None, MEMBERS), SCANS)
    assert seen.unseen_mn.all()
    assert "does not say whom" in seen.remark
