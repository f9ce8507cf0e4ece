"""What a run refuses before it trains, and folds that are given."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_study import (
    IDS,
    TEST_IDS,
    TinyStudy,
    ages,
    begin,
    given_splits,
    lone_scan,
    make_scan,
    study,
    write_raw,
)

from ermoe_ba.errors import UsageError
from ermoe_ba.study import Study
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.study_hash import data_hash

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["ages", "make_scan", "study"]


def test_a_folder_of_another_run_is_refused(study: TinyStudy, ages: dict[str, float]) -> None:
    out = study.run("run", ages, 0)
    path = study.folder / "participants.tsv"
    with pytest.raises(UsageError, match="another recipe or other data"):
        CrossValidation(replace(study.recipe, text="other"), path, out).run(0)
    study.write(ages | {IDS[0]: 33.0})
    with pytest.raises(UsageError, match="another recipe or other data"):
        CrossValidation(study.recipe, path, out).run(0)


@pytest.mark.parametrize("changed", ["a.hdr", "a.img", "a_dseg.nii"])
def test_the_data_hash_follows_every_file_of_a_scan(tmp_path: Path, changed: str) -> None:
    for name in ("a.hdr", "a.img", "a_dseg.nii"):
        (tmp_path / name).write_bytes(b"before")
    scan = lone_scan(tmp_path / "a.hdr", tmp_path / "a_dseg.nii")
    study = Study(tmp_path, (scan,), pd.DataFrame())
    before = data_hash(study)
    assert data_hash(study) == before
    (tmp_path / changed).write_bytes(b"after.")
    assert data_hash(study) != before


@pytest.mark.parametrize("fold", [-1, 2])
def test_a_fold_that_is_not_there_is_refused(
    study: TinyStudy, ages: dict[str, float], fold: int
) -> None:
    with pytest.raises(UsageError, match=f"between 0 and 1; found {fold}"):
        study.run("run", ages, fold)


def test_a_participant_without_files_is_named(study: TinyStudy, ages: dict[str, float]) -> None:
    missing = study.folder / "raw" / "sub-03_dseg.nii.gz"
    missing.unlink()
    with pytest.raises(UsageError, match=r"sub-03_dseg\.nii\.gz"):
        study.run("run", ages, 0)


def test_participants_without_an_age_take_no_part(study: TinyStudy, ages: dict[str, float]) -> None:
    path = study.write(ages)
    with path.open("a", encoding="utf-8") as file:
        file.write("sub-99\tn/a\n")
    out = study.folder / "run"
    run = CrossValidation(study.recipe, path, out)
    assert [scan.participant_id for scan in run.study.scans] == IDS
    run.run(0)
    splits = pd.read_csv(out / "splits.tsv", sep="\t", dtype=str)
    assert sorted(splits["participant_id"]) == IDS


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"coverage": 0.93}, "needs 14 participants or more; found 12"),
        ({"num_folds": 13}, "13 folds need as many participants; found 12"),
        ({"split": "leave-site-out"}, "found none for 12"),
        ({"age_bounds": (0.0, 60.0)}, "found 4 beyond"),
        # Of 12 two folds leave 6; of these 0.7 are 4.2, so that 5 are set aside.
        ({"validation_share": 0.7}, r"of 12, the largest fold \(6\) .* leave 1"),
    ],
)
def test_what_no_preparing_can_mend_is_told_before_it(
    study: TinyStudy,
    ages: dict[str, float],
    settings: dict[str, Any],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 people of 20, 25, ... 75 years, without sites; 60, 65, 70, 75 are not below 60."""
    table = {"age_bounds": "model", "validation_share": "age"}.get(next(iter(settings)), "run")
    changed = replace(getattr(study.recipe, table), **settings)
    recipe = replace(study.recipe, **{table: changed})
    begun = begin(study, "run", ages, recipe)
    monkeypatch.setattr(
        begun.cohort, "prepare_all", lambda *_: pytest.fail("scans were prepared first")
    )
    with pytest.raises(UsageError, match=says):
        begun.prepare()


def test_given_folds_that_leave_one_person_are_told_before_scans_are_prepared(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a site of one person does: whoever is tested on the other learns from that one."""
    given = given_splits(study, "".join(f"{i}\t{int(i == IDS[0])}\n" for i in IDS))
    begun = begin(study, "run", ages, splits=given)
    monkeypatch.setattr(
        begun.cohort, "prepare_all", lambda *_: pytest.fail("scans were prepared first")
    )
    with pytest.raises(UsageError, match=r"of 12, the largest fold \(11\) .* leave 1"):
        begun.prepare()


def test_folds_can_be_given_and_stay(study: TinyStudy, ages: dict[str, float]) -> None:
    given = given_splits(study, "".join(f"sub-{i}\t{int(i in TEST_IDS)}\n" for i in IDS))
    begin(study, "run", ages, splits=given).run(1)
    table = pd.read_csv(study.folder / "run" / "fold-1_predictions.tsv", sep="\t", dtype=str)
    assert sorted(table["participant_id"]) == TEST_IDS
    assert set(table["fold"]) == {"1"}
    other = given_splits(study, "".join(f"{i}\t{int(i not in TEST_IDS)}\n" for i in IDS))
    with pytest.raises(UsageError, match="begun with other folds"):
        begin(study, "run", ages, splits=other).run(0)


def test_a_participant_in_two_folds_is_refused(study: TinyStudy, ages: dict[str, float]) -> None:
    rows = "".join(f"{i}\t{int(i in TEST_IDS)}\n" for i in IDS)
    twice = given_splits(study, rows + f"{IDS[0]}\t0\n")
    with pytest.raises(UsageError, match=f"{IDS[0]} has several rows"):
        begin(study, "run", ages, splits=twice).run(0)


def test_one_head_under_two_names_is_refused_before_training(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted leak: the scan of one test participant also bears a training participant's name."""
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("it was trained")
    )
    write_raw(study.folder / "raw" / f"sub-{IDS[1]}_T1w.nii.gz", 0)
    with pytest.raises(UsageError, match=f"same voxels.*{IDS[0]} = {IDS[1]}"):
        study.run("run", ages, 0)


def test_scans_that_cannot_be_read_are_all_named_before_training(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("it was trained")
    )
    for i in (IDS[2], IDS[7]):
        (study.folder / "raw" / f"sub-{i}_T1w.nii.gz").write_bytes(b"torn")
    with pytest.raises(UsageError, match=f"2 scans cannot be used.*sub-{IDS[2]}.*sub-{IDS[7]}"):
        study.run("run", ages, 0)
    out = study.folder / "run"
    assert pd.read_csv(out / "unusable.tsv", sep="\t", dtype=str)["scan"].tolist() == [
        IDS[2],
        IDS[7],
    ]
