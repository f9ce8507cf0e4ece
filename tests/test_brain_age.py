"""Brain ages from Python: those of the command line, from a package that loads nothing early."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from quick_batch import FakePreprocessor, Run, WriteHead, kept_model, predict

from ermoe_ba import BrainAgeModel
from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.errors import RefusedScanError, ScanError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.space import MODEL_GRID
from ermoe_ba.t1w import read_t1w
from ermoe_ba.training_scans import TrainingScans

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["kept_model", "predict"]


def test_from_python_the_age_is_that_of_the_command_line(
    ensemble: Ensemble,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last digit, with interval, flags and gap; volumes are those on disk."""
    scan = write_head("sub-1_T1w.nii.gz")
    voxels = pd.DataFrame({"participant_id": ["z"], "voxel_hash": [voxel_hash(read_t1w(scan))]})
    told = replace(ensemble, training_scans=TrainingScans.of(voxels))
    for module in ("brain_age", "workers.predictor"):
        monkeypatch.setattr(f"ermoe_ba.{module}.load_ensemble", lambda *_: told)
    monkeypatch.setattr("ermoe_ba.brain_age.Preprocessor", FakePreprocessor)
    people = scan.with_name("participants.tsv")
    people.write_text("participant_id\tage\nsub-1\t80.5\n", encoding="utf-8")
    run = predict(scan, "--no-report", "--participants", people)
    row = json.loads((run.out / "sub-1_prediction.json").read_text(encoding="utf-8"))
    model = BrainAgeModel.load()
    found = model.predict(str(scan), chronological_age=80.5)
    assert found.predicted_age == row["predicted_age"]
    assert list(found.interval) == [row["predicted_age_lower"], row["predicted_age_upper"]]
    assert found.interval_widening is row["interval_widening"] is None
    assert found.brain_age_gap == row["brain_age_gap"] == found.predicted_age - 80.5
    assert ";".join(found.qc_flags) == row["qc_flags"]
    assert "age_outside_training" in found.qc_flags
    assert found.seen_in_training == row["seen_in_training"] == "yes"
    assert found.figures == row["quality"]
    assert found.maps is not None
    for volume, name in (
        (found.maps.total, "contribution_map"),
        (found.maps.experts, "experts_probseg"),
    ):
        assert volume.grid == MODEL_GRID
        written = nib.load(run.out / f"sub-1_desc-{name}.nii.gz").get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(volume.data, written)
    years = sum(float(v.data.sum(dtype=float)) for v in found.maps.contributions.values())
    assert years + found.prediction.baseline_years == pytest.approx(found.predicted_age, abs=1e-3)
    bare = model.predict(scan, maps=False)
    assert bare.maps is None
    assert bare.brain_age_gap is None
    assert bare.predicted_age == found.predicted_age
    with pytest.raises(RefusedScanError, match="white matter must be brighter"):
        model.predict(write_head("inverted_T1w.nii.gz"))
    with pytest.raises(ScanError, match="none"):
        model.predict("none.nii.gz")


def test_the_package_offers_what_it_names_and_loads_torch_only_then(
    fresh_python: Callable[[str], str],
) -> None:
    call = "; ".join(
        [
            "import sys, ermoe_ba",
            "assert 'torch' not in sys.modules",
            "assert not hasattr(ermoe_ba, 'Absent')",
            "assert 'torch' not in sys.modules",
            "assert all(hasattr(ermoe_ba, name) for name in ermoe_ba.__all__)",
            "from ermoe_ba import BrainAgeModel",
            "assert BrainAgeModel.__module__ == 'ermoe_ba.brain_age'",
            "assert 'torch' in sys.modules",
        ]
    )
    fresh_python(call)
