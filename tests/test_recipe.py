"""Recipes: read as written, refused with their path and the fault."""

from dataclasses import replace
from pathlib import Path

import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.training.recipe import read_recipe

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RECIPE = """
[run]
name = "tiny"
num_folds = 2
num_starts = 3
seed = 1
coverage = 0.9
t1w = "a/{participant_id}"
labels = "b/{participant_id}"
label_table = "c"
data = "d"
licence = "e"

[model]
patch_size = 8
token_min_brain = 0.25
stem_hidden = 16
hidden_size = 64
num_heads = 4
place_scale = 0.3
regions = ["grey_matter", "csf"]
num_free_experts = 4
rank = 24
offset_scale = 0.1
top_k = 2
score_threshold = 0.0
region_min_fraction = 0.3
temperature = 0.1
bias_step = 0.002
token_dropout = 0.2

[tissue]
num_steps = 9
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
optimiser = { learning_rate = 0.02, warmup_share = 0.1, max_gradient_norm = 1.0, ema_decay = 0.9 }
"""


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_recipe_is_read_as_written(recipe_path: Path) -> None:
    recipe = read_recipe(recipe_path)
    assert recipe.run.name == "tiny"
    assert recipe.model.regions == ("grey_matter", "csf")
    assert recipe.model.rank == 24
    assert recipe.tissue.num_steps == 9
    assert recipe.tissue.optimiser.learning_rate == 0.01
    assert recipe.age.optimiser.learning_rate == 0.02
    assert recipe.preprocess == PreprocessConfig()
    assert recipe.text == RECIPE


@pytest.mark.parametrize("name", ["ixi_hh", "site", "smoke", "phantom"])
def test_the_recipes_of_this_repository_can_be_read(name: str) -> None:
    recipe = read_recipe(Path(__file__).parents[1] / "pipelines" / f"{name}.toml")
    assert (recipe.run.stem is None) == (recipe.tissue is not None)
    # The table of labels is there, or a phantom will bring it.
    simulated = name in ("smoke", "phantom")
    assert simulated or bool(recipe.run.tissues(Path())) == (recipe.run.stem is None)


def test_a_table_of_labels_lies_beside_the_participants_or_among_the_atlases(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, tissue in (("study", "cortex"), ("atlases", "ventricles")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "registry.toml").write_text("[atlas]\n", encoding="utf-8")
        (tmp_path / folder / "t.tsv").write_text(f"index\ttissue\n7\t{tissue}\n", "utf-8")
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path / "atlases"))
    run = replace(read_recipe(recipe_path).run, label_table="t.tsv")
    assert run.tissues(tmp_path / "study") == {7: "cortex"}
    assert run.tissues(tmp_path / "elsewhere") == {7: "ventricles"}


def test_a_recipe_may_change_the_preprocessing(recipe_path: Path) -> None:
    with recipe_path.open("a", encoding="utf-8") as file:
        file.write("[preprocess]\naffine_steps = [6, 3]\n")
    assert read_recipe(recipe_path).preprocess == PreprocessConfig(affine_steps=(6, 3))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 1", "sede = 1", "sede"),
        ("rank = 24", "rang = 24", "rang"),
        ("num_folds = 2", 'num_folds = "2"', "run.num_folds"),
        ("num_folds = 2", "num_folds = 1", "at least 2; found 1"),
        ("coverage = 0.9", "coverage = 90", "between 0 and 1; found 90"),
        ('t1w = "a/{participant_id}"', 't1w = "a"', "participant_id"),
        ('regions = ["grey_matter", "csf"]', "regions = [1, 2]", "model.regions"),
        ("gain_sd", "grain_sd", "grain_sd"),
        ("num_epochs", "epochs", "epochs"),
        ("ema_decay", "ema", "ema"),
        ("rank = 24\n", "", "rank"),
        ('regions = ["grey_matter", "csf"]\n', "", "regions"),
        ("readout_decay = 0.3\n", "", "readout_decay"),
        ("rank = 24", "rank = 64", "rank must lie between 1 and"),
        ("[age]", "[aging]", "aging"),
        ('labels = "b/{participant_id}"\n', "", "labels and label_table must be given together"),
        ('labels = "b/{participant_id}"', 'labels = "b/{who}"', "{participant_id} or {scan}"),
        ('label_table = "c"', 'label_table = "c"\nstem = "ixi-hh"', "one source"),
        ("num_starts = 3", "num_starts = 0", "num_starts must be at least 1; found 0"),
        ("num_starts = 3", 'num_starts = 3\nsplit = "odd"', "stratified, leave-site-out"),
        (
            "num_starts = 3",
            'num_starts = 3\nnum_repeats = 2\nsplit = "leave-site-out"',
            "num_repeats must be 1",
        ),
        ("[age]", "[choose]\nnum_folds = 2\nalternatives = {}\n[age]", "needs alternatives"),
        (
            "[age]",
            "[choose]\nnum_folds = 2\nalternatives.x.num_epoch = 2\n[age]",
            "num_epoch",
        ),
        (
            "[age]",
            "[choose]\nnum_folds = 2\nalternatives.x.num_variants = 2\n[age]",
            "num_variants cannot be chosen",
        ),
        (
            "[age]",
            "[choose]\nnum_folds = 2\nalternatives.x.changes = {}\n[age]",
            "changes cannot be chosen",
        ),
        ("[age]", "[age]\nchanges = { wind = {} }", "wind"),
        ("[age]", "[pretrain.dream]\nnum_epochs = 2\n[age]", "dream"),
        ("[age]", "[pretrain.masked]\nnum_epochs = 2\n[age]", "pretrain.masked"),
        ("[run]", "[run", "line 2"),
        ("rank = 24", "rank = ", "line"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_path_and_the_fault(
    recipe_path: Path, old: str, new: str, says: str
) -> None:
    assert old in RECIPE
    recipe_path.write_text(RECIPE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_recipe(recipe_path)
    assert str(recipe_path) in str(caught.value)
    assert says in str(caught.value)


def test_a_missing_recipe_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.toml"):
        read_recipe(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("index\n1\n", "missing: tissue"),
        ("index\ttissue\n1\tbone\n", "found bone"),
        ("index\ttissue\ttissue\n1\tcortex\twhite_matter\n", "'tissue' as columns 2 and 3"),
        ("index\ttissue\n1\tcortex\n1\twhite_matter\n", "each once"),
        ("index\ttissue\nn/a\tcortex\n", "whole numbers"),
    ],
)
def test_a_wrong_label_table_is_refused(
    recipe_path: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    run = replace(read_recipe(recipe_path).run, label_table=str(tmp_path / "labels.tsv"))
    if content is not None:
        (tmp_path / "labels.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        run.tissues(tmp_path)
