"""The ablation: kept descriptions in, one comparable row a network out, nothing done twice."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.cli.main import main
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.io import write_volume
from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.partial import prefix_of
from ermoe_ba.software import commit
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.study import StudyScan
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.ablation import Ablation
from ermoe_ba.training.ablation_fold import AblationFold
from ermoe_ba.training.ablation_network import train_unit
from ermoe_ba.training.ablation_recipe import AblationRecipe, read_ablation
from ermoe_ba.training.ablation_table import (
    ABLATION_COLUMNS,
    ablation_table,
    as_markdown,
    changed_after_matching,
    mean_interval,
)
from ermoe_ba.training.ablation_unit import (
    Routes,
    Unit,
    changed_share,
    load_unit,
    save_unit,
)
from ermoe_ba.training.change_config import CHANGES, USUAL
from ermoe_ba.training.recipe import read_recipe
from ermoe_ba.training.regional_volumes import make_regression, regional_volumes

pytestmark = pytest.mark.usefixtures("one_torch_thread")

IDS = [f"{number:02}" for number in range(12)]
AGES = {i: 20.0 + 5 * number for number, i in enumerate(IDS)}
# Every third participant is tested in fold 0, the others in fold 1.
FOLDS = {i: 0 if number % 3 == 0 else 1 for number, i in enumerate(IDS)}

BASE = """
[run]
name = "tiny"
num_folds = 2
num_starts = 1
seed = 5
coverage = 0.5
t1w = "raw/{participant_id}_T1w.nii.gz"
labels = "raw/{participant_id}_dseg.nii.gz"
label_table = "labels.tsv"
data = "synthetic"
licence = "none"

[model]
patch_size = 4
token_min_brain = 0.2
stem_hidden = 4
hidden_size = 12
num_heads = 2
place_scale = 0.3
regions = ["grey_matter", "csf"]
num_free_experts = 3
rank = 5
offset_scale = 0.1
top_k = 2
score_threshold = 0.0
region_min_fraction = 0.2
temperature = 0.1
bias_step = 0.01
token_dropout = 0.25

[tissue]
num_steps = 4
scans_per_step = 2
voxels_per_scan = 20
outside_share = 0.2
gain_sd = 0.05
noise_sd = 0.02
optimiser = { learning_rate = 0.01, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.9 }

[age]
num_variants = 1
num_epochs = 3
batch_size = 4
ridge_strength = 0.1
invariance = 0.1
readout_decay = 0.3
weight_decay = 0.01
spread_floor = 0.02
optimiser = { learning_rate = 0.02, warmup_share = 0.3, max_gradient_norm = 1.0, ema_decay = 0.5 }
"""

RECIPE = """
[ablation]
base = "base.toml"
seeds = [1, 2]
folds = [0, 1]
reference = "additive"
reduce = 1
stability_epochs = 1
resamples = 200
confidence = 0.9

[[row]]
name = "ermoe"

[[row]]
name = "softmax"
router = "softmax"
model = { top_k = 1 }

[[row]]
name = "additive"
backbone = "additive"
age = { num_epochs = 4 }
"""


MASKED = (
    "{ masked = { share = 0.4, num_epochs = 2, batch_size = 4, optimiser = "
    "{ learning_rate = 0.02, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.5 } } }"
)


@dataclass
class _Place:
    """Recipes, participants and a run whose descriptions are kept, in one folder."""

    folder: Path

    @property
    def participants(self) -> Path:
        return self.folder / "participants.tsv"

    @property
    def kept(self) -> Path:
        return self.folder / "run"

    def recipe(self, text: str = RECIPE) -> AblationRecipe:
        path = self.folder / "ablation.toml"
        path.write_text(text, encoding="utf-8")
        return read_ablation(path)

    def ablation(self, text: str = RECIPE, **options: Any) -> Ablation:
        options = {"run": self.kept, **options}
        out = self.folder / "out"
        return Ablation(self.recipe(text), self.participants, out, **options)

    def fold(self, recipe: AblationRecipe) -> AblationFold:
        described = self.folder / "out" / "described"
        return AblationFold(recipe.base, self.participants, self.kept, 0, described=described)


def _described(tokens: TokenGrid, ids: list[str], variants: int) -> torch.Tensor:
    """Ventricles of the middle token grow with age; a change of tissue shows in every family."""
    random = np.random.default_rng(len(ids))
    shape = (len(ids), variants, len(tokens), len(FAMILIES), len(TISSUES))
    described = random.uniform(0.08, 0.12, shape)
    grown = np.array([(AGES[i] - 20) / 60 for i in ids])
    described[:, :, len(tokens) // 2, :, TISSUES.index("ventricles")] += grown[:, None, None]
    described /= described.sum(axis=-1, keepdims=True)
    described *= np.array(list(FAMILIES.values()))[:, None]
    return torch.as_tensor(described).half()


def _keep(run: Path, tokens: TokenGrid, fold: int) -> None:
    (run / "kept").mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{i}\t{fold}\n" for i, fold in FOLDS.items())
    (run / "splits.tsv").write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
    (run / "recipe.json").write_text(json.dumps({"text": BASE, "data_hash": "0"}), encoding="utf-8")
    kept = {
        "train": _described(tokens, [i for i in IDS if FOLDS[i] != fold], 2),
        "test": _described(tokens, [i for i in IDS if FOLDS[i] == fold], 1),
    }
    save_file(kept, run / "kept" / f"fold-{fold}_described.safetensors")
    (run / "kept" / f"fold-{fold}_stem.safetensors").write_bytes(b"a stem")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_tokens: TokenGrid) -> _Place:
    rows = "".join(f"sub-{i}\t{age}\n" for i, age in AGES.items())
    (tmp_path / "participants.tsv").write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")
    for fold in (0, 1):
        _keep(tmp_path / "run", small_tokens, fold)
    monkeypatch.setattr("ermoe_ba.training.ablation_network.token_grid", lambda _: small_tokens)
    monkeypatch.setattr(
        "ermoe_ba.training.ablation_fold.CrossValidation",
        lambda *_: pytest.fail("kept descriptions were made again"),
    )
    return _Place(tmp_path)


def _errors(place: _Place, row: str, seed: int) -> pd.Series:
    """Absolute errors by participant, read from the files of the networks."""
    errors = {}
    for fold in (0, 1):
        path = place.folder / "out" / "networks" / f"row-{row}_seed-{seed}_fold-{fold}.json"
        unit = json.loads(path.read_text(encoding="utf-8"))
        assert unit["participant_id"] == [i for i in IDS if FOLDS[i] == fold]
        for i, age in zip(unit["participant_id"], unit["predicted_age"], strict=True):
            errors[i] = abs(age - AGES[i])
    return pd.Series(errors)


def test_the_table_is_made_of_what_the_networks_said(place: _Place) -> None:
    table = place.ablation().run()
    assert table is not None
    assert list(table.columns) == list(ABLATION_COLUMNS)
    table = table.set_index("row")
    assert list(table.index) == ["ermoe", "softmax", "additive"]
    reference = (_errors(place, "additive", 1) + _errors(place, "additive", 2)) / 2
    for row in table.index:
        by_seed = [_errors(place, row, seed) for seed in (1, 2)]
        mean = (by_seed[0] + by_seed[1]) / 2
        assert sorted(mean.index) == IDS
        assert table.loc[row, "mae"] == pytest.approx(mean.mean())
        # Of two numbers, the standard deviation is their distance over the root of 2.
        apart = abs(by_seed[0].mean() - by_seed[1].mean())
        assert table.loc[row, "mae_seed_sd"] == pytest.approx(apart / 2**0.5)
        assert table.loc[row, "mae_lower"] < table.loc[row, "mae"] < table.loc[row, "mae_upper"]
        if row != "additive":
            paired = (mean - reference).mean()
            assert table.loc[row, "difference"] == pytest.approx(paired)
            assert table.loc[row, "difference_lower"] < paired < table.loc[row, "difference_upper"]
            # Student's t of one degree of freedom is Cauchy's: quantile tan(pi (p - 1/2)). The
            # standard error of a mean of two is half their distance; the recipe asks for 90 %.
            d1, d2 = (by_seed[k].mean() - _errors(place, "additive", k + 1).mean() for k in (0, 1))
            half = np.tan(np.pi * 0.9 / 2) * abs(d1 - d2) / 2
            assert table.loc[row, "difference_seed_lower"] == pytest.approx(paired - half)
            assert table.loc[row, "difference_seed_upper"] == pytest.approx(paired + half)
    dense = table.loc["additive"]
    assert dense[["difference", "load_gini", "mae_random_routing"]].isna().all()
    routed = table.loc[["ermoe", "softmax"]]
    for name in ("changed_between_epochs", "changed_between_seeds", "load_gini", "load_entropy"):
        assert routed[name].between(0, 1).all(), name
    assert (routed["parameters_total"] > routed["parameters_active"]).all()
    # One expert a token in place of two (U, V, s, m and w less), and a gate of 12 x 5.
    less = 2 * 12 * 5 + 5 + 5 + 12 - 12 * 5
    active = table["parameters_active"]
    assert active["softmax"] == active["ermoe"] - less
    written = pd.read_csv(place.folder / "out" / "table.tsv", sep="\t").set_index("row")
    np.testing.assert_allclose(written["mae"], table["mae"])
    text = (place.folder / "out" / "table.md").read_text(encoding="utf-8")
    assert "12 scans, folds 0, 1, seeds 1, 2; reference: additive" in text
    assert f"| {table.loc['ermoe', 'mae']:.2f} |" in text


def test_networks_behind_another_stem_are_not_put_into_one_table(place: _Place) -> None:
    place.ablation().run()
    path = place.folder / "out" / "networks" / "row-softmax_seed-2_fold-1.json"
    unit = json.loads(path.read_text(encoding="utf-8"))
    for what, other in (("stem", "0"), ("participant_id", unit["participant_id"][::-1])):
        path.write_text(json.dumps({**unit, what: other}), encoding="utf-8")
        with pytest.raises(UsageError, match=r"must have the same .* row-softmax_seed-2_fold-1"):
            place.ablation(resume=True).run()


def test_scans_of_one_person_share_a_place(place: _Place) -> None:
    """Twice the scans of one person count as one person, with their mean error."""
    table = place.ablation().run()
    assert table is not None
    recipe, folder = place.recipe(), place.folder / "out" / "networks"
    units = {
        (row.name, seed, fold): load_unit(folder / f"row-{row.name}_seed-{seed}_fold-{fold}.json")
        for row in recipe.row
        for seed in (1, 2)
        for fold in (0, 1)
    }
    twice = {
        key: replace(
            unit,
            participant_id=(*unit.participant_id, unit.participant_id[0]),
            chronological_age=(*unit.chronological_age, unit.chronological_age[0]),
            predicted_age=(*unit.predicted_age, unit.predicted_age[0]),
        )
        for key, unit in units.items()
    }
    pd.testing.assert_frame_equal(ablation_table(recipe, twice), table)


def test_a_lonely_expert_has_no_even_load(place: _Place) -> None:
    recipe = place.recipe()
    lonely = replace(
        recipe.row[0], model={"regions": [], "num_free_experts": 1, "top_k": 1}, name="one"
    )
    unit = train_unit(recipe, lonely, place.fold(recipe), 1)
    assert unit.routes is None
    assert "load_gini" not in unit.figures
    assert unit.figures["mae_without_least"] == unit.figures["mae_without_most"]


@pytest.mark.parametrize("setting", ["patch_size", "stem_hidden", "token_min_brain"])
def test_a_row_cannot_have_another_stem(place: _Place, setting: str) -> None:
    recipe = place.recipe()
    row = replace(recipe.row[0], model={setting: 4})
    with pytest.raises(ValueError, match=f"none may set {setting}"):
        replace(recipe, row=(row, *recipe.row[1:]))


TIED = """
[[row]]
name = "tied"
router = "subspace"
model = { regions = ["part"], region_atlas = "tiny", region_labels = { part = ["spot"] } }
"""


def test_a_row_may_tie_experts_to_regions_of_an_atlas(
    place: _Place, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The region fills the whole of one token: its expert serves that, and no other."""
    number = len(small_tokens) // 2
    dseg = (small_tokens.numbers.data == number + 1).astype(np.int32)
    labels = pd.DataFrame({"index": [1], "name": ["Spot"], "hemisphere": ["n/a"]})
    atlas = Atlas(name="tiny", dseg=Volume(dseg, small_tokens.grid), labels=labels, licence="none")
    monkeypatch.setattr("ermoe_ba.training.atlas_regions.load_atlas", {"tiny": atlas}.__getitem__)
    with pytest.raises(UsageError, match=r"region_labels.part: must name .* found 'dot'"):
        place.ablation(RECIPE + TIED.replace('"spot"', '"dot"'))
    assert not (place.folder / "out").exists()
    # Of four experts all may serve, by their score as well.
    more = "model = { top_k = 4, score_threshold = -9.0, "
    recipe = place.recipe(RECIPE + TIED.replace("model = { ", more))
    unit = train_unit(recipe, recipe.row[-1], place.fold(recipe), 1)
    assert unit.routes is not None
    assert unit.routes.num_regional == 1
    expected = np.arange(len(small_tokens)) == number
    served = unit.routes.selected_bte[:, :, 0]
    np.testing.assert_array_equal(served, np.broadcast_to(expected, served.shape))


def test_a_row_changes_its_own_settings_alone(place: _Place) -> None:
    recipe = place.recipe()
    ermoe, softmax, additive = recipe.row
    assert recipe.model_of(ermoe) == recipe.base.model
    assert recipe.model_of(softmax) == replace(recipe.base.model, top_k=1)
    assert recipe.age_of(softmax) == recipe.base.age
    assert recipe.age_of(additive) == replace(recipe.base.age, num_epochs=4)


def test_folds_can_be_shared_and_nothing_is_trained_twice(
    place: _Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.ablation().run(0) is None
    trained: list[tuple[str, int, int]] = []

    def record(recipe: AblationRecipe, row: Any, fold: AblationFold, seed: int) -> Unit:
        trained.append((row.name, seed, fold.fold))
        return train_unit(recipe, row, fold, seed)

    monkeypatch.setattr("ermoe_ba.training.ablation.train_unit", record)
    first = place.ablation(resume=True).run()
    assert first is not None
    assert sorted(trained) == [
        (row, seed, 1) for row in ("additive", "ermoe", "softmax") for seed in (1, 2)
    ]
    second = place.ablation(resume=True).run()
    assert len(trained) == 6
    assert second is not None
    pd.testing.assert_frame_equal(first, second)


def test_the_same_seed_gives_the_same_ages_whether_or_not_somebody_watches(place: _Place) -> None:
    recipe = place.recipe()
    fold = place.fold(recipe)
    many = replace(recipe, ablation=replace(recipe.ablation, stability_epochs=2))
    units = [train_unit(r, recipe.row[0], fold, seed) for r, seed in ((recipe, 1), (many, 1))]
    assert units[0].predicted_age == units[1].predicted_age
    assert train_unit(recipe, recipe.row[0], fold, 2).predicted_age != units[0].predicted_age


def test_a_run_of_other_descriptions_is_refused(place: _Place) -> None:
    path = place.kept / "recipe.json"
    kept = BASE.replace("stem_hidden = 4", "stem_hidden = 8")
    path.write_text(json.dumps({"text": kept}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"model\.stem_hidden = 8, the recipe asks for 4"):
        place.ablation().run()
    kept = BASE.replace("gain_sd = 0.05", "gain_sd = 0.5")
    path.write_text(json.dumps({"text": kept}), encoding="utf-8")
    with pytest.raises(UsageError, match="tissue"):
        place.ablation(resume=True).run()
    # How the age was trained there is no matter of the descriptions.
    kept = BASE.replace("num_epochs = 3", "num_epochs = 90").replace("rank = 5", "rank = 7")
    path.write_text(json.dumps({"text": kept}), encoding="utf-8")
    assert place.ablation(resume=True).run(0) is None


def test_a_run_of_other_people_is_refused(place: _Place) -> None:
    with place.participants.open("a", encoding="utf-8") as file:
        file.write("sub-new\t44\n")
    with pytest.raises(UsageError, match="1 stand in one of them alone"):
        place.ablation().run()


def test_where_no_run_is_given_the_stems_are_trained_once(
    place: _Place, monkeypatch: pytest.MonkeyPatch, small_tokens: TokenGrid
) -> None:
    made: list[int] = []

    class FakeCrossValidation:
        """Stands for `CrossValidation`."""

        def __init__(self, recipe: Any, participants: Path, run: Path) -> None:
            assert run == place.folder / "out" / "stems"
            self.run = run

        def keep_described(self, fold: int) -> None:
            made.append(fold)
            _keep(self.run, small_tokens, fold)

    monkeypatch.setattr("ermoe_ba.training.ablation_fold.CrossValidation", FakeCrossValidation)
    place.ablation(run=None).run(1)
    assert made == [1]


def test_results_are_neither_overwritten_nor_mixed(place: _Place) -> None:
    place.ablation()
    with pytest.raises(UsageError, match="--resume"):
        place.ablation()
    with pytest.raises(UsageError, match="another recipe"):
        place.ablation(RECIPE.replace("resamples = 200", "resamples = 300"), resume=True)
    with pytest.raises(UsageError, match=r"--fold must be one of \(0, 1\); found 7"):
        place.ablation(resume=True).run(7)


def test_descriptions_that_a_killed_start_left_half_written_are_removed(place: _Place) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    path = place.folder / "out" / "described" / "0123456789abcdef_described.safetensors"
    name, host, _, _ = prefix_of(path).rsplit("-", 3)
    path.parent.mkdir(parents=True)
    for process in (child.pid, os.getpid()):
        path.with_name(f"{name}-{host}-{process}-x.safetensors").touch()
    place.ablation()
    left = [partial.name for partial in path.parent.iterdir()]
    assert left == [f"{name}-{host}-{os.getpid()}-x.safetensors"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('router = "softmax"', 'router = "roulette"', "router must be one of eigenbasis"),
        ('backbone = "additive"', 'backbone = "giant"', "backbone must be one of experts"),
        ('name = "ermoe"', 'name = "ermoe"\northogonal = "svd"', "must be one of qr"),
        ('name = "ermoe"', 'name = "er/moe"', "letters, digits and hyphens"),
        ('name = "ermoe"', 'name = "softmax"', "a name of its own"),
        ('reference = "additive"', 'reference = "dense"', "reference must be a row"),
        ("top_k = 1", "top_k = 6", "top_k must lie between 1 and 5"),
        ("top_k = 1", "topk = 1", "topk"),
        ("num_epochs = 4", "num_epoch = 4", "num_epoch"),
        ("folds = [0, 1]", "folds = [0, 2]", "folds must lie between 0 and 1"),
        ("seeds = [1, 2]", "seeds = []", "seeds must be one or more"),
        ("seeds = [1, 2]", "seeds = [2, 2]", "each once"),
        ("resamples = 200", "resamples = 0", "resamples must be at least 1"),
        (
            'name = "ermoe"',
            'name = "ermoe"\nharmonise = "combat"',
            "is for ridge and gpr",
        ),
        ('name = "ermoe"', 'name = "ermoe"\nharmonise = "magic"', "one of none, combat"),
        ('name = "ermoe"', 'name = "ermoe"\npretrain = { dream = {} }', "dream"),
        ("age = { num_epochs = 4 }", f"pretrain = {MASKED}", "pretrain is for mixtures"),
        ("confidence = 0.9", "confidence = 90.0", "confidence must lie between 0 and 1"),
        ("resamples", 'moved_by = ["mask", "wind"]\nresamples', "which are mask.*found wind"),
        ("num_epochs = 4", "changes = { flip = { probability = 2 } }", "between 0 and 1; found 2"),
        ("base.toml", "none.toml", "none.toml"),
        ("[ablation]", "[ablations]", "ablation"),
        ("seeds", "seed", "seed"),
    ],
)
def test_a_wrong_recipe_is_refused(place: _Place, old: str, new: str, says: str) -> None:
    assert old in RECIPE
    with pytest.raises(UsageError, match=says):
        place.recipe(RECIPE.replace(old, new, 1))


def test_other_copies_are_described_once_with_the_stem_of_the_fold(
    place: _Place,
    monkeypatch: pytest.MonkeyPatch,
    small_tokens: TokenGrid,
    small_brain: Volume,
    make_member: Any,
) -> None:
    """Those of a row's own changes; the scans as they are come from what the run kept."""
    from ermoe_ba.dataset import PreparedScan
    from ermoe_ba.training.age import changed_copies

    member, seed = make_member(), place.recipe().base.run.seed
    save_file(member.stem.state_dict(), place.kept / "kept" / "fold-0_stem.safetensors")
    (place.folder / "raw").mkdir()
    for i in IDS:
        (place.folder / "raw" / f"{i}_T1w.nii.gz").write_text(i, encoding="utf-8")
    read: list[str] = []

    def prepared(participant_id: str) -> PreparedScan:
        random = np.random.default_rng(int(participant_id))
        data = random.uniform(0.3, 1.2, small_brain.grid.shape) * small_brain.data
        return PreparedScan(
            participant_id=participant_id,
            t1w=small_brain.same_grid(data.astype(np.float32)),
            brain_mask=small_brain,
            labels=None,
        )

    class FakeCohort:
        """Stands for `PreparedCohort`."""

        def __init__(self, *_: Any) -> None: ...

        def prepare(self, scan: StudyScan) -> None: ...

        def read(self, scan: StudyScan) -> PreparedScan:
            read.append(scan.participant_id)
            return prepared(scan.participant_id)

    module = "ermoe_ba.training.ablation_fold"
    monkeypatch.setattr(f"{module}.PreparedCohort", FakeCohort)
    monkeypatch.setattr(f"{module}.Preprocessor", lambda _: None)
    monkeypatch.setattr("ermoe_ba.training.described_copies.token_grid", lambda _: small_tokens)
    recipe = place.recipe()
    fold, base = place.fold(recipe), recipe.base.age
    kept = fold.described(base)
    assert read == []
    flipped = replace(base, changes=base.changes.alone("flip"))
    found = fold.described(flipped)
    assert sorted(read) == [i for i in IDS if FOLDS[i] != 0]
    assert torch.equal(found.train[:, 0], kept.train[:, 0])
    assert torch.equal(found.test, kept.test)
    scans = [prepared(i) for i in IDS if FOLDS[i] != 0]
    expected = changed_copies(member.describe, scans, 1, seed, flipped.changes)
    assert torch.equal(found.train[:, 1:], expected)
    # Another fold object, as a process that goes on has: nothing is described again.
    assert torch.equal(place.fold(recipe).described(flipped).train, found.train)
    assert len(read) == 8
    # None are wanted: none are made.
    assert fold.described(replace(base, num_variants=0)).train.shape[1] == 1
    assert len(read) == 8
    # Other scans and another stem are other descriptions.
    moved = fold.moved("flip")
    assert sorted(read[8:]) == [i for i in IDS if FOLDS[i] == 0]
    assert moved.shape == kept.test.shape
    save_file(make_member(1).stem.state_dict(), place.kept / "kept" / "fold-0_stem.safetensors")
    assert not torch.equal(fold.moved("flip"), moved)


def test_how_far_a_change_moves_ages(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that exchanges the first scan and the last, and one that does nothing."""
    recipe = place.recipe(RECIPE.replace("resamples", 'moved_by = ["mask", "flip"]\nresamples'))

    def moved(fold: AblationFold, change: str) -> torch.Tensor:
        test = fold.described(fold.recipe.age).test
        return test[[3, 1, 2, 0]] if change == "flip" else test

    monkeypatch.setattr(AblationFold, "moved", moved)
    for row in (recipe.row[0], recipe.row[2]):
        unit = train_unit(recipe, row, place.fold(recipe), 1)
        apart = abs(unit.predicted_age[0] - unit.predicted_age[3])
        assert apart > 1
        assert unit.figures["moved_by_mask"] == 0
        assert unit.figures["moved_by_flip"] == pytest.approx(2 * apart / 4, rel=1e-3)
        assert "moved_by_noise" not in unit.figures


def test_a_run_of_other_copies_is_refused(place: _Place) -> None:
    """Defaults that are written out are the same; other sizes are not."""
    path = place.kept / "recipe.json"
    for size, refused in ((0.03, False), (0.5, True)):
        kept = f"{BASE}[age.changes]\nnoise = {{ deviation = {size} }}\n"
        path.write_text(json.dumps({"text": kept}), encoding="utf-8")
        if refused:
            with pytest.raises(UsageError, match=r"age\.changes"):
                place.fold(place.recipe())
        else:
            place.fold(place.recipe())


def test_the_command_prints_its_table(place: _Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.recipe()
    command = ["ablate", str(place.folder / "ablation.toml")]
    command += ["--participants", str(place.participants), "--run", str(place.kept)]
    command += ["--out", str(place.folder / "out")]
    assert main([*command, "--fold", "0"]) == 0
    assert "others are still to come" in capsys.readouterr().out
    assert main([*command, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| row | mae |")
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err


def test_the_shipped_recipes_can_be_read() -> None:
    pipelines = Path(__file__).parents[1] / "pipelines"
    recipe = read_ablation(pipelines / "ablation.toml")
    assert len(recipe.ablation.seeds) >= 3
    routers = {row.router for row in recipe.row if row.backbone == "experts"}
    from ermoe_ba.model.rivals.roster import ROUTERS

    assert routers == set(ROUTERS)
    for path in pipelines.glob("ablation*.toml"):
        other = read_ablation(path)
        if path.stem != "ablation_phantom":
            assert other.base == recipe.base, path
        told = [
            (replace(row, name="any"), other.model_of(row), other.age_of(row)) for row in other.row
        ]
        # A row that says the same as another would compare a network with itself.
        assert all(one not in told[:number] for number, one in enumerate(told)), path
    before = read_ablation(pipelines / "ablation_stages.toml")
    assert [list(before.pretrain_of(row).stages()) for row in before.row] == [
        [],
        ["masked"],
        ["volumes"],
        ["phantom"],
    ]
    # Every change stands in a row of its own: left out where it is made, made where it is not.
    by_change = read_ablation(pipelines / "ablation_changes.toml")
    alone = {row.name: by_change.age_of(row).changes for row in by_change.row}
    for name in CHANGES:
        usual = getattr(USUAL, name)
        found = alone[f"no-{name}" if usual.probability else f"with-{name}"]
        assert getattr(found, name).probability == (0 if usual.probability else 0.5)
        assert replace(found, **{name: usual}) == USUAL
    assert by_change.ablation.moved_by == CHANGES


def test_the_phantom_s_rows_are_those_of_the_table_on_people() -> None:
    """Of the same shape as well; both recipes ask for the phantom's own label maps."""
    pipelines = Path(__file__).parents[1] / "pipelines"
    simulated = read_ablation(pipelines / "ablation_phantom.toml")
    people = read_ablation(pipelines / "ablation.toml")
    known = {row.name: row for row in people.row}
    assert [row for row in simulated.row if row != known[row.name]] == []
    assert simulated.base.model == people.base.model
    smoke = read_recipe(pipelines / "smoke.toml").run
    for name in ("labels", "label_table", "t1w"):
        assert getattr(simulated.base.run, name) == getattr(smoke, name)


def test_intervals_of_a_mean(place: _Place) -> None:
    """About 1.64 standard errors to each side for 90 %; nothing where nothing varies."""
    recipe = place.recipe(RECIPE.replace("resamples = 200", "resamples = 4000"))
    assert mean_interval(np.full(9, 2.5), recipe) == (2.5, 2.5)
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = mean_interval(values, recipe)
    expected = 1.645 * values.std() / 20
    assert values.mean() - low == pytest.approx(expected, rel=0.1)
    assert high - values.mean() == pytest.approx(expected, rel=0.1)
    assert mean_interval(values, recipe) == (low, high)


def _one_hot(experts: list[int], count: int) -> Array:
    return np.eye(count, dtype=bool)[experts][None]


def test_a_token_counts_once_however_many_of_its_experts_change() -> None:
    """Of four tokens, one keeps both experts, one swaps one, one both; one swaps none."""
    before = np.array([[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]], dtype=bool)
    after = np.array([[[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]]], dtype=bool)
    assert changed_share(before, after) == 0.5


def test_experts_under_other_names_have_not_changed() -> None:
    """Free experts 1 and 2 trade names; expert 0 is regional and keeps its own."""
    experts, renamed = [0, 1, 2, 2, 1, 0], [0, 2, 1, 1, 2, 0]
    one, two = _one_hot(experts, 3), _one_hot(renamed, 3)
    first, second = (Routes(s, s[0].astype(float), 1) for s in (one, two))
    assert changed_share(one, two) == pytest.approx(4 / 6)
    assert changed_after_matching(first, second) == 0.0
    # Were it the regional one that traded, nobody could have renamed it.
    other = _one_hot([1, 0, 2, 2, 0, 1], 3)
    assert changed_after_matching(first, Routes(other, other[0].astype(float), 3)) == 4 / 6


def test_a_unit_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    selected = np.array([[[True, False], [False, True], [True, True]]])
    routes = Routes(selected, np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]), 1)
    unit = Unit(
        ("007", "NA"), (20.5, 30.0), (21.0, 33.25), {"load_gini": 0.125}, routes, "5e", "c0"
    )
    save_unit(tmp_path / "unit.json", unit)
    found = load_unit(tmp_path / "unit.json")
    assert replace(found, routes=None) == replace(unit, routes=None)
    assert found.routes is not None
    assert found.routes.selected_bte.dtype == bool
    np.testing.assert_array_equal(found.routes.selected_bte, selected)
    np.testing.assert_array_equal(found.routes.weights_te, routes.weights_te)
    assert found.routes.num_regional == 1


def test_markdown_leaves_out_empty_columns() -> None:
    table = pd.DataFrame({"row": ["a", "b"], "mae": [5.123, 6.0], "load_gini": [0.1, np.nan]})
    text = as_markdown(table.assign(difference=np.nan))
    lines = text.splitlines()
    assert lines[:4] == [
        "| row | mae | load_gini |",
        "|---|---|---|",
        "| a | 5.12 | 0.10 |",
        "| b | 6.00 | n/a |",
    ]
    assert "difference" not in text


def _label_map(path: Path, counts: dict[int, int]) -> Path:
    data = np.zeros((4, 5, 6), dtype=np.int16)
    flat = np.repeat(list(counts), list(counts.values()))
    data.flat[: len(flat)] = flat
    write_volume(path, Volume(data, SpatialGrid((4, 5, 6), np.diag([2.0, 2, 2, 1]), "scan")))
    return path


def test_regional_volumes_by_hand(tmp_path: Path) -> None:
    """Of 40 labelled voxels, 10 bear 4 and 25 bear 7; 9 is not asked for, 5 is not there."""
    path = _label_map(tmp_path / "dseg.nii.gz", {4: 10, 7: 25, 9: 5})
    assert regional_volumes(path, [4, 5, 7]).tolist() == [0.25, 0.0, 0.625]
    with pytest.raises(ScanError, match="must have a label"):
        regional_volumes(_label_map(tmp_path / "empty.nii.gz", {}), [4])


@pytest.mark.parametrize("name", ["ridge", "gpr"])
def test_regressions_learn_a_linear_effect(name: str) -> None:
    random = np.random.default_rng(0)
    volumes = random.normal(0.1, 0.01, (120, 6))
    ages = 50 + 1000 * (volumes[:, 2] - 0.1) - 500 * (volumes[:, 4] - 0.1)
    # A year of noise, which is no part of the effect.
    regression = make_regression(name, 6).fit(volumes[:80], ages[:80] + random.normal(0, 1, 80))
    error = np.abs(regression.predict(volumes[80:]) - ages[80:]).mean()
    assert error < 0.15 * np.abs(ages[80:] - ages[:80].mean()).mean()


@pytest.mark.parametrize("name", ["ridge", "gpr"])
def test_bounded_regressions_fit_scores_and_answer_ages(name: str) -> None:
    """The score is linear in a volume; its ages crowd towards the bounds, and none lies beyond."""
    random = np.random.default_rng(0)
    volumes = random.normal(0, 1, (120, 3))
    ages = 100 / (1 + np.exp(-2 * volumes[:, 1]))
    bounded = make_regression(name, 3, (0.0, 100.0)).fit(volumes[:80], ages[:80])
    plain = make_regression(name, 3).fit(volumes[:80], ages[:80])
    assert np.abs(bounded.predict(volumes[80:]) - ages[80:]).mean() < 0.5
    # Twice as far out as anybody it learnt from.
    far = np.array([[0.0, 8.0, 0.0], [0.0, -8.0, 0.0]])
    assert bounded.predict(far) == pytest.approx([100, 0], abs=0.5)
    if name == "ridge":
        assert plain.predict(far)[0] > 150
        assert plain.predict(far)[1] < -50


def test_regressions_are_rows_like_any_other(
    place: _Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Label 4 takes the share of the age; the split is that of the networks."""
    # Read while the folder of atlases is still the package's.
    for suffix in ("desc-brain_T1w", "label-WM_probseg"):
        template(suffix)
    (tmp_path / "registry.toml").write_text("[atlas]\n", encoding="utf-8")
    (tmp_path / "labels.tsv").write_text("index\ttissue\n4\tventricles\n7\tcortex\n", "utf-8")
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path))
    (tmp_path / "raw").mkdir()
    for i, age in AGES.items():
        _label_map(tmp_path / "raw" / f"{i}_dseg.nii.gz", {4: int(age), 7: 100 - int(age)})
    recipe = place.recipe(RECIPE.replace('backbone = "additive"', 'backbone = "ridge"'))
    fold = place.fold(recipe)
    unit = train_unit(recipe, recipe.row[2], fold, seed=1)
    np.testing.assert_allclose(unit.predicted_age, unit.chronological_age, atol=2.0)
    assert unit.figures == {}
    assert unit.routes is None


def test_rows_may_differ_in_what_comes_before_the_age(place: _Place) -> None:
    """Nobody who is tested takes part in it, and only the rows that ask for it have it."""
    masked_row = f'[[row]]\nname = "masked"\npretrain = {MASKED}'
    text = RECIPE.replace('name = "ermoe"', f'name = "ermoe"\n\n{masked_row}')
    recipe = place.recipe(text)
    ermoe, masked = recipe.row[:2]
    assert recipe.pretrain_of(ermoe).stages() == {}
    assert list(recipe.pretrain_of(masked).stages()) == ["masked"]
    (place.kept / "scans.tsv").write_text("scan\tparticipant_id\tvoxel_hash\n", "utf-8")
    fold = place.fold(recipe)
    config = recipe.age_of(masked)
    lessons = fold.lessons(fold.described(config), config, recipe.pretrain_of(masked))
    assert list(lessons.participants) == [i for i in IDS if FOLDS[i] != 0]
    assert len(lessons.described_nv) == len(lessons.participants)
    assert lessons.volumes_nl is None
    assert lessons.simulated is None
    without, after = (train_unit(recipe, row, fold, 1) for row in (ermoe, masked))
    assert without.predicted_age != after.predicted_age
    assert train_unit(recipe, masked, fold, 1).predicted_age == after.predicted_age


def test_combat_learns_of_the_training_scans_alone(
    place: _Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Site B has more of label 4; where a scan among those tested is spoilt, the others stay."""
    pytest.importorskip("neuroCombat")
    (tmp_path / "registry.toml").write_text("[atlas]\n", encoding="utf-8")
    (tmp_path / "labels.tsv").write_text("index\ttissue\n4\tventricles\n7\tcortex\n", "utf-8")
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path))
    (tmp_path / "raw").mkdir()
    rows = ""
    for number, (i, age) in enumerate(AGES.items()):
        site = "AB"[number // 2 % 2]
        size = int(age) + (8 if site == "B" else 0) + number % 3
        _label_map(tmp_path / "raw" / f"{i}_dseg.nii.gz", {4: size, 7: 110 - size})
        rows += f"sub-{i}\t{age}\t{site}\n"
    place.participants.write_text(f"participant_id\tage\tsite\n{rows}", encoding="utf-8")
    text = RECIPE.replace('backbone = "additive"', 'backbone = "ridge"\nharmonise = "combat"')
    recipe = place.recipe(text)
    raw = replace(recipe.row[2], harmonise="none")
    found = train_unit(recipe, recipe.row[2], place.fold(recipe), seed=1)
    error = np.abs(np.subtract(found.predicted_age, found.chronological_age)).mean()
    other = train_unit(recipe, raw, place.fold(recipe), seed=1)
    assert error < np.abs(np.subtract(other.predicted_age, other.chronological_age)).mean()
    # A planted leak: another map and another age of one who is tested.
    first = found.participant_id[0]
    _label_map(tmp_path / "raw" / f"{first}_dseg.nii.gz", {4: 1, 7: 109})
    before = place.participants.read_text("utf-8")
    leak = before.replace(f"sub-{first}\t{AGES[first]}", f"sub-{first}\t99")
    place.participants.write_text(leak, encoding="utf-8")
    spoilt = train_unit(recipe, recipe.row[2], place.fold(recipe), seed=1)
    assert spoilt.chronological_age[0] == 99
    assert spoilt.predicted_age[0] != found.predicted_age[0]
    assert spoilt.predicted_age[1:] == found.predicted_age[1:]
    place.participants.write_text(leak.replace("site", "centre"), encoding="utf-8")
    with pytest.raises(UsageError, match="must have a column site"):
        train_unit(recipe, recipe.row[2], place.fold(recipe), seed=1)


def test_a_checkout_names_its_commit() -> None:
    found = commit()
    assert found == "n/a" or len(found.removesuffix("-dirty")) == 10


def test_volumes_follow_the_participants_of_the_fold(
    place: _Place,
    monkeypatch: pytest.MonkeyPatch,
    small_brain: Volume,
) -> None:
    from ermoe_ba.dataset import PreparedScan
    from ermoe_ba.model.rivals.volume import VolumeNetwork

    class FakeCohort:
        """Stands for `PreparedCohort`: every voxel of a scan is a hundredth of its age."""

        def __init__(self, *_: Any) -> None: ...

        def prepare(self, scan: StudyScan) -> None:
            assert scan.t1w == place.folder / "raw" / f"{scan.participant_id}_T1w.nii.gz"

        def read(self, scan: StudyScan) -> PreparedScan:
            data = np.full(small_brain.grid.shape, AGES[scan.participant_id] / 100, np.float32)
            return PreparedScan(
                participant_id=scan.participant_id,
                t1w=small_brain.same_grid(data),
                brain_mask=small_brain,
                labels=None,
            )

    module = "ermoe_ba.training.ablation_fold"
    monkeypatch.setattr(f"{module}.PreparedCohort", FakeCohort)
    monkeypatch.setattr(f"{module}.Preprocessor", lambda _: None)
    fold = place.fold(place.recipe())
    inputs = fold.volumes(VolumeNetwork("sfcn", reduce=2), fold.recipe.age)
    assert inputs.train.shape == (8, 2, 6, 8, 5)
    assert inputs.test.shape == (4, 6, 8, 5)
    np.testing.assert_allclose(100 * inputs.test[:, 1, 1, 1], fold.test_ages, atol=0.1)
    np.testing.assert_allclose(100 * inputs.train[:, 0, 1, 1, 1], fold.train_ages, atol=0.1)
