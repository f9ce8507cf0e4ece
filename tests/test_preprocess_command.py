"""``ermoe-ba preprocess``: what is missing alone is done, and predictions take it over."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pytest
from quick_batch import Run, WriteHead, predict, results_of, seen

from ermoe_ba.cli.main import main

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "seen"]


def _preprocess(*arguments: str | Path) -> int:
    return main(["preprocess", *map(str, arguments)])


def test_a_prediction_from_derivatives_is_the_same_and_preprocesses_nothing(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], seen: list[str]
) -> None:
    scans = [write_head("sub-1_ses-a_T1w.nii.gz"), write_head("P-2_T1w.nii.gz")]
    direct = predict(*scans, "--no-report", out=tmp_path / "direct")
    seen.clear()
    assert _preprocess(*scans, "--out", tmp_path / "prep") == 0
    assert seen == [scan.name for scan in scans]
    seen.clear()
    run = predict(*scans, "--no-report", "--preprocessed", tmp_path / "prep")
    assert seen == []
    assert results_of(run.out) == results_of(direct.out)


def test_a_derivative_of_an_older_scan_is_passed_over(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], seen: list[str]
) -> None:
    scan = write_head("sub-1_T1w.nii.gz")
    assert _preprocess(scan, "--out", tmp_path / "prep") == 0
    write_head("sub-1_T1w.nii.gz", data=nib.load(scan).get_fdata() * 2)
    seen.clear()
    predict(scan, "--no-maps", "--preprocessed", tmp_path / "prep")
    assert seen == ["sub-1_T1w.nii.gz"]


def test_preprocessing_again_does_what_is_missing_alone(
    tmp_path: Path, write_head: WriteHead, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    bad = write_head("sub-3_T1w.nii.gz")
    bad.write_bytes(b"damaged")
    assert _preprocess(scans[0], "--out", tmp_path / "prep") == 0
    # The page is the batch's own, and batches differ.
    files = set((tmp_path / "prep").rglob("*")) - {tmp_path / "prep" / "qc.html"}
    first = {p: p.read_bytes() for p in files if p.is_file()}
    seen.clear()
    assert _preprocess(*scans, bad, "--out", tmp_path / "prep") == 1
    assert seen == ["sub-2_T1w.nii.gz", "sub-3_T1w.nii.gz"]
    assert "failed  " + str(bad) in capsys.readouterr().err
    assert {p: p.read_bytes() for p in first} == first
    assert not (tmp_path / "prep" / "sub-3").exists()
    seen.clear()
    assert _preprocess(*scans, "--out", tmp_path / "prep", "--overwrite") == 0
    assert len(seen) == 2
    assert {p: p.read_bytes() for p in first} == first
