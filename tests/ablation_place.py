"""A folder with all that an ablation starts from: recipes, people, and a run's descriptions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.ablation import Ablation
from ermoe_ba.training.ablation_fold import AblationFold
from ermoe_ba.training.ablation_recipe import AblationRecipe, read_ablation

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
class Place:
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


def descriptions_of(tokens: TokenGrid, ids: list[str], variants: int) -> torch.Tensor:
    """Ventricles of the middle token grow with age; a change of tissue shows in every family."""
    random = np.random.default_rng(len(ids))
    shape = (len(ids), variants, len(tokens), len(FAMILIES), len(TISSUES))
    described = random.uniform(0.08, 0.12, shape)
    grown = np.array([(AGES[i] - 20) / 60 for i in ids])
    described[:, :, len(tokens) // 2, :, TISSUES.index("ventricles")] += grown[:, None, None]
    described /= described.sum(axis=-1, keepdims=True)
    described *= np.array(list(FAMILIES.values()))[:, None]
    return torch.as_tensor(described).half()


def keep_fold(run: Path, tokens: TokenGrid, fold: int) -> None:
    (run / "kept").mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{i}\t{fold}\n" for i, fold in FOLDS.items())
    (run / "splits.tsv").write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
    (run / "recipe.json").write_text(json.dumps({"text": BASE, "data_hash": "0"}), encoding="utf-8")
    kept = {
        "train": descriptions_of(tokens, [i for i in IDS if FOLDS[i] != fold], 2),
        "test": descriptions_of(tokens, [i for i in IDS if FOLDS[i] == fold], 1),
    }
    save_file(kept, run / "kept" / f"fold-{fold}_described.safetensors")
    (run / "kept" / f"fold-{fold}_stem.safetensors").write_bytes(b"a stem")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_tokens: TokenGrid) -> Place:
    rows = "".join(f"sub-{i}\t{age}\n" for i, age in AGES.items())
    (tmp_path / "participants.tsv").write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")
    for fold in (0, 1):
        keep_fold(tmp_path / "run", small_tokens, fold)
    monkeypatch.setattr("ermoe_ba.training.ablation_network.token_grid", lambda _: small_tokens)
    monkeypatch.setattr(
        "ermoe_ba.training.ablation_fold.CrossValidation",
        lambda *_: pytest.fail("kept descriptions were made again"),
    )
    return Place(tmp_path)
