"""Kept parts of the evidence: taken as they stand where their making is the same."""

import json
from pathlib import Path

import pytest

from ermoe_ba.attribution import kept_part
from ermoe_ba.attribution.kept_part import KeptPart, digests, files_digest


def _part(folder: Path, **what: object) -> KeptPart:
    return KeptPart(folder / "ventricles.json", digests(**what))


def _never() -> dict[str, object]:
    raise AssertionError("made though it stands")


def _interrupted() -> dict[str, object]:
    raise KeyboardInterrupt


def test_a_part_stands_for_the_making_that_it_came_from(tmp_path: Path) -> None:
    part = _part(tmp_path, stem="taught", people={"subjects": 40}, seed=1)
    assert part.read() is None
    assert part.differs() == []
    written = part.read_or_make(lambda: {"mae": 4.5})
    assert written["mae"] == 4.5
    assert part.read() == part.read_or_make(_never) == written
    # The order in which settings are named is none of theirs; tuples are lists to JSON.
    same = _part(tmp_path, seed=1, people={"subjects": 40}, stem="taught")
    assert same.read() == written


@pytest.mark.parametrize("name", ["stem", "people", "seed"])
def test_another_making_is_told_by_name_and_not_taken(tmp_path: Path, name: str) -> None:
    making = {"stem": "taught", "people": {"subjects": 40}, "seed": 1}
    _part(tmp_path, **making).read_or_make(lambda: {"mae": 4.5})
    other = {"stem": "shipped", "people": {"subjects": 140}, "seed": 2}
    part = _part(tmp_path, **{**making, name: other[name]})
    assert part.differs() == [name]
    assert part.read() is None
    assert part.read_or_make(lambda: {"mae": 5.0})["mae"] == 5.0
    assert part.differs() == []


def test_a_part_that_is_being_made_anew_no_longer_stands(tmp_path: Path) -> None:
    """Interrupted, it must not pass for what its maps were made with."""
    before = _part(tmp_path, stem="taught")
    before.read_or_make(dict)
    with pytest.raises(KeyboardInterrupt):
        _part(tmp_path, stem="shipped").read_or_make(_interrupted)
    assert before.read() is None


def test_what_no_longer_or_newly_decides_is_a_difference(tmp_path: Path) -> None:
    _part(tmp_path, stem="taught", lessons=24).read_or_make(dict)
    assert _part(tmp_path, stem="taught", recipe="r").differs() == ["lessons", "recipe"]


def test_parts_of_another_revision_or_of_none_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = _part(tmp_path, stem="taught")
    part.read_or_make(lambda: {"mae": 4.5})
    with monkeypatch.context() as later:
        later.setattr(kept_part, "REVISION", kept_part.REVISION + 1)
        assert _part(tmp_path, stem="taught").differs() == ["revision"]
    part.path.write_text(json.dumps({"mae": 4.5}), encoding="utf-8")
    assert part.differs() == ["revision", "stem"]
    assert part.read() is None


def test_files_are_told_by_names_and_content_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        for name in "ab":
            (folder / name).write_text(name)
    first = files_digest(one.iterdir())
    assert files_digest([other / "b", other / "a"]) == first
    assert files_digest([one / "a"]) != first
    (other / "b").write_text("c")
    assert files_digest(other.iterdir()) != first
    # What one file ends with is not what the next begins with.
    (one / "a").write_text("ab")
    (one / "b").write_text("")
    assert files_digest(one.iterdir()) != first
