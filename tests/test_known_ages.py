"""Ages that are known: they change no predicted age, and who has none is predicted without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from quick_batch import Run, WriteHead, predict, stand_ins

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "stand_ins"]


@pytest.mark.usefixtures("stand_ins")
def test_the_chronological_age_changes_no_predicted_age(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("sub-01_T1w.nii.gz")
    ages: list[Any] = []
    for number, age in enumerate(("25", "80.5", "n/a")):
        participants = tmp_path / "participants.tsv"
        participants.write_text(f"participant_id\tage\nsub-01\t{age}\n", encoding="utf-8")
        run = predict(
            scan, "--no-maps", "--participants", participants, out=tmp_path / f"out-{number}"
        )
        ages.append(run.table.iloc[0])
    ages.append(predict(scan, "--no-maps").table.iloc[0])
    assert len({row["predicted_age"] for row in ages}) == 1
    predicted = ages[0]["predicted_age"]
    assert ages[0]["brain_age_gap"] == pytest.approx(predicted - 25)
    assert ages[1]["brain_age_gap"] == pytest.approx(predicted - 80.5)
    for row in ages[2:]:
        assert pd.isna(row["chronological_age"])
        assert pd.isna(row["brain_age_gap"])


@pytest.mark.usefixtures("stand_ins")
def test_who_is_missing_from_the_table_is_predicted_without_an_age(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    participants = tmp_path / "participants.tsv"
    participants.write_text("participant_id\tage\nsub-02\t50\n", encoding="utf-8")
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in ("01", "02", "03")]
    run = predict(*scans, "--no-maps", "--participants", participants)
    assert run.code == 0
    assert run.table["status"].tolist() == ["ok"] * 3
    assert run.table["chronological_age"].fillna(-1).tolist() == [-1, 50, -1]
    assert run.table["brain_age_gap"].isna().tolist() == [True, False, True]
    bare = predict(*scans, "--no-maps", "--overwrite")
    assert run.table["predicted_age"].tolist() == bare.table["predicted_age"].tolist()
    notes = [line for line in run.stderr.splitlines() if "--participants" in line]
    assert len(notes) == 1
    assert "found none of 2 (01, ...)" in notes[0]
    assert "--participants" not in bare.stderr
    one = predict(scans[0], scans[1], "--no-maps", "--overwrite", "--participants", participants)
    assert "found none of 1 (01): " in one.stderr


@pytest.mark.usefixtures("stand_ins")
def test_ages_beyond_the_training_cohort_are_flagged_and_told(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """The stand-in was trained on people of 25 to 75 years."""
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tage\nsub-1\t75\nsub-2\t75.5\n", encoding="utf-8")
    run = predict(*scans, "--no-maps", "--participants", table)
    assert run.code == 0
    flags = [str(text).split(";") for text in run.table["qc_flags"]]
    assert ["age_outside_training" in found for found in flags] == [False, True]
    assert f"flagged {scans[1]}: " in run.stderr
