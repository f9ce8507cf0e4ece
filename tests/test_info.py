"""What is installed, and the models' cards: by name or not, as JSON, on any terminal."""

import json
import os
import subprocess
import sys
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
