"""What is installed, and the models' cards: by name or not, as JSON, on any terminal."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ermoe_ba.cli.main import main
from ermoe_ba.config import from_plain
from ermoe_ba.model_card import DEFAULT_MODEL, WEIGHTS, ModelCard, read_card, save_card

CARD = WEIGHTS / DEFAULT_MODEL / "MODEL_CARD.md"


def test_without_a_name_the_card_is_that_of_the_default_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "--model"]) == 0
    assert capsys.readouterr().out == CARD.read_text(encoding="utf-8")


@pytest.mark.parametrize("named", [["--model"], ["--model", DEFAULT_MODEL]])
def test_a_card_as_json_holds_its_figures_and_its_text(
    named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", *named, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content.pop("card") == CARD.read_text(encoding="utf-8")
    # Settings that are younger than the file come with their defaults.
    assert from_plain(ModelCard, content) == read_card(CARD.parent)


def test_a_model_without_a_card_has_none_as_json_either(
    tmp_path: Path, card: ModelCard, capsys: pytest.CaptureFixture[str]
) -> None:
    save_card(tmp_path, card)
    assert main(["info", "--model", str(tmp_path), "--json"]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert "this model has no card; model.json holds its figures" in told.err
    (tmp_path / "MODEL_CARD.md").write_text("Of mine.\n", encoding="utf-8")
    assert main(["info", "--model", str(tmp_path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["card"] == "Of mine.\n"
    assert content["half_width"] == card.half_width


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_of_few_signs_shows_the_others_by_their_numbers(encoding: str) -> None:
    """The card has signs that neither encoding knows; the lines and all else stay."""
    done = subprocess.run(
        [sys.executable, "-m", "ermoe_ba.cli.main", "info", "--model"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    text = CARD.read_text(encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        text.encode(encoding)
    assert done.stdout.decode(encoding).splitlines() == (
        text.encode(encoding, "backslashreplace").decode(encoding).splitlines()
    )


@pytest.mark.usefixtures("atlases_in_place")
def test_info_is_json_with_versions_atlases_and_grid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["atlases"] == {"MUSEIXI": {"description": "Two halves", "licence": "CC0"}}
    assert content["libraries"]["torch"] == version("torch")
    assert content["grid"]["shape"] == [91, 109, 91]


def test_info_shows_the_card_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", "ixi-hh"]) == 0
    shown = capsys.readouterr().out
    assert shown == (WEIGHTS / "ixi-hh" / "MODEL_CARD.md").read_text(encoding="utf-8")
    (tmp_path / "model.json").write_text("{}", encoding="utf-8")
    assert main(["info", "--model", str(tmp_path)]) == 2
    assert "no card" in capsys.readouterr().err
    assert main(["info", "--model", "absent"]) == 2
    assert "There is no model 'absent'" in capsys.readouterr().err


@pytest.mark.usefixtures("atlases_in_place")
def test_info_in_words_tells_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    stdout = capsys.readouterr().out
    for line in ("atlases:", "  MUSEIXI:", "    licence: CC0", "  shape: 91, 109, 91"):
        assert line in stdout.splitlines()


def test_info_does_without_bundled_atlases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "registry.toml").touch()
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path))
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["atlases"] == {}
