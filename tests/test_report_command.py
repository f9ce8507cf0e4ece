"""``ermoe-ba report``: pages made again of what a batch left, and of nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from quick_batch import Run, WriteHead, kept_model, predict, write_labels

from ermoe_ba.cli.main import main
from ermoe_ba.kept_results import rows_without_result
from ermoe_ba.tables import predictions_table, write_table

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["kept_model", "predict"]


def test_reports_are_made_again_byte_for_byte_with_an_index(
    tmp_path: Path,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "none_T1w.nii.gz").write_bytes(b"no scan")
    run = predict(write_head("sub-1_T1w.nii.gz"), tmp_path / "none_T1w.nii.gz")
    report = run.out / "sub-1_report.html"
    first = report.read_bytes()
    report.unlink()
    assert main(["report", str(run.out), "--model", str(kept_model)]) == 0
    assert "1 of 1 reports made." in capfd.readouterr().out
    assert report.read_bytes() == first
    index = (run.out / "index.html").read_text(encoding="utf-8")
    assert '<a href="sub-1_report.html">sub-1</a>' in index
    assert "brain ages of 2 scans" in index
    assert re.search(r'<tr class="failed"[^>]*><td>none</td>', index)
    assert 'href="qc.html"' in index
    # A run that replaces the ages leaves no index that tells of the former ones.
    predict(tmp_path / "none_T1w.nii.gz", "--overwrite")
    assert not (run.out / "index.html").exists()


def test_rows_without_a_result_are_those_of_no_input_that_has_one(tmp_path: Path) -> None:
    """Two files of one name and person, of which the one has an age; and what an old table says."""
    row = {"participant_id": "1", "session_id": None, "status": "ok", "predicted_age": 40.1}
    failed = {**row, "status": "failed", "predicted_age": None}
    fresh = [{**row, "input": "a/1.nii"}, {**failed, "input": "b/1.nii"}]
    write_table(tmp_path / "sub-1" / "sub-1_predictions.tsv", predictions_table(fresh))
    old = [{**failed, "input": "a/1.nii"}, {**failed, "input": "c/1.nii"}]
    for name in ("old", "older"):
        write_table(tmp_path / name / "predictions.tsv", predictions_table(old))
    write_table(tmp_path / "predictions.tsv", predictions_table(fresh))
    result = {**row, "input": "1.nii"}
    others = rows_without_result(tmp_path, [result])
    assert sorted(other["input"] for other in others) == ["b/1.nii", "c/1.nii"]
    assert len(rows_without_result(tmp_path, [{**result, "predicted_age": 40.2}])) == 3


def test_a_report_can_be_made_again_with_an_atlas_whose_table_lies_elsewhere(
    tmp_path: Path,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    atlas, names = write_labels(tmp_path / "block.nii.gz", {}), tmp_path / "names.tsv"
    names.write_text("index\tname\n3\tthe block\n", encoding="utf-8")
    chosen = ["--atlas", str(atlas), "--atlas-labels", str(names)]
    run = predict(write_head("sub-1_T1w.nii.gz"), *chosen)
    report = run.out / "sub-1_report.html"
    first = report.read_bytes()
    assert b"the block" in first
    again = ["report", str(run.out), "--model", str(kept_model)]
    assert main([*again, "--atlas", str(atlas)]) == 1
    assert "its table with --atlas-labels" in capfd.readouterr().err
    report.unlink()
    assert main([*again, *chosen]) == 0
    assert report.read_bytes() == first


def test_a_report_is_made_of_its_own_model_atlas_and_maps_alone(
    tmp_path: Path,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = predict(write_head("sub-1_T1w.nii.gz"), "--no-report")
    prediction = run.out / "sub-1_prediction.json"
    told = json.loads(prediction.read_text(encoding="utf-8"))

    def refused(*options: str) -> str:
        assert main(["report", str(run.out), "--model", str(kept_model), *options]) == 1
        assert not (run.out / "sub-1_report.html").exists()
        return capfd.readouterr().err

    prediction.write_text(json.dumps({**told, "model_id": "random-000000000000"}), "utf-8")
    assert "needs the model that predicted it, random-000000000000; found random-" in refused()
    provenance = {**told["provenance"], "atlas_hash": "0"}
    prediction.write_text(json.dumps({**told, "provenance": provenance}), "utf-8")
    assert "needs the atlas of its region table, hash 0" in refused()
    provenance = {**told["provenance"], "atlas": "none"}
    prediction.write_text(json.dumps({**told, "provenance": provenance}), "utf-8")
    assert "found that it was made with --no-maps" in refused()
    prediction.write_text(json.dumps({"predicted_age": 3}), "utf-8")
    assert "must hold a prediction of this version; found no brain_age_gap, chron" in refused()
    prediction.write_text("{", "utf-8")
    assert "must be readable JSON" in refused()
    prediction.write_text(json.dumps(told), "utf-8")
    maps = run.out / "sub-1_desc-experts_probseg.nii.gz"
    maps.unlink()
    assert maps.name in refused()
    assert "There is no model" in (main(["report", str(run.out)]), capfd.readouterr().err)[1]


def test_a_folder_without_predictions_is_no_cohort(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "must hold what `ermoe-ba predict` wrote; found no file" in capfd.readouterr().err
