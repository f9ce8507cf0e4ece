"""A model of everybody, a stem that is taken, and the commands from scans to a model."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_study import IDS, NUM_PARTICIPANTS, TinyStudy, ages, begin, make_scan, study

from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.cli.main import main
from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import read_card
from ermoe_ba.training.final_model import FinalModel

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["ages", "make_scan", "study"]


def test_a_recipe_without_labels_takes_the_stem_of_a_model(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No label map is asked for; members hold the model's stem to the bit."""
    study.run("labelled", ages, None)
    source = study.folder / "labelled"
    for path in (study.folder / "raw").glob("*_dseg.nii.gz"):
        path.unlink()
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("trained")
    )
    run = replace(study.recipe.run, labels=None, label_table=None, stem=str(source))
    recipe = replace(study.recipe, run=run, tissue=None)
    out = study.folder / "run"
    begin(study, "run", ages, recipe).run(0)
    theirs = load_file(source / "fold-0_start-0.safetensors")
    ours = load_file(out / "fold-0_start-0.safetensors")
    stems = [name for name in theirs if name.startswith("stem.")]
    assert stems
    assert all(torch.equal(theirs[name], ours[name]) for name in stems)
    wider = replace(recipe, model=replace(recipe.model, stem_hidden=8), text="wider")
    with pytest.raises(UsageError, match=r"stem_hidden is the same; found 4 there and 8"):
        begin(study, "wider", ages, wider).run(0)


def test_a_final_model_saw_everybody_and_bears_the_figures_of_the_folds(
    study: TinyStudy, ages: dict[str, float]
) -> None:
    out, path = study.folder / "final", study.write(ages)
    study.recipe = replace(study.recipe, run=replace(study.recipe.run, num_stems=2))
    with pytest.raises(UsageError, match=r"model\.json"):
        FinalModel(study.recipe, path, study.folder / "absent", out)
    run = study.run("run", ages, None)
    other = replace(study.recipe, text="other")
    with pytest.raises(UsageError, match="this very recipe"):
        FinalModel(other, path, run, study.folder / "other").run()
    metrics = FinalModel(study.recipe, path, run, out).run()
    assert metrics == read_card(run).metrics
    card = read_card(out)
    assert card.half_width == read_card(run).half_width
    assert "has seen everybody" in card.provenance["figures"]
    # Two stems, and as many members on each as a fold has.
    ensemble, starts = load_ensemble(str(out)), study.recipe.run.num_starts
    assert ensemble.member_stems == [0] * starts + [1] * starts
    for stem in range(2):
        kept = load_file(out / "kept" / f"fold-all-{stem}_described.safetensors")
        assert kept["train"].shape[0] == NUM_PARTICIPANTS
    # Its figures are of these ages, under a name that nobody takes for the model's own.
    told = (out / "out_of_fold_predictions.tsv").read_bytes()
    assert told == (run / "predictions.tsv").read_bytes()
    assert not (out / "predictions.tsv").exists()
    table = pd.read_csv(out / "training_scans.tsv", sep="\t", dtype=str)
    assert table["participant_id"].tolist() == IDS
    assert table["fold"].isna().all()
    folds = pd.read_csv(run / "training_scans.tsv", sep="\t", dtype=str)
    assert folds["voxel_hash"].tolist() == table["voxel_hash"].tolist()
    assert set(folds["fold"]) == {"0", "1"}


def test_the_commands_go_from_scans_to_folds_to_a_model(
    study: TinyStudy,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("cross_validate", "train"):
        monkeypatch.setattr(f"ermoe_ba.cli.{command}.read_recipe", lambda _: study.recipe)
    run, final = study.folder / "run", study.folder / "final"
    table = ["--participants", str(study.write(ages))]
    validate = ["cross-validate", "recipe.toml", *table, "--out", str(run)]
    assert main([*validate, "--prepare-only"]) == 0
    assert "each --fold K can begin" in capsys.readouterr().out
    stand = {"recipe.json", "scans.tsv", "splits.tsv"}
    assert {path.name for path in run.iterdir()} == stand
    # What stands is not made again, and no fold is trained by a preparation.
    splits = (run / "splits.tsv").stat().st_mtime_ns
    assert main([*validate, "--prepare-only", "--fold", "1"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert main([*validate, "--fold", "1", "--resume"]) == 0
    assert "the others are still to come" in capsys.readouterr().out
    assert (run / "splits.tsv").stat().st_mtime_ns == splits
    train = ["train", "recipe.toml", *table, "--run", str(run), "--out", str(final)]
    assert main([*train, "--resume"]) == 2
    assert "model.json" in capsys.readouterr().err
    assert main([*validate, "--resume"]) == 0
    shown = capsys.readouterr().out
    assert "12 scans of 12 participants, 20 to 75 years." in shown
    mae = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["mae"]
    assert main([*train, "--resume"]) == 0
    assert f"out of fold: MAE {mae:.2f} years" in capsys.readouterr().out
    assert read_card(final).metrics["mae"] == mae
    assert len(load_ensemble(str(final)).members) == study.recipe.run.num_starts


@pytest.mark.parametrize("command", ["cross-validate", "train"])
def test_the_help_says_how_a_stopped_run_goes_on(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "give the same command again, with --resume or without it." in shown
