"""Files that a data set names in its ``.bidsignore`` are none of its scans, and that is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ermoe_ba.bids.ignored import read_ignored
from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import Selection, find_scans
from ermoe_ba.study import read_study

SCAN = "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz"


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("", False),
        ("# *_T1w.nii.gz", False),
        ("\n  \n", False),
        # A name may lie in any folder, and a star ends at a slash.
        ("*_T1w.nii.gz", True),
        ("*_T1w.nii", False),
        ("sub-01_ses-?_T1w.nii.gz", True),
        ("sub-0[2-9]*", False),
        ("sub-0[!2-9]*", True),
        ("SUB-01", False),
        ("sub-01/*_T1w.nii.gz", False),
        ("sub-01/*/*/*_T1w.nii.gz", True),
        ("sub-01/**/*_T1w.nii.gz", True),
        ("**/anat", True),
        ("sub-01/**", True),
        (f"{SCAN}/**", False),
        # A slash before the end ties a line to the root; one at the end wants a folder.
        ("anat", True),
        ("/anat", False),
        ("ses-a/anat", False),
        ("sub-01/ses-a/anat", True),
        ("ses-a/", True),
        ("*_T1w.nii.gz/", False),
        (f"/{SCAN}", True),
        # The last line counts.
        ("*_T1w.nii.gz\n!sub-01*", False),
        ("!sub-01*\n*_T1w.nii.gz", True),
        ("sub-01/\n!*_T1w.nii.gz", False),
        ("sub-01/\n!sub-01/", False),
        ("\ufeff*_T1w.nii.gz \r\n", True),
    ],
)
def test_lines_mean_what_they_mean_in_a_gitignore(tmp_path: Path, text: str, ignored: bool) -> None:
    (tmp_path / ".bidsignore").write_bytes(text.encode())
    assert read_ignored(tmp_path).match_file(SCAN) is ignored


def test_a_data_set_without_the_file_ignores_nothing(tmp_path: Path) -> None:
    assert not read_ignored(tmp_path).match_file(SCAN)


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[str], Path]:
    """Four people with a scan each, empty files all, below a folder whose name is a line too."""
    pytest.importorskip("bids")

    def make(lines: str) -> Path:
        root = tmp_path / "sub-02" / "heads"
        for who in range(1, 5):
            folder = root / f"sub-0{who}" / "anat"
            folder.mkdir(parents=True)
            (folder / f"sub-0{who}_T1w.nii.gz").touch()
        described = {"Name": "Heads", "BIDSVersion": "1.10.0"}
        (root / "dataset_description.json").write_text(json.dumps(described), encoding="utf-8")
        ages = "".join(f"sub-0{who}\t{who}0\n" for who in range(1, 5))
        (root / "participants.tsv").write_text(f"participant_id\tage\n{ages}", encoding="utf-8")
        (root / ".bidsignore").write_text(lines, encoding="utf-8")
        return root

    return make


def test_an_ignored_scan_is_left_out_and_told_of_once(dataset: Callable[[str], Path]) -> None:
    root = dataset("sub-02/\nsub-04_*\n")
    scans, remarks = find_scans([root], Selection())
    assert [scan.participant_id for scan in scans] == ["01", "03"]
    assert len(remarks) == 1
    assert f"{root}: 2 scans left out (sub-02/anat/sub-02_T1w.nii.gz, ...): .bid" in remarks[0]


def test_training_leaves_an_ignored_scan_out_as_well(dataset: Callable[[str], Path]) -> None:
    study = read_study(dataset("sub-02/\n") / "participants.tsv", None, None)
    assert [scan.participant_id for scan in study.scans] == ["01", "03", "04"]
    assert sum(".bidsignore" in remark for remark in study.remarks) == 1


def test_lines_that_name_no_scan_are_not_told_of(dataset: Callable[[str], Path]) -> None:
    scans, remarks = find_scans([dataset("*_bold.nii.gz\nextra/\n")], Selection())
    assert [scan.participant_id for scan in scans] == ["01", "02", "03", "04"]
    assert not remarks


def test_nothing_left_is_refused_with_the_reason(dataset: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match=r"found none\..*4 scans left out .*\.bidsignore"):
        find_scans([dataset("*_T1w.nii.gz\n")], Selection())


def test_a_file_that_is_no_text_is_refused(dataset: Callable[[str], Path]) -> None:
    root = dataset("")
    (root / ".bidsignore").write_bytes(b"sub-\xff")
    with pytest.raises(UsageError, match=r"\.bidsignore: must be text in UTF-8"):
        find_scans([root], Selection())
