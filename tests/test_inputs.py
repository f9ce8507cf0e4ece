"""What the user points at becomes scans: whose they are, how old, and which of several."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ermoe_ba.cohort import Participants, one_age_remark, read_participants
from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import Selection, find_scans
from ermoe_ba.naming import ScanName

ALL = Selection()


def _who(scans: list[ScanName]) -> list[tuple[str, str, str | None, float | None]]:
    return [(s.path.name, s.participant_id, s.session_id, s.chronological_age) for s in scans]


# Tables of paths


def _table(folder: Path, text: str) -> Path:
    path = folder / "scans.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_names_paths_people_and_ages(tmp_path: Path) -> None:
    """Paths are relative to the table; ages and names may be missing."""
    table = _table(
        tmp_path,
        "path\tparticipant_id\tsession_id\tage\n"
        "a/x.nii\tsub-P1\tses-2\t40.5\n../b/y.nii.gz\tNA\tn/a\tn/a\n/c/z.mgz\t\t\t\n",
    )
    scans, remarks = find_scans([table], ALL)
    assert not remarks
    assert _who(scans) == [
        ("x.nii", "P1", "2", 40.5),
        ("y.nii.gz", "NA", None, None),
        ("z.mgz", "z", None, None),
    ]
    assert [s.path for s in scans] == [
        tmp_path / "a/x.nii",
        tmp_path / "../b/y.nii.gz",
        Path("/c/z.mgz"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file\tage\na.nii\t3\n", "found the columns file, age"),
        ("path\tage\na.nii\told\n", "'old' for"),
        ("path\tage\na.nii\t1950\n", "from 0 to 123"),
        ("path\tage\na.nii\tnan\n", "'nan'"),
        ("path\tage\na.nii\t38,5\n", "decimals after a point (38.5), or n/a; found '38,5'"),
        ("path\tage\n\t30\n", "rows without"),
        ("path\tparticipant_id\na.nii\tP1\nb.nii\tP2\na.nii\tP3\n", "'a.nii' in several"),
        ("path\tparticipant_id\na.nii\tP1\n./a.nii\tP2\n", "'./a.nii' in several"),
        ("path\tparticipant_id\na.hdr\tP1\na.img\tP2\n", "'a.img' in several"),
        ("path\tage\tage\na.nii\t30\t60\n", "'age' as columns 2 and 3"),
        ("", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"scans\.tsv") as caught:
        find_scans([_table(tmp_path, text)], ALL)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["../../escape", "a/b", "a\nb", "..", "$(id)", "sub-", "ü"])
def test_no_name_in_a_table_becomes_part_of_a_path(tmp_path: Path, name: str) -> None:
    from ermoe_ba.derivatives import derivatives_of

    table = _table(tmp_path, f'path\tparticipant_id\nx.nii\t"{name}"\n')
    scans, _ = find_scans([table], ALL)
    assert scans[0].name == "x"
    (place,) = derivatives_of(tmp_path / "out", scans)
    for path in place.files:
        assert path.resolve().is_relative_to((tmp_path / "out").resolve())
        assert path.name.isascii()
        assert path.name.isprintable()


def test_a_table_from_a_spreadsheet_says_what_it_means(tmp_path: Path) -> None:
    """Spaces, a byte order mark, Windows line ends; BIDS hides high ages; names may end in one."""
    rows = ["path \t participant_id\tage ", "a .nii\t sub-01 \t 40 ", "b.nii\t02\t89+"]
    (tmp_path / "scans.tsv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    scans, _ = find_scans([tmp_path / "scans.tsv"], ALL)
    assert _who(scans) == [("a .nii", "01", None, 40.0), ("b.nii", "02", None, None)]


# Folders


def test_both_files_of_a_pair_are_one_scan(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.img", "b.img", "c.mgz", "d.nii"):
        (tmp_path / name).touch()
    scans, _ = find_scans([tmp_path], ALL)
    assert [s.path.name for s in scans] == ["a.hdr", "b.img", "c.mgz", "d.nii"]
    scans, _ = find_scans([tmp_path / "a.hdr", tmp_path / "a.img"], ALL)
    assert [s.path.name for s in scans] == ["a.hdr"]


def test_a_folder_of_dicom_files_is_one_scan(tmp_path: Path) -> None:
    folder = tmp_path / "sub-07_ses-1"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(bytes(128) + b"DICM")
    (folder / "readme.txt").touch()
    scans, _ = find_scans([folder], ALL)
    assert [s.path for s in scans] == [folder]
    assert _who(scans) == [("sub-07_ses-1", "07", "1", None)]


# BIDS data sets


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Path]:
    """Lay out a data set of empty files: only names and tables are read here."""
    pytest.importorskip("bids")

    def make(*names: str, participants: str | None = None, **sessions: str) -> Path:
        root = tmp_path / "dataset"
        root.mkdir()
        described = {"Name": "Heads", "BIDSVersion": "1.10.0"}
        (root / "dataset_description.json").write_text(json.dumps(described), encoding="utf-8")
        for name in names:
            folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
            folder = root.joinpath(*folders, "anat")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        if participants is not None:
            (root / "participants.tsv").write_text(participants, encoding="utf-8")
        for label, text in sessions.items():
            path = root / f"sub-{label}" / f"sub-{label}_sessions.tsv"
            path.write_text(text, encoding="utf-8")
        return root

    return make


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
    assert _who(scans) == [
        ("sub-01_ses-a_T1w.nii.gz", "01", "a", None),
        ("sub-01_ses-b_T1w.nii", "01", "b", None),
        ("sub-02_T1w.nii.gz", "02", None, None),
        ("sub-03_part-mag_T1w.nii.gz", "03", None, None),
    ]


def test_the_age_at_a_session_counts_before_the_participant_s(
    dataset: Callable[..., Path],
) -> None:
    root = dataset(
        *(f"sub-{who}_ses-{when}_T1w.nii.gz" for who in ("01", "02") for when in ("a", "b")),
        participants="participant_id\tage\nsub-01\t40\nsub-02\t89+\n",
        **{"01": "session_id\tage\nses-b\t42.5\nses-a\tn/a\n"},
    )
    scans, _ = find_scans([root], ALL)
    ages = {(s.participant_id, s.session_id): s.chronological_age for s in scans}
    assert ages == {("01", "a"): 40.0, ("01", "b"): 42.5, ("02", "a"): None, ("02", "b"): None}


def test_sessions_that_share_one_age_are_told_of_whichever_are_asked_for(
    dataset: Callable[..., Path],
) -> None:
    """1: none of two has its own age; 2: one of two; 3: both; 4: one session; 5: no age known."""
    root = dataset(
        *(f"sub-0{who}_ses-{when}_T1w.nii.gz" for who in (1, 2, 3, 5) for when in ("a", "b")),
        "sub-01_ses-b_run-2_T1w.nii.gz",
        "sub-04_ses-a_T1w.nii.gz",
        "sub-04_ses-a_run-2_T1w.nii.gz",
        participants="participant_id\tage\n01\t40\n02\t41\n03\t42\n04\t43\n05\tn/a\n",
        **{"02": "session_id\tage\nb\t44\n", "03": "session_id\tage\na\t42\nb\t45\n"},
    )
    scans, _ = find_scans([root], ALL)
    assert len(scans) == 11
    told = one_age_remark(scans, None)
    assert told.startswith("2 participants have several sessions but one age (01, ...)")
    assert "sub-<participant>_sessions.tsv" in told
    # A job for one session sees no other, and is as wrong.
    later, _ = find_scans([root], Selection(session_labels=("b",)))
    assert one_age_remark(later, None).startswith("1 participants")
    assert one_age_remark([s for s in scans if s.participant_id in {"03", "04", "05"}], None) == ""
    # Ages from a table that is given instead are one a participant just so.
    table = Participants(pd.DataFrame({"age": [50.0]}, index=["05"]))
    assert one_age_remark(scans, table).startswith("1 participants have several sessions but")
    assert "(05)" in one_age_remark(scans, table)


def test_files_share_an_age_by_a_table_of_participants_and_not_by_one_of_paths(
    tmp_path: Path,
) -> None:
    rows = "".join(f"sub-1_ses-{when}_T1w.nii\t{age}\n" for when, age in (("a", 30), ("b", 30)))
    scans, _ = find_scans([_table(tmp_path, f"path\tage\n{rows}")], ALL)
    assert one_age_remark(scans, None) == ""
    people = Participants(pd.DataFrame({"age": [30.0]}, index=["1"]))
    assert "1 participants" in one_age_remark(scans, people)
    assert one_age_remark(scans[:1], people) == ""


def test_a_data_set_needs_no_ages(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T1w.nii.gz", participants="participant_id\tsex\nsub-01\tF\n")
    scans, _ = find_scans([root], ALL)
    assert scans[0].chronological_age is None


@pytest.mark.parametrize(
    ("participants", "ages", "says"),
    [
        # Hidden in another way than BIDS has, or no number at all.
        ("participant_id\tage\nsub-01\t>89\nsub-02\t40\n", [None, 40.0], "1 rows.*sub-01, '>89'"),
        ("age\tparticipant_id\n30\tsub-01\n1950\tsub-02\n", [30.0, None], "sub-02, '1950'"),
        ("participant_id\tage\nsub-01\t38,5\nsub-02\t40\n", [None, 40.0], "point .*'38,5'"),
        # A row a session: which of the ages is that of the scan?
        (
            "participant_id\tage\nsub-01\t30\nsub-01\t32\nsub-02\t40\n",
            [None, 40.0],
            "2 rows.*sub-01, '30'",
        ),
        # Cells would slip below their neighbours' names.
        ("participant_id\tage\nsub-01\t30\tx\nsub-02\t40\ty\n", [None, None], "cannot be read"),
        ("participant_id\tage\nsub-01\t30\nsub-02\t4\t5\t6\n", [None, None], "cannot be read"),
    ],
)
def test_a_data_set_s_own_ages_stop_nobody_and_what_is_unknown_is_said(
    dataset: Callable[..., Path], participants: str, ages: list[float | None], says: str
) -> None:
    root = dataset("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz", participants=participants)
    scans, remarks = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == ages
    assert len(remarks) == 1
    assert re.search(says, remarks[0])
    assert str(root / "participants.tsv") in remarks[0]


@pytest.mark.parametrize("header", ["participant_id,age", "participant_id\tAge", "ID\tage"])
def test_ages_that_the_header_hides_are_told(dataset: Callable[..., Path], header: str) -> None:
    row = "sub-01,30" if "," in header else "sub-01\t30"
    root = dataset("sub-01_T1w.nii.gz", participants=f"{header}\n{row}\n")
    scans, remarks = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert len(remarks) == 1
    assert "must have the columns participant_id and age, separated by tabs" in remarks[0]


def test_blanks_around_a_name_are_no_part_of_it(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T1w.nii.gz", participants="participant_id\tage\nsub-01 \t 30 \n")
    assert find_scans([root], ALL)[0][0].chronological_age == 30.0


@pytest.mark.parametrize(
    ("units", "cells", "ages"),
    [
        ("months", ("480", "18"), [40.0, 1.5]),
        ("Month(s)", ("480", "18"), [40.0, 1.5]),
        # Four years of 365.25 days; 104 weeks are 728 days.
        ("days", ("1461", "n/a"), [4.0, None]),
        ("weeks", ("104", "89+"), [728 / 365.25, None]),
        ("age in years", ("40", "1.5"), [40.0, 1.5]),
        ("", ("40", "1.5"), [40.0, 1.5]),
    ],
)
def test_ages_are_in_the_units_that_the_data_set_states(
    dataset: Callable[..., Path], units: str, cells: tuple[str, str], ages: list[float | None]
) -> None:
    table = f"participant_id\tage\nsub-01\t{cells[0]}\nsub-02\t{cells[1]}\n"
    root = dataset("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz", participants=table)
    described = {"age": {"Description": "Age at entry", "Units": units}}
    (root / "participants.json").write_text(json.dumps(described), encoding="utf-8")
    scans, remarks = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == pytest.approx(ages)
    assert remarks == []
    given = read_participants(root / "participants.tsv")
    assert [given.age_of(name) for name in ("01", "02")] == pytest.approx(ages)


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        ('{"age": {"Units": "z-score"}}', "must be years, months, weeks or days; found 'z-score'"),
        ('{"age": {"Units": "years, months"}}', "found 'years, months'"),
        ("{", "must be readable JSON"),
    ],
)
def test_units_that_are_none_of_time_leave_ages_unknown_and_a_given_table_unused(
    dataset: Callable[..., Path], sidecar: str, says: str
) -> None:
    root = dataset("sub-01_T1w.nii.gz", participants="participant_id\tage\nsub-01\t40\n")
    (root / "participants.json").write_text(sidecar, encoding="utf-8")
    scans, remarks = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert len(remarks) == 1
    assert says in remarks[0]
    with pytest.raises(UsageError, match=re.escape(says)):
        read_participants(root / "participants.tsv")


def test_ages_at_sessions_have_the_units_of_their_own_table_or_of_all(
    dataset: Callable[..., Path],
) -> None:
    root = dataset(
        *(f"sub-{who}_ses-a_T1w.nii.gz" for who in ("01", "02")),
        **dict.fromkeys(("01", "02"), "session_id\tage\nses-a\t36\n"),
    )
    for path, units in (("sessions.json", "months"), ("sub-02/sub-02_sessions.json", "years")):
        (root / path).write_text(json.dumps({"age": {"Units": units}}), encoding="utf-8")
    scans, _ = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == [3.0, 36.0]


def test_tables_that_nobody_can_read_are_told_and_stop_nobody(
    dataset: Callable[..., Path],
) -> None:
    """Content of a link that was not fetched; a spreadsheet's "Unicode text"."""
    root = dataset("sub-01_T1w.nii.gz")
    table = root / "participants.tsv"
    table.symlink_to(root / ".git" / "annex" / "objects" / "x")
    scans, remarks = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert remarks == [f"{table}: its ages are unknown, since it links to no file"]
    table.unlink()
    table.write_text("participant_id\tage\n01\t40\n", encoding="utf-16")
    scans, (remark,) = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert "must be text in UTF-8" in remark
    assert remark.endswith("Its ages are unknown")


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


def test_hidden_ages_are_unknown_without_a_word(dataset: Callable[..., Path]) -> None:
    root = dataset(
        *(f"sub-01_ses-{when}_T1w.nii.gz" for when in ("a", "b")),
        participants="participant_id\tage\nsub-01\t89+\n",
        **{"01": "session_id\tage\nses-a\tn/a\nses-b\told\n"},
    )
    scans, remarks = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == [None, None]
    assert len(remarks) == 1
    assert "sub-01_sessions.tsv" in remarks[0]
    assert "ses-b, 'old'" in remarks[0]


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


def test_labels_without_a_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of the inputs"):
        find_scans([tmp_path / "x.nii"], Selection(participant_labels=("01",)))


@pytest.mark.parametrize(
    ("selection", "option", "kind"),
    [
        (Selection(one_a_session=True), "--one-per-session", "BIDS data sets"),
        (Selection(age_from_dicom=True), "--age-from-dicom", "folders of a DICOM series"),
    ],
)
def test_what_no_input_is_meant_by_is_refused(
    tmp_path: Path, selection: Selection, option: str, kind: str
) -> None:
    with pytest.raises(UsageError, match=f"{option} is about {kind}; found none"):
        find_scans([tmp_path / "sub-1_run-1_T1w.nii", tmp_path / "sub-1_run-2_T1w.nii"], selection)


def test_inputs_that_an_option_changes_nothing_of_are_told(
    tmp_path: Path, dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset("sub-01_T1w.nii.gz")
    others = [tmp_path / "x.nii", tmp_path / "y.nii"]
    assert find_scans([root], Selection(one_a_session=True))[1] == []
    scans, remarks = find_scans([root, *others], Selection(one_a_session=True))
    assert len(scans) == 3
    assert remarks == [
        "--one-per-session is about BIDS data sets and changes nothing of 2 other inputs "
        f"({others[0]}, ...)."
    ]
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setattr("ermoe_ba.inputs.patient_age", lambda _: 41.0)
    scans, remarks = find_scans([series, others[0]], Selection(age_from_dicom=True))
    assert [scan.chronological_age for scan in scans] == [41.0, None]
    assert remarks == [
        "--age-from-dicom is about folders of a DICOM series and changes nothing of 1 other inputs "
        f"({others[0]})."
    ]
    assert find_scans([series], Selection(age_from_dicom=True))[1] == []


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


def test_inputs_without_any_scan_are_no_batch(dataset: Callable[..., Path], tmp_path: Path) -> None:
    """A run of nothing would end as if all were done."""
    with pytest.raises(UsageError, match=r"at least one scan; found none.*echo-1_T1w"):
        find_scans([dataset("sub-01_echo-1_T1w.nii.gz")], ALL)
    table = tmp_path / "none.tsv"
    table.write_text("path\tage\n", encoding="utf-8")
    with pytest.raises(UsageError, match="at least one scan; found none"):
        find_scans([table], ALL)
