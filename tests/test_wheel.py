"""The package as users get it: a wheel, far from the checkout, predicts the sample head."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
MODEL = Path("ermoe_ba") / "weights" / "ixi-hh"
RECORDED = json.loads((ROOT / MODEL / "recorded.json").read_text(encoding="utf-8"))
# Years. Processors round differently; this is what a change that loses nothing may cost.
ROUNDING = 0.05


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it, without its dependencies, into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def predicted(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predict the sample head that lies inside the installed package."""
    work = tmp_path_factory.mktemp("work")
    head = installed / "ermoe_ba" / "sample" / "sub-colin27_T1w.nii.gz"
    subprocess.run(
        [sys.executable, "-m", "ermoe_ba.cli.main", "predict", head, "--out", work / "out"],
        check=True,
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    return work / "out"


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import ermoe_ba; print(ermoe_ba.__file__)"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(installed)


def test_recipes_come_along_and_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    """Away from a checkout; a file of that name in the current folder is another recipe."""
    code = (
        "from ermoe_ba.assets import RECIPES, recipe_file\n"
        "for name in (*RECIPES, 'mine.toml'): print(recipe_file(name))"
    )

    def found() -> list[Path]:
        run = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
        )
        return [Path(line) for line in run.stdout.splitlines()]

    site, shipped, own = found()
    assert own == Path("mine.toml")
    for path in (site, shipped):
        assert path.is_relative_to(installed)
        assert path.read_bytes() == (ROOT / "pipelines" / path.name).read_bytes()
    (tmp_path / "site").write_text("", encoding="utf-8")
    assert found() == [Path("site"), shipped, own]


def test_the_sample_head_gets_an_age_and_all_its_files(predicted: Path) -> None:
    assert sorted(path.name for path in predicted.iterdir()) == [
        "predictions.tsv",
        "qc.html",
        "sub-colin27_desc-brain_mask.nii.gz",
        "sub-colin27_desc-contribution_map.nii.gz",
        "sub-colin27_desc-experts_dseg.nii.gz",
        "sub-colin27_desc-experts_dseg.tsv",
        "sub-colin27_desc-experts_probseg.nii.gz",
        "sub-colin27_desc-preproc_T1w.nii.gz",
        "sub-colin27_prediction.json",
        "sub-colin27_regions.tsv",
        "sub-colin27_report.html",
        "sub-colin27_res-token_desc-members_map.nii.gz",
        "sub-colin27_res-token_desc-members_probseg.nii.gz",
    ]
    row = pd.read_csv(predicted / "predictions.tsv", sep="\t").iloc[0]
    assert row["status"] == "ok"
    assert row["predicted_age_lower"] < row["predicted_age"] < row["predicted_age_upper"]
    # Sharper than any scan of the cohort: the rule of widening came along with the weights.
    assert row["interval_widening"] > 1
    assert row["model_id"] == RECORDED["model_id"], "weights are not those that were measured"
    assert row["predicted_age"] == pytest.approx(RECORDED["ages"]["sub-colin27"], abs=ROUNDING)
    # A man in his late twenties: not a claim on accuracy, but 90 would mean a broken path.
    assert 18 < row["predicted_age"] < 60


def test_the_sample_head_gets_the_interval_that_was_recorded(predicted: Path) -> None:
    """The ends lie a half-width, widened, on both sides of the age: what is recorded agrees."""
    row = pd.read_csv(predicted / "predictions.tsv", sep="\t").iloc[0]
    half_width = json.loads((ROOT / MODEL / "model.json").read_text("utf-8"))["half_width"]
    age, widening, (lower, upper) = (
        RECORDED[what]["sub-colin27"] for what in ("ages", "interval_widenings", "intervals")
    )
    # Two decimals of age and ends, three of the widening.
    rounded = 0.005 + 0.005 + 0.0005 * half_width
    assert lower == pytest.approx(age - widening * half_width, abs=rounded)
    assert upper == pytest.approx(age + widening * half_width, abs=rounded)
    assert row["interval_widening"] == pytest.approx(widening, abs=ROUNDING / half_width)
    # An end moves with the age and with the widening.
    assert row["predicted_age_lower"] == pytest.approx(lower, abs=2 * ROUNDING)
    assert row["predicted_age_upper"] == pytest.approx(upper, abs=2 * ROUNDING)


def test_every_file_of_the_model_is_the_one_that_was_recorded(installed: Path) -> None:
    """Half-widths, the rule of widening and the tables as well as the weights; and all are light.

    25 MB is what this project allows its weights, so that a clone and a wheel stay small.
    """
    folder = installed / MODEL
    hashes = runpy.run_path(str(ROOT / "pipelines" / "record_model.py"))["hashes"]
    assert hashes(folder) == RECORDED["files"]
    assert {
        "fold-all-0_start-0.safetensors",
        "model.json",
        "out_of_fold_predictions.tsv",
        "training_scans.tsv",
        "widening.safetensors",
    } <= set(RECORDED["files"])
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25_000_000


def test_the_maps_on_disk_add_up_to_the_age_on_disk(predicted: Path) -> None:
    written = json.loads((predicted / "sub-colin27_prediction.json").read_text(encoding="utf-8"))
    years = nib.load(predicted / "sub-colin27_desc-contribution_map.nii.gz").get_fdata()
    assert years.sum() + written["baseline_years"] == pytest.approx(
        written["predicted_age"], abs=1e-4
    )
    assert sum(written["expert_years"].values()) + written["baseline_years"] == pytest.approx(
        written["predicted_age"], abs=1e-9
    )
    weights = nib.load(predicted / "sub-colin27_desc-experts_probseg.nii.gz").get_fdata()
    brain = nib.load(predicted / "sub-colin27_desc-brain_mask.nii.gz").get_fdata() > 0
    assert np.abs(weights[brain].sum(axis=-1) - 1).max() < 1e-5
    assert not weights[~brain].any()
