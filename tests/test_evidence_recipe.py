"""The recipe of the evidence: what it takes as it stands, what it makes, and its exit code."""

import importlib.util
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.config import from_plain
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import ModelCard
from ermoe_ba.tokens import TokenGrid

RECIPE = Path(__file__).parents[1] / "pipelines" / "evidence.py"
NAMES = ("csf", "free_1")


def _map(enrichment: float, token_auc: float, like: float, spread: float | None) -> dict[str, Any]:
    figures = {"enrichment": enrichment, "token_auc": token_auc, "like_trained": like}
    for name in ("enrichment", "token_auc"):
        for end, sign in (("least", -1), ("most", 1)):
            value = None if spread is None else figures[name] + sign * spread
            figures |= {f"{name}_{end}": value}
    return figures


# What a planted cohort is known to hold, errors in years.
CHECKED: dict[str, Any] = {
    "agreement_of_halves": 0.5,
    "probe": {
        "mae": 4.0,
        "mae_without_expert": [4.5, 4.05],
        "mae_zeroed": [9.5],
        "mae_random_routing": 4.25,
        "mae_other_subject_routing": 3.75,
    },
    "maps": {
        "trained": _map(7.5, 0.95, 1.0, None),
        "shuffled_ages": _map(2.0, 0.75, 0.25, None),
        "untrained": _map(1.5, 0.625, 0.125, 0.25),
    },
}


def _informed(region: float) -> dict[str, float]:
    """Of five networks, region, tissue and place told twice as well by each next one."""
    figures: dict[str, float] = {"networks": 5}
    for factor, name in enumerate(("region", "tissue", "place"), start=1):
        value = factor * region
        figures |= {name: value, f"{name}_least": value / 2, f"{name}_most": value * 2}
    return figures


TOLD = {
    "real": {
        "free_experts": _informed(0.0625),
        "regional_experts": _informed(0.25),
        "all_experts": _informed(0.125),
        "free_experts_random_routing": _informed(0.001),
        "all_experts_random_routing": _informed(0.002),
    },
    # The first starts alone of the same run, and the gate.
    "softmax_routing": {
        "free_experts": _informed(0.5),
        "softmax_all_experts": _informed(0.2),
        "softmax_all_experts_random_routing": _informed(0.004),
    },
}


def _module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # What lies beside a recipe is imported as Python does for a script.
    monkeypatch.syspath_prepend(str(RECIPE.parent))
    spec = importlib.util.spec_from_file_location("evidence_recipe", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up by its name.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The recipe with cohorts that cost nothing; its calls stand in ``made``."""
    module = _module(monkeypatch)
    made: list[tuple[str, str]] = []

    def planted_part(name: str, stem: str, *_: object) -> dict[str, Any]:
        made.append((name, stem))
        # All meet both marks; of the hippocampus nothing was learnt.
        marks = {"enrichment_met": True, "auc_met": True, "met": name != "hippocampus"}
        return {"verdict": marks, "curves": [{"network": "trained"}], **CHECKED}

    def run_part(name: str) -> Any:
        def part(*_: object) -> dict[str, Any]:
            made.append((name, "run"))
            return {"concordance": [], "specialisation": TOLD[name]}

        return part

    card = SimpleNamespace(model=SimpleNamespace(expert_names=NAMES))
    stubs = {
        "made": made,
        "planted_part": planted_part,
        "real_part": run_part("real"),
        "rival_part": run_part("softmax_routing"),
        "load_ensemble": lambda _: SimpleNamespace(model_id="m-1", tokens=None, card=card),
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(module, name, stub, raising=False)
    results = importlib.import_module("evidence_results")
    for name in ("cohort_table", "map_table"):
        monkeypatch.setattr(results, name, lambda _: pd.DataFrame({"cohort": ["a"]}))
    for name in ("draw_curves", "planted_picture", "draw_concordance"):
        monkeypatch.setattr(results, name, lambda *_: b"")
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


def _read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / f"{name}.tsv", sep="\t")


def test_every_check_has_a_figure_and_the_table_that_it_is_drawn_from(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    run.mkdir()
    of_run = ("--run", str(run), "--data", str(run))
    _call(recipe, monkeypatch, out, "--part", "ventricles", "real", "softmax_routing", *of_run)
    for name in ("experts_used", "sanity", "emergence"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    used = _read(out, "experts_used").set_index("change")
    assert used["mae_lost"].to_dict() == {
        "without_csf": 0.5,
        "without_free_1": pytest.approx(0.05),
        "zeroed": 5.5,
        "random_routing": 0.25,
        "other_subject_routing": -0.25,
    }
    sane = _read(out, "sanity").set_index("network")
    assert sane["like_trained"].to_dict() == {
        # Of the trained map, how far its own halves agree: the others cannot be asked for more.
        "trained": 0.5,
        "shuffled_ages": 0.25,
        "untrained": 0.125,
    }
    ends = ["enrichment_least", "enrichment", "enrichment_most"]
    assert sane.loc["untrained", ends].tolist() == [1.25, 1.5, 1.75]
    assert sane.loc["trained", ends].tolist() == [7.5, 7.5, 7.5]
    emerged = _read(out, "emergence").set_index("experts")
    # Of all networks of the run where both parts tell of them.
    assert emerged["region"].to_dict() == {
        "free_experts": 0.0625,
        "regional_experts": 0.25,
        "all_experts": 0.125,
        "softmax_all_experts": 0.2,
    }
    assert emerged["chance_region_most"].dropna().to_dict() == {
        "free_experts": 0.002,
        "all_experts": 0.004,
        "softmax_all_experts": 0.008,
    }
    assert emerged.loc["softmax_all_experts", "chance_place"] == pytest.approx(0.012)


def test_checks_of_a_run_are_drawn_without_planted_cohorts(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_run = ("--run", str(tmp_path), "--data", str(tmp_path))
    assert _call(recipe, monkeypatch, tmp_path / "out", "--part", "softmax_routing", *of_run) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"emergence.png", "emergence.tsv"} <= names
    assert not {"sanity.png", "experts_used.png"} & names


def test_planted_networks_know_the_atlas_regions_that_the_model_holds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_member: Callable[..., ErmoeBrainAge],
    small_tokens: TokenGrid,
    card: ModelCard,
) -> None:
    """Its atlas is gone: its weights tell of a quarter of each token, and so must the tokens."""
    labels = {"part": ("a label of an atlas that is gone",)}
    tied = replace(
        card.model, regions=("csf", "part"), region_labels=labels, region_atlas="gone.nii.gz"
    )
    share_t = np.full(len(small_tokens), 0.25)
    member = make_member(config=tied, tokens=replace(small_tokens, region_shares={"part": share_t}))
    ensemble = Ensemble(replace(card, model=tied), [member], small_tokens, "m-1")
    module = _module(monkeypatch)
    given: list[TokenGrid] = []

    def run_trial(*_: object, tokens: TokenGrid, model: ModelConfig, **__: object) -> None:
        assert model == tied
        given.append(tokens)
        # The trial itself is tested elsewhere.
        raise InterruptedError

    cohort = SimpleNamespace(described=lambda _: None, ages=lambda _: None)
    monkeypatch.setattr(module, "load_ensemble", lambda _: ensemble)
    monkeypatch.setattr(module, "PlantedCohort", lambda *_: cohort)
    monkeypatch.setattr(module, "run_trial", run_trial)
    content = tomllib.loads(RECIPE.with_suffix(".toml").read_text("utf-8"))
    settings = from_plain(module.Settings, content)
    with pytest.raises(InterruptedError):
        module.planted_part(
            "ventricles", "shipped", settings, RECIPE.parent / settings.base, tmp_path
        )
    np.testing.assert_array_equal(given[0].region_shares["part"], share_t)
