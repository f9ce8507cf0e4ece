"""Whom a model was trained on: known by voxels, by name, or not; and what is said of it."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest

from ermoe_ba.assets import PACKAGE
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.report.content import shown_flags
from ermoe_ba.t1w import read_t1w
from ermoe_ba.tables import PREDICTION_COLUMNS, predictions_table, read_predictions, write_table
from ermoe_ba.training_scans import (
    TrainingScans,
    count_seen,
    keep_training_scans,
    read_training_scans,
    seen_in_training,
    seen_remark,
)

KNOWN = TrainingScans.of(
    pd.DataFrame({"participant_id": ["01", "IXI012-HH-1211"], "voxel_hash": ["007", "abc"]})
)


@pytest.mark.parametrize(
    ("participant", "voxels", "answer"),
    [
        ("02", "abc", "yes"),
        ("01", "abc", "yes"),
        ("01", "def", "name"),
        ("IXI012-HH-1211-T1", "def", "name"),
        ("01_again", "def", "name"),
        # A name that only begins alike is another's.
        ("011", "def", "no"),
        ("IXI012-HH", "def", "no"),
        ("IXI012", "def", "no"),
        ("site_01", "def", "no"),
        ("", "", "no"),
        # Hashes of digits are text.
        ("02", "7", "no"),
        ("02", "007", "yes"),
    ],
)
def test_voxels_count_before_names(participant: str, voxels: str, answer: str) -> None:
    assert KNOWN.find(participant, voxels) == answer


def test_a_copy_is_known_whatever_its_name_format_and_type(
    tmp_path: Path, write_head: Callable[..., Path]
) -> None:
    scan = write_head("sub-01_T1w.nii.gz")
    image = nib.load(scan)
    voxels = voxel_hash(read_t1w(scan))
    known = TrainingScans.of(pd.DataFrame({"participant_id": ["9"], "voxel_hash": [voxels]}))
    copy = tmp_path / "other.mgz"
    nib.MGHImage(image.get_fdata().astype("float32") * 3, image.affine).to_filename(copy)
    assert seen_in_training(known, "x", copy) == "yes"
    changed = write_head("y.nii.gz", data=image.get_fdata()[1:], affine=image.affine)
    assert seen_in_training(known, "x", changed) == "no"
    with pytest.raises(ScanError):
        seen_in_training(known, "x", tmp_path / "none.nii.gz")


def test_of_a_model_that_does_not_tell_the_scan_is_not_even_read(tmp_path: Path) -> None:
    assert read_training_scans(tmp_path) is None
    assert seen_in_training(None, "01", tmp_path / "none.nii.gz") is None


def test_what_is_kept_is_read_back_as_text(tmp_path: Path) -> None:
    scans = pd.DataFrame(
        {"participant_id": ["007", "NA"], "session_id": [None, "1"], "voxel_hash": ["0123", "1e5"]}
    )
    keep_training_scans(tmp_path, scans, pd.Series({"007": 1, "NA": 0}))
    table = read_training_scans(tmp_path)
    assert table is not None
    assert table.to_numpy().tolist() == [["007", "n/a", "0123", "1"], ["NA", "1", "1e5", "0"]]
    known = TrainingScans.of(table)
    assert known.find("x", "0123") == "yes"
    # In which fold and order they stand changes nothing of who they are.
    keep_training_scans(tmp_path, scans[::-1], None)
    again = read_training_scans(tmp_path)
    assert again is not None
    assert TrainingScans.of(again) == known
    assert TrainingScans.of(again[:1]).identity != known.identity


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"participant_id\tvoxel_hash\n1\t2\n", "missing: session_id, fold"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "training_scans.tsv").write_bytes(content)
    with pytest.raises(UsageError, match=says) as error:
        read_training_scans(tmp_path)
    assert str(tmp_path / "training_scans.tsv") in str(error.value)


def test_the_shipped_model_tells_of_140_scans_and_not_of_the_sample() -> None:
    table = read_training_scans(PACKAGE / "weights" / "ixi-hh")
    assert table is not None
    known = TrainingScans.of(table)
    assert len(known.voxels) == len(known.participants) == len(table) == 140
    sample = PACKAGE / "sample" / "sub-colin27_T1w.nii.gz"
    assert seen_in_training(known, "colin27", sample) == "no"


def test_answers_are_counted_and_only_what_matters_is_said() -> None:
    counts = count_seen(["yes", "no", None, "name", "n/a", "yes", float("nan")])
    assert counts == {"yes": 2, "name": 1, "no": 1, "unknown": 3}
    remark = seen_remark(counts)
    for part in ("Seen in training: 2 of 7", "trained on: 1 of 7", "in training: 3 of 7"):
        assert part in remark
    assert seen_remark(count_seen(["no"] * 5)) == ""
    assert seen_remark(count_seen([])) == ""
    assert "name" not in seen_remark(count_seen(["yes", "no"]))


def test_lists_of_scans_show_it_among_the_flags() -> None:
    assert shown_flags("noisy;contrast_low", "yes") == ("noisy", "contrast_low", "seen_in_training")
    assert shown_flags("", "name") == ("name_in_training",)
    assert shown_flags("", "no") == shown_flags("", "") == ()


def test_a_table_of_an_earlier_version_is_read_as_not_known(tmp_path: Path) -> None:
    path = tmp_path / "predictions.tsv"
    table = predictions_table([{"participant_id": "1", "model_id": "m", "seen_in_training": "yes"}])
    write_table(path, table)
    assert read_predictions(path)["seen_in_training"].tolist() == ["yes"]
    write_table(path, table.drop(columns="seen_in_training"))
    found = read_predictions(path)
    assert found.columns.tolist() == list(PREDICTION_COLUMNS)
    assert found.loc[0, ["seen_in_training", "model_id"]].tolist() == ["n/a", "m"]
    write_table(path, table.drop(columns="model_id"))
    with pytest.raises(UsageError, match="columns"):
        read_predictions(path)
