"""Tabular rivals: volumes of regions by hand, their regressions, and sites evened out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ablation_place import AGES, RECIPE, Place, place

from ermoe_ba.assets import template
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.io import write_volume
from ermoe_ba.space import SpatialGrid, Volume
from ermoe_ba.training.ablation_network import train_unit
from ermoe_ba.training.regional_volumes import make_regression, regional_volumes

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["place"]


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
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


def test_combat_learns_of_the_training_scans_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
