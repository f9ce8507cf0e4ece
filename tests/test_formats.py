"""Formats are told by the names of files, before anything is opened."""

import os
from pathlib import Path

import pytest

from ermoe_ba.errors import ScanError
from ermoe_ba.formats import (
    existing_files,
    is_volume,
    require_volume,
    volume_files,
    volume_stem,
)
from ermoe_ba.t1w import content_hash, read_t1w


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-1_T1w.nii.gz", "sub-1_T1w"),
        ("sub-1.2.nii", "sub-1.2"),
        ("a.nii.nii.gz", "a.nii"),
        ("a.HDR", "a"),
        ("a.b.img", "a.b"),
        ("sub-1_T1w.mgz", "sub-1_T1w"),
        ("a.mgh", "a"),
        ("SUB.NII.GZ", "SUB"),
    ],
)
def test_a_stem_is_the_name_without_the_suffix_of_its_format(name: str, stem: str) -> None:
    assert is_volume(Path(name))
    assert volume_stem(Path("folder") / name) == stem


def test_the_files_of_a_pair_are_known_from_either() -> None:
    pair = (Path("d/a.hdr"), Path("d/a.img"))
    assert volume_files(pair[0]) == volume_files(pair[1]) == pair
    assert volume_files(Path("A.IMG")) == (Path("A.HDR"), Path("A.IMG"))
    assert volume_files(Path("a.nii.gz")) == (Path("a.nii.gz"), Path("a.nii.gz"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("/annex/objects/MD5E-s10597--a4f3.nii.gz\n", "git-annex"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mgz", "a.img"])
def test_a_pointer_is_told_from_a_damaged_scan(
    tmp_path: Path, name: str, content: str, kind: str
) -> None:
    (tmp_path / "a.hdr").touch()
    (tmp_path / name).write_text(content, encoding="utf-8")
    for read in (read_t1w, content_hash):
        with pytest.raises(ScanError, match=f"found a pointer of {kind} in its place") as caught:
            read(tmp_path / name)
        assert "datalad get" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.nii.bz2", "packed as .bz2"),
        ("a.nii.zst", "packed as .zst"),
        ("a.hdr.gz", "packed as .gz"),
        ("a.mgh.gz", "packed as .gz"),
        ("a.zip", "packed as .zip"),
        ("IM0001.dcm", "DICOM series"),
        ("a.mnc", "'a.mnc'"),
        ("ages.csv", "'ages.csv'"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, name: str, word: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    assert not is_volume(tmp_path / name)
    with pytest.raises(ScanError) as caught:
        read_t1w(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert word in caught.value.found


def test_a_table_of_another_kind_is_told_how_tables_are_given(tmp_path: Path) -> None:
    (tmp_path / "scans.csv").write_text("path,age\na.nii,30\n", encoding="utf-8")
    with pytest.raises(ScanError, match=r"tab-separated, and its name end in \.tsv"):
        require_volume(tmp_path / "scans.csv")


def test_a_pipe_is_told_from_a_missing_file(tmp_path: Path) -> None:
    """Reading one would wait for a writer that never comes."""
    os.mkfifo(tmp_path / "a.nii")
    with pytest.raises(ScanError, match="a pipe or a device"):
        existing_files(tmp_path / "a.nii")
