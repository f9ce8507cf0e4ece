"""Pictures of a recipe: each under its name, in the order given."""

import importlib
from pathlib import Path

import pytest

PIPELINES = Path(__file__).parents[1] / "pipelines"


def test_each_picture_stands_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PIPELINES))
    folder = tmp_path / "made" / "figures"
    given = {"second": b"\x89PNG 2", "first": b"\x89PNG 1"}
    paths = importlib.import_module("pictures").write_pictures(folder, given)
    assert paths == [folder / "second.png", folder / "first.png"]
    assert {path.stem: path.read_bytes() for path in folder.iterdir()} == given
