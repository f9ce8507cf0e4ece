"""The folder of a batch's results: nothing of others is lost, nothing old stands beside the new."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from quick_batch import MAPS, OUTPUTS, Run, WriteHead, predict, stand_ins

from ermoe_ba.workers import Predictor, PredictSettings

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "stand_ins"]


def test_results_are_not_overwritten_unasked(tmp_path: Path, predict: Callable[..., Run]) -> None:
    (tmp_path / "out").mkdir()
    table = tmp_path / "out" / "predictions.tsv"
    table.write_text("precious", encoding="utf-8")
    run = predict(tmp_path / "scan.nii")
    assert run.code == 2
    assert "--overwrite" in run.stderr
    assert table.read_text(encoding="utf-8") == "precious"


@pytest.mark.usefixtures("stand_ins")
def test_of_runs_that_begin_at_once_one_alone_takes_the_folder(
    tmp_path: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While this run loads its model, another one takes the folder that both found empty."""
    table, start = tmp_path / "out" / "predictions.tsv", PredictSettings.start

    def beside_another(settings: PredictSettings) -> Predictor:
        table.parent.mkdir()
        table.write_text("the other run's", encoding="utf-8")
        return start(settings)

    monkeypatch.setattr(PredictSettings, "start", beside_another)
    run = predict(write_head(), "--no-maps")
    assert run.code == 2
    assert "already holds predictions.tsv" in run.stderr
    assert run.files() == {"predictions.tsv"}
    assert table.read_text(encoding="utf-8") == "the other run's"


@pytest.mark.usefixtures("stand_ins")
def test_a_file_system_without_links_takes_results_as_well(
    write_head: WriteHead, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run = predict(write_head(), "--no-maps")
    assert run.code == 0
    assert len(run.table) == 1


@pytest.mark.parametrize("name", ["head_desc-preproc_T1w.nii.gz", "qc.html", "index.html"])
@pytest.mark.usefixtures("stand_ins")
def test_no_file_of_somebody_else_is_replaced_unasked(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], name: str
) -> None:
    """Results go into a folder of fMRIPrep's, or into one with a page of its own."""
    scan = write_head()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious", encoding="utf-8")
    run = predict(scan, "--no-maps")
    assert run.code == 2
    assert f"must hold no file that would be replaced; found 1 ({name})" in run.stderr
    assert run.files() == {name}
    assert (run.out / name).read_text(encoding="utf-8") == "precious"
    run = predict(scan, "--no-maps", "--overwrite")
    assert run.code == 0
    assert "head_prediction.json" in run.files()


@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.usefixtures("stand_ins")
def test_no_input_is_lost_to_a_result_of_another(
    write_head: WriteHead, predict: Callable[..., Run], option: list[str], linked: bool
) -> None:
    """What is written of ``head`` would stand where the second input lies."""
    scan, other = write_head(), write_head("head_desc-preproc_T1w.nii.gz")
    before = other.read_bytes()
    given = other
    if linked:
        given = other.parent / "link.nii.gz"
        given.symlink_to(other)
    run = predict(scan, given, *option, out=scan.parent)
    assert run.code == 2
    assert f"no input may lie where a result will; found {given}" in run.stderr
    assert other.read_bytes() == before
    assert not (scan.parent / "predictions.tsv").exists()


@pytest.mark.usefixtures("stand_ins")
def test_results_may_lie_beside_their_scans(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head()
    before = scan.read_bytes()
    for option in ([], ["--resume"], ["--overwrite"]):
        assert predict(scan.parent, "--no-maps", *option, out=scan.parent).code == 0
    assert scan.read_bytes() == before


@pytest.mark.usefixtures("stand_ins")
def test_overwrite_replaces_the_old_results(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head()
    first = predict(scan, "--no-maps")
    (first.out / "head_prediction.json").write_text("old", encoding="utf-8")
    again = predict(scan, "--no-maps", "--overwrite")
    assert again.code == 0
    json.loads((again.out / "head_prediction.json").read_text(encoding="utf-8"))
    assert len(again.table) == 1


@pytest.mark.usefixtures("stand_ins")
def test_old_results_do_not_stand_beside_new_ones(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head()
    assert MAPS[0] in {name.removeprefix("head_") for name in predict(scan).files()}
    run = predict(scan, "--no-maps", "--overwrite")
    assert run.files() == {
        "predictions.tsv",
        "qc.html",
        *(f"head_{suffix}" for suffix in OUTPUTS if suffix not in MAPS),
    }
    scan.write_text("damaged", encoding="utf-8")
    run = predict(scan, "--overwrite")
    assert run.code == 1
    assert run.files() == {"predictions.tsv", "qc.html"}


@pytest.mark.usefixtures("stand_ins")
def test_results_of_scans_that_are_no_longer_meant_are_removed_or_told(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """Maps and reports are made of all that a folder holds."""
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    both = predict(*scans, "--no-maps")
    run = predict(scans[1], "--no-maps", "--resume")
    assert "also holds 1 scans that are not given now (sub-1)" in run.stderr
    assert run.files() == both.files()
    run = predict(scans[1], "--no-maps", "--overwrite")
    assert "also holds" not in run.stderr
    assert run.files() == {name for name in both.files() if not name.startswith("sub-1_")}


@pytest.mark.usefixtures("stand_ins")
def test_a_folder_that_cannot_be_written_is_a_usage_error(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    run = predict(write_head(), out=blocked)
    assert run.code == 2
    assert str(blocked) in run.stderr


@pytest.mark.usefixtures("stand_ins")
def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    write_head: WriteHead, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans differ from results in that they can be read: a full disk is no scan's fault."""
    import resource
    import signal

    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The table fits in 20 kB, no volume does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        run = predict(*scans, "--no-maps")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert run.code == 2
    assert run.stderr.splitlines()[-1].startswith(
        "ermoe-ba: inputs must be readable, and results writable; found: File too large. Mend that"
    )
    assert run.files() == {"predictions.tsv"} or run.files() == {
        "predictions.tsv",
        "sub-1_desc-brain_mask.nii.gz",
    }
    assert predict(*scans, "--no-maps", "--resume").code == 0
