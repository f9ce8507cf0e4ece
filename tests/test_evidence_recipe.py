"""The recipe of the evidence: what it takes as it stands, what it makes, and its exit code."""

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from ermoe_ba.config import from_plain
from ermoe_ba.model_card import model_folder, read_card

RECIPE = Path(__file__).parents[1] / "pipelines" / "evidence.py"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The recipe with cohorts that cost nothing; its calls stand in ``made``."""
    spec = importlib.util.spec_from_file_location("evidence_recipe", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up by its name.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    made: list[tuple[str, str]] = []

    def planted_part(name: str, stem: str, *_: object) -> dict[str, Any]:
        made.append((name, stem))
        # All meet both marks; of the hippocampus nothing was learnt.
        marks = {"enrichment_met": True, "auc_met": True, "met": name != "hippocampus"}
        return {"verdict": marks, "curves": [{"network": "trained"}]}

    def run_part(name: str) -> Any:
        def part(*_: object) -> dict[str, Any]:
            made.append((name, "run"))
            return {"concordance": [], "specialisation": {}}

        return part

    stubs = {
        "made": made,
        "planted_part": planted_part,
        "real_part": run_part("real"),
        "rival_part": run_part("softmax_routing"),
        "load_ensemble": lambda _: SimpleNamespace(model_id="m-1", tokens=None),
        "cohort_table": lambda _: pd.DataFrame({"cohort": ["a"]}),
        "map_table": lambda _: pd.DataFrame({"cohort": ["a"]}),
        "draw_curves": lambda _: b"",
        "planted_picture": lambda *_: b"",
        "draw_concordance": lambda _: b"",
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(module, name, stub, raising=False)
    return module


def _call(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> int:
    recipe.made.clear()
    monkeypatch.setattr(sys, "argv", ["evidence.py", str(out), *more])
    code: int = recipe.main()
    return code


def _changed(tmp_path: Path, old: str, new: str) -> Path:
    """Settings beside the recipe's own base, one line of them another."""
    text = RECIPE.with_suffix(".toml").read_text("utf-8")
    assert text.count(old) == 1
    base = (RECIPE.parent / "ixi_hh.toml").as_posix()
    path = tmp_path / "settings.toml"
    path.write_text(text.replace(old, new).replace('"ixi_hh.toml"', f'"{base}"'), "utf-8")
    return path


def test_a_cohort_of_other_settings_or_stem_is_made_anew_and_the_rest_kept(
    recipe: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, two = tmp_path / "out", ("--part", "ventricles", "cerebellum")
    assert _call(recipe, monkeypatch, out, *two) == 0
    assert recipe.made == [("ventricles", "taught"), ("cerebellum", "taught")]
    assert _call(recipe, monkeypatch, out, *two) == 0
    assert recipe.made == []
    other = _changed(tmp_path, 'ventricles = "ventricles"', 'ventricles = "cortex"')
    capsys.readouterr()
    _call(recipe, monkeypatch, out, *two, "--settings", str(other))
    assert recipe.made == [("ventricles", "taught")]
    assert "ventricles: made anew; what stands is of another planted." in capsys.readouterr().out
    _call(recipe, monkeypatch, out, "--part", "cerebellum", "--stem", "shipped")
    assert recipe.made == [("cerebellum", "shipped")]
    said = capsys.readouterr().out
    assert "cerebellum: made anew; what stands is of another stem." in said
    # Not asked for, and of the other settings: not among the figures that are told as these.
    assert "ventricles: left out; what stands is of another planted, stem." in said
    evidence = (out / "evidence.json").read_text("utf-8")
    assert "cerebellum" in evidence
    assert "ventricles" not in evidence


def test_the_base_recipe_and_seeds_count(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ("--part", "ventricles")
    _call(recipe, monkeypatch, tmp_path / "out", *one)
    seed = _changed(tmp_path, "num_folds = 3\nseed = 1", "num_folds = 3\nseed = 2")
    _call(recipe, monkeypatch, tmp_path / "out", *one, "--settings", str(seed))
    assert recipe.made == [("ventricles", "taught")]
    text = (RECIPE.parent / "ixi_hh.toml").read_text("utf-8")
    (tmp_path / "ixi_hh.toml").write_text(text.replace("rank = 48", "rank = 16"), "utf-8")
    path = tmp_path / "settings.toml"
    path.write_text(RECIPE.with_suffix(".toml").read_text("utf-8"), "utf-8")
    _call(recipe, monkeypatch, tmp_path / "out", *one, "--settings", str(path))
    assert recipe.made == [("ventricles", "taught")]


def test_parts_of_a_run_stand_for_that_run_alone(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, ages in (("one", "50.1"), ("other", "50.2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fold-0_predictions.tsv").write_text(ages, "utf-8")
    (tmp_path / "data" / "dlmuse").mkdir(parents=True)
    both = ("--part", "real", "softmax_routing", "--data", str(tmp_path / "data"), "--run")
    for name, expected in (("one", 2), ("one", 0), ("other", 2)):
        _call(recipe, monkeypatch, tmp_path / "out", *both, str(tmp_path / name))
        assert len(recipe.made) == expected
    # Other label maps are another part `real`; routers do not see them.
    (tmp_path / "data" / "dlmuse" / "a_dseg.nii.gz").write_bytes(b"labels")
    _call(recipe, monkeypatch, tmp_path / "out", *both, str(tmp_path / "other"))
    assert recipe.made == [("real", "run")]


def test_marks_that_are_met_by_what_was_not_learnt_are_a_failure(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _call(recipe, monkeypatch, tmp_path, "--part", "ventricles") == 0
    assert _call(recipe, monkeypatch, tmp_path, "--part", "hippocampus") == 1


def test_settings_that_are_kept_can_be_read(recipe: ModuleType) -> None:
    settings = tomllib.loads(RECIPE.with_suffix(".toml").read_text("utf-8"))
    assert from_plain(recipe.Settings, settings).base == "ixi_hh.toml"


def test_every_cohort_has_as_many_people_as_the_shipped_model_s(recipe: ModuleType) -> None:
    content = tomllib.loads(RECIPE.with_suffix(".toml").read_text("utf-8"))
    settings = from_plain(recipe.Settings, content)
    scans = len(read_card(model_folder(settings.model)).ages)
    assert settings.people.keys() == settings.planted.keys() == settings.seen_as.keys()
    assert {people.subjects for people in settings.people.values()} == {scans}
