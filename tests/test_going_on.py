"""Going on with a batch: what is finished is kept, what would come out otherwise is done again."""

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pytest
from quick_batch import Run, WriteHead, predict, results_of, stand_ins, write_labels

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "stand_ins"]


@pytest.mark.usefixtures("stand_ins")
def test_going_on_keeps_what_is_finished_and_does_the_rest(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    whole = predict(*scans, "--no-report", out=tmp_path / "whole")
    run = predict(scans[0], "--no-report")
    first = run.out / "sub-1_prediction.json"
    stamp = first.stat().st_mtime_ns
    again = predict(*scans, "--no-report", "--resume")
    assert again.code == 0
    assert "1 of 2 scans had been finished before" in again.stdout
    assert first.stat().st_mtime_ns == stamp
    assert results_of(again.out) == results_of(whole.out)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("change", ["input", "age", "maps", "file gone", "atlas", "damaged"])
def test_going_on_does_again_what_would_come_out_otherwise(
    tmp_path: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    atlases: Path,
    change: str,
) -> None:
    scan = write_head("sub-1_T1w.nii.gz")
    run = predict(scan, "--no-report")
    written = run.out / "sub-1_prediction.json"
    arguments: list[str | Path] = ["--no-report"]
    if change == "input":
        head = nib.load(scan).get_fdata()
        write_head("sub-1_T1w.nii.gz", data=head * 2)
    elif change == "age":
        people = tmp_path / "participants.tsv"
        people.write_text("participant_id\tage\nsub-1\t40\n", encoding="utf-8")
        arguments += ["--participants", people]
    elif change == "maps":
        arguments = ["--no-maps"]
    elif change == "file gone":
        (run.out / "sub-1_regions.tsv").unlink()
    elif change == "atlas":
        atlas = write_labels(tmp_path / "other.nii.gz", {})
        arguments += ["--atlas", atlas]
    else:
        written.write_text(written.read_text(encoding="utf-8")[:200], encoding="utf-8")
    again = predict(scan, *arguments, "--resume")
    assert again.code == 0
    assert "had been finished before" not in again.stdout
    fresh = predict(scan, *arguments, out=tmp_path / "fresh")
    assert results_of(again.out) == results_of(fresh.out)


@pytest.mark.usefixtures("stand_ins")
def test_going_on_tries_again_what_failed(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("sub-1_T1w.nii.gz")
    good = scan.read_bytes()
    scan.write_bytes(good[:50])
    assert predict(scan, "--no-maps").code == 1
    scan.write_bytes(good)
    assert predict(scan, "--no-maps", "--resume").table["status"].tolist() == ["ok"]


@pytest.mark.usefixtures("stand_ins")
def test_results_tell_no_folder_of_their_machine_and_go_on_elsewhere(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """One scan that is fine and one that is forced, then both in another folder."""
    scans = [write_head("inverted_T1w.nii.gz"), write_head("sub-1_T1w.nii.gz")]
    atlas = write_labels(tmp_path / "block.nii.gz", {})
    options = ("--force", "--atlas", str(atlas))
    run = predict(*scans, *options)
    assert run.code == 0
    told = [path for path in run.out.iterdir() if os.fsencode(tmp_path) in path.read_bytes()]
    # The table is the user's own: it names the files as they were given.
    assert [path.name for path in told] == ["predictions.tsv"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    scans = [scan.rename(moved / scan.name) for scan in scans]
    again = predict(*scans, *options, "--resume")
    assert "2 of 2 scans had been finished before" in again.stdout
    assert again.table["input"].tolist() == list(map(str, scans))
