"""Half-written files: those of the dead are swept, those of the living are left alone."""

import os
from pathlib import Path

from ermoe_ba.io import remove_file, write_text
from ermoe_ba.partial import prefix_of, sweep


def _prefix_by(process: int, path: Path, host: str = "") -> str:
    """What `prefix_of` gives in another process, or on another machine."""
    beginning, own_host, _, _ = prefix_of(path).rsplit("-", 3)
    return f"{beginning}-{host or own_host}-{process}-"


def test_only_what_dead_processes_of_this_machine_left_is_swept(tmp_path: Path, dead: int) -> None:
    path = tmp_path / "a_prediction.json"
    gone = tmp_path / f"{_prefix_by(dead, path)}abc.json"
    mine = tmp_path / f"{prefix_of(path)}abc.json"
    parent_s = tmp_path / f"{_prefix_by(os.getppid(), path)}abc.json"
    elsewhere = tmp_path / f"{_prefix_by(dead, path, 'farhost')}abc.json"
    of_another = tmp_path / f"{_prefix_by(dead, tmp_path / 'b_a_prediction.json')}abc.json"
    longer = tmp_path / f"{_prefix_by(dead, tmp_path / 'a_prediction.json-x')}abc.json"
    strange = tmp_path / ".partial-a_prediction.json-x-y-z.json"
    for file in (path, gone, mine, parent_s, elsewhere, of_another, longer, strange):
        file.touch()
    sweep(path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {
        file.name for file in (path, mine, parent_s, elsewhere, of_another, longer, strange)
    }
    remove_file(path)
    assert not path.exists()
    assert mine.exists()


def test_names_with_signs_of_patterns_are_taken_as_they_are(tmp_path: Path, dead: int) -> None:
    path = tmp_path / "a[1]*.json"
    gone = tmp_path / f"{_prefix_by(dead, path)}abc.json"
    other = tmp_path / f"{_prefix_by(dead, tmp_path / 'a1x.json')}abc.json"
    for file in (gone, other):
        file.touch()
    sweep(path)
    assert not gone.exists()
    assert other.exists()


def test_a_folder_that_is_not_there_has_nothing_to_sweep(tmp_path: Path) -> None:
    sweep(tmp_path / "absent" / "a.json")
    remove_file(tmp_path / "absent" / "a.json")
    assert not list(tmp_path.iterdir())


def test_names_as_long_as_a_file_system_allows_are_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 250}.json"
    write_text(path, "{}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious", encoding="utf-8")
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / "predictions.tsv"
    link.symlink_to(precious)
    write_text(link, "new")
    assert precious.read_text(encoding="utf-8") == "precious"
    assert not link.is_symlink()
    assert link.read_text(encoding="utf-8") == "new"
    link.unlink()
    link.symlink_to(precious)
    remove_file(link)
    assert precious.exists()
    assert not link.is_symlink()
