"""A card comes back as it was written, and what is none is refused in words."""

from pathlib import Path

import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import ModelCard, model_folder, read_card, save_card


def test_a_card_comes_back_equal(tmp_path: Path, card: ModelCard) -> None:
    save_card(tmp_path, card)
    assert read_card(tmp_path) == card


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name"', '"nmae"'),
        ('"rank": 5', '"rank": 12'),
        ('"rank": 5', '"rang": 5'),
        ('"coverage": 0.9,', ""),
        ('"n4_tolerance"', '"n5_tolerance"'),
        ("{", ""),
    ],
)
def test_a_card_of_another_version_is_refused(
    tmp_path: Path, card: ModelCard, old: str, new: str
) -> None:
    save_card(tmp_path, card)
    path = tmp_path / "model.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match="not a model of this version") as caught:
        read_card(tmp_path)
    assert str(path) in str(caught.value)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"no model 'no-such-model'.*model\.json"):
        model_folder("no-such-model")


def test_a_run_that_is_not_finished_has_no_card_yet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.json: a model must have its card.*all folds"):
        read_card(tmp_path)
