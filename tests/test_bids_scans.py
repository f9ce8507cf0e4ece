"""Scans of a BIDS data set: whose they are, which of several, and what is left out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from empty_dataset import ALL, dataset, whose

from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import Selection, find_scans

# Fixtures, which pytest finds by name.
__all__ = ["dataset"]


def test_all_t1w_scans_of_a_data_set_and_nothing_else(dataset: Callable[..., Path]) -> None:
    root = dataset(
        "sub-02_T1w.nii.gz",
        "sub-02_T2w.nii.gz",
        "sub-02_T1w.json",
        "sub-01_ses-b_T1w.nii",
        "sub-01_ses-a_T1w.nii.gz",
        "sub-03_part-phase_T1w.nii.gz",
        "sub-03_part-mag_T1w.nii.gz",
    )
    made = root / "derivatives" / "other" / "sub-02" / "anat"
    made.mkdir(parents=True)
    (made / "sub-02_desc-preproc_T1w.nii.gz").touch()
    scans, remarks = find_scans([root], ALL)
    assert not remarks
    assert whose(scans) == [
        ("sub-01_ses-a_T1w.nii.gz", "01", "a", None),
        ("sub-01_ses-b_T1w.nii", "01", "b", None),
        ("sub-02_T1w.nii.gz", "02", None, None),
        ("sub-03_part-mag_T1w.nii.gz", "03", None, None),
    ]


@pytest.mark.parametrize("above", ["sub-99", "ses-2", "pet"])
def test_no_folder_above_a_data_set_says_what_its_scans_are(
    tmp_path: Path, dataset: Callable[..., Path], above: str
) -> None:
    root = dataset("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")
    (tmp_path / above).mkdir()
    scans, remarks = find_scans([root.rename(tmp_path / above / "dataset")], ALL)
    assert [(s.participant_id, s.session_id) for s in scans] == [("01", None), ("02", None)]
    assert remarks == []


def test_a_description_that_is_no_json_is_told_in_one_line(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T1w.nii.gz")
    (root / "dataset_description.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="must be a BIDS data set") as caught:
        find_scans([root], ALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "sub-"])
def test_labels_choose_with_or_without_their_prefix(
    dataset: Callable[..., Path], prefix: str
) -> None:
    root = dataset(
        *(f"sub-{who}_ses-{when}_T1w.nii.gz" for who in ("01", "02", "03") for when in ("a", "b"))
    )
    chosen = Selection(participant_labels=(f"{prefix}01", "03"), session_labels=("b",))
    scans, _ = find_scans([root], chosen)
    assert [(s.participant_id, s.session_id) for s in scans] == [("01", "b"), ("03", "b")]


def test_a_job_for_one_session_looks_into_no_other_folder(
    dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster runs a job for each of thousands of participants on one file server."""
    root = dataset(
        *(f"sub-{who}_ses-{when}_T1w.nii.gz" for who in ("01", "012", "02") for when in "ab")
    )
    for folder in ("code", "sub-01/ses-a/func", "derivatives/x/sub-01/anat"):
        (root / folder).mkdir(parents=True)
    listed: list[str] = []

    def note(path: Any) -> None:
        place = Path(os.fsdecode(path)).absolute()
        if place.is_relative_to(root):
            listed.append(place.relative_to(root).as_posix())

    for name in ("scandir", "listdir"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", ask=plain: (note(path), ask(path))[1])
    chosen = Selection(participant_labels=("01",), session_labels=("a",))
    scans, _ = find_scans([root], chosen)
    assert [s.path.name for s in scans] == ["sub-01_ses-a_T1w.nii.gz"]
    # Whether there are other sessions at all is asked of the participant's own folder.
    assert {"sub-01", "sub-01/ses-a/anat"} < set(listed)
    assert set(listed) <= {".", "sub-01", "sub-01/ses-a", "sub-01/ses-b", "sub-01/ses-a/anat"}
    listed.clear()
    find_scans([root], ALL)
    assert {"sub-012/ses-b/anat", "sub-02/ses-a/anat"} < set(listed)


def test_labels_that_nobody_bears_are_refused(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T1w.nii.gz")
    with pytest.raises(UsageError, match=r"subject 07 must have T1w scans.*folders of 01\."):
        find_scans([root], Selection(participant_labels=("01", "07")))


def test_a_data_set_without_t1w_scans_is_refused(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T2w.nii.gz")
    with pytest.raises(UsageError, match="must hold T1w scans"):
        find_scans([root], ALL)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["run-1", "run-2", "run-10"], "run-10"),
        (["acq-mprage_run-2", "run-1"], "run-1"),
        (["ce-gad", "acq-mprage_rec-norm"], "acq-mprage_rec-norm"),
        (["acq-a", "acq-b"], "acq-b"),
        (["ce-gad_run-1", "ce-gad_run-2"], "ce-gad_run-2"),
    ],
)
def test_one_scan_stands_for_its_session_by_rule_and_that_is_said(
    dataset: Callable[..., Path], names: list[str], chosen: str
) -> None:
    root = dataset(*(f"sub-01_{name}_T1w.nii.gz" for name in names), "sub-02_T1w.nii.gz")
    scans, remarks = find_scans([root], Selection(one_a_session=True))
    assert [s.path.name for s in scans] == [f"sub-01_{chosen}_T1w.nii.gz", "sub-02_T1w.nii.gz"]
    assert len(remarks) == 1
    assert remarks[0].startswith(f"sub-01_{chosen}_T1w.nii.gz stands for its session; left out: ")
    for name in set(names) - {chosen}:
        assert f"sub-01_{name}_T1w.nii.gz" in remarks[0]


def test_what_programs_made_of_scans_is_left_out_and_said(dataset: Callable[..., Path]) -> None:
    """In a data set of derivatives there is nothing else; beside scans, the rest is read."""
    made = ("sub-01_desc-preproc_T1w.nii.gz", "sub-01_space-MNI152Lin_T1w.nii.gz")
    root = dataset(*made, "sub-01_rec-defaced_T1w.nii.gz", "sub-01_mod-T1w_defacemask.nii.gz")
    scans, (remark,) = find_scans([root], Selection(one_a_session=True))
    assert [s.path.name for s in scans] == ["sub-01_rec-defaced_T1w.nii.gz"]
    assert "2 scans left out (sub-01/anat/sub-01_desc-preproc_T1w.nii.gz, ...)" in remark
    scans[0].path.unlink()
    with pytest.raises(UsageError, match=r"found none.*2 scans left out.*one by one"):
        find_scans([root], ALL)


def test_a_scan_in_somebody_else_s_folder_is_left_out_and_said(
    dataset: Callable[..., Path],
) -> None:
    """A name may say less than its folders, but nothing else."""
    root = dataset("sub-01_ses-a_T1w.nii.gz")
    home = root / "sub-01" / "ses-a" / "anat"
    for name in ("sub-01_run-2_T1w.nii.gz", "sub-02_T1w.nii.gz", "sub-01_ses-b_T1w.nii.gz"):
        (home / name).touch()
    scans, remarks = find_scans([root], ALL)
    assert [(s.path.name, s.session_id) for s in scans] == [
        ("sub-01_run-2_T1w.nii.gz", "a"),
        ("sub-01_ses-a_T1w.nii.gz", "a"),
    ]
    assert "2 scans left out (sub-01/ses-a/anat/sub-01_ses-b_T1w.nii.gz, ...)" in remarks[0]
    assert "another participant or session" in remarks[0]


def test_all_runs_are_taken_unless_asked_and_that_is_said(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_run-1_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz")
    scans, remarks = find_scans([root], ALL)
    assert len(scans) == 2
    assert len(remarks) == 1
    assert "1 sessions have several" in remarks[0]
    assert "--one-per-session" in remarks[0]


def test_single_echoes_are_refused_by_name(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_echo-1_T1w.nii.gz", "sub-01_echo-2_T1w.nii.gz", "sub-01_T1w.nii.gz")
    scans, remarks = find_scans([root], ALL)
    assert [s.path.name for s in scans] == ["sub-01_T1w.nii.gz"]
    assert len(remarks) == 1
    assert "sub-01_echo-1_T1w.nii.gz, sub-01_echo-2_T1w.nii.gz" in remarks[0]
