"""The parts of a run: repeats and seeds, choices of settings, and what they cost."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from quick_settings import OPTIMISER
from tiny_study import (
    IDS,
    NUM_PARTICIPANTS,
    TEST_IDS,
    TinyStudy,
    ages,
    begin,
    given_splits,
    make_scan,
    study,
)

from ermoe_ba.errors import UsageError
from ermoe_ba.training.choose import Choice
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.history import History
from ermoe_ba.training.recipe import ChooseConfig, read_recipe
from ermoe_ba.training.run_folder import RunFolder
from ermoe_ba.training.run_part import fold_part, whole_parts

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["ages", "make_scan", "study"]


def test_repeats_are_other_folds_and_leave_the_first_as_it_is(
    study: TinyStudy, ages: dict[str, float]
) -> None:
    run = replace(study.recipe.run, num_starts=1)
    once = replace(study.recipe, run=run)
    twice = replace(study.recipe, run=replace(run, num_repeats=2))
    begin(study, "once", ages, once).run()
    metrics = begin(study, "twice", ages, twice).run()
    assert metrics is not None
    first, second = study.folder / "once", study.folder / "twice"
    for name in ("fold-0_start-0.safetensors", "fold-1_predictions.tsv", "predictions.tsv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    tables = [
        pd.read_csv(second / f"repeat-1_fold-{fold}_predictions.tsv", sep="\t", dtype={0: str})
        for fold in (0, 1)
    ]
    repeated = pd.concat(tables)
    assert sorted(repeated["participant_id"]) == IDS
    gap = repeated["predicted_age"] - repeated["chronological_age"]
    assert metrics["mae_by_repeat"] == [metrics["mae"], pytest.approx(gap.abs().mean())]
    # The model is the first repeat's members, as every reader of models finds them.
    assert len(list(second.glob("fold-*.safetensors"))) == 2
    assert len(list(second.glob("repeat-1_fold-*.safetensors"))) == 2


def test_no_seed_serves_twice(study: TinyStudy) -> None:
    run = replace(study.recipe.run, num_folds=3, num_starts=4, num_repeats=2, num_stems=5)
    parts = [fold_part(run, fold, repeat) for repeat in range(2) for fold in range(3)]
    seeds = [part.member_seed(n) for part in [*parts, *whole_parts(run)] for n in range(4)]
    assert len(set(seeds)) == (6 + 5) * 4
    # Runs made before there were repeats keep theirs: seed, and one more a fold, then a start.
    assert [p.member_seed(n) for n in range(2) for p in parts[:3]] == [5, 6, 7, 8, 9, 10]


def test_folder_tells_the_settings_of_its_run(tmp_path: Path) -> None:
    folder, shipped = RunFolder(tmp_path), Path(__file__).parents[1] / "pipelines/ixi_hh.toml"
    with pytest.raises(UsageError, match="found none"):
        folder.settings()
    recipe = read_recipe(shipped)
    (tmp_path / "recipe.json").write_text(json.dumps({"text": recipe.text, "data_hash": "0"}))
    assert folder.settings() == recipe.run
    other = recipe.text.replace("num_folds = 5", "num_folds = 5\nnum_moons = 1")
    (tmp_path / "recipe.json").write_text(json.dumps({"text": other, "data_hash": "0"}))
    with pytest.raises(UsageError, match="num_moons"):
        folder.settings()
    for torn in (other[:40], json.dumps({"text": "[run"}), json.dumps({"data_hash": "0"})):
        (tmp_path / "recipe.json").write_text(torn)
        with pytest.raises(UsageError, match="recipe cannot be read"):
            folder.settings()


def test_a_choice_that_stands_is_not_made_again(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was stopped once it had chosen; its choice is changed by hand to be told apart."""
    choose = ChooseConfig(num_folds=2, alternatives={"long": {"num_epochs": 3}})
    recipe = replace(
        study.recipe, choose=choose, run=replace(study.recipe.run, num_starts=1), text="choose"
    )
    run = begin(study, "run", ages, recipe)
    path = study.folder / "run" / "fold-0_choice.json"
    with monkeypatch.context() as patch:

        def stop(*_: Any, **__: Any) -> History:
            raise KeyboardInterrupt

        patch.setattr("ermoe_ba.training.part.train_age", stop)
        with pytest.raises(KeyboardInterrupt):
            run.run(0)
    chosen = json.loads(path.read_text(encoding="utf-8"))
    other = {"recipe": "long", "long": "recipe"}[chosen["name"]]
    path.write_text(json.dumps({**chosen, "name": other}), encoding="utf-8")
    monkeypatch.setattr(
        "ermoe_ba.training.choose.train_age", lambda *_, **__: pytest.fail("chosen again")
    )
    run.run(0)
    history = pd.read_csv(study.folder / "run" / "fold-0_start-0_history.tsv", sep="\t")
    assert history["epoch"].max() == {"recipe": 2, "long": 3}[other]


@pytest.mark.parametrize("is_main", [True, False])
def test_what_a_run_cost_holds_choices_and_descriptions(
    study: TinyStudy,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_main: bool,
) -> None:
    """By a clock that moves on by a second each time that it is looked at for them.

    Of 8 training scans each inner training sees 4, over 2 epochs: two folds, two alternatives.
    """
    seconds = iter(range(100))
    monkeypatch.setattr(
        "ermoe_ba.training.expenses.time", SimpleNamespace(perf_counter=lambda: next(seconds))
    )
    # Of processes that train together one tells it.
    monkeypatch.setattr(
        "ermoe_ba.training.expenses.Processes", lambda: SimpleNamespace(is_main=is_main)
    )
    monkeypatch.setattr("ermoe_ba.training.part.train_stem", lambda *_, **__: History())
    monkeypatch.setattr("ermoe_ba.training.part.train_age", lambda *_, **__: History())
    choose = ChooseConfig(num_folds=2, alternatives={"loose": {"ridge_strength": 1.0}})
    recipe = replace(
        study.recipe, choose=choose, run=replace(study.recipe.run, num_starts=1), text="choose"
    )
    folds = given_splits(study, "".join(f"{i}\t{0 if i in TEST_IDS else 1}\n" for i in IDS))
    run = begin(study, "run", ages, recipe, splits=folds)
    run.run(0)
    cost = run.trainer.expenses.total
    assert cost.scans == 2 * 2 * 2 * 4
    # Scans are read, and then described; the batches of inner trainings come besides.
    assert cost.reading_seconds == 1.0
    assert cost.making_seconds > 1.0
    assert cost.seconds > cost.reading_seconds + cost.making_seconds
    lines = capsys.readouterr().out.splitlines()
    told = [line.split(": ")[0] for line in lines if line.startswith("fold-0 ")]
    stages = [f"fold-0 {what}" for what in ("stem", "descriptions", "choice", "start-0")]
    assert told == (stages if is_main else [])


def test_the_choice_is_told_the_sites_of_the_table(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[pd.DataFrame] = []

    def choose(*given: Any) -> Choice:
        told.append(given[3])
        raise KeyboardInterrupt

    monkeypatch.setattr("ermoe_ba.training.part.choose_settings", choose)
    table = study.write(ages)
    rows = pd.read_csv(table, sep="\t").assign(site=[f"at {i}" for i in IDS])
    rows.to_csv(table, sep="\t", index=False)
    with pytest.raises(KeyboardInterrupt):
        CrossValidation(study.recipe, table, study.folder / "sites").run(0)
    (people,) = told
    assert len(people) < NUM_PARTICIPANTS
    assert people["site"].tolist() == [f"at {i}" for i in people["participant_id"]]


def test_each_fold_chooses_without_those_it_is_tested_on(
    study: TinyStudy, ages: dict[str, float]
) -> None:
    """One alternative learns nothing; what is chosen rests on the training ages alone."""
    useless = {"ridge_strength": 1e9, "optimiser": {**asdict(OPTIMISER), "learning_rate": 1e-9}}
    choose = ChooseConfig(num_folds=2, alternatives={"useless": useless})
    recipe = replace(study.recipe, choose=choose)
    folds = given_splits(study, "".join(f"{i}\t{0 if i in TEST_IDS else 1}\n" for i in IDS))
    turned = ages | {i: 100 - ages[i] for i in TEST_IDS}
    found = []
    for name, told in (("plain", ages), ("turned", turned)):
        begin(study, name, told, recipe, splits=folds).run(0)
        path = study.folder / name / "fold-0_choice.json"
        found.append(json.loads(path.read_text(encoding="utf-8")))
    assert found[0] == found[1]
    assert found[0]["name"] == min(found[0]["mae"], key=found[0]["mae"].get)
    assert set(found[0]["mae"]) == {"recipe", "useless"}
    # The useless one answers each inner fold's mean training age, whatever the scan shows.
    assert found[0]["name"] == "recipe"
