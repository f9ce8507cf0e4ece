"""What is written of a scan: files that agree with each other, among scans that are bad."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from quick_batch import MAPS, OUTPUTS, Run, WriteHead, predict, stand_ins

from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.space import MODEL_GRID
from ermoe_ba.tables import PREDICTION_COLUMNS, REGION_COLUMNS

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "stand_ins"]


@pytest.mark.usefixtures("stand_ins")
def test_a_good_scan_is_fully_written_among_bad_ones(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], ensemble: Ensemble
) -> None:
    good = write_head("sub-01_ses-2_T1w.nii.gz")
    text = tmp_path / "sub-02_T1w.nii.gz"
    text.write_text("no image", encoding="utf-8")
    cut = write_head("sub-03_T1w.nii")
    cut.write_bytes(cut.read_bytes()[:2000])
    bug = write_head("bug.nii.gz")
    participants = tmp_path / "participants.tsv"
    participants.write_text(
        "participant_id\tage\nsub-01\t40\n02\t41\n03\t42\nbug\t43\nsub-05\tn/a\n",
        encoding="utf-8",
    )
    missing = tmp_path / "sub-05_T1w.nii"
    run = predict(text, cut, missing, bug, good, "--participants", participants)
    assert run.code == 1
    table = run.table
    assert table.columns.tolist() == list(PREDICTION_COLUMNS)
    assert table["status"].tolist() == ["failed"] * 4 + ["ok"]
    assert table["input"].tolist() == [str(p) for p in (text, cut, missing, bug, good)]
    for path, found, remedy, message in [
        (text, "found BadGzipFile", "Export or copy the scan again.", table["message"][0]),
        (cut, "found", "The file is truncated or damaged; copy it again.", table["message"][1]),
        (missing, "found no file of that name", "Check the path.", table["message"][2]),
        (bug, "unexpected ZeroDivisionError", "Run with --debug.", table["message"][3]),
    ]:
        assert message.startswith(f"{path}: ")
        assert found in message
        assert message.endswith(remedy)
        assert "\n" not in message
        assert f"failed  {message}\n" in run.stderr
    failed = table.iloc[:4]
    assert failed[["predicted_age", "predicted_age_lower", "brain_age_gap"]].isna().all(axis=None)
    # What the table says of a scan that failed stays known: n/a, as it says of sub-05, as well.
    assert failed["chronological_age"].fillna(-1).tolist() == [41, 42, -1, 43]
    assert table["message"].isna().tolist() == [False] * 4 + [True]
    assert "4 of 5 scans failed" in run.stdout
    name = "sub-01_ses-2"
    assert run.files() == {
        "predictions.tsv",
        "qc.html",
        *(f"{name}_{suffix}" for suffix in OUTPUTS),
    }
    _check_outputs(run, name, ensemble, table.iloc[4])


def _check_outputs(run: Run, name: str, ensemble: Ensemble, row: pd.Series) -> None:
    def image(suffix: str) -> np.ndarray:
        loaded = nib.load(run.out / f"{name}_{suffix}")
        np.testing.assert_allclose(loaded.affine, MODEL_GRID.affine)
        return np.asanyarray(loaded.dataobj)

    content = json.loads((run.out / f"{name}_prediction.json").read_text(encoding="utf-8"))
    for column, value in row.items():
        if pd.isna(value):
            assert content.get(column) is None, column
        else:
            assert content[column] == pytest.approx(value) if column in AGES else value, column
    assert row["predicted_age_upper"] - row["predicted_age_lower"] == pytest.approx(24.0)
    assert row["brain_age_gap"] == pytest.approx(row["predicted_age"] - 40.0)
    assert np.mean(content["member_ages"]) == pytest.approx(row["predicted_age"], abs=1e-3)

    brain = image("desc-brain_mask.nii.gz") > 0
    np.testing.assert_allclose(image("desc-experts_probseg.nii.gz").sum(axis=-1), brain, atol=1e-5)
    assert image("desc-preproc_T1w.nii.gz")[brain].mean() > 0.1
    total = image("desc-contribution_map.nii.gz").sum(dtype=np.float64)
    assert content["baseline_years"] == 47.5
    assert content["baseline_years"] + total == pytest.approx(row["predicted_age"], abs=1e-3)
    assert abs(total) > 0.01

    winners, weights = image("desc-experts_dseg.nii.gz"), image("desc-experts_probseg.nii.gz")
    np.testing.assert_array_equal(winners, np.where(brain, weights.argmax(axis=-1) + 1, 0))
    labels = pd.read_csv(run.out / f"{name}_desc-experts_dseg.tsv", sep="\t")
    assert labels.to_numpy().tolist() == [
        [1, "grey_matter", "regional"],
        [2, "free_1", "free"],
        [3, "free_2", "free"],
    ]
    _check_members(run, name, ensemble, content)

    names = ensemble.card.model.expert_names
    assert tuple(content["expert_years"]) == names
    assert sum(content["expert_years"].values()) == pytest.approx(total, abs=1e-3)
    assert sum(content["expert_load"].values()) == pytest.approx(1.0)
    regions = pd.read_csv(run.out / f"{name}_regions.tsv", sep="\t", keep_default_na=False)
    assert regions.columns.tolist() == list(REGION_COLUMNS)
    by_expert = regions.groupby("expert", sort=False)["contribution_years"].sum()
    assert tuple(by_expert.index) == names
    for expert, years in by_expert.items():
        assert years == pytest.approx(content["expert_years"][expert], abs=1e-3)
    html = (run.out / f"{name}_report.html").read_text(encoding="utf-8")
    assert f"{row['predicted_age']:.1f}" in html


def _check_members(run: Run, name: str, ensemble: Ensemble, content: dict[str, Any]) -> None:
    """What the two members said, token by token: patches of 32 mm."""
    by_token = {}
    for key, suffix in {"weights": "probseg", "years": "map"}.items():
        file = nib.load(run.out / f"{name}_res-token_desc-members_{suffix}.nii.gz")
        assert file.shape == (*ensemble.tokens.lattice_shape, 2 * 3)
        np.testing.assert_allclose(file.header.get_zooms()[:3], 32.0)
        i, j, k = ensemble.tokens.positions.T
        by_token[key] = np.asanyarray(file.dataobj)[i, j, k].reshape(-1, 2, 3)
        assert np.count_nonzero(file.dataobj) == np.count_nonzero(by_token[key])
    np.testing.assert_allclose(by_token["weights"].sum(axis=2), 1.0, atol=1e-6)
    years_m = by_token["years"].sum(axis=(0, 2), dtype=np.float64)
    # The members' baselines are 47 and 48 years.
    np.testing.assert_allclose(np.array([47.0, 48.0]) + years_m, content["member_ages"], atol=1e-4)
    assert content["predicted_age"] == pytest.approx(47.5 + years_m.mean(), abs=1e-4)
    # Two seeds, so two stems.
    assert content["member_stems"] == [0, 1]


AGES = {
    "predicted_age",
    "predicted_age_lower",
    "predicted_age_upper",
    "chronological_age",
    "brain_age_gap",
    "seconds",
}


@pytest.mark.usefixtures("stand_ins")
def test_equal_file_names_do_not_overwrite_one_another(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """Two heads of different brightness, so of different ages."""
    for folder, factor in (("a", 1), ("b", 3)):
        (tmp_path / folder).mkdir()
        head = nib.load(write_head()).get_fdata()
        write_head(f"{folder}/head.nii.gz", data=head * factor)
    run = predict(tmp_path / "a", tmp_path / "b", "--no-maps")
    assert run.code == 0
    ages = run.table["predicted_age"].tolist()
    assert ages[0] != ages[1]
    for name, age in zip(("a_head", "b_head"), ages, strict=True):
        content = json.loads((run.out / f"{name}_prediction.json").read_text(encoding="utf-8"))
        assert content["predicted_age"] == pytest.approx(age)
        assert content["input"] == "head.nii.gz"
    # The table is the user's own: it names the files as they were given.
    assert run.table["input"].tolist() == [str(tmp_path / n / "head.nii.gz") for n in "ab"]


@pytest.mark.usefixtures("stand_ins")
def test_without_maps_none_are_written(write_head: WriteHead, predict: Callable[..., Run]) -> None:
    run = predict(write_head(), "--no-maps")
    assert run.code == 0
    expected = {f"head_{suffix}" for suffix in OUTPUTS if suffix not in MAPS}
    assert run.files() == {"predictions.tsv", "qc.html", *expected}
    content = json.loads((run.out / "head_prediction.json").read_text(encoding="utf-8"))
    assert content["provenance"]["atlas"] == "none"
    # One scan alone: its files are listed.
    for name in expected:
        assert str(run.out / name) in run.stdout


@pytest.mark.usefixtures("stand_ins")
def test_maps_on_the_scans_grid_are_written_kept_and_removed_like_the_others(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    wanted = ("--scan-space", "contributions", "--scan-space", "winners", "--no-report")
    scan = write_head(shape=(40, 21, 25), affine=np.diag([-2.5, 5.5, 4.5, 1.0]) + _corner(45))
    run = predict(scan, *wanted)
    there = {f"head_space-T1w_{suffix}" for suffix in (OUTPUTS[3], OUTPUTS[5])}
    assert {name for name in run.files() if "space-T1w" in name} == there
    content = json.loads((run.out / "head_prediction.json").read_text(encoding="utf-8"))
    years = nib.load(run.out / f"head_space-T1w_{OUTPUTS[5]}")
    assert years.shape == (40, 21, 25)
    np.testing.assert_allclose(years.affine, nib.load(scan).affine)
    total = years.get_fdata().sum()
    assert content["baseline_years"] + total == pytest.approx(content["predicted_age"], abs=1e-4)
    assert "had been finished before" in predict(scan, *wanted, "--resume").stdout
    # Asked for otherwise, they are made anew, and what is no longer wanted goes.
    again = predict(scan, "--no-report", "--resume")
    assert "had been finished before" not in again.stdout
    assert not {name for name in again.files() if "space-T1w" in name}


def _corner(x_mm: float) -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[:3, 3] = [x_mm, -60.0, -40.0]
    return shift


@pytest.mark.usefixtures("stand_ins")
def test_without_report_the_maps_are_written(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    run = predict(write_head(), "--no-report")
    assert run.files() == {
        "predictions.tsv",
        "qc.html",
        *(f"head_{suffix}" for suffix in OUTPUTS if suffix != "report.html"),
    }
