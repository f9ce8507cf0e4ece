"""Who takes part: found by pattern or in a data set, read at once, nobody under two names."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_study import Picky, voxels_of, write_ages, write_scan, write_study

from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.errors import UsageError
from ermoe_ba.inspection import SCAN_COLUMNS, inspect_scans, refuse_twins
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor
from ermoe_ba.study import read_study
from ermoe_ba.t1w import read_t1w
from ermoe_ba.training.ready_study import make_ready


@pytest.mark.parametrize(
    ("bounds", "named"), [((), ""), ((20, 80), ""), ((20.5, 80), "a"), ((0, 61), "b")]
)
def test_ages_beyond_a_models_bounds_are_refused_by_name(
    tmp_path: Path, bounds: tuple[float, ...], named: str
) -> None:
    """At a bound, 61 years, is beyond: the score that it would need is infinite."""
    table = write_ages(tmp_path / "participants.tsv", "a\t20.5\nb\t61\n")
    study = read_study(table, "{participant_id}.nii", None)
    if not named:
        study.refuse_beyond(bounds)
        return
    with pytest.raises(UsageError, match=r"found 1 beyond") as told:
        study.refuse_beyond(bounds)
    assert f": {named} (" in str(told.value)


# Finding scans


def test_scans_are_found_by_pattern_for_everybody_with_an_age(tmp_path: Path) -> None:
    table = write_ages(tmp_path / "participants.tsv", "sub-02\t61.5\nsub-01\t20\nsub-03\tn/a\n")
    study = read_study(table, "t1/{participant_id}.nii", "seg/{scan}_dseg.nii")
    assert [(s.name, s.participant_id, s.chronological_age) for s in study.scans] == [
        ("02", "02", 61.5),
        ("01", "01", 20.0),
    ]
    assert study.scans[0].t1w == tmp_path / "t1" / "02.nii"
    assert study.scans[0].labels == tmp_path / "seg" / "02_dseg.nii"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """1 in two sessions, one of them with two runs; 2 once; 3 without age; 4 without scan."""
    root = tmp_path / "bids"
    for number, name in enumerate(
        [
            "sub-1/ses-a/anat/sub-1_ses-a_run-1_T1w",
            "sub-1/ses-a/anat/sub-1_ses-a_run-2_T1w",
            "sub-1/ses-b/anat/sub-1_ses-b_T1w",
            "sub-2/anat/sub-2_T1w",
            "sub-2/anat/sub-2_echo-1_T1w",
            "sub-3/anat/sub-3_T1w",
        ]
    ):
        write_scan(root / f"{name}.nii.gz", voxels_of(number))
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}), encoding="utf-8"
    )
    write_ages(root / "participants.tsv", "sub-1\t30\nsub-2\t40\nsub-3\tn/a\nsub-4\t50\n")
    (root / "sub-1" / "sub-1_sessions.tsv").write_text(
        "session_id\tage\nses-a\t31\nses-b\t33.5\n", encoding="utf-8"
    )
    return root


def test_a_data_set_gives_all_scans_at_the_age_of_their_session(dataset: Path) -> None:
    study = read_study(dataset / "participants.tsv", None, "d/{scan}_{session_id}_dseg.nii.gz")
    assert [(s.name, s.session_id, s.chronological_age) for s in study.scans] == [
        ("sub-1_ses-a_run-1", "a", 31.0),
        ("sub-1_ses-a_run-2", "a", 31.0),
        ("sub-1_ses-b", "b", 33.5),
        ("sub-2", None, 40.0),
    ]
    assert study.scans[2].labels == dataset / "d" / "sub-1_ses-b_b_dseg.nii.gz"
    assert [remark for remark in study.remarks if "no T1w scan: 4" in remark]
    assert [remark for remark in study.remarks if "no age in the table: 3" in remark]
    # Folds are balanced in one age a participant: (31 + 31 + 33.5) / 3.
    assert study.participants.table["age"].to_dict() == {"1": pytest.approx(95.5 / 3), "2": 40.0}


def test_sessions_at_one_age_are_told_of(dataset: Path) -> None:
    table = dataset / "participants.tsv"
    assert not any("one age" in remark for remark in read_study(table, None, None).remarks)
    (dataset / "sub-1" / "sub-1_sessions.tsv").unlink()
    study = read_study(table, None, None)
    assert {scan.chronological_age for scan in study.scans if scan.participant_id == "1"} == {30.0}
    (told,) = [remark for remark in study.remarks if "one age" in remark]
    assert told.startswith("1 participants have several sessions but one age (1)")


def test_another_table_in_the_data_set_says_who_takes_part(dataset: Path) -> None:
    controls = write_ages(dataset / "controls.tsv", "sub-2\t41\n")
    study = read_study(controls, None, None)
    assert [(s.name, s.chronological_age) for s in study.scans] == [("sub-2", 41.0)]


def test_without_pattern_and_data_set_the_way_out_is_named(tmp_path: Path) -> None:
    table = write_ages(tmp_path / "participants.tsv", "sub-1\t30\n")
    with pytest.raises(UsageError, match=r"dataset_description\.json.*t1w ="):
        read_study(table, None, None)


# Reading them all before anything is trained


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    table = write_study(tmp_path, ["a", "b", "c", "d"])
    (tmp_path / "b.nii.gz").unlink()
    (tmp_path / "d.nii.gz").write_bytes(b"no scan")
    study = read_study(table, "{participant_id}.nii.gz", None)
    cohort = PreparedCohort(tmp_path / "prepared", Picky())  # type: ignore[arg-type]
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"2 scans cannot be used, and nothing") as caught:
        make_ready(study, cohort, out, jobs=1, skip_unusable=False)
    assert "b.nii.gz" in str(caught.value)
    assert "d.nii.gz" in str(caught.value)
    assert pd.read_csv(out / "unusable.tsv", sep="\t")["scan"].tolist() == ["b", "d"]
    ready = make_ready(study, cohort, out, jobs=1, skip_unusable=True)
    assert [scan.name for scan in ready.study.scans] == ["a", "c"]
    assert ready.scans["scan"].tolist() == ["a", "c"]
    # Mended: everybody takes part, and no table says otherwise.
    for number, name in ((1, "b"), (3, "d")):
        write_scan(tmp_path / f"{name}.nii.gz", voxels_of(number))
    ready = make_ready(study, cohort, out, jobs=1, skip_unusable=False)
    assert [scan.name for scan in ready.study.scans] == ["a", "b", "c", "d"]
    assert not (out / "unusable.tsv").exists()


def test_what_preprocessing_refuses_is_listed_with_what_cannot_be_read(tmp_path: Path) -> None:
    table = write_study(tmp_path, ["a", "b", "c"])
    (tmp_path / "a.nii.gz").unlink()
    study = read_study(table, "{participant_id}.nii.gz", None)
    cohort = PreparedCohort(tmp_path / "prepared", Picky("b.nii"))  # type: ignore[arg-type]
    ready = make_ready(study, cohort, tmp_path / "out", jobs=1, skip_unusable=True)
    assert [scan.name for scan in ready.study.scans] == ["c"]
    assert ready.scans["scan"].tolist() == ["c"]
    assert pd.read_csv(tmp_path / "out" / "unusable.tsv", sep="\t")["scan"].tolist() == ["a", "b"]


def test_a_label_map_that_is_missing_is_named_as_well(tmp_path: Path) -> None:
    study = read_study(
        write_study(tmp_path, ["a"]), "{participant_id}.nii.gz", "{scan}_dseg.nii.gz"
    )
    scans, unusable = inspect_scans(study)
    assert scans.empty
    assert "a_dseg.nii.gz" in unusable["message"][0]


def test_one_person_under_two_names_is_refused_whatever_the_file(tmp_path: Path) -> None:
    table = write_study(tmp_path, ["a", "b", "c"])
    write_scan(tmp_path / "c.nii.gz", voxels_of(0).astype(np.float32) / 7)
    scans, _ = inspect_scans(read_study(table, "{participant_id}.nii.gz", None))
    assert list(scans.columns) == list(SCAN_COLUMNS)
    assert scans["content_hash"].nunique() == 3
    with pytest.raises(UsageError, match="a = c"):
        refuse_twins(scans)
    # Two scans of one person may be the same.
    refuse_twins(scans.assign(participant_id="a"))


def test_files_known_by_content_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(write_study(tmp_path, ["a", "b"]), "{participant_id}.nii.gz", None)
    known, _ = inspect_scans(study)
    write_scan(tmp_path / "b.nii.gz", voxels_of(9))
    read: list[str] = []
    monkeypatch.setattr(
        "ermoe_ba.inspection.read_t1w", lambda path: read.append(path.name) or read_t1w(path)
    )
    again, _ = inspect_scans(study, known)
    assert read == ["b.nii.gz"]
    assert (again["voxel_hash"] == known["voxel_hash"]).tolist() == [True, False]


# The cache


def test_prepared_scans_are_found_by_content_and_not_by_name(tmp_path: Path) -> None:
    preprocessor = Picky()
    cohort = PreparedCohort(tmp_path / "prepared", preprocessor)  # type: ignore[arg-type]
    study = read_study(write_study(tmp_path, ["a", "b"]), "{participant_id}.nii.gz", None)
    assert cohort.prepare_all(study.scans).empty
    assert preprocessor.calls == ["a.nii.gz", "b.nii.gz"]
    # Another run, another name, the same file: nothing to do. A changed file: made anew.
    (tmp_path / "z.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes())
    write_scan(tmp_path / "b.nii.gz", voxels_of(7))
    table = write_ages(tmp_path / "others.tsv", "z\t50\nb\t51\n")
    others = read_study(table, "{participant_id}.nii.gz", None)
    later = PreparedCohort(tmp_path / "prepared", preprocessor)  # type: ignore[arg-type]
    assert later.prepare_all(others.scans).empty
    assert preprocessor.calls[2:] == ["b.nii.gz"]
    first = [float(later.read(scan).t1w.data[0, 0, 0]) for scan in others.scans]
    assert first == [voxels_of(0)[0, 0, 0], voxels_of(7)[0, 0, 0]]


def test_another_preprocessing_has_a_folder_of_its_own(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, ["a"]), "{participant_id}.nii.gz", None)
    for config in (PreprocessConfig(), PreprocessConfig(affine_steps=(5, 5))):
        preprocessor = Picky()
        preprocessor.config = config
        PreparedCohort(tmp_path / "prepared", preprocessor).prepare_all(study.scans)  # type: ignore[arg-type]
        assert preprocessor.calls == ["a.nii.gz"]
    assert len(list((tmp_path / "prepared").iterdir())) == 2


def test_several_processes_list_what_none_of_them_can_use(tmp_path: Path) -> None:
    """Real preprocessing in two processes; noise is no brain, and says so twice."""
    study = read_study(write_study(tmp_path, ["a", "b"]), "{participant_id}.nii.gz", None)
    cohort = PreparedCohort(tmp_path / "prepared", Preprocessor(PreprocessConfig()))
    unusable = cohort.prepare_all(study.scans, jobs=2)
    assert unusable["scan"].tolist() == ["a", "b"]
    assert unusable["message"].str.contains("brain").all()
