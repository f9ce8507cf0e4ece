"""The choice of settings by inner folds: who stands where in them, and that it is made once."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from quick_settings import AGE as QUICK_AGE
from quick_settings import OPTIMISER

from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig
from ermoe_ba.training.choose import Choice, choose_settings, read_choice
from ermoe_ba.training.history import Cost, History
from ermoe_ba.training.recipe import ChooseConfig, Recipe, RunConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")

AGE = replace(
    QUICK_AGE,
    num_variants=0,
    batch_size=4,
    invariance=0.0,
    optimiser=replace(OPTIMISER, warmup_share=0.5, ema_decay=0.0),
)


@pytest.fixture
def recipe(small_config: ModelConfig) -> Recipe:
    return Recipe(
        run=RunConfig(
            name="tiny",
            num_folds=2,
            num_starts=1,
            seed=5,
            coverage=0.5,
            stem="ixi-hh",
            data="synthetic",
            licence="none",
        ),
        preprocess=PreprocessConfig(),
        model=small_config,
        tissue=None,
        age=AGE,
        text="tiny",
        choose=ChooseConfig(num_folds=2, alternatives={"short": {"num_epochs": 1}}),
    )


def _people(**columns: Any) -> pd.DataFrame:
    """Eight people, of whom the first four were scanned twice."""
    names = [name for name in "abcd" for _ in range(2)] + list("efgh")
    people = pd.DataFrame({"participant_id": names, "age": np.linspace(20.0, 80.0, 12)})
    return people.assign(**columns)


def _asked(
    recipe: Recipe, tokens: TokenGrid, people: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> list[list[str]]:
    """Return whose scans each inner training learnt from."""
    asked: list[list[str]] = []

    def train(_: Any, inputs: Any, ages: Any, *__: Any, participants: list[str]) -> History:
        assert len(inputs) == len(ages) == len(participants)
        # Each age belongs to one scan: whose it is told to be is whose it is.
        whose = people.set_index("age")["participant_id"]
        assert [whose[age] for age in ages] == participants
        asked.append(participants)
        history = History()
        history.cost = Cost(scans=len(inputs), seconds=2.0, making_seconds=0.5)
        return history

    monkeypatch.setattr("ermoe_ba.training.choose.train_age", train)
    described = torch.full((len(people), 1, len(tokens), len(FAMILIES), len(TISSUES)), 0.1)
    _, cost = choose_settings(recipe, tokens, described.half(), people, 3)
    # Of all of them together.
    assert cost.scans == sum(len(names) for names in asked)
    assert (cost.seconds, cost.making_seconds) == (2.0 * len(asked), 0.5 * len(asked))
    return asked


def test_inner_trainings_know_whose_scans_they_learn_from(
    recipe: Recipe, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two inner folds each is left out once by each alternative; nobody stands in both."""
    people = _people()
    asked = _asked(recipe, small_tokens, people, monkeypatch)
    assert len(asked) == 4
    for first, second in (asked[:2], asked[2:]):
        assert not set(first) & set(second)
        assert sorted(first + second) == people["participant_id"].tolist()


@pytest.mark.parametrize("site", ["xxyyxxyyxyxy", "yyyyyyyyxxxx"])
def test_inner_folds_are_balanced_by_site_where_sites_are_known(
    recipe: Recipe, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    """Four people of each of two sites, in two folds: two of each site in either."""
    people = _people(site=list(site))
    of = people.set_index("participant_id")["site"].to_dict()
    for learnt in _asked(recipe, small_tokens, people, monkeypatch):
        assert sorted(of[name] for name in set(learnt)) == ["x", "x", "y", "y"]


def test_people_choose_alike_however_often_they_were_scanned(
    recipe: Recipe, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four people of eight were scanned twice; an alternative that errs on theirs alone.

    One errs by 10 years on the eight scans of these four and by 0 on the others, the other by 6 on
    everybody: over people 5 and 6, over scans 80 / 12 and 6.
    """
    people = _people()
    often = people["participant_id"].isin(list("abcd")).to_numpy()
    gaps = {AGE: np.where(often, 10.0, 0.0), replace(AGE, num_epochs=2): np.full(12, 6.0)}
    asked = []

    class Member:
        """Its scans are known by the first number of what is made of them."""

        def __init__(self, *_: Any) -> None: ...

        def read_age(self, described: torch.Tensor) -> Any:
            scans = described[:, 0, 0, 0].round().int().numpy()
            found = people["age"].to_numpy() + gaps[asked[-1]]
            return SimpleNamespace(age_b=torch.as_tensor(found[scans]))

    def train(_: Any, __: Any, ___: Any, settings: AgeConfig, *____: Any, **_____: Any) -> History:
        asked.append(settings)
        return History()

    monkeypatch.setattr("ermoe_ba.training.choose.ErmoeBrainAge", Member)
    monkeypatch.setattr("ermoe_ba.training.choose.train_age", train)
    described = torch.arange(12.0).reshape(12, 1, 1, 1, 1).half()
    longer = replace(
        recipe, choose=ChooseConfig(num_folds=2, alternatives={"long": {"num_epochs": 2}})
    )
    choice, _ = choose_settings(longer, small_tokens, described, people, 3)
    assert choice.mae == {"recipe": pytest.approx(5.0), "long": pytest.approx(6.0)}
    assert choice.name == "recipe"


def test_a_choice_is_read_back(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "fold-0_choice.json"
    path.write_text('{"name": "short", "mae": {"recipe": 7, "short": 6.5}}', encoding="utf-8")
    choice = read_choice(path, recipe)
    assert choice == Choice("short", {"recipe": 7.0, "short": 6.5})
    assert asdict(choice)["mae"]["recipe"] == 7


@pytest.mark.parametrize("text", ["{", '{"name": "short"}', '{"name": "long", "mae": {}}'])
def test_what_is_no_choice_of_the_recipe_is_refused(
    recipe: Recipe, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "fold-0_choice.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"choice\.json: must tell which settings .* Remove it"):
        read_choice(path, recipe)
