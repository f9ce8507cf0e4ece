"""Checks of a batch's scans: refused, forced, flagged, known from the training, widened."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_batch import Run, WriteHead, kept_model, predict, stand_ins

from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.likeness import Likeness
from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.t1w import read_t1w
from ermoe_ba.training_scans import TrainingScans, keep_training_scans, read_training_scans
from ermoe_ba.widening import Widening

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["kept_model", "predict", "stand_ins"]


def test_scans_that_the_model_was_trained_on_are_told_as_such(
    ensemble: Ensemble,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scan 2 under another's name, scan 3 in the name of 1; asked of a model that does not tell."""
    scans = [write_head(f"sub-{n}_T1w.nii.gz", shape=(20, 22, 22 + n)) for n in (1, 2, 3, 4)]
    unknown = predict(*scans, "--no-report")
    assert unknown.table["seen_in_training"].isna().all()
    assert "Not known whether seen in training: 4 of 4 scans" in unknown.stderr
    table = pd.DataFrame(
        {
            "participant_id": ["z", "3"],
            "session_id": ["n/a", "n/a"],
            "voxel_hash": [voxel_hash(read_t1w(scans[1])), "0"],
        }
    )
    keep_training_scans(kept_model, table, None)
    told = replace(ensemble, training_scans=TrainingScans.of(read_training_scans(kept_model)))
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: told)
    # What was not known before is asked again, and the ages stay.
    run = predict(*scans[:3], scans[3], "--resume")
    assert "had been finished before" not in run.stdout
    assert run.table["seen_in_training"].tolist() == ["no", "yes", "name", "no"]
    for column in ("predicted_age", "predicted_age_lower", "predicted_age_upper"):
        assert run.table[column].tolist() == unknown.table[column].tolist()
    assert "Seen in training: 1 of 4 scans" in run.stderr
    assert "Not known" not in run.stderr
    traced = json.loads((run.out / "sub-1_prediction.json").read_text(encoding="utf-8"))
    assert traced["seen_in_training"] == "no"
    assert traced["provenance"]["training_scans"] == told.training_scans.identity
    report = (run.out / "sub-2_report.html").read_text(encoding="utf-8")
    assert "The model was trained on this very scan" in report
    page = (run.out / "qc.html").read_text(encoding="utf-8")
    assert page.count("Seen in training") == page.count("Name in training") == 1


@pytest.mark.usefixtures("stand_ins")
def test_a_scan_of_another_contrast_is_refused_and_costs_no_other(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scans = [write_head("inverted_T1w.nii.gz"), write_head("sub-1_T1w.nii.gz")]
    run = predict(*scans, "--no-maps")
    assert run.code == 1
    assert run.table["status"].tolist() == ["refused", "ok"]
    row = run.table.iloc[0]
    assert pd.isna(row["predicted_age"])
    assert "white matter must be brighter" in row["message"]
    assert "--force" in row["message"]
    assert "contrast_low" in row["qc_flags"].split(";")
    assert f"refused {scans[0]}" in run.stderr
    assert "1 of 2 scans were refused" in run.stdout
    assert not [name for name in run.files() if name.startswith("inverted")]
    page = (run.out / "qc.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2
    assert page.count('<tr class="refused">') == 1


@pytest.mark.usefixtures("stand_ins")
def test_no_interval_begins_before_birth(
    ensemble: Ensemble,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interval of 200 years either way; its upper end stays where it was."""
    wide = replace(ensemble, card=replace(ensemble.card, half_width=200.0))
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: wide)
    row = predict(write_head(), "--no-maps").table.iloc[0]
    assert 0 < row["predicted_age"] < 200
    assert row["predicted_age_lower"] == 0
    assert row["predicted_age_upper"] == pytest.approx(row["predicted_age"] + 200)


@pytest.mark.usefixtures("stand_ins")
def test_force_gives_the_age_with_the_reason_against_it(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("inverted_T1w.nii.gz")
    run = predict(scan, "--no-maps", "--force")
    assert run.code == 0
    row = run.table.iloc[0]
    assert row["status"] == "ok"
    assert row["predicted_age"] > 0
    assert row["message"].startswith("forced: ")
    content = json.loads((run.out / "inverted_prediction.json").read_text(encoding="utf-8"))
    assert content["provenance"]["forced"] == "yes"
    (check,) = [c for c in content["quality_checks"] if c["flag"] == "contrast_low"]
    assert check["outcome"] == "refused"
    assert check["value"] == content["quality"]["white_grey_contrast"] < check["refuse_at"]
    # What was forced is no result of a run that does not force.
    again = predict(scan, "--no-maps", "--resume")
    assert again.code == 1
    assert again.table["status"].tolist() == ["refused"]
    assert "inverted_prediction.json" not in again.files()


@pytest.mark.usefixtures("stand_ins")
def test_intervals_widen_where_a_scan_is_unlike_what_the_model_learnt_from(
    write_head: WriteHead,
    predict: Callable[..., Run],
    ensemble: Ensemble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stand-in's half-width is 12 years; far below the mean of each number, all are far off."""
    numbers = len(FAMILIES) * len(TISSUES)
    far = Likeness(mean_q=np.full(numbers, -2.0), precision_qq=np.eye(numbers))
    near = Likeness(mean_q=np.full(numbers, -2.0), precision_qq=np.zeros((numbers, numbers)))
    scan = write_head("sub-1_T1w.nii.gz")
    rows = []
    for likeness in (far, near):
        rule = Widening(
            model_id=ensemble.model_id,
            # Two seeds, so two stems.
            likeness_s=(likeness, likeness),
            start=1.0,
            slope=0.5,
            provenance={},
        )
        told = replace(ensemble, widening=rule)
        monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_, e=told: e)
        run = predict(scan, "--no-maps", "--resume")
        assert run.code == 0
        # Another rule gives another interval: nothing is kept of the run before.
        assert "had been finished before" not in run.stdout
        content = json.loads((run.out / "sub-1_prediction.json").read_text(encoding="utf-8"))
        rows.append((run.table.iloc[0], content, run))
    (wide, wide_content, wide_run), (narrow, narrow_content, narrow_run) = rows
    # Shares lie between 0 and 1, so that each number is at least 2 from its mean, and at most 3.
    distance = wide_content["quality"]["description_distance"]
    assert 2.0 <= distance <= 3.0
    assert wide["interval_widening"] == pytest.approx(1 + 0.5 * (distance - 1))
    width = wide["predicted_age_upper"] - wide["predicted_age_lower"]
    assert width == pytest.approx(24 * wide["interval_widening"])
    assert "interval_widened" in wide["qc_flags"].split(";")
    assert f"widened {wide['interval_widening']:.2f} times" in wide_run.stdout
    (check,) = [c for c in wide_content["quality_checks"] if c["flag"] == "interval_widened"]
    assert (check["value"], check["flag_at"], check["outcome"]) == (distance, 1.0, "flagged")
    assert narrow["predicted_age"] == wide["predicted_age"]
    assert narrow["interval_widening"] == 1.0
    assert narrow["predicted_age_upper"] - narrow["predicted_age_lower"] == pytest.approx(24)
    assert "interval_widened" not in str(narrow["qc_flags"])
    assert "widened" not in narrow_run.stdout
    rules = {c["provenance"]["interval_widening_rule"] for c in (wide_content, narrow_content)}
    assert len(rules) == 2
    assert "none" not in rules
