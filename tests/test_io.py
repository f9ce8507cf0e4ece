"""Volumes come back as they were written; files are whole or absent."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from ermoe_ba.errors import ScanError
from ermoe_ba.io import read_volume, write_json, write_text, write_volume, write_whole
from ermoe_ba.space import SpatialGrid, Volume

WriteHead = Callable[..., Path]


# Maps and atlases


def test_a_truncated_map_is_refused_by_name(write_head: WriteHead) -> None:
    noise = np.random.default_rng(1).integers(0, 1000, (20, 22, 24))
    path = write_head("labels.nii.gz", data=noise)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ScanError, match=r"labels\.nii\.gz"):
        read_volume(path, "scan")


def test_a_flat_map_is_refused_by_name(write_head: WriteHead) -> None:
    path = write_head("labels.nii.gz", data=np.arange(440.0).reshape(20, 22))
    with pytest.raises(ScanError, match=r"labels\.nii\.gz"):
        read_volume(path, "scan")


@pytest.mark.parametrize(
    ("space", "code"), [("scan", 1), ("MNI152NLin2009aSym", 4)], ids=["scanner", "template"]
)
def test_a_written_volume_comes_back_with_grid_and_codes(
    tmp_path: Path, oblique_affine: npt.NDArray[np.float64], space: str, code: int
) -> None:
    data = np.arange(5 * 7 * 9, dtype=np.float32).reshape(5, 7, 9) / 7
    volume = Volume(data, SpatialGrid((5, 7, 9), oblique_affine, space))
    path = tmp_path / "map.nii.gz"
    write_volume(path, volume)
    again = read_volume(path, space)
    assert again.grid == volume.grid
    assert again.data.dtype == np.float32
    np.testing.assert_array_equal(again.data, data)
    header = nib.load(path).header
    assert int(header["sform_code"]) == code
    assert int(header["qform_code"]) == code
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), oblique_affine, atol=1e-4)


def test_channels_come_back_as_a_fourth_axis(tmp_path: Path, oblique_grid: SpatialGrid) -> None:
    data = np.arange(5 * 7 * 9 * 2, dtype=np.int16).reshape(5, 7, 9, 2)
    write_volume(tmp_path / "map.nii", Volume(data, oblique_grid))
    np.testing.assert_array_equal(read_volume(tmp_path / "map.nii", "scan").data, data)


# Writing


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "note.txt", "brain – age\n")
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["note.txt"]
    assert (tmp_path / "new" / "folder" / "note.txt").read_bytes().decode() == "brain – age\n"


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old", encoding="utf-8")

    def fail(partial: Path) -> None:
        partial.write_text("half of the n", encoding="utf-8")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_whole(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old", encoding="utf-8")
    seen: list[str] = []

    def write(partial: Path) -> None:
        assert partial.parent == path.parent, "a rename is atomic within one file system only"
        partial.write_text("new", encoding="utf-8")
        seen.append(path.read_text(encoding="utf-8"))

    write_whole(path, write)
    assert seen == ["old"]
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.b.nii.gz", "a.nii", "a.json", "a"])
def test_the_partial_file_ends_as_the_whole_one_does(tmp_path: Path, name: str) -> None:
    endings: list[str] = []

    def write(partial: Path) -> None:
        endings.append(partial.name)

    write_whole(tmp_path / name, write)
    expected = {"a.nii.gz": ".nii.gz", "a.b.nii.gz": ".nii.gz", "a.nii": ".nii", "a.json": ".json"}
    assert endings[0].endswith(expected.get(name, ""))
    assert endings[0].startswith(".partial-")


def test_a_result_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "note.txt", "text")
    assert (tmp_path / "note.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_made_gives_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for path in (tmp_path / "file" / "note.txt", tmp_path / "file" / "deeper" / "note.txt"):
        with pytest.raises(OSError, match="file"):
            write_text(path, "text")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_file_s_place_gives_an_os_error_and_no_litter(tmp_path: Path) -> None:
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(OSError, match=r"note\.txt"):
        write_text(tmp_path / "note.txt", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_json_comes_back(tmp_path: Path) -> None:
    content = {"figures": {"brain_volume_ml": 1432.5}, "flags": ["brain_already_extracted"]}
    write_json(tmp_path / "state.json", content)
    text = (tmp_path / "state.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_not_a_number(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "state.json", {"r": value})
    assert not list(tmp_path.iterdir())
