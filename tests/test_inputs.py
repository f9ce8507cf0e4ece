"""What the user points at becomes scans: tables of paths, files, folders, and their options."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from empty_dataset import ALL, dataset, whose

from ermoe_ba.cohort import Participants, one_age_remark
from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import Selection, find_scans

# Fixtures, which pytest finds by name.
__all__ = ["dataset"]


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
    assert whose(scans) == [
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
    assert whose(scans) == [("a .nii", "01", None, 40.0), ("b.nii", "02", None, None)]


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
    assert whose(scans) == [("sub-07_ses-1", "07", "1", None)]


def test_files_share_an_age_by_a_table_of_participants_and_not_by_one_of_paths(
    tmp_path: Path,
) -> None:
    rows = "".join(f"sub-1_ses-{when}_T1w.nii\t{age}\n" for when, age in (("a", 30), ("b", 30)))
    scans, _ = find_scans([_table(tmp_path, f"path\tage\n{rows}")], ALL)
    assert one_age_remark(scans, None) == ""
    people = Participants(pd.DataFrame({"age": [30.0]}, index=["1"]))
    assert "1 participants" in one_age_remark(scans, people)
    assert one_age_remark(scans[:1], people) == ""


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


def test_inputs_without_any_scan_are_no_batch(dataset: Callable[..., Path], tmp_path: Path) -> None:
    """A run of nothing would end as if all were done."""
    with pytest.raises(UsageError, match=r"at least one scan; found none.*echo-1_T1w"):
        find_scans([dataset("sub-01_echo-1_T1w.nii.gz")], ALL)
    table = tmp_path / "none.tsv"
    table.write_text("path\tage\n", encoding="utf-8")
    with pytest.raises(UsageError, match="at least one scan; found none"):
        find_scans([table], ALL)
