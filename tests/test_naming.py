"""Names of scans: who they are of, and no two alike whatever the input."""

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import Selection, find_scans
from ermoe_ba.naming import name_scans

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _names(*paths: str) -> list[str]:
    return [scan.name for scan in name_scans([Path(path) for path in paths])]


def _found(*inputs: Path) -> list[Path]:
    scans, remarks = find_scans(inputs, Selection())
    assert not remarks
    return [scan.path for scan in scans]


def _distinct(names: list[str]) -> bool:
    """Told apart even where letter case does not count."""
    return len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize(
    ("file", "name", "participant_id", "session_id"),
    [
        ("sub-01_T1w.nii.gz", "sub-01", "01", None),
        ("sub-01_ses-a2_T1w.nii", "sub-01_ses-a2", "01", "a2"),
        ("sub-01_ses-2_acq-mprage_run-1_T1w.nii.gz", "sub-01_ses-2_acq-mprage_run-1", "01", "2"),
        ("sub-01_acq-mprage_T1w.nii.gz", "sub-01_acq-mprage", "01", None),
        ("sub-01.nii.gz", "sub-01", "01", None),
        ("IXI012-HH-1211_T1w.nii.gz", "IXI012-HH-1211", "IXI012-HH-1211", None),
        ("sub-07-b_T1w.nii.gz", "sub-07-b", "07-b", None),
        ("head.nii.gz", "head", "head", None),
        ("sub_01.NII.GZ", "sub_01", "sub_01", None),
    ],
)
def test_who_a_file_name_speaks_of(
    file: str, name: str, participant_id: str, session_id: str | None
) -> None:
    (scan,) = name_scans([Path("folder") / file])
    assert (scan.name, scan.participant_id, scan.session_id) == (name, participant_id, session_id)
    assert scan.path == Path("folder") / file


def test_equal_names_in_different_folders_are_told_apart_by_the_folders() -> None:
    assert _names("/d/one/anat/T1.nii", "/d/two/anat/T1.nii") == ["one_T1", "two_T1"]


def test_sessions_of_one_participant_keep_their_entities() -> None:
    scans = name_scans(
        [Path("/d/ses-1/sub-01_ses-1_T1w.nii.gz"), Path("/d/ses-2/sub-01_ses-2_T1w.nii.gz")]
    )
    assert [(s.name, s.participant_id, s.session_id) for s in scans] == [
        ("sub-01_ses-1", "01", "1"),
        ("sub-01_ses-2", "01", "2"),
    ]


def test_equal_bids_names_keep_their_participant() -> None:
    scans = name_scans([Path("/d/a/sub-01_T1w.nii.gz"), Path("/d/b/sub-01_T1w.nii.gz")])
    assert [s.name for s in scans] == ["a_sub-01", "b_sub-01"]
    assert [s.participant_id for s in scans] == ["01", "01"]


@pytest.mark.parametrize(
    "paths",
    [
        ("d/x.nii", "d/x.nii.gz"),
        ("d/x.nii", "d/X.nii"),
        ("d/x.nii", "D/x.nii"),
        ("d/x.nii", "d/x_T1w.nii"),
        ("d/x y.nii", "d/x-y.nii", "d/x\ny.nii"),
        ("d/é.nii", "d/ü.nii"),
        ("d/a b/x.nii", "d/a-b/x.nii"),
        ("a/x.nii", "b/x.nii", "a_x.nii"),
        ("p/a/x.nii", "p/b/x.nii", "p/c/a_x.nii", "p/d/a_x.nii"),
        ("x.nii", "d/x.nii", "d/d/x.nii"),
    ],
)
def test_no_two_inputs_share_a_name_and_the_order_does_not_count(paths: tuple[str, ...]) -> None:
    names = _names(*paths)
    assert _distinct(names)
    assert _names(*reversed(paths)) == names[::-1]


def test_a_prefix_does_not_count_as_a_name_of_its_own() -> None:
    """Where it did, names followed Python's hash seed, and changed from run to run."""
    assert _names("/p/a/x.nii", "/p/b/x.nii", "/p/c/a_x.nii", "/p/d/a_x.nii") == [
        "a_x",
        "b_x",
        "c_a_x",
        "d_a_x",
    ]


def test_long_names_are_cut_and_stay_distinct() -> None:
    names = _names(f"/d/{'x' * 240}1.nii", f"/d/{'x' * 240}2.nii")
    assert _distinct(names)
    assert max(map(len, names)) < 170


@pytest.mark.parametrize(
    "file",
    [
        "a b.nii",
        "a\nb.nii.gz",
        ".hidden.nii",
        "..nii",
        "-rf.nii",
        "Müller Ω.nii.gz",
        "脳.nii",
        "a;rm $HOME.nii",
        "a\\b.nii",
        "_T1w.nii.gz",
    ],
)
def test_any_file_name_gives_a_safe_name(file: str) -> None:
    (name,) = _names(f"/data/{file}")
    assert SAFE.fullmatch(name)


_part = st.sampled_from(["a", "A", "b", "a b", "a-b", "é", "a_x"])
_file = st.sampled_from(["x.nii", "x.nii.gz", "X.nii", "x_T1w.nii", "a_x.nii", "sub-1_T1w.nii"])
_path = st.tuples(st.lists(_part, max_size=3), _file).map(lambda p: Path("/r", *p[0], p[1]))


@settings(deadline=None, max_examples=150)
@given(paths=st.lists(_path, min_size=1, max_size=8, unique=True), random=st.randoms())
def test_names_are_distinct_and_safe_in_any_order(paths: list[Path], random: object) -> None:
    for _ in range(2):
        scans = name_scans(paths)
        assert [scan.path for scan in scans] == paths
        assert _distinct([scan.name for scan in scans])
        assert all(SAFE.fullmatch(scan.name) for scan in scans)
        random.shuffle(paths)  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=60)
@given(name=st.text(min_size=1, max_size=30).filter(lambda t: not set(t) & {"/", "\0"}))
def test_any_text_gives_a_safe_name(name: str) -> None:
    (scan,) = name_scans([Path("/d") / f"{name}.nii"])
    assert SAFE.fullmatch(scan.name)


def test_a_folder_gives_its_nifti_files_in_order(tmp_path: Path) -> None:
    for file in ("b.nii.gz", "a.nii", "C.NII", "notes.txt", "a.json"):
        (tmp_path / file).touch()
    # A folder may be called like a file, and deeper files are not meant.
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "folder.nii" / "deep.nii").touch()
    found = _found(tmp_path)
    assert [path.name for path in found] == ["C.NII", "a.nii", "b.nii.gz"]


def test_a_file_given_twice_or_with_its_folder_counts_once(tmp_path: Path) -> None:
    for file in ("a.nii", "b.nii"):
        (tmp_path / file).touch()
    found = _found(tmp_path / "b.nii", tmp_path, tmp_path / "b.nii")
    assert [path.name for path in found] == ["b.nii", "a.nii"]


def test_a_file_given_by_two_kinds_of_path_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would bear one name, and write over each other's results."""
    (tmp_path / "a.nii").touch()
    monkeypatch.chdir(tmp_path)
    assert _found(Path("a.nii"), tmp_path / "a.nii") == [Path("a.nii")]
    assert _found(tmp_path, Path("a.nii")) == [tmp_path / "a.nii"]


def test_either_file_of_a_pair_given_first_means_the_pair(tmp_path: Path) -> None:
    for file in ("a.hdr", "a.img"):
        (tmp_path / file).touch()
    assert _found(tmp_path / "a.img", tmp_path / "a.hdr") == [tmp_path / "a.img"]


def test_a_missing_file_stays_in_the_list(tmp_path: Path) -> None:
    assert _found(tmp_path / "missing.nii") == [tmp_path / "missing.nii"]


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="found none") as caught:
        _found(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "subfolders are not looked into" in str(caught.value)


def test_a_data_set_that_does_not_say_so_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"BIDS data set, but no dataset_description\.json"):
        _found(tmp_path)


def test_a_path_that_cannot_be_asked_for_stays_in_the_list(tmp_path: Path) -> None:
    """The system answers with an error: too long a name, or a folder that may not be entered."""
    others = [tmp_path / "a.nii", tmp_path / f"{'x' * 300}.nii"]
    assert _found(*others) == others


def test_a_folder_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> list[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("ermoe_ba.inputs.volumes_in", refuse)
    with pytest.raises(UsageError, match="must be readable; found: Permission denied") as caught:
        _found(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_gives_scans_and_no_derivatives(tmp_path: Path) -> None:
    for name in ("b_T1w.nii.gz", "a.nii", "a_desc-preproc_T1w.nii.gz", "a_dseg.nii.gz", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in _found(tmp_path)] == ["a.nii", "b_T1w.nii.gz"]


def test_hidden_files_are_no_scans_and_links_to_nothing_are(tmp_path: Path) -> None:
    """macOS writes ._a.nii beside a.nii; DataLad links to content that may not be there yet."""
    for name in ("a.nii", "._a.nii", ".partial-b.nii"):
        (tmp_path / name).touch()
    (tmp_path / "c.nii.gz").symlink_to(tmp_path / "annex" / "c")
    assert [path.name for path in _found(tmp_path)] == ["a.nii", "c.nii.gz"]
