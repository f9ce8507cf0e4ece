"""A cross-validation: folds that do not leak, and a run that describes itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from quick_settings import TISSUE
from tiny_study import (
    IDS,
    TEST_IDS,
    TinyStudy,
    ages,
    begin,
    make_scan,
    study,
    with_stages,
    write_raw,
)

from ermoe_ba.atlas import Atlas
from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.config import changed
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import read_card
from ermoe_ba.space import Volume
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import scan_variants
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.final_model import FinalModel
from ermoe_ba.training.recipe import ChooseConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["ages", "make_scan", "study"]


def _fold_0(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "fold-0_predictions.tsv", sep="\t", dtype={"participant_id": str})


def test_out_of_fold_ages_do_not_depend_on_the_ages_of_those_tested(
    study: TinyStudy, ages: dict[str, float]
) -> None:
    """A planted leak: the test participants' ages are turned round, and nothing may move."""
    turned = ages | dict(zip(TEST_IDS, [ages[i] + 7 for i in reversed(TEST_IDS)], strict=True))
    plain, leak = study.run("plain", ages, 0), study.run("leak", turned, 0)
    assert sorted(_fold_0(plain)["participant_id"]) == sorted(TEST_IDS)
    assert (_fold_0(plain)["chronological_age"] != _fold_0(leak)["chronological_age"]).all()
    assert _fold_0(plain)["predicted_age"].tolist() == _fold_0(leak)["predicted_age"].tolist()
    weights = "fold-0_start-1.safetensors"
    assert (plain / weights).read_bytes() == (leak / weights).read_bytes()
    # The counterpart: one training participant's age does move them.
    other = study.run("other", ages | {IDS[1]: 70.0}, 0)
    assert (_fold_0(plain)["predicted_age"] != _fold_0(other)["predicted_age"]).all()


def test_a_member_does_not_depend_on_the_scans_it_is_tested_on(
    study: TinyStudy, ages: dict[str, float], make_scan: Callable[[str, float], PreparedScan]
) -> None:
    """Neither pictures nor label maps of the test participants reach stem or experts."""
    plain = study.run("plain", ages, 0)
    study.scans |= {i: make_scan(i, 0.95) for i in TEST_IDS}
    changed = study.run("changed", ages, 0)
    weights = "fold-0_start-1.safetensors"
    assert (plain / weights).read_bytes() == (changed / weights).read_bytes()
    assert (_fold_0(plain)["predicted_age"] != _fold_0(changed)["predicted_age"]).any()
    study.scans[IDS[1]] = make_scan(IDS[1], 0.95)
    assert (study.run("other", ages, 0) / weights).read_bytes() != (plain / weights).read_bytes()


def test_stages_before_the_age_see_no_age_and_nobody_who_is_tested(
    study: TinyStudy, ages: dict[str, float], make_scan: Callable[[str, float], PreparedScan]
) -> None:
    """Weights after the last of them: moved by a training scan, and by nothing else."""
    config = with_stages(study, make_scan)
    study.recipe = replace(
        study.recipe, pretrain=config, run=replace(study.recipe.run, num_starts=1)
    )
    kept = "kept/fold-0_start-0_volumes.safetensors"
    plain = study.run("plain", ages, 0)
    # All stages stand beside the stem, and the age was learnt after them.
    assert {path.name for path in (plain / "kept").iterdir()} == {
        f"fold-0_{name}.safetensors"
        for name in (
            "stem",
            "described",
            "phantom",
            *(f"start-0_{stage}" for stage in config.stages()),
        )
    }
    for stage in config.stages():
        assert len(pd.read_csv(plain / f"fold-0_start-0_{stage}_history.tsv", sep="\t")) > 0
    assert len(_fold_0(plain)) == len(TEST_IDS)
    # The ages of all, those trained on too.
    older = study.run("older", {i: 90 - age for i, age in ages.items()}, 0)
    assert (older / kept).read_bytes() == (plain / kept).read_bytes()
    assert (_fold_0(older)["predicted_age"] != _fold_0(plain)["predicted_age"]).all()
    # Pictures and label maps of those tested.
    study.scans |= {i: make_scan(i, 0.95) for i in TEST_IDS}
    for number, i in enumerate(TEST_IDS):
        write_raw(study.folder / "raw" / f"sub-{i}_dseg.nii.gz", 200 + number)
    tested = study.run("tested", ages, 0)
    assert (tested / kept).read_bytes() == (plain / kept).read_bytes()
    # The counterpart: one picture, or one label map, of those trained on.
    write_raw(study.folder / "raw" / f"sub-{IDS[1]}_dseg.nii.gz", 300)
    volumes = study.run("volumes", ages, 0)
    assert (volumes / kept).read_bytes() != (plain / kept).read_bytes()
    earlier = "kept/fold-0_start-0_masked.safetensors"
    assert (volumes / earlier).read_bytes() == (plain / earlier).read_bytes()
    study.scans[IDS[1]] = make_scan(IDS[1], 0.95)
    pictures = study.run("pictures", ages, 0)
    assert (pictures / earlier).read_bytes() != (plain / earlier).read_bytes()


def test_a_whole_run_tests_everybody_once_and_describes_itself(
    study: TinyStudy,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = study.run("run", ages, 0)
    assert not (out / "model.json").exists()
    run = CrossValidation(study.recipe, study.folder / "participants.tsv", out)
    metrics = run.run()
    assert metrics is not None
    # Of fold 1, which was left: its stem's steps, and two epochs of two members over 4 scans.
    steps = TISSUE.num_steps * TISSUE.scans_per_step
    assert run.trainer.expenses.total.scans == steps + 2 * 2 * len(TEST_IDS)
    assert f"all stages: {run.trainer.expenses.total}" in capsys.readouterr().out
    table = pd.read_csv(out / "predictions.tsv", sep="\t", dtype={"participant_id": str})
    assert sorted(table["participant_id"]) == IDS
    assert table.set_index("participant_id")["chronological_age"].to_dict() == ages
    gap = table["predicted_age"] - table["chronological_age"]
    np.testing.assert_allclose(table["brain_age_gap"], gap)
    assert metrics["mae"] == pytest.approx(gap.abs().mean())
    # Of the same members on the same scans, four in one fold and eight in the other.
    assert metrics["probe_mae"] == pytest.approx(metrics["mae"], rel=1e-5)
    card = read_card(out)
    assert card.model == study.recipe.model
    # ceil(13 * .5) = 7th smallest of twelve.
    assert card.half_width == pytest.approx(sorted(gap.abs())[6])
    assert card.ages == tuple(table["chronological_age"])
    np.testing.assert_allclose(card.predictions, table["predicted_age"], atol=1e-3)
    assert not list(out.glob(".partial-*"))
    # A run that is done is not made again: nothing may train any more.
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("trained again")
    )
    assert run.run() == metrics


def test_the_interval_counts_people_and_not_their_scans(
    study: TinyStudy, ages: dict[str, float]
) -> None:
    """One person with eight scans and four with one: three of five people must be covered."""
    out = study.run("run", ages, None)
    path = out / "fold-1_predictions.tsv"
    rows = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert len(rows) == 8
    rows.assign(participant_id=rows["participant_id"][0]).to_csv(path, sep="\t", index=False)
    (out / "model.json").unlink()
    CrossValidation(study.recipe, study.folder / "participants.tsv", out).run()
    table = pd.read_csv(out / "predictions.tsv", sep="\t")
    # Nobody in that fold can be routed as somebody else: it is not probed, the other one is.
    probed = json.loads((out / "metrics.json").read_text("utf-8"))["probe_dead_experts"]
    assert len(probed) == 1
    # 24 parts of a person's share each: (5 + 1) * .5 = 3 people are 72 of 120.
    shares = table["fold"].map({0: 24, 1: 3}).to_numpy()
    order = np.argsort(table["brain_age_gap"].abs().to_numpy())
    place = order[np.flatnonzero(np.cumsum(shares[order]) >= 72)[0]]
    width = read_card(out).half_width
    assert width == pytest.approx(abs(table["brain_age_gap"][place]))
    # Counting scans, it is the ceil(13 * .5) = 7th smallest of twelve.
    assert width != pytest.approx(table["brain_age_gap"].abs().sort_values().iloc[6])


def test_a_coverage_that_so_few_cannot_give_is_refused_before_training(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve people are enough for 12 / 13 = 0.923, and not for more."""
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("it was trained")
    )
    run = replace(study.recipe.run, coverage=0.93)
    recipe = replace(study.recipe, run=run)
    with pytest.raises(UsageError, match=r"coverage 0\.93.*needs 14 participants.*found 12"):
        begin(study, "run", ages, recipe).run(0)


def test_descriptions_can_be_kept_before_ages_are_learnt(
    study: TinyStudy, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stem and description alone at first; then the weights of a run that did both at once."""
    straight = study.run("straight", ages, 0)
    out = study.folder / "parted"
    out.mkdir()
    (out / "splits.tsv").write_bytes((straight / "splits.tsv").read_bytes())
    run = CrossValidation(study.recipe, study.write(ages), out)
    run.keep_described(0)
    assert sorted(path.name for path in (out / "kept").iterdir()) == [
        "fold-0_described.safetensors",
        "fold-0_stem.safetensors",
    ]
    assert not list(out.glob("fold-0_start-*.safetensors"))
    monkeypatch.setattr(
        "ermoe_ba.training.part.train_stem", lambda *_, **__: pytest.fail("trained again")
    )
    run.run(0)
    for weights in sorted(straight.glob("fold-0_start-*.safetensors")):
        assert (out / weights.name).read_bytes() == weights.read_bytes()
    assert len(list(out.glob("fold-0_start-*.safetensors"))) == study.recipe.run.num_starts


def test_regions_of_an_atlas_are_read_in_training_alone(
    study: TinyStudy,
    ages: dict[str, float],
    small_tokens: TokenGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All members hold the shares that the tokens have, the choice of settings needs them too."""
    dseg = np.zeros(small_tokens.grid.shape, dtype=np.int32)
    dseg[:6] = 3
    labels = pd.DataFrame({"index": [3], "name": ["Front"], "hemisphere": ["n/a"]})
    atlas = Atlas(name="tiny", dseg=Volume(dseg, small_tokens.grid), labels=labels, licence="none")
    for reader in ("atlas_regions", "other_inputs"):
        monkeypatch.setattr(
            f"ermoe_ba.training.{reader}.load_atlas", {"tiny.nii.gz": atlas}.__getitem__
        )
    plain = {"region_atlas": "tiny.nii.gz", "region_labels": {"front": ["front"]}}
    model = changed(study.recipe.model, {"regions": ["csf", "front"], **plain})
    choose = ChooseConfig(num_folds=2, alternatives={"long": {"num_epochs": 3}})
    study.recipe = replace(study.recipe, model=model, choose=choose)
    out, final = study.run("run", ages, None), study.folder / "final"
    FinalModel(study.recipe, study.folder / "participants.tsv", out, final).run()
    monkeypatch.setattr(
        "ermoe_ba.training.atlas_regions.load_atlas", lambda _: pytest.fail("the atlas was read")
    )
    members = [m for folder in (out, final) for m in load_ensemble(str(folder)).members]
    front_t = small_tokens.held_share(Volume(dseg, small_tokens.grid))
    assert 0 < np.count_nonzero(front_t < 0.2) < len(front_t)
    # Two of each fold, and two of everybody.
    assert len(members) == 6
    for member in members:
        kept = member.state_dict()["atlas_shares.share_te"].numpy()
        np.testing.assert_allclose(kept, np.stack([np.zeros_like(front_t), front_t], axis=1))
    # An expert without such tokens is a wrong recipe, told before anything is trained.
    wrong = replace(model, region_labels={"front": ("Back",)})
    study.recipe = replace(study.recipe, model=wrong, text="wrong")
    monkeypatch.setattr("ermoe_ba.training.atlas_regions.load_atlas", lambda _: atlas)
    with pytest.raises(UsageError, match=r"region_labels.front: must name .* found 'Back'"):
        CrossValidation(study.recipe, study.folder / "participants.tsv", study.folder / "other")
    assert not (study.folder / "other").exists()


def test_expert_matching_leaves_out_of_fold_ages_as_they_were(
    study: TinyStudy, ages: dict[str, float], small_tokens: TokenGrid
) -> None:
    from ermoe_ba.checkpoint import load_member

    out = study.run("run", ages, None)
    table = pd.read_csv(out / "fold-1_predictions.tsv", sep="\t", dtype={"participant_id": str})
    tested = [study.scans[i] for i in table["participant_id"]]
    starts = []
    for number in range(2):
        path = out / f"fold-1_start-{number}.safetensors"
        member = load_member(path, study.recipe.model, small_tokens)
        with torch.no_grad():
            described = scan_variants(member.describe, tested, 0, 0)[:, 0].float()
            starts.append(member.read_age(described).age_b.numpy())
    assert np.abs(starts[0] - starts[1]).max() > 1e-2
    np.testing.assert_allclose(np.mean(starts, axis=0), table["predicted_age"], atol=1e-3)
