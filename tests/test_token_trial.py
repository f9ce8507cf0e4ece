"""Other tokens, tried: what they hold by hand, and whose ages a trial may learn from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.model.ermoe import FRACTION
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.space import MODEL_GRID, Volume
from ermoe_ba.training.recipe import Recipe, read_recipe

PIPELINES = Path(__file__).parents[1] / "pipelines"
CORTEX = TISSUES.index("cortex")
TISSUE_OF_LABEL = {1: "cortex", 2: "ventricles"}


@pytest.fixture
def trial(recipe_names: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return recipe_names("token_trial")


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(PIPELINES / "ixi_hh.toml")


@pytest.fixture
def stem(tmp_path: Path, recipe: Recipe) -> Path:
    torch.manual_seed(0)
    save_file(VoxelStem(recipe.model.stem_hidden).state_dict(), tmp_path / "stem.safetensors")
    return tmp_path / "stem.safetensors"


def scan(labels: int, level: float, name: str = "01") -> PreparedScan:
    shape = MODEL_GRID.shape
    return PreparedScan(
        participant_id=name,
        t1w=Volume(np.full(shape, level, dtype=np.float32), MODEL_GRID),
        brain_mask=Volume(np.ones(shape, dtype=np.uint8), MODEL_GRID),
        labels=Volume(np.full(shape, labels, dtype=np.int16), MODEL_GRID),
    )


def test_a_label_map_says_what_the_stem_would_say_without_fault(
    trial: dict[str, Any], recipe: Recipe, stem: Path
) -> None:
    describer = trial["Describer"](recipe, stem, 8, TISSUE_OF_LABEL)
    found = describer.by_labels(scan(1, 0.5))
    # Tokens at the edge of the grid hold some of what lies beyond, which is nothing.
    fraction = found[:, FRACTION]
    inside = fraction[:, CORTEX] > 1 - 1e-5
    assert inside.float().mean() > 0.5
    others = [number for number in range(len(TISSUES)) if number != CORTEX]
    assert fraction[:, others].abs().max() == 0
    intensity, border = (list(FAMILIES).index(name) for name in ("intensity", "border"))
    np.testing.assert_allclose(found[inside, intensity, CORTEX], 0.5, atol=1e-5)
    np.testing.assert_allclose(found[inside, border, CORTEX], 0.0, atol=1e-5)


def test_readouts_of_finer_tokens_are_alike_over_as_many_millimetres(
    trial: dict[str, Any], recipe: Recipe, stem: Path
) -> None:
    coarse, fine = (trial["Describer"](recipe, stem, size, {}) for size in (8, 4))
    assert fine.length * 4 == pytest.approx(coarse.length * 8)
    assert coarse.length == recipe.age.readout_length
    # An eighth of the volume each: more than four times as many cover the same brain.
    positions = [len(describer.network.positions_tx) for describer in (coarse, fine)]
    assert positions[1] > 4 * positions[0]


def test_a_simulated_scan_is_the_same_again_and_another_than_the_scan(
    trial: dict[str, Any], recipe: Recipe, stem: Path
) -> None:
    describer = trial["Describer"](recipe, stem, 8, TISSUE_OF_LABEL)
    with torch.no_grad():
        once, again = (describer.simulated(scan(1, 0.5)) for _ in range(2))
        as_scanned = describer.by_stem(scan(1, 0.5))
    np.testing.assert_array_equal(once, again)
    assert (once - as_scanned).abs().max() > 1e-3


def test_nobody_learns_from_whom_a_fold_tests(
    trial: dict[str, Any], recipe: Recipe, stem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    shape = (1, len(FAMILIES), len(TISSUES))

    def described(describer: Any, prepared: PreparedScan) -> torch.Tensor:
        assert describer.config.patch_size in {8, 6}
        return looks[prepared.participant_id].expand(len(describer.network.positions_tx), -1, -1)

    people = [scan(1, 0.5, f"{number:02}") for number in range(8)]
    ages = np.linspace(25.0, 75.0, 8)
    looks = {
        person.participant_id: torch.as_tensor(
            age / 100 + 0.01 * random.standard_normal(shape), dtype=torch.float32
        )
        for person, age in zip(people, ages, strict=True)
    }
    monkeypatch.setitem(trial, "PATCH_SIZES", (8, 6))
    for name in ("by_stem", "by_labels", "simulated"):
        monkeypatch.setattr(trial["Describer"], name, described)
    test_n = np.arange(8) % 4 == 1

    def found(ages_n: Any) -> dict[str, Any]:
        result: dict[str, Any] = trial["fold_ages"](
            recipe, stem, TISSUE_OF_LABEL, scans=people, age_n=ages_n, test_n=test_n
        )
        return result

    told, other = found(ages), found(np.where(test_n, 90.0, ages))
    assert list(told) == ["16 mm", "label maps", "simulated scans too", "12 mm"]
    for name, predicted in told.items():
        np.testing.assert_array_equal(predicted, other[name])
        # What can be learnt is learnt: the looks follow the age.
        assert np.abs(predicted - ages[test_n]).max() < 10
    # Simulated scans are as old as their scans: here they are the scans once more.
    np.testing.assert_allclose(told["simulated scans too"], told["label maps"], atol=2.0)
    stronger = replace(recipe, age=replace(recipe.age, ridge_strength=1e6))
    flat = trial["fold_ages"](stronger, stem, {}, scans=people, age_n=ages, test_n=test_n)
    assert np.ptp(flat["16 mm"]) < 1
